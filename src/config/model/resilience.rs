//! How trouble with endpoints is seen and met.

use super::Causes;
use std::collections::BTreeMap;
use std::time::Duration;

/// When an upstream is left alone. Never, by `Default`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Breaker {
    /// Requests at the same time, tunnels not counted; 0: any number.
    pub max_requests: u32,
    /// Share of failed requests that opens it, 0–1; 0: none does.
    pub error_rate: f64,
    /// Requests within the window below which the rate says nothing.
    pub min_requests: u64,
    pub window: Duration,
    pub open_for: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthKind {
    Http,
    /// A connection is enough.
    Tcp,
    /// gRPC's own service for it says SERVING.
    Grpc,
    /// A handshake that is answered with 101.
    Websocket,
}

/// What is presumed of an endpoint before its first probe has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialHealth {
    /// Nothing: requests wait for it a moment.
    Probing,
    Healthy,
    Unhealthy,
}

/// Statuses as ranges, ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSet(pub Vec<(u16, u16)>);

impl StatusSet {
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl std::fmt::Display for StatusSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{first}")?;
            if first != last {
                write!(f, "-{last}")?;
            }
        }
        Ok(())
    }
}

/// `text` somewhere in it, or `~regex`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextPattern {
    Contains(String),
    Regex(String),
}

/// How endpoints are asked whether they are well.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    pub kind: HealthKind,
    pub method: String,
    /// With its query.
    pub path: String,
    /// `None`: the endpoint's address.
    pub host: Option<String>,
    pub headers: BTreeMap<String, String>,
    pub status: StatusSet,
    pub body: Option<TextPattern>,
    /// Which service of a gRPC server is meant; empty: the server as a whole.
    pub service: String,
    /// `None`: the endpoint's.
    pub port: Option<u16>,
    pub interval: Duration,
    /// From the first failure until all is well again.
    pub fast_interval: Duration,
    /// From the beginning of the connection to the last byte of the answer.
    pub timeout: Duration,
    /// Passes in a row that make an endpoint healthy again.
    pub rise: u32,
    /// Failures in a row that make it unhealthy.
    pub fall: u32,
    /// Share by which waits are shorter at random, 0–1.
    pub jitter: f64,
    /// How long an endpoint that comes and goes is left out at most; 0: it is not.
    pub max_hold: Duration,
    pub initial: InitialHealth,
    /// Gateways of a cluster probe for each other while all is quiet.
    pub share: bool,
}

/// When traffic's own experience takes an endpoint out. Nothing is, by `Default`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outlier {
    /// Failures in a row that eject; 0: they do not.
    pub consecutive_failures: u32,
    /// What the error rate is taken over.
    pub window: Duration,
    /// Share of failed requests that ejects, 0–1; 0: it does not.
    pub error_rate: f64,
    /// Requests within the window below which the rate says nothing.
    pub min_requests: u64,
    /// Time of a first ejection.
    pub eject: Duration,
    pub max_eject: Duration,
    /// Share of the endpoints that may be out, 0–1.
    pub max_ejected: f64,
    /// What is a failure.
    pub on: Causes,
}

/// When a request is sent to another endpoint. Never, by `Default`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Retry {
    /// Tries of a request that was sent, the first included.
    pub attempts: u32,
    /// Share of the requests that may be repeated, 0–1.
    pub budget: f64,
    /// After what.
    pub on: Causes,
    /// Bytes of a request body kept for another endpoint.
    pub body: u64,
    /// Methods that are not idempotent too.
    pub non_idempotent: bool,
}
