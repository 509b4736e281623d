//! Verdicts on endpoints between gateways.
//!
//! Each gateway goes by what it finds itself. Who finds an endpoint down says so, and the others look at once instead
//! of at their next turn; a look that fails then is enough for a verdict, however many failures in a row the checks ask
//! for otherwise, because it is the second witness. So what is down for all is avoided by all within a moment, and
//! what is down for one alone is not.
//!
//! Endpoints that nobody checks are known by their traffic alone: there the majority decides, unless they answer here.
//! Every second each gateway says which endpoints it holds for down; those it does not name it votes for.

use super::verdict::{Local, Opinion, Verdict, Vote, majority, room, verdict};
use crate::base::clock::Millis;
use crate::cluster::bus::Topic;
use crate::cluster::listener::{Heard, Message};
use crate::control::gateway::Gateway;
use crate::telemetry::events::Event;
use crate::telemetry::metrics::Outcomes;
use crate::upstream::shared::outlier::{self, Reason};
use crate::upstream::shared::standing::Health;
use crate::upstream::shared::{EndpointKey, EndpointPlan, UpstreamPlan};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval};

/// What is announced: one change, all of it, and the wish to hear all.
const CHANGE: &str = "change";
const ALL: &str = "all";
const ASK: &str = "ask";
/// How often all is said.
const SAY: Duration = Duration::from_secs(1);
/// Least time between saying all and answering one who asks for it.
const ANSWER: Duration = Duration::from_millis(50);
/// How old what a gateway said may be.
const FRESH: Duration = Duration::from_secs(3);
/// Endpoints that one gateway may name.
const MOST_NAMED: usize = 400;
/// Gateways that are listened to.
const MOST_GATEWAYS: usize = 256;
/// Events read at a time.
const PAGE: usize = 256;
/// How long another's word is good for a second witness.
const WITNESS: Duration = Duration::from_secs(2);

/// An endpoint by its two names.
type Name = (String, String);

/// What one gateway says.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Said {
    #[serde(default)]
    down: Vec<Name>,
    #[serde(default)]
    up: Vec<Name>,
}

/// What is known of what others say.
#[derive(Clone, Debug)]
struct Voice {
    down: BTreeSet<Name>,
    at: Instant,
}

/// What the gateways say of the endpoints, for whoever asks.
#[derive(Debug, Default)]
pub struct Opinions(Mutex<BTreeMap<String, Voice>>);

/// Who holds an endpoint for down.
#[derive(Clone, Debug, Serialize)]
pub struct Votes {
    pub upstream: String,
    pub endpoint: String,
    pub down: Vec<String>,
    /// Gateways whose word is fresh, this one among them.
    pub voters: usize,
    pub needed: usize,
}

impl Opinions {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, Voice>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Endpoints that some other gateway holds for down, by the names of their upstreams.
    #[must_use]
    pub fn held_down(&self) -> HashMap<String, BTreeSet<String>> {
        let mut held: HashMap<String, BTreeSet<String>> = HashMap::new();
        self.with(|voices| {
            for voice in voices.values().filter(|voice| voice.at.elapsed() <= FRESH) {
                for (upstream, address) in &voice.down {
                    held.entry(upstream.clone()).or_default().insert(address.clone());
                }
            }
        });
        held
    }

    /// Endpoints that somebody holds for down, with who does; `own` is what this gateway says.
    #[must_use]
    pub fn votes(&self, node: &str, own: &BTreeSet<(String, String)>) -> Vec<Votes> {
        self.with(|voices| {
            let fresh: Vec<(&String, &Voice)> = voices
                .iter()
                .filter(|(_, voice)| voice.at.elapsed() <= FRESH)
                .collect();
            let mut names: BTreeSet<&Name> = own.iter().collect();
            names.extend(fresh.iter().flat_map(|(_, voice)| &voice.down));
            let voters = fresh.len() + 1;
            names
                .into_iter()
                .map(|name| {
                    let others = fresh.iter().filter(|(_, voice)| voice.down.contains(name));
                    let mut down: Vec<String> = others.map(|(node, _)| (*node).clone()).collect();
                    if own.contains(name) {
                        down.push(node.to_owned());
                    }
                    Votes {
                        upstream: name.0.clone(),
                        endpoint: name.1.clone(),
                        down,
                        voters,
                        needed: majority(voters),
                    }
                })
                .collect()
        })
    }
}

/// What this gateway holds for down by what it found itself.
#[must_use]
pub fn own(gateway: &Gateway) -> BTreeSet<(String, String)> {
    let live = gateway.live.load();
    let now = Millis::now();
    let all = live.upstreams.iter().flat_map(|plan| &plan.endpoints);
    all.filter(|endpoint| finds_down(endpoint, now))
        .map(|endpoint| name(&endpoint.state.key))
        .take(MOST_NAMED)
        .collect()
}

fn finds_down(endpoint: &EndpointPlan, now: Millis) -> bool {
    let standing = &endpoint.state.standing;
    let ejected = standing.ejected_until() > now
        && endpoint
            .state
            .ejections
            .last()
            .is_none_or(|last| !matches!(last.reason, Reason::Cluster { .. }));
    matches!(standing.health(), Health::Unhealthy | Health::Held) || ejected
}

fn name(key: &EndpointKey) -> Name {
    (key.upstream.to_string(), key.address.to_string())
}

/// Shares until the bus ends.
pub async fn run(gateway: Arc<Gateway>) {
    let bus = &gateway.cluster.bus;
    let mut ears = bus.listen(&[Topic::Health]);
    let mut feed = gateway.journal.events.subscribe();
    let mut ticks = interval(SAY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sharer = Sharer {
        heard: gateway.journal.events.last_id(),
        said: Instant::now(),
        answered: HashMap::new(),
        gateway: &gateway,
    };
    sharer.announce(ASK, &Said::default());
    loop {
        tokio::select! {
            heard = ears.next() => match heard {
                None => return,
                Some(Heard::Message(message)) => sharer.take(&message),
                // All is said every second.
                Some(Heard::Gap | Heard::Reset(_)) => {}
            },
            event = feed.next() => match event {
                Some(_) => sharer.tell(),
                None => return,
            },
            _ = ticks.tick() => {
                sharer.say_all();
                sharer.judge();
            }
        }
    }
}

struct Sharer<'a> {
    gateway: &'a Gateway,
    /// When it last said all.
    said: Instant,
    /// The last event that was read.
    heard: u64,
    /// Answers counted at endpoints that nobody checks, and when they were last more.
    answered: HashMap<EndpointKey, (u64, Option<Instant>)>,
}

impl Sharer<'_> {
    fn announce(&self, kind: &str, said: &Said) {
        if let Ok(bytes) = serde_json::to_vec(said) {
            let _said_again_soon = self
                .gateway
                .cluster
                .bus
                .announce(Topic::Health, kind, &bytes.into());
        }
    }

    fn say_all(&mut self) {
        self.said = Instant::now();
        let said = Said {
            down: own(self.gateway).into_iter().collect(),
            up: Vec::new(),
        };
        self.announce(ALL, &said);
    }

    /// Says at once what changed.
    fn tell(&mut self) {
        loop {
            let page = self.gateway.journal.events.list(self.heard, PAGE);
            let Some(last) = page.events.last() else { return };
            self.heard = last.id;
            let mut said = Said::default();
            for event in &page.events {
                note(event, &mut said);
            }
            if !said.down.is_empty() || !said.up.is_empty() {
                self.announce(CHANGE, &said);
            }
        }
    }

    fn take(&mut self, message: &Message) {
        if &*message.kind == ASK {
            // Whoever asks hears it soon anyway: many questions are one answer.
            if self.said.elapsed() >= ANSWER {
                self.say_all();
            }
            return;
        }
        let Ok(said) = serde_json::from_slice::<Said>(&message.payload) else {
            return;
        };
        if said.down.len() > MOST_NAMED || said.up.len() > MOST_NAMED {
            return;
        }
        let all = &*message.kind == ALL;
        let news = self.gateway.opinions.with(|voices| {
            voices.retain(|_, voice| voice.at.elapsed() <= FRESH * 10);
            if voices.len() >= MOST_GATEWAYS && !voices.contains_key(&*message.source) {
                return Vec::new();
            }
            let voice = voices.entry(message.source.to_string()).or_insert_with(|| Voice {
                down: BTreeSet::new(),
                at: Instant::now(),
            });
            voice.at = Instant::now();
            let news: Vec<Name> = said
                .down
                .iter()
                .filter(|name| !voice.down.contains(*name))
                .cloned()
                .collect();
            if all {
                voice.down = said.down.into_iter().collect();
            } else {
                voice.down.extend(said.down);
                for name in &said.up {
                    voice.down.remove(name);
                }
                while voice.down.len() > MOST_NAMED {
                    voice.down.pop_last();
                }
            }
            news
        });
        for name in &news {
            self.look(name);
        }
        if !news.is_empty() {
            self.judge_again(&news);
        }
    }

    /// Has the checks look at once.
    fn look(&self, (upstream, address): &Name) {
        let key = EndpointKey {
            upstream: upstream.as_str().into(),
            address: address.as_str().into(),
        };
        if let Some(state) = self.gateway.registry.known(&key) {
            state.checks.alarm(Millis::now().plus(WITNESS));
        }
    }

    /// Looks at all endpoints that nobody checks.
    fn judge(&mut self) {
        let live = self.gateway.live.load();
        let unchecked = |plan: &&Arc<UpstreamPlan>| plan.health.is_none();
        if !live.upstreams.iter().any(|plan| unchecked(&plan)) {
            self.answered.clear();
            return;
        }
        let outcomes = self.gateway.metrics.outcomes();
        let now = Instant::now();
        let mut answered = HashMap::new();
        for plan in live.upstreams.iter().filter(unchecked) {
            for endpoint in &plan.endpoints {
                let key = &endpoint.state.key;
                let counted = outcomes.get(&*key.upstream).and_then(|of| of.get(&*key.address));
                let count = counted.map_or(0, good);
                let (before, at) = self.answered.remove(key).unwrap_or((count, None));
                let at = if count > before { Some(now) } else { at };
                answered.insert(key.clone(), (count, at));
            }
        }
        self.answered = answered;
        for plan in live.upstreams.iter().filter(unchecked) {
            for index in 0..plan.endpoints.len() {
                self.judge_one(plan, index);
            }
        }
    }

    fn judge_again(&self, names: &[Name]) {
        let live = self.gateway.live.load();
        for plan in live.upstreams.iter().filter(|plan| plan.health.is_none()) {
            for (index, endpoint) in plan.endpoints.iter().enumerate() {
                if names.contains(&name(&endpoint.state.key)) {
                    self.judge_one(plan, index);
                }
            }
        }
    }

    fn judge_one(&self, plan: &UpstreamPlan, index: usize) {
        let endpoint = &plan.endpoints[index];
        let now = Millis::now();
        if endpoint.state.standing.ejected_until() > now {
            return;
        }
        let out = plan
            .endpoints
            .iter()
            .filter(|of| !of.state.standing.is_good(now))
            .count();
        if room(plan.endpoints.len(), out) == 0 {
            return;
        }
        let local = self.local(endpoint);
        let this = name(&endpoint.state.key);
        let decided = self.gateway.opinions.with(|voices| {
            let view = self.gateway.cluster.view();
            let own = self.gateway.cluster.bus.node();
            let mut members: Vec<&str> = view
                .members
                .iter()
                .map(|member| member.node.as_str())
                .filter(|node| voices.contains_key(*node))
                .collect();
            members.push(own.as_str());
            let mut votes: Vec<Vote<'_>> = voices
                .iter()
                .map(|(node, voice)| Vote {
                    node,
                    opinion: if voice.down.contains(&this) {
                        Opinion::Down
                    } else {
                        Opinion::Up
                    },
                    age: voice.at.elapsed(),
                })
                .collect();
            votes.push(Vote {
                node: own.as_str(),
                opinion: if local == Local::Suspect {
                    Opinion::Down
                } else {
                    Opinion::Up
                },
                age: Duration::ZERO,
            });
            // Whoever has heard nothing of it has no opinion.
            if local == Local::Unknown {
                votes.pop();
                members.pop();
            }
            let voters = members.len();
            let down = votes
                .iter()
                .filter(|vote| vote.opinion == Opinion::Down && vote.age <= FRESH)
                .count();
            (verdict(&members, &votes, FRESH, local) == Verdict::Down).then_some((down, voters))
        });
        if let Some((down, voters)) = decided {
            let reason = Reason::Cluster {
                down: u32::try_from(down).unwrap_or(u32::MAX),
                voters: u32::try_from(voters).unwrap_or(u32::MAX),
            };
            outlier::eject(plan, index, reason, now);
        }
    }

    fn local(&self, endpoint: &EndpointPlan) -> Local {
        if endpoint.state.failure_streak() > 0 {
            return Local::Suspect;
        }
        match self.answered.get(&endpoint.state.key) {
            Some((_, Some(at))) => Local::Good(at.elapsed()),
            Some((_, None)) | None => Local::Unknown,
        }
    }
}

fn good(counted: &Outcomes) -> u64 {
    counted.requests.saturating_sub(counted.faults)
}

fn note(event: &Event, said: &mut Said) {
    let down = match event.kind {
        "endpoint.unhealthy" => true,
        "endpoint.ejected" if event.data["trigger"] == "passive" => true,
        "endpoint.healthy" | "endpoint.readmitted" => false,
        _ => return,
    };
    let Some((upstream, address)) = event.target.split_once('/') else {
        return;
    };
    let name = (upstream.to_owned(), address.to_owned());
    let list = if down { &mut said.down } else { &mut said.up };
    list.push(name);
}
