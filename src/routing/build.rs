//! From routes as written to the table: every mistake is found, with the key it stands under.

use super::hosts::HostIndex;
use super::pattern::{self, HostMatch, PathMatch};
use super::predicates::{Named, Predicates, ValueMatch};
use super::{Entry, RouteTable, groups, shadow};
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::model::{HostPattern, PathPattern, Route, ValuePattern};
use crate::message::host::parse_host;
use crate::message::names::Name;
use crate::message::path;
use ipnet::{IpNet, Ipv4Net};
use regex::bytes::Regex;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

impl RouteTable {
    /// Compiles the routes. `listener` gives the index that requests of the listener with this name carry in
    /// [`super::RouteInput::listener`].
    ///
    /// # Errors
    /// All diagnostics, warnings included, when one of them is an error.
    pub fn build(
        routes: &[Route],
        listener: impl Fn(&str) -> Option<u32>,
    ) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let mut builder = Builder {
            listener,
            regexes: HashMap::new(),
            diagnostics: Vec::new(),
        };
        let mut keyed = Vec::new();
        let mut predicates = Vec::with_capacity(routes.len());
        for (index, route) in routes.iter().enumerate() {
            let conditions = builder.predicates(index, route);
            builder.entries(index, route, conditions.count(), &mut keyed);
            predicates.push(conditions);
        }
        // Stable: the pairs of one route that tie stay in the order of its patterns.
        keyed.sort_by_key(|(key, _)| *key);
        let entries: Box<[Entry]> = keyed.into_iter().map(|(_, entry)| entry).collect();

        let mut diagnostics = builder.diagnostics;
        if diagnostics.iter().any(|d| d.severity == Severity::Error) {
            return Err(diagnostics);
        }
        diagnostics.extend(shadow::warnings(routes, &entries, &predicates));
        diagnostics.extend(groups::warnings(routes, &entries));
        let table = Self {
            hosts: HostIndex::new(&entries),
            entries,
            predicates: predicates.into_boxed_slice(),
        };
        Ok((table, diagnostics))
    }
}

/// The order of entries, see the module's page.
type Key = (Reverse<i32>, Class, Class, Reverse<usize>, usize);
/// Kind of pattern, and longer before shorter within it.
type Class = (u8, Reverse<usize>);

fn host_class(host: &HostMatch) -> Class {
    match host {
        HostMatch::Exact(_) => (0, Reverse(0)),
        HostMatch::Wildcard(suffix) => (1, Reverse(suffix.len())),
        HostMatch::Regex(_) => (2, Reverse(0)),
        HostMatch::Any => (3, Reverse(0)),
    }
}

fn path_class(path: &PathMatch) -> Class {
    match path {
        PathMatch::Exact(_) => (0, Reverse(0)),
        PathMatch::Prefix(text) => (1, Reverse(text.len())),
        PathMatch::Regex(_) => (2, Reverse(0)),
        PathMatch::Any => (3, Reverse(0)),
    }
}

struct Builder<F> {
    listener: F,
    /// Compiled once per text and case rule: equal regexes are one pointer.
    regexes: HashMap<(String, bool), Result<Arc<Regex>, String>>,
    diagnostics: Vec<Diagnostic>,
}

impl<F: Fn(&str) -> Option<u32>> Builder<F> {
    fn entries(&mut self, index: usize, route: &Route, predicates: usize, out: &mut Vec<(Key, Entry)>) {
        let hosts = self.hosts(index, &route.hosts);
        let paths = self.paths(index, &route.paths);
        for host in &hosts {
            for path in &paths {
                let key = (
                    Reverse(route.priority),
                    host_class(host),
                    path_class(path),
                    Reverse(predicates),
                    index,
                );
                let entry = Entry {
                    route: index as u32,
                    host: host.clone(),
                    path: path.clone(),
                };
                out.push((key, entry));
            }
        }
    }

    fn hosts(&mut self, route: usize, written: &[HostPattern]) -> Vec<HostMatch> {
        if written.is_empty() {
            return vec![HostMatch::Any];
        }
        let mut seen = HashSet::new();
        let mut hosts = Vec::new();
        for (i, pattern) in written.iter().enumerate() {
            let compiled = match pattern {
                HostPattern::Exact(name) => host_name(name).map(|name| HostMatch::Exact(name.into())),
                HostPattern::Wildcard(name) => host_name(name).map(|name| HostMatch::Wildcard(name.into())),
                HostPattern::Regex(text) => self.regex(text, true).map(HostMatch::Regex),
            };
            match compiled {
                Ok(_) if !seen.insert(pattern) => {}
                Ok(host) => hosts.push(host),
                Err(message) => self.error(format!("routes[{route}].hosts[{i}]"), message),
            }
        }
        hosts
    }

    fn paths(&mut self, route: usize, written: &[PathPattern]) -> Vec<PathMatch> {
        if written.is_empty() {
            return vec![PathMatch::Any];
        }
        let mut seen = HashSet::new();
        let mut paths = Vec::new();
        for (i, pattern) in written.iter().enumerate() {
            let compiled = match pattern {
                PathPattern::Exact(text) => plain_path(text).map(|text| PathMatch::Exact(text.into())),
                PathPattern::Prefix(text) => plain_path(text).map(|text| PathMatch::Prefix(text.into())),
                PathPattern::Regex(text) => self.regex(text, false).map(PathMatch::Regex),
            };
            let key = || format!("routes[{route}].paths[{i}]");
            match compiled {
                Ok(_) if !seen.insert(pattern) => {}
                Ok(path) => {
                    if let PathMatch::Exact(text) | PathMatch::Prefix(text) = &path
                        && !is_reachable(text)
                    {
                        self.diagnostics.push(unreachable_path(key()));
                    }
                    paths.push(path);
                }
                Err(message) => self.error(key(), message),
            }
        }
        paths
    }

    fn predicates(&mut self, index: usize, route: &Route) -> Predicates {
        let headers = self.named(index, "headers", &route.headers);
        Predicates {
            listeners: self.listeners(index, &route.listeners),
            methods: self.methods(index, &route.methods),
            client_ip: route.client_ip.iter().copied().map(canonical).collect(),
            headers: headers
                .into_iter()
                .map(|named| {
                    let name = named.name.to_ascii_lowercase().into_boxed_str();
                    (Name::recognise(name.as_bytes()), Named { name, ..named })
                })
                .collect(),
            query: self.named(index, "query", &route.query).into(),
            cookies: self.named(index, "cookies", &route.cookies).into(),
        }
    }

    fn listeners(&mut self, route: usize, written: &[String]) -> Box<[u32]> {
        let mut indexes = Vec::new();
        for (i, name) in written.iter().enumerate() {
            match (self.listener)(name) {
                Some(index) => indexes.push(index),
                None => self.error(
                    format!("routes[{route}].listeners[{i}]"),
                    format!("`{name}` is not a listener"),
                ),
            }
        }
        indexes.into()
    }

    fn methods(&mut self, route: usize, written: &[String]) -> Box<[Box<str>]> {
        for (i, method) in written.iter().enumerate() {
            let upper = method.to_ascii_uppercase();
            if *method != upper {
                let key = format!("routes[{route}].methods[{i}]");
                let message = format!("`{method}` is not `{upper}`: methods are case-sensitive");
                self.diagnostics
                    .push(Diagnostic::warning(key, message).hint(format!("did you mean `{upper}`?")));
            }
        }
        written.iter().map(|method| method.as_str().into()).collect()
    }

    fn named(&mut self, route: usize, key: &str, written: &BTreeMap<String, ValuePattern>) -> Vec<Named> {
        let mut all = Vec::new();
        for (name, pattern) in written {
            let value = match pattern {
                ValuePattern::Exact(text) => Ok(ValueMatch::Exact(text.as_bytes().into())),
                ValuePattern::Regex(text) => self.regex(text, false).map(ValueMatch::Regex),
                ValuePattern::Present => Ok(ValueMatch::Present),
                ValuePattern::Absent => Ok(ValueMatch::Absent),
            };
            let name = name.as_str().into();
            match value {
                Ok(value) => all.push(Named { name, value }),
                Err(message) => self.error(format!("routes[{route}].{key}.{name}"), message),
            }
        }
        all
    }

    fn regex(&mut self, text: &str, ignore_case: bool) -> Result<Arc<Regex>, String> {
        self.regexes
            .entry((text.to_owned(), ignore_case))
            .or_insert_with(|| {
                pattern::compile(text, ignore_case).map_err(|why| format!("`{text}` is not a regex: {why}"))
            })
            .clone()
    }

    fn error(&mut self, key: String, message: String) {
        self.diagnostics.push(Diagnostic::error(key, message));
    }
}

/// The normal form of a host as written in a pattern.
fn host_name(text: &str) -> Result<String, String> {
    if text.contains('*') {
        return Err(format!(
            "`{text}` has a `*` that is not a first label; `*.example.com` holds every name below a domain, \
             and leaving `hosts` out holds every host"
        ));
    }
    if !text.is_ascii() {
        return Err(format!(
            "`{text}` is not ASCII; write it as browsers send it, with `xn--` labels"
        ));
    }
    let host =
        parse_host(text.as_bytes()).map_err(|reject| format!("`{text}` is not a host: {}", reject.detail))?;
    if host.port().is_some() {
        return Err(format!(
            "`{text}` has a port; hosts are compared without, and `listeners` tells ports apart"
        ));
    }
    Ok(String::from_utf8_lossy(host.normal(&mut Vec::new())).into_owned())
}

fn plain_path(text: &str) -> Result<Vec<u8>, String> {
    path::from_config(text).map_err(|detail| format!("`{text}` is not a path: {detail}"))
}

/// Whether the default path policy leaves such a path as it is.
fn is_reachable(text: &[u8]) -> bool {
    let mut out = Vec::new();
    matches!(
        path::normalise(text, &path::PathPolicy::default(), &mut out),
        Ok(path::Normal::AsIs)
    )
}

fn unreachable_path(key: String) -> Diagnostic {
    let message = "this path never arrives in this form under the default `path_policy`: dot segments are \
                   resolved, `//` is merged, encoded slashes are refused";
    Diagnostic::warning(key, message)
        .hint("write the path as it is after that, or change the listener's policy")
}

/// An IPv4-mapped IPv6 network as the IPv4 network that it is.
fn canonical(net: IpNet) -> IpNet {
    match (net.network().to_canonical(), net.prefix_len().checked_sub(96)) {
        (IpAddr::V4(address), Some(len)) if net.network().is_ipv6() => {
            Ipv4Net::new(address, len).map_or(net, IpNet::V4)
        }
        _ => net,
    }
}
