//! TLS to the endpoints of an upstream: whom to trust, what to show, which name to expect.
//!
//! Everything that makes one identity differ from another is compared when a configuration is compiled again: what is
//! the same keeps its sessions and its pooled connections, what differs shares nothing with what it was before.

use super::certificate::{self, Certificate};
use super::client_verify::{Unverified, Verifier};
use super::provider;
use crate::config::diagnostic::Diagnostic;
use crate::config::model;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// Sessions kept for resumption, over all endpoints of an upstream.
const SESSIONS: usize = 256;

/// See the module's text.
#[derive(Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    identity: Identity,
}

/// What connections must have in common to be the same.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    verify: bool,
    /// The name in every certificate; `None`: that of the endpoint.
    name: Option<ServerName<'static>>,
    /// What endpoints are discovered by, which is their name then.
    discovered: Option<String>,
    alpn: Vec<Vec<u8>>,
    trusted: Vec<CertificateDer<'static>>,
    /// The chain that we show.
    shown: Vec<Vec<u8>>,
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for ClientTls {}

impl ClientTls {
    /// Reads what the configuration names; `key` is where it is configured. `discovered` is the name that leads to
    /// endpoints which are not named otherwise.
    pub fn load(
        tls: &model::UpstreamTls,
        discovered: Option<String>,
        alpn: &[&[u8]],
        key: &str,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let provider = provider::plain();
        let name = match tls.server_name.as_deref().map(server_name) {
            None => None,
            Some(Some(name)) => Some(name),
            Some(None) => {
                let message = "found no host name and no IP address";
                found.push(Diagnostic::error(format!("{key}.server_name"), message));
                return None;
            }
        };
        let trusted = trusted(tls, key, found)?;
        let verifier: Arc<dyn ServerCertVerifier> = if tls.verify {
            let mut roots = RootCertStore::empty();
            match &tls.ca {
                Some(path) => {
                    for der in &trusted {
                        if let Err(error) = roots.add(der.clone()) {
                            let message =
                                format!("{} has a certificate that can't be used: {error}", path.display());
                            found.push(Diagnostic::error(format!("{key}.ca"), message));
                            return None;
                        }
                    }
                }
                // A system's store has some that nobody understands.
                None => drop(roots.add_parsable_certificates(trusted.iter().cloned())),
            }
            match Verifier::new(roots, &trusted, &provider) {
                Ok(verifier) => Arc::new(verifier),
                Err(error) => {
                    found.push(Diagnostic::error(key.to_owned(), error.to_string()));
                    return None;
                }
            }
        } else {
            Arc::new(Unverified::new(&provider))
        };
        let certificate = match (&tls.cert, &tls.key) {
            (Some(cert), Some(of)) => Some(client_certificate(cert, of, key, found)?),
            _ => None,
        };
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions);
        let builder = match builder {
            Ok(builder) => builder.dangerous().with_custom_certificate_verifier(verifier),
            Err(error) => {
                found.push(Diagnostic::error(key.to_owned(), error.to_string()));
                return None;
            }
        };
        let shown = certificate
            .as_ref()
            .map_or_else(Vec::new, |(_, shown)| shown.clone());
        let mut config = match certificate {
            Some((resolver, _)) => builder.with_client_cert_resolver(resolver),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Some(Self {
            identity: Identity {
                verify: tls.verify,
                name,
                discovered,
                alpn: config.alpn_protocols.clone(),
                trusted,
                shown,
            },
            config: Arc::new(config),
        })
    }

    /// For those who do not drive sessions themselves: the terms, and the name that is in every certificate.
    #[must_use]
    pub fn terms(&self) -> (Arc<ClientConfig>, Option<ServerName<'static>>) {
        (Arc::clone(&self.config), self.identity.name.clone())
    }

    /// Whether certificates are looked at.
    #[must_use]
    pub const fn is_verified(&self) -> bool {
        self.identity.verify
    }

    /// A new session with an endpoint of this name; `None` where it has none, and none is configured.
    ///
    /// # Errors
    /// The session could not be made.
    pub fn session(
        &self,
        endpoint: Option<&ServerName<'static>>,
    ) -> Result<UnbufferedClientConnection, rustls::Error> {
        let name = self.identity.name.as_ref().or(endpoint);
        // Only where nothing is verified; whom it is for is told to nobody then.
        let nobody = || ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
        UnbufferedClientConnection::new(Arc::clone(&self.config), name.cloned().unwrap_or_else(nobody))
    }

    /// Whether there is a name for endpoints that have none of their own.
    #[must_use]
    pub const fn names_all(&self) -> bool {
        self.identity.name.is_some()
    }
}

/// The name, or the address, that a certificate must have.
#[must_use]
pub fn server_name(text: &str) -> Option<ServerName<'static>> {
    let text = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    // The root's dot is no part of a name in a certificate (RFC 6066 section 3).
    let text = text.strip_suffix('.').unwrap_or(text);
    ServerName::try_from(text.to_owned()).ok()
}

/// The certificates that are trusted: those of the file, or the system's.
fn trusted(
    tls: &model::UpstreamTls,
    key: &str,
    found: &mut Vec<Diagnostic>,
) -> Option<Vec<CertificateDer<'static>>> {
    if !tls.verify {
        return Some(Vec::new());
    }
    if let Some(path) = &tls.ca {
        return certificate::certificates(path)
            .map_err(|error| found.push(Diagnostic::error(format!("{key}.ca"), error.to_string())))
            .ok();
    }
    let system = rustls_native_certs::load_native_certs();
    if system.certs.is_empty() {
        let why = system
            .errors
            .first()
            .map_or_else(|| "it is empty".to_owned(), ToString::to_string);
        let message = format!("the system's store of trusted certificates can't be used: {why}");
        let told = Diagnostic::error(key.to_owned(), message);
        found.push(told.hint("install ca-certificates, or name a file with `ca`"));
        return None;
    }
    Some(system.certs)
}

type Shown = (Arc<SingleCertAndKey>, Vec<Vec<u8>>);

fn client_certificate(cert: &Path, of: &Path, key: &str, found: &mut Vec<Diagnostic>) -> Option<Shown> {
    let now = jiff::Timestamp::now().as_second();
    let provider = provider::plain();
    let (loaded, doubts) = match Certificate::load(cert, of, &provider, now) {
        Ok(loaded) => loaded,
        Err(error) => {
            let at = if error.is_of_key() { "key" } else { "cert" };
            found.push(Diagnostic::error(format!("{key}.{at}"), error.to_string()));
            return None;
        }
    };
    // What a server's certificate should have besides does not matter for a client's.
    if loaded.not_after < now {
        let message = format!(
            "{} expired on {}",
            cert.display(),
            certificate::day(loaded.not_after)
        );
        found.push(Diagnostic::warning(format!("{key}.cert"), message));
    }
    for doubt in doubts.into_iter().filter(|doubt| doubt.of_key) {
        found.push(Diagnostic::warning(format!("{key}.key"), doubt.text));
    }
    // The public key in the certificate is that of the private one, so the chain tells them apart.
    let shown = loaded.key.cert.iter().map(|der| der.to_vec()).collect();
    Some((Arc::new(SingleCertAndKey::from(loaded.key)), shown))
}
