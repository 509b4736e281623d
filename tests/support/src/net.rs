//! Addresses that misbehave below HTTP: nobody listens, nobody accepts.

use crate::address::Address;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
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

/// Ports below those that the system gives out by itself (`ip_local_port_range`), where a connection or a server on
/// port 0 would take one between its choice and its use.
const FIRST_PORT: u32 = 10_000;
const LAST_PORT: u32 = 32_000;
/// Ports that belong to one process: tests run in many at the same time.
const OF_A_PROCESS: u32 = 16;

/// A port that nobody else takes; only for tests that need to name one in advance.
///
/// # Panics
/// When the process has named too many.
#[must_use]
pub fn free_port() -> u16 {
    static NAMED: AtomicU32 = AtomicU32::new(0);
    let processes = (LAST_PORT - FIRST_PORT) / OF_A_PROCESS;
    let first = FIRST_PORT + std::process::id() % processes * OF_A_PROCESS;
    loop {
        let nth = NAMED.fetch_add(1, Ordering::Relaxed);
        assert!(nth < OF_A_PROCESS, "a process has {OF_A_PROCESS} ports to name");
        let port = u16::try_from(first + nth).expect("a port");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Raises this process's limit of open files to what it may have: tests hold thousands of connections.
pub fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
