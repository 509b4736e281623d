//! Tidegate: a layer-7 gateway.
//!
//! This page is the map of the code. A module may import only modules above it in this list:
//!
//! | module | purpose |
//! |---|---|
//! | [`base`] | time, tasks, deadlines: things that know nothing of HTTP |
//! | [`message`] | the one model of a request and a response that every protocol feeds: heads, edits, framing, host and path rules, error tokens |
//! | [`h1`] | pure HTTP/1.1 codec, both roles: bytes in, offsets out |
//! | [`ws`] | pure WebSocket: handshake keys, where frames begin and end |
//! | [`telemetry`] | metric blocks, the access record and its formats, events, log set-up |
//! | [`config`] | configuration as written: the table of keys, readers, diagnostics |
//! | [`routing`] | the route table: which route serves this request |
//! | [`net`] | transports, scratch buffers, the relay pump, bind and socket options |
//! | [`tls`] | certificates by name, session tickets, terms for clients' certificates |
//! | [`upstream`] | endpoints: shared state, balancers, connections, the worker's pools |
//! | [`cluster`] | gateways among each other: the bus, in process or over Redis, and who is there |
//! | [`snapshot`] | `compile`: configuration to one immutable generation, and the swap |
//! | [`proxy`] | the life of a request, on the workers |
//! | [`control`] | the only mutator: reload, listeners, signals, drain |
//! | [`admin`] | the HTTP shell of control: auth, JSON, metrics |
//! | [`demo`] | `tidegate demo`: app servers, a gateway of its own and a load, all as processes; uses [`base`] alone |
//!
//! `app`, `cli` and `main` wire these together and are the only places that read the process environment.
//!
//! Threads: N workers, each a single-threaded runtime that owns its connections and its upstream pools
//! ([`proxy`]); one control runtime (configuration, DNS, admin, signals); one log writer.
//! What they share is immutable ([`snapshot`]) or padded atomics ([`upstream`], [`telemetry`]).

pub mod admin;
pub mod app;
pub mod base;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod control;
pub mod demo;
pub mod h1;
pub mod message;
pub mod net;
pub mod proxy;
pub mod routing;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod ws;
