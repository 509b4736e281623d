//! Whatever is fed to the loader: it answers, and does not fall over.

use super::*;
use proptest::prelude::*;

/// Pieces of configurations, right and wrong.
const PIECES: &[&str] = &[
    "[listeners.web]\n",
    "[listeners",
    ".web]\n",
    "address = '127.0.0.1:0'\n",
    "address = ",
    "[[routes]]\n",
    "[routes]\n",
    "upstream = 'app'\n",
    "split = { app = 1, ",
    "}\n",
    "[upstreams.app]\n",
    "endpoints = [",
    "'a:1', ",
    "]\n",
    "{ address = 'b:2' }",
    "balance = 'weighted'\n",
    "[admin]\n",
    "tokens = [{ name = 'x', token = 'y' }]\n",
    "\"",
    "'",
    "'''",
    "\"\"\"",
    "\n",
    "\r",
    "#",
    "=",
    ".",
    "é",
    "\u{feff}",
    "\u{0}",
    "0x",
    "1_0",
    "-",
    "nan",
    "inf",
    "1e999",
    "1979-05-27",
    "99999999999999999999999999999999999999999999",
    "include = ['*']\n",
    "[a.b.c]\n",
    "a.b.c = 1\n",
    "[[a]]\n",
    "{",
    "[[",
    "limits = { body = '1MB' }\n",
    "limits.body = 3\n",
    "error_pages = { 502 = '/dev/zero' }\n",
    "respond = {}\n",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        answer(&text);
    }

    #[test]
    fn any_soup_of_pieces_is_answered(pieces in prop::collection::vec(0..PIECES.len(), 0..40)) {
        answer(&pieces.into_iter().map(|at| PIECES[at]).collect::<String>());
    }

    #[test]
    fn any_damage_to_a_good_file_is_answered(at in 0..200usize, length in 0..20usize, with in "[ -~\n]{0,3}") {
        let mut text = GOOD.repeat(2).replacen("listeners.web", "listeners.b", 1);
        let at = at.min(text.len());
        let end = (at + length).min(text.len());
        text.replace_range(at..end, &with);
        answer(&text);
    }

    #[test]
    fn any_bytes_in_a_file_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        if let Err(rejected) = load(file.path(), &Environment::default()) {
            prop_assert!(!rejected.diagnostics.is_empty());
        }
    }

    #[test]
    fn any_variable_is_answered(rest in "[A-Z0-9_]{0,30}", section in 0..5usize, value in any::<String>()) {
        let section = ["RUNTIME", "LISTENERS__WEB", "ROUTES__0", "UPSTREAMS__APP", "LOG"][section];
        let variable = format!("TIDEGATE_{section}__{rest}");
        match load_text("test.toml", GOOD, &environment(&[(&variable, &value)])) {
            Ok(_) => {}
            Err(rejected) => prop_assert!(!rejected.diagnostics.is_empty()),
        }
    }

    #[test]
    fn any_part_of_the_reference_shown_whole_means_the_same(kept in prop::collection::vec(any::<bool>(), 400)) {
        let mut kept = kept.into_iter();
        // Keys without defaults are switched on at random, keys with defaults off.
        let text: String = reference::toml()
            .lines()
            .map(|line| {
                let on = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ') && rest.contains(" = "));
                let on = on.filter(|rest| !["split", "to", "regex"].iter().any(|key| rest.starts_with(key)));
                match on {
                    Some(rest) if kept.next() == Some(true) => rest,
                    _ => line,
                }
            })
            .fold(String::new(), |all, line| all + line + "\n");
        // What is switched on may not belong to the table it then is in; such a text is refused, not misread.
        if let Ok(loaded) = load_text("some", &text, &Environment::default()) {
            let again = load_text("again", &effective::toml(&loaded), &Environment::default());
            prop_assert_eq!(again.map(|again| again.config).ok(), Some(loaded.config));
        }
    }
}

/// Loads a text, and draws and places whatever comes of it.
fn answer(text: &str) {
    match load_text("test.toml", text, &Environment::default()) {
        Ok(loaded) => {
            let again = load_text("again.toml", &effective::toml(&loaded), &Environment::default());
            assert_eq!(again.map(|again| again.config).ok(), Some(masked(loaded.config)));
        }
        Err(rejected) => {
            assert!(
                rejected
                    .diagnostics
                    .iter()
                    .any(|told| told.severity == Severity::Error)
            );
            for told in &rejected.diagnostics {
                if let Some(at) = &told.location {
                    assert!(at.line >= 1 && at.column >= 1, "{told:?}");
                }
            }
            let drawn = render::text(&rejected.diagnostics, false);
            assert!(drawn.contains("error"), "{drawn}");
            assert!(render::json(&rejected.diagnostics).is_array());
        }
    }
}

/// Literal secrets do not come out again.
fn masked(mut config: Config) -> Config {
    for token in config.admin.iter_mut().flat_map(|admin| &mut admin.tokens) {
        token.token = model::Secret("***".to_owned());
    }
    config
}

#[test]
fn nesting_without_end_is_answered() {
    let key = vec!["a"; 79].join(".");
    let nested = (0..79).fold("1".to_owned(), |inner, _| format!("{{ {key} = {inner} }}"));
    for text in [
        format!("a = {nested}"),
        format!("a = {}", "[".repeat(100_000)),
        format!("{} = 1", vec!["a"; 100_000].join(".")),
        format!("[{}]", vec!["a"; 100_000].join(".")),
        format!("a = {}1{}", "{a=".repeat(10_000), "}".repeat(10_000)),
    ] {
        answer(&text);
    }
}
