//! What the groups of the matching regexes matched.

use super::RouteInput;
use super::pattern::{HostMatch, PathMatch};
use crate::message::head::Span;
use crate::message::template::Group;
use regex::bytes::Regex;
use std::sync::Arc;

/// The groups of the path's and of the host's regex.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    pub path: Option<Groups>,
    pub host: Option<Groups>,
}

impl Captures {
    /// Runs the regexes of the chosen entry again, for their groups; `None` when there are no groups.
    pub(super) fn of(host: &HostMatch, path: &PathMatch, input: &RouteInput<'_>) -> Option<Box<Self>> {
        let path = match path {
            PathMatch::Regex(regex) => Groups::of(regex, input.path),
            PathMatch::Exact(_) | PathMatch::Prefix(_) | PathMatch::Any => None,
        };
        let host = match host {
            HostMatch::Regex(regex) => Groups::of(regex, input.host),
            HostMatch::Exact(_) | HostMatch::Wildcard(_) | HostMatch::Any => None,
        };
        (path.is_some() || host.is_some()).then(|| Box::new(Self { path, host }))
    }
}

/// The groups of one regex, with the text they matched in.
#[derive(Clone, Debug)]
pub struct Groups {
    /// Knows the names.
    regex: Arc<Regex>,
    text: Box<[u8]>,
    /// By number; the first is the whole match.
    spans: Box<[Option<Span>]>,
}

impl Groups {
    fn of(regex: &Arc<Regex>, text: &[u8]) -> Option<Self> {
        if regex.captures_len() == 1 {
            return None;
        }
        let found = regex.captures(text)?;
        Some(Self {
            regex: Arc::clone(regex),
            text: text.into(),
            spans: found
                .iter()
                .map(|group| group.map(|m| Span::new(m.start(), m.end())))
                .collect(),
        })
    }

    /// What this group matched; `None` when it took no part, or does not exist.
    #[must_use]
    pub fn get(&self, group: &Group) -> Option<&[u8]> {
        let index = match group {
            Group::Number(number) => usize::from(*number),
            Group::Name(name) => self
                .regex
                .capture_names()
                .position(|found| found == Some(&**name))?,
        };
        let span = (*self.spans.get(index)?)?;
        Some(span.of(&self.text))
    }
}
