//! Answers of a gateway, for people.

use super::cluster;
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

/// Everything at a glance.
pub(super) fn status(stats: &Value) -> String {
    let mut text = String::new();
    let (node, totals) = (&stats["node"], &stats["totals"]);
    line(
        &mut text,
        format_args!(
            "tidegate {} is {}: pid {}, up {} s, generation {}",
            word(&node["version"]),
            word(&node["state"]),
            node["pid"],
            node["uptime_seconds"],
            stats["config"]["generation"],
        ),
    );
    line(
        &mut text,
        format_args!(
            "{} connections, {} requests in flight, {} open WebSockets, {} requests so far",
            totals["connections"], totals["in_flight"], totals["open_websockets"], totals["requests_total"],
        ),
    );
    cluster::tell(&mut text, &stats["cluster"]);
    let reload = &stats["config"]["last_reload"];
    if reload["outcome"] == "rejected" {
        line(
            &mut text,
            format_args!("the last reload, by {}, was rejected:", word(&reload["actor"])),
        );
        for error in list(&reload["errors"]) {
            line(&mut text, format_args!("  {}", word(error)));
        }
    }
    table(
        &mut text,
        "LISTENER",
        &["ADDRESS", "OPEN", "REQUESTS"],
        list(&stats["listeners"]),
        |row| {
            vec![
                word(&row["name"]).to_owned(),
                word(&row["address"]).to_owned(),
                show(&row["connections"]),
                show(&row["requests"]),
            ]
        },
    );
    let endpoints: Vec<(&str, &Value)> = list(&stats["upstreams"])
        .iter()
        .flat_map(|upstream| {
            list(&upstream["endpoints"])
                .iter()
                .map(|e| (word(&upstream["name"]), e))
        })
        .collect();
    let columns = [
        "ENDPOINT",
        "STATE",
        "WEIGHT",
        "IN FLIGHT",
        "WEBSOCKETS",
        "REQUESTS",
        "FAILURES",
        "P99 MS",
    ];
    table(&mut text, "UPSTREAM", &columns, &endpoints, |(upstream, row)| {
        let p99 = row["latency"]["p99_ms"]
            .as_f64()
            .map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
        let mut cells = vec![
            (*upstream).to_owned(),
            word(&row["address"]).to_owned(),
            word(&row["state"]).to_owned(),
            weight(row),
        ];
        cells.extend(["in_flight", "open_websockets", "requests", "failures"].map(|key| show(&row[key])));
        cells.push(p99);
        cells
    });
    let among_others = stats["cluster"]["mode"] == true;
    changed_at_run_time(&mut text, list(&stats["upstreams"]), among_others);
    for (upstream, row) in &endpoints {
        if let Some(reason) = row["health"]["reason"].as_str() {
            let (address, since) = (word(&row["address"]), word(&row["health"]["since"]));
            let what = match row["health"]["held_until"].as_str() {
                Some(until) => format!("is flapping, and held until {until}; out"),
                None => "fails its checks".to_owned(),
            };
            line(
                &mut text,
                format_args!("{upstream}/{address} {what} since {since}: {reason}"),
            );
        }
    }
    for upstream in list(&stats["upstreams"])
        .iter()
        .filter(|upstream| upstream["fail_open"] == true)
    {
        let name = word(&upstream["name"]);
        line(
            &mut text,
            format_args!("{name} fails open: no endpoint is well, and requests are sent all the same"),
        );
    }
    table(
        &mut text,
        "WORKER",
        &["STATE", "CONNECTIONS", "REQUESTS", "RESTARTS"],
        list(&stats["workers"]),
        |row| {
            vec![
                show(&row["worker"]),
                word(&row["state"]).to_owned(),
                show(&row["connections"]),
                show(&row["requests"]),
                show(&row["restarts"]),
            ]
        },
    );
    text
}

/// The weight, with the file's where that is another.
fn weight(endpoint: &Value) -> String {
    let weight = show(&endpoint["weight"]);
    match &endpoint["override"]["weight"]["configured"] {
        Value::Null => weight,
        configured => format!("{weight} (file: {configured})"),
    }
}

/// Who wanted something else than the file says, on which gateway of several, since when, and why.
fn changed_at_run_time(text: &mut String, upstreams: &[Value], among_others: bool) {
    let mut told = String::new();
    let said = |told: &Value| said(told, among_others);
    for upstream in upstreams {
        let name = word(&upstream["name"]);
        let balance = &upstream["balance_override"];
        if !balance.is_null() {
            let what = format!(
                "{} (file: {})",
                word(&balance["value"]),
                word(&balance["configured"])
            );
            line(&mut told, format_args!("  {name}  {what}{}", said(balance)));
        }
        for endpoint in list(&upstream["endpoints"]) {
            let address = word(&endpoint["address"]);
            let (state, weight) = (&endpoint["override"]["state"], &endpoint["override"]["weight"]);
            if !state.is_null() {
                let what = draining(word(&state["value"]), &endpoint["drain"]);
                line(
                    &mut told,
                    format_args!("  {name}/{address}  {what}{}", said(state)),
                );
            }
            if !weight.is_null() {
                let what = format!("weight {}", weight["value"]);
                line(
                    &mut told,
                    format_args!("  {name}/{address}  {what}{}", said(weight)),
                );
            }
        }
    }
    if !told.is_empty() {
        line(text, format_args!("\nCHANGED AT RUN TIME\n{}", told.trim_end()));
    }
}

fn draining(state: &str, drain: &Value) -> String {
    let deadline = match drain["deadline"].as_str() {
        Some(deadline) => format!(", deadline {deadline}"),
        None => String::new(),
    };
    match drain["finished"].as_str() {
        Some(_) => format!("{state}, nothing left"),
        None => {
            let left = &drain["left"];
            let (requests, tunnels) = (&left["in_flight"], &left["open_websockets"]);
            format!("{state}, {requests} in flight and {tunnels} open WebSockets left{deadline}")
        }
    }
}

fn said(told: &Value, among_others: bool) -> String {
    let node = match told["node"].as_str() {
        Some(node) if among_others => format!(" on {node}"),
        Some(_) | None => String::new(),
    };
    let reason = match told["reason"].as_str() {
        Some(reason) => format!(": {reason}"),
        None => String::new(),
    };
    let until = match told["until"].as_str() {
        Some(until) => format!(" until {until}"),
        None => String::new(),
    };
    format!(
        "  by {}{node} since {}{until}{reason}",
        word(&told["by"]),
        word(&told["since"])
    )
}

/// Rows under a head, each column as wide as it must be.
pub(super) fn table<T>(
    text: &mut String,
    first: &str,
    others: &[&str],
    rows: &[T],
    cells: impl Fn(&T) -> Vec<String>,
) {
    if rows.is_empty() {
        return;
    }
    let head = std::iter::once(first)
        .chain(others.iter().copied())
        .map(str::to_owned)
        .collect();
    let mut lines: Vec<Vec<String>> = vec![head];
    lines.extend(rows.iter().map(cells));
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..=others.len()).map(width).collect();
    text.push('\n');
    for row in &lines {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        line(text, format_args!("{}", cells.join("  ").trim_end()));
    }
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

    #[test]
    fn status_tells_who_changed_what_at_run_time() {
        let endpoint = json!({
            "address": "a:1", "state": "draining", "weight": 0,
            "override": {
                "state": { "value": "draining", "by": "token ops", "since": "T", "reason": "disk" },
                "weight": { "value": 0, "configured": 2, "by": "token ops", "node": "gw-2", "since": "T", "reason": null },
            },
            "drain": { "deadline": "D", "left": { "in_flight": 1, "open_websockets": 0 }, "finished": null },
        });
        let balance = json!({ "value": "first", "configured": "round_robin", "by": "ann", "since": "T" });
        let stats =
            json!({ "upstreams": [{ "name": "app", "balance_override": balance, "endpoints": [endpoint] }] });
        let text = status(&stats);
        for told in [
            "0 (file: 2)",
            "  app  first (file: round_robin)  by ann since T\n",
            "  app/a:1  draining, 1 in flight and 0 open WebSockets left, deadline D  by token ops since T: disk\n",
            "  app/a:1  weight 0  by token ops since T\n",
        ] {
            assert!(text.contains(told), "{told:?} is not in:\n{text}");
        }
        let mut among_others = stats;
        among_others["cluster"] = json!({ "mode": true });
        let text = status(&among_others);
        assert!(
            text.contains("weight 0  by token ops on gw-2 since T\n"),
            "{text}"
        );
        let unchanged = json!({ "upstreams": [{ "name": "app", "endpoints": [{ "address": "a:1" }] }] });
        assert!(!status(&unchanged).contains("RUN TIME"));
    }

    #[test]
    fn status_shows_endpoints_in_columns() {
        let endpoint = json!({
            "address": "127.0.0.1:3000", "state": "active", "weight": 1, "in_flight": 2, "open_websockets": 0,
            "requests": 10, "failures": 0, "latency": { "p99_ms": 1.25 },
        });
        let stats = json!({ "upstreams": [{ "name": "app", "endpoints": [endpoint] }] });
        let text = status(&stats);
        assert!(text.contains("app       127.0.0.1:3000  active"), "{text}");
    }
}
