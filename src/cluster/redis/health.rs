//! How the bus is, from how its connections are.

use super::Fault;
use crate::cluster::state::{BusState, Condition, Reason};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Slower answers than this are slow.
const SLOW: Duration = Duration::from_millis(50);
/// Answers that are looked at: those of about three seconds.
const LOOKED_AT: usize = 10;
/// So many slow ones of them make the bus slow.
const SLOW_ONES: usize = 5;

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

#[derive(Debug)]
struct View {
    /// Of each connection what is wrong with it.
    faults: [Option<Fault>; 3],
    server: Option<String>,
    /// The last thing that the server did not let us write.
    refused: Option<Fault>,
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
            refused: None,
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
        view.refused = None;
        if connection == Connection::Commands {
            view.answers.clear();
            view.slow = false;
        }
    }

    pub(super) fn refused(&self, fault: &Fault) {
        self.lock().refused = Some(fault.clone());
    }

    /// A write went through.
    pub(super) fn wrote(&self) {
        let mut view = self.lock();
        view.refused = None;
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
        if let Some(fault) = &view.refused {
            return told(Condition::Degraded, Some(fault));
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
        health.wrote();
        assert_eq!(condition(&health), (Condition::Live, None));
        assert_eq!(health.state().server.as_deref(), Some("redis:6379"));
    }

    #[test]
    fn without_commands_it_is_down_and_without_the_others_degraded() {
        let health = up();
        health.wrote();
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
        health.refused(&Fault::new(Reason::OutOfMemory, ""));
        assert_eq!(
            condition(&health),
            (Condition::Degraded, Some(Reason::OutOfMemory))
        );
        health.wrote();
        assert_eq!(condition(&health), (Condition::Live, None));
    }

    #[test]
    fn slow_answers_degrade_it_and_one_slow_answer_does_not() {
        let health = up();
        health.wrote();
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
