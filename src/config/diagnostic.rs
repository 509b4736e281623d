//! What is wrong with a configuration, where, and what would be right.

use std::path::PathBuf;
use std::sync::Arc;

/// Errors refuse a configuration, warnings do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Warning,
    Error,
}

/// A place in a configuration file. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub file: PathBuf,
    pub line: u32,
    pub column: u32,
    /// Byte range in the file, for the excerpt.
    pub bytes: std::ops::Range<usize>,
    /// What the excerpt is cut from.
    pub text: SourceText,
}

/// The text of a file with every secret in it blanked, so that no excerpt can show one.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceText(pub Arc<str>);

impl std::fmt::Debug for SourceText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// Key path such as `upstreams.api.endpoints[2].weight`; empty for a file as a whole.
    pub key: String,
    /// What was found and what is accepted, in one sentence without a full stop.
    pub message: String,
    /// Did-you-mean, or what to do.
    pub hint: Option<String>,
    /// `None` when the value comes from a default or could not be placed.
    pub location: Option<Location>,
}

impl Diagnostic {
    /// A problem that refuses the configuration.
    #[must_use]
    pub fn error(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            key: key.into(),
            message: message.into(),
            hint: None,
            location: None,
        }
    }

    /// A problem that is only told.
    #[must_use]
    pub fn warning(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(key, message)
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
