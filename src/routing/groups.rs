//! Variables that name a group no regex of their route has: always empty, and surely a mistake.

use super::Entry;
use super::pattern::{HostMatch, PathMatch};
use super::rewrite::{group_text, has_group};
use crate::config::diagnostic::Diagnostic;
use crate::config::model::{Action, HeaderEdits, Route};
use crate::message::template::{Template, Variable};
use std::collections::BTreeMap;

/// One warning per template and missing group. Templates that cannot be parsed are reported by who compiles
/// them.
pub(super) fn warnings(routes: &[Route], entries: &[Entry]) -> Vec<Diagnostic> {
    let mut by_route: Vec<Vec<&Entry>> = vec![Vec::new(); routes.len()];
    for entry in entries {
        by_route[entry.route as usize].push(entry);
    }
    let mut warnings = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        for (key, text) in templates(route) {
            let Ok(template) = Template::parse(text) else {
                continue;
            };
            for variable in template.variables() {
                if let Some(message) = missing(variable, &by_route[index]) {
                    warnings.push(Diagnostic::warning(format!("routes[{index}].{key}"), message));
                }
            }
        }
    }
    warnings
}

/// The route's templates by key. `rewrite.to` speaks of its own regex and is checked with it.
fn templates(route: &Route) -> Vec<(String, &str)> {
    fn add<'a>(out: &mut Vec<(String, &'a str)>, key: &str, values: &'a BTreeMap<String, String>) {
        out.extend(
            values
                .iter()
                .map(|(name, text)| (format!("{key}.{name}"), text.as_str())),
        );
    }
    fn edits<'a>(out: &mut Vec<(String, &'a str)>, key: &str, edits: &'a HeaderEdits) {
        add(out, &format!("{key}.set"), &edits.set);
        add(out, &format!("{key}.add"), &edits.add);
    }
    let mut all = Vec::new();
    edits(&mut all, "request_headers", &route.request_headers);
    edits(&mut all, "response_headers", &route.response_headers);
    if let Action::Redirect { to, .. } = &route.action {
        all.push(("redirect.to".to_owned(), to));
    }
    all
}

fn missing(variable: &Variable, entries: &[&Entry]) -> Option<String> {
    let (side, group, found) = match variable {
        Variable::PathGroup(group) => {
            let has = |e: &&Entry| matches!(&e.path, PathMatch::Regex(regex) if has_group(regex, group));
            ("paths", group, entries.iter().any(has))
        }
        Variable::HostGroup(group) => {
            let has = |e: &&Entry| matches!(&e.host, HostMatch::Regex(regex) if has_group(regex, group));
            ("hosts", group, entries.iter().any(has))
        }
        _ => return None,
    };
    let text = group_text(group);
    (!found).then(|| format!("no regex in this route's `{side}` has a group {text}: always empty"))
}
