//! Where to connect or listen: TCP or a unix socket, written as in the gateway's configuration.

use socket2::{Domain, SockAddr, Socket, Type};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `127.0.0.1:8080` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    /// # Panics
    /// When the text is neither `ip:port` nor `unix:/path`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix("unix:") {
            Some(path) => Self::Unix(path.into()),
            None => Self::Tcp(text.parse().unwrap_or_else(|e| panic!("address {text:?}: {e}"))),
        }
    }

    /// # Panics
    /// On a unix socket, which has no port.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp(address) => address.port(),
            Self::Unix(path) => panic!("{} has no port", path.display()),
        }
    }

    pub(crate) fn socket(&self) -> io::Result<(Socket, SockAddr)> {
        Ok(match self {
            Self::Tcp(address) => (
                Socket::new(Domain::for_address(*address), Type::STREAM, None)?,
                (*address).into(),
            ),
            Self::Unix(path) => (
                Socket::new(Domain::UNIX, Type::STREAM, None)?,
                SockAddr::unix(path)?,
            ),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<&Self> for Address {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        Self::parse(text)
    }
}
