//! The composition root: from a configuration to a running gateway, and to its end.
//!
//! A start goes in the order of a reload (load, compile, bind), then gives up privileges, then starts threads.
//! Nothing serves before everything stands.

mod prepare;
mod ready;
mod serve;

use crate::config::diagnostic::Diagnostic;
use crate::config::{Environment, Loaded, Rejected};
use crate::control::following::Beginning;
use crate::control::listeners::BindError;
use crate::control::process::{Identity, PidFileError, PrivilegeError};
use crate::control::reload::{self, Source};
use crate::control::state_dir::{Candidates, StateDirError};
use crate::control::systemd::Inherited;
use crate::control::{journal, mutator};
use crate::snapshot::{Parts, Snapshot};
use crate::telemetry::access_log::AccessWriter;
use crate::telemetry::log::{self, LogError};
use crate::tls::acme::Acme;
use crate::upstream::shared::names::Directory;
use crate::upstream::shared::{Overrides, Registry};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is read of the process's environment, once.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    pub environment: Environment,
    /// Names of the sockets that the service manager passed.
    pub listen_names: Option<String>,
    pub state_home: Option<PathBuf>,
    pub home: Option<PathBuf>,
}

impl Surroundings {
    /// Reads them. What is not UTF-8 is left out: no key of ours can mean it.
    #[must_use]
    pub fn read() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let environment = Environment::from_vars(variables);
        let path = |name: &str| {
            environment
                .get(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Self {
            listen_names: environment.get("LISTEN_FDNAMES").map(str::to_owned),
            state_home: path("XDG_STATE_HOME"),
            home: path("HOME"),
            environment,
        }
    }

    /// Where the state directory may be, for this setting of `runtime.state_dir`.
    #[must_use]
    pub fn state_candidates(&self, configured: Option<PathBuf>) -> Candidates {
        Candidates {
            configured,
            state_home: self.state_home.clone(),
            home: self.home.clone(),
        }
    }
}

/// What to run.
#[derive(Debug)]
pub struct RunOptions {
    pub source: Source,
    /// Where to write, as JSON, what was bound, once it serves.
    pub ready_file: Option<PathBuf>,
    pub surroundings: Surroundings,
}

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Exit code 2; everything else is 1.
    #[error("the configuration is refused")]
    Config(Vec<Diagnostic>),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Bind(Vec<BindError>),
    #[error("{}", .0.iter().map(journal::one_line).collect::<Vec<_>>().join("\n"))]
    Files(Vec<Diagnostic>),
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    #[error("{what}")]
    System {
        what: String,
        #[source]
        source: io::Error,
    },
}

impl StartError {
    fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

/// Everything `run` does before it binds.
///
/// # Errors
/// All errors and warnings, when there is an error among them.
pub fn check(source: &Source) -> Result<Loaded, Vec<Diagnostic>> {
    let loaded = source
        .load()
        .map_err(|Rejected { diagnostics, .. }| diagnostics)?;
    let access = AccessWriter::start(Arc::default()).map_err(|error| {
        vec![Diagnostic::error(
            "",
            format!("a thread could not be started: {error}"),
        )]
    })?;
    let parts = Parts {
        registry: &Registry::default(),
        access: &access,
        directory: &Directory::default(),
        overrides: &Overrides::default(),
        tickets: &Arc::default(),
        acme: &Acme::default(),
    };
    let (mut loaded, snapshot) = reload::compile(loaded, 1, parts)?;
    let mut missing = missing_here(&loaded, &snapshot);
    for warning in &mut missing {
        loaded.origins.place(warning);
    }
    loaded.warnings.append(&mut missing);
    Ok(loaded)
}

/// What this host lacks for a start. Warnings, because a configuration is often checked elsewhere than it runs.
fn missing_here(loaded: &Loaded, snapshot: &Snapshot) -> Vec<Diagnostic> {
    let mut missing = Vec::new();
    let runtime = &loaded.config.runtime;
    match Identity::resolve(runtime.user.as_deref(), runtime.group.as_deref()) {
        Err(PrivilegeError::NoUser(name)) => missing.push(Diagnostic::warning(
            "runtime.user",
            format!("this host has no user `{name}`: it could not start here"),
        )),
        Err(PrivilegeError::NoGroup(name)) => missing.push(Diagnostic::warning(
            "runtime.group",
            format!("this host has no group `{name}`: it could not start here"),
        )),
        // Whoever checks need not be root.
        Ok(_) | Err(PrivilegeError::NotRoot(_) | PrivilegeError::Refused { .. }) => {}
    }
    let logs = snapshot
        .listeners
        .iter()
        .filter_map(|listener| listener.access.as_ref());
    let directories: BTreeSet<&Path> = logs
        .filter_map(|log| log.file.path().parent())
        .filter(|directory| !directory.as_os_str().is_empty() && !directory.is_dir())
        .collect();
    missing.extend(directories.into_iter().map(|directory| {
        Diagnostic::warning(
            "log.access",
            format!(
                "{} is no directory here: the access log could not be opened",
                directory.display()
            ),
        )
    }));
    missing
}

/// Runs the gateway to its end. Gives the exit code.
///
/// # Errors
/// It could not start.
pub fn run(options: RunOptions) -> Result<u8, StartError> {
    // First, because it takes variables out of the environment, which is safe while there is one thread.
    let inherited = Inherited::take(options.surroundings.listen_names.as_deref());
    let loaded = options
        .source
        .load()
        .map_err(|Rejected { diagnostics, .. }| StartError::Config(diagnostics))?;
    let log = log::init(
        mutator::level_filter(loaded.config.log.level),
        mutator::style(loaded.config.log.format),
    )?;
    let candidates = options
        .surroundings
        .state_candidates(loaded.config.runtime.state_dir.clone());
    let beginning = Beginning::find(&options.source, loaded, &candidates);
    let prepared = prepare::prepare(&options, beginning, inherited, log)?;
    serve::run(prepared, options)
}
