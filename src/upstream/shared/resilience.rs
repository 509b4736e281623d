//! What an upstream does about failures, as compiled into its plan.

pub use crate::config::model::{Outlier, Retry};

/// The policies of one upstream.
#[derive(Clone, Debug, Default)]
pub struct Resilience {
    pub outlier: Outlier,
    pub retry: Retry,
}
