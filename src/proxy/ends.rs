//! Who is at the ends of a client's connection: as the kernel has it, or as a trusted proxy announces it by a PROXY
//! protocol header, where the listener expects one.

use super::client_ip::is_trusted;
use super::view::ListenerView;
use crate::net::proxy_protocol::{Header, HeaderFault, Tlv, Version, Violation, receive::receive};
use crate::net::transport::Transport;
use crate::snapshot::AcceptProxy;
use crate::telemetry::access::AnnouncedRecord;
use crate::telemetry::log::Every;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// Refused connections that are logged: one of each kind in this time.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Ends {
    /// `None` on unix sockets.
    pub client: Option<SocketAddr>,
    /// Where it connected to.
    pub server: Option<SocketAddr>,
    /// `None` where nobody announces.
    pub announced: Option<Rc<Announced>>,
}

/// What a proxy said of a connection.
#[derive(Debug)]
pub(super) struct Announced {
    pub header: Header,
    /// The proxy itself; `None` on unix sockets.
    pub peer: Option<SocketAddr>,
}

impl Ends {
    /// As the kernel has them. `None` when the connection is gone already.
    pub fn of(transport: &Transport, peer: Option<SocketAddr>) -> Option<Self> {
        let server = match transport {
            Transport::Unix(_) => None,
            Transport::Tcp(_) | Transport::Tls(_) => Some(transport.local_addr()?),
        };
        Some(Self {
            client: peer,
            server,
            announced: None,
        })
    }

    /// As the proxy announces them. `None` when the connection is to be closed; that is counted and told then.
    pub async fn announced(
        transport: &Transport,
        peer: Option<SocketAddr>,
        expected: &AcceptProxy,
        listener: &ListenerView,
    ) -> Option<Self> {
        let read = if is_trusted(&expected.trusted, ip_of(peer)) {
            receive(transport, expected.timeout).await
        } else {
            Err(Violation {
                kind: HeaderFault::Untrusted,
                rule: "only proxies of proxy_protocol.trusted connect here",
            })
        };
        match read {
            Ok(header) => Self::of(transport, peer).map(|ends| ends.told(header)),
            Err(violation) => {
                refused(listener, peer, violation);
                None
            }
        }
    }

    /// The same by what the proxy says, as far as it knows.
    fn told(self, header: Header) -> Self {
        let announced = Announced {
            header,
            peer: self.client,
        };
        let (client, server) = match announced.header.addresses() {
            Some(addresses) => (Some(addresses.source), Some(addresses.destination)),
            None => (self.client, self.server),
        };
        Self {
            client,
            server,
            announced: Some(Rc::new(announced)),
        }
    }

    /// The client's address.
    pub fn ip(&self) -> IpAddr {
        ip_of(self.client)
    }
}

impl Announced {
    /// For the access log.
    pub fn record(&self) -> AnnouncedRecord<'_> {
        let (header, tls) = (&self.header, self.header.tls());
        AnnouncedRecord {
            version: match header.version {
                Version::V1 => 1,
                Version::V2 => 2,
            },
            source: header.addresses().map(|addresses| addresses.source),
            destination: header.addresses().map(|addresses| addresses.destination),
            alpn: header.tlv(Tlv::ALPN),
            authority: header.tlv(Tlv::AUTHORITY),
            unique_id: header.tlv(Tlv::UNIQUE_ID),
            tls_version: tls.and_then(|tls| tls.version()),
            tls_common_name: tls.and_then(|tls| tls.common_name()),
            tls_cipher: tls.and_then(|tls| tls.cipher()),
        }
    }
}

/// The address of who connected; on unix sockets 127.0.0.1, because only this host can reach them.
fn ip_of(peer: Option<SocketAddr>) -> IpAddr {
    peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.ip().to_canonical())
}

fn refused(listener: &ListenerView, peer: Option<SocketAddr>, violation: Violation) {
    static TOLD: [Every; HeaderFault::ALL.len()] = [const { Every::new(LINE_EVERY) }; HeaderFault::ALL.len()];
    let Violation { kind, rule } = violation;
    listener.series.proxy_headers_refused.inc(kind);
    let (name, peer, fault) = (&*listener.plan.name, ip_of(peer), kind.name());
    if kind == HeaderFault::Empty {
        // Whoever only looks whether the port is open.
        tracing::debug!(listener = name, %peer, fault, rule, "closed a connection without a PROXY protocol header");
    } else if let Some(others) = TOLD[kind as usize].pass() {
        tracing::warn!(
            listener = name,
            %peer,
            fault,
            rule,
            "closed a connection for its PROXY protocol header{others}"
        );
    }
}
