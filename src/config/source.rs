//! The texts a configuration was read from, and places in them.

use super::diagnostic::{Location, SourceText};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A byte range in one of the texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index into [`Sources`].
    pub source: usize,
    pub bytes: Range<usize>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File(Place),
    /// The environment variable of this name.
    Environment(String),
    Default,
}

/// One text.
#[derive(Debug)]
struct Source {
    /// As the operator named it, for messages.
    path: PathBuf,
    /// The directory that relative paths in this text start from.
    base: PathBuf,
    text: SourceText,
    /// Offset of the first byte of every line.
    lines: Vec<usize>,
}

/// Every text of one load, in the order they were read; the first is the one that was asked for.
#[derive(Debug, Default)]
pub struct Sources {
    list: Vec<Source>,
}

impl Sources {
    /// Adds a text and gives its index.
    pub fn add(&mut self, path: &Path, base: PathBuf, text: &str) -> usize {
        let lines = std::iter::once(0)
            .chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1))
            .collect();
        self.list.push(Source {
            path: path.to_owned(),
            base,
            text: SourceText(text.into()),
            lines,
        });
        self.list.len() - 1
    }

    /// The directory that relative paths start from; what is named outside any file counts as the first file.
    #[must_use]
    pub fn base(&self, origin: &Origin) -> &Path {
        let index = match origin {
            Origin::File(place) => place.source,
            Origin::Environment(_) | Origin::Default => 0,
        };
        self.list
            .get(index)
            .map_or_else(|| Path::new(""), |source| &source.base)
    }

    /// Blanks these ranges: what is kept of a text is for excerpts.
    pub fn mask(&mut self, places: &[Place]) {
        for (index, source) in self.list.iter_mut().enumerate() {
            let mut ranges = places.iter().filter(|p| p.source == index).peekable();
            if ranges.peek().is_none() {
                continue;
            }
            let mut bytes = source.text.0.as_bytes().to_vec();
            for place in ranges {
                if let Some(secret) = bytes.get_mut(place.bytes.clone()) {
                    secret.iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b'*');
                }
            }
            source.text = SourceText(String::from_utf8_lossy(&bytes).into());
        }
    }

    /// Line of a place, from 1.
    #[must_use]
    pub fn line(&self, place: &Place) -> u32 {
        self.list.get(place.source).map_or(0, |source| {
            u32::try_from(source.lines.partition_point(|start| *start <= place.bytes.start))
                .unwrap_or(u32::MAX)
        })
    }

    /// `path:line`, for messages that name a second place.
    #[must_use]
    pub fn describe(&self, place: &Place) -> String {
        let path = self
            .list
            .get(place.source)
            .map_or_else(|| Path::new(""), |source| &source.path);
        format!("{}:{}", path.display(), self.line(place))
    }

    /// `path:line`, `env NAME` or `default`.
    #[must_use]
    pub fn describe_origin(&self, origin: &Origin) -> String {
        match origin {
            Origin::File(place) => self.describe(place),
            Origin::Environment(name) => format!("env {name}"),
            Origin::Default => "default".to_owned(),
        }
    }

    /// The full location of a place.
    #[must_use]
    pub fn locate(&self, place: &Place) -> Option<Location> {
        let source = self.list.get(place.source)?;
        let line = self.line(place);
        let line_start = *source.lines.get((line as usize).checked_sub(1)?)?;
        let before = source.text.0.as_bytes().get(line_start..place.bytes.start)?;
        let column = String::from_utf8_lossy(before).chars().count() + 1;
        Some(Location {
            file: source.path.clone(),
            line,
            column: u32::try_from(column).unwrap_or(u32::MAX),
            bytes: place.bytes.clone(),
            text: source.text.clone(),
        })
    }
}
