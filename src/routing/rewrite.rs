//! The path that the endpoint sees, and the way back for the paths in its answer.
//!
//! Forward: `strip_prefix`, then `rewrite`, then `add_prefix`; the query is kept. Backward ([`Backward`]):
//! Location, Refresh and Set-Cookie paths lose the added prefix and regain the stripped one. A regex has no
//! way back: a route with one leaves answers alone.

mod backward;
#[cfg(test)]
mod tests;

pub use backward::{Backward, Seen};

use super::pattern;
use crate::config::diagnostic::Diagnostic;
use crate::config::model::Rewrite;
use crate::message::path::{self, DotSegments, DoubleSlash, EncodedSlash, PathPolicy};
use crate::message::template::{Escaping, Group, MAX_OUTPUT, Template, Variable, Variables};
use crate::message::token::{Reject, Token};
use regex::bytes::{Captures, Regex};
use std::sync::Arc;

/// The change of a route's paths, compiled.
#[derive(Clone, Debug)]
pub struct PathRewrite {
    /// Without a last slash; empty when there is none to strip.
    strip: Box<[u8]>,
    regex: Option<(Arc<Regex>, Template)>,
    /// Without a last slash; empty when there is none to add.
    add: Box<[u8]>,
}

/// What was done to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The path was under the prefix to strip.
    pub stripped: bool,
}

impl PathRewrite {
    /// Compiles it; `None` when there is nothing to change. `key` is the route's, such as `routes[2]`.
    ///
    /// # Errors
    /// Prefixes that are no paths, a bad regex, unknown variables and groups.
    pub fn build(written: &Rewrite, key: &str) -> Result<Option<Self>, Vec<Diagnostic>> {
        let mut errors = Vec::new();
        let mut prefix = |name: &str, text: &Option<String>| {
            read_prefix(text.as_deref()).unwrap_or_else(|message| {
                errors.push(Diagnostic::error(format!("{key}.{name}"), message));
                Box::default()
            })
        };
        let strip = prefix("strip_prefix", &written.strip_prefix);
        let add = prefix("add_prefix", &written.add_prefix);
        let regex = written.regex.as_ref().and_then(|(regex, to)| {
            read_regex(regex, to)
                .map_err(|(name, message)| {
                    errors.push(Diagnostic::error(format!("{key}.rewrite.{name}"), message));
                })
                .ok()
        });
        if !errors.is_empty() {
            return Err(errors);
        }
        let changes = !strip.is_empty() || !add.is_empty() || regex.is_some();
        Ok(changes.then_some(Self { strip, regex, add }))
    }

    /// Writes the request target for the endpoint: always from `/` on, with the query.
    ///
    /// In `rewrite.to`, `${1}` and `${path.NAME}` are the groups of the rewrite's own regex, and every match is
    /// replaced. A `?` written there starts a query that the request's own is appended to; one at the very end
    /// drops the request's.
    ///
    /// # Errors
    /// `bad_request` when pieces of the path were put together to something the path could not have said
    /// itself (a dot segment, a broken escape); `uri_too_long`.
    pub fn apply(
        &self,
        path: &[u8],
        query: Option<&[u8]>,
        variables: &impl Variables,
        out: &mut Vec<u8>,
    ) -> Result<Applied, Reject> {
        out.clear();
        out.extend_from_slice(&self.add);
        let stripped = !self.strip.is_empty() && path::under_prefix(path, &self.strip);
        let rest = if stripped { &path[self.strip.len()..] } else { path };
        let rest = if rest.is_empty() { b"/" } else { rest };
        let mut keeps_query = true;
        match &self.regex {
            None => out.extend_from_slice(rest),
            Some((regex, to)) => {
                let start = out.len();
                replace(regex, to, rest, variables, out)?;
                keeps_query = settle(start, path, out)?;
            }
        }
        if keeps_query && let Some(query) = query {
            let joint = if out.contains(&b'?') { b'&' } else { b'?' };
            out.push(joint);
            out.extend_from_slice(query);
        }
        Ok(Applied { stripped })
    }

    /// The way back for the answer to a request that was changed so; `None` when answers stay as they are.
    #[must_use]
    pub fn backward(&self, applied: Applied) -> Option<Backward<'_>> {
        let strip: &[u8] = if applied.stripped { &self.strip } else { b"" };
        let moved = !strip.is_empty() || !self.add.is_empty();
        (moved && self.regex.is_none()).then_some(Backward {
            stripped: strip,
            added: &self.add,
        })
    }
}

/// A prefix in normal form without its last slash.
fn read_prefix(text: Option<&str>) -> Result<Box<[u8]>, String> {
    let Some(text) = text else {
        return Ok(Box::default());
    };
    let mut prefix = path::from_config(text).map_err(|why| format!("`{text}` is not a path: {why}"))?;
    while prefix.last() == Some(&b'/') {
        prefix.pop();
    }
    Ok(prefix.into())
}

type KeyedMessage = (&'static str, String);

fn read_regex(text: &str, to: &str) -> Result<(Arc<Regex>, Template), KeyedMessage> {
    let regex =
        pattern::compile(text, false).map_err(|why| ("regex", format!("`{text}` is not a regex: {why}")))?;
    let template = Template::parse(to).map_err(|error| ("to", error.to_string()))?;
    for variable in template.variables() {
        if let Variable::PathGroup(group) = variable
            && !has_group(&regex, group)
        {
            return Err(("to", format!("`{text}` has no group {}", group_text(group))));
        }
    }
    let mut rendered = Vec::new();
    template.render_as(Escaping::Target, &Nothing, &mut rendered);
    let path = rendered.split(|&b| b == b'?').next().unwrap_or_default();
    if path.first().is_some_and(|&b| b == b'/') && path::normalise(path, &KEEP, &mut Vec::new()).is_err() {
        return Err((
            "to",
            format!("`{to}` has a broken escape; write `%25` for a percent sign"),
        ));
    }
    Ok((regex, template))
}

pub(super) fn has_group(regex: &Regex, group: &Group) -> bool {
    match group {
        Group::Number(number) => usize::from(*number) < regex.captures_len(),
        Group::Name(name) => regex.capture_names().any(|found| found == Some(&**name)),
    }
}

pub(super) fn group_text(group: &Group) -> String {
    match group {
        Group::Number(number) => number.to_string(),
        Group::Name(name) => format!("`{name}`"),
    }
}

/// Variables without values.
struct Nothing;

impl Variables for Nothing {
    fn write(&self, _: &Variable, _: &mut Vec<u8>) {}
}

/// The request's variables, with the groups of the rewrite's own regex.
struct WithGroups<'a, V> {
    request: &'a V,
    groups: Captures<'a>,
}

impl<V: Variables> Variables for WithGroups<'_, V> {
    fn write(&self, variable: &Variable, out: &mut Vec<u8>) {
        let Variable::PathGroup(group) = variable else {
            return self.request.write(variable, out);
        };
        let found = match group {
            Group::Number(number) => self.groups.get(usize::from(*number)),
            Group::Name(name) => self.groups.name(name),
        };
        out.extend_from_slice(found.map_or(b"", |m| m.as_bytes()));
    }
}

fn replace(
    regex: &Regex,
    to: &Template,
    path: &[u8],
    request: &impl Variables,
    out: &mut Vec<u8>,
) -> Result<(), Reject> {
    let limit = out.len() + MAX_OUTPUT;
    let mut end = 0;
    for groups in regex.captures_iter(path) {
        let Some(whole) = groups.get(0) else { continue };
        out.extend_from_slice(&path[end..whole.start()]);
        end = whole.end();
        to.render_as(Escaping::Target, &WithGroups { request, groups }, out);
        if out.len() >= limit {
            return Err(Reject::new(Token::UriTooLong, "rewritten path is too long"));
        }
    }
    out.extend_from_slice(&path[end..]);
    Ok(())
}

const KEEP: PathPolicy = PathPolicy {
    dot_segments: DotSegments::Keep,
    double_slash: DoubleSlash::Keep,
    encoded_slash: EncodedSlash::Keep,
};

/// Makes what a regex left from `start` on a path again. Gives whether the request's query is kept.
fn settle(start: usize, before: &[u8], out: &mut Vec<u8>) -> Result<bool, Reject> {
    if out.get(start) != Some(&b'/') {
        out.insert(start, b'/');
    }
    let question = memchr::memchr(b'?', &out[start..]).map(|at| start + at);
    let path = &out[start..question.unwrap_or(out.len())];
    if path::normalise(path, &KEEP, &mut Vec::new()).is_err() {
        return Err(Reject::new(
            Token::BadRequest,
            "rewritten path has a broken escape",
        ));
    }
    // The pieces of a path without dot segments can make one: `/x../y` taken apart after `/x`.
    if path::has_dot_segments(path) && !path::has_dot_segments(before) {
        return Err(Reject::new(Token::BadRequest, "rewritten path has a dot segment"));
    }
    let drops = question == Some(out.len() - 1);
    if drops {
        out.pop();
    }
    Ok(!drops)
}
