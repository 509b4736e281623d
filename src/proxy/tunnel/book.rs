//! All tunnels of a worker: swept, listed, told to go one by one or in slices.

use super::card::{Card, GOING_AWAY, Kind, Leave, SERVICE_RESTART};
use crate::base::clock::Millis;
use crate::snapshot::ShedOrder;
use crate::telemetry::metrics::Closed;
use crate::upstream::shared::shed::Shed;
use ipnet::IpNet;
use jiff::Timestamp;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Which tunnels are meant; what is absent does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    pub id: Option<u64>,
    pub listener: Option<String>,
    pub route: Option<String>,
    pub upstream: Option<String>,
    pub endpoint: Option<String>,
    pub client: Option<IpNet>,
}

impl Which {
    fn is(&self, card: &Card) -> bool {
        let named = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        let key = &card.endpoint.state.key;
        self.id.is_none_or(|id| id == card.id)
            && named(&self.listener, &card.listener)
            && named(&self.route, &card.route)
            && named(&self.upstream, &key.upstream)
            && named(&self.endpoint, &key.address)
            && self
                .client
                .is_none_or(|client| client.contains(&card.client.to_canonical()))
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = [
            ("id", self.id.map(|id| id.to_string())),
            ("listener", self.listener.clone()),
            ("route", self.route.clone()),
            ("upstream", self.upstream.clone()),
            ("endpoint", self.endpoint.clone()),
            ("client", self.client.map(|client| client.to_string())),
        ];
        let mut said = texts.into_iter().filter_map(|(name, text)| Some((name, text?)));
        if let Some((name, text)) = said.next() {
            write!(f, "{name} {text}")?;
        }
        said.try_for_each(|(name, text)| write!(f, ", {name} {text}"))
    }
}

/// A tunnel as it is told.
#[derive(Clone, Debug)]
pub struct Told {
    pub id: u64,
    pub kind: Kind,
    pub listener: String,
    pub route: String,
    pub upstream: String,
    pub endpoint: String,
    pub client: IpAddr,
    pub opened: Timestamp,
    pub age: Duration,
    /// Since something last came from either side, half a second more or less.
    pub idle: Duration,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// `None` where frames are not looked at.
    pub messages: Option<(u64, u64)>,
    /// Why it is going, if it is.
    pub leaving: Option<Closed>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Book {
    cards: RefCell<Slab<Rc<Card>>>,
    /// Some endpoint's tunnels, or all, are being asked to go.
    shedding: Cell<bool>,
    /// What is left of the last slice, of the gateway's drain.
    credit: Cell<f64>,
}

impl Book {
    /// Returns its place, by which it is taken out again.
    pub fn enter(&self, card: &Rc<Card>) -> usize {
        self.cards.borrow_mut().insert(card.clone())
    }

    pub fn leave(&self, place: usize) {
        self.cards.borrow_mut().try_remove(place);
    }

    pub fn count(&self) -> usize {
        self.cards.borrow().len()
    }

    /// Holds all tunnels to their terms.
    pub fn sweep(&self, everybody_goes: bool) {
        let now = Millis::now();
        let mut shedding = everybody_goes;
        for (_, card) in self.cards.borrow().iter() {
            card.sweep(now);
            let state = &card.endpoint.state;
            shedding |= state.is_shedding() || state.asking().is_some();
        }
        self.shedding.set(shedding);
    }

    /// At most `most` of those that are meant, in the order of their numbers from `after` on.
    pub fn tell(&self, which: &Which, after: u64, most: usize) -> Vec<Told> {
        let cards = self.cards.borrow();
        let mut found: Vec<&Rc<Card>> = cards
            .iter()
            .map(|(_, card)| card)
            .filter(|card| card.id > after && which.is(card))
            .collect();
        found.sort_unstable_by_key(|card| card.id);
        found.truncate(most);
        let now = Millis::now();
        found.into_iter().map(|card| told(card, now)).collect()
    }

    /// Tells those that are meant to go, or only counts them. How many there are.
    pub fn close(&self, which: &Which, code: u16, dry_run: bool) -> usize {
        let leave = Leave {
            why: Closed::Kicked,
            code,
            key: None,
        };
        let cards = self.cards.borrow();
        let meant = cards.iter().map(|(_, card)| card);
        meant
            .filter(|card| card.leave().is_none() && which.is(card))
            .filter(|card| dry_run || card.give_leave(leave))
            .count()
    }

    /// Asks the next slice to go, `passed` after the last one. `all`: tunnels of all workers.
    pub fn shed(&self, everybody: Option<&Shed>, all: impl FnOnce() -> usize, passed: Duration) {
        if !self.shedding.get() && everybody.is_none() {
            return;
        }
        let now = Instant::now();
        let cards = self.cards.borrow();
        let staying = || {
            cards
                .iter()
                .map(|(_, card)| card)
                .filter(|card| card.leave().is_none())
        };
        if let Some(shed) = everybody {
            let part = cards.len() as f64 / all().max(1) as f64;
            ask(
                shed,
                staying().collect(),
                part.min(1.0),
                (now, passed),
                &self.credit,
            );
            return;
        }
        let leaving = |card: &&Rc<Card>| card.endpoint.state.is_shedding();
        each_endpoint(staying().filter(leaving).collect(), |group| {
            let endpoint = &group[0].endpoint;
            let Some(shed) = endpoint.state.shed() else {
                return;
            };
            // This worker's share of all that are there.
            let part = group.len() as f64 / f64::from(endpoint.state.tunnels_staying().max(1));
            ask(
                &shed,
                group.to_vec(),
                part.min(1.0),
                (now, passed),
                &endpoint.shed_credit,
            );
        });
        let full = |card: &&Rc<Card>| card.endpoint.state.has_to_ask();
        each_endpoint(staying().filter(full).collect(), ask_newest);
    }
}

/// Looks at the cards of each endpoint together.
fn each_endpoint(mut cards: Vec<&Rc<Card>>, look: impl Fn(&[&Rc<Card>])) {
    cards.sort_by(|a, b| a.endpoint.state.key.cmp(&b.endpoint.state.key));
    for group in cards.chunk_by(|a, b| Rc::ptr_eq(&a.endpoint, &b.endpoint)) {
        look(group);
    }
}

/// Asks this worker's share of what is due at an endpoint since another one joined, the newest of those that may be.
fn ask_newest(here: &[&Rc<Card>]) {
    let Some(asking) = here[0].endpoint.state.asking() else {
        return;
    };
    let all = here[0].endpoint.state.tunnels_staying().max(1);
    let share = f64::from(asking.due()) * (here.len() as f64 / f64::from(all)).min(1.0);
    // What is less than one is somebody's all the same, now and then.
    let share = share as usize + usize::from(fastrand::f64() < share.fract());
    let mut fit: Vec<&Rc<Card>> = here
        .iter()
        .copied()
        .filter(|card| !card.held && card.opened < asking.opened_before)
        .collect();
    let count = asking.take(u32::try_from(share.min(fit.len())).unwrap_or(u32::MAX));
    fit.sort_unstable_by_key(|card| std::cmp::Reverse(card.id));
    let leave = Leave {
        why: Closed::Rebalance,
        code: SERVICE_RESTART,
        key: None,
    };
    for card in fit.iter().take(count as usize) {
        card.give_leave(leave);
    }
}

fn ask(
    shed: &Shed,
    mut staying: Vec<&Rc<Card>>,
    part: f64,
    (now, passed): (Instant, Duration),
    credit: &Cell<f64>,
) {
    let due = credit.get() + shed.slice(staying.len(), part, now, passed);
    let count = (due.max(0.0) as usize).min(staying.len());
    // What cannot be spent is not saved up.
    credit.set((due - count as f64).min(1.0));
    if count == 0 {
        return;
    }
    match shed.order {
        ShedOrder::Oldest => staying.sort_unstable_by_key(|card| card.opened),
        ShedOrder::LeastActive => staying.sort_unstable_by_key(|card| card.active()),
    }
    let leave = Leave {
        why: Closed::Drain,
        code: shed.code,
        key: None,
    };
    for card in &staying[..count] {
        card.give_leave(leave);
    }
}

fn told(card: &Card, now: Millis) -> Told {
    let key = &card.endpoint.state.key;
    Told {
        id: card.id,
        kind: card.kind,
        listener: card.listener.to_string(),
        route: card.route.to_string(),
        upstream: key.upstream.to_string(),
        endpoint: key.address.to_string(),
        client: card.client.to_canonical(),
        opened: card.opened.timestamp(),
        age: now.since(card.opened),
        idle: now.since(card.active()),
        bytes_received: card.client_side.bytes.get(),
        bytes_sent: card.endpoint_side.bytes.get(),
        messages: card
            .inspected
            .then(|| (card.client_side.messages.get(), card.endpoint_side.messages.get())),
        leaving: card.leave().map(|leave| leave.why),
    }
}

/// The code of a close frame when nobody asks for another.
pub const DEFAULT_CODE: u16 = GOING_AWAY;
