//! Reading files with bounds, and remembering every one that was touched: what was read, or should have been
//! readable, is what must be watched.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of one configuration file.
pub const MAX_FILE_BYTES: u64 = 16 << 20;
/// Bytes of one error page.
pub const MAX_PAGE_BYTES: u64 = 1 << 20;
/// Bytes of one file with certificates or a key.
pub const MAX_PEM_BYTES: u64 = 1 << 20;
/// Bytes of one file with lists of revoked certificates.
pub const MAX_CRL_BYTES: u64 = 16 << 20;
/// Bytes of one secret file.
pub const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("can't be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("is a directory; a file is expected")]
    Directory,
    #[error("is not a regular file")]
    NotRegular,
    #[error("is larger than the {} MiB allowed", .0 >> 20)]
    TooLarge(u64),
    #[error("is not UTF-8: the byte at offset {0} is invalid")]
    NotUtf8(usize),
    #[error("is UTF-16; save it as UTF-8")]
    Utf16,
}

/// Files touched by one load.
#[derive(Debug, Default)]
pub struct Files {
    paths: Vec<PathBuf>,
    directories: BTreeSet<PathBuf>,
    hasher: DefaultHasher,
}

impl Files {
    /// Reads at most `limit` bytes. A pipe is read only where `pipe` allows it: reading one may wait for ever.
    pub fn read(&mut self, path: &Path, limit: u64, pipe: bool) -> Result<Vec<u8>, FileError> {
        self.note(path);
        let kind = std::fs::metadata(path)?.file_type();
        if kind.is_dir() {
            return Err(FileError::Directory);
        }
        if !kind.is_file() && !pipe {
            return Err(FileError::NotRegular);
        }
        let mut bytes = Vec::new();
        std::fs::File::open(path)?
            .take(limit + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(FileError::TooLarge(limit));
        }
        path.hash(&mut self.hasher);
        bytes.hash(&mut self.hasher);
        Ok(bytes)
    }

    /// As [`Self::read`], for text; a byte order mark is left out.
    pub fn read_text(&mut self, path: &Path, limit: u64, pipe: bool) -> Result<String, FileError> {
        let mut bytes = self.read(path, limit, pipe)?;
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            return Err(FileError::Utf16);
        }
        if bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        String::from_utf8(bytes).map_err(|error| FileError::NotUtf8(error.utf8_error().valid_up_to()))
    }

    /// A file that matters though it is not read here.
    fn note(&mut self, path: &Path) {
        if !self.paths.iter().any(|known| known == path) {
            self.paths.push(path.to_owned());
        }
        if let Some(parent) = path.parent() {
            self.note_directory(parent);
        }
    }

    /// A directory whose contents matter.
    pub fn note_directory(&mut self, path: &Path) {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        self.directories.insert(path.to_owned());
    }

    /// Counts something else into the fingerprint.
    pub fn count(&mut self, what: impl Hash) {
        what.hash(&mut self.hasher);
    }

    /// Every file, every directory to watch, and the fingerprint of all that was read.
    #[must_use]
    pub fn finish(self) -> (Vec<PathBuf>, Vec<PathBuf>, u64) {
        (
            self.paths,
            self.directories.into_iter().collect(),
            self.hasher.finish(),
        )
    }
}
