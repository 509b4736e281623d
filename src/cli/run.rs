//! `tidegate run`.

use super::{ConfigFile, EXIT_USAGE, colours, complain};
use crate::app::{self, RunOptions, StartError, Surroundings};
use crate::config::render;
use crate::control::reload::Source;
use anyhow::Context;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Write, as JSON, what was bound to this file once the gateway serves
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
}

pub(super) fn run(args: RunArgs, surroundings: Surroundings) -> anyhow::Result<ExitCode> {
    let path = match args.file.find_or_complain() {
        Ok(path) => path,
        Err(code) => return Ok(code),
    };
    let source = Source::File {
        path,
        environment: surroundings.environment.clone(),
    };
    start(RunOptions {
        source,
        ready_file: args.ready_file,
        surroundings,
    })
}

/// Runs, and tells why it could not start.
pub(super) fn start(options: RunOptions) -> anyhow::Result<ExitCode> {
    match app::run(options) {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(StartError::Config(diagnostics)) => {
            complain(&render::text(&diagnostics, colours()));
            Ok(ExitCode::from(EXIT_USAGE))
        }
        Err(error) => Err(error).context("could not start"),
    }
}
