//! Moves tunnels to endpoints that joined, where an upstream asks for that: looks who is there and how full, has the
//! rules say how many are to be asked to go, and workers ask them.

use super::gateway::Gateway;
use crate::base::clock::Millis;
use crate::config::model::{Balance, Config, Rebalance};
use crate::telemetry::events::Severity;
use crate::upstream::shared::rebalance::{Asking, Change, Member, Round, Watch};
use crate::upstream::shared::{EndpointPlan, UpstreamPlan};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often endpoints are looked at while tunnels move, and otherwise.
const LOOK: Duration = Duration::from_millis(100);
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// Rounds that run, by upstream.
#[derive(Debug, Default)]
pub struct Rebalances(Mutex<BTreeMap<Arc<str>, Progress>>);

/// How far a round is.
#[derive(Clone, Debug)]
pub struct Progress {
    pub round: Round,
    pub rules: Rebalance,
}

impl Progress {
    /// When the last of the surplus will have been asked, if those that come back go elsewhere.
    #[must_use]
    pub fn end(&self) -> Millis {
        let seconds = f64::from(self.round.surplus) / f64::from(self.rules.rate.max(1));
        Millis::now().plus(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

impl Rebalances {
    #[must_use]
    pub fn progress(&self, upstream: &str) -> Option<Progress> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(upstream)
            .cloned()
    }

    fn note(&self, upstream: &Arc<str>, progress: Option<Progress>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match progress {
            Some(progress) => all.insert(upstream.clone(), progress),
            None => all.remove(upstream),
        };
    }
}

/// Looks at all upstreams until the runtime ends.
pub async fn run(gateway: Arc<Gateway>) {
    let mut watches: BTreeMap<Arc<str>, Watch> = BTreeMap::new();
    loop {
        let busy = look(&gateway, &mut watches, Millis::now());
        tokio::time::sleep(if busy { LOOK } else { IDLE_LOOK }).await;
    }
}

/// Whether somewhere tunnels are moving, or about to.
fn look(gateway: &Gateway, watches: &mut BTreeMap<Arc<str>, Watch>, now: Millis) -> bool {
    let snapshot = gateway.live.load();
    let running = gateway.running.load();
    watches.retain(|name, watch| {
        let plan = snapshot.upstreams.iter().find(|plan| plan.name == *name);
        let moves = plan.is_some_and(|plan| rules(&running.config, plan).is_some());
        if !moves && watch.round.is_some() {
            watch.rest();
            finish(gateway, name);
        }
        moves
    });
    let mut busy = false;
    for plan in &snapshot.upstreams {
        if let Some(rules) = rules(&running.config, plan) {
            let watch = watches.entry(plan.name.clone()).or_default();
            look_at(gateway, plan, watch, rules, now);
            busy |= watch.is_busy();
        }
    }
    busy
}

/// What the upstream says, where clients that come back may go elsewhere.
fn rules(config: &Config, plan: &UpstreamPlan) -> Option<Rebalance> {
    let rules = config.upstreams.get(&*plan.name)?.rebalance?;
    (plan.balance != Balance::First).then_some(rules)
}

fn look_at(gateway: &Gateway, plan: &UpstreamPlan, watch: &mut Watch, rules: Rebalance, now: Millis) {
    let takes = |endpoint: &&EndpointPlan| {
        endpoint.is_open() && !endpoint.backup && endpoint.state.standing.is_good(now)
    };
    let endpoints: Vec<&EndpointPlan> = plan.endpoints.iter().filter(takes).collect();
    let mut members: Vec<Member> = endpoints.iter().map(|endpoint| member(endpoint)).collect();
    let change = watch.look(now, rules, plan.resilience.slow_start, &mut members);
    let Some(round) = &watch.round else {
        if let Some(Change::Ended { left }) = change {
            let text = match left {
                0 => "tunnels are even again".to_owned(),
                left => format!("{left} more than even stay where they are: none of them may be asked"),
            };
            tell(
                gateway,
                "upstream.rebalanced",
                plan,
                text,
                json!({ "left": left }),
            );
            finish(gateway, &plan.name);
        }
        return;
    };
    for (endpoint, member) in endpoints.iter().zip(&members) {
        let asking = match endpoint.state.asking() {
            Some(asking) if asking.opened_before == round.began => asking,
            _ => {
                let asking = Arc::new(Asking::new(round.began));
                endpoint.state.set_asking(Some(asking.clone()));
                asking
            }
        };
        asking.add(member.due.saturating_sub(asking.due()));
    }
    for endpoint in plan.endpoints.iter().filter(|endpoint| !takes(endpoint)) {
        endpoint.state.set_asking(None);
    }
    let surplus = round.surplus;
    if change == Some(Change::Began) {
        let text = format!("an endpoint joined: {surplus} tunnels are above the threshold elsewhere");
        tell(
            gateway,
            "upstream.rebalance_began",
            plan,
            text,
            json!({ "surplus": surplus }),
        );
    }
    let progress = Progress {
        round: round.clone(),
        rules,
    };
    gateway.rebalances.note(&plan.name, Some(progress));
}

fn member(endpoint: &EndpointPlan) -> Member {
    Member {
        address: endpoint.state.key.address.clone(),
        weight: endpoint.weight,
        tunnels: endpoint.state.tunnels_staying(),
        due: endpoint.state.asking().map_or(0, |asking| asking.due()),
    }
}

/// Nobody is asked any more.
fn finish(gateway: &Gateway, upstream: &Arc<str>) {
    // Those that left the configuration meanwhile, too.
    let all = gateway.registry.all();
    for endpoint in all.iter().filter(|endpoint| endpoint.key.upstream == *upstream) {
        endpoint.set_asking(None);
    }
    gateway.rebalances.note(upstream, None);
}

fn tell(gateway: &Gateway, kind: &'static str, plan: &UpstreamPlan, text: String, data: serde_json::Value) {
    gateway
        .journal
        .events
        .post(kind, Severity::Info, plan.name.to_string(), text, data);
}
