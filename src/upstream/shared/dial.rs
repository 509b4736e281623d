//! How connections to the endpoints of an upstream begin, as the configuration says it.

use crate::config::diagnostic::Diagnostic;
use crate::config::model::{
    DiscoverFrom, DnsName, EndpointAddress, Http2Bounds, ProxyVersion, Upstream, UpstreamProtocol,
};
use crate::net::proxy_protocol::Version;
use crate::tls::client::{self, ClientTls};
use crate::upstream::conn::{ALPN_HTTP2, ALPN_HTTP11, Dial, Http2, Speaks};
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The dials of all upstreams, by name.
pub type Dials = BTreeMap<Arc<str>, Arc<Dial>>;

/// What is the same for all connections of an upstream. Files are read. `None`: something was found wrong, and told.
#[must_use]
pub fn load(name: &str, upstream: &Upstream, found: &mut Vec<Diagnostic>) -> Option<Dial> {
    let tls = match &upstream.tls {
        None => None,
        Some(tls) => {
            let key = format!("upstreams.{name}.tls");
            let discovered = upstream
                .discover
                .as_ref()
                .map(|discover| discover.from.to_string());
            let tls = ClientTls::load(tls, discovered, alpn(upstream.protocol), &key, found)?;
            if tls.is_verified() && !tls.names_all() && !every_endpoint_is_named(upstream, &key, found) {
                return None;
            }
            Some(Arc::new(tls))
        }
    };
    let announce = upstream.proxy_protocol.map(|version| match version {
        ProxyVersion::V1 => Version::V1,
        ProxyVersion::V2 => Version::V2,
    });
    let speaks = match (upstream.protocol, &tls) {
        (UpstreamProtocol::H2, _) => Speaks::Http2,
        (UpstreamProtocol::Auto, Some(_)) => Speaks::Either,
        (UpstreamProtocol::Auto, None) | (UpstreamProtocol::H1, _) => Speaks::Http1,
    };
    let apart = match speaks {
        Speaks::Either => Some(apart(name, upstream)?),
        Speaks::Http1 | Speaks::Http2 => None,
    };
    Some(Dial {
        announce,
        tls,
        speaks,
        apart,
        http2: match speaks {
            // What is not used makes no difference between connections.
            Speaks::Http1 => Http2::default(),
            Speaks::Http2 | Speaks::Either => http2(upstream.http2),
        },
    })
}

/// How connections begin that must be of HTTP/1.1. What is wrong with it was told before.
fn apart(name: &str, upstream: &Upstream) -> Option<Arc<Dial>> {
    let upstream = Upstream {
        protocol: UpstreamProtocol::H1,
        ..upstream.clone()
    };
    load(name, &upstream, &mut Vec::new()).map(Arc::new)
}

const fn alpn(protocol: UpstreamProtocol) -> &'static [&'static [u8]] {
    match protocol {
        UpstreamProtocol::H1 => &[ALPN_HTTP11],
        UpstreamProtocol::H2 => &[ALPN_HTTP2],
        UpstreamProtocol::Auto => &[ALPN_HTTP2, ALPN_HTTP11],
    }
}

const fn http2(bounds: Http2Bounds) -> Http2 {
    let Http2Bounds {
        streams,
        window,
        connection_window,
        send_buffer,
        frame_bytes,
        ping,
        ping_timeout,
    } = bounds;
    Http2 {
        streams,
        window,
        connection_window,
        send_buffer,
        frame_bytes,
        ping,
        ping_timeout,
    }
}

fn every_endpoint_is_named(upstream: &Upstream, key: &str, found: &mut Vec<Diagnostic>) -> bool {
    let nameless = upstream
        .endpoints
        .iter()
        .find(|endpoint| server_name(&endpoint.address).is_none());
    let nameless =
        nameless
            .map(|endpoint| endpoint.text.as_str())
            .or_else(|| match upstream.discover.as_ref()?.from {
                DiscoverFrom::Dns(DnsName::Host { .. }) => None,
                DiscoverFrom::Dns(DnsName::Service(_)) => Some("what SRV records name"),
                DiscoverFrom::Registry(_) => Some("what is registered"),
            });
    if let Some(what) = nameless {
        let message = format!("{what} has no name that a certificate could be held to");
        let told = Diagnostic::error(format!("{key}.server_name"), message);
        found.push(told.hint("write the name that the certificates have"));
    }
    nameless.is_none()
}

/// What the certificate of an endpoint at this address must have, where the configuration does not say.
#[must_use]
pub fn server_name(address: &EndpointAddress) -> Option<ServerName<'static>> {
    match address {
        EndpointAddress::Ip(address) => Some(ServerName::IpAddress(address.ip().into())),
        EndpointAddress::Name { host, .. } => client::server_name(host),
        EndpointAddress::Unix(_) => None,
    }
}

/// The same for an endpoint that was discovered: the name that led to it.
#[must_use]
pub fn discovered_name(upstream: &Upstream) -> Option<ServerName<'static>> {
    match &upstream.discover.as_ref()?.from {
        DiscoverFrom::Dns(DnsName::Host { host, .. }) => client::server_name(host),
        DiscoverFrom::Dns(DnsName::Service(_)) | DiscoverFrom::Registry(_) => None,
    }
}
