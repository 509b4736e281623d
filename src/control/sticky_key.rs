//! The secret in the state directory that sticky cookies are signed with where the configuration names none.
//!
//! It is made once, by whoever comes first of several gateways that share the directory, and is the same from then
//! on: over restarts, and for every gateway that is given a copy of the file (or names it in `sticky.keys`).

use super::state_dir::{Candidates, StateDir};
use aws_lc_rs::rand;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Name of the file in the state directory.
pub const FILE: &str = "sticky_key";
/// Bytes of randomness in a secret that is made here; it is written in hexadecimal.
const RANDOM: usize = 32;
/// Characters that a secret has at least, whoever wrote the file.
const SHORTEST: usize = 32;
/// Characters that it has at most.
const LONGEST: u64 = 4096;

/// The secret, read or made. Without a state directory it is made for this run only, and that is told, unless the
/// directory was asked for.
///
/// # Errors
/// The file can't be read or made, or holds something else.
pub fn secret(candidates: &Candidates) -> io::Result<Vec<u8>> {
    match StateDir::open(candidates) {
        Ok(state) => read_or_make(state.path()),
        Err(error) if candidates.configured.is_some() => Err(io::Error::other(error)),
        Err(error) => {
            tracing::warn!(
                %error,
                "sticky cookies are signed with a key that is not kept: sessions end with this run; set runtime.state_dir or sticky.keys"
            );
            random().map(String::into_bytes)
        }
    }
}

fn read_or_make(directory: &Path) -> io::Result<Vec<u8>> {
    let path = directory.join(FILE);
    match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    make(directory, &path)?;
    // What counts is what stands there now: another gateway may have been quicker.
    read(&path)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let about = fs::metadata(path)?;
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{} {what}", path.display()));
    if about.len() > LONGEST {
        return Err(wrong("is too large to be a key"));
    }
    if about.mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "the key of sticky cookies can be read by others: chmod 600");
    }
    let text = fs::read_to_string(path)?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.len() < SHORTEST {
        return Err(wrong(&format!(
            "holds less than {SHORTEST} characters; without the file a key is made"
        )));
    }
    Ok(secret.as_bytes().to_vec())
}

/// Puts a whole file in place, unless there is one.
fn make(directory: &Path, path: &Path) -> io::Result<()> {
    let temporary = directory.join(format!(".{FILE}.{:016x}.tmp", fastrand::u64(..)));
    let made = write(&temporary).and_then(|()| fs::hard_link(&temporary, path));
    // That it can't be removed is not what failed.
    drop(fs::remove_file(&temporary));
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.exists() => Ok(()),
        Ok(()) => File::open(directory)?.sync_all(),
        Err(error) => Err(error),
    }
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(format!("{}\n", random()?).as_bytes())?;
    file.sync_all()
}

fn random() -> io::Result<String> {
    let mut bytes = [0; RANDOM];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("there is no randomness"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
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
    fn a_key_is_made_once_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let made = secret(&candidates(directory.path())).unwrap();
        assert_eq!(made.len(), 2 * RANDOM);
        assert_eq!(secret(&candidates(directory.path())).unwrap(), made);
        let mode = fs::metadata(directory.path().join(FILE)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "nothing is left over"
        );
        let other = tempfile::tempdir().unwrap();
        assert_ne!(secret(&candidates(other.path())).unwrap(), made);
    }

    #[test]
    fn all_who_start_at_once_have_the_same_key() {
        let directory = tempfile::tempdir().unwrap();
        let all: Vec<_> = std::thread::scope(|scope| {
            let start = || scope.spawn(|| read_or_make(directory.path()).unwrap());
            let started: Vec<_> = (0..16).map(|_| start()).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|key| *key == all[0]));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_holds_no_key_is_told_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        for (content, told) in [
            ("", "32 characters"),
            ("short\n", "32 characters"),
            (&*"x".repeat(5000), "too large"),
        ] {
            fs::write(&path, content).unwrap();
            let error = secret(&candidates(directory.path())).unwrap_err().to_string();
            assert!(error.contains(told) && error.contains("sticky_key"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_key_of_ones_own_is_taken_as_the_configuration_would_take_it() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), format!("{}\r\n", "k".repeat(32))).unwrap();
        assert_eq!(
            secret(&candidates(directory.path())).unwrap(),
            "k".repeat(32).as_bytes()
        );
    }
}
