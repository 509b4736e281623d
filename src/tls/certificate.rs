//! A certificate chain with its key: read from PEM files, and checked as far as that goes without a client.

use super::names::ServedName;
use crate::config::files::MAX_PEM_BYTES;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use rustls::sign::CertifiedKey;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};
use x509_parser::public_key::PublicKey;

/// Certificates in one chain; what clients accept is far less.
const MAX_CHAIN: usize = 16;
/// Permission bits that let others than the owner and its group at a key.
const OTHERS: u32 = 0o007;

/// What kind of key a certificate has, which decides who can use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// In order of preference: short and quick before old and known to all.
    Ecdsa,
    Ed25519,
    Rsa,
}

/// A chain with its key, ready to serve.
#[derive(Debug)]
pub struct Certificate {
    pub key: Arc<CertifiedKey>,
    pub kind: KeyKind,
    pub names: Vec<ServedName>,
    /// In seconds of Unix time.
    pub not_before: i64,
    pub not_after: i64,
    /// The file it came from.
    pub path: PathBuf,
    /// The subject as text.
    pub subject: String,
}

/// Why a chain and its key cannot serve. The first that is found wrong is told; each names its file.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("{path} can't be read: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{0} is larger than the 1 MiB allowed")]
    TooLarge(String),
    #[error("{path} is not PEM: {what}")]
    NotPem { path: String, what: String },
    #[error("{0} has no certificate (a section that begins with -----BEGIN CERTIFICATE-----)")]
    NoCertificate(String),
    #[error("{0} has more than {MAX_CHAIN} certificates")]
    LongChain(String),
    #[error("{path}: certificate {number} can't be understood: {what}")]
    Malformed {
        path: String,
        number: usize,
        what: String,
    },
    #[error("{0} has no private key (PKCS#8, PKCS#1 or SEC1, in PEM)")]
    NoKey(String),
    #[error("{0} holds an encrypted key; the gateway has no pass phrase for it")]
    EncryptedKey(String),
    #[error("{path} holds a key that can't be used: {source}")]
    UnusableKey { path: String, source: rustls::Error },
    #[error("the key in {key} does not belong to the certificate in {cert}")]
    Mismatch { cert: String, key: String },
}

impl CertificateError {
    /// Whether the key's file is at fault, and not the certificate's.
    #[must_use]
    pub const fn is_of_key(&self) -> bool {
        matches!(
            self,
            Self::NoKey(_) | Self::EncryptedKey(_) | Self::UnusableKey { .. } | Self::Mismatch { .. }
        )
    }
}

/// Something that works, and is hardly meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    pub of_key: bool,
    pub text: String,
}

/// Reads a file of PEM with its bound.
pub(super) fn read_pem(path: &Path) -> Result<Vec<u8>, CertificateError> {
    use std::io::Read as _;
    let shown = || path.display().to_string();
    let failed = |source| CertificateError::Read {
        path: shown(),
        source,
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .map_err(failed)?
        .take(MAX_PEM_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_PEM_BYTES {
        return Err(CertificateError::TooLarge(shown()));
    }
    Ok(bytes)
}

/// The certificates in a file of PEM; other sections are passed over.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let bytes = read_pem(path)?;
    let shown = path.display().to_string();
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| CertificateError::NotPem {
        path: shown.clone(),
        what: error.to_string(),
    })?;
    if found.is_empty() {
        return Err(CertificateError::NoCertificate(shown));
    }
    Ok(found)
}

/// The one private key in a file of PEM, which may hold the certificates too.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let bytes = read_pem(path)?;
    let shown = || path.display().to_string();
    let has = |text: &[u8]| memchr::memmem::find(&bytes, text).is_some();
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(CertificateError::EncryptedKey(shown()));
    }
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&bytes) {
        let (kind, der) = section.map_err(|error| CertificateError::NotPem {
            path: shown(),
            what: error.to_string(),
        })?;
        return Ok(match kind {
            SectionKind::PrivateKey => PrivatePkcs8KeyDer::from(der).into(),
            SectionKind::RsaPrivateKey => PrivatePkcs1KeyDer::from(der).into(),
            SectionKind::EcPrivateKey => PrivateSec1KeyDer::from(der).into(),
            _ => continue,
        });
    }
    Err(CertificateError::NoKey(shown()))
}

/// What is read of one certificate.
struct Facts {
    names: Vec<ServedName>,
    not_before: i64,
    not_after: i64,
    subject: String,
    issuer: Vec<u8>,
    subject_der: Vec<u8>,
    kind: KeyKind,
    /// A common name where the names should be.
    named_by_subject: bool,
}

fn facts(der: &[u8], path: &Path, number: usize) -> Result<Facts, CertificateError> {
    let malformed = |what: String| CertificateError::Malformed {
        path: path.display().to_string(),
        number,
        what,
    };
    let (_, parsed) = X509Certificate::from_der(der).map_err(|error| malformed(error.to_string()))?;
    let mut names = Vec::new();
    for extension in parsed.extensions() {
        if let ParsedExtension::SubjectAlternativeName(list) = extension.parsed_extension() {
            names.extend(list.general_names.iter().filter_map(served));
        }
    }
    let named_by_subject = names.is_empty();
    if named_by_subject {
        let common = parsed
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok());
        names.extend(common.filter_map(ServedName::dns));
    }
    let kind = match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(_)) => KeyKind::Rsa,
        Ok(PublicKey::EC(_)) => KeyKind::Ecdsa,
        _ => KeyKind::Ed25519,
    };
    Ok(Facts {
        names,
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().as_raw().to_vec(),
        subject_der: parsed.subject().as_raw().to_vec(),
        kind,
        named_by_subject,
    })
}

/// A name in the extension that lists them.
fn served(name: &GeneralName<'_>) -> Option<ServedName> {
    match name {
        GeneralName::DNSName(text) => ServedName::dns(text),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let six = || <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from);
            four.or_else(|_| six()).ok().map(ServedName::Address)
        }
        _ => None,
    }
}

impl Certificate {
    /// Reads a chain and its key; the order of the chain is the leaf first. `now` is in seconds of Unix time.
    ///
    /// # Errors
    /// The first thing that keeps it from serving.
    pub fn load(
        cert: &Path,
        key: &Path,
        provider: &CryptoProvider,
        now: i64,
    ) -> Result<(Self, Vec<Doubt>), CertificateError> {
        let chain = certificates(cert)?;
        if chain.len() > MAX_CHAIN {
            return Err(CertificateError::LongChain(cert.display().to_string()));
        }
        let read: Result<Vec<Facts>, _> = chain
            .iter()
            .enumerate()
            .map(|(at, der)| facts(der, cert, at + 1))
            .collect();
        let read = read?;
        let unusable = |source| CertificateError::UnusableKey {
            path: key.display().to_string(),
            source,
        };
        let signing = provider
            .key_provider
            .load_private_key(private_key(key)?)
            .map_err(unusable)?;
        let certified = CertifiedKey::new(chain, signing);
        certified.keys_match().map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => CertificateError::Mismatch {
                cert: cert.display().to_string(),
                key: key.display().to_string(),
            },
            source => CertificateError::UnusableKey {
                path: cert.display().to_string(),
                source,
            },
        })?;
        let doubts = doubts(&read, cert, key, now);
        let Some(leaf) = read.into_iter().next() else {
            return Err(CertificateError::NoCertificate(cert.display().to_string()));
        };
        let loaded = Self {
            key: Arc::new(certified),
            kind: leaf.kind,
            names: leaf.names,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            path: cert.to_path_buf(),
            subject: leaf.subject,
        };
        Ok((loaded, doubts))
    }

    /// Whether it is for this host, which is in lower case and has no port.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| name.covers(host))
    }
}

/// What clients may take offence at.
fn doubts(chain: &[Facts], cert: &Path, key: &Path, now: i64) -> Vec<Doubt> {
    let mut found = Vec::new();
    let mut about = |of_key, text| found.push(Doubt { of_key, text });
    let shown = cert.display();
    let Some(leaf) = chain.first() else {
        return found;
    };
    if leaf.not_after < now {
        about(
            false,
            format!(
                "{shown} expired on {}: clients will refuse it",
                day(leaf.not_after)
            ),
        );
    } else if leaf.not_before > now {
        about(
            false,
            format!("{shown} is valid only from {} on", day(leaf.not_before)),
        );
    }
    if leaf.names.is_empty() {
        about(
            false,
            format!("{shown} names no host: it serves only as the first certificate"),
        );
    } else if leaf.named_by_subject {
        about(
            false,
            format!("{shown} has its name only in the subject, where clients no longer look"),
        );
    }
    for (at, pair) in chain.windows(2).enumerate() {
        if pair[0].issuer != pair[1].subject_der {
            let text = format!(
                "{shown}: certificate {} did not issue certificate {}: the chain is out of order or has a gap",
                at + 2,
                at + 1
            );
            about(false, text);
        }
    }
    if chain.len() == 1 && leaf.issuer != leaf.subject_der {
        let text =
            format!("{shown} has no chain: clients that do not know its issuer already will refuse it");
        about(false, text);
    }
    if let Ok(meta) = std::fs::metadata(key)
        && meta.mode() & OTHERS != 0
    {
        let mode = meta.mode() & 0o777;
        about(
            true,
            format!("{} can be read by everybody (mode {mode:04o})", key.display()),
        );
    }
    found
}

/// The day of a time, as people write it.
#[must_use]
pub fn day(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(
        |_| "a day beyond the calendar".to_owned(),
        |time| time.strftime("%Y-%m-%d").to_string(),
    )
}

/// SHA-256 of a certificate, in lower-case hexadecimal.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    let mut text = String::with_capacity(64);
    for byte in digest.as_ref() {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests;
