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
    fn any_part_of_the_reference_shown_whole_means_the_same(kept in prop::collection::vec(any::<bool>(), 200)) {
        let mut kept = kept.into_iter().cycle();
        let text: String = everything_on().filter(|line| !may_go(line) || kept.next() == Some(true)).collect();
        let env = environment(&[
            ("TIDEGATE_ADMIN_TOKEN", "t"),
            ("REDIS_PASSWORD", "t"),
            ("SENTINEL_PASSWORD", "t"),
            ("TIDEGATE_CLUSTER_KEY", "t"),
        ]);
        let loaded = load_text("some", &text, &env).map_err(|rejected| rejected.to_string());
        prop_assert!(loaded.is_ok(), "{}\n{}", text, loaded.unwrap_err());
        let loaded = loaded.unwrap();
        for shown in [effective::toml(&loaded), effective::written_toml(&loaded)] {
            let again = load_text("again", &shown, &env).map(|again| again.config);
            prop_assert_eq!(again.ok(), Some(loaded.config.clone()));
        }
    }
}

/// The reference file with what is switched off in it switched on, but for the other actions of its route and whatever
/// else excludes something.
fn everything_on() -> impl Iterator<Item = String> {
    let mut table = String::new();
    let lines: Vec<String> = reference::toml().lines().map(str::to_owned).collect();
    lines.into_iter().filter_map(move |line| {
        let line = match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(' ') || rest.is_empty() => return None,
            Some(rest) => rest.to_owned(),
            None => line,
        };
        if line.starts_with('[') {
            table.clone_from(&line);
        }
        let other_action = ["[routes.redirect]", "[routes.respond]"].contains(&table.as_str());
        // Their files and names are examples, and are nowhere.
        let tls = [".tls", ".redis_tls", ".acme"]
            .iter()
            .any(|it| table.contains(it));
        let learn = table.contains(".sticky.learn") || table.contains(".discover.registry");
        let other_choice = ["split =", "srv =", "hash ="]
            .iter()
            .any(|it| line.starts_with(it));
        (!other_action && !tls && !learn && !other_choice).then(|| line + "\n")
    })
}

/// Whether a line of the reference may be left out.
fn may_go(line: &str) -> bool {
    let required = [
        "address", "upstream", "regex", "to", "token", "dns", "trusted", "send", "sni", "cookie",
    ];
    line.split_once(" = ")
        .is_some_and(|(key, _)| !required.contains(&key) && key != "name")
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
