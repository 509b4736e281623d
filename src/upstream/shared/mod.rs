//! What all threads know about endpoints: state that outlives reloads, plans of the snapshot, pure balancers.

pub mod admission;
pub mod balancer;
pub mod breaker;
pub mod budget;
pub mod check;
pub mod dial;
pub mod drill;
pub mod flapping;
pub mod health;
pub mod latency;
pub mod names;
pub mod outlier;
pub mod overrides;
pub mod plan;
pub mod queue;
pub mod rate;
pub mod rebalance;
pub mod registry;
pub mod resilience;
pub mod shed;
pub mod slow_start;
pub mod standing;
pub mod state;
pub mod sticky;

pub use crate::config::model::HashKey;
pub use crate::upstream::conn::{Dial, Target};
pub use balancer::Ask;
pub use overrides::Overrides;
pub use plan::{AdminState, EndpointPlan, Fallback, Hashing, UpstreamPlan};
pub use registry::Registry;
pub use state::{EndpointKey, EndpointState};
pub use sticky::StickyPlan;
