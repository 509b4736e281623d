//! From what name servers say to places: pure, so that every mixture of answers and failures can be tried.

use crate::upstream::shared::names::Place;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Why a look-up gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    #[error("there is no such name")]
    NoSuchName(Negative),
    #[error("the name has no address")]
    NoAddress(Negative),
    #[error("the name server answered {0}")]
    ServerFailed(String),
    #[error("no name server answered in time")]
    Timeout,
    #[error("{0}")]
    Failed(String),
}

/// How long the name's own servers want it to be believed that there is nothing (RFC 2308 section 5); `None` where they
/// do not say.
pub(super) type Negative = Option<Duration>;

impl LookupError {
    /// How long this holds, where somebody says so.
    pub(super) const fn ttl(&self) -> Option<Duration> {
        match self {
            Self::NoSuchName(ttl) | Self::NoAddress(ttl) => *ttl,
            Self::ServerFailed(_) | Self::Timeout | Self::Failed(_) => None,
        }
    }

    /// Whether the name's own servers said so. Anything else says nothing about the name.
    pub(super) const fn is_final(&self) -> bool {
        matches!(self, Self::NoSuchName(_) | Self::NoAddress(_))
    }
}

/// Addresses of hosts by their names.
pub(super) type Known = BTreeMap<String, Vec<IpAddr>>;

/// Records of one question, or of several put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Records<T> {
    pub list: Vec<T>,
    /// How long they hold.
    pub ttl: Duration,
}

/// One service record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub target: String,
}

/// The addresses of a host from the answers for both families. A family that nobody could tell keeps the
/// addresses it had `before`; one that has none by now loses them.
///
/// # Errors
/// Neither family has an answer.
pub(super) fn addresses(
    v4: Result<Records<IpAddr>, LookupError>,
    v6: Result<Records<IpAddr>, LookupError>,
    before: &[IpAddr],
) -> Result<Records<IpAddr>, LookupError> {
    let (v4_before, v6_before): (Vec<IpAddr>, Vec<IpAddr>) = before.iter().partition(|ip| ip.is_ipv4());
    let mut all: Option<Records<IpAddr>> = None;
    let mut kept = Vec::new();
    let mut error = None;
    for (answer, before) in [(v4, v4_before), (v6, v6_before)] {
        match answer {
            Ok(records) => {
                let all = all.get_or_insert(Records {
                    list: Vec::new(),
                    ttl: records.ttl,
                });
                all.ttl = all.ttl.min(records.ttl);
                all.list.extend(records.list.into_iter().filter(is_usable));
            }
            Err(failed) => {
                if !failed.is_final() {
                    kept.extend(before);
                }
                // What says nothing about the name tells more than its having no address of a family.
                if error.as_ref().is_none_or(LookupError::is_final) {
                    error = Some(failed);
                }
            }
        }
    }
    let Some(mut all) = all else {
        return Err(error.unwrap_or(LookupError::NoAddress(None)));
    };
    all.list.extend(kept);
    if all.list.is_empty() {
        return Err(LookupError::NoAddress(None));
    }
    Ok(all)
}

/// Whether something can be connected to there. The unspecified address would be this host itself.
pub(super) fn is_usable(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || broadcast)
}

/// A host's addresses as places, in the order of the addresses, so that the same answer is always the same.
pub(super) fn host_places(addresses: &[IpAddr], port: u16) -> Vec<Place> {
    let place = |ip: &IpAddr| Place {
        backup: false,
        address: SocketAddr::new(*ip, port),
        weight: 1,
    };
    in_order(addresses.iter().map(place).collect())
}

/// The places of services: the lowest priority value comes first, all others are backups. A weight of 0 is "very
/// seldom" (RFC 2782), which is 1 here.
pub(super) fn service_places(services: &[Service], known: &Known) -> Vec<Place> {
    let first = services.iter().map(|service| service.priority).min();
    let mut places = Vec::new();
    for service in services.iter().filter(|service| service.port != 0) {
        for ip in known.get(&service.target).into_iter().flatten() {
            places.push(Place {
                backup: Some(service.priority) != first,
                address: SocketAddr::new(*ip, service.port),
                weight: u32::from(service.weight.max(1)),
            });
        }
    }
    in_order(places)
}

/// Sorted, each address once: where it comes first.
fn in_order(mut places: Vec<Place>) -> Vec<Place> {
    places.sort_unstable();
    let mut seen = std::collections::HashSet::new();
    places.retain(|place| seen.insert(place.address));
    places
}

/// How long an answer is kept: what it asks for within the limits, a little less by `early` (0–1), so that many
/// gateways that started together do not ask together for ever.
pub(super) fn keep(ttl: Duration, min: Duration, max: Duration, early: f64) -> Duration {
    let kept = ttl.clamp(min.min(max), max);
    kept.mul_f64(1.0 - early.clamp(0.0, 1.0) * SPREAD)
        .max(min.min(max))
}

/// Share of an answer's life by which it may be asked for again early.
const SPREAD: f64 = 0.1;

#[cfg(test)]
mod tests;
