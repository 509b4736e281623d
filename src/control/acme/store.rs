//! What is kept of certificates and accounts: below the state directory, for nobody else to read, and each file
//! replaced as a whole.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Largest file that is read back.
const MAX_FILE: u64 = 1 << 20;

/// Writes beside a file, for it to be taken over by [`take_over`] once it is found good.
///
/// # Errors
/// The directory can't be made or written; nothing is left behind.
pub fn write_beside(path: &Path, content: &[u8]) -> io::Result<PathBuf> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    let beside = path.with_extension("new");
    let _not_there = fs::remove_file(&beside);
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
    match written {
        Ok(()) => Ok(beside),
        Err(error) => {
            discard(&beside);
            Err(error)
        }
    }
}

/// Puts it in the place of the file.
///
/// # Errors
/// The directory can't be written; the file is then as it was.
pub fn take_over(beside: &Path, path: &Path) -> io::Result<()> {
    fs::rename(beside, path).inspect_err(|_| discard(beside))
}

/// Lets go of what was written beside a file.
pub fn discard(beside: &Path) {
    if let Err(error) = fs::remove_file(beside)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(file = %beside.display(), %error, "could not be removed");
    }
}

/// Writes a file as a whole.
///
/// # Errors
/// As above.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    take_over(&write_beside(path, content)?, path)
}

/// Reads a file back; `None` when there is none.
///
/// # Errors
/// It can't be read, or is no such file.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    use io::Read as _;
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut content)?;
    Ok(Some(content))
}

/// Puts a file aside that is of no use, and says where it is.
///
/// # Errors
/// The directory can't be written.
pub fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = path.with_extension("old");
    fs::rename(path, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn nobody_else_reads_what_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/c.pem");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_left_open_is_not_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.pem");
        fs::write(directory.path().join("c.new"), "left by a crash, and readable").unwrap();
        let beside = write_beside(&path, b"key").unwrap();
        assert_eq!(fs::metadata(&beside).unwrap().permissions().mode() & 0o777, 0o600);
        discard(&beside);
        assert!(read(&path).unwrap().is_none());
    }

    #[test]
    fn what_is_of_no_use_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("account.json");
        write(&path, b"x").unwrap();
        assert_eq!(fs::read(put_aside(&path).unwrap()).unwrap(), b"x");
        assert!(read(&path).unwrap().is_none());
    }
}
