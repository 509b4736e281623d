//! The answers that an authority looks for while an order is open, and not a moment longer.

use crate::tls::provider;
use arc_swap::ArcSwap;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::collections::HashMap;
use std::sync::Arc;

/// The protocol that an authority asks for when it looks at a name (RFC 8737 section 6.2).
pub const PROTOCOL: &[u8] = b"acme-tls/1";
/// Where an authority looks for an answer over plain HTTP (RFC 8555 section 8.3).
pub const PATH: &[u8] = b"/.well-known/acme-challenge/";

/// Answers that are waited for. Reading them takes no lock; they change a few times an order.
#[derive(Debug, Default)]
pub struct Challenges {
    /// Key authorizations by token.
    http: ArcSwap<HashMap<String, Arc<str>>>,
    /// Sessions by name.
    tls: ArcSwap<HashMap<String, Arc<ServerConfig>>>,
}

/// Why there is no session for a name.
#[derive(Debug, thiserror::Error)]
pub enum ChallengeError {
    #[error("the challenge's certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("the challenge's session could not be made: {0}")]
    Session(#[from] rustls::Error),
}

/// An answer that is given until this is dropped.
#[derive(Debug)]
pub struct Offer {
    challenges: Arc<Challenges>,
    key: Key,
}

#[derive(Debug)]
enum Key {
    Token(String),
    Name(String),
}

impl Challenges {
    /// The answer to a request for this path, if an order waits for it.
    #[must_use]
    pub fn http(&self, path: &[u8]) -> Option<Arc<str>> {
        let token = std::str::from_utf8(path.strip_prefix(PATH)?).ok()?;
        self.http.load().get(token).cloned()
    }

    /// The session for an authority that asks for this name, which is in lower case, if an order waits for it.
    #[must_use]
    pub fn tls(&self, name: &str) -> Option<Arc<ServerConfig>> {
        self.tls.load().get(name).cloned()
    }

    /// Answers over plain HTTP.
    #[must_use]
    pub fn offer_http(self: &Arc<Self>, token: &str, authorization: &str) -> Offer {
        change(&self.http, |http| {
            http.insert(token.to_owned(), authorization.into());
        });
        Offer {
            challenges: Arc::clone(self),
            key: Key::Token(token.to_owned()),
        }
    }

    /// Answers in the handshake, with a certificate that carries the digest of the key authorization.
    ///
    /// # Errors
    /// It can't be made.
    pub fn offer_tls(self: &Arc<Self>, name: &str, digest: &[u8]) -> Result<Offer, ChallengeError> {
        let session = Arc::new(session(name, digest)?);
        change(&self.tls, |tls| {
            tls.insert(name.to_owned(), Arc::clone(&session));
        });
        Ok(Offer {
            challenges: Arc::clone(self),
            key: Key::Name(name.to_owned()),
        })
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        match &self.key {
            Key::Token(token) => change(&self.challenges.http, |http| drop(http.remove(token))),
            Key::Name(name) => change(&self.challenges.tls, |tls| drop(tls.remove(name))),
        }
    }
}

fn change<V: Clone>(map: &ArcSwap<HashMap<String, V>>, act: impl Fn(&mut HashMap<String, V>)) {
    map.rcu(|map| {
        let mut map = HashMap::clone(map);
        act(&mut map);
        map
    });
}

/// RFC 8737 section 3: self-signed, the one name, the digest in a critical extension, the one protocol.
fn session(name: &str, digest: &[u8]) -> Result<ServerConfig, ChallengeError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    let provider = provider::plain();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let key = provider.key_provider.load_private_key(key)?;
    // Made here and not looked at again: a critical extension that nobody else knows is what it is for.
    let certified = CertifiedKey::new(vec![certificate.der().clone()], key);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
