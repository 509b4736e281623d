//! Every file that we show to users works as it stands.

use crate::{binary, gateway};
use std::path::{Path, PathBuf};
use testkit::run;

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn examples() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(config().join("examples")).expect("config/examples");
    let paths = entries.filter_map(Result::ok).map(|e| e.path());
    let mut files: Vec<PathBuf> = paths
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    files
}

/// Listening addresses replaced by free ones, so that examples run side by side and without privileges. All
/// else stays.
fn on_free_ports(text: &str) -> String {
    let mut listens = false;
    let line = |line: &str| {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            listens = trimmed.starts_with("[listeners.") || trimmed.starts_with("[admin");
        }
        if listens && trimmed.starts_with("address") {
            return "address = \"127.0.0.1:0\"".to_owned();
        }
        let needs_privileges = ["user =", "group =", "pid_file =", "state_dir ="];
        if needs_privileges.iter().any(|key| trimmed.starts_with(key)) {
            String::new()
        } else {
            line.to_owned()
        }
    };
    text.lines()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
        .replace("/var/log/tidegate/", "")
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Variables that an example takes secrets from.
fn secrets(text: &str) -> impl Iterator<Item = &str> {
    text.split("\"env:")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
}

#[test]
fn each_example_says_what_it_shows_and_passes_check() {
    for path in examples() {
        let text = std::fs::read_to_string(&path).expect("an example");
        assert!(
            text.starts_with("# "),
            "{} does not say what it shows",
            path.display()
        );
        let mut command = testkit::cli::command(binary());
        command
            .args(["check", "-c"])
            .arg(&path)
            .envs(secrets(&text).map(|name| (name, SECRET)));
        let ran = testkit::cli::finish(command);
        assert_eq!(
            ran.code,
            Some(0),
            "{}: {}{}",
            path.display(),
            ran.stdout,
            ran.stderr
        );
    }
}

#[test]
fn each_example_runs() {
    for path in examples() {
        let text = std::fs::read_to_string(&path).expect("an example");
        let mut builder = secrets(&text).fold(gateway(&on_free_ports(&text)), |builder, name| {
            builder.env(name, SECRET)
        });
        // What it refers to lies beside it.
        for entry in std::fs::read_dir(config().join("examples"))
            .expect("config/examples")
            .filter_map(Result::ok)
        {
            builder = with_files(builder, &entry.path(), &config().join("examples"));
        }
        let gateway = builder.start();
        assert!(
            gateway.ready()["listeners"]
                .as_object()
                .is_some_and(|l| !l.is_empty()),
            "{}",
            path.display()
        );
        assert_eq!(gateway.stop(), Some(0), "{}", path.display());
    }
}

fn with_files(builder: testkit::Builder, path: &Path, root: &Path) -> testkit::Builder {
    if path.is_dir() {
        let entries = std::fs::read_dir(path)
            .expect("a directory")
            .filter_map(Result::ok);
        return entries.fold(builder, |builder, entry| with_files(builder, &entry.path(), root));
    }
    let name = path.strip_prefix(root).expect("inside").display().to_string();
    if name.ends_with(".toml") && !name.contains('/') {
        return builder;
    }
    builder.file(&name, &std::fs::read_to_string(path).unwrap_or_default())
}

#[test]
fn the_reference_passes_check() {
    let reference = config().join("tidegate.toml");
    let ran = run(&binary(), &["check", "-c", &reference.display().to_string()]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
}
