//! The reference file and the table of keys for the docs, both written from the table of keys.

use super::form::Form;
use super::keys::table::ROOT;
use super::keys::{Change, Key, Presence, Shape, walk};
use super::path::push_text;
use super::resolve::accepts;

const HEAD: &str = "\
# Every key of Tidegate's configuration, at its default.
#
# A line that begins with `#` and no blank is a key without a default, or a table that may be left out,
# with an example. This file is generated: a test holds it equal to the table of keys in
# src/config/keys/table.rs; `TIDEGATE_BLESS=1 cargo nextest run reference` writes it anew.
#
# Any single value can be set by the environment too: TIDEGATE_<SECTION>__<KEY>, such as
# TIDEGATE_RUNTIME__WORKERS=2 or TIDEGATE_UPSTREAMS__APP__BALANCE=least_connections.
";

/// Width of comments.
const WIDTH: usize = 100;

/// The commented reference file: every key at its default. It can be loaded as it stands.
#[must_use]
pub fn toml() -> String {
    let mut writer = Writer { out: HEAD.to_owned() };
    writer.keys(ROOT, "", "");
    writer.out
}

struct Writer {
    out: String,
}

impl Writer {
    /// Single values first, tables after them. `off` is put before what is not in force.
    fn keys(&mut self, keys: &'static [Key], at: &str, off: &str) {
        let (values, tables): (Vec<&Key>, Vec<&Key>) = keys.iter().partition(|key| key.children().is_empty());
        for key in values {
            self.out.push('\n');
            self.comment(&(doc(key) + &choice(key)));
            self.value(key, off);
        }
        for key in tables {
            let at = if at.is_empty() {
                key.name.to_owned()
            } else {
                format!("{at}.{}", key.name)
            };
            let off = if key.presence == Presence::Optional {
                "#"
            } else {
                off
            };
            self.out.push('\n');
            self.comment(&doc(key));
            self.header(key, &at, off);
        }
    }

    fn header(&mut self, key: &'static Key, at: &str, off: &str) {
        match key.shape {
            Shape::Named(keys, name) => {
                let at = format!("{at}.{name}");
                self.out.push_str(&format!("{off}[{at}]\n"));
                self.keys(keys, &at, off);
            }
            Shape::Tables(keys, _) => {
                // A row of nothing is its default; the first endpoint and route are there to be seen.
                let off = if key.name == "tokens" { "#" } else { off };
                self.out.push_str(&format!("{off}[[{at}]]\n"));
                self.keys(keys, at, off);
            }
            Shape::Table(keys) => {
                self.out.push_str(&format!("{off}[{at}]\n"));
                self.keys(keys, at, off);
            }
            Shape::Scalar(_) | Shape::List(_) | Shape::Map(..) => {}
        }
    }

    fn value(&mut self, key: &Key, off: &str) {
        let (off, value) = match (default(key), key.presence) {
            (Some(value), _) => (off, value),
            // The action that the example takes.
            (None, Presence::Optional) if key.name != "upstream" => ("#", key.example.to_owned()),
            (None, _) => (off, key.example.to_owned()),
        };
        self.out.push_str(&format!("{off}{} = {value}\n", key.name));
    }

    fn comment(&mut self, text: &str) {
        let mut line = String::from("#");
        for word in text.split(' ') {
            if line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.out.push_str(&line);
                self.out.push('\n');
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.out.push_str(&line);
        self.out.push('\n');
    }
}

/// What is accepted, where the example does not say.
fn choice(key: &Key) -> String {
    match key.shape {
        Shape::Scalar(form @ Form::Choice(_)) | Shape::List(form @ Form::Choice(_)) => {
            format!(" One of {}.", form.accepts())
        }
        _ => String::new(),
    }
}

/// What a key does, an example, and what a change asks for.
fn doc(key: &Key) -> String {
    let mut text = key.doc.to_owned();
    if default(key).is_some() && !key.example.is_empty() {
        text.push_str(&format!(" Example: {}", key.example));
    }
    if key.change == Change::Restart {
        text.push_str(" A change needs a restart.");
    }
    let variables: Vec<&str> = key.legacies().map(|legacy| legacy.variable).collect();
    if !variables.is_empty() {
        text.push_str(&format!(" Environment: {}.", variables.join(", else ")));
    }
    text
}

/// The default as TOML; `None` for a key that has none.
fn default(key: &Key) -> Option<String> {
    let Presence::Default(text) = key.presence else {
        return None;
    };
    Some(match key.shape {
        Shape::Scalar(form) => scalar(form, text),
        Shape::List(form) => {
            let words: Vec<String> = text
                .split(',')
                .filter(|word| !word.is_empty())
                .map(|word| scalar(form, word))
                .collect();
            format!("[{}]", words.join(", "))
        }
        Shape::Map(..) => "{}".to_owned(),
        Shape::Table(_) | Shape::Named(..) | Shape::Tables(..) => return None,
    })
}

/// A default as the operator would write it.
fn scalar(form: Form, text: &str) -> String {
    match form {
        Form::Bool | Form::Integer { .. } | Form::Ratio | Form::Factor => text.to_owned(),
        Form::Size { .. } | Form::Duration { .. } if text == "0" => text.to_owned(),
        _ => {
            let mut out = String::new();
            push_text(&mut out, text);
            out
        }
    }
}

/// Every key as a Markdown table.
#[must_use]
pub fn markdown() -> String {
    let mut out = "\
# Keys

Generated from the table of keys in `src/config/keys/table.rs`; a test holds it equal. `*` stands for a name of your
choice, `[]` for each of a row.

| key | accepted | default | what it does |
|---|---|---|---|
"
    .to_owned();
    walk(ROOT, &mut |pattern, key| {
        let accepted = accepts(key.shape).replace(" of this file", " of the file");
        let default = match (key.presence, default(key)) {
            (Presence::Required, _) => "required".to_owned(),
            (_, Some(text)) => format!("`{text}`"),
            (Presence::Optional | Presence::Default(_), None) => String::new(),
        };
        let cells = [format!("`{pattern}`"), accepted, default, doc(key)];
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
    });
    out
}

#[cfg(test)]
mod tests;
