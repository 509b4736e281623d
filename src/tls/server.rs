//! TLS of one listener, compiled: for each client the certificate and the terms, and for each request whether
//! the connection that it came on is one for its host.

use super::acme::{Orders, Slot, challenge};
use super::certificate::{Certificate, CertificateError, Doubt};
use super::client_auth::{Terms, digest};
use super::hello::Hello;
use super::names::{ServedName, parent_of};
use super::proof::Proving;
use super::provider;
use super::store::{self, Choice, Store};
use super::tickets::{BoundTickets, TicketRing};
use crate::config::diagnostic::Diagnostic;
use crate::config::model::{Alpn, ClientAuthMode, Tls, UnknownName};
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// See the module's text.
#[derive(Debug)]
pub struct ServerTls {
    store: Arc<Store>,
    /// Clients that ask for no name, or one that nobody has, are served by the first certificate.
    first_for_unknown: bool,
    rules: Arc<Rules>,
    /// By terms.
    configs: Vec<Arc<ServerConfig>>,
    /// By terms: where clients show certificates, and sessions are resumed.
    proving: Vec<Option<Proving>>,
    /// For clients that ask for no name at an address that a certificate is for.
    by_address: HashMap<IpAddr, Arc<ServerConfig>>,
}

/// Which terms hold for which name. The first are the listener's own.
#[derive(Debug)]
struct Rules {
    terms: Vec<Terms>,
    exact: HashMap<String, usize>,
    wildcard: HashMap<String, usize>,
}

impl Rules {
    fn of(&self, name: &str) -> usize {
        let wildcard = || self.wildcard.get(parent_of(name)?);
        self.exact.get(name).or_else(wildcard).copied().unwrap_or(0)
    }
}

/// What a connection is for: fixed by its handshake, whatever a reload changes later.
#[derive(Clone, Debug)]
pub struct Served {
    /// The name that the client asked for.
    pub name: Option<String>,
    certificates: Choice,
    /// Nobody is known by that name.
    unknown: bool,
    /// The terms that the client met.
    terms: [u8; 32],
}

/// The answer to a ClientHello.
#[derive(Debug)]
pub struct Answer {
    pub config: Arc<ServerConfig>,
    pub served: Served,
}

impl Served {
    /// The certificates that it could be: one for each kind of key.
    #[must_use]
    pub fn certificates(&self) -> &[Arc<Certificate>] {
        &self.certificates
    }
}

impl ServerTls {
    /// Reads and compiles what a listener's `tls` names; problems go to `found` under `key`. `now` is in seconds
    /// of Unix time.
    pub fn load(
        listener: &str,
        tls: &Tls,
        key: &str,
        ring: &Arc<TicketRing>,
        orders: Orders<'_>,
        now: i64,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Arc<Self>> {
        let provider = Arc::new(provider::provider(&tls.ciphers, &tls.groups));
        let certificates: Vec<Option<Arc<Certificate>>> = tls
            .certificates
            .iter()
            .enumerate()
            .map(|(at, files)| {
                let key = format!("{key}.certificates[{at}]");
                match Certificate::load(&files.cert, &files.key, &provider, now) {
                    Ok((certificate, doubts)) => {
                        found.extend(doubts.into_iter().map(|doubt| doubtful(&key, doubt)));
                        Some(Arc::new(certificate))
                    }
                    Err(error) => {
                        found.push(unusable(&key, &error));
                        None
                    }
                }
            })
            .collect();
        let rules = rules(tls, &provider, key, now, found);
        let certificates: Option<Vec<_>> = certificates.into_iter().collect();
        let store = Arc::new(Store::new(certificates?).with_orders(orders));
        let rules = Arc::new(rules?);
        let first_for_unknown = tls.default == UnknownName::First;
        let (mut configs, mut proving) = (Vec::new(), Vec::new());
        for (index, terms) in rules.terms.iter().enumerate() {
            let resolver = ByName {
                store: store.clone(),
                rules: rules.clone(),
                terms: index,
                first_for_unknown,
            };
            let built = ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(provider::versions(tls.policy));
            let builder = match built {
                Ok(builder) => builder,
                Err(error) => {
                    found.push(Diagnostic::error(
                        key,
                        format!("no handshake could succeed: {error}"),
                    ));
                    return None;
                }
            };
            proving.push(Proving::on(terms, &builder).filter(|_| tls.session_tickets));
            let verifier = terms
                .verifier
                .clone()
                .unwrap_or_else(WebPkiClientVerifier::no_client_auth);
            let mut config = builder
                .with_client_cert_verifier(verifier)
                .with_cert_resolver(Arc::new(resolver));
            config.alpn_protocols = offered(&tls.alpn);
            config.session_storage = Arc::new(NoServerSessionStorage {});
            if tls.session_tickets {
                let binding = digest(&[b"tidegate", listener.as_bytes(), &terms.digest]);
                config.ticketer = Arc::new(BoundTickets::new(ring.clone(), &binding));
                config.send_tls13_tickets = 1;
            } else {
                config.send_tls13_tickets = 0;
            }
            configs.push(Arc::new(config));
        }
        let by_address = addresses(&store, &configs);
        Some(Arc::new(Self {
            store,
            first_for_unknown,
            rules,
            configs,
            proving,
            by_address,
        }))
    }

    /// The session for a client that greets at `local`, one of our addresses; `None` when there is no
    /// certificate for it.
    #[must_use]
    pub fn answer(&self, hello: &Hello, local: Option<IpAddr>) -> Option<Answer> {
        let name = hello.server_name.as_deref();
        let known = match name {
            Some(name) => self.store.named(name),
            None => local.and_then(|local| self.store.at(local)).cloned(),
        };
        let unknown = known.is_none();
        let certificates = match known {
            Some(choice) => choice,
            None if self.first_for_unknown => self.store.first()?,
            None => return None,
        };
        let index = name.map_or(0, |name| self.rules.of(name));
        let own = match (name, local) {
            (None, Some(local)) => self.by_address.get(&local.to_canonical()),
            _ => None,
        };
        let config = own.unwrap_or(&self.configs[index]);
        Some(Answer {
            config: match &self.proving[index] {
                Some(proving) => Arc::new(proving.once(config)),
                None => config.clone(),
            },
            served: Served {
                name: hello.server_name.clone(),
                certificates,
                unknown,
                terms: self.rules.terms[index].digest,
            },
        })
    }

    /// Whether a request for `host` may come on a connection that was made for `served`: its certificate is for
    /// this host, and the client met what is asked of clients of this host now. `host` is in normal form.
    #[must_use]
    pub fn admits(&self, served: &Served, host: &str) -> bool {
        let terms = &self.rules.terms[self.rules.of(host)];
        if terms.digest != served.terms {
            return false;
        }
        served.name.as_deref() == Some(host)
            || served
                .certificates
                .iter()
                .any(|certificate| certificate.covers(host))
            || (served.unknown && !self.store.covers(host))
    }

    /// The session for an authority that looks whether a name is ours (RFC 8737); `None` when nobody waits for
    /// that, or the client is no such authority.
    #[must_use]
    pub fn challenge(&self, hello: &Hello) -> Option<Arc<ServerConfig>> {
        match hello.protocols.as_slice() {
            [only] if only == challenge::PROTOCOL => {
                self.store.ordered().challenges.tls(hello.server_name.as_deref()?)
            }
            _ => None,
        }
    }

    /// Whether the name that is asked for is to have a certificate that the gateway gets itself.
    #[must_use]
    pub fn awaits(&self, hello: &Hello) -> bool {
        hello
            .server_name
            .as_deref()
            .is_some_and(|name| self.store.ordered().has(name))
    }

    /// The certificates that the gateway gets itself, those that it has yet to get too.
    #[must_use]
    pub fn slots(&self) -> &[Arc<Slot>] {
        self.store.ordered().slots()
    }

    /// The certificates from files in the order of the configuration, then those that the gateway got itself.
    #[must_use]
    pub fn certificates(&self) -> Vec<Arc<Certificate>> {
        self.store.all()
    }

    /// Those from files.
    #[must_use]
    pub fn from_files(&self) -> &[Arc<Certificate>] {
        self.store.from_files()
    }

    /// The same for the same certificates from files and the same terms.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let chains = self
            .store
            .from_files()
            .iter()
            .flat_map(|certificate| &certificate.key.cert);
        let chains = chains.map(|certificate| certificate.as_ref());
        let terms = self.rules.terms.iter().map(|terms| terms.digest.as_slice());
        let parts: Vec<&[u8]> = chains.chain(terms).collect();
        digest(&parts)
    }

    /// Whether a client that asks for this name is asked for a certificate: `none`, `optional` or `required`.
    #[must_use]
    pub fn asks(&self, name: Option<&str>) -> &'static str {
        let index = name.map_or(0, |name| self.rules.of(name));
        match self.rules.terms[index].mode {
            ClientAuthMode::None => "none",
            ClientAuthMode::Optional => "optional",
            ClientAuthMode::Required => "required",
        }
    }

    /// Whether any client is asked for a certificate.
    #[must_use]
    pub fn asks_clients(&self) -> bool {
        self.rules.terms.iter().any(|terms| terms.verifier.is_some())
    }
}

fn rules(
    tls: &Tls,
    provider: &Arc<rustls::crypto::CryptoProvider>,
    key: &str,
    now: i64,
    found: &mut Vec<Diagnostic>,
) -> Option<Rules> {
    let own = match &tls.client_auth {
        Some(auth) => Terms::load(auth, provider, &format!("{key}.client_auth"), now, found),
        None => Some(Terms::none()),
    };
    let mut terms = vec![own];
    let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
    for (at, rule) in tls.client_auth_by_name.iter().enumerate() {
        let key = format!("{key}.client_auth_by_name[{at}]");
        for name in &rule.names {
            match ServedName::dns(name) {
                Some(ServedName::Exact(name)) => drop(exact.entry(name).or_insert(terms.len())),
                Some(ServedName::Wildcard(parent)) => drop(wildcard.entry(parent).or_insert(terms.len())),
                _ => {
                    let text = format!("`{name}` is no name that a client can ask for");
                    found.push(Diagnostic::error(format!("{key}.names"), text));
                }
            }
        }
        terms.push(Terms::load(&rule.auth, provider, &key, now, found));
    }
    Some(Rules {
        terms: terms.into_iter().collect::<Option<_>>()?,
        exact,
        wildcard,
    })
}

fn addresses(store: &Store, configs: &[Arc<ServerConfig>]) -> HashMap<IpAddr, Arc<ServerConfig>> {
    let certificates = store.all();
    let addresses = certificates
        .iter()
        .flat_map(|certificate| &certificate.names)
        .filter_map(|name| match name {
            ServedName::Address(address) => Some(*address),
            ServedName::Exact(_) | ServedName::Wildcard(_) => None,
        });
    addresses
        .filter_map(|address| {
            let choice = store.at(address)?.clone();
            let mut config = ServerConfig::clone(configs.first()?);
            config.cert_resolver = Arc::new(Fixed(choice));
            Some((address.to_canonical(), Arc::new(config)))
        })
        .collect()
}

/// The names of the protocols that are offered (RFC 7301).
fn offered(allowed: &[Alpn]) -> Vec<Vec<u8>> {
    allowed
        .iter()
        .map(|protocol| match protocol {
            Alpn::H2 => b"h2".to_vec(),
            Alpn::Http11 => b"http/1.1".to_vec(),
        })
        .collect()
}

fn unusable(key: &str, error: &CertificateError) -> Diagnostic {
    let part = if error.is_of_key() { "key" } else { "cert" };
    Diagnostic::error(format!("{key}.{part}"), error.to_string())
}

fn doubtful(key: &str, doubt: Doubt) -> Diagnostic {
    let part = if doubt.of_key { "key" } else { "cert" };
    Diagnostic::warning(format!("{key}.{part}"), doubt.text)
}

/// Finds the certificate of a name, and none for names with other terms than those it is made for: should a
/// session ever read another name out of a ClientHello than the one it was chosen by, it comes to nothing.
#[derive(Debug)]
struct ByName {
    store: Arc<Store>,
    rules: Arc<Rules>,
    terms: usize,
    first_for_unknown: bool,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello
            .server_name()
            .map(|name| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase());
        let terms = name.as_deref().map_or(0, |name| self.rules.of(name));
        if terms != self.terms {
            return None;
        }
        let known = name.as_deref().and_then(|name| self.store.named(name));
        let choice = match known {
            Some(choice) => choice,
            None if self.first_for_unknown => self.store.first()?,
            None => return None,
        };
        store::pick(&choice, hello.signature_schemes())
    }
}

/// Always the same.
#[derive(Debug)]
struct Fixed(Choice);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Addresses have no terms of their own; a name would have been looked up by its name.
        if hello.server_name().is_some() {
            return None;
        }
        store::pick(&self.0, hello.signature_schemes())
    }
}

#[cfg(test)]
mod tests;
