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
use std::sync::Arc;
use std::task::Poll;

/// What all connections of an upstream have in common. Pools tell connections apart by the allocation of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dial {
    /// The PROXY protocol header that comes first.
    pub announce: Option<Version>,
    /// TLS above it; `None`: none.
    pub tls: Option<Arc<ClientTls>>,
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
}

impl BeginError {
    /// The error itself, for a line of the log.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Tls {
                source: Some(source), ..
            } => source.to_string(),
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
