//! The certificates of one listener by the names they serve.

use super::acme::{Ordered, Orders};
use super::certificate::Certificate;
use super::names::{ServedName, parent_of};
use rustls::SignatureScheme;
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The certificates of one name: one for each kind of key, in order of preference.
pub type Choice = Arc<[Arc<Certificate>]>;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Store {
    exact: HashMap<String, Choice>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Choice>,
    address: HashMap<IpAddr, Choice>,
    first: Option<Choice>,
    all: Vec<Arc<Certificate>>,
    /// What the gateway gets itself.
    ordered: Ordered,
}

impl Store {
    /// Of two certificates of one kind for one name, the first in the configuration serves it.
    #[must_use]
    pub fn new(certificates: Vec<Arc<Certificate>>) -> Self {
        let mut by_name: HashMap<&ServedName, Vec<Arc<Certificate>>> = HashMap::new();
        for certificate in &certificates {
            for name in &certificate.names {
                let choice = by_name.entry(name).or_default();
                if choice.iter().all(|other| other.kind != certificate.kind) {
                    choice.push(certificate.clone());
                }
            }
        }
        let mut store = Self::default();
        for (name, mut choice) in by_name {
            choice.sort_by_key(|certificate| certificate.kind);
            let choice: Choice = choice.into();
            match name.clone() {
                ServedName::Exact(name) => drop(store.exact.insert(name, choice)),
                ServedName::Wildcard(parent) => drop(store.wildcard.insert(parent, choice)),
                ServedName::Address(address) => drop(store.address.insert(address, choice)),
            }
        }
        store.first = certificates.first().map(|first| store.with_companions(first));
        store.all = certificates;
        store
    }

    /// With the certificates that the gateway gets itself.
    #[must_use]
    pub fn with_orders(mut self, mut orders: Orders<'_>) -> Self {
        if let Some(wanted) = &mut orders.wanted
            && !wanted.named
        {
            wanted.names.retain(|name| self.named(name).is_none());
        }
        self.ordered = Ordered::new(orders);
        self
    }

    /// A certificate with those that serve its first name with other kinds of keys.
    fn with_companions(&self, certificate: &Arc<Certificate>) -> Choice {
        let companions = certificate.names.first().and_then(|name| match name {
            ServedName::Exact(name) => self.exact.get(name),
            ServedName::Wildcard(parent) => self.wildcard.get(parent),
            ServedName::Address(address) => self.address.get(address),
        });
        match companions {
            Some(choice) if choice.iter().any(|other| Arc::ptr_eq(other, certificate)) => choice.clone(),
            _ => vec![certificate.clone()].into(),
        }
    }

    /// The certificates for a name in lower case: the exact one before the wildcard, and of exact ones those from
    /// files before those that the gateway gets itself.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Choice> {
        let exact = self.exact.get(name).cloned();
        exact
            .or_else(|| self.ordered.named(name))
            .or_else(|| self.wildcard.get(parent_of(name)?).cloned())
    }

    /// The certificates for an address.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Option<&Choice> {
        self.address.get(&address.to_canonical())
    }

    /// Those of the first certificate in the configuration.
    #[must_use]
    pub fn first(&self) -> Option<Choice> {
        self.first.clone().or_else(|| self.ordered.first())
    }

    /// Whether any certificate is for this host, a name or an address.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        self.named(host).is_some()
            || bare
                .unwrap_or(host)
                .parse()
                .is_ok_and(|address| self.at(address).is_some())
    }

    /// In the order of the configuration; then those that the gateway got itself.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Certificate>> {
        let ordered = self.ordered.slots().iter().filter_map(|slot| slot.held());
        let ordered = ordered.map(|held| Arc::clone(&held.certificate));
        self.all.iter().cloned().chain(ordered).collect()
    }

    /// Those from files.
    #[must_use]
    pub fn from_files(&self) -> &[Arc<Certificate>] {
        &self.all
    }

    /// What the gateway gets itself.
    #[must_use]
    pub const fn ordered(&self) -> &Ordered {
        &self.ordered
    }
}

/// The certificate of a choice that a client can verify by what it says it can.
#[must_use]
pub fn pick(choice: &[Arc<Certificate>], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
    choice
        .iter()
        .find(|certificate| certificate.key.key.choose_scheme(schemes).is_some())
        .map(|certificate| certificate.key.clone())
}
