//! From files and environment to a configuration, or to every problem at once.

use super::check;
use super::diagnostic::{Diagnostic, Severity};
use super::environment::Environment;
use super::gather::Gathered;
use super::keys::table::ROOT;
use super::keys::{Change, Key};
use super::model::Config;
use super::origins::Origins;
use super::overrides;
use super::path;
use super::read;
use super::render;
use super::resolve::Resolver;
use super::settings::{Item, Table};
use super::shared::SharedText;
use super::source::Origin;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A configuration that can be compiled.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Diagnostic>,
    pub origins: Origins,
    /// Every file that was read: includes, error pages and secret files too.
    pub files: Vec<PathBuf>,
    /// Every directory in which a change may matter: those of the files, and those that include patterns look
    /// through. A directory may not be there yet.
    pub directories: Vec<PathBuf>,
    /// The same as long as files and environment say the same.
    pub fingerprint: u64,
    /// Places in a text that gateways share where a secret itself stands.
    pub shared_secrets: Vec<String>,
    /// Every key with its value and origin.
    pub(super) settings: Table,
}

/// A configuration that is refused.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// Errors and warnings, in the order of the files.
    pub diagnostics: Vec<Diagnostic>,
    /// As in [`Loaded`]: also what could not be read, so that mending it is seen.
    pub files: Vec<PathBuf>,
    pub directories: Vec<PathBuf>,
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&render::text(&self.diagnostics, false))
    }
}

impl std::error::Error for Rejected {}

/// Reads a file with its includes and lays the environment over it.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(path: &Path, env: &Environment) -> Result<Loaded, Rejected> {
    finish(Gathered::from_file(path), None, env)
}

/// As [`load`], for a text that is in no file; `name` stands for the file in messages, relative paths start from
/// the working directory.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load_text(name: &str, text: &str, env: &Environment) -> Result<Loaded, Rejected> {
    finish(Gathered::from_text(name, text), None, env)
}

/// As [`load`], with what gateways share in the place of the same sections of the file.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load_under(path: &Path, shared: &SharedText, env: &Environment) -> Result<Loaded, Rejected> {
    finish(Gathered::from_file(path), Some(shared), env)
}

/// As [`load_text`], in the same way.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load_text_under(
    name: &str,
    text: &str,
    shared: &SharedText,
    env: &Environment,
) -> Result<Loaded, Rejected> {
    finish(Gathered::from_text(name, text), Some(shared), env)
}

fn finish(
    mut gathered: Gathered,
    shared: Option<&SharedText>,
    env: &Environment,
) -> Result<Loaded, Rejected> {
    let shared = shared.map(|shared| gathered.share(shared));
    let Gathered {
        mut sources,
        mut files,
        mut problems,
        mut entries,
        ..
    } = gathered;
    let unread = problems.any_error();
    let partial = unread || problems.any_syntax();
    files.count(overrides::apply(&mut entries, env, &mut problems));
    let mut resolver = Resolver {
        env,
        sources: &sources,
        files: &mut files,
        problems: &mut problems,
        secrets: Vec::new(),
        partial,
    };
    let settings = resolver.table(ROOT, &entries, "", &Origin::Default);
    let secrets = resolver.secrets;
    let config = read::config(&settings);
    if let (Some(config), false) = (&config, partial) {
        check::check(config, &settings, &sources, &mut files, &mut problems);
    }
    let shared_secrets = secrets.iter().filter(|place| Some(place.source) == shared);
    let shared_secrets = shared_secrets.map(|place| sources.describe(place)).collect();
    sources.mask(&secrets);
    let mut origins = Origins::new(&settings);
    let failed = problems.any_error();
    let mut diagnostics = problems.finish(&sources, &origins);
    origins.set_sources(Arc::new(sources));
    let (files, directories, fingerprint) = files.finish();
    match config {
        Some(config) if !failed => Ok(Loaded {
            config,
            warnings: diagnostics,
            origins,
            files,
            directories,
            fingerprint,
            shared_secrets,
            settings,
        }),
        _ => {
            if !diagnostics.iter().any(|told| told.severity == Severity::Error) {
                diagnostics.push(Diagnostic::error(
                    "",
                    "the configuration could not be read, and nothing says why",
                ));
            }
            Err(Rejected {
                diagnostics,
                files,
                directories,
            })
        }
    }
}

impl Loaded {
    /// Keys that differ from those of the running configuration and only take effect after a restart.
    #[must_use]
    pub fn restart_keys(&self, running: &Self) -> Vec<String> {
        let mut changed = Vec::new();
        compare(ROOT, &self.settings, &running.settings, "", &mut changed);
        changed
    }
}

fn compare(keys: &'static [Key], new: &Table, old: &Table, at: &str, changed: &mut Vec<String>) {
    for key in keys {
        let at = path::join(at, key.name);
        let (new, old) = (new.item(key.name), old.item(key.name));
        let (new_table, old_table) = (new.and_then(Item::table), old.and_then(Item::table));
        let differs = new.and_then(Item::scalar) != old.and_then(Item::scalar);
        if let (Some(new), Some(old)) = (new_table, old_table) {
            compare(key.children(), new, old, &at, changed);
        } else if key.change == Change::Restart && differs {
            changed.push(at);
        }
    }
}
