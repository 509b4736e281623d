//! A client as a request sees him: how he is spoken to, and who he is. In HTTP/1.1 that is his connection, and lives
//! from one request to the next; in HTTP/2 each stream is a client of its own.

use super::ends::{Announced, Ends};
use super::error::{ProxyError, Side};
use super::h2::Stream;
use super::secured::Secured;
use super::view::ListenerKey;
use crate::message::host::Scheme;
use crate::net::alarm::Alarm;
use crate::net::proxy_protocol::Addresses;
use crate::net::scratch::FIRST_READ;
use crate::net::transport::Transport;
use crate::net::wire::Wire;
use crate::upstream::conn::{Behalf, Dial};
use smallvec::SmallVec;
use std::cell::OnceCell;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Client {
    pub link: Link,
    pub alarm: Alarm,
    pub who: Rc<Who>,
    /// Requests begun on this connection, the present one included.
    pub requests: u64,
    /// Bytes read that earlier requests account for.
    pub counted_read: u64,
    /// The client ended its direction.
    pub half_closed: bool,
}

/// How a client is spoken to.
#[derive(Debug)]
pub(super) enum Link {
    H1(Wire),
    H2(Box<Stream>),
}

/// What stays the same as long as a connection lasts.
#[derive(Debug)]
pub(super) struct Who {
    pub listener: ListenerKey,
    /// Who connected, himself or through a proxy that announced him; `None` on unix sockets.
    pub peer: Option<SocketAddr>,
    pub server: Option<SocketAddr>,
    /// How it came: to us, or, as a proxy in front announced, to that.
    pub scheme: Scheme,
    /// `None` in the clear.
    pub tls: Option<Rc<Secured>>,
    /// What a proxy in front announced of the connection.
    pub announced: Option<Rc<Announced>>,
    /// As whose endpoints are told of it; made when the first is to be told.
    behalf: OnceCell<Arc<Behalf>>,
    /// The peer's address; on unix sockets 127.0.0.1, because only this host can reach them.
    pub ip: IpAddr,
    /// Its text, written once per connection.
    pub ip_text: SmallVec<[u8; 40]>,
    /// The X-Forwarded lines that are the same for every request of a connection without trusted proxies.
    pub forwarded_lines: Box<[u8]>,
    pub number: u64,
    pub opened: Instant,
}

impl Deref for Client {
    type Target = Who;

    fn deref(&self) -> &Who {
        &self.who
    }
}

impl Client {
    pub fn new(
        transport: Transport,
        ends: Ends,
        tls: Option<Rc<Secured>>,
        listener: ListenerKey,
        number: u64,
    ) -> Self {
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
        let opened_before_us = || announced.as_ref()?.header.tls();
        let scheme = if tls.is_some() || opened_before_us().is_some() {
            Scheme::Https
        } else {
            Scheme::Http
        };
        let proto = scheme.text();
        let lines =
            format!("X-Forwarded-For: {ip}\r\nX-Real-IP: {ip}\r\nX-Forwarded-Proto: {proto}\r\n{port}");
        let who = Who {
            scheme,
            forwarded_lines: lines.into_bytes().into_boxed_slice(),
            listener,
            peer,
            server,
            tls,
            announced,
            behalf: OnceCell::new(),
            ip,
            ip_text,
            number,
            opened: Instant::now(),
        };
        Self::speaking(Link::H1(Wire::new(transport)), Rc::new(who))
    }

    pub fn speaking(link: Link, who: Rc<Who>) -> Self {
        Self {
            link,
            alarm: Alarm::default(),
            who,
            requests: 0,
            counted_read: 0,
            half_closed: false,
        }
    }

    /// Notices a stream that was taken back in the same breath, so that no endpoint is asked for nothing. HTTP/1.1
    /// knows no such thing.
    pub async fn still_asks(&mut self) -> Result<(), ProxyError> {
        match &mut self.link {
            Link::H1(_) => Ok(()),
            Link::H2(stream) => poll_fn(|cx| Poll::Ready(stream.watch(cx))).await,
        }
    }

    /// Notices a client that leaves while nothing of him is waited for. What an HTTP/1.1 client pipelines is kept, one
    /// read of it. `end_means_gone`: whoever ends his direction is gone too, else he may still listen.
    pub fn watch(&mut self, cx: &mut Context<'_>, end_means_gone: bool) -> Result<(), ProxyError> {
        let wire = match &mut self.link {
            Link::H1(wire) => wire,
            Link::H2(stream) => return stream.watch(cx),
        };
        if self.half_closed || !wire.carried().is_empty() {
            return Ok(());
        }
        match wire.poll_more(cx, FIRST_READ, |_| (0, ())) {
            Poll::Pending | Poll::Ready(Ok(Some(()))) => Ok(()),
            // Half-closed: it has asked and still listens.
            Poll::Ready(Ok(None)) if !end_means_gone => {
                self.half_closed = true;
                Ok(())
            }
            Poll::Ready(Ok(None)) => Err(ProxyError::new(
                crate::message::token::Token::ClientClosed,
                Side::Client,
            )),
            Poll::Ready(Err(error)) => Err(ProxyError::client_gone(&error)),
        }
    }
}

impl Link {
    /// Whether the head of the stream calls itself gRPC, readable or not.
    pub const fn is_grpc(&self) -> bool {
        match self {
            Self::H1(_) => false,
            Self::H2(stream) => stream.grpc,
        }
    }

    /// Bytes that came from the client: those of the connection, or the stream's payload.
    pub fn bytes_read(&self) -> u64 {
        match self {
            Self::H1(wire) => wire.bytes_read,
            Self::H2(stream) => stream.bytes_read(),
        }
    }

    /// Bytes that went to the client.
    pub fn bytes_written(&self) -> u64 {
        match self {
            Self::H1(wire) => wire.bytes_written,
            Self::H2(stream) => stream.bytes_written(),
        }
    }
}

/// What a connection is refused with before any of it is read.
pub(super) const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\
Connection: close\r\nRetry-After: 1\r\nX-Tidegate-Error: overloaded\r\n\r\n";

/// Tells a client that it holds too many connections, as far as its socket takes it at once. A client that waits for
/// a handshake is told nothing: it is not worth one.
pub(super) fn refuse(transport: &Transport) {
    // Not by way of the runtime, which has not heard yet that it can be written to.
    let _best_effort = match transport {
        Transport::Tcp(stream) => rustix::io::write(stream, TOO_MANY_CONNECTIONS),
        Transport::Unix(stream) => rustix::io::write(stream, TOO_MANY_CONNECTIONS),
        Transport::Tls(_) => Ok(0),
    };
}

impl Who {
    /// For whom connections are made that begin in this way; `None` where they are for anyone.
    pub fn behalf(&self, dial: &Dial) -> Option<Arc<Behalf>> {
        dial.announce?;
        let ends = self.peer.zip(self.server);
        let behalf = self.behalf.get_or_init(|| {
            Arc::new(Behalf {
                addresses: ends.map(|(source, destination)| Addresses { source, destination }),
            })
        });
        Some(Arc::clone(behalf))
    }
}
