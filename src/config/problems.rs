//! Problems as they are collected: all of them, placed and put in the order of the files at the end.

use super::diagnostic::{Diagnostic, Severity};
use super::origins::Origins;
use super::source::{Origin, Place, Sources};
use std::collections::BTreeSet;

/// Problems reported of one load; a file of garbage has millions.
pub const MAX_PROBLEMS: usize = 500;

/// Collected problems.
#[derive(Debug, Default)]
pub struct Problems {
    list: Vec<(Diagnostic, Option<Place>)>,
    syntax: BTreeSet<(usize, u32)>,
    dropped: usize,
    errors: usize,
}

impl Problems {
    /// A problem whose place follows from its key.
    pub fn add(&mut self, diagnostic: Diagnostic) {
        self.add_at(diagnostic, None);
    }

    /// A problem at a place.
    pub fn add_at(&mut self, diagnostic: Diagnostic, place: Option<Place>) {
        if diagnostic.severity == Severity::Error {
            self.errors += 1;
        }
        if self.list.len() < MAX_PROBLEMS {
            self.list.push((diagnostic, place));
        } else {
            self.dropped += 1;
        }
    }

    /// A problem with a value that came from here; a variable of the environment is named.
    pub fn add_from(&mut self, mut diagnostic: Diagnostic, origin: &Origin) {
        match origin {
            Origin::File(place) => self.add_at(diagnostic, Some(place.clone())),
            Origin::Environment(name) => {
                diagnostic.message = format!("environment variable {name}: {}", diagnostic.message);
                self.add_at(diagnostic, None);
            }
            Origin::Default => self.add_at(diagnostic, None),
        }
    }

    /// A problem of syntax: other problems on its line are its consequences and not shown.
    pub fn add_syntax(&mut self, diagnostic: Diagnostic, place: Place, sources: &Sources) {
        self.syntax.insert((place.source, sources.line(&place)));
        self.add_at(diagnostic, Some(place));
    }

    /// Whether a text could not be understood, so that what it says is known only in part.
    #[must_use]
    pub fn any_syntax(&self) -> bool {
        !self.syntax.is_empty()
    }

    /// Whether anything refuses the configuration.
    #[must_use]
    pub const fn any_error(&self) -> bool {
        self.errors > 0
    }

    /// Whether anything was told of this key or of what is in it.
    #[must_use]
    pub fn any_under(&self, key: &str) -> bool {
        let within = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
        self.list
            .iter()
            .any(|(told, _)| told.key.strip_prefix(key).is_some_and(within))
    }

    /// Everything with its location, in the order of the files; what has no place comes first.
    #[must_use]
    pub fn finish(mut self, sources: &Sources, origins: &Origins) -> Vec<Diagnostic> {
        let syntax = std::mem::take(&mut self.syntax);
        for (diagnostic, place) in &mut self.list {
            if place.is_none() {
                *place = origins.place_of(diagnostic);
            }
        }
        self.list.retain(|(diagnostic, place)| {
            let Some(place) = place else { return true };
            diagnostic.message.starts_with(SYNTAX) || !syntax.contains(&(place.source, sources.line(place)))
        });
        self.list
            .sort_by_key(|(_, place)| place.as_ref().map(|p| (p.source, p.bytes.start)));
        let mut out: Vec<Diagnostic> = self
            .list
            .into_iter()
            .map(|(mut diagnostic, place)| {
                if let Some(place) = place {
                    diagnostic.location = sources.locate(&place);
                }
                diagnostic
            })
            .collect();
        if self.dropped > 0 {
            out.push(Diagnostic::error(
                "",
                format!("and {} more problems", self.dropped),
            ));
        }
        out
    }
}

/// How the message of a syntax problem begins.
pub const SYNTAX: &str = "not TOML: ";
