//! Endpoints that were told to take nothing new: what still runs there, and the hard end at the deadline.
//!
//! The order itself is an override, compiled into the snapshot; here it is only watched. What runs at an endpoint
//! is known from its counts, so nobody keeps a list; at the deadline the endpoint is marked, every connection is
//! woken once, and those that are at a marked endpoint end themselves. Until then its tunnels are asked to go in
//! slices, as `drain` of the upstream says. An endpoint that leaves the configuration, or the answers of DNS, drains
//! too: what runs there goes on, by the same rules.

use super::gateway::Gateway;
use crate::base::clock::calendar;
use crate::config::model::Drain;
use crate::telemetry::events::Severity;
use crate::upstream::shared::overrides::{Leave, Override};
use crate::upstream::shared::shed::Shed;
use crate::upstream::shared::{AdminState, EndpointKey, EndpointState};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often it is looked what is left, while something is.
const LOOK: Duration = Duration::from_millis(50);
/// What is left of a long drain is told this often.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// What close frames say to those who are asked to come back to another endpoint.
const SERVICE_RESTART: u16 = 1012;

/// What runs at an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Left {
    pub in_flight: u32,
    pub open_websockets: u32,
}

impl Left {
    fn at(endpoint: Option<&Arc<EndpointState>>) -> Self {
        endpoint.map_or_else(Self::default, |endpoint| Self {
            in_flight: endpoint.in_flight(),
            open_websockets: endpoint.tunnels(),
        })
    }

    #[must_use]
    pub const fn is_nothing(self) -> bool {
        self.in_flight == 0 && self.open_websockets == 0
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            in_flight,
            open_websockets,
        } = self;
        write!(f, "{in_flight} in flight, {open_websockets} open WebSockets")
    }
}

/// How far one endpoint is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The order that is carried out.
    pub leave: Leave,
    /// What ran when the order was first carried out.
    pub at_start: Left,
    /// What the deadline cut.
    pub cut: Option<Left>,
    /// When nothing was left any more.
    pub finished: Option<Timestamp>,
    /// When the last tunnel will have been asked to go, or cut.
    pub end: Option<Instant>,
    /// Tunnels asked per second; 0: as the deadline wants it.
    pub rate: u32,
    began: Instant,
    deadline: Option<Instant>,
    told: Instant,
    /// Workers that have this generation give the endpoint nothing new.
    generation: u64,
}

/// Endpoints that left the configuration and still have tunnels.
#[derive(Debug, Default)]
struct Removed {
    /// Since when, and whether the deadline has cut what was left.
    since: BTreeMap<EndpointKey, Instant>,
    /// What upstreams said last of how their endpoints leave.
    rules: BTreeMap<Arc<str>, Drain>,
}

/// All endpoints that are leaving or have left.
#[derive(Debug, Default)]
pub struct Drains {
    progress: Mutex<BTreeMap<EndpointKey, Progress>>,
    removed: Mutex<Removed>,
    changed: Notify,
}

impl Drains {
    #[must_use]
    pub fn progress(&self, key: &EndpointKey) -> Option<Progress> {
        self.lock().get(key).cloned()
    }

    /// Overrides, or the endpoints that they are about, have changed.
    pub fn look(&self) {
        self.changed.notify_one();
    }

    /// Whole after a panic too: an entry is either there or not.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<EndpointKey, Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the mark off endpoints that may serve again. Before the swap: the first request that they are given must
/// not find it.
pub fn spare(gateway: &Gateway, still_leaving: impl Fn(&EndpointKey) -> bool) {
    for endpoint in gateway.registry.all() {
        if !still_leaving(&endpoint.key) {
            if endpoint.standing.is_cut() {
                endpoint.standing.set_cut(false);
            }
            endpoint.set_shed(None);
        }
    }
}

/// Watches drains until the runtime ends.
pub async fn run(gateway: Arc<Gateway>) {
    loop {
        let unfinished = look(&gateway);
        tokio::select! {
            () = gateway.drains.changed.notified() => {}
            () = tokio::time::sleep(LOOK), if unfinished => {}
        }
    }
}

/// Looks at every endpoint that was told to leave; whether one has something left.
fn look(gateway: &Gateway) -> bool {
    let overrides = gateway.overrides.load_full();
    let seen = gateway
        .workers()
        .iter()
        .map(|worker| worker.generation)
        .min()
        .unwrap_or(0);
    let mut drains = gateway.drains.lock();
    drains.retain(|key, _| overrides.admin_of(key) != AdminState::Active);
    let mut unfinished = look_at_removed(gateway, |key| overrides.admin_of(key) != AdminState::Active);
    for (key, told) in overrides.endpoints() {
        let Some(leave) = &told.leave else { continue };
        let endpoint = gateway.registry.known(key);
        let progress = drains
            .entry(key.clone())
            .or_insert_with(|| begin(gateway, leave, Left::at(endpoint.as_ref())));
        if progress.leave != leave.value {
            // Another deadline, or a drain that became a maintenance.
            progress.leave = leave.value;
            progress.deadline = deadline(leave);
        }
        let may_come_back = leave.value.state == AdminState::Draining && keeps_sessions(gateway, key);
        step(gateway, key, endpoint.as_ref(), progress, seen, may_come_back);
        unfinished |= progress.finished.is_none();
    }
    unfinished
}

/// Looks at endpoints that left the configuration, and at those that came back; whether one has something left that is
/// to go.
fn look_at_removed(gateway: &Gateway, told: impl Fn(&EndpointKey) -> bool) -> bool {
    let now = Instant::now();
    let snapshot = gateway.live.load();
    let running = gateway.running.load();
    let mut removed = gateway
        .drains
        .removed
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    for upstream in &snapshot.upstreams {
        if let Some(config) = running.config.upstreams.get(&*upstream.name) {
            removed.rules.insert(upstream.name.clone(), config.drain);
        }
    }
    let all = gateway.registry.all();
    removed.rules.retain(|name, _| {
        running.config.upstreams.contains_key(&**name)
            || all.iter().any(|endpoint| endpoint.key.upstream == *name)
    });
    let plans = snapshot.upstreams.iter().flat_map(|upstream| &upstream.endpoints);
    let present: HashSet<*const EndpointState> = plans.map(|plan| Arc::as_ptr(&plan.state)).collect();
    let mut unfinished = false;
    let before = std::mem::take(&mut removed.since);
    for endpoint in all.iter().filter(|endpoint| !told(&endpoint.key)) {
        if present.contains(&Arc::as_ptr(endpoint)) {
            if endpoint.is_shedding() {
                endpoint.set_shed(None);
            }
            continue;
        }
        if endpoint.load() == 0 {
            continue;
        }
        let began = *before.get(&endpoint.key).unwrap_or(&now);
        removed.since.insert(endpoint.key.clone(), began);
        let rules = removed
            .rules
            .get(&endpoint.key.upstream)
            .copied()
            .unwrap_or_default();
        let deadline = (!rules.deadline.is_zero()).then(|| began + rules.deadline);
        let wanted = shed(rules, began, deadline);
        ask_to_go(endpoint, wanted);
        if deadline.is_some_and(|deadline| deadline <= now) && !endpoint.standing.is_cut() {
            endpoint.standing.set_cut(true);
            gateway.plane().workers.cut();
            let left = Left::at(Some(endpoint));
            let text = format!("it left the configuration and the deadline passed: {left} are cut");
            tell(
                gateway,
                Severity::Warning,
                "endpoint.drain_cut",
                &endpoint.key,
                text,
                left,
            );
        }
        unfinished |= wanted.asks() || deadline.is_some();
    }
    unfinished
}

/// How the tunnels of an endpoint are asked to go.
fn shed(rules: Drain, began: Instant, deadline: Option<Instant>) -> Shed {
    Shed {
        rate: f64::from(rules.rate),
        jitter: rules.jitter,
        order: rules.order,
        began: began.into_std(),
        deadline: deadline.map(Instant::into_std),
        code: SERVICE_RESTART,
    }
}

fn ask_to_go(endpoint: &EndpointState, wanted: Shed) {
    let wanted = Some(wanted).filter(Shed::asks);
    if endpoint.shed().as_deref() != wanted.as_ref() {
        endpoint.set_shed(wanted);
    }
}

fn begin(gateway: &Gateway, leave: &Override<Leave>, at_start: Left) -> Progress {
    Progress {
        leave: leave.value,
        at_start,
        cut: None,
        finished: None,
        end: None,
        rate: 0,
        began: Instant::now(),
        deadline: deadline(leave),
        told: Instant::now(),
        generation: gateway.live.generation(),
    }
}

/// The deadline on the clock that does not jump. After a restart, what is left of it by the one that does, and
/// never more than the whole.
fn deadline(leave: &Override<Leave>) -> Option<Instant> {
    let at = leave.value.deadline?;
    let whole = at.duration_since(leave.since);
    let left = at.duration_since(calendar()).min(whole);
    Instant::now().checked_add(Duration::try_from(left).unwrap_or(Duration::ZERO))
}

/// Whether clients may come back to an endpoint of this upstream though it takes nothing new.
fn keeps_sessions(gateway: &Gateway, key: &EndpointKey) -> bool {
    let live = gateway.live.load();
    let upstream = live.upstreams.iter().find(|plan| plan.name == key.upstream);
    upstream
        .and_then(|plan| plan.sticky.as_ref())
        .is_some_and(|sticky| sticky.remembers())
}

fn step(
    gateway: &Gateway,
    key: &EndpointKey,
    endpoint: Option<&Arc<EndpointState>>,
    progress: &mut Progress,
    seen: u64,
    may_come_back: bool,
) {
    let now = Instant::now();
    let left = Left::at(endpoint);
    let over = progress.deadline.is_some_and(|deadline| deadline <= now);
    progress.end = None;
    if let Some(endpoint) = endpoint {
        let config = gateway.running.load();
        let upstream = config.config.upstreams.get(&*key.upstream);
        let rules = upstream.map(|upstream| upstream.drain).unwrap_or_default();
        let wanted = shed(rules, progress.began, progress.deadline);
        ask_to_go(endpoint, wanted);
        let end = wanted.end(left.open_websockets, now.into_std());
        progress.end = end.filter(|_| !left.is_nothing()).map(Instant::from_std);
        progress.rate = rules.rate;
    }
    if let Some(endpoint) = endpoint
        && endpoint.standing.is_cut() != over
    {
        endpoint.standing.set_cut(over);
        if over && !left.is_nothing() {
            progress.cut = Some(left);
            gateway.plane().workers.cut();
            let text = format!("the deadline passed: {left} are cut");
            tell(gateway, Severity::Warning, "endpoint.drain_cut", key, text, left);
        }
    }
    if progress.finished.is_some() {
        return;
    }
    // Sessions that are between two requests are not counted anywhere; until the deadline they may come back.
    let all_gone = over || !may_come_back || progress.deadline.is_none();
    if left.is_nothing() && all_gone && seen >= progress.generation {
        progress.finished = Some(Timestamp::now());
        let text = match progress.at_start {
            none if none.is_nothing() => "nothing runs there".to_owned(),
            some => format!(
                "nothing is left of {some} after {:.1} s",
                (now - progress.began).as_secs_f64()
            ),
        };
        tell(gateway, Severity::Info, "endpoint.drained", key, text, left);
    } else if now - progress.told >= TOLD_EVERY {
        progress.told = now;
        let text = format!("{left} of {}", progress.at_start);
        tell(
            gateway,
            Severity::Info,
            "endpoint.drain_progress",
            key,
            text,
            left,
        );
    }
}

fn tell(
    gateway: &Gateway,
    severity: Severity,
    kind: &'static str,
    key: &EndpointKey,
    text: String,
    left: Left,
) {
    let target = format!("{}/{}", key.upstream, key.address);
    gateway
        .journal
        .events
        .post(kind, severity, target, text, json!({ "left": left }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leave(since: Timestamp, deadline: Option<Timestamp>) -> Override<Leave> {
        Override {
            value: Leave {
                state: AdminState::Draining,
                deadline,
            },
            by: String::new(),
            node: None,
            since,
            reason: None,
            until: None,
        }
    }

    #[tokio::test]
    async fn a_clock_that_jumped_back_over_a_restart_gives_no_more_than_the_whole_time() {
        let future = Timestamp::now() + Duration::from_secs(1_000_000);
        let order = leave(future, Some(future + Duration::from_secs(60)));
        let left = deadline(&order).unwrap() - Instant::now();
        assert!(left <= Duration::from_secs(60), "{left:?}");
        assert!(left > Duration::from_secs(50), "{left:?}");
    }

    #[tokio::test]
    async fn a_deadline_that_passed_while_nobody_ran_is_now() {
        let past = Timestamp::now() - Duration::from_secs(100);
        let order = leave(past, Some(past + Duration::from_secs(60)));
        assert!(deadline(&order).unwrap() <= Instant::now());
        assert!(deadline(&leave(past, None)).is_none());
    }
}
