//! A configuration after every key was read against the table of keys: complete, typed, each value with its
//! origin. Readers turn it into the model, `config show` prints it.

use super::scalar::{FromScalar, Scalar};
use super::source::Origin;
use std::collections::BTreeMap;

/// A table with every key that has a value, given or by default.
#[derive(Clone, Debug)]
pub struct Table {
    /// In the order of the rows. There are few: looking through them is quick, and a map for each would cost
    /// many times what is in it.
    pub entries: Vec<(&'static str, Item)>,
    pub origin: Origin,
}

/// A value with its origin.
#[derive(Clone, Debug)]
pub struct Item {
    pub content: Content,
    pub origin: Origin,
}

/// The shapes of values.
#[derive(Clone, Debug)]
pub enum Content {
    Scalar(Scalar),
    List(Vec<Item>),
    /// Single values under names that the operator chose.
    Map(BTreeMap<String, Item>),
    Table(Table),
    /// Tables under names that the operator chose.
    Named(BTreeMap<String, Table>),
    Tables(Vec<Table>),
}

impl Table {
    /// Keys with values in the order of the key table.
    pub fn items(&self) -> impl Iterator<Item = (&'static str, &Item)> {
        self.entries.iter().map(|(name, item)| (*name, item))
    }

    /// The value of a key.
    #[must_use]
    pub fn item(&self, name: &str) -> Option<&Item> {
        self.entries
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, item)| item)
    }

    fn content(&self, name: &str) -> Option<&Content> {
        self.item(name).map(|item| &item.content)
    }

    /// A single value; `None` if it has neither value nor default.
    #[must_use]
    pub fn get<T: FromScalar>(&self, name: &str) -> Option<T> {
        scalar(self.item(name)?)
    }

    /// A list of single values.
    #[must_use]
    pub fn list<T: FromScalar>(&self, name: &str) -> Option<Vec<T>> {
        match self.content(name)? {
            Content::List(items) => items.iter().map(scalar).collect(),
            _ => None,
        }
    }

    /// Single values under the operator's names.
    #[must_use]
    pub fn map<T: FromScalar>(&self, name: &str) -> Option<BTreeMap<String, T>> {
        match self.content(name)? {
            Content::Map(entries) => entries
                .iter()
                .map(|(name, item)| Some((name.clone(), scalar(item)?)))
                .collect(),
            _ => None,
        }
    }

    /// A table.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Self> {
        self.item(name)?.table()
    }

    /// Tables under the operator's names.
    pub fn named(&self, name: &str) -> impl Iterator<Item = (&String, &Self)> {
        let tables = match self.content(name) {
            Some(Content::Named(tables)) => Some(tables),
            _ => None,
        };
        tables.into_iter().flatten()
    }

    /// Whether there is a table of this name under a key.
    #[must_use]
    pub fn has_named(&self, key: &str, name: &str) -> bool {
        matches!(self.content(key), Some(Content::Named(tables)) if tables.contains_key(name))
    }

    /// Tables in a row.
    #[must_use]
    pub fn tables(&self, name: &str) -> &[Self] {
        match self.content(name) {
            Some(Content::Tables(tables)) => tables,
            _ => &[],
        }
    }

    /// Whether a key was written, in a file or the environment.
    #[must_use]
    pub fn given(&self, name: &str) -> bool {
        self.item(name).is_some_and(|item| item.origin != Origin::Default)
    }
}

impl Item {
    /// The table, if it is one.
    #[must_use]
    pub const fn table(&self) -> Option<&Table> {
        match &self.content {
            Content::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The value, if it is a single one.
    #[must_use]
    pub const fn scalar(&self) -> Option<&Scalar> {
        match &self.content {
            Content::Scalar(value) => Some(value),
            _ => None,
        }
    }
}

fn scalar<T: FromScalar>(item: &Item) -> Option<T> {
    item.scalar().and_then(T::from_scalar)
}
