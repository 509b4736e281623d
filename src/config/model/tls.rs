//! TLS towards clients and endpoints, and where certificates come from.

use super::Secret;
use std::path::PathBuf;
use std::time::Duration;

/// Certificates that the gateway gets itself (RFC 8555).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    pub directory: String,
    pub email: Option<String>,
    pub challenge: AcmeChallenge,
    /// As written. Empty: those of the routes, see [`super::acme::names`].
    pub names: Vec<String>,
    pub single_certificate: bool,
    pub eab: Option<ExternalAccount>,
    pub profile: Option<String>,
    /// Roots for the authority's own server; `None`: those of the system.
    pub ca: Option<PathBuf>,
    pub key_type: AcmeKey,
    pub renew_before: Option<Duration>,
    pub retry: Duration,
}

/// How names are shown to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// RFC 8737.
    TlsAlpn01,
    /// RFC 8555 section 8.3.
    Http01,
}

/// Kind of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeKey {
    P256,
    P384,
    Rsa2048,
    Rsa4096,
}

/// An account with the authority that exists outside of the protocol (RFC 8555 section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    pub kid: String,
    /// In base64url.
    pub key: Secret,
}

/// What clients that ask for a name of no certificate, or for none, are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownName {
    Reject,
    /// The first certificate.
    First,
}

/// Which versions of TLS are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPolicy {
    /// TLS 1.3.
    Modern,
    /// TLS 1.2 and 1.3.
    Intermediate,
}

/// A protocol that is agreed on in the handshake (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    H2,
    Http11,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthMode {
    /// No certificate is asked for.
    None,
    /// One that is shown must be good.
    Optional,
    Required,
}

/// Cipher suites by their registered names, in the order of preference.
pub const TLS_SUITES: [&str; 9] = [
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// How many of [`TLS_SUITES`] are those of TLS 1.3.
pub const TLS13_SUITES: usize = 3;

/// Key-exchange groups, in the order of preference.
pub const TLS_GROUPS: [&str; 5] = [
    "X25519MLKEM768",
    "X25519",
    "secp256r1",
    "secp384r1",
    "SecP256r1MLKEM768",
];

#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// At least one, unless there is `acme`.
    pub certificates: Vec<CertificateFiles>,
    pub default: UnknownName,
    pub policy: TlsPolicy,
    /// Names of [`TLS_SUITES`]; empty: all of the policy.
    pub ciphers: Vec<String>,
    /// Names of [`TLS_GROUPS`]; empty: the usual ones.
    pub groups: Vec<String>,
    pub alpn: Vec<Alpn>,
    pub client_auth: Option<ClientAuth>,
    /// Terms for clients that ask for certain names.
    pub client_auth_by_name: Vec<NamedClientAuth>,
    pub session_tickets: bool,
}

/// A chain and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    pub mode: ClientAuthMode,
    /// There, unless the mode is none.
    pub ca: Option<PathBuf>,
    pub crl: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedClientAuth {
    /// Names and `*.` wildcards.
    pub names: Vec<String>,
    pub auth: ClientAuth,
}

/// TLS to endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name asked for, and to be in the certificate; `None`: the host of the endpoint's address, or of the name
    /// that it was discovered by.
    pub server_name: Option<String>,
    /// Whom to trust; `None`: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// What the gateway shows; both or none.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Whether certificates are looked at.
    pub verify: bool,
}
