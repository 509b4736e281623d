//! How the bus is, from how its connections are.

use super::Fault;
use crate::cluster::state::{BusState, Condition, Reason};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Slower answers than this are slow.
const SLOW: Duration = Duration::from_millis(50);
/// Answers that are looked at: those of about three seconds.
const LOOKED_AT: usize = 10;
/// So many slow ones of them make the bus slow.
const SLOW_ONES: usize = 5;

/// How long a refusal counts that is about one thing alone, and was not met again: all that is done is done again by
/// then.
const LASTS: Duration = Duration::from_secs(12);
/// Things that are refused, of which each is known.
const REFUSALS: usize = 16;

/// One of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    Commands,
    Subscription,
    Heartbeat,
}

impl Connection {
    pub(super) const ALL: [Self; 3] = [Self::Commands, Self::Subscription, Self::Heartbeat];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Subscription => "subscription",
            Self::Heartbeat => "heartbeat",
        }
    }

    /// In metrics.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Commands => "cmd",
            Self::Subscription => "sub",
            Self::Heartbeat => "hb",
        }
    }
}

/// Something that the server did not let us do.
#[derive(Debug)]
struct Refusal {
    what: String,
    fault: Fault,
    at: Instant,
}

impl Refusal {
    /// Whether it is about this thing alone: that something else goes through says nothing of it.
    const fn is_particular(&self) -> bool {
        matches!(
            self.fault.reason,
            Reason::WrongType | Reason::Permission | Reason::Protocol | Reason::TooLarge
        )
    }

    fn holds(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < LASTS
    }
}

#[derive(Debug)]
struct View {
    /// Of each connection what is wrong with it.
    faults: [Option<Fault>; 3],
    server: Option<String>,
    /// What the server did not let us do, the first one first.
    refused: Vec<Refusal>,
    /// What is shared has been read since the connections work.
    read: bool,
    slow: bool,
    answers: VecDeque<bool>,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Health(Mutex<View>);

impl Default for Health {
    fn default() -> Self {
        let starting = || Some(Fault::new(Reason::Starting, "not connected yet"));
        Self(Mutex::new(View {
            faults: [starting(), starting(), starting()],
            server: None,
            refused: Vec::new(),
            read: false,
            slow: false,
            answers: VecDeque::with_capacity(LOOKED_AT),
        }))
    }
}

impl Health {
    pub(super) fn up(&self, connection: Connection, server: &str) {
        let mut view = self.lock();
        if let Some(fault) = view.faults.get_mut(connection as usize) {
            *fault = None;
        }
        view.server = Some(server.to_owned());
    }

    pub(super) fn down(&self, connection: Connection, fault: &Fault) {
        let mut view = self.lock();
        if let Some(known) = view.faults.get_mut(connection as usize) {
            *known = Some(fault.clone());
        }
        view.read = false;
        view.refused.clear();
        if connection == Connection::Commands {
            view.answers.clear();
            view.slow = false;
        }
    }

    /// The server did not let us do this.
    pub(super) fn refused(&self, what: &str, fault: &Fault, now: Instant) {
        let mut view = self.lock();
        if let Some(known) = view.refused.iter_mut().find(|known| known.what == what) {
            (known.fault, known.at) = (fault.clone(), now);
        } else if view.refused.len() < REFUSALS {
            view.refused.push(Refusal {
                what: what.to_owned(),
                fault: fault.clone(),
                at: now,
            });
        }
    }

    /// The server let us do this; whether it did not before.
    pub(super) fn done(&self, what: &str) -> bool {
        let mut view = self.lock();
        let before = view.refused.len();
        view.refused.retain(|known| known.what != what);
        view.refused.len() < before
    }

    /// A write went through: the server takes writes.
    pub(super) fn wrote(&self, now: Instant) {
        let mut view = self.lock();
        view.refused
            .retain(|known| known.is_particular() && known.holds(now));
        view.read = true;
    }

    /// A ping came back after so long.
    pub(super) fn answered(&self, rtt: Duration) {
        let mut view = self.lock();
        if view.answers.len() == LOOKED_AT {
            view.answers.pop_front();
        }
        view.answers.push_back(rtt > SLOW);
        let slow = view.answers.iter().filter(|slow| **slow).count();
        view.slow = if view.slow { slow > 0 } else { slow >= SLOW_ONES };
    }

    pub(super) fn fault(&self, connection: Connection) -> Option<Fault> {
        self.lock().faults.get(connection as usize).cloned().flatten()
    }

    pub(super) fn state(&self) -> BusState {
        let view = self.lock();
        let of = |connection: Connection| view.faults.get(connection as usize).and_then(Option::as_ref);
        let told = |condition, fault: Option<&Fault>| {
            let detail = fault.map_or_else(String::new, |fault| fault.detail.clone());
            let mut state = BusState::new(condition, fault.map(|fault| fault.reason), detail);
            state.server.clone_from(&view.server);
            state
        };
        if let Some(fault) = of(Connection::Commands) {
            return told(Condition::Down, Some(fault));
        }
        if let Some(fault) = of(Connection::Heartbeat).or_else(|| of(Connection::Subscription)) {
            return told(Condition::Degraded, Some(fault));
        }
        if let Some(refusal) = view.refused.first() {
            return told(Condition::Degraded, Some(&refusal.fault));
        }
        if view.slow {
            let slow = Fault::new(Reason::Slow, "answers take more than 50 ms");
            return told(Condition::Degraded, Some(&slow));
        }
        if !view.read {
            return told(Condition::Resync, None);
        }
        told(Condition::Live, None)
    }

    /// Whole after a panic too: each change is one step.
    fn lock(&self) -> MutexGuard<'_, View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(health: &Health) -> (Condition, Option<Reason>) {
        let state = health.state();
        (state.condition, state.reason)
    }

    fn up() -> Health {
        let health = Health::default();
        for connection in Connection::ALL {
            health.up(connection, "redis:6379");
        }
        health
    }

    #[test]
    fn the_bus_is_live_once_all_connections_are_and_something_was_read() {
        let health = Health::default();
        assert_eq!(condition(&health), (Condition::Down, Some(Reason::Starting)));
        health.up(Connection::Commands, "a");
        assert_eq!(condition(&health), (Condition::Degraded, Some(Reason::Starting)));
        let health = up();
        assert_eq!(condition(&health), (Condition::Resync, None));
        health.wrote(Instant::now());
        assert_eq!(condition(&health), (Condition::Live, None));
        assert_eq!(health.state().server.as_deref(), Some("redis:6379"));
    }

    #[test]
    fn without_commands_it_is_down_and_without_the_others_degraded() {
        let health = up();
        health.wrote(Instant::now());
        health.down(Connection::Subscription, &Fault::new(Reason::Deaf, ""));
        assert_eq!(condition(&health), (Condition::Degraded, Some(Reason::Deaf)));
        health.down(Connection::Commands, &Fault::new(Reason::Refused, ""));
        assert_eq!(condition(&health), (Condition::Down, Some(Reason::Refused)));
        health.up(Connection::Commands, "a");
        health.up(Connection::Subscription, "a");
        assert_eq!(condition(&health), (Condition::Resync, None));
    }

    #[test]
    fn a_full_server_degrades_it_until_a_write_goes_through() {
        let health = up();
        health.refused("t:a", &Fault::new(Reason::OutOfMemory, ""), Instant::now());
        assert_eq!(
            condition(&health),
            (Condition::Degraded, Some(Reason::OutOfMemory))
        );
        health.wrote(Instant::now());
        assert_eq!(condition(&health), (Condition::Live, None));
    }

    /// Beats go through each second, which says nothing of a table that holds something else.
    #[test]
    fn what_is_refused_for_itself_degrades_it_until_that_very_thing_goes_through_or_is_not_met_again() {
        let (health, now) = (up(), Instant::now());
        health.refused("t:a", &Fault::new(Reason::WrongType, "a"), now);
        health.refused("t:b", &Fault::new(Reason::Permission, "b"), now);
        health.wrote(now);
        assert_eq!(condition(&health), (Condition::Degraded, Some(Reason::WrongType)));
        assert!(health.done("t:a") && !health.done("t:a"));
        assert_eq!(
            condition(&health),
            (Condition::Degraded, Some(Reason::Permission))
        );
        health.wrote(now + LASTS / 2);
        assert_eq!(
            condition(&health),
            (Condition::Degraded, Some(Reason::Permission))
        );
        health.wrote(now + LASTS);
        assert_eq!(condition(&health), (Condition::Live, None));
        for n in 0..100 {
            health.refused(&n.to_string(), &Fault::new(Reason::WrongType, ""), now);
        }
        assert_eq!(health.lock().refused.len(), REFUSALS);
    }

    #[test]
    fn slow_answers_degrade_it_and_one_slow_answer_does_not() {
        let health = up();
        health.wrote(Instant::now());
        let (slow, quick) = (Duration::from_millis(100), Duration::from_millis(1));
        health.answered(slow);
        health.answered(quick);
        assert_eq!(condition(&health).0, Condition::Live);
        for _ in 0..SLOW_ONES {
            health.answered(slow);
        }
        assert_eq!(condition(&health), (Condition::Degraded, Some(Reason::Slow)));
        for _ in 0..LOOKED_AT {
            health.answered(quick);
        }
        assert_eq!(condition(&health).0, Condition::Live);
    }
}
