//! Black-box test tools: the real binary, real backends that can misbehave, a fault relay between them.
//!
//! Nothing here knows the gateway's library: what a test sees is what a user sees, bytes on sockets, files, exit
//! codes, the admin API. Everything is blocking sockets and threads, so that a test reads from top to
//! bottom and every wait has a deadline ([`eventually`]).
//!
//! - [`gateway`] starts the binary and talks to its admin listener, [`cli`] runs its other commands;
//! - [`raw`] is a connection as bytes, with a strict response reader that doubles as an oracle;
//! - [`backend`] scripted servers, [`ws`] WebSocket peers, [`fault`] the relay, [`net`] addresses that refuse or hang,
//!   [`dns`] a name server with scripted answers;
//! - [`tls`] certificates and a client of TLS, whose connections are read like any other;
//! - [`redis`] servers and sentinels of the real Redis, [`netns`] machines whose cables can be pulled, [`calendar`]
//!   processes whose clock is wrong, [`prometheus`] that scrapes them;
//! - [`acme`] an authority that issues certificates, or does not;
//! - [`load`] a keep-alive load client that counts what failed and why.

pub mod acme;
pub mod address;
pub mod backend;
pub mod calendar;
pub mod cli;
pub mod dns;
pub mod eventually;
pub mod fault;
pub mod frames;
pub mod gateway;
pub mod load;
pub mod message;
pub mod net;
pub mod netns;
pub mod pattern;
pub mod prometheus;
pub mod raw;
pub mod redis;
pub mod tls;
pub mod tls_front;
pub mod ws;

pub use acme::Authority;
pub use address::Address;
pub use backend::{Backend, Gate, Reply};
pub use calendar::Calendar;
pub use cli::{Ran, run};
pub use dns::NameServer;
pub use eventually::{eventually, eventually_some, holds_for, pace, patience};
pub use fault::{Fault, Relay};
pub use gateway::{Builder, Gateway};
pub use load::Load;
pub use message::{Request, Response};
pub use prometheus::Prometheus;
pub use raw::{Broken, Conn};
pub use redis::Redis;
pub use tls::{Ca, Leaf, TlsClient};
pub use tls_front::TlsFront;
