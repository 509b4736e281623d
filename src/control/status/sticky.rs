//! How an upstream keeps its sessions, and what became of them.

use crate::telemetry::metrics::Totals;
use crate::upstream::shared::UpstreamPlan;
use crate::upstream::shared::sticky::{By, OnMissing};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Debug, Serialize)]
pub struct StickyStatus {
    /// What a session is known by: `cookie NAME`, `learn cookie:NAME`, `hash KEY`.
    pub by: String,
    /// `rebalance` or `reject`; `null` where a hash decides.
    pub on_missing: Option<&'static str>,
    /// Sessions that are known, and how many may be; `null` where none is learned.
    pub sessions: Option<usize>,
    pub max_sessions: Option<usize>,
    /// Requests by what became of their session.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Cookies set, by reason.
    pub cookies_set: BTreeMap<&'static str, u64>,
}

pub(super) fn status(plan: &UpstreamPlan, totals: &Totals) -> Option<StickyStatus> {
    let sticky = plan.sticky.as_ref()?;
    let (mut outcomes, mut cookies_set) = (BTreeMap::new(), BTreeMap::new());
    let towards = totals
        .routes
        .iter()
        .filter(|((_, upstream), _)| **upstream == *plan.name);
    for (_, series) in towards {
        for (outcome, count) in series.sessions.iter() {
            *outcomes.entry(outcome).or_default() += count;
        }
        for (why, count) in series.cookies_set.iter() {
            *cookies_set.entry(why).or_default() += count;
        }
    }
    let learned = match &sticky.by {
        By::Learn(learn) => Some(&learn.sessions),
        By::Cookie(_) | By::Hash(_) => None,
    };
    Some(StickyStatus {
        by: sticky.describe(),
        on_missing: sticky.remembers().then_some(match sticky.on_missing {
            OnMissing::Rebalance => "rebalance",
            OnMissing::Reject => "reject",
        }),
        sessions: learned.map(|sessions| sessions.len()),
        max_sessions: learned.map(|sessions| sessions.most()),
        outcomes,
        cookies_set,
    })
}
