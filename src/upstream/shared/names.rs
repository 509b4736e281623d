//! What names stand for: the last good answers, written by control, read when a snapshot is compiled.

use crate::config::model::DnsName;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One place that a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Not of the lowest priority value among a name's services (RFC 2782): used while no other can be.
    pub backup: bool,
    pub address: SocketAddr,
    pub weight: u32,
}

/// What became of a name.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The last good one, in the order to use them; `None` while there was none.
    pub places: Option<Arc<[Place]>>,
    /// Why the last look-up failed.
    pub error: Option<Arc<str>>,
}

/// All names that are in use with their answers.
#[derive(Debug, Default)]
pub struct Directory {
    answers: Mutex<HashMap<DnsName, Answer>>,
}

impl Directory {
    /// The answer for a name; `None` for one that has not been looked up yet.
    #[must_use]
    pub fn answer(&self, name: &DnsName) -> Option<Answer> {
        self.answers().get(name).cloned()
    }

    /// The places of a name, empty while none are known.
    #[must_use]
    pub fn places(&self, name: &DnsName) -> Arc<[Place]> {
        let places = self.answers().get(name).and_then(|answer| answer.places.clone());
        places.unwrap_or_default()
    }

    /// A look-up gave these. Whether they differ from those before.
    pub fn found(&self, name: &DnsName, places: &[Place]) -> bool {
        let mut answers = self.answers();
        let answer = answers.entry(name.clone()).or_default();
        answer.error = None;
        let changed = answer.places.as_deref() != Some(places);
        if changed {
            answer.places = Some(places.into());
        }
        changed
    }

    /// A look-up failed: the last good answer stays.
    pub fn failed(&self, name: &DnsName, error: &str) {
        self.answers().entry(name.clone()).or_default().error = Some(error.into());
    }

    /// Forgets the names that nobody uses any more.
    pub fn retain(&self, used: impl Fn(&DnsName) -> bool) {
        self.answers().retain(|name, _| used(name));
    }

    /// Whole after a panic too: an answer is written in one step.
    fn answers(&self) -> MutexGuard<'_, HashMap<DnsName, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> DnsName {
        DnsName::Host {
            host: "api".to_owned(),
            port: 80,
        }
    }

    fn place(address: &str) -> Place {
        Place {
            backup: false,
            address: address.parse().unwrap(),
            weight: 1,
        }
    }

    #[test]
    fn the_last_good_answer_outlives_failures() {
        let directory = Directory::default();
        assert!(directory.answer(&name()).is_none() && directory.places(&name()).is_empty());
        directory.failed(&name(), "nobody is there");
        assert!(directory.answer(&name()).unwrap().places.is_none());
        assert!(directory.found(&name(), &[place("10.0.0.1:80")]));
        assert!(!directory.found(&name(), &[place("10.0.0.1:80")]), "nothing new");
        directory.failed(&name(), "nobody is there");
        let answer = directory.answer(&name()).unwrap();
        assert_eq!(answer.error.as_deref(), Some("nobody is there"));
        assert_eq!(directory.places(&name()).len(), 1);
        assert!(directory.found(&name(), &[place("10.0.0.2:80")]));
        assert!(directory.answer(&name()).unwrap().error.is_none());
    }

    #[test]
    fn names_that_nobody_uses_are_forgotten() {
        let directory = Directory::default();
        directory.found(&name(), &[]);
        directory.retain(|_| false);
        assert!(directory.answer(&name()).is_none());
    }
}
