//! What the process asks of the kernel for itself: open files, a pid file, another user.

use super::state_dir::write_atomically;
use nix::unistd::{Gid, Group, Uid, User};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Share of the open files, and least number of them, that accepting leaves to endpoints, logs and control.
const RESERVED_SHARE: u64 = 16;
const RESERVED_LEAST: u64 = 16;

/// Raises the limit of open files to the most the system allows and gives it.
///
/// # Errors
/// The kernel refuses to raise it.
pub fn raise_open_files() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, wanted)?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Highest descriptor number that accepting may use: above it are those that connections accepted already need
/// for their endpoints.
#[must_use]
pub fn client_descriptors(open_files: u64) -> usize {
    let reserved = (open_files / RESERVED_SHARE).max(RESERVED_LEAST);
    usize::try_from(open_files.saturating_sub(reserved)).unwrap_or(usize::MAX)
}

/// A sentence for the log when `max_connections` clients, each with a connection to an endpoint, need more
/// descriptors than the process may open.
#[must_use]
pub fn too_few_files(open_files: u64, max_connections: usize) -> Option<String> {
    let needed = (max_connections as u64).saturating_mul(2);
    (max_connections > 0 && needed > open_files).then(|| {
        format!(
            "runtime.max_connections = {max_connections} may need {needed} open files, the limit is {open_files}: \
             raise it (LimitNOFILE= in the unit, ulimit -Hn) or lower runtime.max_connections; accepting pauses \
             when it is reached"
        )
    })
}

/// Why the process can't become somebody else.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    #[error("runtime.user: there is no user {0:?}")]
    NoUser(String),
    #[error("runtime.group: there is no group {0:?}")]
    NoGroup(String),
    #[error("runtime.user and runtime.group need root: this process runs as uid {0}")]
    NotRoot(u32),
    #[error("{call} refused")]
    Refused {
        call: &'static str,
        #[source]
        source: nix::Error,
    },
}

/// Who the process will be.
#[derive(Clone, Debug)]
pub struct Identity {
    name: Option<CString>,
    pub uid: Uid,
    pub gid: Gid,
}

impl Identity {
    /// Looks the user and group up. `None` when neither is configured, or the process is them already.
    ///
    /// # Errors
    /// They do not exist, or the process may not become them.
    pub fn resolve(user: Option<&str>, group: Option<&str>) -> Result<Option<Self>, PrivilegeError> {
        if user.is_none() && group.is_none() {
            return Ok(None);
        }
        let refused = |call| move |source| PrivilegeError::Refused { call, source };
        let user = user
            .map(|name| {
                User::from_name(name)
                    .map_err(refused("getpwnam"))?
                    .ok_or_else(|| PrivilegeError::NoUser(name.to_owned()))
            })
            .transpose()?;
        let group = group
            .map(|name| {
                Group::from_name(name)
                    .map_err(refused("getgrnam"))?
                    .ok_or_else(|| PrivilegeError::NoGroup(name.to_owned()))
            })
            .transpose()?;
        let uid = user.as_ref().map_or_else(Uid::effective, |user| user.uid);
        let gid = group
            .map(|group| group.gid)
            .or_else(|| user.as_ref().map(|user| user.gid))
            .unwrap_or_else(Gid::effective);
        if uid == Uid::effective() && gid == Gid::effective() {
            return Ok(None);
        }
        if !Uid::effective().is_root() {
            return Err(PrivilegeError::NotRoot(Uid::effective().as_raw()));
        }
        let name = user.and_then(|user| CString::new(user.name).ok());
        Ok(Some(Self { name, uid, gid }))
    }

    /// Gives a file or directory to this identity, so that it can still be written and reopened later.
    ///
    /// # Errors
    /// As `chown(2)`.
    pub fn own(&self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
    }

    /// Becomes this identity, for good and in every thread: groups first, while there is still the right to.
    ///
    /// # Errors
    /// The kernel refuses; the process must then end, because it is half somebody else.
    pub fn assume(&self) -> Result<(), PrivilegeError> {
        let refused = |call| move |source| PrivilegeError::Refused { call, source };
        match &self.name {
            Some(name) => nix::unistd::initgroups(name, self.gid).map_err(refused("initgroups"))?,
            None => nix::unistd::setgroups(&[self.gid]).map_err(refused("setgroups"))?,
        }
        nix::unistd::setgid(self.gid).map_err(refused("setgid"))?;
        nix::unistd::setuid(self.uid).map_err(refused("setuid"))
    }
}

/// Why the pid file can't be had.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    #[error("pid file {} belongs to a running gateway (pid {pid})", .path.display())]
    Running { path: PathBuf, pid: u32 },
    #[error("pid file {} can't be written", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The pid file, gone when the process ends.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the pid file. One left behind by a process that is gone is replaced.
    ///
    /// # Errors
    /// Another gateway runs and holds it, or it can't be written.
    pub fn write(path: &Path) -> Result<Self, PidFileError> {
        if let Some(pid) = running_holder(path) {
            return Err(PidFileError::Running {
                path: path.to_path_buf(),
                pid,
            });
        }
        write_atomically(path, format!("{}\n", std::process::id()).as_bytes()).map_err(|source| {
            PidFileError::Write {
                path: path.to_path_buf(),
                source,
            }
        })?;
        Ok(Self {
            path: path.to_path_buf(),
        })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if pid_in(&self.path) != Some(std::process::id()) {
            return;
        }
        // Without the privileges that made it, the directory may be closed to us; an empty file counts as stale.
        if fs::remove_file(&self.path).is_err() && fs::write(&self.path, b"").is_err() {
            tracing::warn!(file = %self.path.display(), "pid file could not be removed");
        }
    }
}

fn pid_in(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The process in the pid file, if it lives and is the program that we are. Pids are used again: one that now
/// belongs to something else proves nothing.
fn running_holder(path: &Path) -> Option<u32> {
    let pid = pid_in(path).filter(|pid| *pid != std::process::id())?;
    let name = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    (name(&pid.to_string())? == name("self")?).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_ends_at_its_maximum() {
        let limit = raise_open_files().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), limit);
    }

    #[test]
    fn clients_never_get_every_descriptor() {
        for limit in [64, 256, 1024, 20_000, 1 << 30] {
            let clients = client_descriptors(limit) as u64;
            assert!(clients < limit && clients >= limit / 2, "{clients} of {limit}");
        }
    }

    #[test]
    fn too_few_files_are_told_with_the_numbers() {
        assert!(too_few_files(20_000, 0).is_none());
        assert!(too_few_files(20_000, 10_000).is_none());
        let text = too_few_files(20_000, 100_000).unwrap();
        assert!(text.contains("200000") && text.contains("20000"), "{text}");
    }

    #[test]
    fn a_pid_file_goes_with_its_process_and_a_stale_one_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tidegate.pid");
        // Pids end at 2^22.
        fs::write(&path, "999999999\n").unwrap();
        let held = PidFile::write(&path).unwrap();
        assert_eq!(pid_in(&path), Some(std::process::id()));
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn a_pid_that_is_another_program_by_now_is_stale() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tidegate.pid");
        fs::write(&path, "1\n").unwrap();
        PidFile::write(&path).unwrap();
    }

    #[test]
    fn a_pid_file_that_somebody_else_took_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tidegate.pid");
        let held = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(held);
        assert!(path.exists());
    }

    #[test]
    fn an_unknown_user_is_refused_by_name() {
        let error = Identity::resolve(Some("no-such-user-here"), None).unwrap_err();
        assert!(error.to_string().contains("no-such-user-here"), "{error}");
    }

    #[test]
    fn nothing_configured_changes_nothing() {
        assert!(Identity::resolve(None, None).unwrap().is_none());
    }
}
