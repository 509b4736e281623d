//! What an upstream does about failures, as compiled into its plan.

pub use crate::config::model::Outlier;

/// The policies of one upstream.
#[derive(Clone, Debug, Default)]
pub struct Resilience {
    pub outlier: Outlier,
}
