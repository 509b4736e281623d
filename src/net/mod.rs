//! Bytes in and out: transports, the worker's scratch buffers, what holds the bytes that could not go on yet, and
//! how addresses are bound.

pub mod alarm;
pub mod frames;
pub mod gather;
pub mod listen;
pub mod proxy_protocol;
pub mod scratch;
pub mod secure;
pub mod source;
pub mod splice;
pub mod transport;
pub mod unsent;
pub mod wire;
