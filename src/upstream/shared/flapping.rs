//! Damping: an endpoint that fails its checks again soon after it passed them is held back, longer each time.
//!
//! A failure of an endpoint that was steady costs nothing: it is back as soon as it passes. One that comes and goes is
//! held for a second, then two, four, … up to a bound, whatever its probes say meanwhile. One doubling is forgiven for
//! each time as long as that bound that it was well. (Ejections forgive one for each time as long as the last of them;
//! one that dies every few seconds would live on that with short holds for ever.) So two failures lie the bound apart
//! on average, apart from the few with which it begins: it was either held or well for that long.

use crate::base::clock::Millis;
use std::time::Duration;

/// The first hold, where the bound is not shorter.
pub const FIRST: Duration = Duration::from_secs(1);

/// An endpoint is not well again before this is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    pub time: Duration,
    /// How often it was held since it is checked, this time included.
    pub flaps: u64,
}

/// What is remembered of an endpoint's coming and going.
#[derive(Debug, Default)]
pub struct Flapping {
    /// Failures that are not forgiven, as far as they make the next hold longer.
    failures: u32,
    flaps: u64,
    /// The last failure, and the end of its hold, if there was one.
    begun: Millis,
    until: Millis,
}

impl Flapping {
    /// A verdict fell against it after it was well for so long. The hold that follows, if any; none is longer than
    /// `most`, and with 0 there are none.
    pub fn failed(&mut self, well_for: Duration, most: Duration, now: Millis) -> Option<Hold> {
        (self.begun, self.until) = (now, Millis::NEVER);
        if most.is_zero() {
            self.failures = 0;
            return None;
        }
        let forgiven = well_for.as_millis() / most.as_millis().max(1);
        self.failures = self
            .failures
            .saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        let time = hold(self.failures, most);
        if time < most {
            self.failures += 1;
        }
        if time.is_zero() {
            return None;
        }
        self.until = now.plus(time);
        self.flaps += 1;
        let flaps = self.flaps;
        Some(Hold { time, flaps })
    }

    /// Holds are to be no longer than that, also one that has begun.
    pub fn bound(&mut self, most: Duration) {
        self.until = self.until.min(self.begun.plus(most));
    }

    /// When the hold ends or has ended that followed the last failure; [`Millis::NEVER`] where none did.
    #[must_use]
    pub const fn until(&self) -> Millis {
        self.until
    }

    /// How often it was held since it is checked.
    #[must_use]
    pub const fn flaps(&self) -> u64 {
        self.flaps
    }
}

/// How long it is held for one failure more than these.
fn hold(failures: u32, most: Duration) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else {
        return Duration::ZERO;
    };
    let times = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    FIRST.saturating_mul(times).min(most)
}

#[cfg(test)]
mod tests;
