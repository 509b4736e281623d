//! What this gateway serves from while it follows the cluster: its own file's sections, and what was published last
//! that it could take. That is kept in the state directory, so that a start needs no Redis.

use super::reload::Source;
use super::sharing::config::document::Document;
use super::sharing::config::file;
use super::state_dir::{Candidates, StateDir};
use crate::config::model::ConfigSource;
use crate::config::{Loaded, SharedText};
use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// Why something that was published is not in force here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 0 where it can't even be told.
    pub version: u64,
    pub why: String,
    pub since: Timestamp,
}

#[derive(Debug, Default)]
struct Standing {
    refused: Option<Refusal>,
    behind_since: Option<Instant>,
}

/// The cluster's configuration, as this gateway has it.
#[derive(Debug, Default)]
pub struct Following {
    /// Whether it follows at all.
    pub on: bool,
    now: ArcSwapOption<Document>,
    standing: Mutex<Standing>,
    /// Rung when there may be something new in the store, or what was lacking may be there.
    pub look: Notify,
    /// Held by the one request that publishes.
    pub publishing: tokio::sync::Mutex<()>,
}

impl Following {
    /// A gateway that follows, with what it has in force.
    #[must_use]
    pub fn with(now: Option<Arc<Document>>) -> Self {
        Self {
            on: true,
            now: ArcSwapOption::new(now),
            ..Self::default()
        }
    }

    /// What is in force, also that it was taken back.
    #[must_use]
    pub fn now(&self) -> Option<Arc<Document>> {
        self.now.load_full()
    }

    /// Its version; 0 where nothing was ever taken.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.now.load().as_ref().map_or(0, |now| now.about.version)
    }

    /// What takes the place of the file's sections.
    #[must_use]
    pub fn text(&self) -> Option<SharedText> {
        self.now.load().as_ref().and_then(|now| now.shared_text())
    }

    pub(super) fn take(&self, document: Arc<Document>) {
        self.now.store(Some(document));
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was published and is not in force here, if so.
    #[must_use]
    pub fn refused(&self) -> Option<Refusal> {
        self.lock().refused.clone()
    }

    /// Notes it, or that there is nothing of the kind any more.
    pub fn note_refused(&self, refused: Option<(u64, String)>) {
        let mut standing = self.lock();
        let known = standing.refused.as_ref();
        standing.refused = refused.map(|(version, why)| {
            let since = known.filter(|known| known.version == version);
            let since = since.map_or_else(Timestamp::now, |known| known.since);
            Refusal { version, why, since }
        });
    }

    /// Notes whether the store has something that is not in force here.
    pub fn note_behind(&self, behind: bool) {
        let mut standing = self.lock();
        if behind {
            standing.behind_since.get_or_insert_with(Instant::now);
        } else {
            standing.behind_since = None;
        }
    }

    /// Seconds since the store has something that is not in force here; 0 while it has not.
    #[must_use]
    pub fn lag(&self) -> f64 {
        let since = self.lock().behind_since;
        since.map_or(0.0, |since| since.elapsed().as_secs_f64())
    }
}

/// What a gateway begins with.
#[derive(Debug)]
pub struct Beginning {
    pub loaded: Loaded,
    pub following: Following,
    /// Its own file alone, for when what the cluster published can't be used any more.
    pub otherwise: Option<Loaded>,
    /// What there is to tell of that.
    pub told: Vec<String>,
}

impl Beginning {
    /// The own file alone.
    #[must_use]
    pub fn own(loaded: Loaded) -> Self {
        let on = loaded.config.cluster.config == ConfigSource::Follow;
        Self {
            loaded,
            following: Following {
                on,
                ..Following::default()
            },
            otherwise: None,
            told: Vec::new(),
        }
    }

    /// What was in force last, where the gateway follows and it is kept; otherwise the own file. Blocking.
    #[must_use]
    pub fn find(source: &Source, own: Loaded, candidates: &Candidates) -> Self {
        let mut beginning = Self::own(own);
        if !beginning.following.on {
            return beginning;
        }
        // Without the directory there is nothing kept; whether it must be there is decided elsewhere.
        if let Ok(state) = StateDir::open(candidates) {
            beginning.take_kept(source, state.path());
        }
        beginning
    }

    fn take_kept(&mut self, source: &Source, directory: &Path) {
        let document = match file::load(directory, &self.loaded.config.cluster.name) {
            Ok(Some(document)) => Arc::new(document),
            Ok(None) => return,
            Err(error) => {
                let path = directory.join(file::FILE);
                self.told.push(format!(
                    "{}: {error}; the gateway starts with its own file alone, and asks the cluster",
                    path.display()
                ));
                return;
            }
        };
        if let Some(text) = document.shared_text() {
            match source.load_under(&text) {
                Ok(loaded) => self.otherwise = Some(std::mem::replace(&mut self.loaded, loaded)),
                Err(rejected) => return self.refuse(document.about.version, &rejected.to_string()),
            }
        }
        self.following.take(document);
    }

    /// What was kept can't be used: the own file is what is left.
    pub fn give_up(&mut self, why: &str) -> bool {
        let Some(own) = self.otherwise.take() else {
            return false;
        };
        let version = self.following.version();
        *self = Self {
            told: std::mem::take(&mut self.told),
            ..Self::own(own)
        };
        self.refuse(version, why);
        true
    }

    fn refuse(&mut self, version: u64, why: &str) {
        self.following.note_refused(Some((version, why.to_owned())));
        self.told.push(format!(
            "version {version} of the cluster's configuration was in force here and can't be used any more; the gateway starts with its own file alone, and asks the cluster: {why}"
        ));
    }
}
