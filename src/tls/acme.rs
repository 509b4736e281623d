//! Certificates that the gateway gets itself: what is served of them, and the answers by which an authority sees
//! that a name is ours (RFC 8555, RFC 8737).
//!
//! Who gets them is control. What is here outlives configurations: a listener's TLS looks a name's [`Slot`] up at
//! each handshake, so a new certificate needs no reload; and a slot that a configuration asks for begins with the
//! certificate that an earlier run has kept.

pub mod challenge;

use super::certificate::{Certificate, CertificateError, fingerprint};
use super::provider;
use super::store::Choice;
use arc_swap::ArcSwapOption;
use challenge::Challenges;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::UNIX_EPOCH;

/// Directory of all this in the state directory.
pub const HOME: &str = "acme";
/// Longest part of a file's name that is taken from a certificate's name.
const MAX_STEM: usize = 200;
/// Digits of a digest that tell files apart.
const DIGEST: usize = 8;

/// What a certificate is for: the same names from the same authority are one certificate, whichever listeners
/// serve it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// URL of the authority's directory.
    pub directory: String,
    /// In lower case, in order, at least one.
    pub names: Vec<String>,
}

impl Subject {
    /// The names, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        let (shown, rest) = self.names.split_at(self.names.len().min(4));
        let mut text = shown.join(", ");
        if !rest.is_empty() {
            text.push_str(&format!(" and {} more", rest.len()));
        }
        text
    }
}

/// The place of one certificate, which may be empty.
#[derive(Debug)]
pub struct Slot {
    pub subject: Subject,
    held: ArcSwapOption<Held>,
}

/// A certificate in its place.
#[derive(Debug)]
pub struct Held {
    pub certificate: Arc<Certificate>,
    /// When it was stored, in seconds of Unix time.
    pub stored: i64,
    choice: Choice,
}

impl Slot {
    #[must_use]
    pub fn held(&self) -> Option<Arc<Held>> {
        self.held.load_full()
    }

    /// What a handshake is answered with.
    #[must_use]
    pub fn choice(&self) -> Option<Choice> {
        self.held.load().as_ref().map(|held| held.choice.clone())
    }

    /// Serves this certificate from now on, to all workers and listeners.
    pub fn put(&self, certificate: Certificate, stored: i64) {
        let certificate = Arc::new(certificate);
        let choice: Choice = vec![Arc::clone(&certificate)].into();
        self.held.store(Some(Arc::new(Held {
            certificate,
            stored,
            choice,
        })));
    }

    /// Where it is kept, below [`HOME`].
    #[must_use]
    pub fn file(&self, home: &Path) -> PathBuf {
        let names = self.subject.names.join(",");
        let first = self.subject.names.first().map_or("", String::as_str);
        let stem = match self.subject.names.len() {
            1 if first.len() <= MAX_STEM => first.to_owned(),
            // Names are ASCII.
            _ => format!("{}-{}", first.get(..MAX_STEM).unwrap_or(first), digest(&names)),
        };
        home.join(directory_name(&self.subject.directory))
            .join("certificates")
            .join(format!("{stem}.pem"))
    }
}

/// The directory of an authority, below [`HOME`].
#[must_use]
pub fn directory_name(url: &str) -> String {
    let host: String = crate::config::acme::directory(url)
        .unwrap_or_default()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') {
                c
            } else {
                '_'
            }
        })
        .take(MAX_STEM)
        .collect();
    format!("{host}-{}", digest(url))
}

/// A few digits that differ where the text does.
#[must_use]
pub fn digest(text: &str) -> String {
    fingerprint(text.as_bytes()).chars().take(DIGEST).collect()
}

/// What a listener is to have.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// URL of the authority's directory.
    pub directory: &'a str,
    /// In lower case.
    pub names: BTreeSet<String>,
    /// One certificate for all names.
    pub single: bool,
    /// The operator named them. Otherwise those that have a certificate are passed over.
    pub named: bool,
}

/// What a listener is to have, and where it comes from.
#[derive(Clone, Debug)]
pub struct Orders<'a> {
    pub acme: &'a Acme,
    pub wanted: Option<Wanted<'a>>,
}

/// The certificates of one listener that the gateway gets itself.
#[derive(Debug, Default)]
pub struct Ordered {
    slots: Vec<Arc<Slot>>,
    by_name: HashMap<String, Arc<Slot>>,
    pub challenges: Arc<Challenges>,
}

impl Ordered {
    #[must_use]
    pub fn new(orders: Orders<'_>) -> Self {
        let Orders { acme, wanted } = orders;
        let mut ordered = Self {
            challenges: Arc::clone(&acme.challenges),
            ..Self::default()
        };
        let Some(Wanted {
            directory,
            names,
            single,
            named: _,
        }) = wanted
        else {
            return ordered;
        };
        let each = match single {
            true => vec![names.into_iter().collect()],
            false => names
                .into_iter()
                .map(|name| vec![name])
                .collect::<Vec<Vec<String>>>(),
        };
        for names in each.into_iter().filter(|names| !names.is_empty()) {
            let directory = directory.to_owned();
            let slot = acme.slot(Subject { directory, names });
            for name in &slot.subject.names {
                ordered.by_name.insert(name.clone(), Arc::clone(&slot));
            }
            ordered.slots.push(slot);
        }
        ordered
    }

    /// What a name in lower case is served with, once it is there.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Choice> {
        self.by_name.get(name)?.choice()
    }

    /// Whether a name in lower case is to be served, now or later.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The first that is there.
    #[must_use]
    pub fn first(&self) -> Option<Choice> {
        self.slots.iter().find_map(|slot| slot.choice())
    }

    #[must_use]
    pub fn slots(&self) -> &[Arc<Slot>] {
        &self.slots
    }
}

/// Everything of the process.
#[derive(Debug, Default)]
pub struct Acme {
    /// Where certificates are kept; not set, there is no such place.
    home: OnceLock<PathBuf>,
    /// Those that a configuration uses; bounded by the names that one may have.
    slots: Mutex<HashMap<Subject, Weak<Slot>>>,
    pub challenges: Arc<Challenges>,
}

impl Acme {
    /// Keeps everything below this directory from now on, and takes up what is there. Once.
    pub fn keep_in(&self, state_dir: &Path) {
        if self.home.set(state_dir.join(HOME)).is_err() {
            return;
        }
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots
            .values()
            .filter_map(Weak::upgrade)
            .for_each(|slot| self.take_up(&slot));
    }

    #[must_use]
    pub fn home(&self) -> Option<&Path> {
        self.home.get().map(PathBuf::as_path)
    }

    /// The place of a certificate: the same for all who ask while one of them holds it.
    #[must_use]
    pub fn slot(&self, subject: Subject) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(&subject).and_then(Weak::upgrade) {
            return slot;
        }
        slots.retain(|_, slot| slot.strong_count() > 0);
        let slot = Arc::new(Slot {
            subject: subject.clone(),
            held: ArcSwapOption::empty(),
        });
        self.take_up(&slot);
        slots.insert(subject, Arc::downgrade(&slot));
        slot
    }

    /// Serves what an earlier run has kept. What can't be used is as good as nothing: another will be got.
    fn take_up(&self, slot: &Slot) {
        let Some(home) = self.home() else { return };
        let path = slot.file(home);
        match load(&path, &slot.subject.names) {
            Ok(certificate) => slot.put(certificate, modified(&path)),
            Err(LoadError::Certificate(CertificateError::Read { source, .. }))
                if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(
                    names = slot.subject.shown(),
                    "a kept certificate can't be used, another will be got: {error}"
                );
            }
        }
    }
}

/// Why a certificate with its key can't serve in a slot.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("the certificate is not for {0}")]
    Names(String),
}

/// Reads a file with a chain and its key, for these names.
///
/// # Errors
/// It can't serve them.
pub fn load(path: &Path, names: &[String]) -> Result<Certificate, LoadError> {
    let now = jiff::Timestamp::now().as_second();
    // What may be doubtful about files that an operator made, such as their order, is the authority's doing here.
    let (certificate, _) = Certificate::load(path, path, &provider::plain(), now)?;
    match names.iter().find(|name| !certificate.covers(name)) {
        Some(missing) => Err(LoadError::Names(missing.clone())),
        None => Ok(certificate),
    }
}

/// When a file was written, in seconds of Unix time; 0 where that is not known.
fn modified(path: &Path) -> i64 {
    std::fs::metadata(path)
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
