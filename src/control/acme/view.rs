//! How getting certificates goes, for those who ask.

use super::place::{Place, Work, when};
use jiff::Timestamp;
use serde::Serialize;

/// One certificate that the gateway gets itself.
#[derive(Clone, Debug, Serialize)]
pub struct OrderView {
    pub names: Vec<String>,
    pub directory: String,
    pub listeners: Vec<String>,
    /// `valid`, `expired`, or `missing`.
    pub state: &'static str,
    /// RFC 3339, like all times here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// An order is under way.
    pub ordering: bool,
    /// When the next one is placed: a renewal, or another try.
    pub next_order: String,
    /// The window that the authority suggests for the renewal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggested: Option<[String; 2]>,
    /// Failures in a row.
    pub failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<FailureView>,
    /// `next_order` in seconds of Unix time.
    #[serde(skip)]
    pub due: i64,
}

/// Why the last order failed.
#[derive(Clone, Debug, Serialize)]
pub struct FailureView {
    pub time: String,
    pub kind: &'static str,
    pub message: String,
}

impl OrderView {
    pub(super) fn of(place: &Place) -> Self {
        let held = place.slot.held();
        let certificate = held.as_ref().map(|held| &held.certificate);
        let subject = &place.slot.subject;
        Self {
            names: subject.names.clone(),
            directory: subject.directory.clone(),
            listeners: place.listeners.iter().cloned().collect(),
            state: match certificate {
                None => "missing",
                Some(certificate) if certificate.not_after <= Timestamp::now().as_second() => "expired",
                Some(_) => "valid",
            },
            not_before: certificate.map(|it| when(it.not_before)),
            not_after: certificate.map(|it| when(it.not_after)),
            ordering: matches!(place.job, Some(Work::Order | Work::Renewal)),
            next_order: when(place.due / 1000),
            suggested: place.window.map(|window| [when(window.start), when(window.end)]),
            failures: place.failures,
            last_failure: place.failure.as_ref().map(|(time, failure)| FailureView {
                time: time.to_string(),
                kind: failure.kind.name(),
                message: failure.text.clone(),
            }),
            due: place.due / 1000,
        }
    }
}
