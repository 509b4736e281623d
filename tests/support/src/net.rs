//! Addresses that misbehave below HTTP: nobody listens, nobody accepts.

use crate::address::Address;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

fn local() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A bound TCP socket that shares its port with later ones of this process, so that a server may go down and
/// come back without losing its port to somebody else.
pub(crate) fn reserve(address: SocketAddr) -> Socket {
    try_reserve(address).unwrap_or_else(|e| panic!("bind {address}: {e}"))
}

pub(crate) fn try_reserve(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

pub(crate) fn local_address(socket: &Socket) -> SocketAddr {
    socket
        .local_addr()
        .expect("local address")
        .as_socket()
        .expect("an IP address")
}

/// An address where connecting is refused for as long as this lives: bound, never listening.
#[derive(Debug)]
pub struct Refused {
    socket: Socket,
}

impl Refused {
    #[must_use]
    pub fn new() -> Self {
        Self {
            socket: reserve(local()),
        }
    }

    #[must_use]
    pub fn address(&self) -> Address {
        local_address(&self.socket).into()
    }
}

impl Default for Refused {
    fn default() -> Self {
        Self::new()
    }
}

/// An address where connecting never ends: the accept queue is full, so the kernel drops each SYN.
#[derive(Debug)]
pub struct Blackhole {
    socket: Socket,
    _filling: Vec<TcpStream>,
}

impl Blackhole {
    #[must_use]
    pub fn new() -> Self {
        let socket = reserve(local());
        socket.listen(0).expect("listen");
        let address = local_address(&socket);
        let mut filling = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            filling.push(stream);
            assert!(filling.len() < 16, "the accept queue of {address} does not fill");
        }
        Self {
            socket,
            _filling: filling,
        }
    }

    #[must_use]
    pub fn address(&self) -> Address {
        local_address(&self.socket).into()
    }
}

impl Default for Blackhole {
    fn default() -> Self {
        Self::new()
    }
}

/// A port that was free a moment ago; only for tests that need to name one in advance.
#[must_use]
pub fn free_port() -> u16 {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    socket.bind(&local().into()).expect("bind");
    local_address(&socket).port()
}

/// Raises this process's limit of open files to what it may have: tests hold thousands of connections.
pub fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
