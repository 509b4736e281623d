//! Configuration as written.
//!
//! [`load`] reads a file and its includes, lays environment overrides over them, and gives the [`model::Config`]
//! with every default filled in, or every problem at once. One table of keys ([`keys`]) drives the readers, the
//! diagnostics with did-you-mean, the schema, the reference file, `config show --effective` and the docs.
//!
//! The steps: [`gather`] reads files into one [`tree`] of values with their places, [`overrides`] lays the
//! environment over it, [`resolve`] reads it against the table of keys into [`settings`], [`read`] turns those
//! into the [`model`], and [`check`] looks at what belongs together. Nothing is compiled or resolved here; that is
//! `snapshot`'s part, which reports by key and has its problems placed by [`Origins`].

pub mod acme;
pub mod check;
pub mod choices;
pub mod diagnostic;
pub mod effective;
pub mod environment;
pub mod files;
pub mod form;
pub mod gather;
pub mod glob;
pub mod habits;
pub mod keys;
pub mod load;
pub mod model;
pub mod origins;
pub mod overrides;
pub mod path;
pub mod problems;
pub mod read;
pub mod reference;
pub mod render;
pub mod resolve;
pub mod scalar;
pub mod schema;
pub mod secret;
pub mod settings;
pub mod shared;
pub mod source;
pub mod suggest;
pub mod tree;

pub use choices::Choice;
pub use diagnostic::{Diagnostic, Location, Severity};
pub use environment::Environment;
pub use load::{Loaded, Rejected, load, load_text, load_text_under, load_under};
pub use model::Config;
pub use origins::Origins;
pub use shared::SharedText;

#[cfg(test)]
mod tests;
