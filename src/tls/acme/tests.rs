use super::*;
use rcgen::{CertificateParams, KeyPair};

fn subject(names: &[&str]) -> Subject {
    Subject {
        directory: "https://ca.test/directory".to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn pem(names: &[&str]) -> String {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    format!("{}{}", certificate.pem(), key.serialize_pem())
}

fn write(slot: &Slot, home: &Path, content: &str) {
    let path = slot.file(home);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

#[test]
fn a_slot_begins_with_what_an_earlier_run_has_kept() {
    let directory = tempfile::tempdir().unwrap();
    let acme = Acme::default();
    let early = acme.slot(subject(&["a.test"]));
    assert!(early.held().is_none(), "nobody has said where things are kept");
    write(&early, &directory.path().join(HOME), &pem(&["a.test"]));
    acme.keep_in(directory.path());
    assert!(early.held().is_some() && early.choice().is_some());
    assert!(early.held().unwrap().stored > 1_700_000_000);

    let late = acme.slot(subject(&["b.test"]));
    assert!(late.held().is_none());
    write(&late, &directory.path().join(HOME), &pem(&["b.test"]));
    drop(late);
    assert!(acme.slot(subject(&["b.test"])).held().is_some());
}

#[test]
fn what_can_not_be_used_is_as_good_as_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let acme = Acme::default();
    acme.keep_in(directory.path());
    let home = directory.path().join(HOME);
    for bad in [
        "",
        "no pem",
        &pem(&["other.test"]),
        "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
    ] {
        let slot = acme.slot(subject(&["a.test"]));
        write(&slot, &home, bad);
        drop(slot);
        assert!(acme.slot(subject(&["a.test"])).held().is_none(), "{bad}");
    }
}

#[test]
fn the_same_names_are_one_certificate_while_somebody_holds_it() {
    let acme = Acme::default();
    let one = acme.slot(subject(&["a.test"]));
    assert!(Arc::ptr_eq(&one, &acme.slot(subject(&["a.test"]))));
    assert!(!Arc::ptr_eq(&one, &acme.slot(subject(&["a.test", "b.test"]))));
    drop(one);
    drop(acme.slot(subject(&["c.test"])));
    drop(acme.slot(subject(&["d.test"])));
    assert_eq!(
        acme.slots.lock().unwrap().len(),
        1,
        "those that nobody holds are let go"
    );
}

#[test]
fn files_are_told_apart_and_stay_in_their_directory() {
    let acme = Acme::default();
    let home = Path::new("/state/acme");
    let long = format!("{}.test", "a.".repeat(120));
    let files: Vec<PathBuf> = [
        &["a.test"][..],
        &["a.test", "b.test"],
        &["a.test", "c.test"],
        &[&long],
    ]
    .iter()
    .map(|names| acme.slot(subject(names)).file(home))
    .collect();
    for (n, file) in files.iter().enumerate() {
        assert!(files.iter().skip(n + 1).all(|other| other != file), "{files:?}");
        assert_eq!(
            file.components().count(),
            home.components().count() + 3,
            "{file:?}"
        );
        assert!(file.file_name().unwrap().len() < 255);
    }
    let name = directory_name("https://ca.test:14000/dir/../x");
    assert!(
        name.starts_with("ca.test_14000-") && !name.contains('/'),
        "{name}"
    );
}

#[test]
fn an_answer_is_given_as_long_as_it_is_offered() {
    let challenges = Arc::new(Challenges::default());
    let path = b"/.well-known/acme-challenge/tok";
    assert!(challenges.http(path).is_none());
    let offer = challenges.offer_http("tok", "tok.thumb");
    assert_eq!(challenges.http(path).as_deref(), Some("tok.thumb"));
    for other in [
        &b"/.well-known/acme-challenge/"[..],
        b"/tok",
        b"/.well-known/acme-challenge/tok/",
        b"\xff",
    ] {
        assert!(challenges.http(other).is_none());
    }
    drop(offer);
    assert!(challenges.http(path).is_none());

    let offer = challenges.offer_tls("a.test", &[7; 32]).unwrap();
    let config = challenges.tls("a.test").unwrap();
    assert_eq!(config.alpn_protocols, [challenge::PROTOCOL]);
    assert!(challenges.tls("b.test").is_none());
    drop(offer);
    assert!(challenges.tls("a.test").is_none());
}
