//! Reads a configuration's files, follows its includes, and lays all of it together into one tree.

use super::diagnostic::Diagnostic;
use super::files::{Files, MAX_FILE_BYTES};
use super::glob;
use super::habits;
use super::keys::table::ROOT;
use super::keys::{Key, Shape};
use super::path;
use super::problems::{Problems, SYNTAX};
use super::shared::{self, SharedText};
use super::source::{Origin, Place, Sources};
use super::tree::{self, Entries, Entry, Node, Value};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// How deep includes may nest.
pub const MAX_INCLUDE_DEPTH: usize = 8;
/// Files of one configuration.
pub const MAX_INCLUDED_FILES: usize = 1024;
/// What was read.
#[derive(Debug, Default)]
pub struct Gathered {
    pub sources: Sources,
    pub files: Files,
    pub problems: Problems,
    pub entries: Entries,
    /// Files that were read, with the place that named them.
    seen: HashMap<PathBuf, Option<Place>>,
}

impl Gathered {
    /// Reads a file and what it includes.
    #[must_use]
    pub fn from_file(path: &Path) -> Self {
        let mut all = Self::default();
        all.file(path, None, 0);
        all
    }

    /// Takes a text that is in no file.
    #[must_use]
    pub fn from_text(name: &str, text: &str) -> Self {
        let mut all = Self::default();
        all.files.count(text);
        all.text(Path::new(name), &absolute(Path::new("")), text, 0);
        all
    }

    /// Puts a text that gateways share in the place of what the files say of the same sections. Gives its number
    /// among the sources.
    pub fn share(&mut self, shared: &SharedText) -> usize {
        self.files.count(&shared.text);
        // Paths in it start where those of the gateway's own file do.
        let base = self.sources.base(&Origin::Default).to_owned();
        let source = self.sources.add(Path::new(&shared.name), base, &shared.text);
        let entries = self.parse(&shared.text, source);
        shared::put(&mut self.entries, entries, shared, &mut self.problems);
        source
    }

    fn file(&mut self, path: &Path, named_at: Option<&Place>, depth: usize) {
        let fail = |all: &mut Self, message: String| {
            let key = if named_at.is_some() { "include" } else { "" };
            all.problems
                .add_at(Diagnostic::error(key, message), named_at.cloned());
        };
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if let Some(before) = self.seen.get(&real) {
            let place = before
                .as_ref()
                .map_or_else(|| "as the first file".to_owned(), |p| self.sources.describe(p));
            let message = format!("{} is included twice; before: {place}", path.display());
            return fail(self, message);
        }
        if self.seen.len() >= MAX_INCLUDED_FILES {
            return fail(self, format!("more than {MAX_INCLUDED_FILES} files"));
        }
        if depth > MAX_INCLUDE_DEPTH {
            return fail(
                self,
                format!("includes are nested deeper than {MAX_INCLUDE_DEPTH}"),
            );
        }
        self.seen.insert(real, named_at.cloned());
        let base = path.parent().map(absolute).unwrap_or_default();
        // The first file may be a pipe: the operator who names one has something at its other end.
        match self.files.read_text(path, MAX_FILE_BYTES, depth == 0) {
            Ok(text) => self.text(path, &base, &text, depth),
            Err(error) => fail(self, format!("{} {error}", path.display())),
        }
    }

    fn text(&mut self, path: &Path, base: &Path, text: &str, depth: usize) {
        let source = self.sources.add(path, base.to_owned(), text);
        let mut entries = self.parse(text, source);
        let includes = entries.remove("include");
        merge(&mut self.entries, entries, &self.sources, &mut self.problems);
        if let Some(includes) = includes {
            self.include(base, &includes, depth);
        }
    }

    /// Parses one text; what can be made out beside errors of syntax is kept.
    fn parse(&mut self, text: &str, source: usize) -> Entries {
        let (entries, errors) = match tree::parse(text, source) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.problems.add(Diagnostic::error(
                    "",
                    format!("the file can't be parsed: {error}"),
                ));
                return Entries::new();
            }
        };
        let mut before = None;
        for (message, bytes) in errors {
            let line = text.get(..bytes.start).and_then(|head| {
                let start = head.rfind('\n').map_or(0, |at| at + 1);
                text.get(start..)?.lines().next()
            });
            let hint = line.and_then(habits::line);
            let place = Place { source, bytes };
            let mut told = Diagnostic::error("", format!("{SYNTAX}{message}"));
            // A file in another language is told once.
            if hint != before {
                told.hint.clone_from(&hint);
                before = hint;
            }
            self.problems.add_syntax(told, place, &self.sources);
        }
        entries
    }

    fn include(&mut self, base: &Path, includes: &Entry, depth: usize) {
        let Value::Array(nodes) = &includes.node.value else {
            let found = includes.node.value.describe();
            let mut told =
                Diagnostic::error("include", format!("found {found}; accepted: an array of paths"));
            told.hint = matches!(includes.node.value, Value::Text(_)).then(|| format!("write [{found}]"));
            return self.problems.add_from(told, &includes.node.origin);
        };
        for node in nodes {
            self.include_one(base, node, depth);
        }
    }

    fn include_one(&mut self, base: &Path, node: &Node, depth: usize) {
        let (Value::Text(pattern), Origin::File(place)) = (&node.value, &node.origin) else {
            let told = Diagnostic::error(
                "include",
                format!("found {}; accepted: a path", node.value.describe()),
            );
            return self.problems.add_from(told, &node.origin);
        };
        if pattern.is_empty() || pattern.contains('\0') {
            let told = Diagnostic::error(
                "include",
                format!("found {}; accepted: a path", node.value.describe()),
            );
            return self.problems.add_from(told, &node.origin);
        }
        match glob::expand(base, pattern) {
            Ok(found) => {
                found
                    .directories
                    .iter()
                    .for_each(|directory| self.files.note_directory(directory));
                for path in found.paths {
                    self.file(&path, Some(place), depth + 1);
                }
            }
            Err(error) => {
                let told = Diagnostic::error("include", format!("{pattern} can't be read: {error}"));
                self.problems.add_from(told, &node.origin);
            }
        }
    }
}

/// Paths stay what they are when the process changes its directory.
fn absolute(path: &Path) -> PathBuf {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Lays one text's tables over those there are. Tables of fixed keys and of named objects are put together key by
/// key, rows of tables are appended, and anything else that is there twice is a mistake.
fn merge(into: &mut Entries, from: Entries, sources: &Sources, problems: &mut Problems) {
    for (name, entry) in from {
        let Some(there) = into.get_mut(&name) else {
            into.insert(name, entry);
            continue;
        };
        let shape = ROOT
            .iter()
            .find(|key: &&Key| key.name == name)
            .map(|key| key.shape);
        match (shape, &mut there.node.value, entry.node.value) {
            (Some(Shape::Tables(..)), Value::Array(old), Value::Array(new)) => old.extend(new),
            (Some(Shape::Table(_) | Shape::Named(..)), Value::Table(old), Value::Table(new)) => {
                for (child, entry) in new {
                    match old.get(&child) {
                        Some(before) => {
                            let told = twice(&path::join(&name, &child), before, sources);
                            problems.add_from(told, &entry.key);
                        }
                        None => drop(old.insert(child, entry)),
                    }
                }
            }
            _ => problems.add_from(twice(&name, there, sources), &entry.key),
        }
    }
}

fn twice(at: &str, before: &Entry, sources: &Sources) -> Diagnostic {
    let place = sources.describe_origin(&before.key);
    Diagnostic::error(
        at,
        format!("`{at}` is written here and at {place}; a key may be in one file only"),
    )
}
