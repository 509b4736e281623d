//! Answers of a gateway, for people.

use serde_json::Value;
use std::fmt::Write;

/// What a reload came to.
pub(super) fn reloaded(answer: &Value) -> String {
    let generation = &answer["generation"];
    let trial = if answer["dry_run"] == true {
        " (dry run)"
    } else {
        ""
    };
    let mut text = match answer["outcome"].as_str() {
        Some("applied") if trial.is_empty() => format!("applied: generation {generation}\n"),
        Some("applied") => format!("would be applied{trial}\n"),
        _ => format!("unchanged: generation {generation}\n"),
    };
    changes(&mut text, answer);
    text
}

/// What a change of the configuration means, and what is doubtful about it.
pub(super) fn changes(text: &mut String, answer: &Value) {
    for change in list(&answer["changes"]) {
        let sign = match change["change"].as_str() {
            Some("added") => '+',
            Some("removed") => '-',
            _ => '~',
        };
        line(
            text,
            format_args!("  {sign} {} {}", word(&change["object"]), word(&change["name"])),
        );
    }
    for warning in list(&answer["warnings"]) {
        line(text, format_args!("  warning: {}", problem(warning)));
    }
}

/// Why a reload was refused.
pub(super) fn rejected(answer: &Value) -> String {
    let error = &answer["error"];
    let mut text = format!("rejected: {}\n", word(&error["message"]));
    for diagnostic in list(&error["diagnostics"]) {
        line(
            &mut text,
            format_args!("  {}: {}", word(&diagnostic["severity"]), problem(diagnostic)),
        );
    }
    text
}

pub(super) fn problem(diagnostic: &Value) -> String {
    let mut text = String::new();
    let file = word(&diagnostic["file"]);
    if !file.is_empty() {
        text = format!("{file}:{}:{}: ", diagnostic["line"], diagnostic["column"]);
    }
    let key = word(&diagnostic["key"]);
    if !key.is_empty() {
        text = format!("{text}{key}: ");
    }
    text.push_str(word(&diagnostic["message"]));
    let hint = word(&diagnostic["hint"]);
    if hint.is_empty() {
        text
    } else {
        format!("{text} ({hint})")
    }
}

/// Where a request would go.
pub(super) fn explanation(told: &Value) -> String {
    let mut text = String::new();
    handshake(&mut text, &told["tls"]);
    let request = &told["request"];
    if !request.is_null() {
        line(
            &mut text,
            format_args!(
                "{} {}{} on listener {} from {}{}",
                word(&request["method"]),
                word(&request["host"]),
                word(&request["path"]),
                word(&told["listener"]),
                word(&request["client"]),
                if request["peer_trusted"] == true {
                    " (as a trusted proxy says)"
                } else {
                    ""
                },
            ),
        );
    }
    for asked in list(&told["routes"]) {
        let verdict = match word(&asked["verdict"]) {
            "chosen" => "chosen".to_owned(),
            "shadowed" => "would take it, but comes later".to_owned(),
            key => format!("{key} does not match"),
        };
        line(
            &mut text,
            format_args!("  route {}: {verdict}", word(&asked["route"])),
        );
    }
    let refused = &told["refused"];
    if !refused.is_null() {
        let (status, token, detail) = (
            &refused["status"],
            word(&refused["token"]),
            word(&refused["detail"]),
        );
        line(
            &mut text,
            format_args!("answered with {status} {token}: {detail}"),
        );
    }
    let action = word(&told["action"]);
    match action {
        "" | "forward" | "passthrough" => {}
        "redirect_https" => line(
            &mut text,
            format_args!("sent to {} (redirect_https)", word(&told["location"])),
        ),
        other => line(&mut text, format_args!("the gateway answers by itself: {other}")),
    }
    let hsts = word(&told["hsts"]);
    if !hsts.is_empty() {
        line(&mut text, format_args!("with Strict-Transport-Security: {hsts}"));
    }
    for choice in list(&told["upstreams"]) {
        upstream_choice(&mut text, choice);
    }
    text
}

/// What comes before a request over TLS.
fn handshake(text: &mut String, tls: &Value) {
    if tls.is_null() {
        return;
    }
    let name = match word(&tls["server_name"]) {
        "" => "no name".to_owned(),
        name => format!("the name {name}"),
    };
    match word(&tls["outcome"]) {
        "passed_on" => line(text, format_args!("TLS for {name}: passed on unopened")),
        "refused" => {
            let why = word(&tls["refused"]);
            line(text, format_args!("TLS for {name}: refused, {why}"));
        }
        _ => {
            let client = word(&tls["client_certificate"]);
            line(
                text,
                format_args!("TLS for {name}: opened, certificate of the client: {client}"),
            );
        }
    }
    for shown in list(&tls["certificates"]) {
        let names: Vec<&str> = list(&shown["names"]).iter().map(word).collect();
        let (file, expires) = (word(&shown["file"]), word(&shown["expires"]));
        line(
            text,
            format_args!("  certificate {file} for {}, until {expires}", names.join(", ")),
        );
    }
}

/// Where the session of the request belongs.
fn session(text: &mut String, session: &Value) {
    if session.is_null() {
        return;
    }
    let (endpoint, outcome) = (word(&session["endpoint"]), word(&session["outcome"]));
    let verdict = if session["kept"] == true {
        format!("at {endpoint}, and stays there")
    } else if session["refused"] == true {
        format!("refused another endpoint ({outcome})")
    } else {
        match (endpoint, outcome) {
            (_, "") => "as the hash says".to_owned(),
            ("", outcome) => format!("none yet ({outcome})"),
            (endpoint, outcome) => format!("at {endpoint}, and leaves it ({outcome})"),
        }
    };
    line(
        text,
        format_args!("  session by {}: {verdict}", word(&session["by"])),
    );
}

fn upstream_choice(text: &mut String, choice: &Value) {
    let share = choice["share"].as_f64().unwrap_or(1.0);
    let share = if share < 1.0 {
        format!(", {:.1} % of the split", share * 100.0)
    } else {
        String::new()
    };
    let awaits_verdict = choice["awaits_verdict"] == true;
    let open = match choice["fail_open"] == true {
        true => ", fail-open: no endpoint is well",
        false => "",
    };
    line(
        text,
        format_args!(
            "upstream {} ({}{share}{open})",
            word(&choice["upstream"]),
            word(&choice["balance"])
        ),
    );
    session(text, &choice["session"]);
    let pick = word(&choice["pick"]);
    for endpoint in list(&choice["endpoints"]) {
        let address = word(&endpoint["address"]);
        let verdict = match word(&endpoint["passed_over"]) {
            "" if address == pick => "picked".to_owned(),
            "" => "could be".to_owned(),
            why => format!("passed over: {why}"),
        };
        let (weight, now) = (endpoint["weight"].as_f64(), endpoint["weight_now"].as_f64());
        let slow = match now.filter(|now| Some(*now) < weight) {
            Some(now) => format!(" ({now:.2} now: it starts slowly)"),
            None => String::new(),
        };
        let score = match &endpoint["score"] {
            score if score.is_null() => String::new(),
            score => format!(
                ", score {} (latency {} ms, penalty {})",
                score["score"], score["latency_ms"], score["penalty"]
            ),
        };
        line(
            text,
            format_args!(
                "  {address} weight {}{slow}, {} in flight, {} tunnels{score}: {verdict}",
                endpoint["weight"], endpoint["in_flight"], endpoint["tunnels"]
            ),
        );
    }
    if awaits_verdict {
        line(
            text,
            format_args!("  none is picked yet: the first verdict of the checks is waited for"),
        );
    } else if pick.is_empty() {
        line(text, format_args!("  none can be picked: 503 no_endpoint"));
    }
}

/// Rows under a head, each column as wide as it must be. A column, other than the first, in which no row has anything
/// but `-` is left out.
pub(super) fn table<T>(
    text: &mut String,
    first: &str,
    others: &[&str],
    rows: &[T],
    cells: impl Fn(&T) -> Vec<String>,
) {
    if !rows.is_empty() {
        let rows = rows.iter().map(|row| Row::Cells(cells(row)));
        grouped(text, first, others, rows.collect());
    }
}

/// A line of a table with groups.
pub(super) enum Row {
    /// What the rows below have in common: as wide as it is.
    Group(String),
    Cells(Vec<String>),
}

/// The same with groups.
pub(super) fn grouped(text: &mut String, first: &str, others: &[&str], rows: Vec<Row>) {
    let head = std::iter::once(first).chain(others.iter().copied());
    let mut lines = vec![Row::Cells(head.map(str::to_owned).collect())];
    lines.extend(rows);
    let all = || {
        lines.iter().filter_map(|row| match row {
            Row::Cells(cells) => Some(cells),
            Row::Group(_) => None,
        })
    };
    let column = |column: usize| all().filter_map(move |cells| cells.get(column));
    let widths: Vec<Option<usize>> = (0..=others.len())
        .map(|number| {
            let said = number == 0 || column(number).skip(1).any(|cell| cell != "-");
            said.then(|| column(number).map(|cell| cell.chars().count()).max().unwrap_or(0))
        })
        .collect();
    text.push('\n');
    for row in &lines {
        match row {
            Row::Group(name) => line(text, format_args!("{name}")),
            Row::Cells(cells) => {
                let cells = cells.iter().zip(&widths);
                let cells = cells.filter_map(|(cell, width)| width.map(|width| format!("{cell:width$}")));
                line(
                    text,
                    format_args!("{}", cells.collect::<Vec<_>>().join("  ").trim_end()),
                );
            }
        }
    }
}

/// Columns of a terminal.
const WIDTH: usize = 80;

/// A text in as many lines as a terminal needs, the first of them after `first`, the others after `rest`.
pub(super) fn wrapped(text: &mut String, first: &str, rest: &str, content: &str) {
    let mut shown = first.to_owned();
    let mut empty = true;
    for word in content.split_whitespace() {
        if !empty && shown.chars().count() + 1 + word.chars().count() > WIDTH {
            line(text, format_args!("{shown}"));
            rest.clone_into(&mut shown);
            empty = true;
        }
        if !empty {
            shown.push(' ');
        }
        shown.push_str(word);
        empty = false;
    }
    line(text, format_args!("{}", shown.trim_end()));
}

pub(super) fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _infallible = text.write_fmt(content);
    text.push('\n');
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn show(value: &Value) -> String {
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reload_is_told_object_by_object() {
        let answer = json!({
            "outcome": "applied", "dry_run": false, "generation": 4,
            "changes": [{ "object": "route", "name": "api", "change": "added" }],
            "warnings": [],
        });
        assert_eq!(reloaded(&answer), "applied: generation 4\n  + route api\n");
    }

    #[test]
    fn a_long_text_is_broken_between_words() {
        let mut text = String::new();
        wrapped(&mut text, "  ", "    ", &["word"; 40].join(" "));
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(
            text.starts_with("  word word") && text.contains("\n    word"),
            "{text}"
        );
        assert_eq!(text.split_whitespace().count(), 40);
        let mut text = String::new();
        wrapped(&mut text, "", "", &"x".repeat(100));
        assert_eq!(text.len(), 101, "a word is left whole");
    }

    #[test]
    fn a_rejection_shows_every_problem_with_its_place() {
        let problem = json!({
            "severity": "error", "file": "gate.toml", "line": 3, "column": 1, "key": "nonsense",
            "message": "is not a key", "hint": null,
        });
        let answer = json!({ "error": { "message": "refused", "diagnostics": [problem] } });
        assert_eq!(
            rejected(&answer),
            "rejected: refused\n  error: gate.toml:3:1: nonsense: is not a key\n"
        );
    }
}
