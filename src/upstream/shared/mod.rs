//! What all threads know about endpoints: state that outlives reloads, plans of the snapshot, pure balancers.

pub mod balancer;
pub mod plan;
pub mod registry;
pub mod state;

pub use crate::upstream::conn::Target;
pub use plan::{EndpointPlan, UpstreamPlan};
pub use registry::Registry;
pub use state::{EndpointKey, EndpointState};
