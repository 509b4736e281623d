use super::*;
use crate::config::model::{CertificateFiles, TlsPolicy};
use crate::tls::acme::Acme;
use std::path::Path;

const fn no_orders(acme: &Acme) -> Orders<'_> {
    Orders { acme, wanted: None }
}

fn write(dir: &Path, name: &str, names: &[&str]) -> CertificateFiles {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let files = CertificateFiles {
        cert: dir.join(format!("{name}.pem")),
        key: dir.join(format!("{name}.key")),
    };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    files
}

fn tls(certificates: Vec<CertificateFiles>, default: UnknownName) -> Tls {
    Tls {
        certificates,
        default,
        policy: TlsPolicy::Intermediate,
        ciphers: Vec::new(),
        groups: Vec::new(),
        alpn: vec![Alpn::H2, Alpn::Http11],
        client_auth: None,
        client_auth_by_name: Vec::new(),
        session_tickets: true,
    }
}

fn load(tls: &Tls) -> Arc<ServerTls> {
    let mut found = Vec::new();
    let loaded = ServerTls::load(
        "web",
        tls,
        "listeners.web.tls",
        &Arc::default(),
        no_orders(&Acme::default()),
        1_800_000_000,
        &mut found,
    );
    loaded.unwrap_or_else(|| panic!("{found:?}"))
}

fn asking(name: Option<&str>) -> Hello {
    Hello {
        server_name: name.map(str::to_owned),
        protocols: Vec::new(),
    }
}

fn two(default: UnknownName) -> (tempfile::TempDir, Arc<ServerTls>) {
    let dir = tempfile::tempdir().unwrap();
    let certificates = vec![
        write(dir.path(), "a", &["a.test", "*.wild.test", "192.0.2.1"]),
        write(dir.path(), "b", &["b.test"]),
    ];
    let loaded = load(&tls(certificates, default));
    (dir, loaded)
}

#[test]
fn a_connection_is_for_the_hosts_of_its_certificate() {
    let (_dir, tls) = two(UnknownName::Reject);
    let served = tls.answer(&asking(Some("a.test")), None).unwrap().served;
    for host in ["a.test", "x.wild.test", "192.0.2.1"] {
        assert!(tls.admits(&served, host), "{host}");
    }
    for host in ["b.test", "c.test", "wild.test", "x.y.wild.test", "192.0.2.2", ""] {
        assert!(!tls.admits(&served, host), "{host}");
    }
}

#[test]
fn strangers_are_refused_or_served_as_strangers() {
    let (_dir, rejecting) = two(UnknownName::Reject);
    assert!(rejecting.answer(&asking(Some("c.test")), None).is_none());
    assert!(rejecting.answer(&asking(None), None).is_none());
    let (_dir, serving) = two(UnknownName::First);
    let served = serving.answer(&asking(None), None).unwrap().served;
    assert!(
        serving.admits(&served, "anything.test"),
        "no certificate is for it"
    );
    assert!(serving.admits(&served, "a.test"));
    assert!(
        !serving.admits(&served, "b.test"),
        "another certificate is for it"
    );
}

#[test]
fn an_address_of_a_certificate_needs_no_name() {
    let (_dir, tls) = two(UnknownName::Reject);
    let local = Some("192.0.2.1".parse().unwrap());
    assert!(tls.answer(&asking(None), local).is_some());
    let mapped = Some("::ffff:192.0.2.1".parse().unwrap());
    assert!(tls.answer(&asking(None), mapped).is_some());
    assert!(tls.answer(&asking(Some("c.test")), local).is_none());
}

#[test]
fn problems_are_told_under_their_keys() {
    let dir = tempfile::tempdir().unwrap();
    let good = write(dir.path(), "a", &["a.test"]);
    let other = write(dir.path(), "b", &["b.test"]);
    let mixed = CertificateFiles {
        cert: good.cert.clone(),
        key: other.key,
    };
    let gone = CertificateFiles {
        cert: dir.path().join("gone.pem"),
        key: good.key.clone(),
    };
    let mut found = Vec::new();
    let tls = tls(vec![good, mixed, gone], UnknownName::Reject);
    assert!(
        ServerTls::load(
            "web",
            &tls,
            "listeners.web.tls",
            &Arc::default(),
            no_orders(&Acme::default()),
            0,
            &mut found
        )
        .is_none()
    );
    let errors: Vec<&str> = found
        .iter()
        .filter(|told| told.severity == crate::config::Severity::Error)
        .map(|told| told.key.as_str())
        .collect();
    assert_eq!(
        errors,
        [
            "listeners.web.tls.certificates[1].key",
            "listeners.web.tls.certificates[2].cert"
        ]
    );
}

#[test]
fn what_is_allowed_is_offered_in_its_order() {
    let names = offered(&[Alpn::H2, Alpn::Http11]);
    assert_eq!(names, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!(offered(&[Alpn::Http11]), [b"http/1.1".to_vec()]);
}
