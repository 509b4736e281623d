//! How an authority sees whether a name is somebody's: on the ports that the test names in place of 80 and 443.

use crate::address::Address;
use crate::raw::Conn;
use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use std::net::SocketAddr;
use std::sync::Arc;

/// Where all names lead.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub http: Option<SocketAddr>,
    pub tls: Option<SocketAddr>,
}

/// Looks, or says why it saw nothing.
pub(super) fn look(
    kind: &str,
    ports: Ports,
    name: &str,
    token: &str,
    authorization: &str,
) -> Result<(), String> {
    match (kind, ports) {
        ("http-01", Ports { http: Some(at), .. }) => http(at, name, token, authorization),
        ("tls-alpn-01", Ports { tls: Some(at), .. }) => tls(at, name, authorization),
        _ => Err(format!("nowhere to look for {kind}")),
    }
}

/// RFC 8555 section 8.3.
fn http(at: SocketAddr, name: &str, token: &str, authorization: &str) -> Result<(), String> {
    let mut conn = Conn::try_connect(Address::from(at)).map_err(|error| error.to_string())?;
    let head = format!(
        "GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    );
    conn.try_send(head).map_err(|error| error.to_string())?;
    let response = conn
        .try_response_to("GET")
        .map_err(|broken| format!("{broken:?}"))?;
    if response.status == 200 && response.text() == authorization {
        Ok(())
    } else {
        Err(format!("found {} with {:?}", response.status, response.text()))
    }
}

/// RFC 8737 section 3.
fn tls(at: SocketAddr, name: &str, authorization: &str) -> Result<(), String> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let server = ServerName::try_from(name.to_owned()).expect("name");
    let session = ClientConnection::new(Arc::new(config), server).map_err(|error| error.to_string())?;
    let conn = Conn::try_connect(Address::from(at)).map_err(|error| error.to_string())?;
    let mut conn = conn.secure(session)?;
    let agreed = conn.agreed();
    if agreed.alpn.as_deref() != Some("acme-tls/1") {
        return Err(format!("agreed on {:?}", agreed.alpn));
    }
    // The extension by its identifier, critical, with the digest inside of two octet strings.
    let digest = digest(&SHA256, authorization.as_bytes());
    let mut extension = vec![6, 8, 43, 6, 1, 5, 5, 7, 1, 31, 1, 1, 0xff, 4, 34, 4, 32];
    extension.extend_from_slice(digest.as_ref());
    let holds = |needle: &[u8]| {
        agreed
            .certificate
            .windows(needle.len())
            .any(|part| part == needle)
    };
    if !holds(&extension) {
        return Err("the certificate does not have the digest".to_owned());
    }
    if !holds(name.as_bytes()) {
        return Err("the certificate is for another name".to_owned());
    }
    // Nothing is served on this connection.
    let served = conn
        .try_send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .map_err(|error| error.to_string());
    if served.is_ok() && conn.try_response_to("GET").is_ok() {
        return Err("requests are served on it".to_owned());
    }
    Ok(())
}

/// The certificate is looked at and not trusted.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
