//! Values from the environment, laid over what the files say: `TIDEGATE_<SECTION>__<KEY>` and the variables that
//! users' systems already carry.

use super::diagnostic::Diagnostic;
use super::environment::Environment;
use super::form::{Complaint, Form};
use super::keys::legacy::Legacy;
use super::keys::table::ROOT;
use super::keys::{Key, Shape, walk};
use super::problems::Problems;
use super::source::Origin;
use super::suggest;
use super::tree::{Entries, Entry, Node, Value, quote};

const PREFIX: &str = "TIDEGATE_";
const SEPARATOR: &str = "__";

/// Lays the environment over the files. Gives what was used of it, for the fingerprint.
pub fn apply(entries: &mut Entries, env: &Environment, problems: &mut Problems) -> Vec<(String, String)> {
    let mut used = Vec::new();
    let mut tell = |variable: &str, complaint: Complaint| {
        // Without a key: a place in a file would point at what is not the cause.
        let message = format!("environment variable {variable}: {}", complaint.reason);
        let mut told = Diagnostic::error("", message);
        told.hint = complaint.hint;
        problems.add(told);
    };
    for (pattern, legacy) in all_legacy() {
        let variable = legacy.variable;
        let Some(text) = env.get(variable).filter(|text| !text.is_empty()) else {
            continue;
        };
        used.push((variable.to_owned(), text.to_owned()));
        if let Err(complaint) = apply_legacy(entries, &pattern, legacy, text) {
            tell(variable, complaint);
        }
    }
    // Later, so that the exact name wins over the old one.
    for (variable, text) in env.with_prefix(PREFIX) {
        let Some(rest) = variable
            .strip_prefix(PREFIX)
            .filter(|rest| rest.contains(SEPARATOR))
        else {
            continue;
        };
        used.push((variable.to_owned(), text.to_owned()));
        let setter = Setter { variable, text };
        if let Err(complaint) = setter.set(entries, ROOT, &rest.to_ascii_uppercase(), "") {
            tell(variable, complaint);
        }
    }
    used
}

/// Every key with an old variable, with its pattern.
fn all_legacy() -> Vec<(String, &'static Legacy)> {
    let mut all = Vec::new();
    walk(ROOT, &mut |pattern, key| {
        all.extend(key.legacies().map(|legacy| (pattern.to_owned(), legacy)))
    });
    all
}

/// Checks an old variable, and lays it over the file if it wins; the others are found when a default is needed.
fn apply_legacy(entries: &mut Entries, pattern: &str, legacy: &Legacy, text: &str) -> Result<(), Complaint> {
    let variable = legacy.variable;
    let text = (legacy.translate)(text)
        .map_err(|accepted| Complaint::new(format!("found {}; {accepted}", quote(text))))?;
    if !legacy.wins || text.is_empty() {
        return Ok(());
    }
    let rest = pattern.to_ascii_uppercase().replace('.', SEPARATOR);
    (Setter {
        variable,
        text: &text,
    })
    .set(entries, ROOT, &rest, "")
}

/// Sets one value.
struct Setter<'a> {
    variable: &'a str,
    text: &'a str,
}

impl Setter<'_> {
    /// Finds the key that the rest of a variable's name stands for, and sets it.
    fn set(
        &self,
        entries: &mut Entries,
        keys: &'static [Key],
        rest: &str,
        at: &str,
    ) -> Result<(), Complaint> {
        let (segment, below) = rest
            .split_once(SEPARATOR)
            .map_or((rest, None), |(s, b)| (s, Some(b)));
        let Some(key) = keys.iter().find(|key| key.name.eq_ignore_ascii_case(segment)) else {
            return Err(self.unknown(segment, at, keys.iter().map(|key| key.name)));
        };
        let at = super::path::join(at, key.name);
        match (key.shape, below) {
            (Shape::Scalar(form), None) => {
                entries.insert(key.name.to_owned(), self.entry(form.value_of_text(self.text)));
                Ok(())
            }
            (Shape::Table(keys), Some(below)) => {
                self.set(self.table(entries, key.name, &at)?, keys, below, &at)
            }
            (Shape::Named(keys, _), Some(below)) => self.set_named(entries, key.name, keys, below, &at),
            (Shape::Map(_, form), Some(below)) => self.set_in_map(entries, key.name, form, below, &at),
            (Shape::Tables(keys, shorthand), Some(below)) => {
                self.set_in_row(entries, key.name, (keys, shorthand), below, &at)
            }
            (Shape::List(_), None) => Err(Complaint::new(format!(
                "{at} is a list; lists are set in the file"
            ))),
            (Shape::Scalar(_) | Shape::List(_), Some(_)) => {
                Err(Complaint::new(format!("{at} has no keys of its own")))
            }
            (_, None) => Err(Complaint::new(format!("{at} is a table; name one of its keys"))),
        }
    }

    /// The table of a key, made if it is not there.
    fn table<'e>(
        &self,
        entries: &'e mut Entries,
        name: &str,
        at: &str,
    ) -> Result<&'e mut Entries, Complaint> {
        let entry = entries
            .entry(name.to_owned())
            .or_insert_with(|| self.entry(Value::Table(Entries::new())));
        match &mut entry.node.value {
            Value::Table(entries) => Ok(entries),
            other => Err(Complaint::new(format!(
                "{at} is {} in the file",
                other.describe()
            ))),
        }
    }

    fn set_named(
        &self,
        entries: &mut Entries,
        name: &str,
        keys: &'static [Key],
        rest: &str,
        at: &str,
    ) -> Result<(), Complaint> {
        let named = self.table(entries, name, at)?;
        let (name, below) = self.pick(named.keys().map(String::as_str), rest, at)?;
        let at = super::path::join(at, &name);
        self.set(self.table(named, &name, &at)?, keys, &below, &at)
    }

    fn set_in_map(
        &self,
        entries: &mut Entries,
        name: &str,
        form: Form,
        rest: &str,
        at: &str,
    ) -> Result<(), Complaint> {
        let map = self.table(entries, name, at)?;
        let known: Vec<&str> = map.keys().map(String::as_str).collect();
        let Some(name) = known
            .iter()
            .find(|name| variable_form(name) == rest)
            .map(|name| (*name).to_owned())
        else {
            return Err(self.unknown(rest, at, known));
        };
        map.insert(name, self.entry(form.value_of_text(self.text)));
        Ok(())
    }

    /// Sets a key in one of a row of tables: by position, or by its `name`.
    fn set_in_row(
        &self,
        entries: &mut Entries,
        name: &str,
        (keys, shorthand): (&'static [Key], Option<&'static str>),
        rest: &str,
        at: &str,
    ) -> Result<(), Complaint> {
        let Some(Entry {
            node: Node {
                value: Value::Array(nodes),
                ..
            },
            ..
        }) = entries.get_mut(name)
        else {
            return Err(Complaint::new(format!(
                "{at} is empty; the environment adds no element to it"
            )));
        };
        let names: Vec<String> = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| row_name(node, index))
            .collect();
        let positions = (0..nodes.len()).map(|index| index.to_string());
        let positions = positions.filter(|position| !names.contains(position));
        let all: Vec<String> = names.iter().cloned().chain(positions).collect();
        let (picked, below) = self.pick(all.iter().map(String::as_str), rest, at)?;
        let index = names
            .iter()
            .position(|name| *name == picked)
            .or_else(|| picked.parse().ok())
            .unwrap_or(0);
        let at = super::path::index(at, index);
        let Some(node) = nodes.get_mut(index) else {
            return Err(Complaint::new(format!("{at} is not there")));
        };
        if let (Value::Text(_), Some(name)) = (&node.value, shorthand) {
            let entry = Entry {
                key: node.origin.clone(),
                node: node.clone(),
            };
            node.value = Value::Table(Entries::from([(name.to_owned(), entry)]));
        }
        match &mut node.value {
            Value::Table(entries) => self.set(entries, keys, &below, &at),
            other => Err(Complaint::new(format!(
                "{at} is {} in the file",
                other.describe()
            ))),
        }
    }

    /// Which of the names the rest begins with, and what is left. Names are compared as variables can spell
    /// them; two that are then the same cannot be told apart.
    fn pick<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
        rest: &str,
        at: &str,
    ) -> Result<(String, String), Complaint> {
        let names: Vec<&str> = names.collect();
        let fitting = |name: &&&str| {
            rest.strip_prefix(variable_form(name).as_str())
                .is_some_and(|rest| rest.starts_with(SEPARATOR))
        };
        let longest = names.iter().filter(fitting).map(|name| name.len()).max();
        let mut best = names
            .iter()
            .filter(fitting)
            .filter(|name| Some(name.len()) == longest);
        let Some(name) = best.next() else {
            let segment = rest.split(SEPARATOR).next().unwrap_or(rest);
            return Err(self.unknown(segment, at, names));
        };
        if let Some(other) = best.next() {
            return Err(Complaint::new(format!("it may mean `{name}` or `{other}`")));
        }
        let below = rest
            .strip_prefix(variable_form(name).as_str())
            .and_then(|rest| rest.strip_prefix(SEPARATOR));
        Ok(((*name).to_owned(), below.unwrap_or_default().to_owned()))
    }

    fn entry(&self, value: Value) -> Entry {
        let origin = Origin::Environment(self.variable.to_owned());
        Entry {
            key: origin.clone(),
            node: Node::new(value, origin),
        }
    }

    fn unknown<'n>(&self, segment: &str, at: &str, known: impl IntoIterator<Item = &'n str>) -> Complaint {
        let forms: Vec<String> = known.into_iter().map(variable_form).collect();
        let forms: Vec<&str> = forms.iter().map(String::as_str).collect();
        let within = if at.is_empty() {
            String::new()
        } else {
            format!(" in {at}")
        };
        let accepted = if forms.is_empty() {
            "nothing".to_owned()
        } else {
            suggest::list(&forms)
        };
        let mut told = Complaint::new(format!("there is no {segment}{within}; accepted: {accepted}"));
        told.hint = suggest::did_you_mean(segment, forms);
        told
    }
}

/// A name as a variable spells it.
fn variable_form(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

/// The name of an element of a row: what its `name` says, else its position.
fn row_name(node: &Node, index: usize) -> String {
    let name = match &node.value {
        Value::Table(entries) => entries.get("name").map(|entry| &entry.node.value),
        _ => None,
    };
    match name {
        Some(Value::Text(name)) => name.clone(),
        _ => index.to_string(),
    }
}
