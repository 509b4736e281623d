//! `tidegate events`: what happened, and what happens.

use super::show::word;
use super::{Reach, ask, client, expect_ok, target, when};
use crate::app::Surroundings;
use crate::cli::{complain, say};
use anyhow::Context;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

/// Events asked for at a time, and how often at most: more than any log keeps.
const PAGE: usize = 1000;
const PAGES: usize = 32;
/// How long one who follows waits before it comes back.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(in crate::cli) struct EventsArgs {
    /// Go on with those that happen from now on
    #[arg(short, long)]
    follow: bool,
    /// Of all gateways of the cluster, from the log that they share
    #[arg(long)]
    cluster: bool,
    /// Of this type, such as config.applied, or all that begin with it, such as endpoint
    #[arg(long = "type", value_name = "TYPE")]
    kind: Vec<String>,
    /// At least so severe
    #[arg(long, value_enum)]
    severity: Option<Least>,
    /// What they happened to, such as an upstream, or UPSTREAM/ADDRESS
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// On this gateway of the cluster
    #[arg(long, value_name = "NODE", requires = "cluster")]
    node: Option<String>,
    /// Later than this moment, such as 2026-12-24T18:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// So many, the latest
    #[arg(short = 'n', long = "number", value_name = "N", default_value_t = 20)]
    number: usize,
    /// As the API gives them, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Least {
    Info,
    Warning,
    Error,
}

impl EventsArgs {
    fn query(&self) -> String {
        let mut query = format!("scope={}", if self.cluster { "cluster" } else { "node" });
        let mut add = |name: &str, value: &str| {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            query.push_str(&format!("&{name}={value}"));
        };
        for kind in &self.kind {
            add("type", kind);
        }
        if let Some(least) = self.severity {
            add(
                "severity",
                match least {
                    Least::Info => "info",
                    Least::Warning => "warning",
                    Least::Error => "error",
                },
            );
        }
        if let Some(target) = &self.target {
            add("target", target);
        }
        if let Some(node) = &self.node {
            add("node", node);
        }
        query
    }

    fn say(&self, event: &Value) {
        say(&if self.json { event.to_string() } else { told(event) });
    }
}

pub(in crate::cli) fn events(args: &EventsArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    if let Some(since) = &args.since {
        let read = since.parse::<Timestamp>();
        read.with_context(|| format!("{since:?} is no moment: write one such as 2026-12-24T18:00:00Z"))?;
    }
    let (found, mut next) = all(&args.reach, surroundings, &args.query(), args.since.as_deref())?;
    for event in found.iter().skip(found.len().saturating_sub(args.number)) {
        args.say(event);
    }
    if !args.follow {
        if found.is_empty() && !args.json {
            say("nothing happened");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let target = target(&args.reach, surroundings)?;
    let path = format!("/api/v1/events/stream?{}", args.query());
    let runtime = super::runtime()?;
    let mut silent = false;
    loop {
        let followed = runtime.block_on(client::follow(&target, &path, &mut next, |frame| {
            silent = false;
            heard(args, &frame);
        }));
        // A stream has its end; one that can't be had is told once.
        if let Err(error) = followed
            && !std::mem::replace(&mut silent, true)
        {
            complain(&format!("tidegate: {error:#}; trying again"));
        }
        std::thread::sleep(AGAIN);
    }
}

/// Every event that is kept, and the place behind the last one.
pub(super) fn all(
    reach: &Reach,
    surroundings: &Surroundings,
    query: &str,
    since: Option<&str>,
) -> anyhow::Result<(Vec<Value>, Option<String>)> {
    let mut found = Vec::new();
    let mut place: Option<String> = None;
    let moment = since.map(|since| utf8_percent_encode(since, NON_ALPHANUMERIC).to_string());
    for _ in 0..PAGES {
        let mut path = format!("/api/v1/events?{query}&limit={PAGE}");
        // The moment counts on every page, and the place says where it begins.
        for since in place.iter().chain(moment.as_ref().filter(|_| place.is_none())) {
            path.push_str(&format!("&since={since}"));
        }
        let page = expect_ok(ask(reach, surroundings, "GET", &path)?)?;
        let events = super::show::list(&page["events"]);
        found.extend_from_slice(events);
        let next = match &page["next"] {
            Value::String(next) => Some(next.clone()),
            // Numbers begin anew with each process.
            Value::Number(next) => Some(format!("{}-{next}", page["run"])),
            _ => None,
        };
        let done = events.len() < PAGE || next == place;
        place = next.or(place);
        if done {
            break;
        }
    }
    Ok((found, place))
}

/// What came on a stream.
fn heard(args: &EventsArgs, frame: &client::Frame) {
    let Ok(data) = serde_json::from_str::<Value>(&frame.data) else {
        return;
    };
    match frame.event.as_str() {
        "" | "message" => args.say(&data),
        "reset" => complain("-- the gateway was started anew"),
        "lost" => complain("-- some events before this are not kept any more"),
        "away" => complain(&format!(
            "-- the log can't be read now: {}",
            word(&data["reason"])
        )),
        "slow" => complain(&format!("-- {}", word(&data["reason"]))),
        _ => args.say(&data),
    }
}

/// One event in a line.
pub(super) fn told(event: &Value) -> String {
    let severity = match word(&event["severity"]) {
        "warning" => "WARN ",
        "error" => "ERROR",
        _ => "INFO ",
    };
    let mut text = format!("{} {severity}", when::stamp(word(&event["ts"])));
    for key in ["node", "type", "target"] {
        if let Some(word) = event[key].as_str().filter(|word| !word.is_empty()) {
            text.push_str(&format!(" {word}"));
        }
    }
    if let Some(reason) = event["reason"].as_str().filter(|reason| !reason.is_empty()) {
        text.push_str(&format!(": {reason}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_a_line() {
        let mut event = json!({ "ts": "2026-11-21T18:14:02.071429093Z", "severity": "warning",
            "type": "endpoint.unhealthy", "target": "app/a:1", "reason": "refused", "data": {} });
        assert_eq!(
            told(&event),
            "2026-11-21 18:14:02Z WARN  endpoint.unhealthy app/a:1: refused"
        );
        event["node"] = json!("gw-2");
        event["target"] = json!("");
        assert_eq!(
            told(&event),
            "2026-11-21 18:14:02Z WARN  gw-2 endpoint.unhealthy: refused"
        );
    }
}
