//! What can go wrong with a connection, and what it means.

use crate::cluster::state::Reason;
use std::io;

/// Longest text of another side that is passed on.
const MAX_DETAIL: usize = 200;

/// Why something did not work, with what was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub reason: Reason,
    pub detail: String,
}

impl Fault {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let detail: String = detail.into();
        // Texts of another side: no line of ours is broken by them, and none grows with them.
        let detail = detail.chars().take(MAX_DETAIL);
        Self {
            reason,
            detail: detail.map(|c| if c.is_control() { ' ' } else { c }).collect(),
        }
    }

    /// What was met may repeat what was said: whoever is there need not be a Redis.
    pub(super) fn without(mut self, secret: Option<&str>) -> Self {
        if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
            self.detail = self.detail.replace(secret, "***");
        }
        self
    }

    pub(super) fn io(error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Reason::Refused,
            io::ErrorKind::TimedOut => Reason::Timeout,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => Reason::Unreachable,
            _ => Reason::Closed,
        };
        Self::new(reason, error.to_string())
    }

    /// Says which address it is about.
    pub(super) fn at(self, address: &impl std::fmt::Display) -> Self {
        Self::new(self.reason, format!("{address}: {}", self.detail))
    }

    /// What an error of Redis means, by its first word.
    pub(super) fn said(text: &str) -> Self {
        let word = text.split([' ', ':']).next().unwrap_or_default();
        let reason = match word {
            "NOAUTH" | "WRONGPASS" => Reason::Auth,
            // The second: it takes nobody from elsewhere.
            "NOPERM" | "DENIED" => Reason::Permission,
            "READONLY" | "MASTERDOWN" => Reason::ReadOnly,
            "NOREPLICAS" => Reason::NoReplicas,
            "LOADING" => Reason::Loading,
            "BUSY" => Reason::Busy,
            "OOM" => Reason::OutOfMemory,
            "MISCONF" => Reason::Disk,
            "CLUSTERDOWN" | "TRYAGAIN" => Reason::ClusterDown,
            "MOVED" | "ASK" => Reason::Moved,
            "WRONGTYPE" => Reason::WrongType,
            "TOOLARGE" => Reason::TooLarge,
            // In a script it says so in other words, which are not the same in all versions.
            "ERR"
                if text.starts_with("ERR The user executing the script")
                    || text.starts_with("ERR ACL failure in script") =>
            {
                Reason::Permission
            }
            "ERR"
                if text.starts_with("ERR invalid password")
                    || text.contains("without any password configured") =>
            {
                Reason::Auth
            }
            "ERR" if text.starts_with("ERR max number of clients") => Reason::Busy,
            _ => Reason::Protocol,
        };
        Self::new(reason, text)
    }
}

impl Reason {
    /// Whether the server is not the one to talk to, so that all connections are to be made anew.
    pub(super) const fn asks_elsewhere(self) -> bool {
        matches!(
            self,
            Self::ReadOnly | Self::NoReplicas | Self::Loading | Self::ClusterDown | Self::Moved | Self::Auth
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_known_by_their_first_word() {
        for (text, reason) in [
            ("NOAUTH Authentication required.", Reason::Auth),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                Reason::Auth,
            ),
            (
                "NOPERM this user has no permissions to run the 'eval' command",
                Reason::Permission,
            ),
            (
                "READONLY You can't write against a read only replica. script: x",
                Reason::ReadOnly,
            ),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Reason::OutOfMemory,
            ),
            ("MOVED 12739 127.0.0.1:7001", Reason::Moved),
            ("CLUSTERDOWN Hash slot not served", Reason::ClusterDown),
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                Reason::WrongType,
            ),
            (
                "ERR The user executing the script can't run this command or subcommand script: ad7c, on @user_script:7.",
                Reason::Permission,
            ),
            (
                "ERR ACL failure in script: User gw has no permissions to run the 'hget' command",
                Reason::Permission,
            ),
            ("something else", Reason::Protocol),
        ] {
            assert_eq!(Fault::said(text).reason, reason, "{text}");
        }
        let fault = Fault::said("ERR bad arguments '3' 'AUTH' 'default' 's3cret'").without(Some("s3cret"));
        assert!(!fault.detail.contains("s3cret"), "{fault:?}");
        let fault = Fault::said(&format!("ERR a\r\nb{}", "x".repeat(9000)));
        assert!(fault.detail.len() <= MAX_DETAIL && !fault.detail.contains('\n'));
    }
}
