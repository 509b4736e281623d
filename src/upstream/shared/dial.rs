//! How connections to the endpoints of an upstream begin, as the configuration says it.

use crate::config::model::{ProxyVersion, Upstream};
use crate::net::proxy_protocol::Version;
use crate::upstream::conn::Dial;

/// What is the same for all connections of an upstream.
#[must_use]
pub fn of(upstream: &Upstream) -> Dial {
    Dial {
        announce: upstream.proxy_protocol.map(|version| match version {
            ProxyVersion::V1 => Version::V1,
            ProxyVersion::V2 => Version::V2,
        }),
    }
}
