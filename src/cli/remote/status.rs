//! `tidegate status`: everything at a glance, for people.

use super::show::{Row, grouped, line, list, show, table, word, wrapped};
use super::{cluster, when};
use serde_json::Value;

/// Warnings that are shown.
const LATEST: usize = 5;

/// What is told beside `/stats`; empty where the gateway could not be asked.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// The answer of `/api/v1/clustering/verdicts`.
    pub verdicts: Value,
    /// Events that are more than information, the oldest first.
    pub warnings: Vec<Value>,
}

/// Everything at a glance.
pub(super) fn tell(stats: &Value, beside: &Beside) -> String {
    let mut text = String::new();
    let (node, totals) = (&stats["node"], &stats["totals"]);
    line(
        &mut text,
        format_args!(
            "tidegate {} is {}: pid {}, up {}, generation {}",
            word(&node["version"]),
            word(&node["state"]),
            node["pid"],
            when::span(node["uptime_seconds"].as_u64().unwrap_or(0)),
            stats["config"]["generation"],
        ),
    );
    line(
        &mut text,
        format_args!(
            "{} connections, {} requests in flight, {} WebSockets, {} requests so far",
            totals["connections"], totals["in_flight"], totals["open_websockets"], totals["requests_total"],
        ),
    );
    cluster::tell(&mut text, &stats["cluster"]);
    last_reload(&mut text, &stats["config"]["last_reload"]);
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
    let upstreams = list(&stats["upstreams"]);
    endpoints(&mut text, upstreams);
    let among_others = stats["cluster"]["mode"] == true;
    changed_at_run_time(&mut text, upstreams, among_others);
    for upstream in upstreams {
        trouble(&mut text, upstream, list(&beside.verdicts["verdicts"]));
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
    warnings(&mut text, &beside.warnings);
    text
}

fn last_reload(text: &mut String, reload: &Value) {
    if reload["outcome"] != "rejected" {
        return;
    }
    let (by, at) = (word(&reload["actor"]), when::moment(word(&reload["time"])));
    line(
        text,
        format_args!("the last reload, by {by} at {at}, was rejected:"),
    );
    for error in list(&reload["errors"]) {
        line(text, format_args!("  {}", word(error)));
    }
}

fn endpoints(text: &mut String, upstreams: &[Value]) {
    let mut rows = Vec::new();
    for upstream in upstreams {
        let endpoints = list(&upstream["endpoints"]);
        rows.push(Row::Group(format!(
            "{} ({}, {} of {} ready)",
            word(&upstream["name"]),
            word(&upstream["balance"]),
            upstream["ready_endpoints"],
            endpoints.len()
        )));
        rows.extend(endpoints.iter().map(|row| Row::Cells(endpoint(row))));
    }
    if rows.is_empty() {
        return;
    }
    let columns = ["STATE", "WEIGHT", "BUSY", "WS", "REQUESTS", "FAILED", "P99 MS"];
    grouped(text, "ENDPOINT", &columns, rows);
}

fn endpoint(row: &Value) -> Vec<String> {
    let p99 = row["latency"]["p99_ms"].as_f64();
    let p99 = p99.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
    let mut cells = vec![
        format!("  {}", word(&row["address"])),
        word(&row["state"]).to_owned(),
        weight(row),
    ];
    cells.extend(["in_flight", "open_websockets", "requests", "failures"].map(|key| show(&row[key])));
    cells.push(p99);
    cells
}

/// The weight, with the file's where that is another.
fn weight(endpoint: &Value) -> String {
    let weight = show(&endpoint["weight"]);
    match &endpoint["override"]["weight"]["configured"] {
        Value::Null => weight,
        configured => format!("{weight} (file: {configured})"),
    }
}

/// What is the matter with an upstream, and who says so.
fn trouble(text: &mut String, upstream: &Value, verdicts: &[Value]) {
    let name = word(&upstream["name"]);
    for row in list(&upstream["endpoints"]) {
        let address = word(&row["address"]);
        if let Some(reason) = row["health"]["reason"].as_str() {
            let what = match row["health"]["held_until"].as_str() {
                Some(until) => format!("is flapping, and held until {}", when::moment(until)),
                None => format!(
                    "fails its checks since {}",
                    when::moment(word(&row["health"]["since"]))
                ),
            };
            line(text, format_args!("{name}/{address} {what}:"));
            wrapped(text, "  ", "  ", reason);
        }
    }
    for verdict in verdicts.iter().filter(|verdict| verdict["upstream"] == name) {
        let down: Vec<&str> = list(&verdict["down"]).iter().map(word).collect();
        line(
            text,
            format_args!(
                "{name}/{} is down for {}: {} of {} voters, {} decide",
                word(&verdict["endpoint"]),
                down.join(", "),
                down.len(),
                verdict["voters"],
                verdict["needed"],
            ),
        );
    }
    if upstream["fail_open"] == true {
        line(
            text,
            format_args!("{name} fails open: no endpoint is well, and requests are sent all the same"),
        );
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
    match (state, drain["finished"].as_str()) {
        ("active", _) => state.to_owned(),
        (_, Some(_)) => format!("{state}, nothing left"),
        (_, None) => {
            let left = &drain["left"];
            let (requests, tunnels) = (&left["in_flight"], &left["open_websockets"]);
            let deadline = drain["deadline"].as_str();
            let deadline = deadline.map(|at| format!("\n    the deadline is {}", when::moment(at)));
            format!(
                "{state}, {requests} in flight and {tunnels} WebSockets left{}",
                deadline.unwrap_or_default()
            )
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
        Some(until) => format!("\n    until {}", when::moment(until)),
        None => String::new(),
    };
    format!(
        "\n    by {}{node} at {}{reason}{until}",
        word(&told["by"]),
        when::moment(word(&told["since"]))
    )
}

/// The latest of what is more than information.
fn warnings(text: &mut String, events: &[Value]) {
    let latest = events.len().saturating_sub(LATEST);
    let Some(shown) = events.get(latest..).filter(|shown| !shown.is_empty()) else {
        return;
    };
    line(
        text,
        format_args!("\nLATEST WARNINGS (tidegate events shows more)"),
    );
    for event in shown {
        wrapped(text, "  ", "      ", &super::events::told(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(stats: &Value) -> String {
        tell(stats, &Beside::default())
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
            "  app  first (file: round_robin)\n    by ann at T\n",
            "  app/a:1  draining, 1 in flight and 0 WebSockets left\n    the deadline is D\n    by token ops at T: disk\n",
            "  app/a:1  weight 0\n    by token ops at T\n",
        ] {
            assert!(text.contains(told), "{told:?} is not in:\n{text}");
        }
        let mut among_others = stats;
        among_others["cluster"] = json!({ "mode": true });
        let text = status(&among_others);
        assert!(
            text.contains("weight 0\n    by token ops on gw-2 at T\n"),
            "{text}"
        );
        let unchanged = json!({ "upstreams": [{ "name": "app", "endpoints": [{ "address": "a:1" }] }] });
        assert!(!status(&unchanged).contains("RUN TIME"));
    }

    /// One with every column, and names as long as they often are.
    fn full() -> Value {
        let endpoint = |address: &str, state: &str| {
            json!({
                "address": address, "state": state, "weight": 10, "in_flight": 120, "open_websockets": 2000,
                "requests": 12_345_678, "failures": 1234, "latency": { "p99_ms": 1234.25 },
            })
        };
        let endpoints = [
            endpoint("192.168.100.100:3000", "unhealthy"),
            endpoint("a:1", "active"),
        ];
        json!({ "upstreams": [{
            "name": "app", "balance": "least_connections", "ready_endpoints": 1, "endpoints": endpoints,
        }] })
    }

    #[test]
    fn endpoints_stand_in_columns_below_their_upstream_that_fit_a_terminal() {
        let text = status(&full());
        assert!(
            text.contains("\napp (least_connections, 1 of 2 ready)\n"),
            "{text}"
        );
        assert!(
            text.contains("  a:1                   active     10      120   2000  12345678  1234    1234.2"),
            "{text}"
        );
        let columns = text.split_once("ENDPOINT").expect("columns").1;
        assert!(columns.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn an_endpoint_that_is_held_says_until_when_and_others_since_when_they_fail() {
        let endpoint = |address: &str, until: Value| {
            let health = json!({ "reason": "refused", "since": "S", "held_until": until });
            json!({ "address": address, "health": health })
        };
        let endpoints = [endpoint("a:1", json!("U")), endpoint("a:2", Value::Null)];
        let text = status(&json!({ "upstreams": [{ "name": "app", "endpoints": endpoints }] }));
        for told in [
            "app/a:1 is flapping, and held until U:\n  refused\n",
            "app/a:2 fails its checks since S:\n  refused\n",
        ] {
            assert!(text.contains(told), "{told:?} is not in:\n{text}");
        }
    }

    #[test]
    fn who_holds_an_endpoint_for_down_and_the_latest_warnings_are_told() {
        let verdicts = json!({ "verdicts": [{ "upstream": "app", "endpoint": "a:1", "down": ["gw-1", "gw-2"],
            "voters": 3, "needed": 2 }] });
        let event = |n: u32| {
            json!({ "ts": "2026-11-21T18:14:01.5Z", "severity": "warning", "type": "endpoint.unhealthy",
                "target": format!("app/{n}"), "reason": "refused" })
        };
        let beside = Beside {
            verdicts,
            warnings: (0..9).map(event).collect(),
        };
        let text = tell(&full(), &beside);
        assert!(
            text.contains("app/a:1 is down for gw-1, gw-2: 2 of 3 voters, 2 decide\n"),
            "{text}"
        );
        assert!(text.contains("app/8") && !text.contains("app/3"), "{text}");
    }
}
