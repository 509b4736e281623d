//! `tidegate config`: the configuration, its schema, its reference; and what is published to a cluster.

use super::remote::{self, PublishArgs, RollbackArgs, UnpublishArgs, VersionsArgs};
use super::{ConfigFile, EXIT_USAGE, colours, complain, say};
use crate::app::Surroundings;
use crate::config::{self, effective, reference, render, schema};
use clap::{Args, Subcommand, ValueEnum};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Show the configuration; secrets are masked
    Show(ShowArgs),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print a configuration with every key at its default, commented
    Reference {
        /// As a page of documentation
        #[arg(long)]
        markdown: bool,
    },
    /// Publish a file to all gateways of the cluster that follow its configuration
    Publish(PublishArgs),
    /// List what was published, or print one version
    Versions(VersionsArgs),
    /// Publish a version of before again
    Rollback(RollbackArgs),
    /// Take what was published back: each gateway goes by its own file again
    Unpublish(UnpublishArgs),
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// With every default filled in, and where each value came from
    #[arg(long)]
    effective: bool,
    #[arg(long, value_enum, default_value_t = Format::Toml)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Toml,
    Json,
}

pub(super) fn config(command: &ConfigCommand, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Show(args) => return show(args, surroundings),
        ConfigCommand::Publish(args) => return remote::publish(args, surroundings),
        ConfigCommand::Versions(args) => return remote::versions(args, surroundings),
        ConfigCommand::Rollback(args) => return remote::rollback(args, surroundings),
        ConfigCommand::Unpublish(args) => return remote::unpublish(args, surroundings),
        ConfigCommand::Schema => say(&format!("{:#}", schema::json_schema())),
        ConfigCommand::Reference { markdown: true } => say(&reference::markdown()),
        ConfigCommand::Reference { markdown: false } => say(&reference::toml()),
    }
    Ok(ExitCode::SUCCESS)
}

fn show(args: &ShowArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    let path = match args.file.find_or_complain() {
        Ok(path) => path,
        Err(code) => return Ok(code),
    };
    match config::load(&path, &surroundings.environment) {
        Ok(loaded) => {
            say(&match (args.format, args.effective) {
                (Format::Toml, true) => effective::toml(&loaded),
                (Format::Toml, false) => effective::written_toml(&loaded),
                (Format::Json, true) => effective::json(&loaded),
                (Format::Json, false) => effective::written_json(&loaded),
            });
            Ok(ExitCode::SUCCESS)
        }
        Err(rejected) => {
            complain(&render::text(&rejected.diagnostics, colours()));
            Ok(ExitCode::from(EXIT_USAGE))
        }
    }
}
