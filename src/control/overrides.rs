//! Changes of endpoints and balancers at run time: what is asked for, and what that makes of the overrides that
//! stand. Pure: [`super::mutator`] keeps them in [`file`] and has a snapshot compiled with them.
//!
//! An override outlives reloads and restarts. One whose upstream or endpoint leaves the file sleeps: it is still
//! listed, can be taken back, and holds again as soon as the file has that endpoint again, because whoever drained
//! a server does not expect a deployment that rewrites the file to undo it.

pub mod departed;
pub mod expiry;
pub mod file;
pub mod pieces;

use super::change::{Change, ChangeKind};
use crate::config::Choice;
use crate::config::diagnostic::Diagnostic;
use crate::config::form::quantity;
use crate::upstream::shared::overrides::{
    Algorithm, EndpointOverride, Leave, MAX_OVERRIDES, Override, Overrides, Thresholds,
};
use crate::upstream::shared::{AdminState, EndpointKey, UpstreamPlan};
use jiff::{SignedDuration, Timestamp, Unit};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Largest weight that an endpoint may have, as in the file.
pub const MAX_WEIGHT: u32 = 1_000_000;
/// Largest number of probes or failures in a row, and of tries, as in the file.
const MAX_STREAK: u32 = 1000;
const MAX_ATTEMPTS: u32 = 8;
/// Longest time after which a change is taken back by itself.
const LONGEST: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Characters that a reason may have.
pub const MAX_REASON: usize = 500;

/// What is to become of one value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish<T> {
    #[default]
    Keep,
    /// Back to what it is without us.
    Reset,
    To(T),
}

impl<T: Copy> Wish<T> {
    /// What comes of it where this was told before.
    fn over(self, old: Option<T>) -> Option<T> {
        match self {
            Self::Keep => old,
            Self::Reset => None,
            Self::To(value) => Some(value),
        }
    }

    fn told(self, text: impl FnOnce(T) -> String) -> Option<String> {
        match self {
            Self::Keep => None,
            Self::Reset => Some("of the file".to_owned()),
            Self::To(value) => Some(text(value)),
        }
    }
}

impl<T: PartialOrd> Wish<T> {
    fn is_beyond(&self, accepted: &RangeInclusive<T>) -> bool {
        matches!(self, Self::To(value) if !accepted.contains(value))
    }
}

/// What is asked of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointWish {
    pub state: Option<AdminState>,
    pub weight: Wish<u32>,
    /// From now on; of a drain or a maintenance.
    pub deadline: Wish<Duration>,
    pub reason: Option<String>,
    /// When what is told here is taken back.
    pub until: Option<Timestamp>,
}

impl EndpointWish {
    /// Everything as the file says.
    #[must_use]
    pub const fn back_to_the_file() -> Self {
        Self {
            state: Some(AdminState::Active),
            weight: Wish::Reset,
            deadline: Wish::Keep,
            reason: None,
            until: None,
        }
    }
}

/// A moment as a sentence has it.
fn to_the_second(time: Timestamp) -> Timestamp {
    time.round(Unit::Second).unwrap_or(time)
}

impl fmt::Display for EndpointWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = Vec::new();
        told.extend(self.state.map(|state| state.name().to_owned()));
        match self.weight {
            Wish::Keep => {}
            Wish::Reset => told.push("the weight of the file".to_owned()),
            Wish::To(weight) => told.push(format!("weight {weight}")),
        }
        match self.deadline {
            Wish::Keep => {}
            Wish::Reset => told.push("no deadline".to_owned()),
            Wish::To(deadline) => told.push(format!("deadline {}", quantity::write_duration(deadline))),
        }
        told.extend(self.until.map(|until| format!("until {}", to_the_second(until))));
        f.write_str(&told.join(", "))
    }
}

/// What is asked of the algorithm of some upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceWish {
    pub upstreams: Vec<Arc<str>>,
    /// `None`: the file's.
    pub algorithm: Option<Algorithm>,
    pub reason: Option<String>,
    pub until: Option<Timestamp>,
}

impl fmt::Display for BalanceWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.algorithm {
            None => f.write_str("the algorithm of the file")?,
            Some(Algorithm { balance, key: None }) => f.write_str(balance.name())?,
            Some(Algorithm {
                balance,
                key: Some(key),
            }) => write!(f, "{} by {key}", balance.name())?,
        }
        match self.until {
            Some(until) => write!(f, ", until {}", to_the_second(until)),
            None => Ok(()),
        }
    }
}

/// What is asked of the thresholds of some upstreams.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThresholdWish {
    pub upstreams: Vec<Arc<str>>,
    pub detection_timeout: Wish<Duration>,
    pub fall: Wish<u32>,
    pub rise: Wish<u32>,
    pub consecutive_failures: Wish<u32>,
    pub error_rate: Wish<f64>,
    pub recovery_timeout: Wish<Duration>,
    pub max_attempts: Wish<u32>,
    pub reason: Option<String>,
    /// Of all the thresholds that are told for the upstream.
    pub until: Option<Timestamp>,
}

impl ThresholdWish {
    /// These thresholds, changed as wished.
    fn applied_to(&self, old: Thresholds) -> Thresholds {
        Thresholds {
            detection_timeout: self.detection_timeout.over(old.detection_timeout),
            fall: self.fall.over(old.fall),
            rise: self.rise.over(old.rise),
            consecutive_failures: self.consecutive_failures.over(old.consecutive_failures),
            error_rate: self.error_rate.over(old.error_rate),
            recovery_timeout: self.recovery_timeout.over(old.recovery_timeout),
            max_attempts: self.max_attempts.over(old.max_attempts),
        }
    }

    fn check(&self) -> Result<(), Refused> {
        let streaks = [self.fall, self.rise];
        if streaks.iter().any(|wish| wish.is_beyond(&(1..=MAX_STREAK))) {
            return Err(Refused::Threshold("fall and rise are numbers from 1 to 1000"));
        }
        if self.consecutive_failures.is_beyond(&(0..=MAX_STREAK)) {
            return Err(Refused::Threshold(
                "consecutive_failures is a number from 0 to 1000",
            ));
        }
        if self.error_rate.is_beyond(&(0.0..=1.0)) {
            return Err(Refused::Threshold("error_rate is a share from 0 to 1"));
        }
        if self.max_attempts.is_beyond(&(1..=MAX_ATTEMPTS)) {
            return Err(Refused::Threshold("max_attempts is a number from 1 to 8"));
        }
        let times = [self.detection_timeout, self.recovery_timeout];
        let sensible = Duration::from_millis(1)..=quantity::MAX_DURATION;
        if times.iter().any(|wish| wish.is_beyond(&sensible)) {
            return Err(Refused::Threshold("a timeout is from 1ms to 365d"));
        }
        Ok(())
    }

    /// Whether it wishes something of health checks.
    fn of_checks(&self) -> bool {
        self.detection_timeout != Wish::Keep || self.fall != Wish::Keep || self.rise != Wish::Keep
    }
}

impl fmt::Display for ThresholdWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |wish: Wish<Duration>| wish.told(quantity::write_duration);
        let told = [
            ("detection_timeout", time(self.detection_timeout)),
            ("fall", self.fall.told(|n| n.to_string())),
            ("rise", self.rise.told(|n| n.to_string())),
            (
                "consecutive_failures",
                self.consecutive_failures.told(|n| n.to_string()),
            ),
            ("error_rate", self.error_rate.told(|rate| rate.to_string())),
            ("recovery_timeout", time(self.recovery_timeout)),
            ("max_attempts", self.max_attempts.told(|n| n.to_string())),
            ("until", self.until.map(|until| until.to_string())),
        ];
        let told = told
            .into_iter()
            .filter_map(|(name, told)| Some(format!("{name} {}", told?)));
        f.write_str(&told.collect::<Vec<_>>().join(", "))
    }
}

/// Who asks, and when.
#[derive(Clone, Debug)]
pub struct Asked {
    pub by: String,
    /// The gateway that is asked.
    pub node: String,
    pub at: Timestamp,
}

impl Asked {
    fn says<T>(&self, value: T, reason: Option<&String>, until: Option<Timestamp>) -> Override<T> {
        Override {
            value,
            by: self.by.clone(),
            node: Some(self.node.clone()),
            since: self.at,
            reason: reason.cloned(),
            until,
        }
    }

    fn check_until(&self, until: Option<Timestamp>) -> Result<(), Refused> {
        match until {
            Some(until) if until <= self.at || until.duration_since(self.at) > LONGEST => Err(Refused::Until),
            Some(_) | None => Ok(()),
        }
    }
}

/// Why a wish can't be granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no such endpoint")]
    NoEndpoint,
    #[error("there is no upstream `{0}`")]
    NoUpstream(Arc<str>),
    #[error("nothing to change: neither state, weight nor deadline is given")]
    Nothing,
    #[error("a weight is a number from 0 to {MAX_WEIGHT}")]
    TooHeavy,
    #[error("a deadline belongs to draining or maintenance")]
    NoDrain,
    #[error("a change ends within 365 days from now on, and not before now")]
    Until,
    #[error("nothing is told that could end: what goes back to the file stays there")]
    NothingEnds,
    #[error("{0}")]
    Threshold(&'static str),
    #[error("a reason has at most {MAX_REASON} characters")]
    LongReason,
    #[error("{MAX_OVERRIDES} overrides are in force: take some back first")]
    TooMany,
}

/// The overrides after a wish for an endpoint.
///
/// # Errors
/// What is wrong with the wish.
pub fn with_endpoint(
    before: &Overrides,
    plans: &[Arc<UpstreamPlan>],
    key: &EndpointKey,
    wish: &EndpointWish,
    asked: &Asked,
) -> Result<Overrides, Refused> {
    let mut plans = plans.iter().filter(|plan| plan.name == key.upstream);
    let known = plans.any(|plan| plan.endpoints.iter().any(|e| e.state.key == *key));
    // One that sleeps can be taken back, and nothing else.
    let taken_back = wish.state == Some(AdminState::Active) && wish.weight == Wish::Reset;
    let sleeps = before.endpoint(key).is_some();
    if !(known || taken_back && sleeps) {
        return Err(Refused::NoEndpoint);
    }
    if wish.state.is_none() && wish.weight == Wish::Keep && wish.deadline == Wish::Keep {
        return Err(Refused::Nothing);
    }
    if matches!(wish.weight, Wish::To(weight) if weight > MAX_WEIGHT) {
        return Err(Refused::TooHeavy);
    }
    check_reason(wish.reason.as_ref())?;
    asked.check_until(wish.until)?;
    let tells = !matches!(wish.state, None | Some(AdminState::Active)) || matches!(wish.weight, Wish::To(_));
    if wish.until.is_some() && !tells {
        return Err(Refused::NothingEnds);
    }
    let old = before.endpoint(key).cloned().unwrap_or_default();
    let new = EndpointOverride {
        leave: leave(old.leave, wish, asked)?,
        weight: weight(old.weight, wish, asked),
    };
    let mut after = before.clone();
    after.set_endpoint(key.clone(), new);
    bounded(after)
}

fn leave(
    old: Option<Override<Leave>>,
    wish: &EndpointWish,
    asked: &Asked,
) -> Result<Option<Override<Leave>>, Refused> {
    let state = match (wish.state, &old) {
        (Some(AdminState::Active), _) | (None, None) if wish.deadline != Wish::Keep => {
            return Err(Refused::NoDrain);
        }
        (Some(AdminState::Active), _) | (None, None) => return Ok(None),
        (Some(state), _) => state,
        (None, Some(old)) => old.value.state,
    };
    let deadline = match wish.deadline {
        Wish::Keep => old.as_ref().and_then(|old| old.value.deadline),
        Wish::Reset => None,
        Wish::To(after) => Some(asked.at.checked_add(after).unwrap_or(Timestamp::MAX)),
    };
    let new = Leave { state, deadline };
    let of_the_weight_alone = wish.state.is_none() && wish.deadline == Wish::Keep;
    let says_no_more = wish.reason.is_none() && wish.until.is_none();
    Ok(Some(match old {
        Some(old) if old.value == new && (says_no_more || of_the_weight_alone) => old,
        // It has been so since then, whoever says it once more.
        Some(old) if old.value.state == state => Override {
            since: old.since,
            reason: wish.reason.clone().or(old.reason),
            ..asked.says(new, None, wish.until.or(old.until))
        },
        Some(_) | None => asked.says(new, wish.reason.as_ref(), wish.until),
    }))
}

fn weight(old: Option<Override<u32>>, wish: &EndpointWish, asked: &Asked) -> Option<Override<u32>> {
    let says_no_more = wish.reason.is_none() && wish.until.is_none();
    match (wish.weight, old) {
        (Wish::Keep, old) => old,
        (Wish::Reset, _) => None,
        (Wish::To(weight), Some(old)) if old.value == weight && says_no_more => Some(old),
        (Wish::To(weight), _) => Some(asked.says(weight, wish.reason.as_ref(), wish.until)),
    }
}

/// The overrides after a wish for the algorithm of upstreams: of all that it names, or of none.
///
/// # Errors
/// What is wrong with the wish.
pub fn with_balance(
    before: &Overrides,
    plans: &[Arc<UpstreamPlan>],
    wish: &BalanceWish,
    asked: &Asked,
) -> Result<Overrides, Refused> {
    check_reason(wish.reason.as_ref())?;
    asked.check_until(wish.until)?;
    let says_no_more = wish.reason.is_none() && wish.until.is_none();
    let mut after = before.clone();
    for upstream in &wish.upstreams {
        let known = plans.iter().any(|plan| plan.name == *upstream);
        let old = before.balance(upstream);
        let taken_back = wish.algorithm.is_none() && old.is_some();
        if !known && !taken_back {
            return Err(Refused::NoUpstream(upstream.clone()));
        }
        let new = match (&wish.algorithm, old) {
            (Some(algorithm), Some(old)) if old.value == *algorithm && says_no_more => Some(old.clone()),
            (Some(algorithm), _) => Some(asked.says(algorithm.clone(), wish.reason.as_ref(), wish.until)),
            (None, _) => None,
        };
        after.set_balance(upstream.clone(), new);
    }
    bounded(after)
}

/// The overrides after a wish for the thresholds of upstreams: of all that it names, or of none.
///
/// # Errors
/// What is wrong with the wish.
pub fn with_thresholds(
    before: &Overrides,
    plans: &[Arc<UpstreamPlan>],
    wish: &ThresholdWish,
    asked: &Asked,
) -> Result<Overrides, Refused> {
    check_reason(wish.reason.as_ref())?;
    wish.check()?;
    asked.check_until(wish.until)?;
    let mut after = before.clone();
    for upstream in &wish.upstreams {
        let old = before.thresholds(upstream);
        if old.is_none() && !plans.iter().any(|plan| plan.name == *upstream) {
            return Err(Refused::NoUpstream(upstream.clone()));
        }
        let old_value = old.map(|old| old.value).unwrap_or_default();
        let value = wish.applied_to(old_value);
        let until = wish.until.or_else(|| old.and_then(|old| old.until));
        if value == Thresholds::default() && wish.until.is_some() {
            return Err(Refused::NothingEnds);
        }
        if value != old_value || until != old.and_then(|old| old.until) {
            after.set_thresholds(upstream.clone(), asked.says(value, wish.reason.as_ref(), until));
        }
    }
    bounded(after)
}

/// A warning for each upstream that a wish asks something of which it does not have.
#[must_use]
pub fn idle_thresholds(plans: &[Arc<UpstreamPlan>], wish: &ThresholdWish) -> Vec<Diagnostic> {
    let asked = |plan: &&Arc<UpstreamPlan>| wish.upstreams.contains(&plan.name);
    let unchecked = plans.iter().filter(asked).filter(|plan| plan.health.is_none());
    let unchecked = unchecked.filter(|_| wish.of_checks());
    unchecked
        .map(|plan| {
            Diagnostic::warning(
                format!("upstreams.{}.health", plan.name),
                "nobody checks its endpoints: detection_timeout, fall and rise mean nothing there",
            )
        })
        .collect()
}

fn check_reason(reason: Option<&String>) -> Result<(), Refused> {
    match reason {
        Some(reason) if reason.chars().count() > MAX_REASON => Err(Refused::LongReason),
        Some(_) | None => Ok(()),
    }
}

fn bounded(overrides: Overrides) -> Result<Overrides, Refused> {
    if overrides.len() > MAX_OVERRIDES {
        Err(Refused::TooMany)
    } else {
        Ok(overrides)
    }
}

/// Every object that differs between two sets of overrides.
#[must_use]
pub fn changes(before: &Overrides, after: &Overrides) -> Vec<Change> {
    let changed = |object, name| Change {
        object,
        name,
        change: ChangeKind::Changed,
    };
    let mut keys: Vec<&EndpointKey> = before
        .endpoints()
        .chain(after.endpoints())
        .map(|(key, _)| key)
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let endpoints = keys
        .into_iter()
        .filter(|key| before.endpoint(key) != after.endpoint(key))
        .map(|key| changed("endpoint", format!("{}/{}", key.upstream, key.address)));
    let balances = before.balances().chain(after.balances()).map(|(name, _)| name);
    let thresholds = before
        .all_thresholds()
        .chain(after.all_thresholds())
        .map(|(name, _)| name);
    let names: BTreeSet<&Arc<str>> = balances.chain(thresholds).collect();
    let upstreams = names
        .into_iter()
        .filter(|name| {
            before.balance(name) != after.balance(name) || before.thresholds(name) != after.thresholds(name)
        })
        .map(|name| changed("upstream", name.to_string()));
    endpoints.chain(upstreams).collect()
}

/// A warning for each upstream that an operator's hand has left without an endpoint for new requests.
#[must_use]
pub fn warnings(before: &[Arc<UpstreamPlan>], after: &[Arc<UpstreamPlan>]) -> Vec<Diagnostic> {
    let open = |plan: &UpstreamPlan| plan.endpoints.iter().any(|endpoint| endpoint.is_open());
    let was_open = |name: &str| before.iter().any(|plan| *plan.name == *name && open(plan));
    after
        .iter()
        .filter(|plan| !open(plan) && was_open(&plan.name))
        .map(|plan| {
            Diagnostic::warning(
                format!("upstreams.{}.endpoints", plan.name),
                "no endpoint is left that may take requests: they are answered with 503",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests;
