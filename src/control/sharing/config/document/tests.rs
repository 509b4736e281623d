use super::*;
use proptest::prelude::*;

/// A version of the cluster `prod`.
pub(in crate::control::sharing::config) fn document(version: u64, text: Option<&str>) -> Document {
    let plain = text.unwrap_or_default();
    Document {
        about: About {
            version,
            cluster: "prod".to_owned(),
            sha256: sha256(plain.as_bytes()),
            bytes: plain.len(),
            there: text.is_some(),
            author: "token ann".to_owned(),
            node: "gw-1".to_owned(),
            at: "2026-11-21T16:00:00Z".to_owned(),
            reason: None,
            again: None,
        },
        text: text.map(Into::into),
    }
}

fn seal(key: &str) -> Seal {
    Seal::new(key.as_bytes(), "prod").unwrap()
}

#[test]
fn what_is_written_is_read_sealed_or_not() {
    for text in [Some("[dns]\nmin_ttl = \"1s\"\n"), None] {
        let document = document(7, text);
        for seal in [None, Some(&seal("key"))] {
            let content = document.content(seal).unwrap();
            assert_eq!(Document::read(7, &content, "prod", seal), Ok(document.clone()));
            let summary = document.summary(seal).unwrap();
            assert_eq!(
                read_summary(7, &summary, "prod", seal).as_ref(),
                Ok(&document.about)
            );
        }
    }
    let sealed = document(7, Some("secret = 1"))
        .content(Some(&seal("key")))
        .unwrap();
    assert!(!String::from_utf8_lossy(&sealed).contains("secret"));
}

#[test]
fn what_another_wrote_or_was_in_force_once_is_not_taken() {
    let (ours, others) = (seal("key"), seal("other"));
    let text = Some("[dns]\n");
    let plain = document(7, text).content(None).unwrap();
    let sealed = document(7, text).content(Some(&ours)).unwrap();
    let read = |version, content: &[u8], cluster, seal| Document::read(version, content, cluster, seal);
    assert_eq!(read(7, &plain, "prod", Some(&ours)), Err(Unreadable::Unsealed));
    assert_eq!(read(7, &sealed, "prod", None), Err(Unreadable::Sealed));
    assert_eq!(
        read(7, &sealed, "prod", Some(&others)),
        Err(Unreadable::Seal(OpenError::Key))
    );
    // The same bytes under a later number.
    assert_eq!(
        read(8, &sealed, "prod", Some(&ours)),
        Err(Unreadable::Seal(OpenError::Key))
    );
    assert_eq!(read(8, &plain, "prod", None), Err(Unreadable::Version(7)));
    assert_eq!(
        read(7, &plain, "test", None),
        Err(Unreadable::Cluster("prod".to_owned()))
    );
    let summary = document(7, text).summary(Some(&ours)).unwrap();
    assert!(
        read(7, &summary, "prod", Some(&ours)).is_err(),
        "a summary is no configuration"
    );
}

#[test]
fn texts_that_do_not_fit_their_summary_are_not_taken() {
    let mut longer = document(7, Some("[dns]\n"));
    longer.text = Some("[dns]\n# more".into());
    let content = longer.content(None).unwrap();
    assert_eq!(Document::read(7, &content, "prod", None), Err(Unreadable::Hash));
    let large = "#".repeat(MAX_TEXT + 1);
    let content = document(7, Some(&large)).content(None).unwrap();
    assert_eq!(
        Document::read(7, &content, "prod", None),
        Err(Unreadable::TooLong)
    );
    let mut gone = document(7, Some("[dns]\n"));
    gone.about.there = false;
    let content = gone.content(None).unwrap();
    assert_eq!(Document::read(7, &content, "prod", None), Err(Unreadable::Hash));
}

#[test]
fn what_is_told_of_a_version_breaks_no_line() {
    let mut long = document(7, Some("[dns]\n"));
    long.about.author = format!("a\nb{}", "x".repeat(10_240));
    let content = long.content(None).unwrap();
    let read = Document::read(7, &content, "prod", None).unwrap();
    assert!(read.about.author.starts_with("a b") && read.about.author.len() <= MAX_WORDS);
}

#[test]
fn a_text_of_the_largest_size_has_room_in_the_store() {
    let large = "\"".repeat(MAX_TEXT);
    let mut document = document(u64::MAX, Some(&large));
    document.about.reason = Some("\u{1}".repeat(MAX_WORDS));
    let content = document.content(Some(&seal("key"))).unwrap();
    assert!(
        content.len() <= crate::cluster::configs::MAX_CONTENT,
        "{}",
        content.len()
    );
    let summary = document.summary(Some(&seal("key"))).unwrap();
    assert!(
        summary.len() <= crate::cluster::configs::MAX_ABOUT,
        "{}",
        summary.len()
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for seal in [None, Some(&seal("key"))] {
            prop_assert!(Document::read(7, &bytes, "prod", seal).is_err());
            prop_assert!(Document::read(7, &[SEALED, &bytes].concat(), "prod", seal).is_err());
        }
    }
}
