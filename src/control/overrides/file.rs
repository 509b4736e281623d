//! The overrides on disk: one JSON file in the state directory, replaced as a whole with every change.

use crate::config::Choice;
use crate::config::form::{pattern, quantity};
use crate::config::model::{Balance, HashKey};
use crate::control::state_dir::write_atomically;
use crate::upstream::shared::overrides::{
    Algorithm, EndpointOverride, Leave, MAX_OVERRIDES, Override, Overrides, Thresholds,
};
use crate::upstream::shared::{AdminState, EndpointKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Name of the file in the state directory.
pub const FILE: &str = "overrides.json";
/// What a file that can't be read is renamed to.
const ASIDE: &str = "overrides.json.damaged";
const VERSION: u32 = 1;
/// Bytes of a file that is read; ours, with every override at its longest, has fewer.
const MAX_BYTES: u64 = 64 << 20;

/// Why the file can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("it is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    #[error("it has the version {0}, this program writes and reads {VERSION}")]
    Version(u32),
    #[error("it has {0} entries, more than {MAX_OVERRIDES}")]
    TooMany(usize),
    #[error("it is damaged: {0:?} is no {1}")]
    Word(String, &'static str),
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    #[serde(default)]
    endpoints: Vec<StoredEndpoint>,
    #[serde(default)]
    balances: Vec<StoredBalance>,
    #[serde(default)]
    thresholds: Vec<StoredThresholds>,
}

#[derive(Serialize, Deserialize)]
struct StoredEndpoint {
    upstream: String,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<StoredLeave>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<StoredWeight>,
}

#[derive(Serialize, Deserialize)]
struct StoredLeave {
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<String>,
    #[serde(flatten)]
    said: Said,
}

#[derive(Serialize, Deserialize)]
struct StoredWeight {
    value: u32,
    #[serde(flatten)]
    said: Said,
}

#[derive(Serialize, Deserialize)]
struct StoredBalance {
    upstream: String,
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(flatten)]
    said: Said,
}

#[derive(Serialize, Deserialize)]
struct StoredThresholds {
    upstream: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detection_timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fall: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rise: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consecutive_failures: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(flatten)]
    said: Said,
}

#[derive(Serialize, Deserialize)]
struct Said {
    by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

impl Said {
    fn of<T>(told: &Override<T>) -> Self {
        Self {
            by: told.by.clone(),
            node: told.node.clone(),
            since: told.since.to_string(),
            reason: told.reason.clone(),
            until: told.until.map(|until| until.to_string()),
        }
    }

    fn says<T>(self, value: T) -> Result<Override<T>, FileError> {
        Ok(Override {
            value,
            by: self.by,
            node: self.node,
            since: time(&self.since)?,
            reason: self.reason,
            until: self.until.as_deref().map(time).transpose()?,
        })
    }
}

fn time(text: &str) -> Result<Timestamp, FileError> {
    text.parse().map_err(|_| FileError::Word(text.to_owned(), "time"))
}

/// Replaces the file of this state directory. Blocking.
///
/// # Errors
/// The directory cannot be written, or the disk is full; the file is then as it was.
pub fn save(state_dir: &Path, overrides: &Overrides) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(&stored(overrides))?;
    write_atomically(&state_dir.join(FILE), &text)
}

/// The same on one line.
pub(super) fn text(overrides: &Overrides) -> serde_json::Result<String> {
    serde_json::to_string(&stored(overrides))
}

fn stored(overrides: &Overrides) -> Stored {
    let endpoint = |(key, told): (&EndpointKey, &EndpointOverride)| StoredEndpoint {
        upstream: key.upstream.to_string(),
        address: key.address.to_string(),
        state: told.leave.as_ref().map(|leave| StoredLeave {
            value: leave.value.state.name().to_owned(),
            deadline: leave.value.deadline.map(|deadline| deadline.to_string()),
            said: Said::of(leave),
        }),
        weight: told.weight.as_ref().map(|weight| StoredWeight {
            value: weight.value,
            said: Said::of(weight),
        }),
    };
    Stored {
        version: VERSION,
        endpoints: overrides.endpoints().map(endpoint).collect(),
        balances: overrides
            .balances()
            .map(|(upstream, told)| StoredBalance {
                upstream: upstream.to_string(),
                value: told.value.balance.name().to_owned(),
                key: told.value.key.as_ref().map(ToString::to_string),
                said: Said::of(told),
            })
            .collect(),
        thresholds: overrides.all_thresholds().map(stored_thresholds).collect(),
    }
}

fn stored_thresholds((upstream, told): (&Arc<str>, &Override<Thresholds>)) -> StoredThresholds {
    let value = &told.value;
    StoredThresholds {
        upstream: upstream.to_string(),
        detection_timeout: value.detection_timeout.map(quantity::write_duration),
        fall: value.fall,
        rise: value.rise,
        consecutive_failures: value.consecutive_failures,
        error_rate: value.error_rate,
        recovery_timeout: value.recovery_timeout.map(quantity::write_duration),
        max_attempts: value.max_attempts,
        said: Said::of(told),
    }
}

/// Reads the file of this state directory; none is no overrides. Blocking.
///
/// # Errors
/// It is there and can't be taken.
pub fn load(state_dir: &Path) -> Result<Overrides, FileError> {
    let file = match File::open(state_dir.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Overrides::default()),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FileError::TooLarge);
    }
    read(&bytes)
}

pub(super) fn read(bytes: &[u8]) -> Result<Overrides, FileError> {
    /// Read first, so that a later version is called that and not damaged.
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(bytes)?;
    if version != VERSION {
        return Err(FileError::Version(version));
    }
    let stored: Stored = serde_json::from_slice(bytes)?;
    let count = stored.endpoints.len() + stored.balances.len() + stored.thresholds.len();
    if count > MAX_OVERRIDES {
        return Err(FileError::TooMany(count));
    }
    let mut overrides = Overrides::default();
    for endpoint in stored.endpoints {
        let key = EndpointKey {
            upstream: endpoint.upstream.into(),
            address: endpoint.address.into(),
        };
        let told = EndpointOverride {
            leave: endpoint.state.map(read_leave).transpose()?,
            weight: endpoint
                .weight
                .map(|weight| weight.said.says(weight.value))
                .transpose()?,
        };
        overrides.set_endpoint(key, told);
    }
    for balance in stored.balances {
        let algorithm = Algorithm {
            balance: Balance::from_name(&balance.value)
                .ok_or_else(|| FileError::Word(balance.value.clone(), "algorithm"))?,
            key: balance.key.as_deref().map(hash_key).transpose()?,
        };
        overrides.set_balance(balance.upstream.into(), Some(balance.said.says(algorithm)?));
    }
    for stored in stored.thresholds {
        let thresholds = Thresholds {
            detection_timeout: stored.detection_timeout.as_deref().map(duration).transpose()?,
            fall: stored.fall,
            rise: stored.rise,
            consecutive_failures: stored.consecutive_failures,
            error_rate: stored.error_rate,
            recovery_timeout: stored.recovery_timeout.as_deref().map(duration).transpose()?,
            max_attempts: stored.max_attempts,
        };
        overrides.set_thresholds(stored.upstream.into(), stored.said.says(thresholds)?);
    }
    Ok(overrides)
}

fn duration(text: &str) -> Result<Duration, FileError> {
    quantity::duration(text).map_err(|_| FileError::Word(text.to_owned(), "duration"))
}

fn hash_key(text: &str) -> Result<HashKey, FileError> {
    pattern::hash_key(text).map_err(|_| FileError::Word(text.to_owned(), "hash key"))
}

fn read_leave(stored: StoredLeave) -> Result<Override<Leave>, FileError> {
    let state = AdminState::from_name(&stored.value)
        .filter(|state| *state != AdminState::Active)
        .ok_or_else(|| FileError::Word(stored.value.clone(), "state"))?;
    let deadline = stored.deadline.as_deref().map(time).transpose()?;
    stored.said.says(Leave { state, deadline })
}

/// Moves a file that can't be taken out of the way, where somebody may look at it; gives where it lies.
///
/// # Errors
/// It can't be moved, and the next change will replace it.
pub fn put_aside(state_dir: &Path) -> io::Result<PathBuf> {
    let aside = state_dir.join(ASIDE);
    std::fs::rename(state_dir.join(FILE), &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thresholds() -> Thresholds {
        Thresholds {
            detection_timeout: Some(Duration::from_millis(250)),
            fall: Some(1),
            rise: Some(2),
            consecutive_failures: Some(0),
            error_rate: Some(0.25),
            recovery_timeout: Some(Duration::from_secs(90)),
            max_attempts: Some(3),
        }
    }

    fn some() -> Overrides {
        fn said<T>(value: T) -> Override<T> {
            Override {
                value,
                by: "token ops".to_owned(),
                node: Some("gw-1".to_owned()),
                since: "2026-11-21T03:00:00Z".parse().unwrap(),
                reason: Some("new \"disk\"\n".to_owned()),
                until: Some("2026-11-22T03:00:00Z".parse().unwrap()),
            }
        }
        let mut overrides = Overrides::default();
        for (address, deadline) in [
            ("10.0.0.1:80", None),
            ("unix:/run/a.sock", Some(Timestamp::UNIX_EPOCH)),
        ] {
            let key = EndpointKey {
                upstream: "app".into(),
                address: address.into(),
            };
            let leave = Leave {
                state: AdminState::Maintenance,
                deadline,
            };
            let told = EndpointOverride {
                leave: Some(said(leave)),
                weight: Some(said(7)),
            };
            overrides.set_endpoint(key, told);
        }
        for (upstream, balance, key) in [
            ("app", Balance::LeastConnections, None),
            ("api", Balance::Hash, Some(HashKey::Header("x-user".to_owned()))),
        ] {
            let algorithm = Algorithm { balance, key };
            overrides.set_balance(upstream.into(), Some(said(algorithm)));
        }
        overrides.set_thresholds("app".into(), said(thresholds()));
        overrides
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        assert!(load(directory.path()).unwrap().is_empty(), "there is no file");
        for overrides in [some(), Overrides::default()] {
            save(directory.path(), &overrides).unwrap();
            assert_eq!(load(directory.path()).unwrap(), overrides);
        }
    }

    #[test]
    fn a_file_that_is_not_ours_is_told_as_what_it_is() {
        let error = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
        for damaged in ["", "{", "[]", "{}", "{\"version\":1,\"endpoints\":7}", "\0\0\0"] {
            assert!(
                error(damaged).contains("damaged"),
                "{damaged:?}: {}",
                error(damaged)
            );
        }
        assert!(error("{\"version\":2,\"new\":[]}").contains("version 2"));
        let whole = serde_json::to_string(&stored(&some())).unwrap();
        for (from, to) in [
            ("maintenance", "gone"),
            ("maintenance", "active"),
            ("least_connections", "best"),
            ("header:x-user", "moon:phase"),
            ("250ms", "soon"),
            ("2026-11-21T03:00:00Z", "yesterday"),
        ] {
            assert!(error(&whole.replace(from, to)).contains("damaged"), "{to}");
        }
        for cut in 1..whole.len() {
            assert!(read(&whole.as_bytes()[..cut]).is_err());
        }
    }

    #[test]
    fn a_file_is_put_aside_whole() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), "half a f").unwrap();
        let aside = put_aside(directory.path()).unwrap();
        assert_eq!(std::fs::read_to_string(aside).unwrap(), "half a f");
        assert!(load(directory.path()).unwrap().is_empty());
    }
}
