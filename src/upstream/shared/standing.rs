//! Whether an endpoint may be given requests, and since when: the verdicts of probes and of traffic.

use crate::base::clock::Millis;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

/// What active checks say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// Nobody checks.
    #[default]
    Unchecked,
    /// Checks are configured, and none has come to a verdict.
    Pending,
    Healthy,
    Unhealthy,
    /// Unhealthy for another while although it passes them again, because it came and went before.
    Held,
}

/// Read at every pick and written rarely, so it shares no line with the counters.
#[derive(Debug, Default)]
pub struct Standing {
    /// Written by control alone.
    health: AtomicU8,
    /// Written by workers too: 0 while it is not ejected.
    ejected_until: AtomicU64,
    /// Written by control alone.
    cut: AtomicBool,
    /// Until when requests wait for the first verdict. Written by control alone.
    held_until: AtomicU64,
    /// Since when it has been in, from its first moment or after the last verdict against it. May lie ahead.
    in_since: AtomicU64,
}

impl Standing {
    #[must_use]
    pub fn health(&self) -> Health {
        match self.health.load(Relaxed) {
            1 => Health::Pending,
            2 => Health::Healthy,
            3 => Health::Unhealthy,
            4 => Health::Held,
            _ => Health::Unchecked,
        }
    }

    pub fn set_health(&self, health: Health) {
        let before = self.health();
        if health == Health::Healthy && matches!(before, Health::Pending | Health::Unhealthy | Health::Held) {
            self.came_in(Millis::now());
        }
        self.health.store(health as u8, Relaxed);
    }

    /// It is new, or back.
    pub fn came_in(&self, at: Millis) {
        self.in_since.fetch_max(at.0, Relaxed);
    }

    /// Since when it has been in.
    #[must_use]
    pub fn in_since(&self) -> Millis {
        Millis(self.in_since.load(Relaxed))
    }

    /// Checks are to come to a first verdict, and requests may wait for it until then.
    pub fn await_verdict(&self, until: Millis) {
        self.held_until.store(until.0, Relaxed);
        self.set_health(Health::Pending);
    }

    /// Whether a request that has no other choice is to wait.
    #[must_use]
    pub fn awaits_verdict(&self, now: Millis) -> bool {
        self.health() == Health::Pending && now.0 < self.held_until.load(Relaxed)
    }

    /// When its ejection ends; [`Millis::NEVER`] when it is not ejected.
    #[must_use]
    pub fn ejected_until(&self) -> Millis {
        Millis(self.ejected_until.load(Relaxed))
    }

    /// Ejects it, unless somebody else has in the meantime. Whether it was us.
    pub fn eject(&self, now: Millis, until: Millis) -> bool {
        let before = self.ejected_until.load(Relaxed);
        let ejected = before <= now.0
            && self
                .ejected_until
                .compare_exchange(before, until.0, Relaxed, Relaxed)
                .is_ok();
        if ejected {
            self.came_in(until);
        }
        ejected
    }

    pub fn readmit(&self) {
        self.ejected_until.store(0, Relaxed);
    }

    /// Whether what runs there is to end now: the deadline of its drain has passed.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut.load(Relaxed)
    }

    pub fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Relaxed);
    }

    /// Whether neither probes nor traffic speak against it.
    #[must_use]
    pub fn is_good(&self, now: Millis) -> bool {
        self.ejected_until.load(Relaxed) <= now.0
            && matches!(self.health(), Health::Unchecked | Health::Healthy)
    }

    /// Whether all that speaks against it is that it came and went: it is better than one that fails.
    #[must_use]
    pub fn is_held(&self, now: Millis) -> bool {
        self.ejected_until.load(Relaxed) <= now.0 && self.health() == Health::Held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ejection_ends_by_itself_and_is_made_once() {
        let standing = Standing::default();
        assert!(standing.is_good(Millis(1)));
        assert!(standing.eject(Millis(10), Millis(20)));
        assert!(!standing.eject(Millis(11), Millis(99)), "it is out already");
        assert!(!standing.is_good(Millis(19)) && standing.is_good(Millis(20)));
        assert!(standing.eject(Millis(20), Millis(30)), "it is in again");
        standing.readmit();
        assert!(standing.is_good(Millis(21)));
    }

    #[test]
    fn a_first_verdict_is_waited_for_until_it_is_there_or_late() {
        let standing = Standing::default();
        assert!(!standing.awaits_verdict(Millis(1)), "nobody checks");
        standing.await_verdict(Millis(20));
        assert!(standing.awaits_verdict(Millis(19)) && !standing.awaits_verdict(Millis(20)));
        assert!(!standing.is_good(Millis(20)));
        for verdict in [Health::Healthy, Health::Unhealthy] {
            standing.await_verdict(Millis(20));
            standing.set_health(verdict);
            assert!(!standing.awaits_verdict(Millis(1)));
        }
    }

    #[test]
    fn it_has_been_in_since_the_last_verdict_against_it_ended() {
        let standing = Standing::default();
        assert_eq!(standing.in_since(), Millis::NEVER);
        standing.set_health(Health::Healthy);
        assert_eq!(standing.in_since(), Millis::NEVER, "it was never out");
        assert!(standing.eject(Millis(10), Millis(20)));
        assert_eq!(standing.in_since(), Millis(20));
        let ahead = Millis::now().plus(std::time::Duration::from_secs(9));
        standing.came_in(ahead);
        standing.set_health(Health::Unhealthy);
        standing.set_health(Health::Healthy);
        assert_eq!(standing.in_since(), ahead, "whichever is later");
    }

    #[test]
    fn probes_speak_against_it_until_they_have_seen_it_well() {
        let standing = Standing::default();
        for (health, good) in [
            (Health::Unchecked, true),
            (Health::Pending, false),
            (Health::Healthy, true),
            (Health::Unhealthy, false),
            (Health::Held, false),
        ] {
            standing.set_health(health);
            assert_eq!((standing.health(), standing.is_good(Millis(1))), (health, good));
            assert_eq!(standing.is_held(Millis(1)), health == Health::Held);
        }
        assert!(standing.eject(Millis(1), Millis(9)));
        assert!(!standing.is_held(Millis(8)) && standing.is_held(Millis(9)));
    }
}
