//! The origin: fixed answers at about 5 µs each.
//!
//! `/small` 128 bytes, `/down` 1 MiB, `POST /upload` reads its body and answers 2 bytes, `/ws` echoes WebSocket
//! messages. Bodies need Content-Length. Anything else is closed on: it would be a mistake of the benchmark.

use crate::args::Args;
use crate::poll::{Flags, Moved, Poll, moved};
use crate::requests::{
    LARGE_BODY, SMALL_BODY, UPLOAD_ANSWER, WEBSOCKET_KEY, answer, content_length, echo_frames, head_end,
    switch,
};
use crate::slots::Slots;
use rustix::net::{SendFlags, SocketFlags, accept_with, send, sockopt};
use std::error::Error;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

/// Listening sockets have the tokens from here on, connections those below.
const LISTENERS: usize = usize::MAX / 2;
const SCRATCH: usize = 256 * 1024;
/// A head larger than this is a mistake of the benchmark.
const MAX_HEAD: usize = 16 * 1024;

struct Answers {
    small: Vec<u8>,
    down: Vec<u8>,
    upload: Vec<u8>,
    switch: Vec<u8>,
    echo_sent: Vec<u8>,
    echo_answer: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Reply {
    Small,
    Down,
    Upload,
    Switch,
}

impl Answers {
    fn new() -> Self {
        let (echo_sent, echo_answer) = echo_frames();
        Self {
            small: answer(SMALL_BODY),
            down: answer(LARGE_BODY),
            upload: answer(UPLOAD_ANSWER),
            switch: switch(),
            echo_sent,
            echo_answer,
        }
    }

    fn bytes(&self, reply: Reply) -> &[u8] {
        match reply {
            Reply::Small => &self.small,
            Reply::Down => &self.down,
            Reply::Upload => &self.upload,
            Reply::Switch => &self.switch,
        }
    }
}

enum State {
    /// Waiting for a head, of which this much has come.
    Head(Vec<u8>),
    /// This many body bytes to come.
    Upload(usize),
    /// Sending, this many bytes done.
    Sending(Reply, usize),
    /// Echoing; the bytes of an incomplete message.
    Echo(Vec<u8>),
}

struct Connection {
    socket: OwnedFd,
    state: State,
    waits_for_room: bool,
}

pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let mut listeners = Vec::new();
    for (index, port) in args.all::<u16>("port")?.into_iter().enumerate() {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        poll.add(&listener, LISTENERS + index, Flags::IN)?;
        listeners.push(listener);
    }
    let answers = Answers::new();
    let mut scratch = vec![0; SCRATCH];
    let mut connections = Slots::new();
    let mut ready = Vec::new();
    println!("ready");
    loop {
        poll.wait(None, &mut ready)?;
        for (token, _) in &ready {
            if *token >= LISTENERS {
                accept(&listeners[*token - LISTENERS], &poll, &mut connections)?;
                continue;
            }
            let Some(connection) = connections.get_mut(*token) else {
                continue;
            };
            let open = connection.turn(&answers, &mut scratch).unwrap_or(false);
            if !open || connection.follow(&poll, *token).is_err() {
                connections.remove(*token);
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, connections: &mut Slots<Connection>) -> io::Result<()> {
    while let Ok(socket) = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        sockopt::set_tcp_nodelay(&socket, true)?;
        poll.add(&socket, connections.next(), Flags::IN)?;
        connections.insert(Connection {
            socket,
            state: State::Head(Vec::new()),
            waits_for_room: false,
        });
    }
    Ok(())
}

impl Connection {
    /// Does what can be done now. False: the connection is over.
    fn turn(&mut self, answers: &Answers, scratch: &mut [u8]) -> io::Result<bool> {
        loop {
            if let State::Sending(reply, done) = self.state {
                match moved(send(
                    &self.socket,
                    &answers.bytes(reply)[done..],
                    SendFlags::NOSIGNAL,
                ))? {
                    Moved::Blocked => return Ok(true),
                    Moved::Bytes(count) => self.sent(answers, reply, done + count),
                }
                if matches!(self.state, State::Sending(..)) {
                    continue;
                }
                // The next request can only come after this answer was read.
                return Ok(true);
            }
            let count = match moved(rustix::io::read(&self.socket, &mut *scratch))? {
                Moved::Blocked => return Ok(true),
                Moved::Bytes(0) => return Ok(false),
                Moved::Bytes(count) => count,
            };
            if !self.received(&scratch[..count], answers)? {
                return Ok(false);
            }
            if count < scratch.len() && !matches!(self.state, State::Sending(..)) {
                return Ok(true);
            }
        }
    }

    fn sent(&mut self, answers: &Answers, reply: Reply, done: usize) {
        self.state = match reply {
            _ if done < answers.bytes(reply).len() => State::Sending(reply, done),
            Reply::Switch => State::Echo(Vec::new()),
            _ => State::Head(Vec::new()),
        };
    }

    /// Takes what was read. False: not understood.
    fn received(&mut self, bytes: &[u8], answers: &Answers) -> io::Result<bool> {
        match &mut self.state {
            State::Sending(..) => Ok(false),
            State::Upload(left) => {
                let Some(rest) = left.checked_sub(bytes.len()) else {
                    return Ok(false);
                };
                self.state = if rest == 0 {
                    State::Sending(Reply::Upload, 0)
                } else {
                    State::Upload(rest)
                };
                Ok(true)
            }
            State::Head(kept) if kept.is_empty() => match head_end(bytes) {
                Some(end) => Ok(self.begin(&bytes[..end], bytes.len() - end)),
                None => {
                    kept.extend_from_slice(bytes);
                    Ok(kept.len() < MAX_HEAD)
                }
            },
            State::Head(kept) => {
                kept.extend_from_slice(bytes);
                let whole = std::mem::take(kept);
                match head_end(&whole) {
                    Some(end) => Ok(self.begin(&whole[..end], whole.len() - end)),
                    None if whole.len() < MAX_HEAD => {
                        self.state = State::Head(whole);
                        Ok(true)
                    }
                    None => Ok(false),
                }
            }
            State::Echo(kept) => echo(&self.socket, kept, bytes, answers),
        }
    }

    /// A complete head with `body` bytes read after it. False: not understood.
    fn begin(&mut self, head: &[u8], body: usize) -> bool {
        let reply = if head.starts_with(b"GET /small") {
            Reply::Small
        } else if head.starts_with(b"GET /down") {
            Reply::Down
        } else if head.starts_with(b"POST /upload") {
            let length = content_length(head);
            self.state = match length.checked_sub(body) {
                Some(0) | None => State::Sending(Reply::Upload, 0),
                Some(left) => State::Upload(left),
            };
            return length >= body && length > 0;
        } else if head.starts_with(b"GET /ws") && contains(head, WEBSOCKET_KEY.as_bytes()) {
            Reply::Switch
        } else {
            return false;
        };
        self.state = State::Sending(reply, 0);
        body == 0
    }

    /// Asks epoll for room to write only while an answer is stuck.
    fn follow(&mut self, poll: &Poll, token: usize) -> io::Result<()> {
        let stuck = matches!(self.state, State::Sending(..));
        if stuck != self.waits_for_room {
            self.waits_for_room = stuck;
            poll.modify(&self.socket, token, if stuck { Flags::OUT } else { Flags::IN })?;
        }
        Ok(())
    }
}

/// Answers each complete message; the load sends only one kind.
fn echo(socket: &OwnedFd, kept: &mut Vec<u8>, bytes: &[u8], answers: &Answers) -> io::Result<bool> {
    let message = answers.echo_sent.as_slice();
    if kept.is_empty() && bytes == message {
        return write_whole(socket, &answers.echo_answer);
    }
    kept.extend_from_slice(bytes);
    while kept.len() >= message.len() {
        if !kept.starts_with(message) || !write_whole(socket, &answers.echo_answer)? {
            return Ok(false);
        }
        kept.drain(..message.len());
    }
    Ok(true)
}

/// 66 bytes always fit in a socket whose peer reads them before it sends more.
fn write_whole(socket: &OwnedFd, bytes: &[u8]) -> io::Result<bool> {
    Ok(send(socket, bytes, SendFlags::NOSIGNAL)? == bytes.len())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
