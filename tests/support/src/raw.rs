//! A connection as bytes: what is sent is exactly what the test wrote, what comes back is read by framing,
//! to a deadline, and every way to end has a name.

use crate::address::Address;
use crate::eventually::patience;
use crate::message::{
    Fields, Malformed, Request, Response, parse_head, parse_request_line, parse_status_line,
};
use crate::tls::Agreed;
use rustls::ClientConnection;
use socket2::Socket;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How much of what a peer sent is remembered for [`Conn::recording`].
const RECORD_LIMIT: usize = 4 << 20;

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// End of stream.
    Closed,
    Reset,
    TimedOut,
    /// End of the socket without the end of the TLS session: a cut looks like this.
    Truncated,
    Malformed(String),
}

impl From<Malformed> for Broken {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error.0)
    }
}

pub(crate) type Record = Arc<Mutex<Vec<u8>>>;

/// A blocking connection, client's or backend's side.
#[derive(Debug)]
pub struct Conn {
    socket: Socket,
    /// `None` in the clear.
    tls: Option<Box<ClientConnection>>,
    buf: Vec<u8>,
    timeout: Duration,
    record: Option<Record>,
}

impl Conn {
    /// # Errors
    /// When connecting fails.
    pub fn try_connect(address: impl Into<Address>) -> io::Result<Self> {
        let (socket, target) = address.into().socket()?;
        socket.connect_timeout(&target, patience())?;
        Ok(Self::over(socket))
    }

    /// # Panics
    /// When connecting fails.
    #[track_caller]
    #[must_use]
    pub fn connect(address: impl Into<Address>) -> Self {
        let address = address.into();
        Self::try_connect(&address).unwrap_or_else(|e| panic!("connect {address}: {e}"))
    }

    /// Connects from a given loopback address, such as `127.0.0.2`; for limits per client address.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    #[must_use]
    pub fn connect_from(source: std::net::Ipv4Addr, address: impl Into<Address>) -> Self {
        let (socket, target) = address.into().socket().expect("socket");
        socket
            .bind(&std::net::SocketAddr::from((source, 0)).into())
            .expect("bind the source address");
        socket.connect_timeout(&target, patience()).expect("connect");
        Self::over(socket)
    }

    /// Wraps a connected socket.
    #[must_use]
    pub fn over(socket: Socket) -> Self {
        // Absent on unix sockets.
        let _ = socket.set_tcp_nodelay(true);
        Self {
            socket,
            tls: None,
            buf: Vec::new(),
            timeout: patience(),
            record: None,
        }
    }

    pub(crate) fn recording(mut self, record: Record) -> Self {
        self.record = Some(record);
        self
    }

    /// Longest wait of each later read and write.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub const fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// A small receive buffer, so that a client that does not read is felt soon.
    #[must_use]
    pub fn with_receive_buffer(self, bytes: usize) -> Self {
        self.socket.set_recv_buffer_size(bytes).expect("SO_RCVBUF");
        self
    }

    /// The local address, as text.
    #[must_use]
    pub fn local(&self) -> String {
        self.socket
            .local_addr()
            .ok()
            .and_then(|a| a.as_socket())
            .map(|a| a.to_string())
            .unwrap_or_default()
    }

    // ---- sending ----

    /// # Errors
    /// When the peer is gone or does not read in time.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.socket.set_write_timeout(Some(self.timeout))?;
        match &mut self.tls {
            None => self.socket.write_all(bytes.as_ref()),
            Some(tls) => {
                let mut stream = rustls::Stream::new(tls.as_mut(), &mut self.socket);
                stream.write_all(bytes.as_ref())?;
                stream.flush()
            }
        }
    }

    /// Shakes hands; from then on everything goes through the session.
    pub(crate) fn secure(mut self, mut session: ClientConnection) -> Result<Self, String> {
        self.socket
            .set_read_timeout(Some(self.timeout))
            .and_then(|()| self.socket.set_write_timeout(Some(self.timeout)))
            .map_err(|error| error.to_string())?;
        while session.is_handshaking() || session.wants_write() {
            session
                .complete_io(&mut self.socket)
                .map_err(|error| error.to_string())?;
        }
        self.tls = Some(Box::new(session));
        Ok(self)
    }

    /// What the handshake agreed on.
    ///
    /// # Panics
    /// When the connection is in the clear.
    #[must_use]
    pub fn agreed(&self) -> Agreed {
        crate::tls::agreed(self.tls.as_ref().expect("TLS"))
    }

    /// Says that nothing more comes, in TLS and not by the socket.
    pub fn close_notify(&mut self) -> &mut Self {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.complete_io(&mut self.socket);
        }
        self
    }

    /// # Panics
    /// When the peer is gone or does not read in time.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes).unwrap_or_else(|e| panic!("send: {e}"));
        self
    }

    /// Sends as much as is taken within a time, then stops; returns the number of bytes.
    pub fn send_while_taken(&mut self, bytes: &[u8], stall: Duration) -> usize {
        self.socket.set_write_timeout(Some(stall)).expect("timeout");
        let mut sent = 0;
        while sent < bytes.len() {
            match self.socket.write(&bytes[sent..]) {
                Ok(n) if n > 0 => sent += n,
                _ => break,
            }
        }
        sent
    }

    /// Sends one byte at a time, each in its own segment.
    #[track_caller]
    pub fn send_bytewise(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        for byte in bytes.as_ref() {
            self.send([*byte]);
        }
        self
    }

    /// Ends our direction, keeps reading.
    pub fn half_close(&mut self) -> &mut Self {
        let _ = self.socket.shutdown(Shutdown::Write);
        self
    }

    /// Ends the connection with a RST.
    pub fn reset(self) {
        self.reset_on_close();
    }

    /// Makes the coming close a RST.
    pub fn reset_on_close(&self) {
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }

    /// Stays until the peer leaves; what it sends is read and dropped.
    pub fn wait_for_end(&mut self) {
        while self.try_read_some().is_ok() {}
    }

    // ---- reading ----

    fn fill(&mut self, deadline: Instant) -> Result<(), Broken> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Broken::TimedOut);
        }
        self.socket
            .set_read_timeout(Some(left))
            .map_err(|_| Broken::Reset)?;
        let start = self.buf.len();
        self.buf.resize(start + (64 << 10), 0);
        let result = match &mut self.tls {
            None => self.socket.read(&mut self.buf[start..]),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.socket).read(&mut self.buf[start..]),
        };
        self.buf.truncate(start + result.as_ref().copied().unwrap_or(0));
        match result {
            Ok(0) => Err(Broken::Closed),
            Ok(_) => {
                self.remember(start);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(()),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(Broken::TimedOut)
            }
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Err(Broken::Truncated),
            Err(_) => Err(Broken::Reset),
        }
    }

    fn remember(&self, start: usize) {
        if let Some(record) = &self.record {
            let mut record = record.lock().expect("record");
            let room = RECORD_LIMIT.saturating_sub(record.len());
            let new = &self.buf[start..];
            record.extend_from_slice(&new[..new.len().min(room)]);
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let rest = self.buf.split_off(len);
        std::mem::replace(&mut self.buf, rest)
    }

    /// Reads exactly this many bytes.
    ///
    /// # Errors
    /// When they do not come in time.
    pub fn try_read(&mut self, len: usize) -> Result<Vec<u8>, Broken> {
        let deadline = self.deadline();
        while self.buf.len() < len {
            self.fill(deadline)?;
        }
        Ok(self.take(len))
    }

    /// # Panics
    /// When the bytes do not come in time.
    #[track_caller]
    pub fn read(&mut self, len: usize) -> Vec<u8> {
        self.try_read(len)
            .unwrap_or_else(|e| panic!("{e:?} before {len} bytes; have {}", self.shown()))
    }

    /// What has arrived, waiting for at least one byte.
    ///
    /// # Errors
    /// When nothing comes in time.
    pub fn try_read_some(&mut self) -> Result<Vec<u8>, Broken> {
        if self.buf.is_empty() {
            self.fill(self.deadline())?;
        }
        Ok(std::mem::take(&mut self.buf))
    }

    /// Reads through the first occurrence of `end`.
    ///
    /// # Errors
    /// When it does not come in time.
    pub fn try_read_through(&mut self, end: &[u8]) -> Result<Vec<u8>, Broken> {
        let deadline = self.deadline();
        let mut from = 0;
        loop {
            if let Some(at) = self.buf[from..].windows(end.len()).position(|w| w == end) {
                return Ok(self.take(from + at + end.len()));
            }
            from = self.buf.len().saturating_sub(end.len() - 1);
            self.fill(deadline)?;
        }
    }

    /// # Panics
    /// When it does not come in time.
    #[track_caller]
    pub fn read_through(&mut self, end: &[u8]) -> Vec<u8> {
        let wanted = String::from_utf8_lossy(end).into_owned();
        self.try_read_through(end)
            .unwrap_or_else(|e| panic!("{e:?} before {wanted:?}; have {}", self.shown()))
    }

    /// Everything until the stream ends, and how it ended.
    pub fn read_to_end(&mut self) -> (Vec<u8>, Broken) {
        let deadline = self.deadline();
        loop {
            if let Err(end) = self.fill(deadline) {
                return (std::mem::take(&mut self.buf), end);
            }
        }
    }

    /// Asserts that the peer ends the connection without another byte. A reset counts as an end.
    ///
    /// # Panics
    /// When bytes come, or nothing does.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let (bytes, end) = self.read_to_end();
        assert!(
            bytes.is_empty() && end != Broken::TimedOut,
            "expected the end, got {:?} then {end:?}",
            String::from_utf8_lossy(&bytes)
        );
    }

    /// Whether the connection is open with nothing to read.
    pub fn is_quiet(&mut self) -> bool {
        self.buf.is_empty() && self.fill(Instant::now() + Duration::from_millis(1)) == Err(Broken::TimedOut)
    }

    fn shown(&self) -> String {
        format!(
            "{:?}",
            String::from_utf8_lossy(&self.buf[..self.buf.len().min(500)])
        )
    }

    fn head(&mut self) -> Result<Vec<u8>, Broken> {
        self.try_read_through(b"\r\n\r\n")
    }

    // ---- messages ----

    /// The next response to a request with this method; interim ones are returned like any other.
    ///
    /// # Errors
    /// When no well-formed head comes in time. A body that ends early is told by [`Response::cut`].
    pub fn try_response_to(&mut self, method: &str) -> Result<Response, Broken> {
        let head = self.head()?;
        let (line, headers) = parse_head(&head)?;
        let (version, status, reason) = parse_status_line(&line)?;
        let mut response = Response {
            version,
            status,
            reason,
            headers,
            head,
            ..Response::default()
        };
        let bodiless = method == "HEAD" || matches!(status, 100..=199 | 204 | 304);
        if !bodiless {
            let mut body = Vec::new();
            let result = self.response_body(&response.headers, &mut body);
            response.body = body;
            match result {
                Ok(trailers) => response.trailers = trailers,
                Err(Broken::Malformed(why)) => return Err(Broken::Malformed(why)),
                Err(why) => response.cut = Some(format!("{why:?}")),
            }
        }
        Ok(response)
    }

    fn response_body(&mut self, headers: &Fields, body: &mut Vec<u8>) -> Result<Fields, Broken> {
        if headers.chunked() {
            if headers.has("content-length") {
                return Err(Broken::Malformed("content-length beside chunked".into()));
            }
            return self.chunks(body);
        }
        if let Some(len) = headers.content_length() {
            return self.sized(len, body).map(|()| Fields::default());
        }
        let (bytes, end) = self.read_to_end();
        *body = bytes;
        if end == Broken::Closed {
            Ok(Fields::default())
        } else {
            Err(end)
        }
    }

    fn sized(&mut self, len: usize, body: &mut Vec<u8>) -> Result<(), Broken> {
        let mut deadline = self.deadline();
        while body.len() < len {
            if self.buf.is_empty() {
                self.fill(deadline)?;
                deadline = self.deadline();
            }
            let take = self.buf.len().min(len - body.len());
            body.extend_from_slice(&self.take(take));
        }
        Ok(())
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> Result<Fields, Broken> {
        loop {
            let line = self.try_read_through(b"\r\n")?;
            let text = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
            let digits = text.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(digits, 16)
                .map_err(|_| Broken::Malformed(format!("chunk size {text:?}")))?;
            if size == 0 {
                return self.trailers();
            }
            let mut chunk = Vec::new();
            let result = self.sized(size, &mut chunk);
            body.append(&mut chunk);
            result?;
            if self.try_read(2)? != b"\r\n" {
                return Err(Broken::Malformed("chunk without CRLF".into()));
            }
        }
    }

    fn trailers(&mut self) -> Result<Fields, Broken> {
        let mut head = b"trailers\r\n".to_vec();
        loop {
            let line = self.try_read_through(b"\r\n")?;
            head.extend_from_slice(&line);
            if line == b"\r\n" {
                // Without fields the section is `trailers CRLF CRLF`, which is what a head looks like.
                return Ok(parse_head(&head)?.1);
            }
        }
    }

    /// The next complete response to a GET.
    ///
    /// # Panics
    /// When it is malformed, cut, or late.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// The next complete response to a request with this method.
    ///
    /// # Panics
    /// When it is malformed, cut, or late.
    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Response {
        match self.try_response_to(method) {
            Ok(response) if response.cut.is_none() => response,
            Ok(response) => panic!("response cut ({:?}): {response}", response.cut),
            Err(e) => panic!("no response: {e:?}; have {}", self.shown()),
        }
    }

    /// Sends a GET and reads the answer.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"))
            .response()
    }

    /// Backend's side: the head of the next request, its body unread.
    ///
    /// # Errors
    /// When no well-formed head comes in time.
    pub fn try_request_head(&mut self) -> Result<Request, Broken> {
        let head = self.head()?;
        let (line, headers) = parse_head(&head)?;
        let (method, target, version) = parse_request_line(&line)?;
        Ok(Request {
            method,
            target,
            version,
            headers,
            head,
            ..Request::default()
        })
    }

    /// Backend's side: the body of a request whose head was read.
    ///
    /// # Errors
    /// When it does not come in time or is malformed.
    pub fn try_request_body(&mut self, request: &mut Request) -> Result<(), Broken> {
        let mut body = Vec::new();
        let result = if request.headers.chunked() {
            self.chunks(&mut body)
        } else {
            self.sized(request.headers.content_length().unwrap_or(0), &mut body)
                .map(|()| Fields::default())
        };
        request.body = body;
        request.trailers = result?;
        Ok(())
    }

    /// Backend's side: the next request with its body.
    ///
    /// # Errors
    /// When it does not come in time or is malformed.
    pub fn try_request(&mut self) -> Result<Request, Broken> {
        let mut request = self.try_request_head()?;
        if request.headers.lists("expect", "100-continue") {
            self.try_send("HTTP/1.1 100 Continue\r\n\r\n")
                .map_err(|_| Broken::Reset)?;
        }
        self.try_request_body(&mut request)?;
        Ok(request)
    }

    /// Backend's side: the next request with its body.
    ///
    /// # Panics
    /// When it does not come in time or is malformed.
    #[track_caller]
    pub fn request(&mut self) -> Request {
        self.try_request()
            .unwrap_or_else(|e| panic!("no request: {e:?}; have {}", self.shown()))
    }
}
