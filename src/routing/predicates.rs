//! The conditions of a route besides host and path.

use super::RouteInput;
use crate::message::names::Name;
use crate::message::params::{cookie_values, decode, query_values};
use ipnet::IpNet;
use regex::bytes::Regex;
use std::fmt;
use std::sync::Arc;

/// A condition on a value.
#[derive(Clone, Debug)]
pub(super) enum ValueMatch {
    Exact(Box<[u8]>),
    Regex(Arc<Regex>),
    Present,
    Absent,
}

impl ValueMatch {
    /// Of several values any may hold; only absence speaks of them all.
    fn holds(&self, mut values: impl Iterator<Item = impl AsRef<[u8]>>) -> bool {
        match self {
            Self::Exact(text) => values.any(|value| *value.as_ref() == **text),
            Self::Regex(regex) => values.any(|value| regex.is_match(value.as_ref())),
            Self::Present => values.next().is_some(),
            Self::Absent => values.next().is_none(),
        }
    }

    /// Whether every value that meets `self` meets `other`.
    fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Exact(a), Self::Regex(b)) => b.is_match(a),
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            (Self::Exact(_) | Self::Regex(_) | Self::Present, Self::Present) => true,
            (Self::Absent, Self::Absent) => true,
            _ => false,
        }
    }
}

/// A condition on the value that goes by this name.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// As written; header names in lower case.
    pub(super) name: Box<str>,
    pub(super) value: ValueMatch,
}

/// The predicate that did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure<'a> {
    Listener,
    Method,
    ClientIp,
    Header(&'a str),
    Query(&'a str),
    Cookie(&'a str),
}

impl fmt::Display for Failure<'_> {
    /// As the key in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener => f.write_str("listeners"),
            Self::Method => f.write_str("methods"),
            Self::ClientIp => f.write_str("client_ip"),
            Self::Header(name) => write!(f, "headers.{name}"),
            Self::Query(name) => write!(f, "query.{name}"),
            Self::Cookie(name) => write!(f, "cookies.{name}"),
        }
    }
}

/// All conditions of one route. Empty lists hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Predicates {
    pub(super) listeners: Box<[u32]>,
    pub(super) methods: Box<[Box<str>]>,
    /// IPv4-mapped networks are written as IPv4.
    pub(super) client_ip: Box<[IpNet]>,
    pub(super) headers: Box<[(Name, Named)]>,
    pub(super) query: Box<[Named]>,
    pub(super) cookies: Box<[Named]>,
}

impl Predicates {
    /// How many there are, for the order of routes.
    pub(super) fn count(&self) -> usize {
        usize::from(!self.listeners.is_empty())
            + usize::from(!self.methods.is_empty())
            + usize::from(!self.client_ip.is_empty())
            + self.headers.len()
            + self.query.len()
            + self.cookies.len()
    }

    /// The first condition that does not hold, cheap ones first.
    pub(super) fn first_failure(&self, input: &RouteInput<'_>) -> Option<Failure<'_>> {
        if !self.listeners.is_empty() && !self.listeners.contains(&input.listener) {
            return Some(Failure::Listener);
        }
        if !self.methods.is_empty() && !self.allows_method(input.head.method_text()) {
            return Some(Failure::Method);
        }
        if !self.client_ip.is_empty() && !self.allows_client(input) {
            return Some(Failure::ClientIp);
        }
        self.failing_header(input)
            .or_else(|| self.failing_query(input))
            .or_else(|| self.failing_cookie(input))
    }

    fn allows_method(&self, method: &[u8]) -> bool {
        self.methods.iter().any(|allowed| allowed.as_bytes() == method)
    }

    fn allows_client(&self, input: &RouteInput<'_>) -> bool {
        let client = input.client.to_canonical();
        self.client_ip.iter().any(|net| net.contains(&client))
    }

    fn failing_header(&self, input: &RouteInput<'_>) -> Option<Failure<'_>> {
        let head = &input.head.buf;
        let failing = self.headers.iter().find(|(id, named)| match id {
            Name::Other | Name::Underscored => !named.value.holds(head.find(named.name.as_bytes())),
            id => !named.value.holds(head.all(*id)),
        });
        failing.map(|(_, named)| Failure::Header(&named.name))
    }

    fn failing_query(&self, input: &RouteInput<'_>) -> Option<Failure<'_>> {
        let query = input.query.unwrap_or_default();
        let failing = self.query.iter().find(|named| {
            let values = query_values(query, named.name.as_bytes()).map(decode);
            !named.value.holds(values)
        });
        failing.map(|named| Failure::Query(&named.name))
    }

    fn failing_cookie(&self, input: &RouteInput<'_>) -> Option<Failure<'_>> {
        let failing = self.cookies.iter().find(|named| {
            let values = cookie_values(&input.head.buf, named.name.as_bytes());
            !named.value.holds(values)
        });
        failing.map(|named| Failure::Cookie(&named.name))
    }

    /// Whether every request that meets `self` meets `other`, as far as can be told from the conditions.
    pub(super) fn implies(&self, other: &Self) -> bool {
        implies_list(&self.listeners, &other.listeners, |a, b| a == b)
            && implies_list(&self.methods, &other.methods, |a, b| a == b)
            && implies_list(&self.client_ip, &other.client_ip, |a, b| b.contains(a))
            && other.headers.iter().all(|(_, theirs)| {
                let mut ours = self.headers.iter().map(|(_, named)| named);
                ours.any(|ours| implies_named(ours, theirs))
            })
            && implies_names(&self.query, &other.query)
            && implies_names(&self.cookies, &other.cookies)
    }
}

fn implies_list<T>(ours: &[T], theirs: &[T], within: impl Fn(&T, &T) -> bool) -> bool {
    let covered = |a: &T| theirs.iter().any(|b| within(a, b));
    theirs.is_empty() || (!ours.is_empty() && ours.iter().all(covered))
}

fn implies_names(ours: &[Named], theirs: &[Named]) -> bool {
    theirs
        .iter()
        .all(|theirs| ours.iter().any(|ours| implies_named(ours, theirs)))
}

fn implies_named(ours: &Named, theirs: &Named) -> bool {
    ours.name == theirs.name && ours.value.implies(&theirs.value)
}
