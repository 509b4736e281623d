//! The one table of keys: name, shape, default, what it does, whether a change needs a restart.
//!
//! Readers, problems with did-you-mean, schema, reference file, `config show --effective`, environment
//! overrides and the docs all come from here. [`table::ROOT`] is the table itself.

pub mod legacy;
pub mod table;

use super::form::Form;
use legacy::Legacy;

/// One key.
pub struct Key {
    pub name: &'static str,
    pub shape: Shape,
    pub presence: Presence,
    /// What it does, in sentences.
    pub doc: &'static str,
    /// A value that shows how it is written, as TOML; for keys without a default.
    pub example: &'static str,
    pub change: Change,
    /// A variable that users' systems already carry for it.
    pub legacy: Option<&'static Legacy>,
    /// Another one, asked where that one is not set.
    pub or_legacy: Option<&'static Legacy>,
    /// A key beside it that, written, brings this table along with its defaults.
    pub along: Option<&'static str>,
}

/// What a key holds.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Scalar(Form),
    List(Form),
    /// Single values under names of the given kind.
    Map(MapKey, Form),
    Table(&'static [Key]),
    /// Tables under the operator's names; the second is the name in examples.
    Named(&'static [Key], &'static str),
    /// Tables in a row. Where a name is given, a string stands for a table with only that key.
    Tables(&'static [Key], Option<&'static str>),
}

/// What the names in a map are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKey {
    /// A status of an error, 400–599.
    Status,
    /// A header that is asked about.
    Header,
    /// A header that is changed.
    EditedHeader,
    /// A query parameter.
    Parameter,
    Cookie,
    Upstream,
}

/// Whether a key is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// This text when it is not written; words with commas between them for a list.
    Default(&'static str),
    Optional,
    Required,
}

/// What a changed value asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Reload,
    Restart,
}

impl Key {
    /// A single value with a default.
    #[must_use]
    pub const fn new(name: &'static str, form: Form, default: &'static str, doc: &'static str) -> Self {
        Self::with(name, Shape::Scalar(form), Presence::Default(default), doc)
    }

    /// A single value that may be left out.
    #[must_use]
    pub const fn optional(name: &'static str, form: Form, example: &'static str, doc: &'static str) -> Self {
        let mut key = Self::with(name, Shape::Scalar(form), Presence::Optional, doc);
        key.example = example;
        key
    }

    /// A single value that must be written.
    #[must_use]
    pub const fn required(name: &'static str, form: Form, example: &'static str, doc: &'static str) -> Self {
        let mut key = Self::with(name, Shape::Scalar(form), Presence::Required, doc);
        key.example = example;
        key
    }

    /// A list; empty when not written, unless a default says otherwise.
    #[must_use]
    pub const fn list(name: &'static str, form: Form, default: &'static str, doc: &'static str) -> Self {
        Self::with(name, Shape::List(form), Presence::Default(default), doc)
    }

    /// A list that must be written.
    #[must_use]
    pub const fn required_list(
        name: &'static str,
        form: Form,
        example: &'static str,
        doc: &'static str,
    ) -> Self {
        let mut key = Self::with(name, Shape::List(form), Presence::Required, doc);
        key.example = example;
        key
    }

    /// A map; empty when not written.
    #[must_use]
    pub const fn map(name: &'static str, of: MapKey, form: Form, doc: &'static str) -> Self {
        Self::with(name, Shape::Map(of, form), Presence::Default(""), doc)
    }

    /// A table that is always there, by the defaults of its keys.
    #[must_use]
    pub const fn table(name: &'static str, keys: &'static [Self], doc: &'static str) -> Self {
        Self::with(name, Shape::Table(keys), Presence::Default(""), doc)
    }

    /// A table that may be left out.
    #[must_use]
    pub const fn optional_table(name: &'static str, keys: &'static [Self], doc: &'static str) -> Self {
        Self::with(name, Shape::Table(keys), Presence::Optional, doc)
    }

    const fn with(name: &'static str, shape: Shape, presence: Presence, doc: &'static str) -> Self {
        Self {
            name,
            shape,
            presence,
            doc,
            example: "",
            change: Change::Reload,
            legacy: None,
            or_legacy: None,
            along: None,
        }
    }

    /// With an example for docs.
    #[must_use]
    pub const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }

    /// A change needs a restart.
    #[must_use]
    pub const fn restart(mut self) -> Self {
        self.change = Change::Restart;
        self
    }

    /// Also set by a variable that users' systems already carry.
    #[must_use]
    pub const fn legacy(mut self, legacy: &'static Legacy) -> Self {
        self.legacy = Some(legacy);
        self
    }

    /// Also set by another variable, where the first is not set.
    #[must_use]
    pub const fn or_legacy(mut self, legacy: &'static Legacy) -> Self {
        self.or_legacy = Some(legacy);
        self
    }

    /// A table that is there, by the defaults of its keys, wherever another key is written beside it.
    #[must_use]
    pub const fn along_with(mut self, other: &'static str) -> Self {
        self.along = Some(other);
        self
    }

    /// The variables that users' systems already carry for it, in the order they are asked.
    pub fn legacies(&self) -> impl Iterator<Item = &'static Legacy> {
        self.legacy.into_iter().chain(self.or_legacy)
    }

    /// The keys in this key's table or tables.
    #[must_use]
    pub const fn children(&self) -> &'static [Self] {
        match self.shape {
            Shape::Table(keys) | Shape::Named(keys, _) | Shape::Tables(keys, _) => keys,
            Shape::Scalar(_) | Shape::List(_) | Shape::Map(..) => &[],
        }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Calls `visit` with every key and its pattern, such as `listeners.*.limits.body` or `routes[].name`, parents
/// before children.
pub fn walk(keys: &'static [Key], visit: &mut impl FnMut(&str, &'static Key)) {
    walk_under("", keys, visit);
}

fn walk_under(prefix: &str, keys: &'static [Key], visit: &mut impl FnMut(&str, &'static Key)) {
    for key in keys {
        let pattern = format!("{prefix}{}", key.name);
        visit(&pattern, key);
        let below = match key.shape {
            Shape::Named(..) => format!("{pattern}.*."),
            Shape::Tables(..) => format!("{pattern}[]."),
            Shape::Table(_) | Shape::Scalar(_) | Shape::List(_) | Shape::Map(..) => format!("{pattern}."),
        };
        walk_under(&below, key.children(), visit);
    }
}
