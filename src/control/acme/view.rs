//! How getting certificates goes, for those who ask.

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
