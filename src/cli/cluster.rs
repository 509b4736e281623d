//! `tidegate cluster`: what is done to a cluster as a whole, or to a gateway that has left it.

use super::remote::{self, ForgetArgs};
use super::{ConfigFile, EXIT_USAGE, colours, complain, say};
use crate::app::Surroundings;
use crate::cluster::names::{Names, is_part};
use crate::cluster::redis::purge::{self, Found};
use crate::config::form;
use crate::config::{self, Environment, render};
use crate::control::cluster::options;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Take away what a cluster that is no more left in its Redis; without --yes count it only
    Purge(PurgeArgs),
    /// Forget a gateway that has left for good
    Forget(ForgetArgs),
}

#[derive(Debug, Args)]
pub(super) struct PurgeArgs {
    /// Name of the cluster
    name: String,
    /// The Redis, as cluster.redis of the configuration has it, also env:NAME or file:/PATH [default: the configuration's,
    /// with its user, password and terms of TLS]
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    redis: Option<String>,
    /// First part of the names of its keys [default: cluster.prefix of the configuration, or tidegate]
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Do it
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    file: ConfigFile,
}

pub(super) fn cluster(command: &ClusterCommand, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    match command {
        ClusterCommand::Purge(args) => purge(args, surroundings),
        ClusterCommand::Forget(args) => remote::forget(args, surroundings),
    }
}

fn purge(args: &PurgeArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    for name in [Some(&args.name), args.prefix.as_ref()].into_iter().flatten() {
        if !is_part(name) {
            complain(&format!("tidegate: {name:?} is no name of a cluster"));
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    }
    let loaded = match &args.redis {
        Some(url) => {
            let url = match url.strip_prefix("env:") {
                Some(name) => surroundings
                    .environment
                    .get(name)
                    .with_context(|| format!("there is no {name} in the environment"))?,
                None => url,
            };
            // Nothing of the surroundings says otherwise. There is always a listener, which is never bound here.
            let text = format!(
                "listeners.none.address = \"127.0.0.1:0\"\ncluster.redis = {}",
                toml::Value::from(url)
            );
            config::load_text("--redis", &text, &Environment::default())
        }
        None => match args.file.find_or_complain() {
            Ok(path) => config::load(&path, &surroundings.environment),
            Err(code) => return Ok(code),
        },
    };
    let mut cluster = match loaded {
        Ok(loaded) => loaded.config.cluster,
        Err(rejected) => {
            complain(&render::text(&rejected.diagnostics, colours()));
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    cluster.name.clone_from(&args.name);
    if let Some(prefix) = &args.prefix {
        cluster.prefix.clone_from(prefix);
    }
    let options = match options(&cluster) {
        Ok(Some(options)) => options,
        Ok(None) => bail!("the configuration names no Redis: say --redis URL"),
        Err(diagnostics) => {
            complain(&render::text(&diagnostics, colours()));
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let place = form::redis::without_password(&options.access.url);
    let names = Names::new(&cluster.prefix, &cluster.name);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the client could not be started")?;
    let found = runtime
        .block_on(purge::purge(&options.access, &names, args.yes))
        .with_context(|| format!("nothing is taken away of {}* in {place}", names.prefix()))?;
    say(&told(&found, &names, &place, args.yes));
    Ok(ExitCode::SUCCESS)
}

fn told(found: &Found, names: &Names, place: &str, removed: bool) -> String {
    let what = if removed { "removed" } else { "found" };
    let mut text = format!("{what} {} keys {}* in {place}\n", found.total(), names.prefix());
    for (role, count) in &found.keys {
        text.push_str(&format!("  {count} {role}\n"));
    }
    if !removed && found.total() > 0 {
        text.push_str("nobody lives there; --yes takes them away\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_found_and_what_is_removed_is_told_by_what_it_holds() {
        let found = Found {
            keys: BTreeMap::from([("members", 1), ("tables", 4)]),
            servers: 1,
        };
        let names = Names::new("tidegate", "old");
        let text = told(&found, &names, "redis://h:1", false);
        assert_eq!(
            text,
            "found 5 keys tidegate:1:old:* in redis://h:1\n  1 members\n  4 tables\nnobody lives there; --yes takes them away\n"
        );
        assert!(told(&found, &names, "redis://h:1", true).starts_with("removed 5 keys"));
        assert!(!told(&Found::default(), &names, "x", false).contains("--yes"));
    }
}
