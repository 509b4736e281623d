//! Lists, piece by piece: `limit`, and `cursor` or `since` to go on.

use super::problem::Problem;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use std::collections::HashMap;

/// Entries in an answer when nothing else is asked for, and at most.
pub const DEFAULT_LIMIT: usize = 100;
pub const MAX_LIMIT: usize = 1000;

/// The query parameters that any endpoint may have.
#[derive(Clone, Debug, Default)]
pub struct Params {
    limit: Option<usize>,
    cursor: Option<String>,
    since: Option<u64>,
    pub dry_run: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<Query<HashMap<String, String>>, QueryRejection> =
            Query::from_request_parts(parts, state).await;
        let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
        Self::parse(&query)
    }
}

impl Params {
    fn parse(query: &HashMap<String, String>) -> Result<Self, Problem> {
        let number = |name: &str| {
            query
                .get(name)
                .map(|text| {
                    text.parse::<u64>().map_err(|_| {
                        Problem::bad_request(format!("{name} must be a whole number, not {text:?}"))
                    })
                })
                .transpose()
        };
        let dry_run = match query.get("dry_run").map(String::as_str) {
            None | Some("false" | "0") => false,
            Some("true" | "1" | "") => true,
            Some(other) => {
                return Err(Problem::bad_request(format!(
                    "dry_run must be true or false, not {other:?}"
                )));
            }
        };
        let cursor = query.get("cursor").cloned();
        let since = match (number("since")?, &cursor) {
            (None, Some(cursor)) => cursor.parse().ok(),
            (since, _) => since,
        };
        let limit = number("limit")?.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(Self {
            limit,
            cursor,
            since,
            dry_run,
        })
    }

    /// How many entries may be in the answer.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT)
    }

    /// The number above which entries are wanted.
    #[must_use]
    pub fn since(&self) -> u64 {
        self.since.unwrap_or(0)
    }

    /// Cuts a list of named objects to the piece behind `cursor`, the name of the last one that was seen. The
    /// second part is the cursor for the next piece, if there is one. Lists keep their order, so a cursor whose
    /// object is gone starts again: better twice than never.
    pub fn page<T>(&self, mut list: Vec<T>, name: impl Fn(&T) -> &str) -> (Vec<T>, Option<String>) {
        if let Some(cursor) = &self.cursor
            && let Some(seen) = list.iter().position(|item| name(item) == cursor)
        {
            list.drain(..=seen);
        }
        let more = list.len() > self.limit();
        // Without a limit in the question a list of objects is whole: tools that don't page see everything.
        if more && (self.limit.is_some() || list.len() > MAX_LIMIT) {
            list.truncate(if self.limit.is_some() {
                self.limit()
            } else {
                MAX_LIMIT
            });
            let next = list.last().map(|item| name(item).to_owned());
            return (list, next);
        }
        (list, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Result<Params, Problem> {
        let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Params::parse(&pairs.collect())
    }

    #[test]
    fn pages_together_are_the_whole_list() {
        let names: Vec<String> = (0..7).map(|n| format!("r{n}")).collect();
        let mut seen = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = vec![("limit", "3")];
            if let Some(cursor) = &cursor {
                query.push(("cursor", cursor));
            }
            let (page, next) = params(&query).unwrap().page(names.clone(), |name| name);
            seen.extend(page);
            match next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, names);
    }

    #[test]
    fn an_answer_is_bounded_whatever_is_asked_for() {
        let names: Vec<String> = (0..MAX_LIMIT + 10).map(|n| n.to_string()).collect();
        for query in [vec![], vec![("limit", "999999999999999999")]] {
            let (page, next) = params(&query).unwrap().page(names.clone(), |name| name);
            assert_eq!(page.len(), MAX_LIMIT);
            assert!(next.is_some());
        }
    }

    #[test]
    fn without_a_limit_a_list_of_usual_size_is_whole() {
        let names: Vec<String> = (0..DEFAULT_LIMIT + 10).map(|n| n.to_string()).collect();
        let (page, next) = params(&[]).unwrap().page(names.clone(), |name| name);
        assert_eq!((page.len(), next), (names.len(), None));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(params(&[("limit", "many")]).is_err());
        assert!(params(&[("since", "-1")]).is_err());
        assert!(params(&[("dry_run", "perhaps")]).is_err());
        assert!(params(&[("dry_run", "true")]).unwrap().dry_run);
        assert_eq!(params(&[("limit", "0")]).unwrap().limit(), 1);
    }
}
