//! Gets certificates from an authority and renews them (RFC 8555, RFC 9773), for the listeners that ask for it.
//!
//! What the configuration in force asks for is followed with every swap; what is there already, from an earlier
//! run too, serves meanwhile. One order at a time for a certificate, a few in all. A failure costs that certificate
//! a growing wait; one that is the authority's own costs all of its certificates that, and then one order finds
//! out whether it is back. Whatever happens, a certificate that serves goes on serving.
//!
//! | file | does |
//! |---|---|
//! | [`place`] | one certificate that is asked for: when it is due, how it stands |
//! | [`schedule`] | when to renew and when to try again, pure |
//! | [`client`] | the way to an authority, bounded in time and size |
//! | [`account`] | accounts, made once and kept |
//! | [`order`] | one order: challenge, request, certificate |
//! | [`store`] | files that nobody else reads |
//! | [`failure`] | why there is no certificate, and whose fault it is |
//! | [`view`] | how it goes |

mod account;
mod client;
mod failure;
mod order;
mod place;
mod schedule;
pub(super) mod store;
pub mod view;

use self::account::{AccountKey, Cell, Shared};
use self::failure::{Failure, Kind};
use self::order::Job;
use self::place::{Place, Window, Work, millis, now, when};
use self::view::OrderView;
use super::gateway::{Gateway, Phase};
use crate::config::model::Acme as Settings;
use crate::telemetry::events::Severity;
use crate::tls::acme::{Slot, Subject};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Orders and questions under way at the same time.
const MAX_JOBS: usize = 4;
/// Longest sleep: the clock on the wall may be set, and a machine may have been suspended.
const TICK: Duration = Duration::from_secs(30);
/// Shortest: never a busy loop.
const SHORTEST: Duration = Duration::from_millis(20);
/// An authority that suggests no renewals is asked whether it does about this often.
const NO_SUGGESTIONS: i64 = 6 * 3600 * 1000;
/// Bounds of when an authority is asked again for a window (RFC 9773 section 4.3.2).
const ASK_SOONEST: Duration = Duration::from_secs(60);
const ASK_LATEST: Duration = Duration::from_secs(24 * 3600);
/// Wait after an order that a bug ended.
const AFTER_BUG: i64 = 60_000;

/// Runs until the runtime ends.
pub async fn run(gateway: Arc<Gateway>) {
    let mut swaps = gateway.live.swaps();
    let mut keeper = Keeper {
        home: gateway.acme.home().map(Path::to_path_buf),
        gateway,
        places: BTreeMap::new(),
        authorities: HashMap::new(),
        accounts: HashMap::new(),
        jobs: JoinSet::new(),
    };
    keeper.follow();
    loop {
        let next = keeper.start_due();
        keeper.publish();
        tokio::select! {
            Ok(()) = swaps.changed() => keeper.follow(),
            Some(done) = keeper.jobs.join_next() => match done {
                Ok(done) => keeper.finished(done).await,
                Err(error) => keeper.lost(&error),
            },
            () = tokio::time::sleep(next) => {}
        }
    }
}

/// What a job came to.
#[derive(Debug)]
enum Done {
    Ordered(Subject, Result<(), Failure>),
    Asked(Subject, Result<(Window, Duration), Failure>),
}

/// How an authority does.
#[derive(Debug, Default)]
struct Authority {
    /// Failures of its own in a row, and until when it is left alone, in milliseconds of Unix time.
    failures: u32,
    held_until: i64,
}

#[derive(Debug)]
struct Keeper {
    gateway: Arc<Gateway>,
    /// `None`: there is no state directory.
    home: Option<PathBuf>,
    places: BTreeMap<Subject, Place>,
    /// By directory; those of the configuration.
    authorities: HashMap<String, Authority>,
    accounts: HashMap<AccountKey, Shared>,
    jobs: JoinSet<Done>,
}

impl Keeper {
    /// Takes up what the configuration in force asks for, and lets go of what it no longer does.
    fn follow(&mut self) {
        let (running, live) = (self.gateway.running.load_full(), self.gateway.live.load());
        let mut wanted: BTreeMap<Subject, (Arc<Slot>, &Settings, BTreeSet<String>)> = BTreeMap::new();
        for listener in &live.listeners {
            let settings = running
                .config
                .listeners
                .get(&*listener.name)
                .and_then(|it| it.acme.as_ref());
            let (Some(tls), Some(settings)) = (&listener.tls, settings) else {
                continue;
            };
            for slot in tls.slots() {
                let entry = wanted
                    .entry(slot.subject.clone())
                    .or_insert_with(|| (Arc::clone(slot), settings, BTreeSet::new()));
                entry.2.insert(listener.name.to_string());
            }
        }
        self.places.retain(|subject, place| match wanted.get(subject) {
            Some((slot, ..)) => Arc::ptr_eq(slot, &place.slot),
            None => false,
        });
        if self.home.is_none() && !wanted.is_empty() && self.places.is_empty() {
            let text =
                "there is no state directory to keep accounts and certificates in: none will be ordered";
            self.note(Severity::Error, "certificate.failed", "", text.to_owned());
        }
        for (subject, (slot, settings, listeners)) in wanted {
            let place = self
                .places
                .entry(subject)
                .or_insert_with(|| Place::new(slot, settings.clone()));
            if place.settings != *settings {
                // What was wrong may be right now.
                place.settings = settings.clone();
                place.failures = 0;
                if place.slot.held().is_none() {
                    place.due = now();
                }
                self.authorities.remove(&settings.directory);
            }
            place.listeners = listeners;
            place.plan();
        }
        let places = &self.places;
        self.authorities
            .retain(|directory, _| places.keys().any(|subject| subject.directory == *directory));
        let used: BTreeSet<AccountKey> = places
            .values()
            .map(|place| AccountKey::of(&place.settings))
            .collect();
        self.accounts.retain(|key, _| used.contains(key));
    }

    /// Starts what is due; how long until there is more to do.
    fn start_due(&mut self) -> Duration {
        let Some(home) = self.home.clone() else {
            return TICK;
        };
        if self.gateway.phase() == Phase::Draining {
            return TICK;
        }
        let now = now();
        let mut next = now.saturating_add(millis(TICK));
        let mut waiting: Vec<(i64, Subject, Work)> = Vec::new();
        for (subject, place) in self.places.iter().filter(|(_, place)| place.job.is_none()) {
            let asks = place.slot.held().is_some().then_some((place.ask, Work::Ask));
            let order = if asks.is_some() {
                Work::Renewal
            } else {
                Work::Order
            };
            for (due, work) in asks.into_iter().chain([(place.due, order)]) {
                if due > now {
                    next = next.min(due);
                } else {
                    waiting.push((due, subject.clone(), work));
                    break;
                }
            }
        }
        waiting.sort();
        for (_, subject, work) in waiting {
            if self.jobs.len() >= MAX_JOBS {
                break;
            }
            let busy = || {
                self.places
                    .iter()
                    .any(|(other, place)| place.job.is_some() && other.directory == subject.directory)
            };
            if let Some(authority) = self.authorities.get(&subject.directory)
                && authority.failures > 0
                && (authority.held_until > now || busy())
            {
                next = next.min(authority.held_until.max(now + millis(SHORTEST)));
                continue;
            }
            self.start(&subject, work, &home);
        }
        let wait = Duration::from_millis(u64::try_from(next.saturating_sub(now)).unwrap_or_default());
        wait.clamp(SHORTEST, TICK)
    }

    fn start(&mut self, subject: &Subject, work: Work, home: &Path) {
        let Some(place) = self.places.get_mut(subject) else {
            return;
        };
        place.job = Some(work);
        let key = AccountKey::of(&place.settings);
        let job = Job {
            slot: Arc::clone(&place.slot),
            settings: place.settings.clone(),
            account: Arc::clone(
                self.accounts
                    .entry(key)
                    .or_insert_with(|| Arc::new(Cell::default())),
            ),
            challenges: Arc::clone(&self.gateway.acme.challenges),
            home: home.to_path_buf(),
            names: {
                let gateway = Arc::clone(&self.gateway);
                Arc::new(move || gateway.running.load().config.dns.clone())
            },
        };
        let subject = subject.clone();
        match work {
            Work::Order | Work::Renewal => {
                tracing::info!(
                    names = subject.shown(),
                    directory = subject.directory,
                    "ordering a certificate"
                );
                self.jobs.spawn(client::listening(async move {
                    let ordered = tokio::time::timeout(order::DEADLINE, order::obtain(&job)).await;
                    let ordered = ordered.unwrap_or_else(|_| {
                        Err(Failure::new(
                            Kind::Unreachable,
                            "the authority was not done with the order in 5 minutes",
                        ))
                    });
                    Done::Ordered(subject, ordered)
                }))
            }
            Work::Ask => self.jobs.spawn(client::listening(async move {
                let asked = tokio::time::timeout(order::DEADLINE, order::ask(&job)).await;
                let late = || {
                    Err(Failure::new(
                        Kind::Unreachable,
                        "the authority did not say when to renew",
                    ))
                };
                Done::Asked(subject, asked.unwrap_or_else(|_| late()))
            })),
        };
    }

    async fn finished(&mut self, done: Done) {
        match done {
            Done::Ordered(subject, Ok(())) => self.issued(&subject),
            Done::Ordered(subject, Err(failure)) => self.failed(&subject, failure).await,
            Done::Asked(subject, Ok((window, again))) => self.suggested(&subject, window, again),
            Done::Asked(subject, Err(failure)) => {
                tracing::debug!(names = subject.shown(), "no window for the renewal: {failure}");
                let again = now() + NO_SUGGESTIONS + fastrand::i64(0..NO_SUGGESTIONS / 4);
                if let Some(place) = self.places.get_mut(&subject) {
                    place.job = None;
                    place.ask = again;
                    place.plan();
                }
            }
        }
    }

    /// A job ended by a bug: nobody knows which, so all are taken for ended, and tried again later.
    fn lost(&mut self, error: &tokio::task::JoinError) {
        tracing::error!(%error, "an order ended by a bug");
        self.jobs.abort_all();
        for place in self.places.values_mut().filter(|place| place.job.is_some()) {
            place.job = None;
            place.due = now() + AFTER_BUG;
            place.ask = now() + AFTER_BUG;
        }
    }

    fn issued(&mut self, subject: &Subject) {
        self.authorities.remove(&subject.directory);
        let Some(place) = self.places.get_mut(subject) else {
            return;
        };
        let renewed = place.job.take() == Some(Work::Renewal);
        place.failures = 0;
        place.failure = None;
        place.window = None;
        place.luck = fastrand::f64();
        place.ask = now();
        place.plan();
        let until = place.slot.held().map_or(0, |held| held.certificate.not_after);
        let text = format!(
            "issued by {}, valid until {}; renewed about {}",
            subject.directory,
            when(until),
            when(place.due / 1000)
        );
        let counts = &self.gateway.metrics.control.acme;
        let kind = if renewed {
            "certificate.renewed"
        } else {
            "certificate.issued"
        };
        if renewed {
            counts.renewed.inc()
        } else {
            counts.issued.inc()
        }
        self.note(Severity::Info, kind, &subject.shown(), text);
    }

    async fn failed(&mut self, subject: &Subject, failure: Failure) {
        let counts = &self.gateway.metrics.control.acme;
        counts.failures.inc(failure.kind);
        let Some(place) = self.places.get_mut(subject) else {
            return;
        };
        place.job = None;
        place.failures = place.failures.saturating_add(1);
        let (retry, asked) = (place.settings.retry, failure.retry_after);
        let wait = schedule::backoff(retry, place.failures, asked, fastrand::f64());
        place.due = now().saturating_add(millis(wait));
        if failure.kind.is_of_authority() {
            let authority = self.authorities.entry(subject.directory.clone()).or_default();
            // Orders that began together and met the same are one failure.
            if authority.held_until <= now() {
                authority.failures = authority.failures.saturating_add(1);
            }
            let wait = schedule::backoff(retry, authority.failures, asked, fastrand::f64());
            authority.held_until = now().saturating_add(millis(wait));
            place.due = place.due.max(authority.held_until);
            // Its services may be elsewhere when it is back.
            if let Some(account) = self.accounts.get(&AccountKey::of(&place.settings)) {
                account.forget().await;
            }
        } else {
            self.authorities.remove(&subject.directory);
        }
        if failure.account_gone
            && let Some(home) = &self.home
        {
            account::put_aside(&place.settings, home);
            if let Some(account) = self.accounts.get(&AccountKey::of(&place.settings)) {
                account.forget().await;
            }
        }
        let (severity, meanwhile) = match place.slot.held() {
            Some(held) if held.certificate.not_after > Timestamp::now().as_second() => {
                let until = when(held.certificate.not_after);
                (
                    Severity::Warning,
                    format!("the former certificate serves until {until}"),
                )
            }
            Some(_) => (
                Severity::Error,
                "the certificate that serves has expired".to_owned(),
            ),
            None => (
                Severity::Error,
                "clients that ask for it are refused until there is one".to_owned(),
            ),
        };
        let text = format!(
            "{failure}; {meanwhile}; next try about {}",
            when(place.due / 1000)
        );
        place.failure = Some((Timestamp::now(), failure));
        self.note(severity, "certificate.failed", &subject.shown(), text);
    }

    fn suggested(&mut self, subject: &Subject, window: Window, again: Duration) {
        self.authorities.remove(&subject.directory);
        let Some(place) = self.places.get_mut(subject) else {
            return;
        };
        place.job = None;
        place.ask = now().saturating_add(millis(again.clamp(ASK_SOONEST, ASK_LATEST)));
        place.window = Some(window);
        place.plan();
    }

    fn note(&self, severity: Severity, kind: &'static str, target: &str, text: String) {
        self.gateway.journal.note(severity, kind, target, text);
    }

    /// Shows how it goes.
    fn publish(&self) {
        let views: Vec<OrderView> = self.places.values().map(OrderView::of).collect();
        self.gateway.orders.store(Arc::new(views));
    }
}
