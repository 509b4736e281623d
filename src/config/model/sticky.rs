//! Sessions that stay at their endpoints.

use super::{HashKey, Secret};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub struct Sticky {
    pub by: StickyBy,
    pub on_missing: OnMissing,
}

/// What a session is known by.
#[derive(Clone, Debug, PartialEq)]
pub enum StickyBy {
    Cookie(StickyCookie),
    Learn(Learn),
    Hash(HashKey),
}

/// What becomes of a session whose endpoint can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMissing {
    /// It goes to another one, and stays there.
    Rebalance,
    /// Its requests are refused.
    Reject,
}

/// A cookie that the gateway sets.
#[derive(Clone, Debug, PartialEq)]
pub struct StickyCookie {
    pub name: String,
    /// How long it is good; zero: while the client keeps it.
    pub ttl: Duration,
    /// The first signs, all are good; empty: the one of the state directory.
    pub keys: Vec<Secret>,
    pub path: String,
    pub domain: Option<String>,
    pub secure: Secure,
    pub http_only: bool,
    pub same_site: SameSite,
    pub partitioned: bool,
    /// Answers that it comes with are not for shared caches.
    pub private: bool,
}

/// Whether a cookie is for HTTPS only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// Where the client came by HTTPS.
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    Lax,
    Strict,
    None,
    /// The attribute is left out.
    Off,
}

/// Sessions that the application names.
#[derive(Clone, Debug, PartialEq)]
pub struct Learn {
    pub name: SessionName,
    pub max_sessions: usize,
    /// Time without a request after which one is forgotten; zero: none is for that.
    pub idle: Duration,
}

/// Where the application names a session, in requests and responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionName {
    Cookie(String),
    Header(String),
}

impl std::fmt::Display for SessionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}
