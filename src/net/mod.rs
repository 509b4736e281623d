//! Bytes in and out: transports, the worker's scratch buffers, and what holds the bytes that could not go on yet.

pub mod alarm;
pub mod scratch;
pub mod transport;
pub mod wire;
