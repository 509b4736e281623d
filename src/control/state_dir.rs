//! The state directory: what one gateway keeps between its runs, and where its control socket lies.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where state goes when nothing is configured and the system lets us.
pub const SYSTEM_STATE_DIR: &str = "/var/lib/tidegate";

/// Name of the control socket in the state directory.
pub const CONTROL_SOCKET: &str = "control.sock";

const NODE_ID_FILE: &str = "node_id";
const INCARNATION_FILE: &str = "incarnation";
/// Longest node id that is read back.
const MAX_NODE_ID: usize = 64;

/// Why there is no state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    #[error("state directory {} can't be used", .path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "no state directory: {SYSTEM_STATE_DIR} can't be written, and neither XDG_STATE_HOME nor HOME is set"
    )]
    NoHome,
}

/// Where the state directory may be, most wanted first.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// `runtime.state_dir`: the only candidate when set.
    pub configured: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub state_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
}

impl Candidates {
    /// The directories to try, in order.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        if let Some(path) = &self.configured {
            return vec![path.clone()];
        }
        let state_home = self
            .state_home
            .clone()
            // The XDG specification: a relative value is to be ignored.
            .filter(|path| path.is_absolute())
            .or_else(|| self.home.as_ref().map(|home| home.join(".local/state")));
        let mut paths = vec![PathBuf::from(SYSTEM_STATE_DIR)];
        paths.extend(state_home.map(|path| path.join("tidegate")));
        paths
    }
}

/// A directory that exists and can be written.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Takes the first candidate that can be written, making it where it is missing.
    ///
    /// # Errors
    /// No candidate can be written; the last one's error.
    pub fn open(candidates: &Candidates) -> Result<Self, StateDirError> {
        let mut last = StateDirError::NoHome;
        let paths = candidates.paths();
        let only_system = paths.len() == 1 && candidates.configured.is_none();
        for path in paths {
            match make_writable(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(_) if only_system => {}
                Err(source) => last = StateDirError::Unusable { path, source },
            }
        }
        Err(last)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.path.join(CONTROL_SOCKET)
    }

    /// This node's id: made once, kept from then on. A file that holds anything else is replaced.
    ///
    /// # Errors
    /// The id cannot be stored.
    pub fn node_id(&self) -> io::Result<String> {
        let path = self.path.join(NODE_ID_FILE);
        if let Ok(text) = fs::read_to_string(&path)
            && is_node_id(text.trim())
        {
            return Ok(text.trim().to_owned());
        }
        let id = random_node_id();
        write_atomically(&path, format!("{id}\n").as_bytes())?;
        Ok(id)
    }

    /// The number of this start: higher than that of every earlier one.
    ///
    /// # Errors
    /// It cannot be stored.
    pub fn incarnation(&self) -> io::Result<u64> {
        let path = self.path.join(INCARNATION_FILE);
        let last = fs::read_to_string(&path)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let next = incarnation_after(last.unwrap_or(0));
        write_atomically(&path, format!("{next}\n").as_bytes())?;
        Ok(next)
    }
}

/// A number above this one that no earlier start had: the time, unless the clock went back.
#[must_use]
pub fn incarnation_after(last: u64) -> u64 {
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    now.max(last.saturating_add(1)).min((1 << 53) - 1)
}

/// An id for a node that has nowhere to keep one.
#[must_use]
pub fn random_node_id() -> String {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

fn is_node_id(text: &str) -> bool {
    (1..=MAX_NODE_ID).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn make_writable(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o750).create(path)?;
    // Permission bits do not tell: a read-only mount, an ACL. A file does.
    let probe = path.join(format!(".write-{}", std::process::id()));
    fs::write(&probe, b"")?;
    fs::remove_file(&probe)
}

/// What a file of ours holds; `None` when it is not there. Ours have at most `most` bytes.
///
/// # Errors
/// It can't be read, or is longer.
pub fn read_bounded(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(Some(bytes))
}

/// Replaces a file so that a reader sees the old content or the new, never a part.
///
/// # Errors
/// The directory cannot be written, or the disk is full; the old file is then as it was.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = fs::write(&temporary, content)
        .and_then(|()| fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644)))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What is left of the attempt is of no use; that it can't be removed is not what failed.
        drop(fs::remove_file(&temporary));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(configured: &Path) -> Candidates {
        Candidates {
            configured: Some(configured.to_path_buf()),
            ..Candidates::default()
        }
    }

    #[test]
    fn a_configured_directory_is_the_only_candidate() {
        let configured = Candidates {
            configured: Some("/srv/state".into()),
            state_home: Some("/home/a/.state".into()),
            home: Some("/home/a".into()),
        };
        assert_eq!(configured.paths(), [PathBuf::from("/srv/state")]);
    }

    #[test]
    fn without_configuration_the_system_directory_comes_before_the_users() {
        let mut found = Candidates {
            configured: None,
            state_home: Some("relative/is/ignored".into()),
            home: Some("/home/a".into()),
        };
        let user = PathBuf::from("/home/a/.local/state/tidegate");
        assert_eq!(found.paths(), [PathBuf::from(SYSTEM_STATE_DIR), user]);
        found.state_home = Some("/s".into());
        assert_eq!(found.paths()[1], PathBuf::from("/s/tidegate"));
    }

    #[test]
    fn a_node_keeps_its_id() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(&candidates(&directory.path().join("a/b"))).unwrap();
        let id = state.node_id().unwrap();
        assert_eq!(id.len(), 32);
        assert_eq!(state.node_id().unwrap(), id);
    }

    #[test]
    fn a_broken_node_id_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(&candidates(directory.path())).unwrap();
        for broken in ["", "two words", &"x".repeat(65), "a\0b"] {
            fs::write(directory.path().join(NODE_ID_FILE), broken).unwrap();
            let id = state.node_id().unwrap();
            assert!(is_node_id(&id), "{id:?} after {broken:?}");
        }
    }

    #[test]
    fn a_file_in_the_way_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        fs::write(&path, "").unwrap();
        let error = StateDir::open(&candidates(&path)).unwrap_err();
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }

    #[test]
    fn a_file_that_is_longer_than_ours_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert_eq!(read_bounded(&path, 3).unwrap(), None);
        fs::write(&path, "abc").unwrap();
        assert_eq!(read_bounded(&path, 3).unwrap().as_deref(), Some(&b"abc"[..]));
        assert!(read_bounded(&path, 2).is_err());
        assert!(read_bounded(directory.path(), 3).is_err(), "a directory");
    }

    #[test]
    fn an_atomic_write_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ready.json");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
