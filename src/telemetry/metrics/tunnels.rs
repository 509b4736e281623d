//! What is counted of tunnels: how they ended, and with which close code.

use super::series::{Absorb, Cells};

/// Why a tunnel ended: by one of its ends, or by the gateway for one of its reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    Client,
    Endpoint,
    /// Nothing came for too long.
    Idle,
    /// It reached its greatest age.
    Age,
    /// The endpoint, or the gateway, drains, and it was asked to go.
    Drain,
    /// An endpoint joined, and it was asked to go there.
    Rebalance,
    /// It was still there when a drain reached its deadline.
    Deadline,
    /// A message was too large, or there were too many.
    Limit,
    /// What came was no frame.
    Protocol,
    /// A ping was not answered.
    Lost,
    /// An operator closed it.
    Kicked,
}

impl Closed {
    pub const ALL: [Self; 11] = [
        Self::Client,
        Self::Endpoint,
        Self::Idle,
        Self::Age,
        Self::Drain,
        Self::Rebalance,
        Self::Deadline,
        Self::Limit,
        Self::Protocol,
        Self::Lost,
        Self::Kicked,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Endpoint => "endpoint",
            Self::Idle => "idle",
            Self::Age => "age",
            Self::Drain => "drain",
            Self::Rebalance => "rebalance",
            Self::Deadline => "deadline",
            Self::Limit => "limit",
            Self::Protocol => "protocol",
            Self::Lost => "lost",
            Self::Kicked => "kicked",
        }
    }
}

/// Counts by [`Closed`].
#[derive(Debug, Default)]
pub struct PerClosed(Cells<{ Closed::ALL.len() }>);

impl PerClosed {
    pub fn inc(&self, why: Closed) {
        self.0.0[why as usize].inc();
    }

    /// Reason and count of each that was counted at all.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Closed::ALL
            .into_iter()
            .map(Closed::name)
            .zip(self.0.values())
            .filter(|(_, n)| *n > 0)
    }
}

/// Labels of close codes: those of the registry (RFC 6455 section 7.4), and the ranges for libraries and applications.
const CODES: [&str; 17] = [
    "1000", "1001", "1002", "1003", "1005", "1006", "1007", "1008", "1009", "1010", "1011", "1012", "1013",
    "1014", "3xxx", "4xxx", "other",
];

/// Counts by close code; 1005 stands for a close frame without one.
#[derive(Debug, Default)]
pub struct PerCloseCode(Cells<{ CODES.len() }>);

impl PerCloseCode {
    pub fn inc(&self, code: u16) {
        let at = match code {
            1000..=1003 => usize::from(code - 1000),
            1005..=1014 => usize::from(code - 1001),
            3000..=3999 => 14,
            4000..=4999 => 15,
            _ => 16,
        };
        self.0.0[at].inc();
    }

    /// Code and count of each that was counted at all.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CODES.into_iter().zip(self.0.values()).filter(|(_, n)| *n > 0)
    }
}

impl Absorb for PerClosed {
    fn absorb(&self, other: &Self) {
        self.0.absorb(&other.0);
    }
}

impl Absorb for PerCloseCode {
    fn absorb(&self, other: &Self) {
        self.0.absorb(&other.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_counted_under_its_label() {
        for code in [1000_u16, 1003, 1005, 1009, 1012, 1014] {
            let counts = PerCloseCode::default();
            counts.inc(code);
            assert_eq!(counts.iter().next(), Some((code.to_string().as_str(), 1)));
        }
        for (code, label) in [
            (3000, "3xxx"),
            (4999, "4xxx"),
            (1004, "other"),
            (1015, "other"),
            (7, "other"),
        ] {
            let counts = PerCloseCode::default();
            counts.inc(code);
            assert_eq!(counts.iter().next(), Some((label, 1)));
        }
    }
}
