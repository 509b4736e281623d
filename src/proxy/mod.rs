//! The life of a request, on the workers.
//!
//! | step | module | what happens |
//! |---|---|---|
//! | 0 | [`worker`] | a thread with its own runtime, sockets, connections and pools; [`board`] is what others see of it |
//! | 1 | `accept` | a connection is accepted, and placed on the worker that has room; `ends` says who connects |
//! | 1a | `handshake` | on a TLS listener: which certificate, on which terms, or why not |
//! | 1b | `passthrough` | where TLS goes on unopened: an endpoint, and then the tunnel |
//! | 2 | `connection`, `h2` | heads are read one after another, or come at once on streams; [`client`](self) is who asks |
//! | 3 | `service` | the outer shell: always an answer or a cut, exactly one record (`context` writes it when dropped) |
//! | 4 | `handle` | the inner story |
//! | 5 | `admit` | framing, host, path, `client_ip`, request id |
//! | 6 | [`crate::routing`] | the route, and the upstream; `hash_key` and `sticky`, where they have a say |
//! | 7 | `prepare` | the request as the endpoint sees it |
//! | 8 | `forward` | one attempt after another: `room` finds the place, `reach` connects, `judge` draws the conclusions, `retry` allows another |
//! | 8a | `round_trip` | the request and its answer on one connection; `exchange` drives both directions, `flow` one of them |
//! | 9 | `respond` | the response as the client sees it, or our own |
//! | 10 | `tunnel` | bytes both ways after 101, or unopened |
//!
//! [`explain`] tells the same story without taking the steps. `upload` is a request's body over all attempts, `shared`
//! an attempt on a connection that other requests are on. `view` is the snapshot as one worker sees it; `deadline` is
//! when a request must be over, `grpc` what is different for calls of gRPC; `drill` swallows attempts on purpose; `pace`
//! judges slowness; `hold` waits for the first verdict on endpoints; `linger` closes without losing answers.

mod accept;
mod admit;
pub mod board;
mod client;
mod client_ip;
mod connection;
mod context;
mod deadline;
mod drill;
mod ends;
mod error;
mod exchange;
pub mod explain;
#[cfg(feature = "faults")]
mod faults;
mod flow;
mod forward;
mod grpc;
mod h2;
mod handle;
mod handshake;
mod hash_key;
mod heads;
mod hold;
mod judge;
mod linger;
mod pace;
mod passthrough;
mod peer;
mod prepare;
mod reach;
mod respond;
mod retry;
mod room;
mod round_trip;
mod secured;
mod service;
mod shared;
mod sticky;
pub mod tunnel;
mod upgrade;
mod upload;
mod view;
pub mod worker;
