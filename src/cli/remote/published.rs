//! `tidegate config publish` and what goes with it: the configuration that gateways share.

use super::show::{line, list, problem, word};
use super::{Reach, ask, bring, expect_ok, show, when};
use crate::app::Surroundings;
use crate::cli::{EXIT_USAGE, complain, say};
use anyhow::Context;
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;

/// What gateways call a published text, with its version behind it.
const PUBLISHED_AS: &str = "cluster version ";

#[derive(Debug, Args)]
pub(in crate::cli) struct PublishArgs {
    /// File with the sections that gateways share: dns, listeners, routes, upstreams
    file: PathBuf,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RollbackArgs {
    /// Version whose text is to be published again
    version: u64,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct UnpublishArgs {
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct VersionsArgs {
    /// Print the text of this version
    version: Option<u64>,
    /// As the API gives it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
struct Terms {
    /// Have every gateway look at it, publish nothing
    #[arg(long)]
    dry_run: bool,
    /// Only if this version is in force; 0: if none is
    #[arg(long, value_name = "VERSION")]
    expected: Option<u64>,
    /// Why, for whoever looks at it later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Terms {
    fn path(&self, path: &str) -> String {
        let mut path = format!("{path}?dry_run={}", self.dry_run);
        if let Some(expected) = self.expected {
            path.push_str(&format!("&expected={expected}"));
        }
        if let Some(reason) = &self.reason {
            let reason = utf8_percent_encode(reason, NON_ALPHANUMERIC);
            path.push_str(&format!("&reason={reason}"));
        }
        path
    }
}

pub(in crate::cli) fn publish(args: &PublishArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    let text = std::fs::read(&args.file).with_context(|| format!("{} can't be read", args.file.display()))?;
    change(
        &args.reach,
        surroundings,
        &args.terms,
        "/api/v1/config/publish",
        &text,
        Some(&args.file.display().to_string()),
    )
}

pub(in crate::cli) fn rollback(args: &RollbackArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    let path = format!("/api/v1/config/versions/{}/rollback", args.version);
    change(&args.reach, surroundings, &args.terms, &path, b"", None)
}

pub(in crate::cli) fn unpublish(
    args: &UnpublishArgs,
    surroundings: &Surroundings,
) -> anyhow::Result<ExitCode> {
    change(
        &args.reach,
        surroundings,
        &args.terms,
        "/api/v1/config/unpublish",
        b"",
        None,
    )
}

fn change(
    reach: &Reach,
    surroundings: &Surroundings,
    terms: &Terms,
    path: &str,
    body: &[u8],
    file: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let mut answer = bring(reach, surroundings, "POST", &terms.path(path), body)?;
    if let Some(file) = file {
        name_the_file(&mut answer.body, file);
    }
    if answer.status == 422 {
        complain(&rejected(&answer.body));
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    say(&published(&expect_ok(answer)?));
    Ok(ExitCode::SUCCESS)
}

/// The gateways read a text and know no file of it; whoever published it does.
fn name_the_file(answer: &mut Value, file: &str) {
    match answer {
        Value::Array(values) => values.iter_mut().for_each(|value| name_the_file(value, file)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if key == "file" && text.starts_with(PUBLISHED_AS) => {
                        file.clone_into(text);
                    }
                    value => name_the_file(value, file),
                }
            }
        }
        _ => {}
    }
}

pub(in crate::cli) fn versions(args: &VersionsArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    let path = match args.version {
        Some(version) => format!("/api/v1/config/versions/{version}"),
        None => "/api/v1/config/versions".to_owned(),
    };
    let answer = expect_ok(ask(&args.reach, surroundings, "GET", &path)?)?;
    say(&match (args.json, args.version) {
        (true, _) => format!("{answer:#}"),
        (false, Some(_)) => word(&answer["text"]).to_owned(),
        (false, None) => table(&answer),
    });
    Ok(ExitCode::SUCCESS)
}

/// What publishing came to.
fn published(answer: &Value) -> String {
    let version = &answer["version"];
    let mut text = match (word(&answer["outcome"]), answer["dry_run"] == true) {
        ("unchanged", _) => format!("unchanged: version {version} says so already\n"),
        (_, true) => format!("would be published as version {version} (dry run)\n"),
        (_, false) if answer["in_force"] == true => format!("published as version {version}\n"),
        (_, false) => format!("published as version {version}, and not in force here: see tidegate status\n"),
    };
    show::changes(&mut text, answer);
    for gateway in list(&answer["gateways"]) {
        let told = match word(&gateway["verdict"]) {
            "silent" => "said nothing: it looks at it when it is back",
            _ => "could take it",
        };
        line(&mut text, format_args!("  {} {told}", word(&gateway["node"])));
    }
    if answer["alone"] == true {
        line(
            &mut text,
            format_args!("  this gateway is alone: no other has it"),
        );
    }
    text
}

/// Who refused it, and why.
fn rejected(answer: &Value) -> String {
    let mut text = show::rejected(answer);
    for gateway in list(&answer["error"]["gateways"]) {
        for told in list(&gateway["diagnostics"]) {
            let severity = word(&told["severity"]);
            line(
                &mut text,
                format_args!("  {}: {severity}: {}", word(&gateway["node"]), problem(told)),
            );
        }
    }
    text
}

fn table(answer: &Value) -> String {
    let mut text = String::new();
    let in_force = &answer["config"]["version"];
    let columns = ["", "AT", "BY", "WHY"];
    show::table(
        &mut text,
        "VERSION",
        &columns,
        list(&answer["versions"]),
        |version| {
            let mark = if version["version"] == *in_force { "*" } else { "" };
            let why = match (version["again"].as_u64(), version["there"] == true) {
                (Some(before), _) => format!("version {before} again "),
                (None, false) => "taken back ".to_owned(),
                (None, true) => String::new(),
            };
            vec![
                version["version"].to_string(),
                mark.to_owned(),
                when::stamp(word(&version["at"])),
                format!("{} on {}", word(&version["author"]), word(&version["node"])),
                why + word(&version["reason"]),
            ]
        },
    );
    if text.is_empty() {
        text.push_str("nothing was published\n");
    }
    // Elsewhere tables follow on something.
    text.trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_publishing_came_to_is_told_with_who_said_what() {
        let mut answer = json!({ "outcome": "applied", "dry_run": false, "version": 7, "in_force": true,
            "changes": [{ "object": "route", "name": "api", "change": "added" }], "warnings": [],
            "gateways": [{ "node": "gw-2", "verdict": "accepted" }, { "node": "gw-3", "verdict": "silent" }] });
        let text = published(&answer);
        assert!(
            text.starts_with("published as version 7\n  + route api\n"),
            "{text}"
        );
        assert!(
            text.contains("gw-2 could take it") && text.contains("gw-3 said nothing"),
            "{text}"
        );
        answer["dry_run"] = json!(true);
        assert!(published(&answer).contains("dry run"));
        answer["outcome"] = json!("unchanged");
        answer["alone"] = json!(true);
        let text = published(&answer);
        assert!(text.contains("unchanged") && text.contains("alone"), "{text}");
    }

    #[test]
    fn who_refused_is_told_with_why() {
        let told = json!([{ "severity": "error", "key": "routes[0].upstream", "message": "no upstream" }]);
        let answer = json!({ "error": { "message": "gw-2 refuses it",
            "gateways": [{ "node": "gw-2", "verdict": "refused", "diagnostics": told }] } });
        assert_eq!(
            rejected(&answer),
            "rejected: gw-2 refuses it\n  gw-2: error: routes[0].upstream: no upstream\n"
        );
    }

    #[test]
    fn places_in_a_published_text_are_told_as_places_in_the_file() {
        let told = |file: &str| {
            json!({ "severity": "error", "file": file, "line": 7, "column": 2, "key": "runtime",
            "message": "not shared" })
        };
        let mut answer = json!({ "error": { "message": "no", "diagnostics": [told("cluster version 2")],
            "gateways": [{ "node": "b", "diagnostics": [told("/etc/tidegate.toml")] }] } });
        name_the_file(&mut answer, "shared.toml");
        let text = rejected(&answer);
        assert!(
            text.contains("shared.toml:7:2: runtime") && text.contains("/etc/tidegate.toml:7:2"),
            "{text}"
        );
    }

    #[test]
    fn versions_are_told_with_the_one_in_force_marked() {
        assert_eq!(table(&json!({ "versions": [] })), "nothing was published\n");
        let version = |version: u64| {
            json!({ "version": version, "at": "T", "author": "token ops", "node": "gw-1", "bytes": 3,
                "sha256": "0123456789abcdef", "there": true, "reason": "new route" })
        };
        let mut again = version(3);
        again["again"] = json!(1);
        let answer = json!({ "versions": [again, version(2)], "config": { "version": 2 } });
        let text = table(&answer);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].starts_with("3 ") && lines[1].contains("version 1 again new route"),
            "{text}"
        );
        assert!(
            lines[2].starts_with("2        *  T   token ops on gw-1  new route"),
            "{text}"
        );
    }
}
