//! What operators changed while the gateway ran: laid over the file's values when a snapshot is compiled, so that
//! the request path reads one immutable plan and knows nothing of it.

use super::plan::AdminState;
use super::state::EndpointKey;
use crate::config::model::{Balance, HashKey, Upstream};
use jiff::Timestamp;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Values that may be overridden at a time. An operator's hand makes dozens; a script gone wild is stopped here.
pub const MAX_OVERRIDES: usize = 10_000;

impl AdminState {
    /// The words for it, as the API takes and shows them.
    pub const NAMES: [&'static str; 3] = ["active", "draining", "maintenance"];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Maintenance => "maintenance",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::Draining, Self::Maintenance]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// A value in place of the file's, with who said so, when, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override<T> {
    pub value: T,
    pub by: String,
    /// The gateway that it was said to; `None`: nobody wrote it down.
    pub node: Option<String>,
    pub since: Timestamp,
    pub reason: Option<String>,
    /// When it is taken back by itself; `None`: never.
    pub until: Option<Timestamp>,
}

/// An endpoint that is to have nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    /// [`AdminState::Draining`] or [`AdminState::Maintenance`].
    pub state: AdminState,
    /// When what still runs there is cut; `None`: never.
    pub deadline: Option<Timestamp>,
}

/// How an upstream is to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Algorithm {
    pub balance: Balance,
    /// What `hash` knows requests by; `None`: what the file says.
    pub key: Option<HashKey>,
}

/// When endpoints are taken for failed, and what is done about it. `None`: what the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// `health.timeout`.
    pub detection_timeout: Option<Duration>,
    /// `health.fall` and `health.rise`.
    pub fall: Option<u32>,
    pub rise: Option<u32>,
    /// `outlier.consecutive_failures`, `outlier.error_rate` and `outlier.eject`.
    pub consecutive_failures: Option<u32>,
    pub error_rate: Option<f64>,
    pub recovery_timeout: Option<Duration>,
    /// `retry.attempts`.
    pub max_attempts: Option<u32>,
}

impl Thresholds {
    fn lay_over(&self, upstream: &mut Upstream) {
        if let Some(health) = &mut upstream.health {
            put(self.detection_timeout, &mut health.timeout);
            put(self.fall, &mut health.fall);
            put(self.rise, &mut health.rise);
        }
        let outlier = &mut upstream.outlier;
        put(self.consecutive_failures, &mut outlier.consecutive_failures);
        put(self.error_rate, &mut outlier.error_rate);
        put(self.recovery_timeout, &mut outlier.eject);
        put(self.max_attempts, &mut upstream.retry.attempts);
    }
}

fn put<T>(told: Option<T>, value: &mut T) {
    if let Some(told) = told {
        *value = told;
    }
}

/// What differs from the file at one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointOverride {
    pub leave: Option<Override<Leave>>,
    pub weight: Option<Override<u32>>,
}

impl EndpointOverride {
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.leave.is_none() && self.weight.is_none()
    }

    #[must_use]
    pub fn admin(&self) -> AdminState {
        self.leave
            .as_ref()
            .map_or(AdminState::Active, |leave| leave.value.state)
    }
}

/// Everything that differs from the file. What names an upstream or endpoint that the file does not have sleeps
/// until the file has it again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    endpoints: BTreeMap<EndpointKey, EndpointOverride>,
    balances: BTreeMap<Arc<str>, Override<Algorithm>>,
    thresholds: BTreeMap<Arc<str>, Override<Thresholds>>,
}

impl Overrides {
    #[must_use]
    pub fn len(&self) -> usize {
        self.endpoints.len() + self.balances.len() + self.thresholds.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[must_use]
    pub fn endpoint(&self, key: &EndpointKey) -> Option<&EndpointOverride> {
        self.endpoints.get(key)
    }

    #[must_use]
    pub fn balance(&self, upstream: &str) -> Option<&Override<Algorithm>> {
        self.balances.get(upstream)
    }

    #[must_use]
    pub fn thresholds(&self, upstream: &str) -> Option<&Override<Thresholds>> {
        self.thresholds.get(upstream)
    }

    pub fn all_thresholds(&self) -> impl Iterator<Item = (&Arc<str>, &Override<Thresholds>)> {
        self.thresholds.iter()
    }

    pub fn endpoints(&self) -> impl Iterator<Item = (&EndpointKey, &EndpointOverride)> {
        self.endpoints.iter()
    }

    pub fn balances(&self) -> impl Iterator<Item = (&Arc<str>, &Override<Algorithm>)> {
        self.balances.iter()
    }

    /// Puts this in the place of what is known of the endpoint; an empty one goes back to the file.
    pub fn set_endpoint(&mut self, key: EndpointKey, value: EndpointOverride) {
        if value.is_empty() {
            self.endpoints.remove(&key);
        } else {
            self.endpoints.insert(key, value);
        }
    }

    /// `None` goes back to the file.
    pub fn set_balance(&mut self, upstream: Arc<str>, value: Option<Override<Algorithm>>) {
        match value {
            Some(value) => drop(self.balances.insert(upstream, value)),
            None => drop(self.balances.remove(&upstream)),
        }
    }

    /// Puts these in the place of what is known of the upstream; where none is told it goes back to the file.
    pub fn set_thresholds(&mut self, upstream: Arc<str>, value: Override<Thresholds>) {
        if value.value == Thresholds::default() {
            self.thresholds.remove(&upstream);
        } else {
            self.thresholds.insert(upstream, value);
        }
    }

    pub fn remove_thresholds(&mut self, upstream: &str) {
        self.thresholds.remove(upstream);
    }

    /// The weight of an endpoint, where the file says this one.
    #[must_use]
    pub fn weight_of(&self, key: &EndpointKey, written: u32) -> u32 {
        let told = self.endpoint(key).and_then(|told| told.weight.as_ref());
        told.map_or(written, |told| told.value)
    }

    #[must_use]
    pub fn admin_of(&self, key: &EndpointKey) -> AdminState {
        self.endpoint(key)
            .map_or(AdminState::Active, EndpointOverride::admin)
    }

    /// An upstream as the file says, but for what was changed of it as a whole.
    #[must_use]
    pub fn over<'a>(&self, name: &str, written: &'a Upstream) -> Cow<'a, Upstream> {
        let (algorithm, thresholds) = (self.balance(name), self.thresholds(name));
        if algorithm.is_none() && thresholds.is_none() {
            return Cow::Borrowed(written);
        }
        let mut upstream = written.clone();
        if let Some(told) = algorithm {
            upstream.balance = told.value.balance;
            put(told.value.key.clone(), &mut upstream.key);
        }
        if let Some(told) = thresholds {
            told.value.lay_over(&mut upstream);
        }
        Cow::Owned(upstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load_text};

    fn key(address: &str) -> EndpointKey {
        EndpointKey {
            upstream: "app".into(),
            address: address.into(),
        }
    }

    const LEAST: Algorithm = Algorithm {
        balance: Balance::LeastConnections,
        key: None,
    };

    fn said<T>(value: T) -> Override<T> {
        Override {
            value,
            by: "token ops".to_owned(),
            node: None,
            since: Timestamp::UNIX_EPOCH,
            reason: None,
            until: None,
        }
    }

    #[test]
    fn what_is_not_overridden_is_as_the_file_says() {
        let none = Overrides::default();
        assert_eq!(none.weight_of(&key("a:1"), 3), 3);
        assert_eq!(none.admin_of(&key("a:1")), AdminState::Active);
    }

    #[test]
    fn an_override_is_of_one_endpoint_of_one_upstream() {
        let mut overrides = Overrides::default();
        let weight = EndpointOverride {
            weight: Some(said(0)),
            leave: None,
        };
        overrides.set_endpoint(key("a:1"), weight);
        assert_eq!(overrides.weight_of(&key("a:1"), 3), 0);
        assert_eq!(overrides.weight_of(&key("a:2"), 3), 3);
        let elsewhere = EndpointKey {
            upstream: "other".into(),
            address: "a:1".into(),
        };
        assert_eq!(overrides.weight_of(&elsewhere, 3), 3);
    }

    #[test]
    fn an_empty_override_is_none() {
        let mut overrides = Overrides::default();
        let leave = Leave {
            state: AdminState::Draining,
            deadline: None,
        };
        let draining = EndpointOverride {
            leave: Some(said(leave)),
            weight: None,
        };
        overrides.set_endpoint(key("a:1"), draining);
        overrides.set_balance("app".into(), Some(said(LEAST)));
        assert_eq!(
            (overrides.len(), overrides.admin_of(&key("a:1"))),
            (2, AdminState::Draining)
        );
        overrides.set_endpoint(key("a:1"), EndpointOverride::default());
        overrides.set_balance("app".into(), None);
        assert!(overrides.is_empty());
    }

    #[test]
    fn an_algorithm_brings_its_key_or_takes_the_files() {
        let text = "[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\nupstream = \"app\"\n\
                    [upstreams.app]\nkey = \"uri\"\nendpoints = [\"a:1\"]\n";
        let config = load_text("test", text, &Environment::default()).unwrap().config;
        let written = &config.upstreams["app"];
        let mut overrides = Overrides::default();
        assert_eq!(*overrides.over("app", written), *written);
        for (key, expected) in [(None, HashKey::Uri), (Some(HashKey::ClientIp), HashKey::ClientIp)] {
            let hash = Algorithm {
                balance: Balance::Hash,
                key,
            };
            overrides.set_balance("app".into(), Some(said(hash)));
            let over = overrides.over("app", written);
            assert_eq!((over.balance, &over.key), (Balance::Hash, &expected));
            assert_eq!(over.endpoints, written.endpoints);
        }
        assert_eq!(*overrides.over("other", written), *written);
    }

    #[test]
    fn thresholds_that_are_not_told_are_the_files() {
        let text = "[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\nupstream = \"app\"\n\
                    [upstreams.app]\nhealth = { fall = 9 }\nendpoints = [\"a:1\"]\n";
        let config = load_text("test", text, &Environment::default()).unwrap().config;
        let written = &config.upstreams["app"];
        let thresholds = Thresholds {
            rise: Some(7),
            max_attempts: Some(1),
            recovery_timeout: Some(Duration::from_secs(90)),
            ..Thresholds::default()
        };
        let mut overrides = Overrides::default();
        overrides.set_thresholds("app".into(), said(thresholds));
        let over = overrides.over("app", written).into_owned();
        let health = over.health.unwrap();
        assert_eq!((health.rise, health.fall, over.retry.attempts), (7, 9, 1));
        assert_eq!(over.outlier.eject, Duration::from_secs(90));
        assert_eq!(over.outlier.error_rate, written.outlier.error_rate);
        overrides.set_thresholds("app".into(), said(Thresholds::default()));
        assert!(overrides.is_empty());
    }

    #[test]
    fn every_state_has_its_word() {
        for name in AdminState::NAMES {
            assert_eq!(AdminState::from_name(name).map(AdminState::name), Some(name));
        }
        assert_eq!(AdminState::from_name("gone"), None);
    }
}
