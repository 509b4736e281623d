//! What the gateway tells about itself: metric blocks, access records, events, the log.

pub mod access;
pub mod metrics;
pub mod process;
