//! The configuration that gateways share, as the store has it: one version in force, and the last ones before it. What
//! is in it is nothing to the bus; whoever publishes says which version it replaces, so that of two at once one is
//! late.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Largest content: a text of a mebibyte, sealed.
pub const MAX_CONTENT: usize = 3 << 19;
/// Longest summary of a version.
pub const MAX_ABOUT: usize = 16 << 10;
/// Versions that are kept, the one in force counted.
pub const KEPT: u64 = 10;
/// How long a content that was laid out for others to look at is there.
pub const LAID_OUT: Duration = Duration::from_secs(60);

/// Which content is in force; version 0 where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMark {
    pub version: u64,
    /// Of the content, in hexadecimal digits.
    pub sha256: String,
}

/// The configuration that the cluster shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedConfig {
    pub mark: ConfigMark,
    pub content: Bytes,
}

/// A version that is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// What it is to replace: the version in force, 0 where there is none.
    pub expected: u64,
    /// Above that.
    pub version: u64,
    pub content: Bytes,
    /// What lists show of it.
    pub about: Bytes,
}

/// What came of publishing a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Under this version.
    Version(u64),
    /// Somebody was first; this is the version in force.
    Conflict(u64),
}

/// What a content is known by, in hexadecimal digits.
#[must_use]
pub fn sha256(content: &[u8]) -> String {
    let digest = digest(&SHA256, content);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a process keeps where there is no other store.
#[derive(Debug, Default)]
pub(super) struct Configs {
    /// Versions by number: content and summary. The last is in force.
    versions: BTreeMap<u64, (Bytes, Bytes)>,
    laid_out: Option<(String, Bytes, Instant)>,
}

impl Configs {
    pub(super) fn mark(&self) -> ConfigMark {
        self.now().map(|now| now.mark).unwrap_or_default()
    }

    pub(super) fn now(&self) -> Option<SharedConfig> {
        let (version, (content, _)) = self.versions.last_key_value()?;
        Some(SharedConfig {
            mark: ConfigMark {
                version: *version,
                sha256: sha256(content),
            },
            content: content.clone(),
        })
    }

    pub(super) fn publish(&mut self, new: Publication) -> Published {
        let current = self.versions.keys().next_back().copied().unwrap_or(0);
        if current != new.expected {
            return Published::Conflict(current);
        }
        self.versions.insert(new.version, (new.content, new.about));
        self.versions = self.versions.split_off(&(new.version + 1).saturating_sub(KEPT));
        Published::Version(new.version)
    }

    pub(super) fn list(&self) -> Vec<(u64, Bytes)> {
        let versions = self.versions.iter();
        versions
            .map(|(version, (_, about))| (*version, about.clone()))
            .collect()
    }

    pub(super) fn version(&self, version: u64) -> Option<Bytes> {
        Some(self.versions.get(&version)?.0.clone())
    }

    pub(super) fn lay_out(&mut self, id: &str, content: Bytes) {
        self.laid_out = Some((id.to_owned(), content, Instant::now()));
    }

    pub(super) fn laid_out(&self, id: &str) -> Option<Bytes> {
        let (known, content, at) = self.laid_out.as_ref()?;
        (known == id && at.elapsed() < LAID_OUT).then(|| content.clone())
    }
}
