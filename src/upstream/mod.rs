//! Endpoints and how to reach them.
//!
//! Three tiers of state: what an operator configured is a [`shared::plan`] inside the snapshot; what is known
//! about an endpoint outlives snapshots in [`shared::state`]; what a worker owns (its pools, its balancer's
//! position) lives in [`local`] and is never shared.

pub mod conn;
pub mod local;
pub mod shared;
