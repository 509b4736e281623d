//! Routes: one action each, names of their own, and references that lead somewhere.

use super::Checker;
use crate::config::model::PathPattern;
use crate::config::path::{index, join};
use crate::config::read::route_name;
use crate::config::settings::Table;
use std::collections::BTreeMap;

/// The keys of a route of which exactly one is written.
const ACTIONS: [&str; 4] = ["upstream", "split", "redirect", "respond"];
/// The keys of a route that only say how a request is forwarded.
const FORWARDING: [&str; 8] = [
    "strip_prefix",
    "add_prefix",
    "rewrite",
    "host",
    "request_headers",
    "timeouts",
    "websocket",
    "upgrades",
];
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

impl Checker<'_> {
    pub(super) fn route_names(&mut self) {
        let tables = self.root.tables("routes");
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (at, table) in tables.iter().enumerate() {
            let name = route_name(table, at);
            match seen.get(&name) {
                Some(first) => {
                    let place = self.place(tables.get(*first));
                    let message = format!("the name `{name}` is taken by routes[{first}]{place}");
                    self.error(join(&index("routes", at), "name"), message);
                }
                None => drop(seen.insert(name, at)),
            }
        }
    }

    pub(super) fn actions(&mut self, at: &str, table: &Table) {
        let given: Vec<&str> = ACTIONS.into_iter().filter(|name| table.given(name)).collect();
        if given.len() != 1 {
            let found = if given.is_empty() {
                "none".to_owned()
            } else {
                given.join(" and ")
            };
            let message = format!(
                "a route has one action; found {found}; accepted: one of {}",
                ACTIONS.join(", ")
            );
            // At the second one, if there is one.
            let key = given.get(1).map_or_else(|| at.to_owned(), |name| join(at, name));
            self.error(key, message);
        }
        let answers = table.given("redirect") || table.given("respond");
        for name in FORWARDING.into_iter().filter(|name| answers && table.given(name)) {
            let message = format!("`{name}` has no effect: the route does not forward");
            self.warning(join(at, name), message, None);
        }
    }

    pub(super) fn route(&mut self, at: &str, table: &Table) {
        for (position, name) in table
            .list::<String>("listeners")
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            self.reference(
                "listeners",
                "listener",
                name,
                index(&join(at, "listeners"), position),
            );
        }
        if let Some(name) = table.get::<String>("upstream") {
            self.reference("upstreams", "upstream", &name, join(at, "upstream"));
        }
        if let Some(split) = table.map::<u32>("split") {
            for name in split.keys() {
                self.reference("upstreams", "upstream", name, join(&join(at, "split"), name));
            }
            let at = join(at, "split");
            if split.values().all(|weight| *weight == 0) && !self.problems.any_under(&at) {
                let message = "no upstream has a weight above 0: nothing would be forwarded".to_owned();
                self.error(at, message);
            }
        }
        let status: Option<u16> = table
            .table("redirect")
            .and_then(|redirect| redirect.get("status"));
        if let Some(status) = status.filter(|status| !REDIRECTS.contains(status)) {
            let message = format!("found {status}; accepted: 301, 302, 303, 307 or 308");
            self.error(join(&join(at, "redirect"), "status"), message);
        }
        self.strip_prefix(at, table);
    }

    fn strip_prefix(&mut self, at: &str, table: &Table) {
        let Some(prefix) = table.get::<String>("strip_prefix") else {
            return;
        };
        for path in table.list::<PathPattern>("paths").unwrap_or_default() {
            let (PathPattern::Exact(text) | PathPattern::Prefix(text)) = path else {
                continue;
            };
            if !text.starts_with(prefix.trim_end_matches('/')) {
                let message = format!("{text} does not begin with {prefix}: nothing is taken off such paths");
                self.warning(join(at, "strip_prefix"), message, None);
            }
        }
    }
}
