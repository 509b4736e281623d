//! The ready file: what was bound, as JSON, once the gateway serves.

use crate::control::process::Identity;
use crate::control::state_dir::write_atomically;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where readiness will be written.
#[derive(Debug)]
pub(super) struct ReadyFile {
    path: PathBuf,
    /// Opened while that was still allowed. A user of lower privileges may not write in the directory: then the
    /// file exists from the start, empty, and gets its content in one write.
    held: Option<File>,
}

impl ReadyFile {
    /// Makes sure that it can be written by who the process will be.
    pub fn reserve(path: &Path, identity: Option<&Identity>) -> io::Result<Self> {
        let held = match identity {
            Some(identity) => {
                let file = File::create(path)?;
                identity.own(path)?;
                Some(file)
            }
            None => None,
        };
        Ok(Self {
            path: path.to_path_buf(),
            held,
        })
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it: a reader sees all or nothing.
    pub fn publish(self, content: &[u8]) -> io::Result<()> {
        match (write_atomically(&self.path, content), self.held) {
            (Err(_), Some(mut file)) => file.write_all(content),
            (written, _) => written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_closed_by_then_is_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ready.json");
        let held = Some(File::create(&path).unwrap());
        let elsewhere = directory.path().join("gone/ready.json");
        ReadyFile {
            path: elsewhere,
            held,
        }
        .publish(b"{}")
        .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{}");
    }

    #[test]
    fn without_a_change_of_user_nothing_is_there_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ready.json");
        let ready = ReadyFile::reserve(&path, None).unwrap();
        assert!(!path.exists());
        ready.publish(b"{}").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{}");
    }
}
