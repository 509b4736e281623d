//! A parsed text as a tree of values, each with the place it came from. Files and the environment are laid over
//! one another here, before anything is understood.

use super::path;
use super::source::{Origin, Place};
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// A value as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Integer(i128),
    /// An integer beyond what 128 bits hold, or a float that is no number: kept as written.
    Odd(String),
    Float(f64),
    Bool(bool),
    Datetime(String),
    Array(Vec<Node>),
    Table(Entries),
}

/// A value with its origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub origin: Origin,
}

/// A key of a table with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where the key stands.
    pub key: Origin,
    pub node: Node,
}

/// The contents of a table.
pub type Entries = BTreeMap<String, Entry>;

impl Node {
    #[must_use]
    pub const fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin }
    }
}

impl Value {
    /// What was found, for messages: short, and on one line.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Text(text) => quote(text),
            Self::Integer(n) => n.to_string(),
            Self::Odd(text) | Self::Datetime(text) => shorten(text),
            Self::Float(n) => n.to_string(),
            Self::Bool(b) => b.to_string(),
            Self::Array(_) | Self::Table(_) => self.describe_type().to_owned(),
        }
    }

    /// The type of what was found, where the value itself must not be shown.
    #[must_use]
    pub const fn describe_type(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Odd(_) | Self::Float(_) => "a number",
            Self::Bool(_) => "a boolean",
            Self::Datetime(_) => "a date",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

/// A text in quotes, cut short.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::new();
    path::push_text(&mut out, &shorten(text));
    out
}

fn shorten(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN).chain("…".chars()).collect()
}

/// Turns a parsed table into entries of the given source.
#[must_use]
pub fn entries(table: DeTable<'_>, source: usize) -> Entries {
    table
        .into_iter()
        .map(|(key, value)| {
            let origin = Origin::File(Place {
                source,
                bytes: key.span(),
            });
            (
                key.into_inner().into_owned(),
                Entry {
                    key: origin,
                    node: node(value, source),
                },
            )
        })
        .collect()
}

fn node(value: toml::Spanned<DeValue<'_>>, source: usize) -> Node {
    let origin = Origin::File(Place {
        source,
        bytes: value.span(),
    });
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(n) => i128::from_str_radix(n.as_str(), n.radix())
            .map_or_else(|_| Value::Odd(n.as_str().to_owned()), Value::Integer),
        DeValue::Float(n) => match n.as_str().parse::<f64>() {
            Ok(n) if n.is_finite() => Value::Float(n),
            Ok(_) | Err(_) => Value::Odd(n.as_str().to_owned()),
        },
        DeValue::Boolean(b) => Value::Bool(b),
        DeValue::Datetime(time) => Value::Datetime(time.to_string()),
        DeValue::Array(mut items) => Value::Array(
            items
                .iter_mut()
                .map(|item| node(std::mem::replace(item, nothing()), source))
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(entries(table, source)),
    };
    Node { value, origin }
}

/// What stands in an array whose elements have been taken out; it allocates nothing.
fn nothing() -> toml::Spanned<DeValue<'static>> {
    toml::Spanned::new(0..0, DeValue::Boolean(false))
}
