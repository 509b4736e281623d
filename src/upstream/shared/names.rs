//! What names stand for: the last good answers, written by control, read when a snapshot is compiled.

use crate::config::model::{DiscoverFrom, DnsName, Services};
use std::collections::{BTreeMap, HashMap};
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

/// One registered service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub service: Arc<str>,
    pub tags: Arc<[String]>,
    pub place: Place,
}

impl Offer {
    fn is_of(&self, wanted: &Services) -> bool {
        *self.service == *wanted.service && wanted.tags.iter().all(|tag| self.tags.contains(tag))
    }
}

/// All names that are in use with their answers, and the services that registered themselves.
#[derive(Debug, Default)]
pub struct Directory {
    answers: Mutex<HashMap<DnsName, Answer>>,
    offers: Mutex<Arc<[Offer]>>,
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

    /// The places of endpoints that are not in the file, each address once.
    #[must_use]
    pub fn discovered(&self, from: &DiscoverFrom) -> Arc<[Place]> {
        match from {
            DiscoverFrom::Dns(name) => self.places(name),
            DiscoverFrom::Registry(wanted) => {
                let offers = Arc::clone(&self.offers());
                let fitting = offers.iter().filter(|offer| offer.is_of(wanted));
                let by_address: BTreeMap<SocketAddr, Place> =
                    fitting.map(|offer| (offer.place.address, offer.place)).collect();
                by_address.into_values().collect()
            }
        }
    }

    /// These services are registered now. Whether they differ from those before.
    pub fn offer(&self, offers: Vec<Offer>) -> bool {
        let mut known = self.offers();
        let changed = **known != *offers;
        if changed {
            *known = offers.into();
        }
        changed
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

    /// Whole after a panic too: they are replaced in one step.
    fn offers(&self) -> MutexGuard<'_, Arc<[Offer]>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn registered_services_are_found_by_name_and_tags_each_address_once() {
        let offer = |service: &str, tags: &[&str], address| Offer {
            service: service.into(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            place: place(address),
        };
        let directory = Directory::default();
        let offers = vec![
            offer("api", &["blue", "fast"], "10.0.0.2:80"),
            offer("api", &["blue"], "10.0.0.1:80"),
            offer("api", &["blue"], "10.0.0.2:80"),
            offer("web", &["blue", "fast"], "10.0.0.3:80"),
        ];
        assert!(directory.offer(offers.clone()));
        assert!(!directory.offer(offers), "nothing new");
        let found = |tags: &[&str]| -> Vec<String> {
            let wanted = Services {
                service: "api".to_owned(),
                tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            };
            let places = directory.discovered(&DiscoverFrom::Registry(wanted));
            places.iter().map(|place| place.address.to_string()).collect()
        };
        assert_eq!(found(&[]), ["10.0.0.1:80", "10.0.0.2:80"]);
        assert_eq!(found(&["blue", "fast"]), ["10.0.0.2:80"]);
        assert!(found(&["green"]).is_empty());
    }

    #[test]
    fn names_that_nobody_uses_are_forgotten() {
        let directory = Directory::default();
        directory.found(&name(), &[]);
        directory.retain(|_| false);
        assert!(directory.answer(&name()).is_none());
    }
}
