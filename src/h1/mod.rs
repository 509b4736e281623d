//! Pure HTTP/1.1 codec, both roles (RFC 9112): bytes in, offsets out; no I/O, no clock.
//!
//! Strict by design: what could be read in two ways is refused, because a gateway stands between two parsers
//! that may disagree.

pub mod body;
pub mod parse;
pub mod write;

#[cfg(test)]
mod corpus;
