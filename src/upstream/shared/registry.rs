//! All endpoints known to the process. What outlives a reload is found here again by its key.

use super::admission::Admission;
use super::standing::Health;
use super::state::{EndpointKey, EndpointState};
use super::sticky::own_key::OwnKey;
use super::sticky::sessions::Sessions;
use crate::base::clock::Millis;
use crate::upstream::conn::{Dial, Target};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Endpoint states by key. Weak: a refused configuration leaves nothing behind, and a removed endpoint goes
/// when its last request has ended.
#[derive(Debug, Default)]
pub struct Registry {
    endpoints: Mutex<HashMap<EndpointKey, Weak<EndpointState>>>,
    /// By the name of the upstream.
    admissions: Mutex<HashMap<Arc<str>, Weak<Admission>>>,
    /// By the name of the upstream: that in force, and those of snapshots that are not, or not any more.
    dials: Mutex<HashMap<Arc<str>, Vec<Weak<Dial>>>>,
    /// Learned ones, by the name of the upstream.
    sessions: Mutex<HashMap<Arc<str>, Weak<Sessions>>>,
    own_key: OwnKey,
}

impl Registry {
    /// The state of this endpoint, made when it is not known. `targets` is used for a new one only.
    pub fn endpoint(&self, key: EndpointKey, targets: impl FnOnce() -> Vec<Target>) -> Arc<EndpointState> {
        self.checked_endpoint(key, Health::Unchecked, targets)
    }

    /// The same for one that will be checked: a new one is presumed to be so, from its first moment on.
    pub fn checked_endpoint(
        &self,
        key: EndpointKey,
        presumed: Health,
        targets: impl FnOnce() -> Vec<Target>,
    ) -> Arc<EndpointState> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = endpoints.get(&key).and_then(Weak::upgrade) {
            return state;
        }
        endpoints.retain(|_, state| state.strong_count() > 0);
        let state = Arc::new(EndpointState::new(key.clone(), targets()).presumed(presumed));
        state.standing.came_in(Millis::now());
        endpoints.insert(key, Arc::downgrade(&state));
        state
    }

    /// The state of this endpoint, if something still holds it.
    #[must_use]
    pub fn known(&self, key: &EndpointKey) -> Option<Arc<EndpointState>> {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.get(key).and_then(Weak::upgrade)
    }

    /// What stands before this upstream, made when it is not known.
    pub fn admission(&self, upstream: &Arc<str>) -> Arc<Admission> {
        let mut admissions = self.admissions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(admission) = admissions.get(upstream).and_then(Weak::upgrade) {
            return admission;
        }
        admissions.retain(|_, admission| admission.strong_count() > 0);
        let admission = Arc::<Admission>::default();
        admissions.insert(upstream.clone(), Arc::downgrade(&admission));
        admission
    }

    /// One whose sticky cookies are signed with this key where the configuration names none.
    #[must_use]
    pub fn with_key(own_key: OwnKey) -> Self {
        Self {
            own_key,
            ..Self::default()
        }
    }

    #[must_use]
    pub const fn own_key(&self) -> &OwnKey {
        &self.own_key
    }

    /// The sessions that were learned for this upstream. Another bound begins with none.
    pub fn sessions(&self, upstream: &Arc<str>, most: usize) -> Arc<Sessions> {
        let mut all = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sessions) = all.get(upstream).and_then(Weak::upgrade)
            && sessions.most() == most
        {
            return sessions;
        }
        all.retain(|_, sessions| sessions.strong_count() > 0);
        let sessions = Arc::new(Sessions::new(most));
        all.insert(upstream.clone(), Arc::downgrade(&sessions));
        sessions
    }

    /// How connections of this upstream begin: the one that is known, if nothing about it has changed.
    pub fn dial(&self, upstream: &Arc<str>, wanted: Dial) -> Arc<Dial> {
        let mut dials = self.dials.lock().unwrap_or_else(PoisonError::into_inner);
        for known in dials.values_mut() {
            known.retain(|dial| dial.strong_count() > 0);
        }
        dials.retain(|_, known| !known.is_empty());
        let known = dials.entry(upstream.clone()).or_default();
        if let Some(same) = known
            .iter()
            .filter_map(Weak::upgrade)
            .find(|dial| **dial == wanted)
        {
            return same;
        }
        let dial = Arc::new(wanted);
        known.push(Arc::downgrade(&dial));
        dial
    }

    /// Every endpoint that something still holds, also those that left the configuration and are finishing.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<EndpointState>> {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.values().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::proxy_protocol::Version;

    fn key(address: &str) -> EndpointKey {
        EndpointKey {
            upstream: "api".into(),
            address: address.into(),
        }
    }

    #[test]
    fn an_endpoint_held_by_anyone_is_found_again() {
        let registry = Registry::default();
        let first = registry.endpoint(key("a:1"), Vec::new);
        first.request_started();
        assert!(Arc::ptr_eq(&first, &registry.endpoint(key("a:1"), Vec::new)));
    }

    #[test]
    fn presumptions_are_for_new_endpoints_only() {
        let registry = Registry::default();
        let known = registry.endpoint(key("a:1"), Vec::new);
        let same = registry.checked_endpoint(key("a:1"), Health::Unhealthy, Vec::new);
        assert!(Arc::ptr_eq(&known, &same));
        assert_eq!(known.standing.health(), Health::Unchecked);
        let new = registry.checked_endpoint(key("a:2"), Health::Pending, Vec::new);
        assert!(new.standing.awaits_verdict(Millis::now()));
    }

    #[test]
    fn connections_begin_the_same_way_until_that_changes() {
        let registry = Registry::default();
        let dial = |announce| {
            let dial = Dial {
                announce,
                ..Dial::default()
            };
            registry.dial(&"api".into(), dial)
        };
        let plain = dial(None);
        assert!(Arc::ptr_eq(&plain, &dial(None)));
        let announced = dial(Some(Version::V2));
        assert!(!Arc::ptr_eq(&plain, &announced));
        assert!(Arc::ptr_eq(&announced, &dial(Some(Version::V2))));
        assert!(
            Arc::ptr_eq(&plain, &dial(None)),
            "what was only tried changes nothing"
        );
        let other = registry.dial(&"other".into(), Dial::default());
        assert!(!Arc::ptr_eq(&plain, &other), "each upstream has its own");
    }

    #[test]
    fn an_endpoint_that_nobody_holds_is_forgotten() {
        let registry = Registry::default();
        drop(registry.endpoint(key("a:1"), Vec::new));
        let _other = registry.endpoint(key("a:2"), Vec::new);
        assert_eq!(registry.all().len(), 1);
        assert_eq!(registry.endpoints.lock().unwrap().len(), 1);
    }
}
