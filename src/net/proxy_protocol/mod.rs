//! The PROXY protocol, versions 1 and 2: how a proxy in front of us says for whom it connects, and how we say it to
//! endpoints (HAProxy's `doc/proxy-protocol.txt`).
//!
//! [`parse`] is pure and takes the bytes as far as they have come; [`receive`] reads exactly the header from a
//! connection and not a byte beyond it, so that whatever follows, TLS or a request, finds the stream as if there had
//! been none.

mod crc32c;
pub mod receive;
mod tlv;
mod v1;
mod v2;

pub use crate::telemetry::metrics::HeaderFault;
pub use tlv::{Tls, Tlv};

use std::net::{IpAddr, SocketAddr};

/// Longest header of either version. Version 1 has 107 bytes at most; version 2 is bounded here, as nginx does it.
pub const MAX_HEADER: usize = 4096;

/// Which of the two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// A line of text.
    V1,
    V2,
}

/// The two ends of a client's connection, as a proxy saw them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

/// For whom a proxy connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// For itself, as in a health check.
    Local,
    /// For somebody whose address it does not know, or of a kind that no connection has.
    Unknown,
    /// For somebody on the proxy's own host, who connected from this path (often empty).
    Unix(Box<[u8]>),
    Inet(Addresses),
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub version: Version,
    pub origin: Origin,
    /// What else is told, checked and as received; empty in version 1.
    tlvs: Box<[u8]>,
}

impl Header {
    /// The addresses, where the proxy told them.
    #[must_use]
    pub const fn addresses(&self) -> Option<&Addresses> {
        match &self.origin {
            Origin::Inet(addresses) => Some(addresses),
            Origin::Local | Origin::Unknown | Origin::Unix(_) => None,
        }
    }

    /// The first value of this kind.
    #[must_use]
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        tlv::each(&self.tlvs)
            .flatten()
            .find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// What the proxy says of the TLS that the client spoke to it, if it says that it did.
    #[must_use]
    pub fn tls(&self) -> Option<Tls<'_>> {
        Tls::read(self.tlv(Tlv::SSL)?).filter(Tls::is_spoken)
    }
}

/// Why a header cannot be taken: the kind that is counted, and the rule that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    pub kind: HeaderFault,
    pub rule: &'static str,
}

impl Violation {
    const fn new(kind: HeaderFault, rule: &'static str) -> Self {
        Self { kind, rule }
    }

    const fn malformed(rule: &'static str) -> Self {
        Self::new(HeaderFault::Malformed, rule)
    }
}

/// What bytes from the beginning of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A header of this many bytes.
    Complete(Header, usize),
    /// The beginning of a header; all of these bytes belong to it.
    Partial,
    Refused(Violation),
}

/// Reads a header of either version.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    let begins = |signature: &[u8]| {
        let common = signature.len().min(bytes.len());
        bytes[..common] == signature[..common]
    };
    if begins(v1::SIGNATURE) {
        v1::parse(bytes)
    } else if begins(v2::SIGNATURE) {
        v2::parse(bytes)
    } else {
        let rule = "the connection does not begin with a PROXY protocol header";
        Parsed::Refused(Violation::new(HeaderFault::Missing, rule))
    }
}

/// Writes the header of a connection that carries the requests of a client; `None` where its addresses are not known,
/// as on unix sockets.
pub fn write(version: Version, client: Option<&Addresses>, out: &mut Vec<u8>) {
    let client = client.map(|client| client.in_one_family());
    match version {
        Version::V1 => v1::write(client.as_ref(), out),
        Version::V2 => v2::write(client.as_ref(), out),
    }
}

/// Writes the header of a connection that we make for ourselves.
pub fn write_local(version: Version, out: &mut Vec<u8>) {
    match version {
        Version::V1 => v1::write(None, out),
        Version::V2 => v2::write_local(out),
    }
}

impl Addresses {
    /// The same with both addresses in the family of which a header can have only one: IPv4 if both are, or else IPv6.
    fn in_one_family(&self) -> Self {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let (source, destination) = (canonical(self.source), canonical(self.destination));
        if source.is_ipv4() == destination.is_ipv4() {
            return Self { source, destination };
        }
        let mapped = |address: SocketAddr| match address.ip() {
            IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
            IpAddr::V6(_) => address,
        };
        Self {
            source: mapped(source),
            destination: mapped(destination),
        }
    }
}

#[cfg(test)]
mod tests;
