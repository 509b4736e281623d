//! Waiting without guessing: poll to a deadline, never sleep and hope.

use std::thread::sleep;
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(5);

/// How long a condition may take. `TIDEGATE_TEST_PATIENCE` (seconds) stretches it on slow machines.
#[must_use]
pub fn patience() -> Duration {
    let seconds = std::env::var("TIDEGATE_TEST_PATIENCE")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10))
}

/// Polls until the condition holds.
///
/// # Panics
/// When it does not within [`patience`].
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    eventually_some(what, || condition().then_some(()));
}

/// Polls until there is a value.
///
/// # Panics
/// When there is none within [`patience`].
#[track_caller]
pub fn eventually_some<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {:?}: {what}", patience());
        sleep(STEP);
    }
}

/// Asserts that a condition stays true for a while; for what must *not* happen.
///
/// # Panics
/// When it stops holding.
#[track_caller]
pub fn holds_for(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        assert!(condition(), "stopped holding: {what}");
        sleep(STEP);
    }
}

/// Lets time pass where time itself is what the test is about (a byte a second, a paced client).
pub fn pace(time: Duration) {
    sleep(time);
}
