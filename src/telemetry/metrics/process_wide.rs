//! Counts of the whole process: the control side's, and those of threads that many feed.

use super::cells::{SharedCounter, SharedGauge};

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadResult {
    Applied,
    Unchanged,
    Rejected,
}

/// How a look-up of a name ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsResult {
    Ok,
    NoSuchName,
    NoAddress,
    ServerFailed,
    Timeout,
    Failed,
}

impl DnsResult {
    pub const NAMES: [&'static str; 6] = [
        "ok",
        "no_such_name",
        "no_address",
        "server_failed",
        "timeout",
        "failed",
    ];
}

/// Look-ups by their result.
#[derive(Debug, Default)]
pub struct DnsCounts([SharedCounter; DnsResult::NAMES.len()]);

impl DnsCounts {
    pub fn inc(&self, result: DnsResult) {
        self.0[result as usize].inc();
    }

    /// Each result's name with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DnsResult::NAMES
            .into_iter()
            .zip(self.0.iter().map(SharedCounter::get))
    }
}

/// Why a certificate was not had from an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeFailure {
    /// The authority could not be reached, or did not answer in time.
    Unreachable,
    /// It answered with an error of its own, or what makes no sense.
    Server,
    /// It wants us to come again later.
    RateLimited,
    /// It does not take our account.
    Account,
    /// It will not issue this.
    Refused,
    /// It could not see that a name is ours.
    Challenge,
    /// What it issued can't be used.
    Certificate,
    /// The state directory did not take it.
    Storage,
    /// It could not be done in here.
    Internal,
}

impl AcmeFailure {
    pub const NAMES: [&'static str; 9] = [
        "unreachable",
        "server",
        "rate_limited",
        "account",
        "refused",
        "challenge",
        "certificate",
        "storage",
        "internal",
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Whether nothing else will be had from this authority either.
    #[must_use]
    pub const fn is_of_authority(self) -> bool {
        matches!(self, Self::Unreachable | Self::Server | Self::Account)
    }
}

/// Failed orders by why.
#[derive(Debug, Default)]
pub struct AcmeFailures([SharedCounter; AcmeFailure::NAMES.len()]);

impl AcmeFailures {
    pub fn inc(&self, why: AcmeFailure) {
        self.0[why as usize].inc();
    }

    /// Each reason's name with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        AcmeFailure::NAMES
            .into_iter()
            .zip(self.0.iter().map(SharedCounter::get))
    }
}

/// Orders of certificates.
#[derive(Debug, Default)]
pub struct AcmeSeries {
    pub issued: SharedCounter,
    pub renewed: SharedCounter,
    pub failures: AcmeFailures,
}

/// Counted by the control side. Any thread may write.
#[derive(Debug, Default)]
pub struct ControlSeries {
    pub reloads_applied: SharedCounter,
    pub reloads_unchanged: SharedCounter,
    pub reloads_rejected: SharedCounter,
    /// Pairs of a certificate and a key that reloads refused.
    pub certificates_refused: SharedCounter,
    /// 1 or 0; 1 from the start on.
    pub last_reload_success: SharedGauge,
    /// Unix time in seconds of the last reload that was applied, the start included.
    pub last_applied: SharedGauge,
    /// Number of the configuration that serves.
    pub generation: SharedGauge,
    /// Workers that stopped turning, and those that were replaced for it.
    pub workers_stalled: SharedCounter,
    pub workers_replaced: SharedCounter,
    /// Name resolutions by result.
    pub dns: DnsCounts,
    /// Certificates that the gateway gets itself.
    pub acme: AcmeSeries,
    /// Events posted, and events that a slow reader missed.
    pub events: SharedCounter,
    pub events_lost: SharedCounter,
    /// Requests to the admin API, and those refused for their credentials or role.
    pub admin_requests: SharedCounter,
    pub admin_denied: SharedCounter,
}

impl ControlSeries {
    /// Counts a reload and keeps the gauges in step; `generation` is what serves afterwards.
    pub fn reloaded(&self, result: ReloadResult, generation: u64) {
        let counter = match result {
            ReloadResult::Applied => &self.reloads_applied,
            ReloadResult::Unchanged => &self.reloads_unchanged,
            ReloadResult::Rejected => &self.reloads_rejected,
        };
        counter.inc();
        self.last_reload_success
            .set(i64::from(result != ReloadResult::Rejected));
        if result == ReloadResult::Applied {
            self.serving(generation);
        }
    }

    /// Notes that this generation serves from now on, of the configuration that was loaded before.
    pub fn swapped(&self, generation: u64) {
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// Notes that this generation serves from now on, of a configuration just loaded.
    pub fn serving(&self, generation: u64) {
        self.swapped(generation);
        self.last_applied.set(jiff::Timestamp::now().as_second());
    }
}

/// Counted by the access log's writer.
#[derive(Debug, Default)]
pub struct AccessLogSeries {
    pub records_written: SharedCounter,
    /// Records lost because the disk refused them.
    pub records_failed: SharedCounter,
    /// Records lost because the writer's queue was full.
    pub records_dropped: SharedCounter,
    pub bytes_written: SharedCounter,
    /// Failed opens, writes and flushes.
    pub errors: SharedCounter,
    /// Files reopened on request.
    pub reopens: SharedCounter,
}
