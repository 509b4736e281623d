//! WebSocket (RFC 6455) without input and output: the keys of a handshake, and where frames begin and end.

pub mod frames;
pub mod handshake;
