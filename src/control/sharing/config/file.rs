//! The version in force, in the state directory: for nobody else to read, replaced as a whole. A start takes it up
//! before there is any Redis to ask.

use super::document::{About, Document, MAX_TEXT, Unreadable};
use crate::control::acme::store;
use crate::control::state_dir::read_bounded;
use std::io;
use std::path::Path;

/// Name of the file.
pub const FILE: &str = "cluster_config";
/// Bytes of a file that is read; ours has fewer.
const MAX_BYTES: u64 = MAX_TEXT as u64 + (64 << 10);

/// Why a file can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// Replaces the file of this state directory. Blocking.
///
/// # Errors
/// The directory cannot be written, or the disk is full; the file is then as it was.
pub fn save(directory: &Path, document: &Document) -> io::Result<()> {
    let content = document
        .content(None)
        .ok_or_else(|| io::Error::other("it can't be written"))?;
    store::write(&directory.join(FILE), &content)
}

/// Reads the file of this state directory, for a gateway of this cluster; `None` where there is none. Blocking.
///
/// # Errors
/// It is there and can't be taken.
pub fn load(directory: &Path, cluster: &str) -> Result<Option<Document>, KeptError> {
    let Some(bytes) = read_bounded(&directory.join(FILE), MAX_BYTES)? else {
        return Ok(None);
    };
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let about: About = serde_json::from_slice(line).map_err(|_| Unreadable::Garbage)?;
    Ok(Some(Document::read(about.version, &bytes, cluster, None)?))
}

#[cfg(test)]
mod tests {
    use super::super::document::tests::document;
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_kept_is_read_back_and_is_for_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        assert!(load(directory.path(), "prod").unwrap().is_none());
        for text in [Some("[dns]\nmin_ttl = \"1s\"\n"), None] {
            let kept = document(7, text);
            save(directory.path(), &kept).unwrap();
            assert_eq!(load(directory.path(), "prod").unwrap(), Some(kept));
        }
        let about = std::fs::metadata(directory.path().join(FILE)).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
        assert!(
            load(directory.path(), "test").is_err(),
            "the gateway was moved to another cluster"
        );
    }

    #[test]
    fn a_damaged_file_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let whole = document(7, Some("[dns]\n")).content(None).unwrap();
        for damaged in [
            &b""[..],
            b"{",
            b"\xff\n",
            &whole[..whole.len() - 1],
            &[&whole[..], b"more"].concat(),
        ] {
            std::fs::write(&path, damaged).unwrap();
            assert!(load(directory.path(), "prod").is_err(), "{damaged:?}");
        }
        std::fs::write(&path, vec![b'x'; usize::try_from(MAX_BYTES).unwrap() + 1]).unwrap();
        assert!(load(directory.path(), "prod").is_err());
    }
}
