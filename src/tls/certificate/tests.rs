use super::*;
use crate::tls::provider;
use rcgen::{
    CertificateParams, DnType, Issuer, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, date_time_ymd,
};
use std::os::unix::fs::PermissionsExt as _;

const NOW: i64 = 1_800_000_000;

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new(cert: &str, key: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cert"), cert).unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, key).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self { dir }
    }

    fn load(&self) -> Result<(Certificate, Vec<Doubt>), CertificateError> {
        let path = |name: &str| self.dir.path().join(name);
        Certificate::load(&path("cert"), &path("key"), &provider::provider(&[], &[]), NOW)
    }

    fn doubts(&self) -> String {
        let (_, doubts) = self.load().unwrap();
        doubts
            .iter()
            .map(|doubt| doubt.text.as_str())
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn error(&self) -> String {
        self.load().unwrap_err().to_string()
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).unwrap()
}

fn self_signed(params: &CertificateParams) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// The key as OpenSSL writes it in another form; `None` where there is no OpenSSL.
fn converted(key: &str, arguments: &[&str]) -> Option<String> {
    use std::io::Write as _;
    let mut child = std::process::Command::new("openssl")
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(key.as_bytes()).ok()?;
    let out = child.wait_with_output().ok()?;
    out.status
        .success()
        .then(|| String::from_utf8(out.stdout).unwrap())
}

#[test]
fn a_good_pair_is_taken_without_doubt() {
    let (cert, key) = self_signed(&params(&["a.test", "*.b.test", "127.0.0.1"]));
    let (loaded, doubts) = Files::new(&cert, &key).load().unwrap();
    assert_eq!(doubts, []);
    assert_eq!(loaded.kind, KeyKind::Ecdsa);
    assert!(loaded.covers("a.test") && loaded.covers("x.b.test") && loaded.covers("127.0.0.1"));
    assert!(!loaded.covers("b.test"));
    assert!(loaded.not_after > NOW);
}

#[test]
fn one_file_may_hold_both() {
    let (cert, key) = self_signed(&params(&["a.test"]));
    let both = format!("{key}{cert}");
    assert!(Files::new(&both, &both).load().is_ok());
}

#[test]
fn keys_of_all_forms_are_taken() {
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    for (key, label, arguments) in [
        (&rsa, "BEGIN RSA PRIVATE KEY", &["rsa", "-traditional"][..]),
        (&ec, "BEGIN EC PRIVATE KEY", &["ec"][..]),
    ] {
        let cert = params(&["a.test"]).self_signed(key).unwrap().pem();
        assert!(Files::new(&cert, &key.serialize_pem()).load().is_ok(), "PKCS#8");
        if let Some(other) = converted(&key.serialize_pem(), arguments) {
            assert!(other.contains(label), "{other}");
            assert!(Files::new(&cert, &other).load().is_ok(), "{label}");
        }
    }
}

#[test]
fn encrypted_keys_are_refused_by_that_name() {
    let (cert, key) = self_signed(&params(&["a.test"]));
    for arguments in [
        &["pkcs8", "-topk8", "-passout", "pass:x"][..],
        &["ec", "-aes128", "-passout", "pass:x"][..],
    ] {
        if let Some(encrypted) = converted(&key, arguments) {
            let told = Files::new(&cert, &encrypted).error();
            assert!(told.contains("holds an encrypted key"), "{told}");
        }
    }
}

#[test]
fn the_key_of_another_certificate_is_a_mismatch() {
    let ((cert, _), (_, key)) = (
        self_signed(&params(&["a.test"])),
        self_signed(&params(&["a.test"])),
    );
    let error = Files::new(&cert, &key).load().unwrap_err();
    assert!(matches!(error, CertificateError::Mismatch { .. }), "{error}");
}

#[test]
fn what_is_not_there_is_named() {
    let (cert, key) = self_signed(&params(&["a.test"]));
    assert!(Files::new(&key, &key).error().contains("has no certificate"));
    assert!(Files::new(&cert, &cert).error().contains("has no private key"));
    assert!(Files::new("", &key).error().contains("has no certificate"));
    let broken = "-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n";
    assert!(Files::new(broken, &key).error().contains("is not PEM"));
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(
        Files::new(nonsense, &key)
            .error()
            .contains("certificate 1 can't be understood")
    );
}

#[test]
fn what_clients_would_refuse_is_told() {
    let mut old = params(&["a.test"]);
    old.not_after = date_time_ymd(2020, 1, 2);
    let (cert, key) = self_signed(&old);
    assert!(Files::new(&cert, &key).doubts().contains("expired on 2020-01-02"));
    let mut early = params(&["a.test"]);
    early.not_before = date_time_ymd(2999, 1, 2);
    let (cert, key) = self_signed(&early);
    assert!(
        Files::new(&cert, &key)
            .doubts()
            .contains("valid only from 2999-01-02 on")
    );
    let mut common = params(&[]);
    common.distinguished_name.push(DnType::CommonName, "a.test");
    let (cert, key) = self_signed(&common);
    assert!(Files::new(&cert, &key).doubts().contains("only in the subject"));
}

#[test]
fn chains_with_gaps_are_told() {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = params(&[]);
    ca.distinguished_name.push(DnType::CommonName, "the authority");
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::from_params(&ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = params(&["a.test"]);
    leaf.distinguished_name.push(DnType::CommonName, "the leaf");
    let leaf = leaf.signed_by(&key, &issuer).unwrap().pem();
    let key = key.serialize_pem();
    assert!(Files::new(&leaf, &key).doubts().contains("has no chain"));
    assert_eq!(Files::new(&format!("{leaf}{ca_pem}"), &key).doubts(), "");
    let (stranger, _) = self_signed(&params(&["b.test"]));
    let told = Files::new(&format!("{leaf}{stranger}"), &key).doubts();
    assert!(
        told.contains("certificate 2 did not issue certificate 1"),
        "{told}"
    );
}

#[test]
fn a_key_that_everybody_can_read_is_told() {
    let (cert, key) = self_signed(&params(&["a.test"]));
    let files = Files::new(&cert, &key);
    let path = files.dir.path().join("key");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(files.doubts().contains("can be read by everybody (mode 0644)"));
}

#[test]
fn fingerprints_are_as_openssl_shows_them_without_colons() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(fingerprint(b""), empty);
}
