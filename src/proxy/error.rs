//! Why an exchange failed: whose side, which token, whether another endpoint may be tried.

use crate::message::token::{Reject, Token};
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
    /// What exactly was wrong, for refused messages.
    pub detail: Option<&'static str>,
    /// Key of the deadline that passed.
    pub timeout: Option<&'static str>,
    /// The operating system's word.
    pub io: Option<io::ErrorKind>,
}

impl ProxyError {
    pub const fn new(token: Token, side: Side) -> Self {
        Self { token, side, unsent: false, detail: None, timeout: None, io: None }
    }

    /// The client's request cannot be taken.
    pub const fn refused(reject: Reject) -> Self {
        Self { detail: Some(reject.detail), ..Self::new(reject.token, Side::Client) }
    }

    /// The endpoint's answer cannot be taken.
    pub const fn bad_response(detail: &'static str) -> Self {
        Self { detail: Some(detail), ..Self::new(Token::BadResponse, Side::Endpoint) }
    }

    /// Reading from or writing to the client failed.
    pub fn client_gone(error: &io::Error) -> Self {
        Self { io: Some(error.kind()), ..Self::new(Token::ClientClosed, Side::Client) }
    }

    /// Reading from or writing to the endpoint failed.
    pub fn endpoint_gone(error: &io::Error) -> Self {
        Self { io: Some(error.kind()), ..Self::new(Token::UpstreamReset, Side::Endpoint) }
    }

    /// A deadline passed; `key` is where it is configured.
    pub const fn late(token: Token, side: Side, key: &'static str) -> Self {
        Self { timeout: Some(key), ..Self::new(token, side) }
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
