//! Begins drills, watches them, and ends them.

use super::plan::{self, Verdict};
use super::{
    DrillWish, Drills, Entry, LARGEST_SHARE, LONGEST, Meanwhile, Mode, Refused, Report, SHORTEST, State,
};
use crate::base::clock::{Millis, calendar};
use crate::control::command::{Action, Actor, Command, Commands, Outcome};
use crate::control::failover::{Cost, FailOver, Trigger};
use crate::control::gateway::Gateway;
use crate::control::overrides::{EndpointWish, MAX_REASON, Wish};
use crate::control::status::EndpointCondition;
use crate::telemetry::events::Severity;
use crate::upstream::shared::drill::Drill;
use crate::upstream::shared::{AdminState, EndpointKey};
use jiff::Timestamp;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How often running drills are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// A drill that was begun.
#[derive(Clone, Debug)]
pub struct Begun {
    pub report: Report,
    /// What marks requests, of a blackhole.
    pub mark: Option<String>,
}

/// Begins a drill, or says what it would be.
///
/// # Errors
/// It is not held; everything is as before.
pub async fn begin(
    gateway: &Gateway,
    commands: &Commands,
    actor: &Actor,
    wish: &DrillWish,
    dry_run: bool,
) -> Result<Begun, Refused> {
    check(wish)?;
    let live = gateway.live.load();
    let plan = plan::of(&live.upstreams, &wish.endpoint).ok_or(Refused::NoEndpoint)?;
    if wish.mode != Mode::Simulate {
        match plan.state {
            Some(EndpointCondition::Active) | None => {}
            Some(other) => return Err(Refused::NotActive(other.name())),
        }
        let hurts = wish.mode == Mode::Drain || wish.share > 0.0;
        if plan.verdict == Verdict::Alone && hurts && !wish.force {
            return Err(Refused::Alone);
        }
    }
    let of_trial = DrillWish {
        mode: Mode::Simulate,
        ..wish.clone()
    };
    let kept = if dry_run { &of_trial } else { wish };
    let mark = (kept.mode == Mode::Blackhole).then(mark);
    let drill = mark.as_ref().map(|mark| {
        let ends = Millis::now().plus(wish.duration);
        Arc::new(Drill::new(mark, wish.share, ends))
    });
    let begin = meanwhile(gateway, &wish.endpoint);
    let report = gateway
        .drills
        .open(kept, plan, actor.to_string(), drill.clone(), begin)?;
    let started = match kept.mode {
        Mode::Simulate => Ok(()),
        Mode::Blackhole => blackhole(gateway, &report, &wish.endpoint, drill),
        Mode::Drain => drain(commands, actor, &report, wish).await,
    };
    if let Err(refused) = started {
        gateway.drills.withdraw(report.id);
        return Err(refused);
    }
    write_down(gateway, actor, wish, dry_run);
    Ok(Begun { report, mark })
}

fn check(wish: &DrillWish) -> Result<(), Refused> {
    if !(SHORTEST..=LONGEST).contains(&wish.duration) {
        return Err(Refused::Duration);
    }
    if !(0.0..=LARGEST_SHARE).contains(&wish.share) {
        return Err(Refused::Share);
    }
    if wish.share > 0.0 && wish.mode == Mode::Drain {
        return Err(Refused::ShareOfWhat);
    }
    if wish
        .reason
        .as_ref()
        .is_some_and(|reason| reason.chars().count() > MAX_REASON / 2)
    {
        return Err(Refused::LongReason);
    }
    Ok(())
}

/// Nobody guesses it.
fn mark() -> String {
    let mut bytes = [0; 16];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Err(_) => format!("{:032x}", fastrand::u128(..)),
    }
}

fn blackhole(
    gateway: &Gateway,
    report: &Report,
    endpoint: &EndpointKey,
    drill: Option<Arc<Drill>>,
) -> Result<(), Refused> {
    let state = gateway.registry.known(endpoint).ok_or(Refused::NoEndpoint)?;
    state.set_drill(drill);
    let id = gateway.failovers.record(FailOver {
        key: endpoint.clone(),
        trigger: Trigger::Test,
        from: "active",
        to: "blackholed",
        reason: format!("drill {} by {}", report.id, report.by),
        detection_ms: None,
        in_flight: state.load(),
    });
    let mut book = gateway.drills.book();
    if let Some(entry) = book.entries.iter_mut().find(|entry| entry.report.id == report.id) {
        entry.history = Some(id);
    }
    Ok(())
}

/// An override that ends with the drill: restored by the same clockwork as any other, over a restart too.
async fn drain(commands: &Commands, actor: &Actor, report: &Report, wish: &DrillWish) -> Result<(), Refused> {
    let change = EndpointWish {
        state: Some(AdminState::Draining),
        // What runs there is not cut by a drill.
        deadline: Wish::Reset,
        reason: Some(reason(report)),
        until: Some(calendar().checked_add(wish.duration).unwrap_or(Timestamp::MAX)),
        ..EndpointWish::default()
    };
    submit(commands, actor, &wish.endpoint, change).await
}

fn reason(report: &Report) -> String {
    match &report.reason {
        Some(reason) => format!("fail-over drill {}: {reason}", report.id),
        None => format!("fail-over drill {}", report.id),
    }
}

async fn submit(
    commands: &Commands,
    actor: &Actor,
    endpoint: &EndpointKey,
    wish: EndpointWish,
) -> Result<(), Refused> {
    let command = Command {
        actor: actor.clone(),
        dry_run: false,
        action: Action::ChangeEndpoint {
            endpoint: endpoint.clone(),
            wish,
        },
    };
    match commands.submit(command).await {
        Ok(Outcome::Rejected(problems)) => {
            let first = problems.first().map(|problem| problem.message.clone());
            Err(Refused::Override(first.unwrap_or_default()))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(Refused::Override(error.to_string())),
    }
}

/// Ends a drill before its time. `None`: no such drill runs.
///
/// # Errors
/// The endpoint could not be given back.
pub async fn stop(
    gateway: &Gateway,
    commands: &Commands,
    actor: &Actor,
    id: u64,
) -> Result<Option<Report>, Refused> {
    let Some(report) = gateway
        .drills
        .report(id)
        .filter(|report| report.state == State::Running)
    else {
        return Ok(None);
    };
    let endpoint = EndpointKey {
        upstream: report.upstream.as_str().into(),
        address: report.address.as_str().into(),
    };
    let ours = gateway.overrides.load().endpoint(&endpoint).is_some_and(|told| {
        told.leave
            .as_ref()
            .is_some_and(|leave| leave.reason.as_ref() == Some(&reason(&report)))
    });
    if report.mode == Mode::Drain && ours {
        let back = EndpointWish {
            state: Some(AdminState::Active),
            reason: Some(format!("drill {id} was ended")),
            ..EndpointWish::default()
        };
        submit(commands, actor, &endpoint, back).await?;
    }
    let ended = end(gateway, id, State::Stopped);
    Ok(ended)
}

/// Watches until the runtime ends.
pub async fn run(gateway: Arc<Gateway>) {
    loop {
        let running: Vec<(u64, Millis, EndpointKey)> = {
            let book = gateway.drills.book();
            let told = |entry: &Entry| (entry.report.id, entry.ends, entry.endpoint.clone());
            book.running().map(told).collect()
        };
        if running.is_empty() {
            gateway.drills.begun.notified().await;
            continue;
        }
        for (id, ends, endpoint) in running {
            if gateway.registry.known(&endpoint).is_none() {
                end(&gateway, id, State::Gone);
            } else if ends <= Millis::now() {
                end(&gateway, id, State::Done);
            } else {
                count(&gateway, id);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Brings the reports of running drills up to now.
pub fn count_all(gateway: &Gateway) {
    let running: Vec<u64> = {
        let book = gateway.drills.book();
        book.running().map(|entry| entry.report.id).collect()
    };
    for id in running {
        count(gateway, id);
    }
}

fn count(gateway: &Gateway, id: u64) {
    let endpoint = gateway.drills.endpoint(id);
    let Some(endpoint) = endpoint else { return };
    let now = meanwhile(gateway, &endpoint);
    gateway.drills.count(id, now, gateway);
}

/// Gives the endpoint back, and reports.
fn end(gateway: &Gateway, id: u64, state: State) -> Option<Report> {
    let endpoint = gateway.drills.endpoint(id)?;
    count(gateway, id);
    let report = {
        let mut book = gateway.drills.book();
        let entry = book.entries.iter_mut().find(|entry| entry.report.id == id)?;
        if entry.report.state != State::Running {
            return None;
        }
        entry.report.state = state;
        entry.report.ended_at = Some(Timestamp::now().to_string());
        entry.report.clone()
    };
    if report.mode == Mode::Blackhole
        && let Some(at) = gateway.registry.known(&endpoint)
    {
        at.set_drill(None);
        gateway.failovers.record(FailOver {
            key: endpoint,
            trigger: Trigger::Test,
            from: "blackholed",
            to: "active",
            reason: format!("drill {id} is over"),
            detection_ms: None,
            in_flight: at.load(),
        });
    }
    let words = match state {
        State::Stopped => "was ended",
        State::Gone => "is over: the endpoint left",
        State::Running | State::Done => "is over",
    };
    gateway.journal.events.post(
        "failover.test_ended",
        Severity::Info,
        report.node.clone(),
        format!(
            "drill {id} ({}) {words}: {} attempts swallowed, {} made elsewhere, {} requests answered, {} failed",
            report.mode.name(),
            report.taken,
            report.retried,
            report.answered,
            report.failed
        ),
        json!({ "drill": id, "report": report }),
    );
    Some(report)
}

impl Drills {
    fn endpoint(&self, id: u64) -> Option<EndpointKey> {
        let book = self.book();
        book.entries
            .iter()
            .find(|entry| entry.report.id == id)
            .map(|entry| entry.endpoint.clone())
    }

    fn count(&self, id: u64, now: Meanwhile, gateway: &Gateway) {
        let mut book = self.book();
        let Some(entry) = book.entries.iter_mut().find(|entry| entry.report.id == id) else {
            return;
        };
        let came = entry.count(now);
        if let Some(history) = entry.history {
            let cost = Cost {
                retried: came.retried,
                failed: came.failed,
            };
            gateway.failovers.cost(history, cost);
        }
    }
}

fn meanwhile(gateway: &Gateway, endpoint: &EndpointKey) -> Meanwhile {
    let outcomes = gateway.metrics.outcomes();
    let of_it = outcomes
        .get(&*endpoint.upstream)
        .into_iter()
        .flat_map(|endpoints| endpoints.values());
    of_it.fold(Meanwhile::default(), |sum, counted| Meanwhile {
        requests: sum.requests + counted.requests,
        faults: sum.faults + counted.faults,
        retried: sum.retried + counted.given,
    })
}

fn write_down(gateway: &Gateway, actor: &Actor, wish: &DrillWish, dry_run: bool) {
    let command = Command {
        actor: actor.clone(),
        dry_run: dry_run || wish.mode == Mode::Simulate,
        action: Action::Drill(wish.clone()),
    };
    gateway.journal.record(&command, &Outcome::Done);
}
