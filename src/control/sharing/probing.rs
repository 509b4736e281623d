//! Probes that gateways make for each other: where an upstream's checks have `share`, [`turns`](super::turns) says who
//! of those who ask the same question goes on asking it, and who rests.
//!
//! Each says once a second which upstreams it shares in and which of its probes passed. The first failure of a row is
//! said at once, and everybody looks for itself. Rests are given for a second at a time and anew with each look: should
//! this task stand still, everybody goes on probing by itself.

use super::turns::{Seen, Turn, Turns};
use crate::base::clock::Millis;
use crate::cluster::bus::Topic;
use crate::cluster::listener::{Heard, Message};
use crate::cluster::membership::Liveness;
use crate::cluster::state::Condition;
use crate::control::gateway::{Gateway, Phase};
use crate::upstream::shared::balancer::ring::hash;
use crate::upstream::shared::check::CheckPlan;
use crate::upstream::shared::standing::Health;
use crate::upstream::shared::{EndpointKey, EndpointState, UpstreamPlan};
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

/// What is announced: what passed, and what failed for the first time.
const PASSED: &str = "passed";
const DOUBT: &str = "doubt";
/// How often it is said what passed.
const SAY: Duration = Duration::from_secs(1);
/// How often it is looked who may rest.
const LOOK: Duration = Duration::from_millis(100);
/// How old what a gateway said may be for it to have a turn.
const FRESH: Duration = Duration::from_secs(3);
/// Upstreams that are shared; those beyond are probed by everybody.
const MOST_SHARES: usize = 500;
/// Endpoints that one message names, and messages at a time.
const MOST_NAMED: usize = 1_000;
const MOST_MESSAGES: usize = 16;
/// Gateways that are listened to.
const MOST_GATEWAYS: usize = 256;

/// What one gateway says. Endpoints go by a number that all gateways come to, see [`Shared::of`].
#[derive(Debug, Default, Serialize, Deserialize)]
struct Said {
    /// Upstreams whose probes it shares.
    #[serde(default)]
    shares: Vec<u64>,
    /// Endpoints whose probe passed, and how many milliseconds ago it began.
    #[serde(default)]
    passed: Vec<(u64, u64)>,
    /// Endpoints whose probe failed.
    #[serde(default)]
    failed: Vec<u64>,
}

/// Who probes an endpoint, for whoever asks.
#[derive(Clone, Debug, Serialize)]
pub struct Probed {
    pub upstream: Arc<str>,
    pub endpoint: Arc<str>,
    /// Whose turn it is.
    pub by: Vec<String>,
    /// Whether this gateway probes.
    pub here: bool,
    /// Why: `turn`, `apart`, `unwell`, `doubted`, `settling`, `unheard`; or `rest`.
    pub why: &'static str,
}

/// What probers find, on its way to the other gateways, and who probes.
#[derive(Debug, Default)]
pub struct Probing {
    /// There is somebody to tell.
    on: AtomicBool,
    found: Mutex<Found>,
    failed: Notify,
    told: ArcSwap<Vec<Probed>>,
}

#[derive(Debug, Default)]
struct Found {
    passed: BTreeMap<EndpointKey, Millis>,
    failed: BTreeSet<EndpointKey>,
}

impl Probing {
    /// Whole after a panic too: each change is one step.
    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A probe of a shared endpoint passed that began then.
    pub fn passed(&self, key: &EndpointKey, began: Millis) {
        if self.on.load(Ordering::Relaxed) {
            self.found().passed.insert(key.clone(), began);
        }
    }

    /// A probe of a shared endpoint failed, the first one since some passed.
    pub fn failed(&self, key: &EndpointKey) {
        if self.on.load(Ordering::Relaxed) {
            self.found().failed.insert(key.clone());
            self.failed.notify_one();
        }
    }

    /// Who probes the shared endpoints.
    #[must_use]
    pub fn told(&self) -> Arc<Vec<Probed>> {
        self.told.load_full()
    }
}

/// Shares until the bus ends.
pub async fn run(gateway: Arc<Gateway>) {
    let bus = &gateway.cluster.bus;
    let mut ears = bus.listen(&[Topic::Health]);
    let mut state = bus.watch();
    let mut swaps = gateway.live.swaps();
    let mut says = interval(SAY);
    let mut looks = interval(LOOK);
    for ticks in [&mut says, &mut looks] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    gateway.probing.on.store(true, Ordering::Relaxed);
    let mut sharer = Sharer::new(&gateway);
    loop {
        tokio::select! {
            heard = ears.next() => match heard {
                None => break,
                Some(Heard::Message(message)) => sharer.take(&message),
                // All is said every second.
                Some(Heard::Gap | Heard::Reset(_)) => {}
            },
            () = gateway.probing.failed.notified() => sharer.tell_failures(),
            _ = says.tick() => {
                sharer.look();
                sharer.say();
            }
            _ = looks.tick() => sharer.look(),
            changed = state.changed() => match changed {
                Ok(()) => sharer.look(),
                Err(_) => break,
            },
            changed = swaps.changed() => match changed {
                Ok(()) => sharer.begin_anew(),
                Err(_) => break,
            },
        }
    }
    gateway.probing.on.store(false, Ordering::Relaxed);
    sharer.wake_all();
}

/// What is known of what another says.
#[derive(Debug)]
struct Voice {
    shares: HashSet<u64>,
    passed: HashMap<u64, Millis>,
    at: Millis,
}

/// One endpoint whose probes are shared.
struct Shared {
    state: Arc<EndpointState>,
    /// Its upstream and the endpoint itself, by numbers that all come to who ask the same question.
    share: u64,
    endpoint: u64,
    interval: Duration,
    turns: Turns,
    turn: Turn,
}

impl Shared {
    fn of(plan: &UpstreamPlan, check: &CheckPlan, state: &Arc<EndpointState>) -> Self {
        let share = question(plan, check);
        let endpoint = [&share.to_be_bytes(), state.key.address.as_bytes()].concat();
        Self {
            state: Arc::clone(state),
            share,
            endpoint: hash(&endpoint),
            interval: check.check.interval,
            turns: Turns::default(),
            turn: Turn::Settling,
        }
    }

    /// Neither probes nor traffic speak against it, and when the last probe began that passed.
    fn own_view(&self, now: Millis) -> (bool, Millis) {
        let passes = {
            let record = self.state.checks.lock();
            record.as_deref().and_then(|record| {
                let well = record.verdict() == Health::Healthy && record.streaks().1 == 0;
                let last = record.results().next_back()?;
                well.then_some(last.began)
            })
        };
        let traffic = self.state.failure_streak() == 0 && self.state.standing.ejected_until() <= now;
        (traffic && passes.is_some(), passes.unwrap_or(Millis::NEVER))
    }
}

/// What is asked of the endpoints of an upstream, as a number: gateways with other configurations share nothing. The
/// values of headers may be secrets, and are left out.
fn question(plan: &UpstreamPlan, check: &CheckPlan) -> u64 {
    let asked = &check.check;
    let headers: Vec<&String> = asked.headers.keys().collect();
    let text = format!(
        "{}\0{:?}\0{}\0{:?}\0{headers:?}\0{}\0{:?}\0{}\0{:?}\0{:?}\0{:?}\0{}",
        plan.name,
        asked.kind,
        asked.method,
        (&asked.path, &asked.host),
        asked.status,
        asked.body,
        asked.service,
        asked.port,
        asked.interval,
        asked.timeout,
        plan.dial.tls.is_some(),
    );
    hash(text.as_bytes())
}

struct Sharer<'a> {
    gateway: &'a Gateway,
    shared: Vec<Shared>,
    voices: HashMap<String, Voice>,
}

impl<'a> Sharer<'a> {
    fn new(gateway: &'a Gateway) -> Self {
        let mut sharer = Self {
            gateway,
            shared: Vec::new(),
            voices: HashMap::new(),
        };
        sharer.begin_anew();
        sharer
    }

    /// Another configuration is in force: everybody looks for itself first.
    fn begin_anew(&mut self) {
        self.wake_all();
        let live = self.gateway.live.load();
        let sharing = live.upstreams.iter().filter_map(|plan| {
            let check = plan.health.as_ref().filter(|check| check.check.share)?;
            Some((plan, check))
        });
        self.shared = sharing
            .take(MOST_SHARES)
            .flat_map(|(plan, check)| {
                let each = plan.endpoints.iter();
                each.map(|endpoint| Shared::of(plan, check, &endpoint.state))
            })
            .collect();
        let known: HashSet<u64> = self.shared.iter().map(|shared| shared.endpoint).collect();
        for voice in self.voices.values_mut() {
            voice.passed.retain(|endpoint, _| known.contains(endpoint));
        }
        self.show();
    }

    fn wake_all(&self) {
        for shared in &self.shared {
            shared.state.checks.end_rest();
        }
    }

    fn shares(&self) -> BTreeSet<u64> {
        self.shared.iter().map(|shared| shared.share).collect()
    }

    fn announce(&self, kind: &str, said: &Said) {
        if let Ok(bytes) = serde_json::to_vec(said) {
            let _said_again_soon = self
                .gateway
                .cluster
                .bus
                .announce(Topic::Health, kind, &bytes.into());
        }
    }

    /// Says what passed since it last did.
    fn say(&mut self) {
        let passed = std::mem::take(&mut self.gateway.probing.found().passed);
        if self.shared.is_empty() {
            return;
        }
        let now = Millis::now();
        let passed: Vec<(u64, u64)> = self
            .shared
            .iter()
            .filter_map(|shared| {
                let began = passed.get(&shared.state.key)?;
                let age = now.since(*began).as_millis();
                Some((shared.endpoint, u64::try_from(age).unwrap_or(u64::MAX)))
            })
            .collect();
        // That it is there is said also when nothing passed.
        let mut said = Said {
            shares: self.shares().into_iter().collect(),
            ..Said::default()
        };
        let mut rest = passed.as_slice();
        for _ in 0..MOST_MESSAGES {
            let (first, others) = rest.split_at(rest.len().min(MOST_NAMED));
            said.passed = first.to_vec();
            self.announce(PASSED, &said);
            rest = others;
            if rest.is_empty() {
                break;
            }
        }
        self.show();
    }

    /// Says at once what failed.
    fn tell_failures(&mut self) {
        let failed = std::mem::take(&mut self.gateway.probing.found().failed);
        let of_them = |shared: &&Shared| failed.contains(&shared.state.key);
        let failed: Vec<u64> = self.shared.iter().filter(of_them).map(|of| of.endpoint).collect();
        for failed in failed.chunks(MOST_NAMED).take(MOST_MESSAGES) {
            let said = Said {
                failed: failed.to_vec(),
                ..Said::default()
            };
            self.announce(DOUBT, &said);
        }
        self.look();
    }

    fn take(&mut self, message: &Message) {
        let doubt = match &*message.kind {
            PASSED => false,
            DOUBT => true,
            _ => return,
        };
        let Ok(said) = serde_json::from_slice::<Said>(&message.payload) else {
            return;
        };
        let lengths = [said.shares.len(), said.passed.len(), said.failed.len()];
        if lengths.into_iter().any(|length| length > MOST_NAMED) {
            return;
        }
        if doubt {
            self.doubt(&said.failed);
        } else {
            self.hear(&message.source, &said);
        }
    }

    fn hear(&mut self, source: &str, said: &Said) {
        let now = Millis::now();
        self.voices.retain(|_, voice| now.since(voice.at) <= FRESH * 10);
        if self.voices.len() >= MOST_GATEWAYS && !self.voices.contains_key(source) {
            return;
        }
        let known: HashSet<u64> = self.shared.iter().map(|shared| shared.endpoint).collect();
        let voice = self.voices.entry(source.to_owned()).or_insert_with(|| Voice {
            shares: HashSet::new(),
            passed: HashMap::new(),
            at: now,
        });
        voice.at = now;
        voice.shares = said.shares.iter().copied().collect();
        let of_ours = said
            .passed
            .iter()
            .filter(|(endpoint, _)| known.contains(endpoint));
        for (endpoint, age) in of_ours {
            let began = Millis(now.0.saturating_sub(*age));
            let last = voice.passed.entry(*endpoint).or_insert(began);
            *last = began.max(*last);
        }
    }

    /// Another's probe failed: all look, and those who rested go on.
    fn doubt(&mut self, failed: &[u64]) {
        let failed: HashSet<u64> = failed.iter().copied().collect();
        for shared in self.shared.iter_mut().filter(|of| failed.contains(&of.endpoint)) {
            shared.turns.disturb(Millis::now());
            shared.state.checks.look();
        }
    }

    /// Looks who may rest.
    fn look(&mut self) {
        if self.shared.is_empty() {
            return;
        }
        let now = Millis::now();
        let own = self.gateway.cluster.bus.node();
        let present = present(self.gateway, &self.voices, now);
        let connected = self.connected();
        let doubted = self.gateway.opinions.held_down();
        let mut changed = false;
        let mut sharing: HashMap<u64, Vec<&str>> = HashMap::new();
        for shared in &mut self.shared {
            let members = sharing
                .entry(shared.share)
                .or_insert_with(|| members(&present, &self.voices, own.as_str(), shared.share));
            let (well, passed) = shared.own_view(now);
            let key = &shared.state.key;
            let endpoint = shared.endpoint;
            let says = |node: &str| self.voices.get(node)?.passed.get(&endpoint).copied();
            let turn = shared.turns.look(
                now,
                &Seen {
                    endpoint,
                    own: own.as_str(),
                    members,
                    interval: shared.interval,
                    connected,
                    well,
                    passed,
                    doubted: doubted
                        .get(&*key.upstream)
                        .is_some_and(|addresses| addresses.contains(&*key.address)),
                    says: &says,
                },
            );
            match turn {
                Turn::Rest(until) => shared.state.checks.rest(until),
                _ => shared.state.checks.end_rest(),
            }
            changed |= shared.turn.name() != turn.name();
            shared.turn = turn;
        }
        if changed {
            self.show();
        }
    }

    /// Whether others are heard, and this gateway is one of them.
    fn connected(&self) -> bool {
        let cluster = &self.gateway.cluster;
        let view = cluster.view();
        cluster.bus.state().condition == Condition::Live
            && view.fresh
            && view.own.voting
            && view.duplicate.is_none()
            && self.gateway.phase() == Phase::Serving
    }

    /// Tells whoever asks.
    fn show(&self) {
        let told = self.shared.iter().map(|shared| Probed {
            upstream: Arc::clone(&shared.state.key.upstream),
            endpoint: Arc::clone(&shared.state.key.address),
            by: shared.turns.probers().to_vec(),
            here: !matches!(shared.turn, Turn::Rest(_)),
            why: shared.turn.name(),
        });
        self.gateway.probing.told.store(Arc::new(told.collect()));
    }
}

/// Those who share in an upstream, this gateway among them; in order.
fn members<'a>(
    present: &[&'a str],
    voices: &HashMap<String, Voice>,
    own: &'a str,
    share: u64,
) -> Vec<&'a str> {
    let shares = |node: &&&str| {
        voices
            .get(**node)
            .is_some_and(|voice| voice.shares.contains(&share))
    };
    let mut members: Vec<&str> = present.iter().filter(shares).copied().collect();
    members.push(own);
    members.sort_unstable();
    members.dedup();
    members
}

/// The other gateways that may have a turn.
fn present<'a>(gateway: &Gateway, voices: &'a HashMap<String, Voice>, now: Millis) -> Vec<&'a str> {
    let view = gateway.cluster.view();
    let able = view.members.iter().filter(|member| {
        member.liveness == Liveness::Alive && member.record.voting && !member.record.draining
    });
    let heard = |node: &str| {
        let (node, voice) = voices.get_key_value(node)?;
        (now.since(voice.at) <= FRESH).then_some(node.as_str())
    };
    able.filter_map(|member| heard(member.node.as_str())).collect()
}
