//! Formats of the access log, compiled once: `combined`, `json`, or an nginx `log_format` string.
//!
//! Whatever bytes a request brings, its record is exactly one line, and valid JSON in the JSON format. Writing
//! allocates nothing beyond the growth of the buffer.

mod clock;
mod compile;
mod escape;
mod json;
mod redact;
mod values;
mod variables;

pub use compile::{FormatError, FormatProblem, MAX_FORMAT};
pub use redact::Redact;

use super::access::AccessRecord;
use compile::Part;
use escape::Escape;
use values::{Host, Value};

/// The format that nginx and Apache call `combined`, as a `log_format` string.
pub const COMBINED: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#;

#[derive(Clone, Debug)]
enum Layout {
    Json,
    Template {
        escape: Escape,
        parts: Box<[Part]>,
        host: Host,
    },
}

/// A compiled format.
#[derive(Clone, Debug)]
pub struct Format {
    layout: Layout,
    redact: Redact,
}

impl Format {
    /// One JSON object per line with everything that is known.
    #[must_use]
    pub fn json() -> Self {
        Self {
            layout: Layout::Json,
            redact: Redact::default(),
        }
    }

    /// The text that log analysers read: [`COMBINED`].
    #[must_use]
    pub fn combined() -> Self {
        // A constant; a test compiles it.
        Self::template(COMBINED).unwrap_or_else(|_| Self::json())
    }

    /// An nginx `log_format` string, with `escape=json ` in front for values inside JSON strings.
    ///
    /// # Errors
    /// Says what is wrong with the text and where.
    pub fn template(text: &str) -> Result<Self, FormatError> {
        let (escape, parts) = compile::compile(text)?;
        Ok(Self {
            layout: Layout::Template {
                escape,
                parts: parts.into(),
                host: Host::this(),
            },
            redact: Redact::default(),
        })
    }

    /// Leaves out the values of these query parameters, wherever a URI is written.
    #[must_use]
    pub fn redacting(self, redact: Redact) -> Self {
        Self { redact, ..self }
    }

    /// Appends the record and a line feed.
    pub fn write(&self, record: &AccessRecord<'_>, out: &mut Vec<u8>) {
        match &self.layout {
            Layout::Json => json::write(out, &self.redact, record),
            Layout::Template { escape, parts, host } => {
                let mut value = Value {
                    out,
                    escape: *escape,
                    redact: &self.redact,
                };
                for part in parts {
                    match part {
                        Part::Text(text) => value.out.extend_from_slice(text),
                        Part::Variable(variable) => value.variable(variable, record, host),
                    }
                }
                out.push(b'\n');
            }
        }
    }
}

#[cfg(test)]
mod tests;
