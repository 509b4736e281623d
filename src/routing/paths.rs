//! The paths of one host: which entries hold for this path.

use super::pattern::{PathMatch, RegexList};
use super::{Entry, NO_RANK, Rank, Search};
use crate::message::path::at_boundary;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All entries of one host pattern, by path.
///
/// Exact and prefix patterns lie sorted in one array. Those that begin a path all stand on one chain: from the
/// greatest pattern not above the path, over each pattern's longest proper prefix. One binary search finds the
/// chain; no hash, so no request can be made to collide.
#[derive(Debug)]
pub(super) struct PathTable {
    /// Texts of all patterns, one after the other: comparing does not leave this memory.
    text: Box<[u8]>,
    /// Sorted by text.
    patterns: Box<[Pattern]>,
    regexes: RegexList<Box<[Rank]>>,
    any: Box<[Rank]>,
    /// The best rank in here.
    least: Rank,
}

#[derive(Debug)]
struct Pattern {
    start: u32,
    end: u32,
    /// Index of the longest other pattern that this one begins with; `NO_PATTERN` when there is none.
    parent: u32,
    exact: Box<[Rank]>,
    prefix: Box<[Rank]>,
}
const NO_PATTERN: u32 = u32::MAX;

/// Ranks of the entries with one text, exact and prefix.
type Ranks = (Vec<Rank>, Vec<Rank>);

impl PathTable {
    /// `ranks` are the entries of this host, in rising order.
    pub(super) fn new(entries: &[Entry], ranks: &[Rank]) -> Self {
        let mut texts: BTreeMap<&[u8], Ranks> = BTreeMap::new();
        let mut regexes: Vec<(Arc<_>, Vec<Rank>)> = Vec::new();
        let mut any = Vec::new();
        for &rank in ranks {
            match &entries[rank as usize].path {
                PathMatch::Exact(text) => texts.entry(text).or_default().0.push(rank),
                PathMatch::Prefix(text) => texts.entry(text).or_default().1.push(rank),
                PathMatch::Any => any.push(rank),
                // The builder compiles each text once, so the same regex is the same pointer.
                PathMatch::Regex(regex) => match regexes.iter_mut().find(|(r, _)| Arc::ptr_eq(r, regex)) {
                    Some((_, ranks)) => ranks.push(rank),
                    None => regexes.push((Arc::clone(regex), vec![rank])),
                },
            }
        }
        let (text, patterns) = sort_patterns(texts);
        let regexes = regexes.into_iter().map(|(r, ranks)| (r, ranks.into())).collect();
        Self {
            text,
            patterns,
            regexes: RegexList::new(regexes, false),
            any: any.into(),
            least: ranks.first().copied().unwrap_or(NO_RANK),
        }
    }

    /// Whether anything in here could still win.
    pub(super) const fn is_wanted(&self, search: &Search<'_>) -> bool {
        search.wants(self.least)
    }

    /// Offers what holds for the path, the most specific first.
    pub(super) fn search(&self, search: &mut Search<'_>) {
        if !self.is_wanted(search) {
            return;
        }
        let path = search.input.path;
        self.search_texts(path, search);
        self.regexes.search(
            path,
            search,
            |search, ranks| ranks.first().is_some_and(|&rank| search.wants(rank)),
            |search, ranks| search.offer(ranks),
        );
        search.offer(&self.any);
    }

    fn search_texts(&self, path: &[u8], search: &mut Search<'_>) {
        let above = self.patterns.partition_point(|p| self.text_of(p) <= path);
        let Some(last) = above.checked_sub(1) else { return };
        let shared = shared_len(self.text_of(&self.patterns[last]), path);
        let mut index = last as u32;
        while let Some(pattern) = self.patterns.get(index as usize) {
            let len = (pattern.end - pattern.start) as usize;
            if len <= shared {
                if len == path.len() {
                    search.offer(&pattern.exact);
                }
                if at_boundary(path, len) {
                    search.offer(&pattern.prefix);
                }
            }
            index = pattern.parent;
        }
    }

    fn text_of(&self, pattern: &Pattern) -> &[u8] {
        &self.text[pattern.start as usize..pattern.end as usize]
    }
}

/// How many bytes both begin with.
fn shared_len(a: &[u8], b: &[u8]) -> usize {
    // One comparison of memory decides nearly every lookup.
    if b.starts_with(a) {
        return a.len();
    }
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn sort_patterns(texts: BTreeMap<&[u8], Ranks>) -> (Box<[u8]>, Box<[Pattern]>) {
    let mut text = Vec::new();
    let mut patterns: Vec<Pattern> = Vec::with_capacity(texts.len());
    // The patterns that begin the current one, shortest first.
    let mut open: Vec<(&[u8], u32)> = Vec::new();
    for (key, (exact, prefix)) in texts {
        while open.last().is_some_and(|(begin, _)| !key.starts_with(begin)) {
            open.pop();
        }
        let start = text.len() as u32;
        text.extend_from_slice(key);
        patterns.push(Pattern {
            start,
            end: text.len() as u32,
            parent: open.last().map_or(NO_PATTERN, |&(_, index)| index),
            exact: exact.into(),
            prefix: prefix.into(),
        });
        open.push((key, patterns.len() as u32 - 1));
    }
    (text.into(), patterns.into())
}
