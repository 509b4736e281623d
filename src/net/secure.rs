//! A TLS session over a socket.
//!
//! The session itself (rustls) owns no buffer. Ciphertext is read into scratch of the worker, opened there, and
//! copied to where the caller wants the plaintext; plaintext is sealed into scratch and written from there. What
//! a connection owns of its own is what did not fit: the beginning of a record whose end has not come, and
//! ciphertext that the socket did not take. Idle, it owns neither.

mod session;

use self::session::{Seal, Session, Sink};
use super::gather;
use super::scratch::LARGEST_READ;
use super::transport::Transport;
use super::unsent::Share;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::{CommonState, ServerConfig};
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Plaintext of one record (RFC 8446 section 5.1).
const RECORD: usize = 16 * 1024;
/// Plaintext sealed in one step; what a slow client leaves of it is the most that a connection owns.
const SEALED_AT_ONCE: usize = 4 * RECORD;
/// What sealing adds to a record at most: header, nonce or content type, tag, and room to spare.
const OVERHEAD: usize = 64;
/// Room for sealed plaintext and the short messages that may go before it.
const SEALED: usize = SEALED_AT_ONCE + (SEALED_AT_ONCE / RECORD + 8) * OVERHEAD;
/// Room to read ciphertext into: what a caller takes at most, with what sealing added to it, behind the beginning
/// of a record.
const OPENED: usize = LARGEST_READ + (LARGEST_READ / RECORD + 2) * OVERHEAD + RECORD;
/// Ciphertext of a handshake that may wait for its end: beyond what any certificate chain needs.
const MAX_HANDSHAKE: usize = 128 * 1024;
/// Ciphertext of a message that may wait for its end after the handshake: a client has nothing long to say then.
const MAX_WAITING: usize = 3 * RECORD;
/// Wakes us for every byte.
pub(super) const ANY: u32 = 1;
/// Read at once during a handshake.
const HANDSHAKE_READ: usize = RECORD;

thread_local! {
    static CIPHER: RefCell<Box<[u8]>> = RefCell::new(vec![0; OPENED].into_boxed_slice());
    static SEAL: RefCell<Box<[u8]>> = RefCell::new(vec![0; SEALED].into_boxed_slice());
    static JOINED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(RECORD));
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("the other side left")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// See the module's text.
pub struct Secure {
    socket: Transport,
    session: Session,
    /// The beginning of a record.
    incoming: Vec<u8>,
    /// Plaintext that its reader had no room for.
    plain: Vec<u8>,
    /// How much of it is gone.
    taken: usize,
    /// Bytes that the next read shall wait for.
    least: u32,
    /// Bytes that the kernel wakes us for.
    wakes_at: Cell<u32>,
    /// Ciphertext to be written before any other.
    outgoing: Vec<u8>,
    /// How much of it is gone.
    sent: usize,
    held: Share,
    /// The socket would not take all of `outgoing`. Until then what is in it may wait for company: a session
    /// ticket goes out with the first response.
    refused: bool,
    /// The peer said that nothing more comes.
    peer_closed: bool,
    /// We did.
    closing: bool,
    /// It ends without a word.
    cut: bool,
    failed: bool,
}

impl std::fmt::Debug for Secure {
    /// Without the session, which holds keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secure")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Secure {
    /// Answers a client whose first bytes, `seen`, were read already.
    ///
    /// # Errors
    /// The session could not be made.
    pub fn accept(
        socket: Transport,
        config: Arc<ServerConfig>,
        seen: Vec<u8>,
    ) -> Result<Self, rustls::Error> {
        let session = Session::Server(UnbufferedServerConnection::new(config)?);
        Ok(Self::new(socket, session, seen))
    }

    /// Addresses a server.
    #[must_use]
    pub fn connect(socket: Transport, session: UnbufferedClientConnection) -> Self {
        Self::new(socket, Session::Client(session), Vec::new())
    }

    const fn new(socket: Transport, session: Session, seen: Vec<u8>) -> Self {
        Self {
            socket,
            session,
            incoming: seen,
            plain: Vec::new(),
            taken: 0,
            least: ANY,
            wakes_at: Cell::new(ANY),
            outgoing: Vec::new(),
            sent: 0,
            held: Share::new(),
            refused: false,
            peer_closed: false,
            closing: false,
            cut: false,
            failed: false,
        }
    }

    /// What was agreed on.
    #[must_use]
    pub fn session(&self) -> &CommonState {
        &self.session
    }

    /// The socket beneath.
    #[must_use]
    pub const fn socket(&self) -> &Transport {
        &self.socket
    }

    /// Ready when requests may come. What is left to be written then goes out with whatever is written first.
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        loop {
            let mut incoming = std::mem::take(&mut self.incoming);
            let (used, _, result) = self.digest(&mut incoming, &mut [], &mut Seal::Nothing);
            keep(&mut incoming, used);
            self.incoming = incoming;
            if let Err(error) = result {
                // An alert tells the client why, if the socket takes it at once.
                let _best_effort = self.poll_drain(cx);
                return Poll::Ready(Err(error.into()));
            }
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.peer_closed || self.incoming.len() > MAX_HANDSHAKE {
                return Poll::Ready(Err(HandshakeError::Closed));
            }
            ready!(self.poll_drain(cx))?;
            let read = CIPHER.with(|buffer| {
                let buffer = &mut buffer.borrow_mut()[..HANDSHAKE_READ];
                let n = ready!(self.socket.poll_read(cx, buffer))?;
                self.incoming.extend_from_slice(&buffer[..n]);
                Poll::Ready(io::Result::Ok(n))
            });
            if ready!(read)? == 0 {
                return Poll::Ready(Err(HandshakeError::Closed));
            }
        }
    }

    /// Runs the session over ciphertext: returns how much of it was used up and how much of `into` was filled.
    fn digest(
        &mut self,
        cipher: &mut [u8],
        into: &mut [u8],
        seal: &mut Seal<'_>,
    ) -> (usize, usize, Result<(), rustls::Error>) {
        let mut sink = Sink::new(into, &mut self.plain, &mut self.outgoing);
        let ran = self.session.run(cipher, &mut sink, seal);
        let filled = sink.filled();
        self.peer_closed |= ran.peer_closed;
        self.failed |= ran.result.is_err();
        (ran.used, filled, ran.result)
    }

    /// Ready when reading is worth a try; there may be nothing all the same.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.taken < self.plain.len() || self.peer_closed || self.failed {
            return Poll::Ready(Ok(()));
        }
        self.wake_at(ANY);
        self.socket.poll_readable(cx)
    }

    /// Reads once; 0 is the end of the stream. Clients often leave without saying so in TLS; a message that was
    /// cut by that is known by its own framing.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let least = std::mem::replace(&mut self.least, ANY);
        loop {
            if self.taken < self.plain.len() {
                return Poll::Ready(Ok(self.take_plain(into)));
            }
            if self.peer_closed || into.is_empty() {
                return Poll::Ready(Ok(0));
            }
            if self.failed {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            let read = CIPHER.with(|buffer| self.read_into(cx, &mut buffer.borrow_mut(), into));
            let Poll::Ready(read) = read else {
                // What waited for company goes alone: nobody may write for a long time.
                if let Poll::Ready(Err(_)) = self.poll_drain(cx) {
                    // A peer that left may have said something before: the next read tells.
                    self.write_no_more();
                    continue;
                }
                self.wake_at(least);
                return Poll::Pending;
            };
            match read? {
                Some(0) => {}
                Some(n) => return Poll::Ready(Ok(n)),
                None => {
                    self.peer_closed = true;
                    return Poll::Ready(Ok(0));
                }
            }
        }
    }

    /// See [`Transport::gather`].
    pub const fn gather(&mut self, least: u32) {
        self.least = least;
    }

    /// See [`Transport::is_gathering`].
    #[must_use]
    pub const fn is_gathering(&self) -> bool {
        self.wakes_at.get() != ANY
    }

    /// Has the kernel wake us for so many bytes.
    pub fn wake_at(&self, bytes: u32) {
        if self.wakes_at.get() == bytes {
            return;
        }
        if let Transport::Tcp(stream) = &self.socket
            && gather::wake_at(stream, bytes).is_ok()
        {
            self.wakes_at.set(bytes);
        }
    }

    /// One read of the socket; `None` is its end.
    fn read_into(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        into: &mut [u8],
    ) -> Poll<io::Result<Option<usize>>> {
        let begun = self.incoming.len();
        // Everything that is read is opened now, so no more is read than there is room for.
        let room = into.len() + (into.len() / RECORD + 2) * OVERHEAD;
        let end = (begun + room).min(buffer.len());
        let n = ready!(self.socket.poll_read(cx, &mut buffer[begun..end]))?;
        if n == 0 {
            return Poll::Ready(Ok(None));
        }
        buffer[..begun].copy_from_slice(&self.incoming);
        let cipher = &mut buffer[..begun + n];
        let (used, filled, result) = self.digest(cipher, into, &mut Seal::Nothing);
        let rest = &cipher[used..];
        if rest.is_empty() {
            self.incoming = Vec::new();
        } else {
            self.incoming.clear();
            self.incoming.extend_from_slice(rest);
        }
        if self.incoming.len() > self.most_waiting() {
            self.failed = true;
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        if let Err(error) = result {
            let _best_effort = self.poll_drain(cx);
            if filled == 0 {
                return Poll::Ready(Err(broken(error)));
            }
        }
        Poll::Ready(Ok(Some(filled)))
    }

    /// Bytes of a message that is not whole.
    const fn most_waiting(&self) -> usize {
        match self.session {
            Session::Server(_) => MAX_WAITING,
            // A server's tickets may hold much.
            Session::Client(_) => MAX_HANDSHAKE,
        }
    }

    fn take_plain(&mut self, into: &mut [u8]) -> usize {
        let rest = &self.plain[self.taken..];
        let n = rest.len().min(into.len());
        into[..n].copy_from_slice(&rest[..n]);
        self.taken += n;
        if self.taken == self.plain.len() {
            self.plain = Vec::new();
            self.taken = 0;
        }
        n
    }

    /// Writes once. Bytes count as written when they are sealed; [`Self::unsent`] tells of those that the socket
    /// has not taken.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut written = 0;
        while written < bytes.len() {
            if self.refused && self.poll_drain(cx)?.is_pending() {
                break;
            }
            let end = bytes.len().min(written + SEALED_AT_ONCE);
            self.write_sealed(cx, &bytes[written..end])?;
            written = end;
        }
        if written == 0 && !bytes.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(written))
    }

    /// As [`Self::poll_write`]: the beginning of all parts goes into one record, so that a head and a short body
    /// cost one.
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        JOINED.with(|joined| {
            let mut joined = joined.borrow_mut();
            joined.clear();
            for part in parts {
                let room = RECORD - joined.len();
                joined.extend_from_slice(&part[..part.len().min(room)]);
            }
            self.poll_write(cx, &joined)
        })
    }

    /// Seals, and writes as much as the socket takes at once.
    fn write_sealed(&mut self, cx: &mut Context<'_>, plain: &[u8]) -> io::Result<()> {
        if self.failed || self.closing {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        SEAL.with(|buffer| {
            let buffer = &mut *buffer.borrow_mut();
            let mut length = 0;
            let mut seal = Seal::Data {
                plain,
                out: buffer,
                length: &mut length,
            };
            let mut incoming = std::mem::take(&mut self.incoming);
            let (used, _, result) = self.digest(&mut incoming, &mut [], &mut seal);
            keep(&mut incoming, used);
            self.incoming = incoming;
            result.map_err(broken)?;
            if length == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.write_behind(cx, &buffer[..length])
        })
    }

    /// Writes what waits and then `sealed`; what the socket does not take waits.
    fn write_behind(&mut self, cx: &mut Context<'_>, sealed: &[u8]) -> io::Result<()> {
        let waiting = &self.outgoing[self.sent..];
        let written = if waiting.is_empty() {
            self.socket.poll_write(cx, sealed)?
        } else {
            let parts = [IoSlice::new(waiting), IoSlice::new(sealed)];
            self.socket.poll_write_vectored(cx, &parts)?
        };
        let written = match written {
            Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(n) => n,
            Poll::Pending => 0,
        };
        let of_sealed = written.saturating_sub(waiting.len());
        self.sent += written - of_sealed;
        if self.sent == self.outgoing.len() {
            self.outgoing = Vec::new();
            self.sent = 0;
        }
        self.outgoing.extend_from_slice(&sealed[of_sealed..]);
        self.refused = !self.outgoing.is_empty();
        self.held.is(self.outgoing.capacity());
        Ok(())
    }

    /// Bytes that were counted as written and that the socket has not taken.
    #[must_use]
    pub fn unsent(&self) -> usize {
        if self.refused {
            self.outgoing.len() - self.sent
        } else {
            0
        }
    }

    /// Writes what waits; ready when nothing does.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outgoing.len() {
            match self.socket.poll_write(cx, &self.outgoing[self.sent..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(n) => self.sent += n,
                Poll::Pending => {
                    self.refused = true;
                    return Poll::Pending;
                }
            }
        }
        self.let_go();
        Poll::Ready(Ok(()))
    }

    /// Nothing waits to be written any more.
    fn let_go(&mut self) {
        self.outgoing = Vec::new();
        self.sent = 0;
        self.held.is(0);
        self.refused = false;
    }

    /// The socket takes nothing any more: whoever writes from here on is told.
    fn write_no_more(&mut self) {
        self.let_go();
        self.closing = true;
    }

    /// Says that nothing more comes, and ends our direction of the socket.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.say_goodbye();
        ready!(self.poll_drain(cx))?;
        self.socket.poll_shutdown(cx)
    }

    fn say_goodbye(&mut self) {
        if self.closing || self.failed || self.session.is_handshaking() {
            return;
        }
        self.closing = true;
        let mut incoming = std::mem::take(&mut self.incoming);
        // Failing, it ends without.
        let (used, _, _) = self.digest(&mut incoming, &mut [], &mut Seal::CloseNotify);
        keep(&mut incoming, used);
        self.incoming = incoming;
    }

    /// Whether there is something to read: see [`Transport::stirs`].
    #[must_use]
    pub fn stirs(&self) -> bool {
        self.taken < self.plain.len() || !self.incoming.is_empty() || self.socket.has_bytes()
    }

    /// See [`Transport::reset_on_drop`]; the peer must not be told that all is in order either.
    pub fn reset_on_drop(&mut self) {
        self.cut = true;
        self.socket.reset_on_drop();
    }
}

/// Takes used bytes off the front; an empty rest owns no memory.
fn keep(bytes: &mut Vec<u8>, used: usize) {
    if used >= bytes.len() {
        *bytes = Vec::new();
    } else {
        bytes.drain(..used);
    }
}

impl Drop for Secure {
    /// A connection that ends in order says so, as far as the socket takes it at once.
    fn drop(&mut self) {
        if self.cut || self.refused || std::thread::panicking() {
            return;
        }
        self.say_goodbye();
        if self.sent < self.outgoing.len() {
            self.socket.try_write(&self.outgoing[self.sent..]);
        }
    }
}

#[cfg(test)]
mod tests;
