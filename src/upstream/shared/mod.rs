//! What all threads know about endpoints: state that outlives reloads, plans of the snapshot, pure balancers.

pub mod balancer;
pub mod check;
pub mod health;
pub mod overrides;
pub mod plan;
pub mod registry;
pub mod standing;
pub mod state;

pub use crate::upstream::conn::Target;
pub use overrides::Overrides;
pub use plan::{AdminState, EndpointPlan, UpstreamPlan};
pub use registry::Registry;
pub use state::{EndpointKey, EndpointState};
