//! What is counted for a listener, a route, an endpoint and a worker.
//!
//! Each worker has its own copy, written by that worker alone. A copy is a heap object of its own, aligned so
//! that no two share a cache line (128 bytes: processors fetch lines in pairs).

use super::cells::{Counter, Gauge};
use super::faults::{PerHeaderFault, PerTlsFault};
use super::grpc::PerGrpcStatus;
use super::histogram::Histogram;
use super::http2::{PerAbuse, PerCode};
use super::sticky::{PerCookieSet, PerSticky};
use super::tunnels::{PerCloseCode, PerClosed};
use crate::message::token::Token;
use std::array;

/// Labels of the status classes, in the order of [`PerClass`].
pub const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// A row of counters.
#[derive(Debug)]
pub(super) struct Cells<const N: usize>(pub(super) [Counter; N]);

impl<const N: usize> Default for Cells<N> {
    fn default() -> Self {
        Self(array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> Cells<N> {
    pub(super) fn values(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(Counter::get)
    }

    pub(super) fn absorb(&self, other: &Self) {
        for (mine, theirs) in self.0.iter().zip(&other.0) {
            mine.add(theirs.get());
        }
    }
}

/// Counts by class of the status sent. `none`: the client left before one was (logged as 499).
#[derive(Debug, Default)]
pub struct PerClass(Cells<{ CLASSES.len() }>);

impl PerClass {
    #[inline]
    pub fn inc(&self, status: u16) {
        let class = match status {
            499 => 5,
            100..=599 => usize::from(status / 100) - 1,
            _ => 5,
        };
        self.0.0[class].inc();
    }

    /// Label and count of each class.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CLASSES.into_iter().zip(self.0.values())
    }

    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.values().sum()
    }
}

/// Counts by error token.
#[derive(Debug, Default)]
pub struct PerToken(Cells<{ Token::ALL.len() }>);

impl PerToken {
    #[inline]
    pub fn inc(&self, token: Token) {
        self.0.0[token as usize].inc();
    }

    /// Token and count of each that was counted at all.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Token::ALL
            .iter()
            .map(|t| t.name())
            .zip(self.0.values())
            .filter(|(_, n)| *n > 0)
    }

    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.values().sum()
    }
}

/// Why an accepted connection was closed unserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `runtime.max_connections`.
    Process,
    /// `limits.connections`.
    Listener,
    /// `limits.connections_per_ip`.
    Client,
    /// The gateway is draining.
    Draining,
}

impl Refusal {
    pub const ALL: [Self; 4] = [Self::Process, Self::Listener, Self::Client, Self::Draining];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Listener => "listener",
            Self::Client => "client",
            Self::Draining => "draining",
        }
    }
}

/// Counts by [`Refusal`].
#[derive(Debug, Default)]
pub struct PerRefusal(Cells<{ Refusal::ALL.len() }>);

impl PerRefusal {
    pub fn inc(&self, why: Refusal) {
        self.0.0[why as usize].inc();
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refusal::ALL.into_iter().map(Refusal::name).zip(self.0.values())
    }

    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.values().sum()
    }
}

/// How a TLS handshake went that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake(usize);

impl Handshake {
    /// Labels: version, and whether an earlier session was resumed.
    const LABELS: [[&str; 2]; 4] = [["1.2", "no"], ["1.2", "yes"], ["1.3", "no"], ["1.3", "yes"]];

    #[must_use]
    pub const fn of(tls13: bool, resumed: bool) -> Self {
        Self(tls13 as usize * 2 + resumed as usize)
    }
}

/// Counts by [`Handshake`].
#[derive(Debug, Default)]
pub struct PerHandshake(Cells<{ Handshake::LABELS.len() }>);

impl PerHandshake {
    pub fn inc(&self, how: Handshake) {
        self.0.0[how.0].inc();
    }

    /// Version, whether resumed, and count.
    pub fn iter(&self) -> impl Iterator<Item = ([&'static str; 2], u64)> {
        Handshake::LABELS.into_iter().zip(self.0.values())
    }
}

/// Why a TLS handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// Plain HTTP came.
    PlainHttp,
    /// Something else that is no TLS came.
    NotTls,
    /// The ClientHello was larger than any is.
    TooLarge,
    /// `limits.handshake_timeout`.
    Timeout,
    /// The client left.
    Closed,
    /// There is no certificate for the name that was asked for.
    UnknownName,
    /// There is one, and none that the client can verify.
    NoCertificate,
    /// No version, suite or group in common.
    Incompatible,
    /// No protocol in common (ALPN).
    Alpn,
    /// The client's certificate is missing, or not good.
    ClientCertificate,
    /// The client ended it by an alert: it may not trust our certificate.
    Alert,
    /// The client broke the rules.
    Protocol,
    /// No failure: an authority looked whether a name is ours (ACME), and wants no session.
    Challenge,
}

impl TlsFailure {
    pub const ALL: [Self; 13] = [
        Self::PlainHttp,
        Self::NotTls,
        Self::TooLarge,
        Self::Timeout,
        Self::Closed,
        Self::UnknownName,
        Self::NoCertificate,
        Self::Incompatible,
        Self::Alpn,
        Self::ClientCertificate,
        Self::Alert,
        Self::Protocol,
        Self::Challenge,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::TooLarge => "too_large",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::UnknownName => "unknown_name",
            Self::NoCertificate => "no_certificate",
            Self::Incompatible => "incompatible",
            Self::Alpn => "alpn",
            Self::ClientCertificate => "client_certificate",
            Self::Alert => "alert",
            Self::Protocol => "protocol",
            Self::Challenge => "challenge",
        }
    }
}

/// Counts by [`TlsFailure`].
#[derive(Debug, Default)]
pub struct PerTlsFailure(Cells<{ TlsFailure::ALL.len() }>);

impl PerTlsFailure {
    pub fn inc(&self, why: TlsFailure) {
        self.0.0[why as usize].inc();
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        TlsFailure::ALL
            .into_iter()
            .map(TlsFailure::name)
            .zip(self.0.values())
    }
}

/// Why a request was not repeated after a failure that asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRetry {
    /// `retry.attempts` were made.
    Attempts,
    /// Doing it twice may do harm.
    Method,
    /// More of its body was sent than is kept.
    Body,
    /// There is no other endpoint.
    Endpoints,
    /// `retry.budget` is spent.
    Budget,
    /// The upstream's breaker is open.
    Breaker,
}

impl NoRetry {
    pub const ALL: [Self; 6] = [
        Self::Attempts,
        Self::Method,
        Self::Body,
        Self::Endpoints,
        Self::Budget,
        Self::Breaker,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Method => "method",
            Self::Body => "body",
            Self::Endpoints => "endpoints",
            Self::Budget => "budget",
            Self::Breaker => "breaker",
        }
    }
}

/// Counts by [`NoRetry`].
#[derive(Debug, Default)]
pub struct PerNoRetry(Cells<{ NoRetry::ALL.len() }>);

impl PerNoRetry {
    pub fn inc(&self, why: NoRetry) {
        self.0.0[why as usize].inc();
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NoRetry::ALL.into_iter().map(NoRetry::name).zip(self.0.values())
    }

    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.values().sum()
    }
}

macro_rules! series {
    ($(#[$meta:meta])* $name:ident { $( $(#[$field_meta:meta])* $field:ident : $cell:ident, )* }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct $name { $( $(#[$field_meta])* pub $field: $cell, )* }

        impl $name {
            /// Adds what `other` holds, for sums over workers.
            pub(super) fn absorb(&self, other: &Self) {
                $( Absorb::absorb(&self.$field, &other.$field); )*
            }
        }
    };
}

/// What can be summed over workers.
pub(super) trait Absorb {
    fn absorb(&self, other: &Self);
}

impl Absorb for Counter {
    fn absorb(&self, other: &Self) {
        self.add(other.get());
    }
}

impl Absorb for Gauge {
    fn absorb(&self, other: &Self) {
        self.add(other.get());
    }
}

impl Absorb for Histogram {
    fn absorb(&self, other: &Self) {
        Self::absorb(self, other);
    }
}

macro_rules! absorb_rows {
    ($($row:ident)*) => { $(
        impl Absorb for $row {
            fn absorb(&self, other: &Self) { self.0.absorb(&other.0); }
        }
    )* };
}
absorb_rows!(PerClass PerToken PerRefusal PerNoRetry PerHandshake PerTlsFailure PerHeaderFault PerTlsFault PerGrpcStatus PerSticky PerCookieSet);

series! {
    /// One listener.
    ListenerSeries {
        connections_accepted: Counter,
        connections_open: Gauge,
        connections_refused: PerRefusal,
        /// Closed unserved for their PROXY protocol header, or for its lack.
        proxy_headers_refused: PerHeaderFault,
        /// Accepted by one worker and handed to a less loaded one; counted where it was accepted.
        connections_moved: Counter,
        /// Requests begun: every head, refused ones included.
        requests: Counter,
        /// Heads refused before routing, by token.
        heads_refused: PerToken,
        /// TLS handshakes that succeeded, and how long they took.
        tls_handshakes: PerHandshake,
        tls_handshake_seconds: Histogram,
        tls_failures: PerTlsFailure,
        /// Bytes read from and written to clients: heads, bodies, tunnels.
        bytes_received: Counter,
        bytes_sent: Counter,
        h2_connections: Counter,
        h2_streams: Counter,
        h2_streams_open: Gauge,
        /// Streams reset by clients, and by us.
        h2_resets_received: PerCode,
        h2_resets_sent: PerCode,
        /// Connections ended with an error by clients, and by us.
        h2_errors_received: PerCode,
        h2_errors_sent: PerCode,
        /// Connections closed for what their clients did.
        h2_abuses: PerAbuse,
    }
}

series! {
    /// One route, per upstream that it sends to (a split has several).
    RouteSeries {
        /// Requests ended, by class of the status sent.
        requests: PerClass,
        /// From the first byte of the request to the last of the response; tunnels are not recorded.
        duration: Histogram,
        bytes_received: Counter,
        bytes_sent: Counter,
        tunnels_open: Gauge,
        tunnels_total: Counter,
        tunnels_closed: PerClosed,
        /// Of those that were looked at: the code of the first close frame.
        close_codes: PerCloseCode,
        /// Of those that were looked at: messages of clients, and of endpoints.
        messages_received: Counter,
        messages_sent: Counter,
        /// Requests that ended with an error token.
        errors: PerToken,
        /// Requests of an upstream that keeps sessions, by what became of theirs; and cookies set.
        sessions: PerSticky,
        cookies_set: PerCookieSet,
    }
}

series! {
    /// One endpoint of an upstream.
    EndpointSeries {
        /// Times the endpoint was picked: every attempt, connected or not.
        attempts: Counter,
        /// Attempts that followed a failed one.
        retries: Counter,
        /// Its failures after which another endpoint was tried.
        retries_given: Counter,
        /// Its failures after which none was, though it is one that may be repeated.
        retries_suppressed: PerNoRetry,
        /// Response heads received, by class of their status.
        responses: PerClass,
        /// Calls of gRPC that it answered, by their status.
        grpc: PerGrpcStatus,
        /// Attempts failed, by token.
        failures: PerToken,
        /// Attempts that speak against the endpoint: failures, and answers that are taken for one.
        faults: Counter,
        connects: Counter,
        connects_failed: Counter,
        /// TLS handshakes that came about, in full and resumed, and those that did not.
        tls_full: Counter,
        tls_resumed: Counter,
        tls_failed: PerTlsFault,
        /// Attempts on a pooled connection.
        reuses: Counter,
        connect_seconds: Histogram,
        /// From the request's first byte sent to the response head.
        response_seconds: Histogram,
        connections_active: Gauge,
        connections_idle: Gauge,
        /// Connections that requests share, and the requests on them.
        http2_connections: Gauge,
        http2_streams: Gauge,
        /// Bytes written to and read from the endpoint.
        bytes_sent: Counter,
        bytes_received: Counter,
    }
}

series! {
    /// One worker.
    WorkerSeries {
        accepted: Counter,
        connections_open: Gauge,
        requests: Counter,
        unsent_bytes: Gauge,
        tls_handshakes_running: Gauge,
        loop_ticks: Counter,
        /// How late the worker's tick came.
        loop_lag: Histogram,
        /// Latest tick so far, in microseconds.
        loop_lag_max_us: Gauge,
        /// Processor time of the thread, in microseconds.
        cpu_us: Gauge,
        /// Panics confined to one connection.
        panics: Counter,
        /// Times accepting paused because descriptors ran out.
        accept_pauses: Counter,
        /// Reports to the control side dropped because its queue was full.
        reports_dropped: Counter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_class() {
        let classes = PerClass::default();
        for status in [101, 200, 304, 404, 499, 502, 0, 999] {
            classes.inc(status);
        }
        let counts: Vec<_> = classes.iter().collect();
        assert_eq!(
            counts,
            [
                ("1xx", 1),
                ("2xx", 1),
                ("3xx", 1),
                ("4xx", 1),
                ("5xx", 1),
                ("none", 3)
            ]
        );
    }

    #[test]
    fn tokens_and_refusals_are_counted_under_their_own_name() {
        let errors = PerToken::default();
        for token in Token::ALL {
            errors.inc(*token);
        }
        assert!(errors.iter().all(|(_, n)| n == 1));
        errors.inc(Token::NoRoute);
        assert_eq!(errors.iter().find(|(_, n)| *n == 2), Some(("no_route", 2)));
        let refused = PerRefusal::default();
        refused.inc(Refusal::Client);
        assert_eq!(refused.iter().find(|(_, n)| *n == 1), Some(("client", 1)));
    }

    #[test]
    fn series_of_two_workers_never_share_a_cache_line() {
        assert_eq!(align_of::<ListenerSeries>(), 128);
        assert_eq!(align_of::<RouteSeries>(), 128);
        assert_eq!(align_of::<EndpointSeries>(), 128);
        assert_eq!(align_of::<WorkerSeries>(), 128);
    }
}
