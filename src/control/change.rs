//! What a new configuration changes, object by object.

use crate::config::Config;
use crate::config::model::{Endpoint, Route};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What happens to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Added,
    Removed,
    Changed,
}

/// One object that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `listener`, `route`, `upstream`, `endpoint`, or a section that there is once: `runtime`, `log`, `dns`,
    /// `admin`.
    pub object: &'static str,
    /// Empty for a section that there is once. An endpoint's is `upstream/address`.
    pub name: String,
    pub change: ChangeKind,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.change {
            ChangeKind::Added => '+',
            ChangeKind::Removed => '-',
            ChangeKind::Changed => '~',
        };
        write!(f, "{sign} {}", self.object)?;
        if self.name.is_empty() {
            Ok(())
        } else {
            write!(f, " {}", self.name)
        }
    }
}

/// Every object that differs between two configurations.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let mut found = Vec::new();
    let mut section = |object, differs: bool| {
        if differs {
            found.push(Change {
                object,
                name: String::new(),
                change: ChangeKind::Changed,
            });
        }
    };
    section("runtime", old.runtime != new.runtime);
    section("log", old.log != new.log);
    section("dns", old.dns != new.dns);
    section("admin", old.admin != new.admin);

    by_name(
        &mut found,
        "listener",
        &refs(&old.listeners),
        &refs(&new.listeners),
    );
    by_name(&mut found, "route", &routes(&old.routes), &routes(&new.routes));
    if route_order(old, new) != route_order(new, old) {
        found.push(Change {
            object: "route order",
            name: String::new(),
            change: ChangeKind::Changed,
        });
    }
    by_name(
        &mut found,
        "upstream",
        &refs(&old.upstreams),
        &refs(&new.upstreams),
    );
    for (name, upstream) in &new.upstreams {
        if let Some(before) = old.upstreams.get(name) {
            let endpoints = (
                endpoints(name, &before.endpoints),
                endpoints(name, &upstream.endpoints),
            );
            by_name(&mut found, "endpoint", &endpoints.0, &endpoints.1);
        }
    }
    found
}

type ByName<'a, T> = BTreeMap<String, &'a T>;

fn refs<T>(map: &BTreeMap<String, T>) -> ByName<'_, T> {
    map.iter().map(|(name, value)| (name.clone(), value)).collect()
}

fn routes(routes: &[Route]) -> ByName<'_, Route> {
    routes.iter().map(|route| (route.name.clone(), route)).collect()
}

/// Names of `one`'s routes that `other` has too, in order: where two routes are equally specific, order decides.
fn route_order<'a>(one: &'a Config, other: &Config) -> Vec<&'a str> {
    let known: BTreeSet<&str> = other.routes.iter().map(|route| route.name.as_str()).collect();
    let names = one.routes.iter().map(|route| route.name.as_str());
    names.filter(|name| known.contains(name)).collect()
}

fn endpoints<'a>(upstream: &str, list: &'a [Endpoint]) -> ByName<'a, Endpoint> {
    list.iter()
        .map(|endpoint| (format!("{upstream}/{}", endpoint.text), endpoint))
        .collect()
}

fn by_name<T: PartialEq>(
    found: &mut Vec<Change>,
    object: &'static str,
    old: &ByName<'_, T>,
    new: &ByName<'_, T>,
) {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let change = match (old.get(name), new.get(name)) {
            (None, Some(_)) => ChangeKind::Added,
            (Some(_), None) => ChangeKind::Removed,
            (Some(old), Some(new)) if old != new => ChangeKind::Changed,
            _ => continue,
        };
        found.push(Change {
            object,
            name: name.clone(),
            change,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load_text};

    const BASE: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
[upstreams.app]
endpoints = ["127.0.0.1:1", "127.0.0.1:2"]
[[routes]]
name = "a"
paths = ["/a"]
upstream = "app"
[[routes]]
name = "b"
paths = ["/b"]
upstream = "app"
"#;

    fn difference(to: &str) -> Vec<String> {
        let load = |text: &str| load_text("test", text, &Environment::default()).unwrap().config;
        changes(&load(BASE), &load(to))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn the_same_configuration_differs_in_nothing() {
        assert!(difference(BASE).is_empty());
        assert!(difference(&format!("# a comment\n{BASE}")).is_empty());
    }

    #[test]
    fn objects_are_added_removed_and_changed_by_name() {
        let other = BASE
            .replace("[listeners.web]", "[listeners.site]")
            .replace("paths = [\"/b\"]", "paths = [\"/c\"]");
        assert_eq!(
            difference(&other),
            ["+ listener site", "- listener web", "~ route b"]
        );
    }

    #[test]
    fn an_endpoint_is_named_with_its_upstream() {
        let other = BASE.replace("\"127.0.0.1:2\"", "\"127.0.0.1:3\"");
        assert_eq!(
            difference(&other),
            [
                "~ upstream app",
                "- endpoint app/127.0.0.1:2",
                "+ endpoint app/127.0.0.1:3"
            ]
        );
    }

    #[test]
    fn the_order_of_routes_is_a_change_and_an_insertion_is_not_one_of_order() {
        let (head, routes) = BASE.split_at(BASE.find("[[routes]]").unwrap());
        let (first, second) = routes.split_at(routes.rfind("[[routes]]").unwrap());
        assert_eq!(difference(&format!("{head}{second}{first}")), ["~ route order"]);
        let inserted = format!("{head}[[routes]]\nname = \"x\"\nrespond = {{}}\n{first}{second}");
        assert_eq!(difference(&inserted), ["+ route x"]);
    }

    #[test]
    fn sections_are_told_as_a_whole() {
        assert_eq!(
            difference(&format!("{BASE}[runtime]\ndrain_timeout = \"5s\"\n")),
            ["~ runtime"]
        );
        assert_eq!(
            difference(&format!("{BASE}[log]\nlevel = \"debug\"\n")),
            ["~ log"]
        );
        assert_eq!(
            difference(&format!("{BASE}[admin]\naddress = \"127.0.0.1:0\"\n")),
            ["~ admin"]
        );
    }
}
