//! One version of the shared configuration, and how it is written: a line of JSON about it, then the text as it was
//! given. With `cluster.key` all of that is sealed, bound to the cluster and to the version, so that nothing is taken
//! that another cluster published, or that was in force once. Pure.

use crate::cluster::configs::sha256;
use crate::config::SharedText;
use crate::control::sharing::seal::{OpenError, Seal};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Longest text that is published.
pub const MAX_TEXT: usize = 1 << 20;
/// Longest reason, and longest name of who published.
pub const MAX_WORDS: usize = 512;

/// What is told of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub version: u64,
    pub cluster: String,
    /// Of the text, in hexadecimal digits.
    pub sha256: String,
    pub bytes: usize,
    /// Without it the configuration was taken back: gateways go by their own files.
    pub there: bool,
    /// Who published it, and through which gateway.
    pub author: String,
    pub node: String,
    /// RFC 3339.
    pub at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The version whose text this is again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<u64>,
}

/// A version with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub about: About,
    pub text: Option<Arc<str>>,
}

/// Why what is in the store can't be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("it is not sealed, though this gateway has a cluster.key")]
    Unsealed,
    #[error("it is sealed, and this gateway has no cluster.key")]
    Sealed,
    #[error("{0}")]
    Seal(#[from] OpenError),
    #[error("it is no configuration that a gateway wrote")]
    Garbage,
    #[error("it is that of the cluster {0:?}")]
    Cluster(String),
    #[error("it was written as version {0}")]
    Version(u64),
    #[error("its text is not what its hash says")]
    Hash,
    #[error("it is longer than {MAX_TEXT} bytes")]
    TooLong,
}

/// How a sealed text begins.
const SEALED: &[u8] = b"1:";

impl Document {
    /// What is shared of it in place of the file's sections; `None` where it was taken back.
    #[must_use]
    pub fn shared_text(&self) -> Option<SharedText> {
        Some(SharedText {
            name: format!("cluster version {}", self.about.version),
            text: Arc::clone(self.text.as_ref()?),
            news: false,
        })
    }

    /// Whether it says the same under the same version.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let key = |about: &About| (about.version, about.there, about.sha256.clone());
        key(&self.about) == key(&other.about)
    }

    /// As it is stored; `None` only when the provider of cryptography fails.
    #[must_use]
    pub fn content(&self, seal: Option<&Seal>) -> Option<Bytes> {
        let mut plain = serde_json::to_vec(&self.about).ok()?;
        plain.push(b'\n');
        plain.extend_from_slice(self.text.as_deref().unwrap_or_default().as_bytes());
        sealed(seal, &purpose(self.about.version), plain)
    }

    /// What lists show of it, as it is stored.
    #[must_use]
    pub fn summary(&self, seal: Option<&Seal>) -> Option<Bytes> {
        let plain = serde_json::to_vec(&self.about).ok()?;
        sealed(seal, &summary_purpose(self.about.version), plain)
    }

    /// What is stored as this version of a cluster.
    ///
    /// # Errors
    /// It is not that.
    pub fn read(
        version: u64,
        content: &[u8],
        cluster: &str,
        seal: Option<&Seal>,
    ) -> Result<Self, Unreadable> {
        let plain = opened(seal, &purpose(version), content)?;
        let plain = String::from_utf8(plain).map_err(|_| Unreadable::Garbage)?;
        let (line, text) = plain.split_once('\n').ok_or(Unreadable::Garbage)?;
        let about = about(line.as_bytes(), version, cluster)?;
        if text.len() > MAX_TEXT {
            return Err(Unreadable::TooLong);
        }
        if about.sha256 != sha256(text.as_bytes()) || about.there == text.is_empty() {
            return Err(Unreadable::Hash);
        }
        let text = about.there.then(|| text.into());
        Ok(Self { about, text })
    }
}

/// What is stored as the summary of a version.
///
/// # Errors
/// It is not that.
pub fn read_summary(
    version: u64,
    summary: &[u8],
    cluster: &str,
    seal: Option<&Seal>,
) -> Result<About, Unreadable> {
    about(
        &opened(seal, &summary_purpose(version), summary)?,
        version,
        cluster,
    )
}

fn about(json: &[u8], version: u64, cluster: &str) -> Result<About, Unreadable> {
    let mut about: About = serde_json::from_slice(json).map_err(|_| Unreadable::Garbage)?;
    if about.cluster != cluster {
        return Err(Unreadable::Cluster(words(&about.cluster)));
    }
    if about.version != version {
        return Err(Unreadable::Version(about.version));
    }
    // Without a key anybody may have written it.
    for text in [&mut about.author, &mut about.node, &mut about.at] {
        *text = words(text);
    }
    about.reason = about.reason.as_deref().map(words);
    Ok(about)
}

/// Words on one line, and not too many.
#[must_use]
pub fn words(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_WORDS).collect()
}

fn purpose(version: u64) -> String {
    format!("config {version}")
}

fn summary_purpose(version: u64) -> String {
    format!("config summary {version}")
}

fn sealed(seal: Option<&Seal>, purpose: &str, plain: Vec<u8>) -> Option<Bytes> {
    match seal {
        Some(seal) => Some(seal.seal(purpose, &plain)?.into()),
        None => Some(plain.into()),
    }
}

fn opened(seal: Option<&Seal>, purpose: &str, stored: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let is_sealed = stored.starts_with(SEALED);
    match seal {
        Some(_) if !is_sealed => Err(Unreadable::Unsealed),
        None if is_sealed => Err(Unreadable::Sealed),
        None => Ok(stored.to_vec()),
        Some(seal) => {
            let text = std::str::from_utf8(stored).map_err(|_| Unreadable::Garbage)?;
            Ok(seal.open(purpose, text)?)
        }
    }
}

#[cfg(test)]
pub(in crate::control::sharing::config) mod tests;
