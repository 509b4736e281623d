//! Scripted servers on port 0 or a unix socket. They count what reaches them, keep the exact bytes, and misbehave
//! on request.

use crate::address::Address;
use crate::eventually::{eventually, pace, patience};
use crate::message::Request;
use crate::net::{local_address, reserve, try_reserve};
use crate::pattern;
use crate::raw::{Broken, Conn, Record};
use socket2::Socket;
use std::borrow::Borrow;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Holds answers back until the test opens it.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    open: Mutex<bool>,
    changed: Condvar,
    waiting: AtomicUsize,
}

impl Gate {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub fn open(&self) {
        *self.0.open.lock().expect("gate") = true;
        self.0.changed.notify_all();
    }

    #[must_use]
    pub fn is_open(&self) -> bool {
        *self.0.open.lock().expect("gate")
    }

    /// How many wait at it now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::SeqCst)
    }

    /// Returns once somebody waits at it.
    #[track_caller]
    pub fn reached(&self) {
        eventually("a request reaches the gate", || self.waiting() > 0);
    }

    pub fn wait(&self) {
        self.0.waiting.fetch_add(1, Ordering::SeqCst);
        let guard = self.0.open.lock().expect("gate");
        let _unused = self
            .0
            .changed
            .wait_timeout_while(guard, patience() * 3, |open| !*open);
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One part of what a backend does to answer.
#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    /// This much of [`pattern`], from its start.
    Pattern(usize),
    Pause(Duration),
    Hold(Gate),
}

/// What happens to the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Keep,
    Close,
    Reset,
    /// Stay open, read nothing, say nothing.
    Hang,
}

/// What a backend answers.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Replaces status, headers and body when not empty.
    steps: Vec<Step>,
    hold: Option<Gate>,
    after: After,
}

impl Reply {
    /// A status with a text body and its `Content-Length`.
    #[must_use]
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            steps: Vec::new(),
            hold: None,
            after: After::Keep,
        }
    }

    #[must_use]
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, body)
    }

    /// Exactly these bytes.
    #[must_use]
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        let mut reply = Self::ok("");
        reply.steps.push(Step::Send(bytes.as_ref().to_vec()));
        reply
    }

    /// A `200` with this much of the test pattern as its body.
    #[must_use]
    pub fn pattern(len: usize) -> Self {
        let mut reply = Self::raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n"));
        reply.steps.push(Step::Pattern(len));
        reply
    }

    /// The same as one chunk.
    #[must_use]
    pub fn chunked_pattern(len: usize) -> Self {
        let mut reply = Self::raw(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{len:x}\r\n"
        ));
        reply.steps.push(Step::Pattern(len));
        reply.then("\r\n0\r\n\r\n")
    }

    /// No answer: the connection stays open, silent.
    #[must_use]
    pub fn hang() -> Self {
        Self::raw("").after(After::Hang)
    }

    /// No answer: the connection is closed.
    #[must_use]
    pub fn close() -> Self {
        Self::raw("").then_close()
    }

    /// No answer: the connection is reset.
    #[must_use]
    pub fn reset() -> Self {
        Self::raw("").then_reset()
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// After [`Reply::raw`]: more bytes.
    #[must_use]
    pub fn then(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.steps.push(Step::Send(bytes.as_ref().to_vec()));
        self
    }

    /// After [`Reply::raw`]: silence.
    #[must_use]
    pub fn then_pause(mut self, time: Duration) -> Self {
        self.steps.push(Step::Pause(time));
        self
    }

    /// After [`Reply::raw`]: silence until the gate opens.
    #[must_use]
    pub fn then_hold(mut self, gate: &Gate) -> Self {
        self.steps.push(Step::Hold(gate.clone()));
        self
    }

    /// Nothing is sent before the gate opens.
    #[must_use]
    pub fn held_by(mut self, gate: &Gate) -> Self {
        self.hold = Some(gate.clone());
        self
    }

    #[must_use]
    pub fn then_close(self) -> Self {
        self.after(After::Close)
    }

    #[must_use]
    pub fn then_reset(self) -> Self {
        self.after(After::Reset)
    }

    #[must_use]
    pub fn then_hang(self) -> Self {
        self.after(After::Hang)
    }

    fn after(mut self, after: After) -> Self {
        self.after = after;
        self
    }

    fn into_steps(self, method: &str) -> Vec<Step> {
        if !self.steps.is_empty() {
            let sent = |step: &Step| method != "HEAD" || !matches!(step, Step::Pattern(_));
            return self.steps.into_iter().filter(sent).collect();
        }
        let mut head = format!("HTTP/1.1 {} Whatever\r\n", self.status);
        let own_length = self
            .headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case("content-length"));
        let bodiless = matches!(self.status, 100..=199 | 204 | 304);
        if !own_length && !bodiless {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        if method != "HEAD" && !bodiless {
            bytes.extend_from_slice(&self.body);
        }
        vec![Step::Send(bytes)]
    }

    fn play(self, conn: &mut Conn, method: &str) -> After {
        if let Some(gate) = &self.hold {
            gate.wait();
        }
        let after = self.after;
        for step in self.into_steps(method) {
            let sent = match step {
                Step::Send(bytes) => conn.try_send(bytes),
                Step::Pattern(len) => conn.try_send(pattern::bytes(len)),
                Step::Pause(time) => {
                    pace(time);
                    Ok(())
                }
                Step::Hold(gate) => {
                    gate.wait();
                    Ok(())
                }
            };
            if sent.is_err() {
                return After::Close;
            }
        }
        after
    }
}

type Script = dyn Fn(&mut Conn, &Visit) + Send + Sync;

/// One accepted connection, for scripts.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Number of the connection, from 0.
    pub connection: usize,
    shared: Arc<Shared>,
}

impl Visit {
    /// Counts a request as reached.
    pub fn hit(&self, request: Request) {
        self.shared.requests.lock().expect("requests").push(request);
        self.shared.hits.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Debug, Default)]
struct Shared {
    hits: AtomicUsize,
    open: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    records: Mutex<Vec<Record>>,
    sockets: Mutex<Vec<(usize, Socket)>>,
    panics: Mutex<Vec<String>>,
}

/// A server of a test.
pub struct Backend {
    address: Address,
    shared: Arc<Shared>,
    script: Arc<Script>,
    /// Keeps the port while the backend is down.
    _reserve: Option<Socket>,
    listener: Mutex<Option<Listener>>,
    _dir: Option<tempfile::TempDir>,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Backend({})", self.address)
    }
}

struct Listener {
    socket: Socket,
    stopping: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Backend {
    /// Answers each request by a closure.
    pub fn http(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::on_tcp(Arc::new(move |conn, visit| serve_http(conn, visit, &answer)))
    }

    /// `200` with this body to everything.
    #[must_use]
    pub fn text(body: &str) -> Self {
        let body = body.to_owned();
        Self::http(move |_| Reply::ok(body.clone()))
    }

    /// Servers on 127.0.0.1, 127.0.0.2 and so on, all on the same port, as the replicas behind one name are. Each
    /// answers with its own text.
    ///
    /// # Panics
    /// When no port is free on all of them.
    #[must_use]
    pub fn replicas(texts: &[&str]) -> Vec<Self> {
        for _ in 0..64 {
            let first = reserve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            let port = local_address(&first).port();
            let addresses = (2_u8..).map(|n| SocketAddr::from((Ipv4Addr::new(127, 0, 0, n), port)));
            let others: Result<Vec<Socket>, _> = addresses.take(texts.len() - 1).map(try_reserve).collect();
            let Ok(others) = others else { continue };
            let sockets = std::iter::once(first).chain(others);
            return sockets
                .zip(texts)
                .map(|(socket, text)| Self::text_on(socket, text))
                .collect();
        }
        panic!("no port is free on {} addresses", texts.len());
    }

    fn text_on(socket: Socket, text: &str) -> Self {
        let text = text.to_owned();
        let script: Arc<Script> = Arc::new(move |conn, visit| {
            serve_http(conn, visit, &|_: &Request| Reply::ok(text.clone()));
        });
        let backend = Self::new(local_address(&socket).into(), Some(socket), script);
        backend.up();
        backend
    }

    /// The same over a unix socket.
    pub fn http_on_unix(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let address = Address::Unix(dir.path().join("backend.sock"));
        let script: Arc<Script> = Arc::new(move |conn, visit| serve_http(conn, visit, &answer));
        let mut backend = Self::new(address, None, script);
        backend._dir = Some(dir);
        backend.up();
        backend
    }

    /// Answers the first request head of each connection with exactly these bytes, then closes.
    #[must_use]
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref().to_vec();
        Self::http(move |_| Reply::raw(&bytes).then_close())
    }

    /// Full control of each connection.
    pub fn script(play: impl Fn(&mut Conn, &Visit) + Send + Sync + 'static) -> Self {
        Self::on_tcp(Arc::new(play))
    }

    fn on_tcp(script: Arc<Script>) -> Self {
        let reserve = reserve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let backend = Self::new(local_address(&reserve).into(), Some(reserve), script);
        backend.up();
        backend
    }

    fn new(address: Address, reserve: Option<Socket>, script: Arc<Script>) -> Self {
        Self {
            address,
            shared: Arc::default(),
            script,
            _reserve: reserve,
            listener: Mutex::new(None),
            _dir: None,
        }
    }

    /// Several, as a list of endpoints in a configuration has them between its brackets.
    #[must_use]
    pub fn list<B: Borrow<Self>>(backends: &[B]) -> String {
        let quoted = backends
            .iter()
            .map(|backend| format!("\"{}\"", backend.borrow().address()));
        quoted.collect::<Vec<_>>().join(", ")
    }

    /// Where it listens, also while it is down.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// Starts listening (again).
    pub fn up(&self) {
        let socket = match &self.address {
            Address::Tcp(address) => reserve(*address),
            Address::Unix(path) => {
                let _ = std::fs::remove_file(path);
                let (socket, address) = self.address.socket().expect("socket");
                socket.bind(&address).expect("bind");
                socket
            }
        };
        socket.listen(1024).expect("listen");
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = {
            let socket = socket.try_clone().expect("dup");
            let (shared, script) = (Arc::clone(&self.shared), Arc::clone(&self.script));
            let stopping = Arc::clone(&stopping);
            thread::spawn(move || accept_loop(&socket, &stopping, &shared, &script))
        };
        *self.listener.lock().expect("listener") = Some(Listener {
            socket,
            stopping,
            thread,
        });
    }

    /// Stops listening, so that connecting is refused, and closes every connection.
    pub fn down(&self) {
        if let Some(listener) = self.listener.lock().expect("listener").take() {
            listener.stopping.store(true, Ordering::SeqCst);
            // Wakes the thread in accept().
            let _ = listener.socket.shutdown(Shutdown::Both);
            drop(listener.socket);
            let _ = listener.thread.join();
        }
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
        self.close_connections();
    }

    /// Closes every open connection, idle ones included.
    pub fn close_connections(&self) {
        for (_, socket) in self.shared.sockets.lock().expect("sockets").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Requests read so far.
    #[must_use]
    pub fn hits(&self) -> usize {
        self.shared.hits.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.records.lock().expect("records").len()
    }

    /// Connections open now.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Every request read so far, over all connections, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("requests").clone()
    }

    /// The last request read.
    ///
    /// # Panics
    /// When there was none.
    #[track_caller]
    #[must_use]
    pub fn last_request(&self) -> Request {
        self.requests().pop().expect("no request reached the backend")
    }

    /// The exact bytes read so far, by connection.
    #[must_use]
    pub fn received(&self) -> Vec<Vec<u8>> {
        let records = self.shared.records.lock().expect("records");
        records
            .iter()
            .map(|record| record.lock().expect("record").clone())
            .collect()
    }

    /// All bytes read so far over all connections.
    #[must_use]
    pub fn received_bytes(&self) -> usize {
        self.received().iter().map(Vec::len).sum()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.down();
        let panics = self
            .shared
            .panics
            .lock()
            .map(|p| p.join("\n"))
            .unwrap_or_default();
        if !panics.is_empty() && !thread::panicking() {
            panic!("in a backend: {panics}");
        }
    }
}

fn accept_loop(listener: &Socket, stopping: &AtomicBool, shared: &Arc<Shared>, script: &Arc<Script>) {
    while !stopping.load(Ordering::SeqCst) {
        let Ok((socket, _)) = listener.accept() else {
            continue;
        };
        let record = Record::default();
        let connection = {
            let mut records = shared.records.lock().expect("records");
            records.push(Arc::clone(&record));
            records.len() - 1
        };
        if let Ok(copy) = socket.try_clone() {
            shared.sockets.lock().expect("sockets").push((connection, copy));
        }
        shared.open.fetch_add(1, Ordering::SeqCst);
        let conn = Conn::over(socket).recording(record).with_timeout(patience() * 6);
        let visit = Visit {
            connection,
            shared: Arc::clone(shared),
        };
        let script = Arc::clone(script);
        let spawned = thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(move || visit_one(conn, &visit, &*script));
        spawned.expect("thread");
    }
}

fn visit_one(mut conn: Conn, visit: &Visit, script: &Script) {
    let play = std::panic::AssertUnwindSafe(|| script(&mut conn, visit));
    if let Err(panic) = std::panic::catch_unwind(play) {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&t| t.to_owned()));
        visit
            .shared
            .panics
            .lock()
            .expect("panics")
            .push(text.unwrap_or_default());
    }
    // The copy first: only the last descriptor's close ends the connection.
    visit
        .shared
        .sockets
        .lock()
        .expect("sockets")
        .retain(|(n, _)| *n != visit.connection);
    drop(conn);
    visit.shared.open.fetch_sub(1, Ordering::SeqCst);
}

fn serve_http(conn: &mut Conn, visit: &Visit, answer: &dyn Fn(&Request) -> Reply) {
    for number in 0.. {
        let mut request = match conn.try_request() {
            Ok(request) => request,
            Err(Broken::Malformed(why)) => panic!("the gateway sent a malformed request: {why}"),
            Err(_) => return,
        };
        request.connection = visit.connection;
        request.number = number;
        let last = request.headers.lists("connection", "close")
            || (request.version == "HTTP/1.0" && !request.headers.lists("connection", "keep-alive"));
        let reply = answer(&request);
        let method = request.method.clone();
        visit.hit(request);
        match reply.play(conn, &method) {
            After::Keep if !last => {}
            After::Keep | After::Close => return,
            After::Reset => {
                conn.reset_on_close();
                return;
            }
            After::Hang => {
                conn.wait_for_end();
                return;
            }
        }
    }
}
