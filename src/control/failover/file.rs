//! The history on disk: one JSON file in the state directory, replaced as a whole, a second after something came.

use super::Entry;
use crate::control::state_dir::{read_bounded, write_atomically};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::path::Path;

const FILE: &str = "failovers.json";
const VERSION: u32 = 1;
/// Bytes of a file that is read; ours has fewer.
const MAX_BYTES: u64 = 8 << 20;

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    version: u32,
    entries: Cow<'a, [Entry]>,
}

/// Replaces the file of this state directory. Blocking.
///
/// # Errors
/// The directory cannot be written, or the disk is full; the file is then as it was.
pub fn save(state_dir: &Path, entries: &[Entry]) -> io::Result<()> {
    let stored = Stored {
        version: VERSION,
        entries: entries.into(),
    };
    write_atomically(&state_dir.join(FILE), &serde_json::to_vec(&stored)?)
}

/// Reads the file of this state directory; none is no history. Blocking.
///
/// # Errors
/// It is there and can't be taken.
pub fn load(state_dir: &Path) -> io::Result<VecDeque<Entry>> {
    let Some(bytes) = read_bounded(&state_dir.join(FILE), MAX_BYTES)? else {
        return Ok(VecDeque::new());
    };
    let stored: Stored<'_> = serde_json::from_slice(&bytes)?;
    if stored.version != VERSION {
        return Err(io::Error::other(format!("it has the version {}", stored.version)));
    }
    Ok(stored.entries.into_owned().into())
}

#[cfg(test)]
mod tests {
    use super::super::Trigger;
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_what_is_not_ours_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(load(directory.path()).unwrap().is_empty(), "there is no file");
        let entry = Entry {
            id: 7,
            time: "2026-11-21T03:00:00Z".to_owned(),
            node: "app/a:1".to_owned(),
            upstream: "app".to_owned(),
            address: "a:1".to_owned(),
            from: "active".to_owned(),
            to: "ejected".to_owned(),
            trigger: Trigger::Passive,
            reason: "why".to_owned(),
            detection_ms: None,
            in_flight: 1,
            retried: 2,
            failed: 3,
        };
        save(directory.path(), &[entry.clone(), entry.clone()]).unwrap();
        assert_eq!(load(directory.path()).unwrap(), [entry.clone(), entry]);
        for text in ["", "{", "{\"version\":1}", "{\"version\":2,\"entries\":[]}"] {
            std::fs::write(directory.path().join(FILE), text).unwrap();
            assert!(load(directory.path()).is_err(), "{text:?}");
        }
    }
}
