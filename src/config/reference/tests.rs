//! The reference file and what it says.

use super::*;
use crate::config::keys::MapKey;
use crate::config::{Environment, load_text};
use std::path::Path;

/// The file at this path under `config/` holds this text; with `TIDEGATE_BLESS` set it is written.
fn holds(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    if std::env::var_os("TIDEGATE_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "config/{name} differs from the table of keys; TIDEGATE_BLESS=1 writes it anew"
    );
}

#[test]
fn the_reference_file_is_what_the_table_of_keys_says() {
    holds("tidegate.toml", &toml());
}

#[test]
fn the_docs_of_the_keys_are_what_the_table_of_keys_says() {
    holds("KEYS.md", &markdown());
}

#[test]
fn the_reference_file_says_no_more_than_the_compiled_defaults() {
    let env = Environment::default();
    let reference = load_text("reference", &toml(), &env).unwrap();
    let bare = "
        [listeners.web]
        address = '127.0.0.1:8080'
        [[routes]]
        upstream = 'app'
        [upstreams.app]
        endpoints = ['127.0.0.1:3000']";
    let bare = load_text("bare", bare, &env).unwrap();
    assert_eq!(reference.config, bare.config);
    assert!(reference.warnings.is_empty(), "{:?}", reference.warnings);
}

#[test]
fn what_is_switched_off_in_the_reference_file_is_right_too() {
    // Keys that exclude one another stay off.
    let text: String = toml()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => rest,
            _ => line,
        })
        .fold(String::new(), |all, line| all + line + "\n");
    let secrets = [
        ("TIDEGATE_ADMIN_TOKEN", "secret"),
        ("ACME_EAB_KEY", "a2V5"),
        ("REDIS_PASSWORD", "secret"),
        ("SENTINEL_PASSWORD", "secret"),
        ("TIDEGATE_CLUSTER_KEY", "secret"),
    ];
    let env = Environment::from_vars(secrets.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let errors = load_text("reference", &text, &env).unwrap_err().diagnostics;
    let errors: Vec<&str> = errors
        .iter()
        .filter(|told| told.severity == crate::config::Severity::Error)
        .map(|told| told.message.as_str())
        // The files that examples name are nowhere, and the route has no host.
        .filter(|message| {
            !message.contains("can't be read") && !message.contains("no name to get a certificate")
        })
        .collect();
    assert_eq!(errors.len(), 6, "{errors:#?}");
    assert!(errors[0].contains("upstreams.app has `tls`"), "{errors:#?}");
    assert!(
        errors[1].contains("one action; found upstream and split and redirect and respond"),
        "{errors:#?}"
    );
    assert!(errors[2].contains("found upstream `canary`"), "{errors:#?}");
    assert!(errors[3].contains("found dns and srv"), "{errors:#?}");
    assert!(
        errors[4].contains("found cookie and learn and hash"),
        "{errors:#?}"
    );
    assert!(errors[5].contains("found cookie and header"), "{errors:#?}");
}

#[test]
fn every_key_has_a_sentence_and_what_has_no_default_an_example() {
    walk(ROOT, &mut |pattern, key| {
        assert!(
            key.doc.ends_with('.') || key.doc.ends_with('`'),
            "{pattern}: {}",
            key.doc
        );
        let single = key.children().is_empty();
        let bare = !matches!(key.presence, Presence::Default(_));
        assert!(
            !single || !bare || !key.example.is_empty(),
            "{pattern} has no example"
        );
        if let Shape::Map(of, _) = key.shape {
            assert!(of != MapKey::Status || key.example.contains("502"), "{pattern}");
        }
    });
}
