//! Routes that can never match, because an earlier one takes everything they could.

use super::Entry;
use super::pattern::{HostMatch, PathMatch, host_covers, path_covers};
use super::predicates::Predicates;
use crate::config::diagnostic::Diagnostic;
use crate::config::model::Route;
use std::collections::HashMap;

/// Most comparisons made. Only explicit priorities make entries with different patterns worth comparing, and a
/// table of thousands of them is not worth a slow start: the rest then goes unwarned.
const MAX_COMPARISONS: usize = 10_000_000;

/// One warning per route none of whose entries can ever be chosen. Told from single entries before it, so
/// routes that are covered only by several others together are not found.
pub(super) fn warnings(routes: &[Route], entries: &[Entry], predicates: &[Predicates]) -> Vec<Diagnostic> {
    let mut search = Coverage {
        routes,
        entries,
        predicates,
        same_patterns: HashMap::new(),
        comparisons: 0,
    };
    // By route: how many of its entries can win, and who covers the first that cannot.
    let mut alive = vec![0usize; routes.len()];
    let mut covered_by: Vec<Option<u32>> = vec![None; routes.len()];
    for (rank, entry) in entries.iter().enumerate() {
        let route = entry.route as usize;
        match search.coverer(rank) {
            Some(other) => {
                covered_by[route].get_or_insert(other);
            }
            None => alive[route] += 1,
        }
    }
    let dead = (0..routes.len()).filter(|&route| alive[route] == 0);
    dead.filter_map(|route| Some(warning(routes, route, covered_by[route]? as usize)))
        .collect()
}

fn warning(routes: &[Route], route: usize, by: usize) -> Diagnostic {
    let (name, other) = (&routes[route].name, &routes[by].name);
    Diagnostic::warning(
        format!("routes[{route}]"),
        format!("route `{name}` can never match because of routes[{by}] (`{other}`)"),
    )
    .hint("give it a more specific host or path, more predicates, or a higher `priority`")
}

struct Coverage<'a> {
    routes: &'a [Route],
    entries: &'a [Entry],
    predicates: &'a [Predicates],
    /// Earlier entries by their patterns.
    same_patterns: HashMap<(PatternText<'a>, PatternText<'a>), Vec<usize>>,
    comparisons: usize,
}

/// Kind and text of a pattern.
type PatternText<'a> = (u8, &'a [u8]);

impl Coverage<'_> {
    /// The route of an earlier entry that holds whenever this one does. Entries are asked about in rank order.
    ///
    /// Among equal priorities the more specific pattern comes first, and it cannot cover a less specific one:
    /// there only equal patterns count.
    fn coverer(&mut self, rank: usize) -> Option<u32> {
        let entry = &self.entries[rank];
        let priority = self.routes[entry.route as usize].priority;
        let higher = self
            .entries
            .partition_point(|e| self.routes[e.route as usize].priority > priority);
        let key = (host_text(&entry.host), path_text(&entry.path));
        let earlier = self.same_patterns.entry(key).or_default();
        let candidates = earlier.iter().copied().chain(0..higher);
        let mut found = None;
        for other in candidates {
            self.comparisons += 1;
            if self.comparisons > MAX_COMPARISONS {
                break;
            }
            let outer = &self.entries[other];
            if outer.route != entry.route
                && host_covers(&outer.host, &entry.host)
                && path_covers(&outer.path, &entry.path)
                && self.predicates[entry.route as usize].implies(&self.predicates[outer.route as usize])
            {
                found = Some(outer.route);
                break;
            }
        }
        earlier.push(rank);
        found
    }
}

fn host_text(host: &HostMatch) -> PatternText<'_> {
    match host {
        HostMatch::Exact(text) => (0, text.as_bytes()),
        HostMatch::Wildcard(text) => (1, text.as_bytes()),
        HostMatch::Regex(regex) => (2, regex.as_str().as_bytes()),
        HostMatch::Any => (3, b""),
    }
}

fn path_text(path: &PathMatch) -> PatternText<'_> {
    match path {
        PathMatch::Exact(text) => (0, text),
        PathMatch::Prefix(text) => (1, text),
        PathMatch::Regex(regex) => (2, regex.as_str().as_bytes()),
        PathMatch::Any => (3, b""),
    }
}
