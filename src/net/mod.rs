//! Sockets and bytes: how they are bound, read, written and relayed.

pub mod listen;
