//! Compiled host and path patterns, and regexes with limits.

use crate::message::path::{at_boundary, under_prefix};
use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use std::sync::Arc;

/// Largest compiled program of one regex, in bytes. Matching is linear in the input whatever the pattern; this
/// bounds the factor.
const REGEX_SIZE: usize = 1 << 20;
/// Cache of one regex's automaton, in bytes, per thread that runs it.
const REGEX_CACHE: usize = 256 << 10;
/// From this many on, one pass over the set beats trying one after the other.
const SET_FROM: usize = 4;
/// Largest compiled set, and its cache; a larger one is tried one by one.
const SET_SIZE: usize = 16 << 20;
const SET_CACHE: usize = 4 << 20;

/// Compiles a regex for bytes. ASCII classes: hosts and normal paths are ASCII.
pub(super) fn compile(text: &str, ignore_case: bool) -> Result<Arc<Regex>, String> {
    RegexBuilder::new(text)
        .unicode(false)
        .case_insensitive(ignore_case)
        .size_limit(REGEX_SIZE)
        .dfa_size_limit(REGEX_CACHE)
        .build()
        .map(Arc::new)
        .map_err(|error| explain(&error))
}

/// One line of a regex error, which has a drawing in it otherwise.
pub(super) fn explain(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!("compiles to more than {limit} bytes"),
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default().trim();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum HostMatch {
    Exact(Box<str>),
    /// What follows `*.`.
    Wildcard(Box<str>),
    Regex(Arc<Regex>),
    Any,
}

impl HostMatch {
    pub(super) fn holds(&self, host: &[u8]) -> bool {
        match self {
            Self::Exact(name) => name.as_bytes() == host,
            Self::Wildcard(suffix) => host
                .strip_suffix(suffix.as_bytes())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with(b".")),
            Self::Regex(regex) => regex.is_match(host),
            Self::Any => true,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum PathMatch {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Regex(Arc<Regex>),
    Any,
}

impl PathMatch {
    pub(super) fn holds(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(text) => **text == *path,
            Self::Prefix(prefix) => under_prefix(path, prefix),
            Self::Regex(regex) => regex.is_match(path),
            Self::Any => true,
        }
    }

    pub(super) fn prefix_len(&self) -> usize {
        match self {
            Self::Exact(text) => text.len(),
            Self::Prefix(text) => text.strip_suffix(b"/").unwrap_or(text).len(),
            Self::Regex(_) | Self::Any => 0,
        }
    }
}

/// Regexes with a value each, in order.
#[derive(Debug)]
pub(super) struct RegexList<T> {
    items: Box<[(Arc<Regex>, T)]>,
    set: Option<RegexSet>,
}

impl<T> RegexList<T> {
    pub(super) fn new(items: Vec<(Arc<Regex>, T)>, ignore_case: bool) -> Self {
        let set = (items.len() >= SET_FROM)
            .then(|| {
                RegexSetBuilder::new(items.iter().map(|(regex, _)| regex.as_str()))
                    .unicode(false)
                    .case_insensitive(ignore_case)
                    .size_limit(SET_SIZE)
                    .dfa_size_limit(SET_CACHE)
                    .build()
                    .ok()
            })
            .flatten();
        Self {
            items: items.into_boxed_slice(),
            set,
        }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|(_, value)| value)
    }

    /// Gives, in order, the values of the regexes that match. `wanted` is asked first: nothing is run for a
    /// value that is not wanted, and nothing at all when none is.
    pub(super) fn search<S>(
        &self,
        text: &[u8],
        state: &mut S,
        wanted: impl Fn(&S, &T) -> bool,
        mut visit: impl FnMut(&mut S, &T),
    ) {
        if !self.values().any(|value| wanted(state, value)) {
            return;
        }
        match &self.set {
            Some(set) => {
                for index in set.matches(text) {
                    visit(state, &self.items[index].1);
                }
            }
            None => {
                for (regex, value) in &self.items {
                    if wanted(state, value) && regex.is_match(text) {
                        visit(state, value);
                    }
                }
            }
        }
    }
}

/// Whether `outer` holds every path that `inner` holds, as far as can be told from the patterns.
pub(super) fn path_covers(outer: &PathMatch, inner: &PathMatch) -> bool {
    match (outer, inner) {
        (PathMatch::Any, _) => true,
        (PathMatch::Exact(a), PathMatch::Exact(b)) => a == b,
        (PathMatch::Prefix(a), PathMatch::Exact(b)) => under_prefix(b, a),
        (PathMatch::Prefix(a), PathMatch::Prefix(b)) => b.starts_with(a) && at_boundary(b, a.len()),
        (PathMatch::Prefix(a), PathMatch::Any | PathMatch::Regex(_)) => **a == *b"/",
        (PathMatch::Regex(a), PathMatch::Regex(b)) => a.as_str() == b.as_str(),
        (PathMatch::Regex(a), PathMatch::Exact(b)) => a.is_match(b),
        _ => false,
    }
}

/// Whether `outer` holds every host that `inner` holds, as far as can be told from the patterns.
pub(super) fn host_covers(outer: &HostMatch, inner: &HostMatch) -> bool {
    match (outer, inner) {
        (HostMatch::Any, _) => true,
        (HostMatch::Wildcard(a), HostMatch::Wildcard(b)) => a == b || outer.holds(b.as_bytes()),
        (HostMatch::Regex(a), HostMatch::Regex(b)) => a.as_str() == b.as_str(),
        (_, HostMatch::Exact(b)) => outer.holds(b.as_bytes()),
        _ => false,
    }
}
