//! An endpoint as an exchange sees it: a connection of its own in HTTP/1.1, a stream of a shared one in HTTP/2.

use super::error::{ProxyError, Side};
use crate::message::token::Token;
use crate::upstream::conn::Conn;
use crate::upstream::conn::h2::{Call, Ended};

/// See the module's text.
#[derive(Debug)]
pub(super) enum Peer {
    H1(Box<Conn>),
    H2(Box<Call>),
}

impl Peer {
    /// Bytes that came from the endpoint: those of the connection, or the stream's.
    pub fn bytes_read(&self) -> u64 {
        match self {
            Self::H1(conn) => conn.wire.bytes_read,
            Self::H2(call) => call.bytes_read(),
        }
    }

    /// Bytes that went to the endpoint.
    pub fn bytes_written(&self) -> u64 {
        match self {
            Self::H1(conn) => conn.wire.bytes_written,
            Self::H2(call) => call.bytes_written(),
        }
    }
}

/// What it means for a request whose response has not begun that its stream ended.
pub(super) fn unanswered(ended: Ended) -> ProxyError {
    match ended {
        Ended::Unprocessed(detail) => ProxyError {
            detail: Some(detail),
            ..ProxyError::new(Token::UpstreamReset, Side::Endpoint).unsent()
        },
        Ended::Refused(detail) => ProxyError {
            detail: Some(detail),
            reset: true,
            ..ProxyError::new(Token::UpstreamReset, Side::Endpoint).unsent()
        },
        Ended::Reset(detail) => ProxyError {
            detail: Some(detail),
            reset: true,
            ..ProxyError::new(Token::UpstreamReset, Side::Endpoint)
        },
        Ended::Malformed => ProxyError::bad_response("the response breaks the rules of HTTP/2"),
        Ended::Broken(error) => ProxyError::endpoint_gone(&error),
    }
}
