//! Notices that the configuration's files changed.
//!
//! Directories are watched, not files: an editor's rename, or the swap of a symbolic link by which Kubernetes
//! updates a ConfigMap, ends a watch on the file itself. What an event says is not believed either: any event
//! about a name that matters leads to a reload, which compares the bytes. A poll finds what no event told (network file
//! systems, exhausted watches).

use super::command::{Action, Actor, Command, Commands, SubmitError};
use super::reload::Watched;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Quiet after which a burst of events is over.
const QUIET: Duration = Duration::from_millis(250);
/// Longest wait for quiet.
const AT_MOST: Duration = Duration::from_secs(2);
/// How often files are read without any event.
const POLL: Duration = Duration::from_secs(60);
/// Links followed from a file to where its bytes are.
const MAX_LINKS: usize = 40;
/// Extension of files that an `include` may pick up.
const INCLUDED: &str = "toml";

/// Directories to watch, and names in them that matter.
#[derive(Debug, Default, PartialEq, Eq)]
struct Scope {
    directories: BTreeSet<PathBuf>,
    names: BTreeSet<OsString>,
}

impl Scope {
    /// Everything that stands between the paths as written and the bytes: each directory with a link or a file
    /// on the way.
    fn of(watched: &Watched) -> Self {
        let mut scope = Self::default();
        for directory in &watched.directories {
            scope.directories.insert(directory.clone());
        }
        for file in &watched.files {
            scope.follow(file, MAX_LINKS);
        }
        scope
    }

    /// Adds the parent directory of `path`, and goes on where any part of the path is a link.
    fn follow(&mut self, path: &Path, links: usize) {
        let parent = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return,
        };
        if let Some(name) = path.file_name() {
            self.names.insert(name.to_owned());
            self.directories.insert(parent.to_path_buf());
        }
        for part in path.ancestors() {
            if let Ok(target) = std::fs::read_link(part)
                && links > 0
            {
                let rest = path.strip_prefix(part).unwrap_or_else(|_| Path::new(""));
                let home = part.parent().unwrap_or_else(|| Path::new(""));
                self.names.extend(part.file_name().map(OsStr::to_owned));
                self.directories.insert(if home.as_os_str().is_empty() {
                    ".".into()
                } else {
                    home.into()
                });
                return self.follow(&home.join(target).join(rest), links - 1);
            }
        }
    }

    /// Whether an event in one of the directories is worth a look. Logs may lie beside the configuration, and
    /// reading a file is an event too.
    fn concerns(&self, event: &Event) -> bool {
        let written = AccessKind::Close(AccessMode::Write);
        if matches!(event.kind, EventKind::Access(kind) if kind != written) {
            return false;
        }
        event.need_rescan()
            || event.paths.iter().any(|path| {
                path.file_name().is_some_and(|name| self.names.contains(name))
                    || path.extension().is_some_and(|extension| extension == INCLUDED)
            })
    }
}

/// Sends a reload whenever a file may have changed, until the gateway ends.
pub async fn run(mut watched: watch::Receiver<Watched>, commands: Commands) {
    let (rings, mut bell) = mpsc::channel(1);
    loop {
        let scope = Scope::of(&watched.borrow_and_update());
        let watcher = watch(scope, rings.clone());
        // What changed while nobody watched has rung no bell.
        let mut first = true;
        loop {
            let wait = if first { Duration::ZERO } else { POLL };
            first = false;
            tokio::select! {
                changed = watched.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(()) = bell.recv() => until_quiet(&mut bell).await,
                () = tokio::time::sleep(wait) => {}
            }
            let command = Command {
                actor: Actor::FileWatch,
                dry_run: false,
                action: Action::Reload,
            };
            if matches!(commands.submit(command).await, Err(SubmitError::Ending)) {
                return;
            }
        }
        drop(watcher);
    }
}

async fn until_quiet(bell: &mut mpsc::Receiver<()>) {
    let end = Instant::now() + AT_MOST;
    while Instant::now() < end
        && let Ok(Some(())) = tokio::time::timeout(QUIET, bell.recv()).await
    {}
}

/// Watches what can be watched; the poll has the rest.
fn watch(scope: Scope, rings: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let directories = scope.directories.clone();
    let heard = move |event: notify::Result<Event>| {
        if event.map_or(true, |event| scope.concerns(&event)) {
            // A full queue holds a ring already.
            let _full = rings.try_send(());
        }
    };
    let mut watcher = match notify::recommended_watcher(heard) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "files can't be watched; they are read every {} s", POLL.as_secs());
            return None;
        }
    };
    for directory in directories {
        if let Err(error) = watcher.watch(&directory, RecursiveMode::NonRecursive) {
            let directory = directory.display();
            tracing::warn!(%directory, %error, "directory can't be watched; it is read every {} s", POLL.as_secs());
        }
    }
    Some(watcher)
}

#[cfg(test)]
mod tests;
