//! An upstream as compiled into the snapshot.

use super::balancer::ring::Ring;
use super::check::CheckPlan;
use super::resilience::Resilience;
use super::slow_start;
use super::standing::Standing;
use super::state::EndpointState;
use super::sticky::{By, StickyPlan};
use crate::base::clock::Millis;
use crate::config::choices::Choice;
use crate::config::model::{Balance, HashKey, Pool};
use crate::upstream::conn::Dial;
use rustls::pki_types::ServerName;
use std::sync::Arc;

/// One endpoint's place in an upstream.
#[derive(Clone, Debug)]
pub struct EndpointPlan {
    pub state: Arc<EndpointState>,
    /// 0: no new requests.
    pub weight: u32,
    /// Used only while no other endpoint can be.
    pub backup: bool,
    pub admin: AdminState,
    /// Requests and tunnels that it takes at the same time; 0: any number.
    pub max_connections: u32,
    /// What the endpoint sees as Host when the route says `host = "endpoint"`.
    pub authority: Arc<str>,
    /// What its certificate must have, where the configuration does not say; `None` where nobody knows.
    pub server_name: Option<ServerName<'static>>,
}

impl EndpointPlan {
    /// Whether it is meant to take new requests, however well it is.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.weight > 0 && self.admin == AdminState::Active
    }

    /// Whether one more request fits in.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.max_connections == 0 || self.state.load() < self.max_connections
    }
}

/// What an operator wants of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminState {
    #[default]
    Active,
    /// Nothing new; what runs is finished.
    Draining,
    /// Nothing new, and whatever becomes of it is no news.
    Maintenance,
}

/// One upstream.
#[derive(Clone, Debug)]
pub struct UpstreamPlan {
    pub name: Arc<str>,
    pub balance: Balance,
    pub hashing: Hashing,
    pub endpoints: Vec<EndpointPlan>,
    pub pool: Pool,
    /// `None`: each request is balanced by itself.
    pub sticky: Option<Arc<StickyPlan>>,
    /// How connections to the endpoints begin.
    pub dial: Arc<Dial>,
    /// `None`: endpoints are not probed.
    pub health: Option<Arc<CheckPlan>>,
    pub resilience: Resilience,
}

impl UpstreamPlan {
    /// The algorithm's name, as the configuration has it.
    #[must_use]
    pub fn balance_name(&self) -> &'static str {
        self.balance.name()
    }

    /// What a request is known by, where that decides who gets it.
    #[must_use]
    pub fn hash_key(&self) -> Option<&HashKey> {
        match self.balance {
            Balance::IpHash => Some(&HashKey::ClientIp),
            Balance::Hash => Some(&self.hashing.key),
            Balance::RoundRobin
            | Balance::Weighted
            | Balance::LeastConnections
            | Balance::RandomTwo
            | Balance::LeastTime
            | Balance::Adaptive
            | Balance::First => None,
        }
    }

    /// Whether the algorithm learns from how endpoints answer.
    #[must_use]
    pub const fn learns(&self) -> bool {
        matches!(self.balance, Balance::LeastTime | Balance::Adaptive)
    }

    /// The part of its weight that an endpoint has now: less than 1 while it starts slowly.
    #[must_use]
    pub fn part(&self, endpoint: &EndpointPlan, now: Millis) -> f64 {
        slow_start::part(
            endpoint.state.standing.in_since(),
            now,
            self.resilience.slow_start,
        )
    }

    /// Its weight as picks see it now.
    #[must_use]
    pub fn weight_now(&self, endpoint: &EndpointPlan, now: Millis) -> f64 {
        f64::from(endpoint.weight) * self.part(endpoint, now)
    }

    /// Whether requests go to endpoints that nobody vouches for. Not while the first verdict is waited for.
    #[must_use]
    pub fn fails_open(&self, now: Millis) -> bool {
        self.fallback(now) == Fallback::All && !self.awaits_verdict(now)
    }

    /// Who takes requests besides endpoints that are well.
    #[must_use]
    pub fn fallback(&self, now: Millis) -> Fallback {
        let mut fallback = Fallback::None;
        for endpoint in self.endpoints.iter().filter(|endpoint| endpoint.is_open()) {
            let standing = &endpoint.state.standing;
            if standing.is_good(now) {
                return Fallback::None;
            }
            if standing.is_held(now) {
                fallback = Fallback::Held;
            } else if fallback == Fallback::None {
                fallback = Fallback::All;
            }
        }
        fallback
    }

    /// Whether there is nobody to pick, and a first verdict that may change that is about to fall.
    #[must_use]
    pub fn awaits_verdict(&self, now: Millis) -> bool {
        if self.health.is_none() {
            return false;
        }
        let mut awaited = false;
        for endpoint in self.endpoints.iter().filter(|endpoint| endpoint.is_open()) {
            let standing = &endpoint.state.standing;
            if standing.is_good(now) || standing.is_held(now) {
                return false;
            }
            awaited |= standing.awaits_verdict(now);
        }
        awaited
    }
}

/// Who takes requests besides endpoints that are well, of those that are meant to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Nobody: some are well.
    None,
    /// None is; those that would be if they had not come and gone before.
    Held,
    /// Probes and traffic speak against all. Neither is heeded: a wrong verdict must not make an outage.
    All,
}

impl Fallback {
    /// Whether verdicts leave an endpoint for requests.
    #[must_use]
    pub fn admits(self, standing: &Standing, now: Millis) -> bool {
        standing.is_good(now)
            || match self {
                Self::None => false,
                Self::Held => standing.is_held(now),
                Self::All => true,
            }
    }
}

/// How keys find their endpoints.
#[derive(Clone, Debug, Default)]
pub struct Hashing {
    pub key: HashKey,
    /// Most that an endpoint may have, times its share of all that runs; 0: any number.
    pub bounded_load: f64,
    /// Of the primaries, and of the backups; without points where nothing is found by key.
    rings: [Ring; 2],
}

impl Hashing {
    #[must_use]
    pub fn new(
        balance: Balance,
        key: HashKey,
        bounded_load: f64,
        sticky: Option<&StickyPlan>,
        endpoints: &[EndpointPlan],
    ) -> Self {
        let by_key = matches!(balance, Balance::IpHash | Balance::Hash)
            || sticky.is_some_and(|sticky| matches!(sticky.by, By::Learn(_) | By::Hash(_)));
        let rings = if by_key {
            [false, true].map(|backup| Ring::new(endpoints, backup))
        } else {
            <[Ring; 2]>::default()
        };
        Self {
            key,
            bounded_load,
            rings,
        }
    }

    #[must_use]
    pub(super) fn ring(&self, backup: bool) -> &Ring {
        &self.rings[usize::from(backup)]
    }
}
