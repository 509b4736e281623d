//! Configuration as written.
//!
//! [`load`] reads a file and its includes, lays environment overrides over them, and gives the [`model::Config`]
//! with every default filled in, or every problem at once. One table of keys ([`keys`]) drives the readers, the
//! diagnostics with did-you-mean, the schema, the reference file, `config show --effective` and the docs.

pub mod diagnostic;
pub mod model;

pub use model::Config;
