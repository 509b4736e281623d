//! A bare TCP relay: bytes from one socket to the other and nothing else, the least that a proxy in user space can
//! cost. Edge-triggered, one shared buffer; only what could not be written is kept, and nothing more is read until
//! it is gone.

use crate::args::Args;
use crate::poll::{Flags, Moved, Poll, moved};
use crate::slots::Slots;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, accept_with, connect, send, socket_with, sockopt,
};
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;

const LISTENER: usize = usize::MAX;

struct Side {
    socket: OwnedFd,
    /// Bytes read from the other side that did not fit here.
    unsent: Vec<u8>,
}

/// Two sides; side `s` of pair `p` has the token `2 p + s`.
type Pair = [Side; 2];

pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let to = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, args.require("to")?));
    let listener = TcpListener::bind(("127.0.0.1", args.require::<u16>("port")?))?;
    listener.set_nonblocking(true)?;
    let mut scratch = vec![0; args.get_or("buffer", 256 * 1024)?];
    let mut poll = Poll::new()?;
    poll.add(&listener, LISTENER, Flags::IN)?;
    let mut pairs = Slots::new();
    let mut ready = Vec::new();
    println!("ready");
    loop {
        poll.wait(None, &mut ready)?;
        for (token, flags) in &ready {
            if *token == LISTENER {
                accept(&listener, to, &poll, &mut pairs)?;
                continue;
            }
            let (index, side) = (token / 2, token % 2);
            let Some(pair) = pairs.get_mut(index) else {
                continue;
            };
            if !turn(pair, side, *flags, &mut scratch) {
                pairs.remove(index);
            }
        }
    }
}

fn accept(listener: &TcpListener, to: SocketAddr, poll: &Poll, pairs: &mut Slots<Pair>) -> io::Result<()> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    while let Ok(client) = accept_with(listener, flags) {
        let upstream = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        for socket in [&client, &upstream] {
            sockopt::set_tcp_nodelay(socket, true)?;
        }
        match connect(&upstream, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(_) => continue,
        }
        let pair = [client, upstream].map(|socket| Side {
            socket,
            unsent: Vec::new(),
        });
        let first = 2 * pairs.next();
        for (side, token) in pair.iter().zip(first..) {
            poll.add(
                &side.socket,
                token,
                Flags::IN | Flags::OUT | Flags::RDHUP | Flags::ET,
            )?;
        }
        pairs.insert(pair);
    }
    Ok(())
}

/// One event on side `at`. False: the pair is over.
fn turn(pair: &mut Pair, at: usize, flags: Flags, scratch: &mut [u8]) -> bool {
    let ended = flags.intersects(Flags::RDHUP | Flags::HUP | Flags::ERR);
    let readable = ended || flags.contains(Flags::IN);
    let unblocked = flags.contains(Flags::OUT) && !pair[at].unsent.is_empty();
    (!unblocked || carry(pair, 1 - at, scratch, false).is_ok())
        && (!readable || carry(pair, at, scratch, ended).is_ok())
}

/// Moves bytes from side `from` to the other until one of them blocks. An end of stream is an error here: the
/// benchmark closes only when it is done. Where it has come already no further edge announces it, so it is read for.
fn carry(pair: &mut Pair, from: usize, scratch: &mut [u8], ended: bool) -> io::Result<()> {
    let [first, second] = pair;
    let (from, to) = if from == 0 {
        (first, second)
    } else {
        (second, first)
    };
    if !to.unsent.is_empty() {
        match moved(send(&to.socket, &to.unsent, SendFlags::NOSIGNAL))? {
            Moved::Blocked => return Ok(()),
            Moved::Bytes(count) => drop(to.unsent.drain(..count)),
        }
        if !to.unsent.is_empty() {
            return Ok(());
        }
    }
    loop {
        let count = match moved(rustix::io::read(&from.socket, &mut *scratch)) {
            Ok(Moved::Bytes(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Moved::Bytes(count)) => count,
            Ok(Moved::Blocked) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()) => return Ok(()),
            Err(error) => return Err(error),
        };
        let sent = match moved(send(&to.socket, &scratch[..count], SendFlags::NOSIGNAL)) {
            Ok(Moved::Bytes(sent)) => sent,
            Ok(Moved::Blocked) => 0,
            // Still connecting: room is announced when it is connected.
            Err(error) if error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()) => 0,
            Err(error) => return Err(error),
        };
        if sent < count {
            to.unsent.extend_from_slice(&scratch[sent..count]);
            return Ok(());
        }
        if count < scratch.len() && !ended {
            return Ok(());
        }
    }
}
