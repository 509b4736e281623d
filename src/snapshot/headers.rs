//! Header edits, compiled.

use crate::config::diagnostic::Diagnostic;
use crate::config::model::HeaderEdits;
use crate::message::edits::Edits;
use crate::message::head::HeadBuf;
use crate::message::template::{Template, Variables};
use std::collections::BTreeMap;

/// Removes, then sets, then adds.
#[derive(Clone, Debug, Default)]
pub struct HeaderPlan {
    remove: Vec<Box<[u8]>>,
    set: Vec<(Box<[u8]>, Template)>,
    add: Vec<(Box<[u8]>, Template)>,
}

impl HeaderPlan {
    /// Compiles the edits under `key`; mistakes go to `errors`.
    pub(super) fn compile(edits: &HeaderEdits, key: &str, errors: &mut Vec<Diagnostic>) -> Self {
        let mut values = |part: &str, values: &BTreeMap<String, String>| {
            let mut compiled = Vec::new();
            for (name, value) in values {
                match Template::parse(value) {
                    Ok(value) => compiled.push((name.as_bytes().into(), value)),
                    Err(error) => errors.push(Diagnostic::error(
                        format!("{key}.{part}.{name}"),
                        error.to_string(),
                    )),
                }
            }
            compiled
        };
        let (set, add) = (values("set", &edits.set), values("add", &edits.add));
        Self {
            remove: edits.remove.iter().map(|name| name.as_bytes().into()).collect(),
            set,
            add,
        }
    }

    /// Whether there is nothing to change.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Lays the changes over a head. Values see the request as it was received.
    pub fn apply(&self, head: &HeadBuf, variables: &impl Variables, edits: &mut Edits) {
        for name in &self.remove {
            edits.drop_named(head, name);
        }
        for (name, value) in &self.set {
            edits.drop_named(head, name);
            edits.add_with(name, |out| value.render(variables, out));
        }
        for (name, value) in &self.add {
            edits.add_with(name, |out| value.render(variables, out));
        }
    }
}
