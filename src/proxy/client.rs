//! A client's HTTP/1.1 connection: what lives from one request to the next.

use super::ends::{Announced, Ends};
use super::view::ListenerKey;
use crate::net::alarm::Alarm;
use crate::net::proxy_protocol::Addresses;
use crate::net::transport::Transport;
use crate::net::wire::Wire;
use crate::upstream::conn::{Behalf, Dial};
use smallvec::SmallVec;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Client {
    pub wire: Wire,
    pub alarm: Alarm,
    pub listener: ListenerKey,
    /// Who connected, himself or through a proxy that announced him; `None` on unix sockets.
    pub peer: Option<SocketAddr>,
    pub server: Option<SocketAddr>,
    /// What a proxy in front announced of the connection.
    pub announced: Option<Rc<Announced>>,
    /// As whose endpoints are told of it; made when the first is to be told.
    behalf: Option<Arc<Behalf>>,
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
    pub fn new(transport: Transport, ends: Ends, listener: ListenerKey, number: u64) -> Self {
        let ip = ends.ip();
        let Ends {
            client: peer,
            server,
            announced,
        } = ends;
        let ip_text = SmallVec::from_slice(ip.to_string().as_bytes());
        let port = server.map_or_else(String::new, |server| {
            format!("X-Forwarded-Port: {}\r\n", server.port())
        });
        let lines = format!("X-Forwarded-For: {ip}\r\nX-Real-IP: {ip}\r\nX-Forwarded-Proto: http\r\n{port}");
        Self {
            forwarded_lines: lines.into_bytes().into_boxed_slice(),
            wire: Wire::new(transport),
            alarm: Alarm::default(),
            listener,
            peer,
            server,
            announced,
            behalf: None,
            ip,
            ip_text,
            number,
            requests: 0,
            opened: Instant::now(),
            counted_read: 0,
            half_closed: false,
        }
    }

    /// For whom connections are made that begin in this way; `None` where they are for anyone.
    pub fn behalf(&mut self, dial: &Dial) -> Option<Arc<Behalf>> {
        dial.announce?;
        let ends = self.peer.zip(self.server);
        let behalf = self.behalf.get_or_insert_with(|| {
            Arc::new(Behalf {
                addresses: ends.map(|(source, destination)| Addresses { source, destination }),
            })
        });
        Some(Arc::clone(behalf))
    }
}

/// What a connection is refused with before any of it is read.
pub(super) const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\
Connection: close\r\nRetry-After: 1\r\nX-Tidegate-Error: overloaded\r\n\r\n";

/// Tells a client that it holds too many connections, as far as its socket takes it at once.
pub(super) fn refuse(transport: &Transport) {
    // Not by way of the runtime, which has not heard yet that it can be written to.
    let _best_effort = match transport {
        Transport::Tcp(stream) => rustix::io::write(stream, TOO_MANY_CONNECTIONS),
        Transport::Unix(stream) => rustix::io::write(stream, TOO_MANY_CONNECTIONS),
    };
}
