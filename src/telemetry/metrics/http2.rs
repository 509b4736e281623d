//! What is counted of HTTP/2 connections: streams reset, and connections closed for what their clients did.

use super::series::{Absorb, Cells};

/// What a client does with HTTP/2 that costs it little and us much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abuse {
    /// Streams opened and reset at once (CVE-2023-44487).
    RapidReset,
    /// Streams that the client makes us reset: malformed or oversized heads, broken flow control, too many at once
    /// (CVE-2025-8671).
    MadeYouReset,
    /// A head that is far larger unpacked than it is allowed to be.
    HeaderBomb,
    /// A head in ever more CONTINUATION frames (CVE-2024-27316).
    Continuation,
    Settings,
    Ping,
    /// Frames of data or head with nothing in them.
    Empty,
    /// Frames that are fine alone, but do nothing: PRIORITY, WINDOW_UPDATE, unknown types.
    Control,
    /// Answers asked for and never taken.
    WindowStall,
    /// A head, or the preface, that does not come to its end.
    SlowHead,
    /// Body in so many small frames that keeping them takes more memory than they hold, and whatever else the engine
    /// finds excessive.
    SmallFrames,
}

impl Abuse {
    pub const ALL: [Self; 11] = [
        Self::RapidReset,
        Self::MadeYouReset,
        Self::HeaderBomb,
        Self::Continuation,
        Self::Settings,
        Self::Ping,
        Self::Empty,
        Self::Control,
        Self::WindowStall,
        Self::SlowHead,
        Self::SmallFrames,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RapidReset => "rapid_reset",
            Self::MadeYouReset => "made_you_reset",
            Self::HeaderBomb => "header_bomb",
            Self::Continuation => "continuation",
            Self::Settings => "settings",
            Self::Ping => "ping",
            Self::Empty => "empty_frames",
            Self::Control => "control_frames",
            Self::WindowStall => "window_stall",
            Self::SlowHead => "slow_head",
            Self::SmallFrames => "small_frames",
        }
    }
}

/// Counts by [`Abuse`].
#[derive(Debug, Default)]
pub struct PerAbuse(Cells<{ Abuse::ALL.len() }>);

impl PerAbuse {
    pub fn inc(&self, what: Abuse) {
        self.0.0[what as usize].inc();
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Abuse::ALL.into_iter().map(Abuse::name).zip(self.0.values())
    }
}

/// Names of the error codes (RFC 9113 section 7), in their order; whatever else comes is the last.
pub const RESET_CODES: [&str; 15] = [
    "no_error",
    "protocol_error",
    "internal_error",
    "flow_control_error",
    "settings_timeout",
    "stream_closed",
    "frame_size_error",
    "refused_stream",
    "cancel",
    "compression_error",
    "connect_error",
    "enhance_your_calm",
    "inadequate_security",
    "http_1_1_required",
    "unknown",
];

/// Counts by error code.
#[derive(Debug, Default)]
pub struct PerCode(Cells<{ RESET_CODES.len() }>);

impl PerCode {
    /// Adds what was counted of each code.
    pub fn add(&self, counts: &[u32; RESET_CODES.len()]) {
        for (cell, n) in self.0.0.iter().zip(counts) {
            if *n > 0 {
                cell.add(u64::from(*n));
            }
        }
    }

    /// Code and count of each that was counted at all.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RESET_CODES
            .into_iter()
            .zip(self.0.values())
            .filter(|(_, n)| *n > 0)
    }
}

impl Absorb for PerAbuse {
    fn absorb(&self, other: &Self) {
        self.0.absorb(&other.0);
    }
}

impl Absorb for PerCode {
    fn absorb(&self, other: &Self) {
        self.0.absorb(&other.0);
    }
}
