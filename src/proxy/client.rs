//! A client's HTTP/1.1 connection: what lives from one request to the next.

use super::accept::Accepted;
use super::handshake::Secured;
use super::view::ListenerKey;
use crate::message::host::Scheme;
use crate::net::alarm::Alarm;
use crate::net::transport::Transport;
use crate::net::wire::Wire;
use smallvec::SmallVec;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Client {
    pub wire: Wire,
    pub alarm: Alarm,
    pub listener: ListenerKey,
    /// `None` on unix sockets.
    pub peer: Option<SocketAddr>,
    pub server: Option<SocketAddr>,
    /// `None` in the clear.
    pub tls: Option<Rc<Secured>>,
    /// The peer's address; on unix sockets 127.0.0.1, because only this host can reach them.
    pub ip: IpAddr,
    /// Its text, written once per connection.
    pub ip_text: SmallVec<[u8; 40]>,
    /// The X-Forwarded lines that are the same for every request of a connection without trusted proxies.
    pub forwarded_lines: Box<[u8]>,
    pub number: u64,
    /// Requests begun on this connection, the present one included.
    pub requests: u64,
    pub opened: Instant,
    /// Bytes read that earlier requests account for.
    pub counted_read: u64,
    /// The client ended its direction.
    pub half_closed: bool,
}

impl Client {
    pub fn new(
        transport: Transport,
        peer: Option<SocketAddr>,
        listener: ListenerKey,
        number: u64,
        tls: Option<Rc<Secured>>,
    ) -> io::Result<Self> {
        let server = transport.local_addr();
        if server.is_none() && peer.is_some() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let scheme = if tls.is_some() {
            Scheme::Https
        } else {
            Scheme::Http
        };
        let ip = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.ip().to_canonical());
        let ip_text = SmallVec::from_slice(ip.to_string().as_bytes());
        let port = server.map_or_else(String::new, |server| {
            format!("X-Forwarded-Port: {}\r\n", server.port())
        });
        let lines = format!(
            "X-Forwarded-For: {ip}\r\nX-Real-IP: {ip}\r\nX-Forwarded-Proto: {}\r\n{port}",
            scheme.text()
        );
        Ok(Self {
            forwarded_lines: lines.into_bytes().into_boxed_slice(),
            wire: Wire::new(transport),
            alarm: Alarm::default(),
            listener,
            peer,
            server,
            tls,
            ip,
            ip_text,
            number,
            requests: 0,
            opened: Instant::now(),
            counted_read: 0,
            half_closed: false,
        })
    }
}

/// What a connection is refused with before any of it is read.
pub(super) const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\
Connection: close\r\nRetry-After: 1\r\nX-Tidegate-Error: overloaded\r\n\r\n";

/// Tells a client that it holds too many connections, as far as its socket takes it at once.
pub(super) fn refuse(accepted: &Accepted) {
    let _best_effort = rustix::io::write(&accepted.socket, TOO_MANY_CONNECTIONS);
}
