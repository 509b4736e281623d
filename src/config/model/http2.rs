//! What bounds a connection of HTTP/2, to clients or to endpoints.

use std::time::Duration;

/// See the module's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Bounds {
    /// Requests at once on a connection.
    pub streams: u32,
    /// Bytes of a body that comes on it ahead of whom it is for.
    pub window: u32,
    /// The same for all of a connection.
    pub connection_window: u32,
    /// Bytes of a body that wait for the connection.
    pub send_buffer: usize,
    /// Largest frame taken.
    pub frame_bytes: u32,
    /// Silence after which a PING is sent; zero: never.
    pub ping: Duration,
    pub ping_timeout: Duration,
}
