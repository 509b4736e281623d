//! Changes of endpoints and balancers at run time: what is asked for, and what that makes of the overrides that
//! stand. Pure: [`super::mutator`] keeps them in [`file`] and has a snapshot compiled with them.
//!
//! An override outlives reloads and restarts. One whose upstream or endpoint leaves the file sleeps: it is still
//! listed, can be taken back, and holds again as soon as the file has that endpoint again, because whoever drained
//! a server does not expect a deployment that rewrites the file to undo it.

pub mod file;

use super::change::{Change, ChangeKind};
use crate::config::Choice;
use crate::config::diagnostic::Diagnostic;
use crate::config::form::quantity;
use crate::upstream::shared::overrides::{
    Algorithm, EndpointOverride, Leave, MAX_OVERRIDES, Override, Overrides,
};
use crate::upstream::shared::{AdminState, EndpointKey, UpstreamPlan};
use jiff::Timestamp;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Largest weight that an endpoint may have, as in the file.
pub const MAX_WEIGHT: u32 = 1_000_000;
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

/// What is asked of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointWish {
    pub state: Option<AdminState>,
    pub weight: Wish<u32>,
    /// From now on; of a drain or a maintenance.
    pub deadline: Wish<Duration>,
    pub reason: Option<String>,
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
        }
    }
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
}

impl fmt::Display for BalanceWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.algorithm {
            None => f.write_str("the algorithm of the file"),
            Some(Algorithm { balance, key: None }) => f.write_str(balance.name()),
            Some(Algorithm {
                balance,
                key: Some(key),
            }) => write!(f, "{} by {key}", balance.name()),
        }
    }
}

/// Who asks, and when.
#[derive(Clone, Debug)]
pub struct Asked {
    pub by: String,
    pub at: Timestamp,
}

impl Asked {
    fn says<T>(&self, value: T, reason: Option<&String>) -> Override<T> {
        Override {
            value,
            by: self.by.clone(),
            since: self.at,
            reason: reason.cloned(),
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
    Ok(Some(match old {
        Some(old) if old.value == new && (wish.reason.is_none() || of_the_weight_alone) => old,
        // It has been so since then, whoever says it once more.
        Some(old) if old.value.state == state => Override {
            since: old.since,
            reason: wish.reason.clone().or(old.reason),
            ..asked.says(new, None)
        },
        Some(_) | None => asked.says(new, wish.reason.as_ref()),
    }))
}

fn weight(old: Option<Override<u32>>, wish: &EndpointWish, asked: &Asked) -> Option<Override<u32>> {
    match (wish.weight, old) {
        (Wish::Keep, old) => old,
        (Wish::Reset, _) => None,
        (Wish::To(weight), Some(old)) if old.value == weight && wish.reason.is_none() => Some(old),
        (Wish::To(weight), _) => Some(asked.says(weight, wish.reason.as_ref())),
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
    let mut after = before.clone();
    for upstream in &wish.upstreams {
        let known = plans.iter().any(|plan| plan.name == *upstream);
        let old = before.balance(upstream);
        let taken_back = wish.algorithm.is_none() && old.is_some();
        if !known && !taken_back {
            return Err(Refused::NoUpstream(upstream.clone()));
        }
        let new = match (&wish.algorithm, old) {
            (Some(algorithm), Some(old)) if old.value == *algorithm && wish.reason.is_none() => {
                Some(old.clone())
            }
            (Some(algorithm), _) => Some(asked.says(algorithm.clone(), wish.reason.as_ref())),
            (None, _) => None,
        };
        after.set_balance(upstream.clone(), new);
    }
    bounded(after)
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
    let mut names: Vec<&Arc<str>> = before
        .balances()
        .chain(after.balances())
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    names.dedup();
    let balances = names
        .into_iter()
        .filter(|name| before.balance(name) != after.balance(name))
        .map(|name| changed("upstream", name.to_string()));
    endpoints.chain(balances).collect()
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
