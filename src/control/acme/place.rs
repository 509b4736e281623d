//! One certificate that the configuration asks for: when its order is due, and how the last one ended.

use super::failure::Failure;
use super::schedule::{self, Lifetime};
use crate::config::model::Acme as Settings;
use crate::tls::acme::{Held, Slot};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A certificate that the configuration asks for.
#[derive(Debug)]
pub struct Place {
    pub slot: Arc<Slot>,
    pub settings: Settings,
    pub listeners: BTreeSet<String>,
    /// When the next order is placed, and when the authority is asked for its window. In milliseconds of Unix time.
    pub due: i64,
    pub ask: i64,
    pub window: Option<Window>,
    /// Part of the span that a renewal is spread over; the same until it has happened.
    pub luck: f64,
    pub failures: u32,
    pub failure: Option<(Timestamp, Failure)>,
    pub job: Option<Work>,
}

/// When the authority suggests to renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start: i64,
    pub end: i64,
}

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Asking the authority when to renew.
    Ask,
    /// The first certificate.
    Order,
    Renewal,
}

impl Place {
    #[must_use]
    pub fn new(slot: Arc<Slot>, settings: Settings) -> Self {
        let now = now();
        let mut place = Self {
            slot,
            settings,
            listeners: BTreeSet::new(),
            due: now,
            ask: now,
            window: None,
            luck: fastrand::f64(),
            failures: 0,
            failure: None,
            job: None,
        };
        place.plan();
        place
    }

    /// Says when the next order is due, unless failures say it.
    pub fn plan(&mut self) {
        let Some(held) = self.slot.held() else { return };
        if self.failures > 0 {
            return;
        }
        let suggested = self
            .window
            .and_then(|window| schedule::in_window(window.start, window.end, self.luck));
        let due = schedule::renewal(lifetime(&held), self.settings.renew_before, suggested, self.luck);
        self.due = due.saturating_mul(1000);
    }
}

fn lifetime(held: &Held) -> Lifetime {
    Lifetime {
        not_before: held.certificate.not_before,
        not_after: held.certificate.not_after,
        stored: held.stored,
    }
}

/// Milliseconds of Unix time.
#[must_use]
pub fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

#[must_use]
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A time as people read it, from seconds of Unix time.
#[must_use]
pub fn when(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(
        |_| "a time beyond the calendar".to_owned(),
        |time| time.to_string(),
    )
}
