//! Sticky sessions: which endpoint a client comes back to.
//!
//! | by | who remembers | what a request without it does |
//! |---|---|---|
//! | `cookie` | the client, in a signed cookie of the gateway's own ([`value`]) | is balanced, and told its place |
//! | `learn` | the process, which has seen the application name the session ([`sessions`]) | is balanced |
//! | `hash` | nobody: the key's place on the ring says it ([`super::balancer::ring`]) | is balanced |
//!
//! An endpoint that takes no new sessions, because it drains or because its weight is 0, keeps those that it has. One
//! that cannot be used loses them, or they are refused: that is `on_missing`.

pub mod own_key;
pub mod sessions;
pub mod value;

use super::balancer::ring;
use super::plan::{AdminState, EndpointPlan, Fallback};
use crate::base::clock::{Millis, calendar};
pub use crate::config::model::{HashKey, OnMissing, SessionName};
use crate::config::model::{SameSite, Secure, Sticky as Written, StickyBy, StickyCookie};
use sessions::{Session, Sessions};
use std::sync::Arc;
use std::time::Duration;
use value::{EndpointId, Key, Unfit};

/// How an upstream keeps sessions at their endpoints.
#[derive(Clone, Debug)]
pub struct StickyPlan {
    pub by: By,
    pub on_missing: OnMissing,
}

/// What a session is known by.
#[derive(Clone, Debug)]
pub enum By {
    Cookie(CookiePlan),
    Learn(LearnPlan),
    Hash(HashKey),
}

impl StickyPlan {
    /// As written, for these endpoints. `keys` are those of the cookie, the one that signs first.
    #[must_use]
    pub fn new(
        written: &Written,
        keys: Vec<Key>,
        sessions: impl FnOnce(usize) -> Arc<Sessions>,
        endpoints: &[EndpointPlan],
    ) -> Self {
        let by = match &written.by {
            StickyBy::Cookie(cookie) => By::Cookie(CookiePlan::new(cookie, keys, endpoints)),
            StickyBy::Learn(learn) => By::Learn(LearnPlan {
                name: learn.name.clone(),
                sessions: sessions(learn.max_sessions),
                idle: seconds(learn.idle),
                endpoints: Places::new(endpoints, |endpoint| {
                    ring::hash(endpoint.state.key.address.as_bytes())
                }),
            }),
            StickyBy::Hash(key) => By::Hash(key.clone()),
        };
        Self {
            by,
            on_missing: written.on_missing,
        }
    }

    /// Whether cookies are signed, and honoured, under the same keys.
    #[must_use]
    pub fn signs_like(&self, other: &Self) -> bool {
        match (&self.by, &other.by) {
            (By::Cookie(own), By::Cookie(other)) => {
                own.keys.len() == other.keys.len()
                    && own.keys.iter().zip(&other.keys).all(|(own, other)| own.is(other))
            }
            (By::Cookie(_), _) | (_, By::Cookie(_)) => false,
            (By::Learn(_) | By::Hash(_), By::Learn(_) | By::Hash(_)) => true,
        }
    }

    /// Whether a session may belong to an endpoint that takes no new ones.
    #[must_use]
    pub const fn remembers(&self) -> bool {
        matches!(self.by, By::Cookie(_) | By::Learn(_))
    }

    /// What a session is known by, as the configuration has it.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.by {
            By::Cookie(cookie) => format!("cookie {}", cookie.name),
            By::Learn(learn) => format!("learn {}", learn.name),
            By::Hash(key) => format!("hash {key}"),
        }
    }
}

/// Endpoints by what stands for them.
#[derive(Clone, Debug)]
struct Places<T>(Box<[(T, u32)]>);

impl<T: Ord + Copy> Places<T> {
    fn new(endpoints: &[EndpointPlan], stands_for: impl Fn(&EndpointPlan) -> T) -> Self {
        let mut places: Vec<_> = endpoints
            .iter()
            .enumerate()
            .map(|(index, endpoint)| (stands_for(endpoint), index as u32))
            .collect();
        places.sort_unstable();
        Self(places.into())
    }

    fn find(&self, sought: T) -> Option<usize> {
        let at = self.0.binary_search_by_key(&sought, |(id, _)| *id).ok()?;
        Some(self.0[at].1 as usize)
    }
}

/// The gateway's own cookie.
#[derive(Clone, Debug)]
pub struct CookiePlan {
    pub name: Box<str>,
    /// The one that signs first.
    keys: Box<[Key]>,
    /// For each key.
    places: Box<[Places<EndpointId>]>,
    /// What stands for each endpoint under the first key.
    ids: Box<[EndpointId]>,
    /// Seconds for which a value is good; 0: for as long as the client keeps it.
    ttl: u32,
    /// What follows the value, in the clear and over TLS.
    attributes: [Box<[u8]>; 2],
    /// Whether shared caches are told to keep no answer that the cookie comes with.
    pub private: bool,
}

/// What a cookie says that a request came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The session's endpoint; `None`: it is not one of the upstream's any more.
    pub endpoint: Option<usize>,
    /// The value should be made anew: it is signed with an older key, or half of its time is over.
    pub stale: bool,
}

impl CookiePlan {
    fn new(written: &StickyCookie, keys: Vec<Key>, endpoints: &[EndpointPlan]) -> Self {
        let address = |endpoint: &EndpointPlan| Arc::clone(&endpoint.state.key.address);
        let places = keys
            .iter()
            .map(|key| Places::new(endpoints, |endpoint| key.endpoint(&address(endpoint))))
            .collect();
        let ids = keys
            .first()
            .map(|key| {
                endpoints
                    .iter()
                    .map(|endpoint| key.endpoint(&address(endpoint)))
                    .collect()
            })
            .unwrap_or_default();
        Self {
            name: written.name.as_str().into(),
            keys: keys.into(),
            places,
            ids,
            ttl: seconds(written.ttl),
            attributes: [false, true].map(|https| attributes(written, https).into_bytes().into()),
            private: written.private,
        }
    }

    /// Reads the value of a cookie.
    ///
    /// # Errors
    /// Why it says nothing.
    pub fn read(&self, value: &[u8], now: u32) -> Result<Held, Unfit> {
        let claim = value::read(&self.keys, value, now, self.ttl)?;
        Ok(Held {
            endpoint: self.places[claim.key].find(claim.endpoint),
            stale: claim.key > 0 || self.ttl > 0 && claim.age >= self.ttl / 2,
        })
    }

    /// Appends the value of a Set-Cookie field that names an endpoint, by its index, as the session's.
    pub fn write(&self, endpoint: usize, https: bool, now: u32, out: &mut Vec<u8>) {
        let (Some(key), Some(id)) = (self.keys.first(), self.ids.get(endpoint)) else {
            return;
        };
        out.extend_from_slice(self.name.as_bytes());
        out.push(b'=');
        key.make(*id, now, out);
        out.extend_from_slice(&self.attributes[usize::from(https)]);
    }

    /// Whether a Set-Cookie field of an endpoint is of our name.
    #[must_use]
    pub fn is_named_by(&self, set_cookie: &[u8]) -> bool {
        let name = set_cookie
            .split(|b| matches!(b, b'=' | b';'))
            .next()
            .unwrap_or_default();
        name.trim_ascii() == self.name.as_bytes()
    }
}

/// What follows the value of the cookie (RFC 6265 section 4.1; SameSite and Partitioned as browsers have them).
fn attributes(written: &StickyCookie, https: bool) -> String {
    let mut text = format!("; Path={}", written.path);
    if let Some(domain) = &written.domain {
        text.push_str("; Domain=");
        text.push_str(domain);
    }
    if !written.ttl.is_zero() {
        text.push_str(&format!("; Max-Age={}", seconds(written.ttl)));
    }
    if written.http_only {
        text.push_str("; HttpOnly");
    }
    // Browsers drop what is to go to other sites and is not Secure.
    let must = written.same_site == SameSite::None || written.partitioned;
    let secure = match written.secure {
        Secure::Auto => https || must,
        Secure::Always => true,
        Secure::Never => false,
    };
    if secure {
        text.push_str("; Secure");
    }
    text.push_str(match written.same_site {
        SameSite::Lax => "; SameSite=Lax",
        SameSite::Strict => "; SameSite=Strict",
        SameSite::None => "; SameSite=None",
        SameSite::Off => "",
    });
    if written.partitioned {
        text.push_str("; Partitioned");
    }
    text
}

/// Sessions that the application names.
#[derive(Clone, Debug)]
pub struct LearnPlan {
    pub name: SessionName,
    pub sessions: Arc<Sessions>,
    /// Seconds without use after which one is forgotten; 0: never.
    idle: u32,
    endpoints: Places<u64>,
}

impl LearnPlan {
    /// A session that was learned: its endpoint, or that this is not one of the upstream's any more. `None`: it is not
    /// known. With `use_it` its time begins anew.
    #[must_use]
    pub fn find(&self, session: Session, now: Millis, use_it: bool) -> Option<Option<usize>> {
        let now = process_seconds(now);
        let endpoint = match use_it {
            true => self.sessions.find(session, now, self.idle),
            false => self.sessions.peek(session, now, self.idle),
        };
        Some(self.endpoints.find(endpoint?))
    }

    /// A session belongs to an endpoint.
    pub fn learn(&self, session: Session, endpoint: &EndpointPlan, now: Millis) {
        let address = ring::hash(endpoint.state.key.address.as_bytes());
        self.sessions.learn(session, address, process_seconds(now));
    }
}

/// Why a session's endpoint cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It left the configuration, is in maintenance, or its drain is over.
    Gone,
    /// Its checks fail, or it was ejected.
    Unwell,
    /// It has its `max_connections`.
    Full,
}

/// Whether an endpoint keeps the sessions that it has. Room is another question. `fallback` counts as for
/// any pick.
///
/// # Errors
/// Why not.
pub fn keeps(
    endpoint: &EndpointPlan,
    fallback: impl FnOnce() -> Fallback,
    now: Millis,
) -> Result<(), Missing> {
    let standing = &endpoint.state.standing;
    let is_there = match endpoint.admin {
        AdminState::Active => true,
        AdminState::Draining => !standing.is_cut(),
        AdminState::Maintenance => false,
    };
    if !is_there {
        return Err(Missing::Gone);
    }
    if standing.is_good(now) || fallback().admits(standing, now) {
        Ok(())
    } else {
        Err(Missing::Unwell)
    }
}

/// Seconds of Unix time, as values count them: other gateways read them too.
#[must_use]
pub fn unix_now() -> u32 {
    u32::try_from(calendar().as_second()).unwrap_or(0)
}

fn process_seconds(now: Millis) -> u32 {
    u32::try_from(now.0 / 1000).unwrap_or(u32::MAX)
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
