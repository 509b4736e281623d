//! Where every key of a loaded configuration stands, so that later stages can report by key alone.

use super::diagnostic::Diagnostic;
use super::path;
use super::settings::{Content, Item, Table};
use super::source::{Origin, Place, Sources};
use std::collections::HashMap;
use std::sync::Arc;

/// Key paths with the origin of their values.
#[derive(Clone, Default)]
pub struct Origins {
    /// By path without quotes; what is written nowhere is left out, and has its default.
    known: HashMap<String, Origin>,
    sources: Arc<Sources>,
}

impl Origins {
    #[must_use]
    pub(super) fn new(root: &Table) -> Self {
        let mut known = HashMap::new();
        note_table(&mut known, "", root);
        Self {
            known,
            sources: Arc::default(),
        }
    }

    pub(super) fn set_sources(&mut self, sources: Arc<Sources>) {
        self.sources = sources;
    }

    /// The texts behind the places.
    #[must_use]
    pub(super) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Fills in the location of a problem from its key: that of the longest known prefix of the path. A value
    /// from the environment has no location, its variable is named in the message instead.
    pub fn place(&self, diagnostic: &mut Diagnostic) {
        if diagnostic.location.is_none()
            && let Some(place) = self.place_of(diagnostic)
        {
            diagnostic.location = self.sources.locate(&place);
        }
    }

    /// `file:line`, `env NAME` or `default`.
    #[must_use]
    pub fn describe(&self, key: &str) -> String {
        let origin = self.known.get(&path::plain(key)).unwrap_or(&Origin::Default);
        self.sources.describe_origin(origin)
    }

    pub(super) fn place_of(&self, diagnostic: &mut Diagnostic) -> Option<Place> {
        let mut key = path::plain(&diagnostic.key);
        if let Some(Origin::Environment(name)) = self.known.get(&key) {
            let prefix = format!("environment variable {name}: ");
            if !diagnostic.message.starts_with(&prefix) {
                diagnostic.message.insert_str(0, &prefix);
            }
            return None;
        }
        while !key.is_empty() {
            if let Some(Origin::File(place)) = self.known.get(&key) {
                return Some(place.clone());
            }
            key.truncate(key.rfind(['.', '[']).unwrap_or(0));
        }
        None
    }
}

impl std::fmt::Debug for Origins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "origins of {} keys", self.known.len())
    }
}

fn note_table(known: &mut HashMap<String, Origin>, prefix: &str, table: &Table) {
    for (name, item) in table.items() {
        note_item(known, join(prefix, name), item);
    }
}

fn note_item(known: &mut HashMap<String, Origin>, path: String, item: &Item) {
    match &item.content {
        Content::Scalar(_) => {}
        Content::List(items) => {
            for (at, item) in items.iter().enumerate() {
                note_item(known, path::index(&path, at), item);
            }
        }
        Content::Map(entries) => {
            for (name, item) in entries {
                note_item(known, join(&path, name), item);
            }
        }
        Content::Table(table) => note_table(known, &path, table),
        Content::Named(tables) => {
            for (name, table) in tables {
                let path = join(&path, name);
                note_table(known, &path, table);
                note(known, path, &table.origin);
            }
        }
        Content::Tables(tables) => {
            for (at, table) in tables.iter().enumerate() {
                let path = path::index(&path, at);
                note_table(known, &path, table);
                note(known, path, &table.origin);
            }
        }
    }
    note(known, path, &item.origin);
}

fn note(known: &mut HashMap<String, Origin>, path: String, origin: &Origin) {
    if *origin != Origin::Default {
        known.insert(path, origin.clone());
    }
}

/// As [`path::join`], without quotes.
fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}.{name}")
    }
}
