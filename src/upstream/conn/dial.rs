//! How a connection to an endpoint begins, before the first request on it.

use super::Conn;
use crate::net::proxy_protocol::{self, Addresses, Version};
use crate::net::secure::{HandshakeError, Secure};
use crate::net::transport::Transport;
use crate::net::wire::Wire;
use crate::tls::client::ClientTls;
use crate::tls::client_fault::{self, TlsFault};
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

/// What they are called in a TLS handshake (RFC 7301 section 6).
pub const ALPN_HTTP11: &[u8] = b"http/1.1";
pub const ALPN_HTTP2: &[u8] = b"h2";

/// What all connections of an upstream have in common. Pools tell connections apart by the allocation of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dial {
    /// The PROXY protocol header that comes first.
    pub announce: Option<Version>,
    /// TLS above it; `None`: none.
    pub tls: Option<Arc<ClientTls>>,
    pub speaks: Speaks,
    pub http2: Http2,
    /// The same, for who needs HTTP/1.1 of an endpoint that may speak HTTP/2.
    pub apart: Option<Arc<Self>>,
}

/// What endpoints are spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speaks {
    #[default]
    Http1,
    Http2,
    /// What ALPN comes to.
    Either,
}

/// Bounds of HTTP/2 connections to endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Http2 {
    /// Requests at once on a connection.
    pub streams: u32,
    /// Bytes of a response that an endpoint may send ahead of the client.
    pub window: u32,
    /// The same for all of a connection.
    pub connection_window: u32,
    /// Bytes of a request that wait for the connection.
    pub send_buffer: usize,
    /// Largest frame taken.
    pub frame_bytes: u32,
    /// Silence after which a PING is sent; zero: never.
    pub ping: Duration,
    pub ping_timeout: Duration,
}

/// Why a connection that was opened cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{}", .fault.text())]
    Tls {
        fault: TlsFault,
        #[source]
        source: Option<rustls::Error>,
    },
    /// It was to be spoken to in HTTP/2.
    #[error("the endpoint does not speak HTTP/2")]
    NotHttp2(#[source] Option<h2::Error>),
}

impl BeginError {
    /// The error itself, for a line of the log.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Tls {
                source: Some(source), ..
            } => source.to_string(),
            Self::NotHttp2(Some(source)) => format!("the endpoint does not speak HTTP/2: {source}"),
            other => other.to_string(),
        }
    }
}

impl From<HandshakeError> for BeginError {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Closed | HandshakeError::Io(_) => Self::Tls {
                fault: TlsFault::Closed,
                source: None,
            },
            HandshakeError::Tls(error) => Self::from(error),
        }
    }
}

impl From<rustls::Error> for BeginError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls {
            fault: client_fault::of(&error),
            source: Some(error),
        }
    }
}

/// A client's connection, for whose requests alone a connection to an endpoint is announced. It lives as long as the
/// client's does.
#[derive(Debug)]
pub struct Behalf {
    /// `None` where nobody knows them, as on unix sockets.
    pub addresses: Option<Addresses>,
}

impl Behalf {
    /// Whether the client has gone that a connection was begun for.
    #[must_use]
    pub fn has_gone(own: Option<&Weak<Self>>) -> bool {
        own.is_some_and(|client| client.strong_count() == 0)
    }

    /// Whether a connection that was begun for `own` may be used for `client`: it is announced for the same, or for
    /// nobody.
    #[must_use]
    #[inline]
    pub fn fits(own: Option<&Weak<Self>>, client: Option<&Arc<Self>>) -> bool {
        match (own, client) {
            (None, None) => true,
            (Some(own), Some(client)) => std::ptr::eq(own.as_ptr(), Arc::as_ptr(client)),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
}

/// Who wants a connection.
#[derive(Clone, Copy, Debug)]
pub enum Caller<'a> {
    /// A client; without a behalf, any.
    Client(Option<&'a Arc<Behalf>>),
    /// Nobody but us, as for a probe.
    Gateway,
}

impl Conn {
    /// Says what comes before the first request. `name` is the endpoint's own, for TLS. Bounded by the caller's
    /// deadline.
    ///
    /// # Errors
    /// The connection broke, or the endpoint is not who it should be.
    pub async fn begin(
        mut self,
        caller: Caller<'_>,
        name: Option<&ServerName<'static>>,
    ) -> Result<Self, BeginError> {
        if let Some(version) = self.dial.announce {
            let mut header = Vec::with_capacity(64);
            match caller {
                Caller::Client(behalf) => {
                    let addresses = behalf.and_then(|behalf| behalf.addresses.as_ref());
                    proxy_protocol::write(version, addresses, &mut header);
                    self.client = behalf.map(Arc::downgrade);
                }
                Caller::Gateway => proxy_protocol::write_local(version, &mut header),
            }
            self.say(&header).await?;
        }
        match self.dial.tls.clone() {
            Some(tls) => self.secure(&tls, name).await,
            None => Ok(self),
        }
    }

    async fn secure(self, tls: &ClientTls, name: Option<&ServerName<'static>>) -> Result<Self, BeginError> {
        let mut secure = Box::new(Secure::connect(self.wire.transport, tls.session(name)?));
        poll_fn(|cx| secure.poll_handshake(cx)).await?;
        Ok(Self {
            wire: Wire::new(Transport::Tls(secure)),
            ..self
        })
    }

    /// Whether it resumed an earlier session; `None` in the clear.
    #[must_use]
    pub fn is_resumed(&self) -> Option<bool> {
        match &self.wire.transport {
            Transport::Tls(secure) => Some(secure.session().handshake_kind() == Some(HandshakeKind::Resumed)),
            Transport::Tcp(_) | Transport::Unix(_) => None,
        }
    }

    /// Whether it is to be gone on with in HTTP/2.
    ///
    /// # Errors
    /// It has to be, and the endpoint did not agree to that.
    pub fn speaks_http2(&self) -> Result<bool, BeginError> {
        let agreed = match &self.wire.transport {
            Transport::Tls(secure) => secure.session().alpn_protocol() == Some(ALPN_HTTP2),
            // By prior knowledge.
            Transport::Tcp(_) | Transport::Unix(_) => self.dial.speaks == Speaks::Http2,
        };
        match (self.dial.speaks, agreed) {
            (Speaks::Http2, false) => Err(BeginError::NotHttp2(None)),
            (_, agreed) => Ok(agreed),
        }
    }

    async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut first = true;
        poll_fn(|cx| {
            if std::mem::take(&mut first)
                && let Err(error) = self.wire.send(cx, &[bytes])
            {
                return Poll::Ready(Err(error));
            }
            self.wire.poll_flush(cx)
        })
        .await
    }
}
