//! Why this route: what every entry said to a request, in the order they are asked.

use super::predicates::Failure;
use super::{Entry, NO_RANK, RouteInput, RouteTable, Search};

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// This one serves the request.
    Chosen,
    /// It would, had none before it.
    Shadowed,
    HostDiffers,
    PathDiffers,
    /// Host and path hold, this predicate does not.
    Fails(Failure<'a>),
}

/// One entry and its verdict. A route with several hosts or paths has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    pub route: u32,
    pub verdict: Verdict<'a>,
}

impl RouteTable {
    /// Every entry's verdict in the order of rank. The choice and the predicates are [`RouteTable::lookup`]'s
    /// own; only host and path are asked of each pattern singly.
    #[must_use]
    pub fn trace(&self, input: &RouteInput<'_>) -> Vec<Step<'_>> {
        let mut search = Search {
            table: self,
            input,
            best: NO_RANK,
        };
        self.hosts.search(&mut search);
        let chosen = search.best as usize;
        let steps = self.entries.iter().enumerate().map(|(rank, entry)| Step {
            route: entry.route,
            verdict: if rank == chosen {
                Verdict::Chosen
            } else {
                self.verdict(entry, input)
            },
        });
        steps.collect()
    }

    fn verdict(&self, entry: &Entry, input: &RouteInput<'_>) -> Verdict<'_> {
        if !entry.host.holds(input.host) {
            return Verdict::HostDiffers;
        }
        if !entry.path.holds(input.path) {
            return Verdict::PathDiffers;
        }
        match self.predicates[entry.route as usize].first_failure(input) {
            Some(failure) => Verdict::Fails(failure),
            None => Verdict::Shadowed,
        }
    }
}
