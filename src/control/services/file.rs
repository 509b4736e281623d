//! The registrations on disk: one JSON file in the state directory, replaced as a whole, soon after one changed.

use super::Instance;
use crate::control::state_dir::{read_bounded, write_atomically};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

const FILE: &str = "services.json";
const VERSION: u32 = 1;
/// Bytes of a file that is read; ours, with every registration at its longest, has fewer.
const MAX_BYTES: u64 = 128 << 20;

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    services: &'a [Instance],
}

#[derive(Deserialize)]
struct Stored {
    version: u32,
    services: Vec<Instance>,
}

/// Replaces the file of this state directory. Blocking.
///
/// # Errors
/// The directory cannot be written, or the disk is full; the file is then as it was.
pub fn save(state_dir: &Path, services: &[Instance]) -> io::Result<()> {
    let written = Written {
        version: VERSION,
        services,
    };
    write_atomically(&state_dir.join(FILE), &serde_json::to_vec(&written)?)
}

/// Reads the file of this state directory; none is no registration, and one that breaks our own bounds is none of
/// ours. Blocking.
///
/// # Errors
/// It is there and can't be taken.
pub fn load(state_dir: &Path) -> io::Result<Vec<Instance>> {
    let Some(bytes) = read_bounded(&state_dir.join(FILE), MAX_BYTES)? else {
        return Ok(Vec::new());
    };
    let stored: Stored = serde_json::from_slice(&bytes)?;
    if stored.version != VERSION {
        return Err(io::Error::other(format!("it has the version {}", stored.version)));
    }
    let ours = stored
        .services
        .into_iter()
        .filter(|instance| instance.service.check().is_ok());
    Ok(ours.collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::service;
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn what_is_saved_is_loaded_and_what_is_not_ours_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(load(directory.path()).unwrap().is_empty(), "there is no file");
        let good = Instance {
            service: service("a", "10.0.0.1"),
            registered_by: "token app".to_owned(),
            registered_at: Timestamp::UNIX_EPOCH,
            last_heartbeat: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
            heard_by: None,
        };
        let mut bad = good.clone();
        bad.service.port = 0;
        save(directory.path(), &[good.clone(), bad]).unwrap();
        assert_eq!(load(directory.path()).unwrap(), [good]);
        for text in ["", "{", "{\"version\":1}", "{\"version\":2,\"services\":[]}"] {
            std::fs::write(directory.path().join(FILE), text).unwrap();
            assert!(load(directory.path()).is_err(), "{text:?}");
        }
    }
}
