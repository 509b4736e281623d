//! The task that keeps this gateway's record alive, hears who else is there, and writes down what changes.

use super::ping::{self, Heard as Asked};
use super::{Cluster, View};
use crate::base::clock;
use crate::cluster::bus::Topic;
use crate::cluster::listener::{Heard, Message};
use crate::cluster::membership::{Change, Member, Membership};
use crate::cluster::names::NodeId;
use crate::cluster::record::Record;
use crate::cluster::speech::Speech;
use crate::cluster::state::{BusState, Condition, Reason};
use crate::cluster::store::{Beat, Beating, LeaseView, StoreError};
use crate::config::model::DuplicateNode;
use crate::control::Gateway;
use crate::control::gateway::Phase;
use crate::net::listen::Address;
use crate::telemetry::events::Severity;
use crate::telemetry::process::ProcessStats;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

/// Announced when a node comes and when it goes.
const JOIN: &str = "join";
const LEAVE: &str = "leave";
/// A node whose own tasks come later than this is too slow to judge others.
const LATE: Duration = Duration::from_millis(500);
/// How long all have to understand a version of announcements before it is spoken, in times that a gateway has until
/// it is gone.
const RAISE: u32 = 5;
/// Least time between beats that others ask for by coming and going.
const HURRY: Duration = Duration::from_millis(100);

/// Runs until the gateway leaves the cluster.
pub async fn run(gateway: Arc<Gateway>) {
    let cluster = &gateway.cluster;
    cluster.bus.start();
    let mut listener = cluster.bus.listen(&[Topic::Members]);
    let mut state = cluster.bus.watch();
    let mut leaving = cluster.leaving.subscribe();
    let mut beats = Beats::new(&gateway);
    let mut ticks = interval(cluster.pace.heartbeat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Those who beat together would be late together.
    ticks.reset_after(cluster.pace.heartbeat.mul_f64(fastrand::f64()));
    beats.beat().await;
    let (heard, mut answers) = mpsc::channel(ping::BEHIND);
    let _asking = ping::start(&gateway, heard);
    loop {
        let lapse = beats.membership.next().map(tokio::time::Instant::from_std);
        // What is not judged now, for we are deaf, is not to be looked at all the time.
        let lapse = lapse.map(|at| at.max(tokio::time::Instant::now() + Duration::from_millis(20)));
        let far = tokio::time::Instant::now() + cluster.pace.heartbeat;
        tokio::select! {
            at = ticks.tick() => {
                beats.late(at.elapsed());
                beats.beat().await;
                beats.tell_state(true);
            }
            heard = listener.next() => match heard {
                Some(Heard::Message(message)) => beats.told(&message).await,
                Some(Heard::Gap | Heard::Reset(_)) => beats.hurry().await,
                None => return,
            },
            Some(answer) = answers.recv() => beats.asked(answer),
            () = sleep_until(lapse.unwrap_or(far)), if lapse.is_some() => beats.lapse(),
            changed = state.changed() => {
                if changed.is_err() {
                    return;
                }
                beats.tell_state(false);
                // Not a heartbeat later than it can be.
                if beats.missed && cluster.bus.state().works() {
                    beats.hurry().await;
                }
            }
            () = told_to_leave(&mut leaving) => {
                beats.leave().await;
                return;
            }
        }
    }
}

async fn told_to_leave(leaving: &mut watch::Receiver<bool>) {
    // Who would tell it is gone: then so is the gateway.
    drop(leaving.wait_for(|leaving| *leaving).await);
}

/// What one beat needs to know of those before.
struct Beats<'a> {
    gateway: &'a Gateway,
    cluster: &'a Cluster,
    membership: Membership,
    speech: Speech,
    /// How far this machine's date was from the others' when that was last told.
    clock: SignedDuration,
    /// The id that is wanted.
    own: NodeId,
    beat: u64,
    last: Option<Instant>,
    /// The last one was not taken.
    missed: bool,
    joined: bool,
    duplicate: Option<u64>,
    leases: Vec<LeaseView>,
    config: u64,
    late_until: Option<Instant>,
    cpu: (Instant, Duration),
    load: f64,
    told: (Condition, Option<Reason>),
    refused: Option<StoreError>,
}

impl<'a> Beats<'a> {
    fn new(gateway: &'a Gateway) -> Self {
        let cluster = &gateway.cluster;
        let own = cluster.bus.node();
        let pace = cluster.pace;
        Self {
            gateway,
            cluster,
            speech: Speech::new(cluster.bus.versions(), pace.gone_after * RAISE),
            clock: SignedDuration::ZERO,
            membership: Membership::new(&own, cluster.bus.incarnation(), pace.heartbeat, pace.gone_after),
            own,
            beat: 0,
            last: None,
            missed: true,
            joined: false,
            duplicate: None,
            leases: Vec::new(),
            config: 0,
            late_until: None,
            cpu: (Instant::now(), ProcessStats::cpu_time().unwrap_or_default()),
            load: 0.0,
            told: (Condition::Down, Some(Reason::Starting)),
            refused: None,
        }
    }

    /// A tick came so late.
    fn late(&mut self, by: Duration) {
        if by >= LATE {
            self.late_until = Some(Instant::now() + self.cluster.pace.gone_after);
        }
    }

    /// Looks at how long ago the last beat was: a process that was stopped does not know it otherwise.
    fn wake(&mut self) {
        let Some(by) = self.last.map(|last| last.elapsed()) else {
            return;
        };
        if by >= self.cluster.pace.gone_after {
            self.late(by);
            let text = format!(
                "the gateway stood still for {:.1} s: others have taken it for gone",
                by.as_secs_f64()
            );
            self.note(Severity::Warning, "cluster.woke", text);
        }
    }

    fn record(&mut self) -> Record {
        let now = Instant::now();
        let workers = self.gateway.workers().len();
        let cpu = ProcessStats::cpu_time().unwrap_or_default();
        let passed = now.duration_since(self.cpu.0);
        if passed >= Duration::from_millis(500) {
            let used = cpu.saturating_sub(self.cpu.1).as_secs_f64();
            self.load = (used / passed.as_secs_f64() / workers.max(1) as f64).clamp(0.0, 1.0);
            self.cpu = (now, cpu);
        }
        let labels = &self.cluster.labels;
        let versions = self.cluster.bus.versions();
        let admin = self.gateway.admin_socket().borrow().clone();
        Record {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            id: self.cluster.identity().node.clone(),
            role: labels.role.clone(),
            region: labels.region.clone(),
            zone: labels.zone.clone(),
            ping: self.reached_at(admin.as_ref().map(|admin| &admin.bound)),
            admin: admin.map(|admin| admin.bound.to_string()).unwrap_or_default(),
            started: self.gateway.node.started.as_millisecond(),
            config: self.gateway.following.version(),
            follows: self.gateway.following.on,
            workers: workers as u64,
            connections: self.gateway.board.connections() as u64,
            load: self.load,
            draining: self.gateway.phase() == Phase::Draining,
            envelope_min: versions.least,
            envelope_max: versions.greatest,
            key: self.cluster.key.clone(),
            voting: self.late_until.is_none_or(|until| now >= until),
        }
    }

    /// Where others ask this gateway whether it lives.
    fn reached_at(&self, admin: Option<&Address>) -> String {
        let Some(address) = admin.filter(|_| self.cluster.pings.is_some()) else {
            return String::new();
        };
        match (self.cluster.advertised, address) {
            (Some(advertised), _) => advertised.to_string(),
            (None, Address::Tcp(address)) => address.to_string(),
            (None, Address::Unix(_)) => String::new(),
        }
    }

    fn beating(&mut self, node: NodeId, leaving: bool, record: Bytes) -> Beating {
        self.beat += 1;
        Beating {
            node,
            incarnation: self.cluster.bus.incarnation(),
            beat: self.beat,
            gone_after: self.cluster.pace.gone_after,
            leaving,
            record,
        }
    }

    async fn beat(&mut self) {
        self.wake();
        self.last = Some(Instant::now());
        let record = self.record();
        let bytes = record.encode();
        let own = self.own.clone();
        let beating = self.beating(own, false, bytes.clone());
        match self.cluster.bus.beat(&beating).await {
            Ok(beat) => {
                let beat = self.resolve(beat, bytes).await;
                self.take(&beat);
            }
            Err(error) => self.missed(error),
        }
        self.show(record);
    }

    /// What is known by now, as a beat or a lapse left it.
    fn show(&self, own: Record) {
        self.cluster.view.store(Arc::new(View {
            own,
            members: self.membership.members().values().cloned().collect(),
            peers: match self.cluster.pings {
                Some(_) => self.membership.peers(),
                None => Vec::new(),
            },
            leases: self.leases.clone(),
            config: self.config,
            fresh: self.membership.fresh(Instant::now()),
            duplicate: self.duplicate,
        }));
    }

    fn shown_again(&self) {
        self.show(self.cluster.view().own.clone());
    }

    /// Sees to it that this node is known by an id that nobody else has.
    async fn resolve(&mut self, beat: Beat, record: Bytes) -> Beat {
        let second = self.own.second(self.cluster.bus.incarnation());
        let Some(other) = beat.duplicate else {
            if self.duplicate.take().is_some() {
                let known_as = self.cluster.bus.node();
                self.cluster.bus.known_as(self.own.clone());
                let text = format!("the id {} is free: this gateway has it", self.own);
                self.note(Severity::Info, "cluster.id_regained", text);
                if known_as != self.own {
                    // What stood in for it goes; that others hear of it later does not matter.
                    let beating = self.beating(known_as, true, record);
                    drop(self.cluster.bus.beat(&beating).await);
                }
            }
            return beat;
        };
        let first = self.duplicate.replace(other).is_none();
        match self.cluster.pace.duplicate {
            DuplicateNode::Refuse => {
                if first {
                    let text = format!(
                        "another gateway has the id {}: this one stays out of the cluster until it is free",
                        self.own
                    );
                    self.note(Severity::Error, "cluster.duplicate", text);
                }
                beat
            }
            DuplicateNode::Rename => {
                if first {
                    let text = format!(
                        "another gateway has the id {}: this one is known as {second} until it is free",
                        self.own
                    );
                    self.note(Severity::Warning, "cluster.duplicate", text);
                }
                self.cluster.bus.known_as(second.clone());
                let beating = self.beating(second, false, record);
                match self.cluster.bus.beat(&beating).await {
                    Ok(beat) => beat,
                    Err(error) => {
                        self.missed(error);
                        beat
                    }
                }
            }
        }
    }

    fn missed(&mut self, error: StoreError) {
        self.missed = true;
        self.membership.interrupt();
        // The state of the bus tells of the others.
        if matches!(
            error,
            StoreError::Full | StoreError::Malformed(_) | StoreError::TooLong { .. }
        ) && self.refused.as_ref() != Some(&error)
        {
            self.note(Severity::Error, "cluster.refused", error.to_string());
            self.refused = Some(error);
        }
    }

    fn take(&mut self, beat: &Beat) {
        self.missed = false;
        self.refused = None;
        self.leases.clone_from(&beat.leases);
        self.config = beat.config.version;
        self.cluster.stored.send_replace(Some(beat.config.clone()));
        let changes = self.membership.hear(Instant::now(), &beat.members);
        self.write_down(changes);
        self.speak();
        // What was said longer ago, to a process that stood still meanwhile, is no date of now.
        if self.last.is_some_and(|asked| asked.elapsed() < clock::NEAR / 2) {
            self.compare_clocks(beat.now);
        }
        let taken_part = self.duplicate.is_none() || self.cluster.pace.duplicate == DuplicateNode::Rename;
        if !self.joined && taken_part {
            self.joined = self.cluster.bus.announce(Topic::Members, JOIN, &Bytes::new());
        }
    }

    /// Another gateway answered our question, or did not.
    fn asked(&mut self, heard: Asked) {
        let now = Instant::now();
        let change = match heard {
            Asked::Answer(node, incarnation, record) => {
                self.membership.answered(now, &node, incarnation, *record)
            }
            Asked::Nothing(node, incarnation, refused) => {
                self.membership.missed(&node, incarnation, refused);
                None
            }
        };
        self.write_down(change.into_iter().collect());
        // While the store is heard the beats show it.
        if !self.membership.fresh(now) {
            self.shown_again();
        }
    }

    /// Says things so that all who are there understand them.
    fn speak(&mut self) {
        let members = self.membership.members().values();
        let others = members.map(|member| member.record.understands());
        let version = self.speech.with(Instant::now(), others);
        self.cluster.bus.speak(version);
    }

    /// Goes by the date of the store where this machine's is another, and tells of it once.
    fn compare_clocks(&mut self, there: Timestamp) {
        let ahead = clock::calendar_is(there).unwrap_or_default();
        let moved = (ahead - self.clock).unsigned_abs() >= clock::NEAR;
        if !moved {
            return;
        }
        self.clock = ahead;
        if ahead.is_zero() {
            let text = "the clock of this machine agrees with that of the store again".to_owned();
            return self.note(Severity::Info, "cluster.clock", text);
        }
        let way = if ahead.is_positive() { "ahead of" } else { "behind" };
        let text = format!(
            "the clock of this machine is {:.1} s {way} that of the store: what gateways share goes by the store's (is NTP running here?)",
            ahead.unsigned_abs().as_secs_f64()
        );
        self.note(Severity::Warning, "cluster.clock", text);
    }

    fn lapse(&mut self) {
        if !self.cluster.bus.can_beat() {
            // They may be heard by everybody but us.
            self.membership.interrupt();
        }
        let changes = self.membership.lapse(Instant::now());
        if !changes.is_empty() {
            self.write_down(changes);
            self.shown_again();
        }
    }

    async fn told(&mut self, message: &Message) {
        match &*message.kind {
            LEAVE => {
                let node = NodeId::known_as(&message.source).ok();
                let left = node.and_then(|node| self.membership.leave(&node, message.incarnation));
                if left.is_some() {
                    self.write_down(left.into_iter().collect());
                    self.shown_again();
                }
            }
            JOIN => self.hurry().await,
            _ => {}
        }
    }

    /// Beats now, unless it just did.
    async fn hurry(&mut self) {
        if self.last.is_none_or(|last| last.elapsed() >= HURRY) {
            self.beat().await;
        }
    }

    async fn leave(&mut self) {
        self.cluster.bus.announce(Topic::Members, LEAVE, &Bytes::new());
        for lease in std::mem::take(&mut self.leases) {
            if lease.holder == self.cluster.bus.holder() {
                let held = crate::cluster::store::Lease {
                    task: lease.task,
                    holder: lease.holder,
                    token: lease.token,
                    until: tokio::time::Instant::now(),
                };
                drop(self.cluster.bus.release(&held).await);
            }
        }
        let record = self.record().encode();
        let known_as = self.cluster.bus.node();
        let beating = self.beating(known_as, true, record);
        drop(self.cluster.bus.beat(&beating).await);
    }

    fn write_down(&self, changes: Vec<Change>) {
        for change in changes {
            let (severity, kind, member, says): (_, _, Member, &str) = match change {
                Change::Joined(member) => (Severity::Info, "cluster.joined", member, "is there"),
                Change::Left(member) => (Severity::Info, "cluster.left", member, "left"),
                Change::Gone(member) => (Severity::Warning, "cluster.gone", member, "gave no sign of life"),
                Change::Suspected(member) => (Severity::Warning, "cluster.suspected", member, "is late"),
                Change::Recovered(member) => (Severity::Info, "cluster.recovered", member, "is back"),
            };
            if matches!(kind, "cluster.joined" | "cluster.left" | "cluster.gone") {
                self.cluster.flaps.fetch_add(1, Ordering::Relaxed);
            }
            let data = json!({
                "incarnation": member.incarnation,
                "silent_ms": u64::try_from(member.silent(Instant::now()).as_millis()).unwrap_or(u64::MAX),
                "members": self.membership.members().len() + 1,
            });
            let reason = format!("the gateway {} {says}", member.node);
            let events = &self.gateway.journal.events;
            events.post(kind, severity, member.node.as_str(), reason, data);
            if kind == "cluster.joined" && !self.cluster.has_our_key(&member.record) {
                let reason = format!(
                    "the gateway {} has another cluster.key: it and this one pass over what the other announces, and share \
                     nothing that is sealed; give all gateways the same",
                    member.node
                );
                events.post(
                    "cluster.other_key",
                    Severity::Warning,
                    member.node.as_str(),
                    reason,
                    json!({}),
                );
            }
        }
    }

    /// Writes down that the bus is another way than was last written. `settled`: it has had the time to become what it
    /// will be, so parts of it count too.
    fn tell_state(&mut self, settled: bool) {
        let state = self.cluster.bus.state();
        let now = (state.condition, state.reason);
        let worth = match state.condition {
            Condition::Embedded | Condition::Resync => false,
            Condition::Down => !matches!(state.reason, Some(Reason::Starting | Reason::Ended)),
            Condition::Degraded => settled && state.reason != Some(Reason::Starting),
            Condition::Live => true,
        };
        if !worth || self.told == now {
            return;
        }
        self.told = now;
        self.post_state(&state);
    }

    fn post_state(&self, state: &BusState) {
        let (severity, kind) = match state.condition {
            Condition::Live | Condition::Embedded | Condition::Resync => (Severity::Info, "bus.live"),
            Condition::Degraded => (Severity::Warning, "bus.degraded"),
            Condition::Down => (Severity::Error, "bus.down"),
        };
        let reason = match state.reason {
            Some(reason) => troubled(state, reason),
            None => "gateways hear each other".to_owned(),
        };
        let data = json!({ "reason": state.reason, "server": state.server });
        let events = &self.gateway.journal.events;
        events.post(kind, severity, self.cluster.name.as_str(), reason, data);
    }

    fn note(&self, severity: Severity, kind: &'static str, text: String) {
        self.gateway.journal.note(severity, kind, self.own.as_str(), text);
    }
}

/// What is wrong, what that means here, and what to look at.
fn troubled(state: &BusState, reason: Reason) -> String {
    let mut text = reason.name().to_owned();
    if !state.detail.is_empty() {
        text = format!("{text}: {}", state.detail);
    }
    if state.condition == Condition::Down {
        text.push_str("; this gateway serves by what it knows and goes on trying");
    }
    match state.hint {
        Some(hint) => format!("{text} ({hint})"),
        None => text,
    }
}
