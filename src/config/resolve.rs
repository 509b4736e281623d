//! Reads a tree against the table of keys: every value typed, every default filled in, every problem noted.

use super::diagnostic::Diagnostic;
use super::environment::Environment;
use super::files::Files;
use super::form::{self, Complaint, Form, header, redis};
use super::habits;
use super::keys::legacy::Legacy;
use super::keys::table::ROOT;
use super::keys::{Key, MapKey, Presence, Shape, walk};
use super::model::Secret;
use super::path;
use super::problems::Problems;
use super::scalar::Scalar;
use super::secret;
use super::settings::{Content, Item, Table};
use super::source::{Origin, Place, Sources};
use super::suggest;
use super::tree::{Entries, Entry, Node, Value, quote};
use std::collections::BTreeMap;

/// Reads trees.
pub struct Resolver<'a> {
    pub env: &'a Environment,
    pub sources: &'a Sources,
    pub files: &'a mut Files,
    pub problems: &'a mut Problems,
    /// Where secrets stand in the texts.
    pub secrets: Vec<Place>,
    /// A text is known only in part: what is missing is not told.
    pub partial: bool,
}

impl Resolver<'_> {
    /// Reads a table.
    pub fn table(&mut self, keys: &'static [Key], entries: &Entries, at: &str, origin: &Origin) -> Table {
        let secretive = keys
            .iter()
            .any(|key| matches!(key.shape, Shape::Scalar(Form::Secret) | Shape::List(Form::Secret)));
        let unknown = entries
            .iter()
            .filter(|(name, _)| !keys.iter().any(|key| key.name == *name));
        let mut meant = Vec::new();
        for (name, entry) in unknown {
            if secretive {
                self.hide(&entry.node);
            }
            meant.extend(suggest::closest(name, keys.iter().map(|key| key.name)));
            self.unknown(keys, name, entry, at);
        }
        let mut table = Table {
            entries: Vec::new(),
            origin: origin.clone(),
        };
        for key in keys {
            let at = path::join(at, key.name);
            let item = match entries.get(key.name) {
                Some(entry) => self
                    .given(key, &entry.node, &at)
                    .or_else(|| self.default(key, &at)),
                // Misspelt is not missing.
                None if meant.contains(&key.name) => self.default(key, &at),
                None if key.along.is_some_and(|other| entries.contains_key(other)) => self.along(key, &at),
                None => self.absent(key, &at, origin),
            };
            if let Some(item) = item {
                table.entries.push((key.name, item));
            }
        }
        table.entries.shrink_to_fit();
        table
    }

    /// A key that is not written.
    fn absent(&mut self, key: &'static Key, at: &str, table: &Origin) -> Option<Item> {
        if key.presence == Presence::Required && !self.partial {
            let message = format!("`{}` is missing; accepted: {}", key.name, accepts(key.shape));
            self.problems.add_from(Diagnostic::error(at, message), table);
        }
        self.default(key, at)
    }

    /// A table that another key brings along.
    fn along(&mut self, key: &'static Key, at: &str) -> Option<Item> {
        let table = self.table(key.children(), &Entries::new(), at, &Origin::Default);
        Some(Item {
            content: Content::Table(table),
            origin: Origin::Default,
        })
    }

    /// The value of a key that has no good one.
    fn default(&mut self, key: &'static Key, at: &str) -> Option<Item> {
        for legacy in key.legacies() {
            if let Some(item) = self.legacy(key, legacy, at) {
                return Some(item);
            }
        }
        let Presence::Default(text) = key.presence else {
            return None;
        };
        let content = match key.shape {
            Shape::Scalar(form) => {
                let base = self.sources.base(&Origin::Default);
                Content::Scalar(form.read(&form.value_of_text(text), base).ok()?)
            }
            Shape::List(form) => {
                let words = text.split(',').filter(|word| !word.is_empty());
                let base = self.sources.base(&Origin::Default);
                let scalars = words.filter_map(|word| form.read(&form.value_of_text(word), base).ok());
                Content::List(
                    scalars
                        .map(|s| Item {
                            content: Content::Scalar(s),
                            origin: Origin::Default,
                        })
                        .collect(),
                )
            }
            Shape::Map(..) => Content::Map(BTreeMap::new()),
            Shape::Table(keys) => Content::Table(self.table(keys, &Entries::new(), at, &Origin::Default)),
            Shape::Named(..) => Content::Named(BTreeMap::new()),
            Shape::Tables(..) => Content::Tables(Vec::new()),
        };
        Some(Item {
            content,
            origin: Origin::Default,
        })
    }

    /// The value that an old variable gives a key.
    fn legacy(&mut self, key: &'static Key, legacy: &Legacy, at: &str) -> Option<Item> {
        let Shape::Scalar(form) = key.shape else {
            return None;
        };
        let text = self.env.get(legacy.variable).filter(|text| !text.is_empty())?;
        // One that wins was laid over the file before, and is bad if it is looked for again.
        if legacy.wins {
            return None;
        }
        let text = (legacy.translate)(text).ok()?;
        let node = Node::new(
            form.value_of_text(&text),
            Origin::Environment(legacy.variable.to_owned()),
        );
        self.given(key, &node, at)
    }

    /// A key that is written.
    fn given(&mut self, key: &'static Key, node: &Node, at: &str) -> Option<Item> {
        let content = match (key.shape, &node.value) {
            (Shape::Scalar(form), _) => Content::Scalar(self.scalar(form, node, at)?),
            (Shape::List(form), Value::Array(nodes)) => Content::List(self.list(form, nodes, at)),
            (Shape::Map(of, form), Value::Table(entries)) => Content::Map(self.map(of, form, entries, at)),
            (Shape::Table(keys), Value::Table(entries)) => {
                Content::Table(self.table(keys, entries, at, &node.origin))
            }
            (Shape::Named(keys, _), Value::Table(entries)) => Content::Named(self.named(keys, entries, at)),
            (Shape::Tables(keys, shorthand), Value::Array(nodes)) => {
                Content::Tables(self.tables(keys, shorthand, nodes, at))
            }
            (Shape::List(Form::Secret), value) => {
                self.hide(node);
                let found = value.describe_type();
                let told = Diagnostic::error(at, format!("found {found}; accepted: {}", accepts(key.shape)));
                self.problems.add_from(told.hint("write [...]"), &node.origin);
                return None;
            }
            (shape, value) => {
                let mut told = Diagnostic::error(
                    at,
                    format!("found {}; accepted: {}", value.describe(), accepts(shape)),
                );
                told.hint = reshaped(shape, value, at);
                self.problems.add_from(told, &node.origin);
                return None;
            }
        };
        Some(Item {
            content,
            origin: node.origin.clone(),
        })
    }

    fn scalar(&mut self, form: Form, node: &Node, at: &str) -> Option<Scalar> {
        match form {
            Form::Secret => return self.secret(node, at),
            Form::Redis => return self.redis(node, at),
            _ => {}
        }
        let base = self.sources.base(&node.origin);
        form.read(&node.value, base)
            .map_err(|complaint| self.complain(form, complaint, node, at))
            .ok()
    }

    fn complain(&mut self, form: Form, complaint: Complaint, node: &Node, at: &str) {
        let found = if matches!(form, Form::Secret | Form::Redis) {
            node.value.describe_type().to_owned()
        } else {
            node.value.describe()
        };
        let reason = if complaint.reason.is_empty() {
            String::new()
        } else {
            format!(": {}", complaint.reason)
        };
        let mut told = Diagnostic::error(at, format!("found {found}{reason}; accepted: {}", form.accepts()));
        told.hint = complaint.hint;
        self.problems.add_from(told, &node.origin);
    }

    fn secret(&mut self, node: &Node, at: &str) -> Option<Scalar> {
        self.hide(node);
        let base = self.sources.base(&node.origin).to_owned();
        match secret::read(&node.value, &base, self.env, self.files) {
            Ok(read) => {
                if read.literal {
                    let told = Diagnostic::warning(at, "the secret itself stands in the configuration")
                        .hint("name where it is kept: \"env:NAME\" or \"file:/PATH\"");
                    self.problems.add_from(told, &node.origin);
                }
                Some(read.secret)
            }
            Err(complaint) => {
                self.complain(Form::Secret, complaint, node, at);
                None
            }
        }
    }

    /// A URL that may have a password in it, or the place where it is kept.
    fn redis(&mut self, node: &Node, at: &str) -> Option<Scalar> {
        let base = self.sources.base(&node.origin).to_owned();
        let read =
            secret::read(&node.value, &base, self.env, self.files).and_then(|read| match read.secret {
                Scalar::Secret(Secret(text), shown) => {
                    Ok((redis::url(&text)?, (!read.literal).then_some(shown)))
                }
                _ => Err(Complaint::new("it is not a string")),
            });
        match read {
            Ok((url, shown)) => {
                if shown.is_none() && url.password.is_some() {
                    self.hide(node);
                    let told = Diagnostic::warning(at, "the password itself stands in the configuration")
                        .hint("name where it is kept: redis_password = \"env:NAME\" or \"file:/PATH\"");
                    self.problems.add_from(told, &node.origin);
                }
                let shown = shown.unwrap_or_else(|| redis::without_password(&url));
                Some(Scalar::Redis(url, shown))
            }
            Err(complaint) => {
                // What it is may be anything, so also a password.
                self.hide(node);
                self.complain(Form::Redis, complaint, node, at);
                None
            }
        }
    }

    /// Blanks a value in excerpts, unless it only says where a secret is kept.
    fn hide(&mut self, node: &Node) {
        let reference =
            matches!(&node.value, Value::Text(text) if text.starts_with("env:") || text.starts_with("file:"));
        if let (Origin::File(place), false) = (&node.origin, reference) {
            self.secrets.push(place.clone());
        }
    }

    fn list(&mut self, form: Form, nodes: &[Node], at: &str) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let at = path::index(at, index);
            let Some(scalar) = self.scalar(form, node, &at) else {
                continue;
            };
            if items.iter().any(|item| item.scalar() == Some(&scalar)) {
                let what = match form {
                    Form::Secret => "the secret".to_owned(),
                    _ => node.value.describe(),
                };
                let told = Diagnostic::warning(at, format!("{what} is listed twice"));
                self.problems.add_from(told, &node.origin);
            } else {
                items.push(Item {
                    content: Content::Scalar(scalar),
                    origin: node.origin.clone(),
                });
            }
        }
        items
    }

    fn map(&mut self, of: MapKey, form: Form, entries: &Entries, at: &str) -> BTreeMap<String, Item> {
        let mut out: BTreeMap<String, Item> = BTreeMap::new();
        for (name, entry) in entries {
            let at = path::join(at, name);
            if let Err(complaint) = map_key(of, name) {
                let mut told = Diagnostic::error(&at, format!("found {}: {}", quote(name), complaint.reason));
                told.hint = complaint.hint;
                self.problems.add_from(told, &entry.key);
                continue;
            }
            let same_header = matches!(of, MapKey::Header | MapKey::EditedHeader)
                && out.keys().any(|known| known.eq_ignore_ascii_case(name));
            if same_header {
                let told = Diagnostic::error(
                    &at,
                    format!("the header {name} is written twice; case does not matter"),
                );
                self.problems.add_from(told, &entry.key);
            } else if let Some(scalar) = self.scalar(form, &entry.node, &at) {
                let item = Item {
                    content: Content::Scalar(scalar),
                    origin: entry.node.origin.clone(),
                };
                out.insert(name.clone(), item);
            }
        }
        out
    }

    fn named(&mut self, keys: &'static [Key], entries: &Entries, at: &str) -> BTreeMap<String, Table> {
        let mut out = BTreeMap::new();
        for (name, entry) in entries {
            let at = path::join(at, name);
            if form::name(name).is_err() {
                let message = format!("found {}; accepted: {}", quote(name), Form::Name.accepts());
                self.problems
                    .add_from(Diagnostic::error(&at, message), &entry.key);
            }
            if let Some(table) = self.element(keys, None, &entry.node, &at) {
                out.insert(name.clone(), table);
            }
        }
        out
    }

    fn tables(
        &mut self,
        keys: &'static [Key],
        shorthand: Option<&'static str>,
        nodes: &[Node],
        at: &str,
    ) -> Vec<Table> {
        nodes
            .iter()
            .enumerate()
            .filter_map(|(index, node)| self.element(keys, shorthand, node, &path::index(at, index)))
            .collect()
    }

    /// One of several tables.
    fn element(
        &mut self,
        keys: &'static [Key],
        shorthand: Option<&'static str>,
        node: &Node,
        at: &str,
    ) -> Option<Table> {
        match (&node.value, shorthand) {
            (Value::Table(entries), _) => Some(self.table(keys, entries, at, &node.origin)),
            (Value::Text(_), Some(name)) => {
                let entry = Entry {
                    key: node.origin.clone(),
                    node: node.clone(),
                };
                let entries = Entries::from([(name.to_owned(), entry)]);
                Some(self.table(keys, &entries, at, &node.origin))
            }
            (value, _) => {
                let message = format!("found {}; accepted: a table", value.describe());
                self.problems
                    .add_from(Diagnostic::error(at, message), &node.origin);
                None
            }
        }
    }

    fn unknown(&mut self, keys: &'static [Key], name: &str, entry: &Entry, at: &str) {
        let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
        let message = format!("unknown key `{name}`; accepted: {}", names.join(", "));
        let mut told = Diagnostic::error(path::join(at, name), message);
        told.hint = habits::key_in(at, name)
            .map(str::to_owned)
            .or_else(|| suggest::did_you_mean(name, names))
            .or_else(|| habits::key(name).map(str::to_owned))
            .or_else(|| elsewhere(name));
        self.problems.add_from(told, &entry.key);
    }
}

/// How a value of the wrong shape is written in the right one.
fn reshaped(shape: Shape, value: &Value, at: &str) -> Option<String> {
    match (shape, value) {
        (Shape::List(_) | Shape::Tables(_, Some(_)), Value::Text(_)) => {
            Some(format!("write [{}]", value.describe()))
        }
        (Shape::Tables(..), Value::Table(_)) => Some(format!("each of them begins with [[{at}]]")),
        (Shape::Table(keys), Value::Text(_)) if keys.iter().any(|key| key.name == "cookie") => {
            Some(format!("write {{ cookie = {} }}", value.describe()))
        }
        (Shape::Table(keys), Value::Text(_)) if keys.iter().any(|key| key.name == "path") => {
            Some(format!("write {{ path = {} }}", value.describe()))
        }
        (Shape::Table(keys), Value::Bool(false)) if keys.iter().any(|key| key.name == "off") => {
            Some("write { off = true }".to_owned())
        }
        _ => None,
    }
}

/// Where a key belongs that stands in the wrong table.
fn elsewhere(name: &str) -> Option<String> {
    let mut found = None;
    walk(ROOT, &mut |pattern, key| {
        if key.name == name && found.is_none() {
            found = Some(format!("there is `{pattern}`"));
        }
    });
    found
}

/// What is accepted for a key, in words.
#[must_use]
pub fn accepts(shape: Shape) -> String {
    match shape {
        Shape::Scalar(form) => form.accepts(),
        Shape::List(form) => format!("an array, each {}", form.accepts()),
        Shape::Map(of, form) => format!("a table from {} to {}", map_keys(of), form.accepts()),
        Shape::Table(_) => "a table".to_owned(),
        Shape::Named(..) => "tables by name".to_owned(),
        Shape::Tables(_, None) => "an array of tables".to_owned(),
        Shape::Tables(_, Some(name)) => format!("an array of tables, or of strings for `{name}`"),
    }
}

const fn map_keys(of: MapKey) -> &'static str {
    match of {
        MapKey::Status => "a status",
        MapKey::Header | MapKey::EditedHeader => "the name of a header",
        MapKey::Parameter => "a query parameter",
        MapKey::Cookie => "the name of a cookie",
        MapKey::Upstream => "an upstream",
    }
}

fn map_key(of: MapKey, name: &str) -> Result<(), Complaint> {
    match of {
        MapKey::Status => match name.parse::<u16>() {
            Ok(400..=599) => Ok(()),
            Ok(_) | Err(_) => Err(Complaint::new("accepted: a status from 400 to 599")),
        },
        MapKey::Header => header::name(name).map(drop),
        MapKey::EditedHeader => header::edited_name(name).map(drop),
        MapKey::Cookie if !header::is_token(name) => Err(Complaint::new("it is not the name of a cookie")),
        MapKey::Parameter if name.is_empty() => Err(Complaint::new("the name is empty")),
        MapKey::Upstream | MapKey::Cookie | MapKey::Parameter => Ok(()),
    }
}
