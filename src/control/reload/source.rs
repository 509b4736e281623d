//! Where the configuration comes from.

use crate::config::{self, Environment, Loaded, Rejected, SharedText};
use std::path::PathBuf;

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    File {
        path: PathBuf,
        environment: Environment,
    },
    /// Written by a command, such as `tidegate proxy`; it can't change.
    Text {
        name: String,
        text: String,
        environment: Environment,
    },
}

impl Source {
    /// Reads it. Blocking.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<Loaded, Rejected> {
        match self {
            Self::File { path, environment } => config::load(path, environment),
            Self::Text {
                name,
                text,
                environment,
            } => config::load_text(name, text, environment),
        }
    }

    /// As [`Self::load`], with what gateways share in the place of its own.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load_under(&self, shared: &SharedText) -> Result<Loaded, Rejected> {
        match self {
            Self::File { path, environment } => config::load_under(path, shared, environment),
            Self::Text {
                name,
                text,
                environment,
            } => config::load_text_under(name, text, shared, environment),
        }
    }
}
