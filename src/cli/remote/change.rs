//! Commands that change a running gateway: which endpoints take requests, and how they are chosen.

use super::client::Answer;
use super::{Reach, ask_with, expect_ok, show, when};
use crate::app::Surroundings;
use crate::cli::say;
use crate::config::suggest;
use anyhow::bail;
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

/// How often a drain that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(in crate::cli) struct DrainArgs {
    /// Endpoint, as UPSTREAM/ADDRESS, or ADDRESS for that server in every upstream
    name: String,
    /// Cut what still runs there after so long, such as 5m, or never [default: drain.deadline of the upstream]
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    /// Take it back by itself after so long, such as 2h [default: never]
    #[arg(long = "for", value_name = "TIME")]
    lasts: Option<String>,
    /// Why, for whoever looks at it later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Put it into maintenance: like a drain, and it is not checked either
    #[arg(long)]
    maintenance: bool,
    /// Wait until nothing runs there any more
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// Say what would change, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct UndrainArgs {
    /// Endpoint, as UPSTREAM/ADDRESS, or ADDRESS for that server in every upstream
    name: String,
    /// Why, for whoever looks at it later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Say what would change, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BalanceArgs {
    /// Upstream
    upstream: String,
    /// Algorithm, such as least_connections
    #[arg(required_unless_present = "reset", conflicts_with = "reset")]
    algorithm: Option<String>,
    /// Go back to that of the configuration after so long, such as 2h [default: never]
    #[arg(long = "for", value_name = "TIME", conflicts_with = "reset")]
    lasts: Option<String>,
    /// Go back to the algorithm of the configuration
    #[arg(long)]
    reset: bool,
    /// Why, for whoever looks at it later
    #[arg(long, value_name = "TEXT", conflicts_with = "reset")]
    reason: Option<String>,
    /// Say what would change, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    reach: Reach,
}

/// One endpoint of a running gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    upstream: String,
    address: String,
    /// An override of it is kept, though the configuration no longer has it.
    sleeps: bool,
}

impl Named {
    fn name(&self) -> String {
        format!("{}/{}", self.upstream, self.address)
    }

    fn path(&self, dry_run: bool) -> String {
        let query = if dry_run { "?dry_run=true" } else { "" };
        let (upstream, address) = (escaped(&self.upstream), escaped(&self.address));
        format!("/api/v1/upstreams/{upstream}/endpoints/{address}{query}")
    }
}

pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

pub(in crate::cli) fn drain(args: &DrainArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    let gateway = Running {
        reach: &args.reach,
        surroundings,
    };
    let mut endpoints = gateway.endpoints()?;
    endpoints.retain(|endpoint| !endpoint.sleeps);
    let endpoints = select(endpoints, &args.name)?;
    let state = if args.maintenance {
        "maintenance"
    } else {
        "draining"
    };
    let mut wish = json!({ "state": state });
    if let Some(deadline) = &args.deadline {
        wish["deadline"] = match deadline.as_str() {
            "never" => Value::Null,
            time => json!(time),
        };
    }
    if let Some(lasts) = &args.lasts {
        wish["for"] = json!(lasts);
    }
    if let Some(reason) = &args.reason {
        wish["reason"] = json!(reason);
    }
    for endpoint in &endpoints {
        let answer = expect_ok(gateway.ask("PUT", &endpoint.path(args.dry_run), Some(&wish))?)?;
        say(&changed(&endpoint.name(), "is changed", &answer));
    }
    if args.wait {
        gateway.await_drained(&endpoints)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(in crate::cli) fn undrain(args: &UndrainArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    let gateway = Running {
        reach: &args.reach,
        surroundings,
    };
    let endpoints = select(gateway.endpoints()?, &args.name)?;
    let mut wish = json!({ "state": "active" });
    if let Some(reason) = &args.reason {
        wish["reason"] = json!(reason);
    }
    for endpoint in &endpoints {
        let path = endpoint.path(args.dry_run);
        let answer = if endpoint.sleeps {
            gateway.ask("DELETE", &path, None)?
        } else {
            gateway.ask("PUT", &path, Some(&wish))?
        };
        say(&changed(
            &endpoint.name(),
            "is back to what the file says",
            &expect_ok(answer)?,
        ));
    }
    Ok(ExitCode::SUCCESS)
}

pub(in crate::cli) fn balance(args: &BalanceArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    let gateway = Running {
        reach: &args.reach,
        surroundings,
    };
    let query = if args.dry_run { "?dry_run=true" } else { "" };
    let path = format!("/api/v1/upstreams/{}/balance{query}", escaped(&args.upstream));
    let answer = match &args.algorithm {
        Some(algorithm) => {
            let wish = json!({ "balance": algorithm, "reason": args.reason, "for": args.lasts });
            gateway.ask("PUT", &path, Some(&wish))?
        }
        None => gateway.ask("DELETE", &path, None)?,
    };
    let what = match &args.algorithm {
        Some(algorithm) => format!("balances by {algorithm} now"),
        None => "balances as the file says again".to_owned(),
    };
    say(&changed(&args.upstream, &what, &expect_ok(answer)?));
    Ok(ExitCode::SUCCESS)
}

struct Running<'a> {
    reach: &'a Reach,
    surroundings: &'a Surroundings,
}

impl Running<'_> {
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        ask_with(self.reach, self.surroundings, method, path, body)
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        expect_ok(self.ask("GET", path, None)?)
    }

    /// Every endpoint of the gateway, and those that it only remembers.
    fn endpoints(&self) -> anyhow::Result<Vec<Named>> {
        let upstreams = self.get("/api/v1/upstreams")?;
        let mut endpoints = Vec::new();
        for upstream in show::list(&upstreams["upstreams"]) {
            for endpoint in show::list(&upstream["endpoints"]) {
                endpoints.push(named(&upstream["name"], &endpoint["address"], false));
            }
        }
        let overrides = self.get("/api/v1/overrides")?;
        let sleeping = show::list(&overrides["endpoints"])
            .iter()
            .filter(|told| told["in_force"] == false);
        endpoints.extend(sleeping.map(|told| named(&told["upstream"], &told["address"], true)));
        Ok(endpoints)
    }

    /// Tells what is left, whenever that changes, until nothing is.
    fn await_drained(&self, endpoints: &[Named]) -> anyhow::Result<()> {
        let mut told = String::new();
        loop {
            let (mut text, mut unfinished) = (String::new(), false);
            for endpoint in endpoints {
                let drain = self.drain_of(endpoint)?;
                if drain.is_null() {
                    bail!("{} is no longer told to drain", endpoint.name());
                }
                unfinished |= drain["finished"].is_null();
                text.push_str(&left(&endpoint.name(), &drain));
            }
            if text != told {
                say(&text);
                told = text;
            }
            if !unfinished {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
    }

    fn drain_of(&self, endpoint: &Named) -> anyhow::Result<Value> {
        let upstream = self.get(&format!("/api/v1/upstreams/{}", escaped(&endpoint.upstream)))?;
        let endpoints = show::list(&upstream["endpoints"]);
        let found = endpoints
            .iter()
            .find(|shown| shown["address"] == endpoint.address.as_str());
        Ok(found.map_or(Value::Null, |shown| shown["drain"].clone()))
    }
}

fn named(upstream: &Value, address: &Value, sleeps: bool) -> Named {
    Named {
        upstream: show::word(upstream).to_owned(),
        address: show::word(address).to_owned(),
        sleeps,
    }
}

/// Those that a name stands for: one endpoint, or one server wherever it is.
fn select(endpoints: Vec<Named>, name: &str) -> anyhow::Result<Vec<Named>> {
    let names: Vec<String> = endpoints.iter().map(Named::name).collect();
    let (found, _others): (Vec<Named>, Vec<Named>) = endpoints
        .into_iter()
        .partition(|endpoint| endpoint.name() == name || endpoint.address == name);
    if !found.is_empty() {
        return Ok(found);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match suggest::did_you_mean(name, names.iter().copied()) {
        Some(near) => bail!("there is no endpoint {name:?}: {near}"),
        None => bail!("there is no endpoint {name:?} among {}", suggest::list(&names)),
    }
}

/// What a change came to; `what` where the answer does not tell.
fn changed(name: &str, what: &str, answer: &Value) -> String {
    let mut text = match (show::word(&answer["outcome"]), answer["dry_run"] == true) {
        ("applied", true) => format!("{name} would be changed (dry run)\n"),
        ("applied", false) if answer["endpoint"].is_null() => format!("{name} {what}\n"),
        ("applied", false) => {
            let endpoint = &answer["endpoint"];
            match &endpoint["drain"] {
                Value::Null => format!("{name} is {}\n", show::word(&endpoint["state"])),
                drain => left(name, drain),
            }
        }
        _ => format!("{name} is as it was\n"),
    };
    for warning in show::list(&answer["warnings"]) {
        text.push_str(&format!("  warning: {}\n", show::problem(warning)));
    }
    text
}

/// What runs at an endpoint that drains.
fn left(name: &str, drain: &Value) -> String {
    let left = &drain["left"];
    if !drain["finished"].is_null() {
        return match &drain["cut"] {
            Value::Null => format!("{name} is drained\n"),
            cut => format!("{name} is drained: {} were cut at the deadline\n", counts(cut)),
        };
    }
    let until = match drain["deadline"].as_str() {
        Some(deadline) => format!(", until {}", when::moment(deadline)),
        None => String::new(),
    };
    format!("{name} drains: {}{until}\n", counts(left))
}

fn counts(left: &Value) -> String {
    format!(
        "{} in flight, {} open WebSockets",
        left["in_flight"], left["open_websockets"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints() -> Vec<Named> {
        let named = |upstream, address| named(&json!(upstream), &json!(address), false);
        vec![
            named("app", "10.0.0.1:80"),
            named("app", "unix:/run/a.sock"),
            named("chat", "10.0.0.1:80"),
        ]
    }

    fn selected(name: &str) -> Vec<String> {
        select(endpoints(), name)
            .unwrap()
            .iter()
            .map(Named::name)
            .collect()
    }

    #[test]
    fn an_address_stands_for_that_server_wherever_it_is() {
        assert_eq!(selected("10.0.0.1:80"), ["app/10.0.0.1:80", "chat/10.0.0.1:80"]);
        assert_eq!(selected("chat/10.0.0.1:80"), ["chat/10.0.0.1:80"]);
        assert_eq!(selected("app/unix:/run/a.sock"), ["app/unix:/run/a.sock"]);
    }

    #[test]
    fn an_endpoint_that_there_is_not_is_told_with_those_that_there_are() {
        let error = |name| select(endpoints(), name).unwrap_err().to_string();
        assert!(
            error("app/10.0.0.1:81").contains("did you mean"),
            "{}",
            error("app/10.0.0.1:81")
        );
        assert!(error("xyz").contains("chat/10.0.0.1:80"), "{}", error("xyz"));
    }

    #[test]
    fn a_drain_is_told_with_what_is_left_of_it() {
        let drain =
            json!({ "left": { "in_flight": 1, "open_websockets": 2 }, "finished": null, "deadline": null });
        let answer = json!({ "outcome": "applied", "dry_run": false, "endpoint": { "state": "draining", "drain": drain } });
        assert_eq!(
            changed("app/a:1", "is changed", &answer),
            "app/a:1 drains: 1 in flight, 2 open WebSockets\n"
        );
        let cut = json!({ "left": {}, "finished": "now", "cut": { "in_flight": 0, "open_websockets": 2 } });
        assert_eq!(
            left("app/a:1", &cut),
            "app/a:1 is drained: 0 in flight, 2 open WebSockets were cut at the deadline\n"
        );
        let warned = json!({
            "outcome": "applied", "dry_run": true,
            "warnings": [{ "key": "upstreams.app.endpoints", "message": "no endpoint is left" }],
        });
        assert_eq!(
            changed("app/a:1", "is changed", &warned),
            "app/a:1 would be changed (dry run)\n  warning: upstreams.app.endpoints: no endpoint is left\n"
        );
    }

    #[test]
    fn a_path_escapes_what_an_address_may_hold() {
        assert_eq!(
            endpoints()[1].path(true),
            "/api/v1/upstreams/app/endpoints/unix%3A%2Frun%2Fa%2Esock?dry_run=true"
        );
    }
}
