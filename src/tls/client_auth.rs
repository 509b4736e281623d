//! Certificates of clients: on what terms they are taken, and what they say of the client.

use super::certificate::{self, day, fingerprint};
use crate::config::diagnostic::Diagnostic;
use crate::config::files::MAX_CRL_BYTES;
use crate::config::model::ClientAuth;
pub use crate::config::model::ClientAuthMode;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

/// Names of a client that are told to endpoints; one certificate may have thousands.
const MAX_NAMES_TOLD: usize = 16;

/// Bytes of authorities' names that a client is told in the handshake. Their list has a length of two bytes, so a large
/// bundle would break every handshake; with no list, clients show what they have.
const MAX_NAMED: usize = 16 * 1024;
/// What stands around a name there.
const NAME_OVERHEAD: usize = 8;

/// What is asked of a client's certificate. Equal digests mean the same question with the same answers.
#[derive(Clone, Debug)]
pub struct Terms {
    pub mode: ClientAuthMode,
    pub verifier: Option<Arc<dyn ClientCertVerifier>>,
    pub digest: [u8; 32],
    /// The last second, in Unix time, in which none of the revocation lists has run out.
    pub lists_until: i64,
}

impl Terms {
    /// No certificate is asked for.
    #[must_use]
    pub fn none() -> Self {
        Self {
            mode: ClientAuthMode::None,
            verifier: None,
            digest: digest(&[b"none"]),
            lists_until: i64::MAX,
        }
    }

    /// Reads what `auth` names; problems go to `found` under `key`. `now` is in seconds of Unix time.
    pub(super) fn load(
        auth: &ClientAuth,
        provider: &Arc<CryptoProvider>,
        key: &str,
        now: i64,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let Some(ca) = auth.ca.as_ref().filter(|_| auth.mode != ClientAuthMode::None) else {
            return Some(Self::none());
        };
        let roots = roots(ca, &format!("{key}.ca"), found);
        let lists = revocations(&auth.crl, &format!("{key}.crl"), now, found);
        let (Some(roots), Some(lists)) = (roots, lists) else {
            return None;
        };
        let mode: &[u8] = match auth.mode {
            ClientAuthMode::Required => b"required",
            ClientAuthMode::Optional | ClientAuthMode::None => b"optional",
        };
        let mut parts: Vec<&[u8]> = vec![mode];
        parts.extend(roots.iter().map(AsRef::as_ref));
        parts.push(b"revoked");
        parts.extend(lists.iter().map(AsRef::as_ref));
        let digest = digest(&parts);
        // A list is good before the moment of its next one, and no longer at it.
        let ends = lists.iter().filter_map(next_update).map(|next| next - 1);
        let lists_until = ends.min().unwrap_or(i64::MAX);
        let mut store = RootCertStore::empty();
        for root in roots {
            if let Err(error) = store.add(root) {
                let text = format!("{}: a certificate can't be used: {error}", ca.display());
                found.push(Diagnostic::error(format!("{key}.ca"), text));
                return None;
            }
        }
        let named: usize = store
            .roots
            .iter()
            .map(|root| root.subject.len() + NAME_OVERHEAD)
            .sum();
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider.clone());
        if named > MAX_NAMED {
            builder = builder.clear_root_hint_subjects();
        }
        if !lists.is_empty() {
            builder = builder
                .with_crls(lists)
                .only_check_end_entity_revocation()
                .enforce_revocation_expiration();
        }
        if auth.mode == ClientAuthMode::Optional {
            builder = builder.allow_unauthenticated();
        }
        match builder.build() {
            Ok(verifier) => Some(Self {
                mode: auth.mode,
                verifier: Some(verifier),
                digest,
                lists_until,
            }),
            Err(error) => {
                found.push(Diagnostic::error(format!("{key}.ca"), error.to_string()));
                None
            }
        }
    }
}

fn roots(path: &Path, key: &str, found: &mut Vec<Diagnostic>) -> Option<Vec<CertificateDer<'static>>> {
    certificate::certificates(path)
        .map_err(|error| found.push(Diagnostic::error(key, error.to_string())))
        .ok()
}

/// All lists in all files. One that ran out refuses everybody whom its issuer vouches for, so that is told.
fn revocations(
    paths: &[std::path::PathBuf],
    key: &str,
    now: i64,
    found: &mut Vec<Diagnostic>,
) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    let mut lists = Vec::new();
    let mut failed = false;
    for path in paths {
        match read_lists(path) {
            Ok(read) => {
                for list in &read {
                    if let Some(until) = next_update(list).filter(|until| *until < now) {
                        let text = format!(
                            "{} ran out on {}: clients of its issuer are refused until there is a new one",
                            path.display(),
                            day(until)
                        );
                        found.push(Diagnostic::warning(key, text));
                    }
                }
                lists.extend(read);
            }
            Err(text) => {
                failed = true;
                found.push(Diagnostic::error(key, text));
            }
        }
    }
    (!failed).then_some(lists)
}

fn read_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_CRL_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("{shown} can't be read: {error}"))?;
    if bytes.len() as u64 > MAX_CRL_BYTES {
        return Err(format!("{shown} is larger than the 16 MiB allowed"));
    }
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    match lists {
        Ok(lists) if lists.is_empty() => Err(format!(
            "{shown} has no revocation list (a section that begins with -----BEGIN X509 CRL-----)"
        )),
        Ok(lists) => Ok(lists),
        Err(error) => Err(format!("{shown} is not PEM: {error}")),
    }
}

fn next_update(list: &CertificateRevocationListDer<'_>) -> Option<i64> {
    let (_, parsed) =
        x509_parser::revocation_list::CertificateRevocationList::from_der(list.as_ref()).ok()?;
    parsed.next_update().map(|time| time.timestamp())
}

/// Each part with its length, so that no two lists of parts run together to the same.
pub(super) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Who a client is by its certificate, as texts that fit into header fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    pub subject: String,
    pub issuer: String,
    /// Hexadecimal.
    pub serial: String,
    /// SHA-256 of the certificate.
    pub fingerprint: String,
    /// The names of the extension that lists them, such as `DNS:a.example` and `URI:spiffe://…`.
    pub names: Vec<String>,
    /// In seconds of Unix time.
    pub not_after: i64,
    pub der: Vec<u8>,
}

impl ClientIdentity {
    /// Reads a certificate that a verifier has taken.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate.as_ref()).ok()?;
        let mut names = Vec::new();
        for extension in parsed.extensions() {
            if let ParsedExtension::SubjectAlternativeName(list) = extension.parsed_extension() {
                let told = list.general_names.iter().filter_map(told_name);
                names.extend(told.take(MAX_NAMES_TOLD));
            }
        }
        Some(Self {
            subject: printable(&parsed.subject().to_string()),
            issuer: printable(&parsed.issuer().to_string()),
            serial: format!("{:x}", parsed.tbs_certificate.serial),
            fingerprint: fingerprint(certificate.as_ref()),
            names,
            not_after: parsed.validity().not_after.timestamp(),
            der: certificate.as_ref().to_vec(),
        })
    }
}

fn told_name(name: &GeneralName<'_>) -> Option<String> {
    let text = match name {
        GeneralName::DNSName(text) => format!("DNS:{text}"),
        GeneralName::RFC822Name(text) => format!("email:{text}"),
        GeneralName::URI(text) => format!("URI:{text}"),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let six = || <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from);
            format!("IP:{}", four.or_else(|_| six()).ok()?)
        }
        _ => return None,
    };
    Some(printable(&text).replace(',', "%2C"))
}

/// With everything that must not be in a header field as `%XX`: a certificate is written by somebody else.
fn printable(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..0x7f).contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A header field that tells an endpoint of a client's certificate.
pub type Told = (&'static [u8], Box<[u8]>);

/// What the fields of [`told`] begin with, in lower case, but for those of RFC 9440.
const PREFIX: &[u8] = b"x-tidegate-client-";
/// Fields of RFC 9440.
const STANDARD: [&[u8]; 2] = [b"client-cert", b"client-cert-chain"];

/// Whether a field of this name tells endpoints of a client's certificate: from a client it would be a forgery.
#[must_use]
#[inline]
pub fn tells_identity(name: &[u8]) -> bool {
    match name.len() {
        11 | 17 => STANDARD.iter().any(|known| name.eq_ignore_ascii_case(known)),
        n if n > PREFIX.len() => name[..PREFIX.len()].eq_ignore_ascii_case(PREFIX),
        _ => false,
    }
}

/// What endpoints are told of a client that was asked for its certificate. Whether it has shown one is told too:
/// then a field that is missing is known not to be lost.
#[must_use]
pub fn told(identity: Option<&ClientIdentity>) -> Vec<Told> {
    let verified: &[u8] = if identity.is_some() { b"yes" } else { b"no" };
    let mut fields: Vec<Told> = vec![(b"X-Tidegate-Client-Verified", verified.into())];
    if let Some(identity) = identity {
        let mut add = |name, value: &str| fields.push((name, value.as_bytes().into()));
        add(b"X-Tidegate-Client-Subject", &identity.subject);
        add(b"X-Tidegate-Client-Issuer", &identity.issuer);
        add(b"X-Tidegate-Client-Serial", &identity.serial);
        add(b"X-Tidegate-Client-Fingerprint", &identity.fingerprint);
        if !identity.names.is_empty() {
            add(b"X-Tidegate-Client-Names", &identity.names.join(", "));
        }
        add(b"Client-Cert", &format!(":{}:", base64(&identity.der)));
    }
    fields
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let at = |n: usize| u32::from(part.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n) & 63) as usize];
            out.push(if n > part.len() { '=' } else { char::from(digit) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn what_is_told_is_what_is_taken_from_clients() {
        let identity = ClientIdentity {
            subject: "CN=a".to_owned(),
            issuer: "CN=b".to_owned(),
            serial: "1".to_owned(),
            fingerprint: "ab".to_owned(),
            names: vec!["DNS:a".to_owned()],
            not_after: 0,
            der: vec![1],
        };
        let fields = told(Some(&identity));
        assert_eq!(fields.len(), 7);
        for (name, _) in fields {
            assert!(tells_identity(name) && tells_identity(&name.to_ascii_lowercase()));
        }
        for name in [&b"client-cert-chain"[..], b"X-TIDEGATE-CLIENT-ANYTHING"] {
            assert!(tells_identity(name));
        }
        for name in [
            &b"x-client-cert"[..],
            b"client-certs",
            b"x-tidegate-client-",
            b"x-tidegate-error",
        ] {
            assert!(!tells_identity(name));
        }
    }

    #[test]
    fn a_subject_cannot_break_out_of_its_field() {
        assert_eq!(printable("CN=a\r\nX: 1 %"), "CN=a%0D%0AX: 1 %25");
        assert_eq!(printable("\u{e4}"), "%C3%A4");
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    }
}
