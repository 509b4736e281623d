//! What the gateway tells about itself: metric blocks, access records, events, the log.

pub mod access;
pub mod access_format;
pub mod access_log;
pub mod events;
pub mod log;
pub mod metrics;
pub mod process;
