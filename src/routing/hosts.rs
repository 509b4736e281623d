//! The hosts: which path tables to look into for this host.

use super::paths::PathTable;
use super::pattern::{HostMatch, RegexList};
use super::{Entry, Rank, Search};
use std::collections::HashMap;
use std::sync::Arc;

/// Path tables by host pattern. The maps hash with keys drawn at random per process: hosts are the client's.
#[derive(Debug)]
pub(super) struct HostIndex {
    exact: HashMap<Box<[u8]>, PathTable>,
    wildcards: HashMap<Box<[u8]>, PathTable>,
    /// Lengths of the shortest and longest wildcard, so that a long host is not hashed from every dot.
    wildcard_lens: (usize, usize),
    regexes: RegexList<PathTable>,
    any: Option<PathTable>,
}

impl HostIndex {
    /// `entries` in the order of rank.
    pub(super) fn new(entries: &[Entry]) -> Self {
        let mut exact: HashMap<Box<[u8]>, Vec<Rank>> = HashMap::new();
        let mut wildcards: HashMap<Box<[u8]>, Vec<Rank>> = HashMap::new();
        let mut regexes: Vec<(Arc<_>, Vec<Rank>)> = Vec::new();
        let mut any = Vec::new();
        for (rank, entry) in entries.iter().enumerate() {
            let rank = rank as Rank;
            match &entry.host {
                HostMatch::Exact(name) => exact.entry(name.as_bytes().into()).or_default().push(rank),
                HostMatch::Wildcard(suffix) => {
                    wildcards.entry(suffix.as_bytes().into()).or_default().push(rank)
                }
                HostMatch::Any => any.push(rank),
                HostMatch::Regex(regex) => match regexes.iter_mut().find(|(r, _)| Arc::ptr_eq(r, regex)) {
                    Some((_, ranks)) => ranks.push(rank),
                    None => regexes.push((Arc::clone(regex), vec![rank])),
                },
            }
        }
        let table = |ranks: Vec<Rank>| PathTable::new(entries, &ranks);
        let lens = || wildcards.keys().map(|suffix| suffix.len());
        Self {
            wildcard_lens: (lens().min().unwrap_or(usize::MAX), lens().max().unwrap_or(0)),
            exact: exact
                .into_iter()
                .map(|(name, ranks)| (name, table(ranks)))
                .collect(),
            wildcards: wildcards
                .into_iter()
                .map(|(name, ranks)| (name, table(ranks)))
                .collect(),
            regexes: RegexList::new(
                regexes.into_iter().map(|(r, ranks)| (r, table(ranks))).collect(),
                true,
            ),
            any: (!any.is_empty()).then(|| table(any)),
        }
    }

    /// Offers what holds for the host and path, the most specific first.
    pub(super) fn search(&self, search: &mut Search<'_>) {
        let host = search.input.host;
        if let Some(table) = self.exact.get(host) {
            table.search(search);
        }
        self.search_wildcards(host, search);
        self.regexes.search(
            host,
            search,
            |search, table| table.is_wanted(search),
            |search, table| table.search(search),
        );
        if let Some(table) = &self.any {
            table.search(search);
        }
    }

    fn search_wildcards(&self, host: &[u8], search: &mut Search<'_>) {
        let (shortest, longest) = self.wildcard_lens;
        let mut rest = host;
        while rest.len() > shortest
            && let Some(dot) = rest.iter().position(|&b| b == b'.')
        {
            let suffix = &rest[dot + 1..];
            rest = suffix;
            if suffix.len() < shortest {
                return;
            }
            if suffix.len() <= longest
                && let Some(table) = self.wildcards.get(suffix)
            {
                table.search(search);
            }
        }
    }
}
