//! An upstream as compiled into the snapshot.

use super::check::CheckPlan;
use super::state::EndpointState;
use crate::base::clock::Millis;
use crate::config::choices::Choice;
use crate::config::model::{Balance, Pool};
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
    /// What the endpoint sees as Host when the route says `host = "endpoint"`.
    pub authority: Arc<str>,
}

impl EndpointPlan {
    /// Whether it is meant to take new requests, however well it is.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.weight > 0 && self.admin == AdminState::Active
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
    pub endpoints: Vec<EndpointPlan>,
    pub pool: Pool,
    /// `None`: endpoints are not probed.
    pub health: Option<Arc<CheckPlan>>,
}

impl UpstreamPlan {
    /// The algorithm's name, as the configuration has it.
    #[must_use]
    pub fn balance_name(&self) -> &'static str {
        self.balance.name()
    }

    /// Whether probes and traffic speak against every endpoint that is meant to take requests. Then they are not
    /// heeded: a wrong verdict must not make an outage.
    #[must_use]
    pub fn fails_open(&self, now: Millis) -> bool {
        let mut open = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.is_open())
            .peekable();
        open.peek().is_some() && open.all(|endpoint| !endpoint.state.standing.is_good(now))
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
            if standing.is_good(now) {
                return false;
            }
            awaited |= standing.awaits_verdict(now);
        }
        awaited
    }
}
