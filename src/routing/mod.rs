//! The route table: which route serves this request.
//!
//! # The order
//!
//! A route with several hosts and paths stands in the table once per pair of them, as an *entry*. All entries
//! have one fixed order, and the first whose host, path and predicates all hold wins:
//!
//! 1. higher `priority`;
//! 2. host: exact, then wildcard (longer first), then regex, then none;
//! 3. path: exact, then prefix (longer first), then regex, then none;
//! 4. more predicates: `methods`, `client_ip` and `listeners` count one each, and so does every header,
//!    query parameter and cookie;
//! 5. place in the file.
//!
//! So a request whose most specific route fails on a predicate falls to the next entry, be it of a less
//! specific path or host. A prefix holds by segment; one that ends in a slash wants that slash.
//!
//! # How it is found
//!
//! Entries are numbered in that order; the number is the *rank*. Hosts and paths lead to short lists of ranks,
//! visited from the most specific down, and a list whose least rank is not better than what was found is not
//! looked at. [`RouteTable::trace`] tells the same story entry by entry.

mod build;
mod captures;
mod groups;
mod hosts;
mod paths;
mod pattern;
mod predicates;
pub mod redirect;
pub mod rewrite;
mod shadow;
pub mod split;
mod trace;
pub mod variables;

#[cfg(test)]
mod tests;

pub use captures::{Captures, Groups};
pub use predicates::Failure;
pub use trace::{Step, Verdict};

use crate::message::head::RequestHead;
use hosts::HostIndex;
use pattern::{HostMatch, PathMatch};
use predicates::Predicates;
use std::net::IpAddr;

/// What routing looks at.
#[derive(Clone, Copy, Debug)]
pub struct RouteInput<'a> {
    /// Index of the listener, as the table was built with.
    pub listener: u32,
    /// Normal form, see `message::host`.
    pub host: &'a [u8],
    /// Normal form, see `message::path`.
    pub path: &'a [u8],
    /// As received.
    pub query: Option<&'a [u8]>,
    pub head: &'a RequestHead,
    /// The client as resolved through trusted proxies.
    pub client: IpAddr,
}

/// The route that serves a request.
#[derive(Clone, Debug)]
pub struct Match {
    /// Index in the configuration's list of routes.
    pub route: u32,
    /// Length of the path that an exact or prefix pattern matched, without a prefix's last slash; 0 otherwise.
    pub prefix_len: usize,
    /// Groups of the regexes that matched; `None` when none has any.
    pub captures: Option<Box<Captures>>,
}

/// Place of an entry in the order; lower is better.
type Rank = u32;
const NO_RANK: Rank = Rank::MAX;

/// One pair of host and path of one route.
#[derive(Debug)]
struct Entry {
    route: u32,
    host: HostMatch,
    path: PathMatch,
}

/// The compiled routes. Immutable; shared by all workers.
#[derive(Debug)]
pub struct RouteTable {
    /// In the order of rank.
    entries: Box<[Entry]>,
    /// By route.
    predicates: Box<[Predicates]>,
    hosts: HostIndex,
}

impl RouteTable {
    /// The route that serves this request. Allocates only where regexes are involved.
    #[must_use]
    pub fn lookup(&self, input: &RouteInput<'_>) -> Option<Match> {
        let mut search = Search {
            table: self,
            input,
            best: NO_RANK,
        };
        self.hosts.search(&mut search);
        let entry = self.entries.get(search.best as usize)?;
        Some(Match {
            route: entry.route,
            prefix_len: entry.path.prefix_len(),
            captures: Captures::of(&entry.host, &entry.path, input),
        })
    }
}

/// The best rank found so far.
struct Search<'a> {
    table: &'a RouteTable,
    input: &'a RouteInput<'a>,
    best: Rank,
}

impl Search<'_> {
    /// Whether something of this rank would be an improvement.
    const fn wants(&self, rank: Rank) -> bool {
        rank < self.best
    }

    /// Offers entries whose host and path hold, in rising order of rank.
    fn offer(&mut self, ranks: &[Rank]) {
        for &rank in ranks {
            if !self.wants(rank) {
                return;
            }
            let route = self.table.entries[rank as usize].route;
            if self.table.predicates[route as usize]
                .first_failure(self.input)
                .is_none()
            {
                self.best = rank;
                return;
            }
        }
    }
}
