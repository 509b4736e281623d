//! The rules of the house that no compiler holds: which module may name which, what every file begins with,
//! what tests may not do, and whose code we build on. Links nothing of ours.

// Helpers of tests are tests too, but clippy knows only functions marked as such.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::string_slice)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which layer may name which others. `upstream` is three layers.
const LAYERS: [(&str, &[&str]); 17] = [
    ("base", &[]),
    ("message", &["base"]),
    ("h1", &["message", "base"]),
    ("ws", &["message", "base"]),
    ("telemetry", &["message", "base"]),
    ("config", &["message", "base"]),
    ("routing", &["config", "message", "base"]),
    ("net", &["telemetry", "base"]),
    ("tls", &["net", "config", "telemetry", "base"]),
    ("upstream::conn", &["h1", "tls", "net", "message", "base"]),
    (
        "upstream::shared",
        &[
            "upstream::conn",
            "tls",
            "net",
            "config",
            "telemetry",
            "message",
            "base",
        ],
    ),
    (
        "upstream::local",
        &[
            "upstream::shared",
            "upstream::conn",
            "net",
            "config",
            "telemetry",
            "message",
            "base",
        ],
    ),
    ("cluster", &["tls", "config", "telemetry", "base"]),
    (
        "snapshot",
        &[
            "tls",
            "config",
            "routing",
            "upstream::shared",
            "h1",
            "telemetry",
            "message",
            "base",
        ],
    ),
    (
        "proxy",
        &[
            "tls",
            "snapshot",
            "routing",
            "upstream::shared",
            "upstream::local",
            "upstream::conn",
            "h1",
            "ws",
            "net",
            "telemetry",
            "message",
            "base",
        ],
    ),
    (
        "control",
        &[
            "cluster",
            "tls",
            "proxy",
            "snapshot",
            "routing",
            "upstream::shared",
            "upstream::local",
            "upstream::conn",
            "h1",
            "ws",
            "net",
            "config",
            "telemetry",
            "message",
            "base",
        ],
    ),
    (
        "admin",
        &[
            "control",
            "config",
            "snapshot",
            "cluster",
            "upstream::shared",
            "telemetry",
            "base",
        ],
    ),
];

/// Composition roots: they wire everything, so they may name everything.
const ROOTS: [&str; 5] = ["app", "cli", "main", "lib", "demo"];

/// Files that may hold `unsafe`, each with its proof beside it.
const UNSAFE: [&str; 0] = [];

/// Licences that a dependency may offer.
const LICENCES: [&str; 13] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CC0-1.0",
    "BSL-1.0",
    "Unlicense",
    "MIT-0",
    "0BSD",
];

/// Crates that are never built into anything of ours.
const BANNED: [(&str, &str); 7] = [
    ("ring", "one crypto provider: aws-lc-rs"),
    ("openssl-sys", "TLS is rustls"),
    ("native-tls", "TLS is rustls"),
    ("rustls-pemfile", "unmaintained; rustls-pki-types reads PEM"),
    ("bincode", "unmaintained"),
    ("chrono", "time is jiff"),
    ("async-std", "unmaintained; the runtime is tokio"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A source file: its path from the root, its text, and its text without comments and literals.
struct Source {
    path: String,
    text: String,
    code: String,
}

/// Every Rust file under these directories, in order.
fn sources(dirs: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for dir in dirs {
        collect(&root().join(dir), &mut paths);
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source file");
        let code = without_comments_and_literals(&text);
        let path = path.strip_prefix(root()).expect("inside").display().to_string();
        Source { path, text, code }
    };
    paths.into_iter().map(read).collect()
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|e| e == "rs") {
            paths.push(path);
        }
    }
}

/// The code with everything that only looks like code replaced by blanks; lines stay where they are.
fn without_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment or literal that begins here ends; `at` itself when none begins.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let find = |from: usize, what: &[u8]| {
        let found = bytes[from..].windows(what.len()).position(|w| w == what);
        found.map_or(bytes.len(), |n| from + n)
    };
    let in_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return find(at, b"\n");
    }
    if rest.starts_with(b"/*") {
        return (find(at + 2, b"*/") + 2).min(bytes.len());
    }
    if rest[0] == b'r' && (!in_word || bytes[at - 1] == b'b') {
        let hashes = rest[1..].iter().take_while(|&&b| b == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') {
            let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            return (find(at + 2 + hashes, &close) + close.len()).min(bytes.len());
        }
    }
    match rest[0] {
        b'"' => {
            let mut end = at + 1;
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            (end + 1).min(bytes.len())
        }
        // A character, not a lifetime.
        b'\'' if rest.get(1) == Some(&b'\\') => (find(at + 3, b"'") + 1).min(bytes.len()),
        b'\'' => {
            let wide = rest
                .get(1..)
                .map_or(0, |r| r.iter().skip(1).take_while(|&&b| b & 0xc0 == 0x80).count());
            if rest.get(2 + wide) == Some(&b'\'') {
                at + 3 + wide
            } else {
                at
            }
        }
        _ => at,
    }
}

/// The module that a file is, as path segments.
fn module_of(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut segments: Vec<String> = inner.split('/').map(ToOwned::to_owned).collect();
    if segments
        .last()
        .is_some_and(|last| last == "mod" || (segments.len() == 1 && last == "lib"))
    {
        segments.pop();
    }
    segments
}

/// The layer of an absolute path; `None` for the crate root.
fn layer_of(path: &[String]) -> Option<String> {
    match path {
        [] => None,
        [first, second, ..] if first == "upstream" => Some(format!("upstream::{second}")),
        [first, ..] => Some(first.clone()),
    }
}

/// Absolute paths, to their first two segments, of everything that the code names by `crate::` or `super::`.
fn named_paths(module: &[String], code: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for keyword in ["crate::", "super::"] {
        for (at, _) in code.match_indices(keyword) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let mut rest = &code[at..];
            let mut base: Vec<String> = Vec::new();
            if let Some(after) = rest.strip_prefix("crate::") {
                rest = after;
            } else {
                base = module.to_vec();
                while let Some(after) = rest.strip_prefix("super::") {
                    base.pop();
                    rest = after;
                }
            }
            for tail in first_segments(rest) {
                found.push((line, [base.clone(), tail].concat()));
            }
        }
    }
    found
}

/// The first two segments of each path in `a::b::c` or `{a::b, c::{d, e}}`.
fn first_segments(text: &str) -> Vec<Vec<String>> {
    let Some(group) = text.strip_prefix('{') else {
        return vec![two_segments(text)];
    };
    let mut depth = 0;
    let mut paths = Vec::new();
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                paths.push(two_segments(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                paths.push(two_segments(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    paths.retain(|path| !path.is_empty());
    paths
}

fn two_segments(text: &str) -> Vec<String> {
    let mut segments = Vec::new();
    for part in text.trim_start().split("::").take(2) {
        let end = part
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(part.len());
        if end > 0 {
            segments.push(part[..end].to_owned());
        }
        if end < part.len() {
            break;
        }
    }
    segments
}

#[track_caller]
fn expect_none(what: &str, problems: &[String]) {
    assert!(problems.is_empty(), "{what}:\n  {}", problems.join("\n  "));
}

#[test]
fn modules_name_only_layers_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.into_iter().collect();
    let mut problems = Vec::new();
    for source in sources(&["src"]) {
        let module = module_of(&source.path);
        let Some(own) = layer_of(&module) else { continue };
        if ROOTS.contains(&own.as_str()) {
            continue;
        }
        // `upstream/mod.rs` holds its three layers together.
        if own == "upstream" {
            continue;
        }
        let Some(may) = allowed.get(own.as_str()) else {
            problems.push(format!(
                "{}: {own} is in no layer; the table is in this test",
                source.path
            ));
            continue;
        };
        for (line, path) in named_paths(&module, &source.code) {
            let Some(other) = layer_of(&path) else { continue };
            let whole_upstream = other == "upstream" && may.iter().any(|m| m.starts_with("upstream::"));
            if other != own && !may.contains(&other.as_str()) && !whole_upstream {
                problems.push(format!("{}:{line}: {own} names {}", source.path, path.join("::")));
            }
        }
    }
    expect_none("imports against the layers", &problems);
}

#[test]
fn the_table_of_layers_is_ordered() {
    for (at, (layer, may)) in LAYERS.iter().enumerate() {
        for other in *may {
            let above = LAYERS[..at].iter().any(|(name, _)| name == other);
            assert!(above, "{layer} names {other}, which is not above it");
        }
    }
}

#[test]
fn the_scanner_sees_code_and_nothing_else() {
    let code = without_comments_and_literals(
        "// crate::a\nlet x = \"crate::b \\\" crate::c\"; /* crate::d */ let c = '\"'; let l: &'a str = r#\"crate::e \"#; crate::f",
    );
    assert_eq!(code.matches("crate::").count(), 1, "{code}");
    let module = ["upstream".to_owned(), "local".to_owned(), "pool".to_owned()];
    let named = |code: &str| -> BTreeSet<String> {
        named_paths(&module, code)
            .into_iter()
            .map(|(_, path)| path.join("::"))
            .collect()
    };
    let set = |paths: &[&str]| -> BTreeSet<String> { paths.iter().map(|&p| p.to_owned()).collect() };
    assert_eq!(
        named("use crate::{a::{b, c}, d::e::f, g};"),
        set(&["a", "d::e", "g"])
    );
    assert_eq!(
        named("use super::super::shared::state;"),
        set(&["upstream::shared::state"])
    );
    assert_eq!(
        named("pub(in crate::proxy) fn x(a: crate::net::Wire)"),
        set(&["proxy", "net::Wire"])
    );
    assert_eq!(named("mycrate::x $crate::y"), set(&["y"]));
}

#[test]
fn every_module_says_what_it_is() {
    let tests = |path: &str| path.ends_with("/tests.rs") || path.contains("/tests/");
    let silent = sources(&["src", "tests", "benches"])
        .into_iter()
        .filter(|source| !(source.path.starts_with("src/") && tests(&source.path)))
        .filter(|source| !source.text.starts_with("//!"))
        .map(|source| source.path)
        .collect::<Vec<_>>();
    expect_none("files that do not begin with //!", &silent);
}

#[test]
fn every_test_file_is_declared() {
    let main = std::fs::read_to_string(root().join("tests/it/main.rs")).expect("main.rs");
    let missing = sources(&["tests/it"])
        .into_iter()
        .filter_map(|source| {
            source
                .path
                .strip_prefix("tests/it/")?
                .strip_suffix(".rs")
                .map(ToOwned::to_owned)
        })
        .filter(|name| name != "main" && !name.contains('/') && !main.contains(&format!("mod {name};")))
        .collect::<Vec<_>>();
    expect_none("files in tests/it that main.rs does not declare", &missing);
}

#[test]
fn no_test_is_ignored_without_a_reason() {
    let mut problems = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        if source.code.contains("#[ignore]") {
            problems.push(source.path);
        }
    }
    expect_none("#[ignore] without a reason", &problems);
}

#[test]
fn no_test_sleeps() {
    let mut problems = Vec::new();
    for source in sources(&["src", "tests/it"]) {
        let test = source.path.starts_with("tests/") || source.path.ends_with("/tests.rs");
        if test && source.code.contains("thread::sleep(")
            || source.path.starts_with("tests/it") && source.code.contains("sleep(")
        {
            problems.push(source.path);
        }
    }
    expect_none(
        "tests that sleep instead of waiting for something (testkit::eventually)",
        &problems,
    );
}

#[test]
fn nothing_is_left_for_later() {
    let markers = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X"].concat(),
    ];
    let mut problems = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        let word = |line: &str| {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            words
                .into_iter()
                .any(|word| markers.iter().any(|marker| marker == word))
        };
        for (n, line) in source.text.lines().enumerate() {
            if word(line) {
                problems.push(format!("{}:{}: {}", source.path, n + 1, line.trim()));
            }
        }
        for macro_ in ["todo!(", "unimplemented!("] {
            if source.code.contains(macro_) {
                problems.push(format!("{}: {macro_})", source.path));
            }
        }
    }
    expect_none("work left for later", &problems);
}

#[test]
fn unsafe_stands_only_where_it_is_listed() {
    let is_word = |code: &str, at: usize| {
        let edge = |c: Option<char>| c.is_none_or(|c| !(c.is_alphanumeric() || c == '_'));
        edge(code[..at].chars().next_back()) && edge(code[at + 6..].chars().next())
    };
    let mut problems = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        let found = source
            .code
            .match_indices("unsafe")
            .any(|(at, _)| is_word(&source.code, at));
        if found && !UNSAFE.contains(&source.path.as_str()) {
            problems.push(source.path);
        }
    }
    expect_none("unsafe outside the listed files", &problems);
}

/// What a cargo command says.
fn cargo(args: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let out = Command::new(cargo)
        .args(args)
        .current_dir(root())
        .output()
        .expect("cargo");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

/// The platform that this is.
fn host() -> String {
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("a host").to_owned()
}

/// The resolved dependency graph of this platform.
fn metadata() -> Value {
    let text = cargo(&[
        "metadata",
        "--format-version=1",
        "--locked",
        "--all-features",
        "--filter-platform",
        &host(),
    ]);
    serde_json::from_str(&text).expect("JSON")
}

/// Packages that are really built. The graph knows more: what a feature would add to an optional dependency is in
/// it whether anybody asks for the dependency or not.
fn packages(metadata: &Value) -> Vec<&Value> {
    let tree = cargo(&[
        "tree",
        "--workspace",
        "--locked",
        "--all-features",
        "--edges=all",
        "--prefix=none",
        "--format={p}",
        "--target",
        &host(),
    ]);
    let name_and_version = |line: &str| {
        let mut words = line.split_whitespace();
        Some((
            words.next()?.to_owned(),
            words.next()?.strip_prefix('v')?.to_owned(),
        ))
    };
    let built: BTreeSet<(String, String)> = tree.lines().filter_map(name_and_version).collect();
    let text = |package: &Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let all = metadata["packages"].as_array().expect("packages");
    let found: Vec<&Value> = all
        .iter()
        .filter(|package| built.contains(&(text(package, "name"), text(package, "version"))))
        .collect();
    assert!(
        found.len() >= built.len(),
        "packages of the tree that are not in the graph"
    );
    found
}

#[test]
fn dependencies_are_licensed_so_that_we_may_use_them() {
    let metadata = metadata();
    let mut problems = Vec::new();
    for package in packages(&metadata) {
        let licence = package["license"].as_str().unwrap_or_default();
        if !may_be_used_under(licence) {
            problems.push(format!("{} {}: {licence:?}", package["name"], package["version"]));
        }
    }
    expect_none("licences outside the list", &problems);
}

#[test]
fn banned_crates_are_not_built_and_all_come_from_the_registry() {
    let metadata = metadata();
    let mut problems = Vec::new();
    for package in packages(&metadata) {
        let name = package["name"].as_str().unwrap_or_default();
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            problems.push(format!("{name}: {why}"));
        }
        let source = package["source"].as_str();
        if source.is_some_and(|s| s != "registry+https://github.com/rust-lang/crates.io-index") {
            problems.push(format!("{name} comes from {source:?}"));
        }
    }
    expect_none("dependencies against the rules", &problems);
}

/// Whether an SPDX expression can be satisfied from the list.
fn may_be_used_under(expression: &str) -> bool {
    // The form of old manifests.
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let satisfied = any_of(&words, &mut at);
    satisfied && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize) -> bool {
    let mut satisfied = all_of(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        satisfied |= all_of(words, at);
    }
    satisfied
}

fn all_of(words: &[&str], at: &mut usize) -> bool {
    let mut satisfied = one(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        satisfied &= one(words, at);
    }
    satisfied
}

fn one(words: &[&str], at: &mut usize) -> bool {
    if words.get(*at) == Some(&"(") {
        *at += 1;
        let satisfied = any_of(words, at);
        *at += 1;
        return satisfied;
    }
    let mut name = words.get(*at).copied().unwrap_or_default().to_owned();
    *at += 1;
    if words.get(*at) == Some(&"WITH") {
        name = format!("{name} WITH {}", words.get(*at + 1).copied().unwrap_or_default());
        *at += 2;
    }
    LICENCES.contains(&name.as_str())
}

#[test]
fn licence_expressions_are_understood() {
    for good in [
        "MIT",
        "MIT OR Apache-2.0",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
    ] {
        assert!(may_be_used_under(good), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(MIT OR GPL-2.0) AND AGPL-3.0",
        "MIT (",
        "LGPL-3.0 WITH LLVM-exception",
    ] {
        assert!(!may_be_used_under(bad), "{bad}");
    }
}
