//! `tidegate check`.

use super::{ConfigFile, EXIT_USAGE, colours, complain, say};
use crate::app::{self, Surroundings};
use crate::config::diagnostic::Diagnostic;
use crate::config::{Loaded, render};
use crate::control::reload::Source;
use clap::ValueEnum;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// How to tell what was found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn check(args: &CheckArgs, surroundings: Surroundings) -> anyhow::Result<ExitCode> {
    let path = match args.file.find_or_complain() {
        Ok(path) => path,
        Err(code) => return Ok(code),
    };
    let source = Source::File {
        path: path.clone(),
        environment: surroundings.environment,
    };
    let result = app::check(&source);
    match args.format {
        Format::Text => tell(&path, &result),
        Format::Json => say(&as_json(&path, &result)),
    }
    Ok(ExitCode::from(if result.is_ok() { 0 } else { EXIT_USAGE }))
}

fn tell(path: &Path, result: &Result<Loaded, Vec<Diagnostic>>) {
    match result {
        Ok(loaded) => {
            if !loaded.warnings.is_empty() {
                complain(&render::text(&loaded.warnings, colours()));
            }
            say(&format!("{}: ok: {}", path.display(), summary(loaded)));
        }
        Err(diagnostics) => complain(&render::text(diagnostics, colours())),
    }
}

fn summary(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let endpoints = config
        .upstreams
        .values()
        .map(|upstream| upstream.endpoints.len())
        .sum();
    let discovering = config
        .upstreams
        .values()
        .filter(|upstream| upstream.discover.is_some());
    // How many there are is known when the names have been looked up.
    let endpoints = match discovering.count() {
        0 => count(endpoints, "endpoint"),
        n => format!(
            "{} and those that {}",
            count(endpoints, "endpoint"),
            if n == 1 {
                "1 upstream discovers".to_owned()
            } else {
                format!("{n} upstreams discover")
            }
        ),
    };
    [
        count(config.listeners.len(), "listener"),
        count(config.routes.len(), "route"),
        count(config.upstreams.len(), "upstream"),
        endpoints,
        count(loaded.warnings.len(), "warning"),
    ]
    .join(", ")
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn as_json(path: &Path, result: &Result<Loaded, Vec<Diagnostic>>) -> String {
    let (ok, problems) = match result {
        Ok(loaded) => (true, &loaded.warnings),
        Err(diagnostics) => (false, diagnostics),
    };
    let report = json!({ "ok": ok, "file": path, "diagnostics": render::json(problems) });
    format!("{report:#}")
}
