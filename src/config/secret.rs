//! Secrets: named by where they are kept, read at load, never shown.

use super::environment::Environment;
use super::files::{Files, MAX_SECRET_BYTES};
use super::form::Complaint;
use super::model::Secret;
use super::scalar::Scalar;
use super::tree::Value;
use std::path::Path;

/// What reading a secret found.
#[derive(Debug)]
pub struct Read {
    pub secret: Scalar,
    /// The secret itself stands in the configuration.
    pub literal: bool,
}

/// Reads `env:NAME`, `file:/PATH`, or a literal.
pub fn read(value: &Value, base: &Path, env: &Environment, files: &mut Files) -> Result<Read, Complaint> {
    let Value::Text(text) = value else {
        return Err(Complaint::new("it is not a string"));
    };
    let (found, shown) = if let Some(name) = text.strip_prefix("env:") {
        let found = env
            .get(name)
            .ok_or_else(|| Complaint::new(format!("the environment has no variable {name}")))?;
        (found.to_owned(), text.clone())
    } else if let Some(path) = text.strip_prefix("file:") {
        let path = base.join(path);
        let found = files
            .read_text(&path, MAX_SECRET_BYTES, false)
            .map_err(|error| Complaint::new(format!("{} {error}", path.display())))?;
        (
            found.trim_end_matches(['\r', '\n']).to_owned(),
            format!("file:{}", path.display()),
        )
    } else {
        (text.clone(), "***".to_owned())
    };
    if found.is_empty() {
        return Err(Complaint::new("the secret is empty"));
    }
    files.count(&found);
    let literal = shown == "***";
    Ok(Read {
        secret: Scalar::Secret(Secret(found), shown),
        literal,
    })
}
