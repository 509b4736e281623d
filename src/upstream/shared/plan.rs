//! An upstream as compiled into the snapshot.

use super::state::EndpointState;
use crate::config::model::{Balance, Pool};
use std::sync::Arc;

/// One endpoint's place in an upstream.
#[derive(Clone, Debug)]
pub struct EndpointPlan {
    pub state: Arc<EndpointState>,
    /// 0: no new requests.
    pub weight: u32,
    /// Used only while no other endpoint can be.
    pub backup: bool,
    /// What the endpoint sees as Host when the route says `host = "endpoint"`.
    pub authority: Arc<str>,
}

/// One upstream.
#[derive(Clone, Debug)]
pub struct UpstreamPlan {
    pub name: Arc<str>,
    pub balance: Balance,
    pub endpoints: Vec<EndpointPlan>,
    pub pool: Pool,
}
