//! A configuration written out again: with every default filled in and where each value came from, or only what
//! was written.

use super::load::Loaded;
use super::path::{join, push_key};
use super::scalar::Scalar;
use super::settings::{Content, Item, Table};
use super::source::Origin;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Which values are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    All,
    Written,
}

impl Show {
    fn shows(self, item: &Item) -> bool {
        self == Self::All || item.origin != Origin::Default
    }
}

/// Every key with its value, and where that came from as a comment. Secrets are masked; the text can be loaded
/// again, apart from those.
#[must_use]
pub fn toml(loaded: &Loaded) -> String {
    print(loaded, Show::All)
}

/// As [`toml`], with only what files and environment say.
#[must_use]
pub fn written_toml(loaded: &Loaded) -> String {
    print(loaded, Show::Written)
}

/// `{"config": …, "origins": {"runtime.workers": "default", …}}`.
#[must_use]
pub fn json(loaded: &Loaded) -> String {
    print_json(loaded, Show::All)
}

/// As [`json`], with only what files and environment say.
#[must_use]
pub fn written_json(loaded: &Loaded) -> String {
    print_json(loaded, Show::Written)
}

fn print(loaded: &Loaded, show: Show) -> String {
    let mut printer = Printer {
        loaded,
        show,
        out: String::new(),
    };
    printer.table("", &loaded.settings);
    printer.out
}

struct Printer<'a> {
    loaded: &'a Loaded,
    show: Show,
    out: String,
}

impl Printer<'_> {
    /// Values first, tables after them: TOML knows no way back to a table once another has begun.
    fn table(&mut self, at: &str, table: &Table) {
        let show = self.show;
        let mut lines: Vec<(String, String)> = Vec::new();
        for (name, item) in table.items().filter(|(_, item)| show.shows(item)) {
            let value = match &item.content {
                Content::Scalar(scalar) => scalar.to_toml(),
                Content::List(items) => list(items),
                Content::Map(entries) => inline(entries),
                Content::Table(_) | Content::Named(_) | Content::Tables(_) => continue,
            };
            let mut line = String::new();
            push_key(&mut line, name);
            line.push_str(" = ");
            line.push_str(&value);
            lines.push((line, self.loaded.origins.sources().describe_origin(&item.origin)));
        }
        self.lines(&lines);
        for (name, item) in table.items().filter(|(_, item)| show.shows(item)) {
            let at = join(at, name);
            match &item.content {
                Content::Table(table) => {
                    self.header(&format!("[{at}]"), table);
                    self.table(&at, table);
                }
                Content::Named(tables) => {
                    for (name, table) in tables {
                        let at = join(&at, name);
                        self.header(&format!("[{at}]"), table);
                        self.table(&at, table);
                    }
                }
                Content::Tables(tables) => {
                    for table in tables {
                        self.header(&format!("[[{at}]]"), table);
                        self.table(&at, table);
                    }
                }
                Content::Scalar(_) | Content::List(_) | Content::Map(_) => {}
            }
        }
    }

    fn header(&mut self, header: &str, table: &Table) {
        let origin = match &table.origin {
            Origin::Default => String::new(),
            origin => format!("  # {}", self.loaded.origins.sources().describe_origin(origin)),
        };
        self.out.push_str(&format!("\n{header}{origin}\n"));
    }

    /// Lines with their comments in a column, unless a long one would push them out of sight.
    fn lines(&mut self, lines: &[(String, String)]) {
        const FAR: usize = 48;
        let lengths = lines.iter().map(|(line, _)| line.chars().count());
        let column = lengths.filter(|length| *length <= FAR).max().unwrap_or(0);
        for (line, origin) in lines {
            self.out.push_str(&format!(
                "{line:column$}  # {}\n",
                origin.replace(char::is_control, " ")
            ));
        }
    }
}

fn list(items: &[Item]) -> String {
    let texts: Vec<String> = items.iter().filter_map(scalar_toml).collect();
    format!("[{}]", texts.join(", "))
}

fn inline(entries: &BTreeMap<String, Item>) -> String {
    if entries.is_empty() {
        return "{}".to_owned();
    }
    let texts = entries.iter().filter_map(|(name, item)| {
        let mut text = String::new();
        push_key(&mut text, name);
        Some(format!("{text} = {}", scalar_toml(item)?))
    });
    format!("{{ {} }}", texts.collect::<Vec<_>>().join(", "))
}

fn scalar_toml(item: &Item) -> Option<String> {
    item.scalar().map(Scalar::to_toml)
}

fn print_json(loaded: &Loaded, show: Show) -> String {
    let mut origins = Map::new();
    let config = table_json(loaded, show, "", &loaded.settings, &mut origins);
    let all = serde_json::json!({ "config": config, "origins": origins });
    format!("{all:#}\n")
}

fn table_json(
    loaded: &Loaded,
    show: Show,
    at: &str,
    table: &Table,
    origins: &mut Map<String, Value>,
) -> Value {
    let mut out = Map::new();
    for (name, item) in table.items() {
        if show.shows(item) {
            out.insert(
                name.to_owned(),
                item_json(loaded, show, &join(at, name), item, origins),
            );
        }
    }
    Value::Object(out)
}

fn item_json(loaded: &Loaded, show: Show, at: &str, item: &Item, origins: &mut Map<String, Value>) -> Value {
    let mut note = || {
        let origin = loaded.origins.sources().describe_origin(&item.origin);
        origins.insert(at.to_owned(), origin.into());
    };
    match &item.content {
        Content::Scalar(scalar) => {
            note();
            scalar.to_json()
        }
        Content::List(items) => {
            note();
            items.iter().filter_map(scalar_json).collect()
        }
        Content::Map(entries) => {
            note();
            let entries = entries
                .iter()
                .filter_map(|(name, item)| Some((name.clone(), scalar_json(item)?)));
            Value::Object(entries.collect())
        }
        Content::Table(table) => table_json(loaded, show, at, table, origins),
        Content::Named(tables) => tables
            .iter()
            .map(|(name, table)| {
                (
                    name.clone(),
                    table_json(loaded, show, &join(at, name), table, origins),
                )
            })
            .collect::<Map<_, _>>()
            .into(),
        Content::Tables(tables) => tables
            .iter()
            .enumerate()
            .map(|(index, table)| table_json(loaded, show, &super::path::index(at, index), table, origins))
            .collect(),
    }
}

fn scalar_json(item: &Item) -> Option<Value> {
    item.scalar().map(Scalar::to_json)
}
