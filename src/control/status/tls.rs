//! What TLS listeners serve.

use crate::control::gateway::Gateway;
use crate::tls::certificate::{Certificate, KeyKind, fingerprint};
use jiff::Timestamp;
use serde::Serialize;

/// One certificate of one listener.
#[derive(Debug, Serialize)]
pub struct CertificateStatus {
    pub listener: String,
    pub file: String,
    pub names: Vec<String>,
    pub key: &'static str,
    pub subject: String,
    /// RFC 3339.
    pub not_before: String,
    pub not_after: String,
    pub expired: bool,
    /// Of the certificate itself, in hexadecimal.
    pub sha256: String,
}

/// The certificates in use, by listener.
#[must_use]
pub fn certificates(gateway: &Gateway) -> Vec<CertificateStatus> {
    let live = gateway.live.load();
    let served = live
        .listeners
        .iter()
        .filter_map(|listener| Some((listener, listener.tls.as_ref()?)));
    served
        .flat_map(|(listener, tls)| {
            let certificates = tls.certificates().into_iter();
            certificates.map(move |certificate| view(&listener.name, &certificate))
        })
        .collect()
}

fn view(listener: &str, certificate: &Certificate) -> CertificateStatus {
    let leaf = certificate.key.cert.first();
    CertificateStatus {
        listener: listener.to_owned(),
        file: certificate.path.display().to_string(),
        names: certificate.names.iter().map(ToString::to_string).collect(),
        key: match certificate.kind {
            KeyKind::Ecdsa => "ecdsa",
            KeyKind::Ed25519 => "ed25519",
            KeyKind::Rsa => "rsa",
        },
        subject: certificate.subject.clone(),
        not_before: time(certificate.not_before),
        not_after: time(certificate.not_after),
        expired: certificate.not_after <= Timestamp::now().as_second(),
        sha256: leaf.map(|leaf| fingerprint(leaf)).unwrap_or_default(),
    }
}

/// From seconds of Unix time; empty beyond the calendar.
fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| String::new(), |time| time.to_string())
}
