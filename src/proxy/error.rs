//! Why an exchange failed: whose side, which token, whether another endpoint may be tried.

use crate::message::token::{Reject, Token};
use crate::net::frames;
use crate::tls::client_fault::{self, TlsFault};
use crate::upstream::shared::admission::Refused;
use std::io;

/// Whose fault or decision it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Endpoint,
    Gateway,
}

/// A failed exchange. Small and `Copy`-like on purpose: errors are part of the hot path.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProxyError {
    pub token: Token,
    pub side: Side,
    /// Nothing of this request reached an endpoint, so that any other may have it, whatever the method.
    pub unsent: bool,
    /// The endpoint took back the stream that the request was on: its word, not a connection's end.
    pub reset: bool,
    /// A drill, and no fault of the endpoint.
    pub drill: bool,
    /// What exactly was wrong, for refused messages.
    pub detail: Option<&'static str>,
    /// Which way a TLS handshake with the endpoint failed.
    pub tls: Option<TlsFault>,
    /// Key of the deadline that passed.
    pub timeout: Option<&'static str>,
    /// Seconds after which it may go better; 0: nobody knows.
    pub retry_after: u32,
}

impl ProxyError {
    pub const fn new(token: Token, side: Side) -> Self {
        Self {
            token,
            side,
            unsent: false,
            reset: false,
            drill: false,
            detail: None,
            tls: None,
            timeout: None,
            retry_after: 0,
        }
    }

    /// The client's request cannot be taken.
    pub const fn refused(reject: Reject) -> Self {
        Self {
            detail: Some(reject.detail),
            ..Self::new(reject.token, Side::Client)
        }
    }

    /// The endpoint's answer cannot be taken.
    pub const fn bad_response(detail: &'static str) -> Self {
        Self {
            detail: Some(detail),
            ..Self::new(Token::BadResponse, Side::Endpoint)
        }
    }

    /// The operating system failed us; its word becomes the detail.
    pub fn io(token: Token, side: Side, error: &io::Error) -> Self {
        Self {
            detail: Some(io_detail(error)),
            ..Self::new(token, side)
        }
    }

    /// Reading from or writing to the client failed.
    pub fn client_gone(error: &io::Error) -> Self {
        Self::io(Token::ClientClosed, Side::Client, error)
    }

    /// Reading from or writing to the endpoint failed.
    pub fn endpoint_gone(error: &io::Error) -> Self {
        // Whether it likes our certificate, an endpoint often says only when the handshake is over (TLS 1.3).
        if let Some(fault) = client_fault::of_io(error) {
            return Self::tls(fault);
        }
        Self::io(Token::UpstreamReset, Side::Endpoint, error)
    }

    /// The TLS handshake with the endpoint failed.
    pub const fn tls(fault: TlsFault) -> Self {
        Self {
            detail: Some(fault.text()),
            tls: Some(fault),
            ..Self::new(Token::TlsFailed, Side::Endpoint)
        }
    }

    /// A deadline passed; `key` is where it is configured.
    pub const fn late(token: Token, side: Side, key: &'static str) -> Self {
        Self {
            timeout: Some(key),
            ..Self::new(token, side)
        }
    }

    /// What a client is told whom the upstream does not let in.
    pub fn turned_away(refused: Refused) -> Self {
        match refused {
            Refused::Open(left) => Self {
                retry_after: u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX),
                ..Self::new(Token::BreakerOpen, Side::Gateway)
            },
            Refused::Crowded => Self {
                detail: Some("breaker.max_requests of the upstream are running"),
                ..Self::new(Token::Overloaded, Side::Gateway)
            },
        }
    }

    /// The endpoint's drain has reached its deadline.
    pub const fn cut() -> Self {
        Self {
            detail: Some("the drain of the endpoint reached its deadline"),
            ..Self::new(Token::Draining, Side::Gateway)
        }
    }

    /// Whether it speaks against the endpoint.
    pub const fn blames_endpoint(&self) -> bool {
        matches!(self.side, Side::Endpoint) && !self.drill
    }

    pub const fn unsent(mut self) -> Self {
        self.unsent = true;
        self
    }
}

impl From<Reject> for ProxyError {
    fn from(reject: Reject) -> Self {
        Self::refused(reject)
    }
}

/// What the log says of an operating system's error.
fn io_detail(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    if let Some(error) = error.get_ref().and_then(|error| error.downcast_ref()) {
        return frames::detail(error);
    }
    match error.kind() {
        Kind::ConnectionRefused => "connection refused",
        Kind::ConnectionReset => "connection reset",
        Kind::ConnectionAborted => "connection aborted",
        Kind::BrokenPipe => "broken pipe",
        Kind::TimedOut => "no acknowledgement",
        Kind::HostUnreachable => "host unreachable",
        Kind::NetworkUnreachable => "network unreachable",
        Kind::AddrNotAvailable => "no local address or port left",
        Kind::NotFound => "no such socket",
        Kind::PermissionDenied => "permission denied",
        Kind::UnexpectedEof => "unexpected end",
        _ if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => "too many open files",
        _ => "input/output error",
    }
}
