//! A client's TLS session: what was agreed on, and who the client is.

use crate::telemetry::access::{TlsClientRecord, TlsRecord};
use crate::tls::client_auth::{self, ClientIdentity, Told};
use crate::tls::server::Served;
use rustls::{CommonState, HandshakeKind, ProtocolVersion};

/// See the module's text.
#[derive(Debug)]
pub(super) struct Secured {
    pub served: Served,
    /// As logs name it: `TLSv1.3`.
    pub protocol: &'static str,
    pub cipher: Box<str>,
    /// Of the key exchange.
    pub group: Box<str>,
    /// What was agreed on by ALPN.
    pub alpn: Option<Box<[u8]>>,
    pub resumed: bool,
    /// The client's certificate, which its issuer vouches for.
    pub identity: Option<ClientIdentity>,
    /// What endpoints are told of it, where clients are asked for one.
    pub told: Vec<Told>,
}

impl Secured {
    pub fn new(session: &CommonState, served: Served, asks: bool) -> Self {
        let identity = session
            .peer_certificates()
            .and_then(|chain| ClientIdentity::of(chain.first()?));
        let cipher = session
            .negotiated_cipher_suite()
            .map(|suite| crate::tls::provider::suite_name(&suite))
            .unwrap_or_default();
        let group = session
            .negotiated_key_exchange_group()
            .map(|group| format!("{:?}", group.name()))
            .unwrap_or_default();
        Self {
            served,
            protocol: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            cipher: cipher.into(),
            group: group.into(),
            alpn: session.alpn_protocol().map(Into::into),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            told: if asks {
                client_auth::told(identity.as_ref())
            } else {
                Vec::new()
            },
            identity,
        }
    }

    /// As logs have it.
    pub fn record(&self) -> TlsRecord<'_> {
        TlsRecord {
            protocol: self.protocol,
            cipher: &self.cipher,
            group: &self.group,
            alpn: self.alpn.as_deref(),
            server_name: self.served.name.as_deref(),
            resumed: self.resumed,
            client: self.identity.as_ref().map(|identity| TlsClientRecord {
                subject: &identity.subject,
                issuer: &identity.issuer,
                serial: &identity.serial,
                fingerprint: &identity.fingerprint,
            }),
        }
    }
}
