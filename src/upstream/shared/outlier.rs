//! Ejection: endpoints at which requests fail are left alone for a while, longer each time.
//!
//! Whoever notices ejects at once: a worker on the n-th failure in a row, control when the error rate is too high.
//! The time out doubles with every ejection, up to a bound, and halves again for every such time that the endpoint
//! is in and well. Never more than a share of an upstream is out: when most of it fails, the fault is likely to be
//! elsewhere, and the rest would drown.

use super::plan::UpstreamPlan;
use crate::base::clock::Millis;
use crate::message::causes::Causes;
use crate::message::grpc::Code;
use crate::message::token::Token;
use arc_swap::ArcSwapOption;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Doublings of the ejection time that are counted; more would change nothing within any sensible bound.
const MOST_DOUBLINGS: u32 = 20;

/// The last thing that went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Failed(Token),
    Answered(u16),
    /// A call of gRPC got nothing but this status.
    Grpc(Code),
}

impl Fault {
    /// Whether it is one of these.
    #[must_use]
    pub fn is_of(self, causes: Causes) -> bool {
        match self {
            Self::Failed(token) => causes.has_token(token),
            Self::Answered(status) => causes.has_status(status),
            Self::Grpc(status) => causes.has_grpc(status),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(token) => f.write_str(token.name()),
            Self::Answered(status) => write!(f, "status {status}"),
            Self::Grpc(status) => write!(f, "gRPC status {}", status.name()),
        }
    }
}

/// The latest fault of an endpoint and when it was, in one number: written by whoever sees one.
#[derive(Debug, Default)]
pub struct LastFault(AtomicU64);

/// Marks a token; statuses are below.
const TOKEN: u64 = 1 << 15;
/// Marks a status of gRPC.
const GRPC: u64 = 1 << 14;

impl LastFault {
    pub fn note(&self, fault: Fault, now: Millis) {
        let what = match fault {
            Fault::Failed(token) => TOKEN | token as u64,
            Fault::Answered(status) => u64::from(status),
            Fault::Grpc(status) => GRPC | u64::from(status.number()),
        };
        self.0.store(now.0 << 16 | what, Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> Option<(Fault, Millis)> {
        let noted = self.0.load(Relaxed);
        let what = noted & 0xffff;
        let fault = if what & TOKEN != 0 {
            Fault::Failed(*Token::ALL.get((what & !TOKEN) as usize)?)
        } else if what & GRPC != 0 {
            Fault::Grpc(Code::of_number((what & !GRPC) as u32))
        } else {
            Fault::Answered(what as u16)
        };
        (noted != 0).then_some((fault, Millis(noted >> 16)))
    }
}

/// Why an endpoint is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    InARow {
        failures: u32,
        last: Fault,
    },
    TooMany {
        failures: u64,
        requests: u64,
    },
    /// So many of the gateways that have an opinion say that it is down.
    Cluster {
        down: u32,
        voters: u32,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InARow { failures: 1, last } => write!(f, "a failure: {last}"),
            Self::InARow { failures, last } => write!(f, "{failures} failures in a row, the last: {last}"),
            Self::TooMany { failures, requests } => write!(f, "{failures} of {requests} requests failed"),
            Self::Cluster { down, voters } => write!(f, "{down} of {voters} gateways say it is down"),
        }
    }
}

/// One ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    pub reason: Reason,
    /// From the first of the failures in a row to the ejection.
    pub detection: Option<Duration>,
    pub since: Millis,
    pub until: Millis,
}

impl Ejection {
    const fn time(&self) -> Duration {
        Duration::from_millis(self.until.0.saturating_sub(self.since.0))
    }
}

/// The ejections of one endpoint. Written when one begins, and as they are forgiven.
#[derive(Debug, Default)]
pub struct Ejections {
    /// How often the time of the next one is doubled.
    doublings: AtomicU32,
    total: AtomicU64,
    last: ArcSwapOption<Ejection>,
    /// When a doubling was last forgiven.
    forgiven: AtomicU64,
}

impl Ejections {
    /// Since the endpoint became known.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// The latest, over or not.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Ejection>> {
        self.last.load_full()
    }

    fn time(&self, first: Duration, most: Duration) -> Duration {
        let doublings = self.doublings.load(Relaxed).min(MOST_DOUBLINGS);
        first.saturating_mul(1 << doublings).min(most.max(first))
    }

    fn note(&self, ejection: Ejection) {
        let more = |n: u32| Some(n.saturating_add(1).min(MOST_DOUBLINGS));
        let _always_some = self.doublings.fetch_update(Relaxed, Relaxed, more);
        self.last.store(Some(Arc::new(ejection)));
        self.total.fetch_add(1, Relaxed);
    }

    /// Forgives one doubling for each time as long as the last ejection that has passed since without another.
    pub fn forgive(&self, now: Millis) {
        if self.doublings.load(Relaxed) == 0 {
            return;
        }
        let Some(last) = self.last() else { return };
        let well_since = Millis(last.until.0.max(self.forgiven.load(Relaxed)));
        if now > well_since && now.since(well_since) >= last.time() {
            self.forgiven.store(now.0, Relaxed);
            let _none_left = self
                .doublings
                .fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
        }
    }
}

/// Ejects an endpoint, unless that is not to be: it is out already, too many others are, or it is not meant to take
/// requests. Whether it was ejected by this call.
pub fn eject(plan: &UpstreamPlan, index: usize, reason: Reason, now: Millis) -> bool {
    let Some(endpoint) = plan.endpoints.get(index).filter(|endpoint| endpoint.is_open()) else {
        return false;
    };
    let outlier = &plan.resilience.outlier;
    let most = most_out(plan, outlier.max_ejected);
    let state = &endpoint.state;
    if out(plan, now) >= most {
        return false;
    }
    let until = now.plus(state.ejections.time(outlier.eject, outlier.max_eject));
    if !state.standing.eject(now, until) {
        return false;
    }
    // Two workers may have looked at the same time.
    if out(plan, now) > most {
        state.standing.readmit();
        return false;
    }
    let detection = match reason {
        Reason::InARow { .. } => Some(now.since(state.failing_since())),
        Reason::TooMany { .. } | Reason::Cluster { .. } => None,
    };
    let since = now;
    state.ejections.note(Ejection {
        reason,
        detection,
        since,
        until,
    });
    true
}

fn out(plan: &UpstreamPlan, now: Millis) -> usize {
    let open = plan.endpoints.iter().filter(|endpoint| endpoint.is_open());
    open.filter(|endpoint| endpoint.state.standing.ejected_until() > now)
        .count()
}

/// How many may be out at the same time: the share, rounded down, but one where there are others to go to.
fn most_out(plan: &UpstreamPlan, share: f64) -> usize {
    let open = plan
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.is_open())
        .count();
    if open < 2 || share <= 0.0 {
        return 0;
    }
    ((open as f64 * share) as usize).max(1)
}

#[cfg(test)]
mod tests;
