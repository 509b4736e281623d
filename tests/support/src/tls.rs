//! Certificates made at run time, and a TLS client that says what came of its handshake.

use crate::address::Address;
use crate::raw::Conn;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RevokedCertParams, SanType,
    SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An authority that lives as long as the test.
#[derive(Debug)]
pub struct Ca {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Leaf and authority.
    pub chain: String,
    /// The leaf alone.
    pub cert: String,
    /// PKCS#8.
    pub key: String,
    serial: u64,
}

/// What a leaf is like.
#[derive(Clone, Copy, Debug)]
pub struct Kind<'a> {
    pub names: &'a [&'a str],
    pub rsa: bool,
    /// Year in which it runs out.
    pub until: i32,
    /// How long it is good for from now on, whatever `until` says.
    pub lasts: Option<Duration>,
    pub common_name: &'a str,
    pub serial: u64,
}

impl Default for Kind<'_> {
    fn default() -> Self {
        Self {
            names: &[],
            rsa: false,
            until: 4000,
            lasts: None,
            common_name: "test",
            serial: 7,
        }
    }
}

impl Default for Ca {
    fn default() -> Self {
        Self::new("test authority")
    }
}

impl Ca {
    /// # Panics
    /// When it can't be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("authority").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// What it signs with, PKCS#8 in PEM: for an authority that is another process.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Its own certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for names and addresses, with an ECDSA key.
    #[must_use]
    pub fn leaf(&self, names: &[&str]) -> Leaf {
        self.issue(Kind {
            names,
            ..Kind::default()
        })
    }

    /// # Panics
    /// When it can't be made.
    #[must_use]
    pub fn issue(&self, kind: Kind<'_>) -> Leaf {
        let algorithm: &'static SignatureAlgorithm = if kind.rsa {
            &PKCS_RSA_SHA256
        } else {
            &PKCS_ECDSA_P256_SHA256
        };
        let key = KeyPair::generate_for(algorithm).expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.subject_alt_names = kind
            .names
            .iter()
            .map(|name| match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) if name.contains("://") => SanType::URI((*name).try_into().expect("URI")),
                Err(_) => SanType::DnsName((*name).try_into().expect("name")),
            })
            .collect();
        params
            .distinguished_name
            .push(DnType::CommonName, kind.common_name);
        params.not_after = match kind.lasts {
            None => date_time_ymd(kind.until, 1, 1),
            Some(lasts) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock");
                date_time_ymd(1970, 1, 1) + now + lasts
            }
        };
        params.serial_number = Some(SerialNumber::from(kind.serial));
        let cert = params.signed_by(&key, &self.issuer).expect("certificate").pem();
        Leaf {
            chain: format!("{cert}{}", self.pem),
            cert,
            key: key.serialize_pem(),
            serial: kind.serial,
        }
    }

    /// A list of what is revoked, good until a year.
    ///
    /// # Panics
    /// When it can't be made.
    #[must_use]
    pub fn revocations(&self, revoked: &[&Leaf], until: i32) -> String {
        let revoked = revoked
            .iter()
            .map(|leaf| RevokedCertParams {
                serial_number: SerialNumber::from(leaf.serial),
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("list").pem().expect("PEM")
    }
}

impl Leaf {
    /// A certificate that vouches for itself; with `is_ca` one that may vouch for others too, as `openssl req -x509`
    /// makes them.
    ///
    /// # Panics
    /// When it can't be made.
    #[must_use]
    pub fn self_signed(names: &[&str], is_ca: bool) -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        let name = |name: &&str| match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*name).try_into().expect("name")),
        };
        params.subject_alt_names = names.iter().map(name).collect();
        params.distinguished_name.push(DnType::CommonName, "itself");
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let cert = params.self_signed(&key).expect("certificate").pem();
        Self {
            chain: cert.clone(),
            cert,
            key: key.serialize_pem(),
            serial: 0,
        }
    }
}

/// A TLS client. Connections of one client share its sessions: a later one resumes an earlier one.
#[derive(Clone, Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
}

/// How to make a [`TlsClient`].
#[derive(Debug, Default)]
pub struct TlsClientBuilder {
    roots: Vec<String>,
    alpn: Vec<&'static str>,
    tls12: bool,
    rsa_only: bool,
    no_name: bool,
    own: Option<Leaf>,
}

/// What was agreed on.
#[derive(Clone, Debug)]
pub struct Agreed {
    pub version: &'static str,
    pub alpn: Option<String>,
    pub resumed: bool,
    pub group: String,
    /// The server's own certificate.
    pub certificate: Vec<u8>,
}

impl TlsClient {
    /// One that trusts this authority.
    #[must_use]
    pub fn trusting(ca: &Ca) -> TlsClientBuilder {
        TlsClientBuilder {
            roots: vec![ca.pem.clone()],
            ..TlsClientBuilder::default()
        }
    }

    /// Connects and shakes hands, asking for `name`.
    ///
    /// # Errors
    /// Why there was no handshake.
    pub fn try_connect(&self, address: impl Into<Address>, name: &str) -> Result<Conn, String> {
        let conn = Conn::try_connect(address).map_err(|error| error.to_string())?;
        self.try_over(conn, name)
    }

    /// # Panics
    /// When there is no handshake.
    #[track_caller]
    #[must_use]
    pub fn connect(&self, address: impl Into<Address>, name: &str) -> Conn {
        self.try_connect(address, name)
            .unwrap_or_else(|error| panic!("no handshake for {name}: {error}"))
    }

    /// Shakes hands on a connection.
    ///
    /// # Errors
    /// Why there was no handshake.
    ///
    /// # Panics
    /// When the name is none.
    pub fn try_over(&self, conn: Conn, name: &str) -> Result<Conn, String> {
        let name = ServerName::try_from(name.to_owned()).expect("server name");
        let session = ClientConnection::new(self.config.clone(), name).map_err(|error| error.to_string())?;
        conn.secure(session)
    }
}

impl TlsClientBuilder {
    /// Offers these protocols.
    #[must_use]
    pub fn alpn(mut self, protocols: &[&'static str]) -> Self {
        self.alpn = protocols.to_vec();
        self
    }

    /// Speaks TLS 1.2 only.
    #[must_use]
    pub const fn tls12(mut self) -> Self {
        self.tls12 = true;
        self
    }

    /// Verifies signatures by RSA only.
    #[must_use]
    pub const fn rsa_only(mut self) -> Self {
        self.rsa_only = true;
        self
    }

    /// Does not say which name it is after.
    #[must_use]
    pub const fn without_name(mut self) -> Self {
        self.no_name = true;
        self
    }

    /// Shows this certificate when asked for one.
    #[must_use]
    pub fn showing(mut self, leaf: &Leaf) -> Self {
        self.own = Some(leaf.clone());
        self
    }

    /// # Panics
    /// When something given is not usable.
    #[must_use]
    pub fn build(self) -> TlsClient {
        let mut roots = RootCertStore::empty();
        for root in &self.roots {
            roots
                .add(CertificateDer::from_pem_slice(root.as_bytes()).expect("root"))
                .expect("root");
        }
        let mut provider = aws_lc_rs::default_provider();
        if self.rsa_only {
            let algorithms = &provider.signature_verification_algorithms;
            let rsa = |scheme: &rustls::SignatureScheme| {
                let name = format!("{scheme:?}");
                name.starts_with("RSA_PSS") || name.starts_with("RSA_PKCS1")
            };
            let mapping: Vec<_> = algorithms
                .mapping
                .iter()
                .filter(|(scheme, _)| rsa(scheme))
                .copied()
                .collect();
            provider.signature_verification_algorithms.mapping = mapping.leak();
            let ecdsa =
                |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite()).contains("ECDSA");
            provider.cipher_suites.retain(|suite| !ecdsa(suite));
        }
        let versions: &[&rustls::SupportedProtocolVersion] = if self.tls12 {
            &[&rustls::version::TLS12]
        } else {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match &self.own {
            Some(leaf) => {
                let chain: Result<Vec<_>, _> =
                    CertificateDer::pem_slice_iter(leaf.chain.as_bytes()).collect();
                let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("key");
                builder
                    .with_client_auth_cert(chain.expect("chain"), key)
                    .expect("client certificate")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config.enable_sni = !self.no_name;
        TlsClient {
            config: Arc::new(config),
        }
    }
}

/// What a finished handshake came to.
pub(crate) fn agreed(session: &ClientConnection) -> Agreed {
    Agreed {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            _ => "?",
        },
        alpn: session
            .alpn_protocol()
            .map(|name| String::from_utf8_lossy(name).into_owned()),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        group: session
            .negotiated_key_exchange_group()
            .map(|group| format!("{:?}", group.name()))
            .unwrap_or_default(),
        certificate: session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|leaf| leaf.to_vec())
            .unwrap_or_default(),
    }
}

/// The bytes of a certificate, to compare with [`Agreed::certificate`].
///
/// # Panics
/// When it is none.
#[must_use]
pub fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .expect("certificate")
        .to_vec()
}
