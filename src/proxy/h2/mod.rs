//! Clients that speak HTTP/2: a connection is a task that drives the engine, and each of its streams is a task that
//! runs the life of a request, the same as on HTTP/1.1.
//!
//! | module | what it is |
//! |---|---|
//! | `connection` | the task of the connection: takes streams, and ends it in order or in anger |
//! | `job` | a request: a stream from its head to its end |
//! | `stream` | one stream as the client of an exchange |
//! | `io` | the transport under the engine |
//! | `guard` | what is counted of frames, and how much is too much |

mod connection;
mod guard;
mod io;
pub(super) mod job;
mod stream;

pub(super) use connection::{Preface, preface, serve};
pub(super) use stream::Stream;
