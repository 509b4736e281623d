//! Until when a client is who its certificate says: as long as that certificate, those above it, and the revocation
//! lists are good. A session that is resumed shows no certificate again, so its ticket carries that moment, and opens
//! nothing after it: the client then shows a certificate again, and is judged anew. Lists and authorities that were
//! replaced meanwhile are other terms, to which the ticket is not bound.

use super::client_auth::Terms;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::{
    ConfigBuilder, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    WantsVerifier,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// For who has shown nothing.
const FOREVER: i64 = i64::MAX;
/// For what cannot be understood.
const NEVER: i64 = i64::MIN;

/// Makes sessions whose tickets end with what their clients have shown.
#[derive(Clone)]
pub struct Proving {
    builder: ConfigBuilder<ServerConfig, WantsVerifier>,
    verifier: Arc<dyn ClientCertVerifier>,
    lists_until: i64,
}

impl std::fmt::Debug for Proving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proving")
            .field("lists_until", &self.lists_until)
            .finish_non_exhaustive()
    }
}

impl Proving {
    /// `None` where no client is asked for anything.
    #[must_use]
    pub fn on(terms: &Terms, builder: &ConfigBuilder<ServerConfig, WantsVerifier>) -> Option<Self> {
        Some(Self {
            verifier: terms.verifier.clone()?,
            builder: builder.clone(),
            lists_until: terms.lists_until,
        })
    }

    /// `config` for one handshake and no other.
    #[must_use]
    pub fn once(&self, config: &ServerConfig) -> ServerConfig {
        let proof = Arc::new(Proof(AtomicI64::new(FOREVER)));
        let verifier = Witness {
            verifier: self.verifier.clone(),
            lists_until: self.lists_until,
            proof: proof.clone(),
        };
        let mut once = self
            .builder
            .clone()
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(config.cert_resolver.clone());
        once.alpn_protocols.clone_from(&config.alpn_protocols);
        once.session_storage = Arc::new(NoServerSessionStorage {});
        once.send_tls13_tickets = config.send_tls13_tickets;
        once.ticketer = Arc::new(Dated {
            tickets: config.ticketer.clone(),
            proof,
            now: unix_now,
        });
        once
    }
}

/// Until when, in seconds of Unix time, what the client of one handshake has shown is good. Within one handshake
/// nobody races for it.
#[derive(Debug)]
struct Proof(AtomicI64);

impl Proof {
    fn holds_until(&self, moment: i64) {
        self.0.store(moment, Ordering::Relaxed);
    }

    fn until(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Verifies as another does, and remembers until when it would.
#[derive(Debug)]
struct Witness {
    verifier: Arc<dyn ClientCertVerifier>,
    lists_until: i64,
    proof: Arc<Proof>,
}

impl ClientCertVerifier for Witness {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(end_entity, intermediates, now)?;
        let shown = std::iter::once(end_entity).chain(intermediates);
        self.proof
            .holds_until(shown.map(not_after).fold(self.lists_until, i64::min));
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

fn not_after(certificate: &CertificateDer<'_>) -> i64 {
    X509Certificate::from_der(certificate)
        .map_or(NEVER, |(_, parsed)| parsed.validity().not_after.timestamp())
}

/// Tickets with the moment before what they hold.
#[derive(Debug)]
struct Dated {
    tickets: Arc<dyn ProducesTickets>,
    proof: Arc<Proof>,
    /// Seconds of Unix time.
    now: fn() -> i64,
}

impl ProducesTickets for Dated {
    fn enabled(&self) -> bool {
        self.tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let until = self.proof.until().to_be_bytes();
        self.tickets.encrypt(&[&until, plain].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let plain = self.tickets.decrypt(cipher)?;
        let (until, rest) = plain.split_first_chunk()?;
        let until = i64::from_be_bytes(*until);
        if until < (self.now)() {
            return None;
        }
        // A resumed session gets a ticket too, and that must not last longer.
        self.proof.holds_until(until);
        Some(rest.to_vec())
    }
}

fn unix_now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not secret at all.
    #[derive(Debug)]
    struct Open;

    impl ProducesTickets for Open {
        fn enabled(&self) -> bool {
            true
        }

        fn lifetime(&self) -> u32 {
            1
        }

        fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
            Some(plain.to_vec())
        }

        fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
            Some(cipher.to_vec())
        }
    }

    fn tickets(until: i64, now: fn() -> i64) -> Dated {
        Dated {
            tickets: Arc::new(Open),
            proof: Arc::new(Proof(AtomicI64::new(until))),
            now,
        }
    }

    #[test]
    fn a_ticket_ends_with_what_was_shown() {
        let ticket = tickets(1000, || 900).encrypt(b"state").unwrap();
        assert_eq!(tickets(FOREVER, || 1000).decrypt(&ticket).unwrap(), b"state");
        assert_eq!(tickets(FOREVER, || 1001).decrypt(&ticket), None);
        let never = tickets(NEVER, || 0).encrypt(b"state").unwrap();
        assert_eq!(tickets(FOREVER, || 0).decrypt(&never), None);
    }

    #[test]
    fn a_resumed_session_does_not_get_a_longer_ticket() {
        let ticket = tickets(1000, || 900).encrypt(b"state").unwrap();
        let resumed = tickets(FOREVER, || 999);
        resumed.decrypt(&ticket).unwrap();
        let next = resumed.encrypt(b"state").unwrap();
        assert_eq!(tickets(FOREVER, || 1001).decrypt(&next), None);
    }

    #[test]
    fn what_is_no_ticket_opens_nothing() {
        for nonsense in [&b""[..], b"1234567"] {
            assert_eq!(tickets(FOREVER, || 0).decrypt(nonsense), None);
        }
    }
}
