//! What an upstream does about failures and about too much, as compiled into its plan.

use super::admission::Admission;
pub use crate::config::model::{Breaker, Outlier, Queue, Retry};
use std::sync::Arc;

/// The policies of one upstream.
#[derive(Clone, Debug, Default)]
pub struct Resilience {
    pub outlier: Outlier,
    pub retry: Retry,
    pub breaker: Breaker,
    pub queue: Queue,
    /// Whether any endpoint has a `max_connections`.
    pub limited: bool,
    /// What of this lives on from plan to plan.
    pub admission: Arc<Admission>,
}
