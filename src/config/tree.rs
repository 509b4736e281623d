//! A parsed text as a tree of values, each with the place it came from. Files and the environment are laid over
//! one another here, before anything is understood.

use super::path;
use super::source::{Origin, Place};
use std::collections::BTreeMap;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// A value as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Integer(i128),
    /// What no key takes, for messages: an integer beyond 128 bits, `nan`, nesting without end.
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

/// Levels of nesting that are kept. The deepest key there is lies at half of it; what lies deeper is below an
/// unknown key, and all trees are walked by recursion.
const MAX_DEPTH: usize = 16;
/// Stack for parsing. The parser allows 80 levels of nesting of keys of 80 parts, each a table in a table, and
/// drops them by recursion.
const PARSER_STACK: usize = 64 << 20;

/// What a parser found wrong, with the bytes at fault.
pub type SyntaxError = (String, Range<usize>);

/// Parses a text; what can be made out beside errors of syntax is kept.
///
/// # Errors
/// No thread could be started.
pub fn parse(text: &str, source: usize) -> std::io::Result<(Entries, Vec<SyntaxError>)> {
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new()
            .name("config-parser".to_owned())
            .stack_size(PARSER_STACK);
        let thread = parser.spawn_scoped(scope, || parse_here(text, source))?;
        thread
            .join()
            .map_err(|_| std::io::Error::other("the parser failed"))
    })
}

fn parse_here(text: &str, source: usize) -> (Entries, Vec<SyntaxError>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let errors = errors
        .into_iter()
        .map(|error| {
            let bytes = error.span().unwrap_or(0..0);
            let message = match (error.message(), text.get(bytes.clone())) {
                ("duplicate key", Some(key)) => format!("the key {} is written twice", shorten(key.trim())),
                (message, _) => message.to_owned(),
            };
            (message, bytes)
        })
        .collect();
    (entries(table.into_inner(), source, 0), errors)
}

fn entries(table: DeTable<'_>, source: usize, depth: usize) -> Entries {
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
                    node: node(value, source, depth + 1),
                },
            )
        })
        .collect()
}

fn node(value: toml::Spanned<DeValue<'_>>, source: usize, depth: usize) -> Node {
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
        DeValue::Array(_) | DeValue::Table(_) if depth >= MAX_DEPTH => Value::Odd("…".to_owned()),
        DeValue::Array(mut items) => Value::Array(
            items
                .iter_mut()
                .map(|item| node(std::mem::replace(item, nothing()), source, depth + 1))
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(entries(table, source, depth)),
    };
    Node { value, origin }
}

/// What stands in an array whose elements have been taken out; it allocates nothing.
fn nothing() -> toml::Spanned<DeValue<'static>> {
    toml::Spanned::new(0..0, DeValue::Boolean(false))
}
