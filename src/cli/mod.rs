//! The command line: what can be asked, and the exit codes: 0 done, 1 could not start, 2 bad configuration or
//! usage, 3 work was cut at the end.

mod check;
mod cluster;
mod config;
mod proxy;
mod remote;
mod run;

use crate::app::Surroundings;
use crate::demo;
use clap::{Args, Parser, Subcommand};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bad configuration or usage.
const EXIT_USAGE: u8 = 2;
/// Files looked for when none is named.
const DEFAULT_FILES: [&str; 2] = ["tidegate.toml", "/etc/tidegate/tidegate.toml"];

/// A layer-7 gateway: routes HTTP and WebSocket connections over app servers.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Run(run::RunArgs),
    /// Check a configuration: everything that run does before it binds
    Check(check::CheckArgs),
    /// Show the configuration, its schema, its reference; publish one to a cluster
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Run a gateway without a configuration file
    Proxy(proxy::ProxyArgs),
    /// Have a running gateway load its configuration anew
    Reload(remote::ReloadArgs),
    /// Show what a running gateway does
    Status(remote::StatusArgs),
    /// Show what happened to a running gateway, or to all of its cluster, and what happens
    Events(remote::EventsArgs),
    /// Show the services that registered themselves
    Services(remote::ServicesArgs),
    /// Give an endpoint nothing new, and let what runs there finish
    Drain(remote::DrainArgs),
    /// Give an endpoint requests again
    Undrain(remote::UndrainArgs),
    /// Choose endpoints of an upstream by another algorithm
    Balance(remote::BalanceArgs),
    /// Show open WebSockets and other tunnels, or close them
    Tunnels(remote::TunnelsArgs),
    /// Take away what a cluster left behind, or forget a gateway of one
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Say where a running gateway would send a request, and why
    Explain(remote::ExplainArgs),
    /// Start app servers, a gateway in front of them, and say what to try
    Demo(demo::DemoArgs),
    /// An app server of the demo
    #[command(hide = true)]
    DemoApp(demo::AppArgs),
    /// The gateway of the demo
    #[command(hide = true)]
    DemoGateway(demo::GatewayArgs),
    /// Print the version
    Version,
}

/// Which configuration file.
#[derive(Clone, Debug, Args)]
struct ConfigFile {
    /// Configuration file [default: tidegate.toml, else /etc/tidegate/tidegate.toml]
    #[arg(short, long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// The file to read; without one, tells why and gives the exit code.
    fn find_or_complain(&self) -> Result<PathBuf, ExitCode> {
        self.find().map_err(|error| {
            complain(&format!("tidegate: {error}"));
            ExitCode::from(EXIT_USAGE)
        })
    }

    /// The file named, or the first of the usual ones that exists.
    fn find(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.config {
            return Ok(path.clone());
        }
        self.usual().ok_or_else(|| {
            anyhow::anyhow!(
                "no configuration file: neither {} nor {} exists\n\
                 name one with -c FILE, or start without any: tidegate proxy --to 127.0.0.1:3000",
                DEFAULT_FILES[0],
                DEFAULT_FILES[1]
            )
        })
    }

    fn usual(&self) -> Option<PathBuf> {
        let found = DEFAULT_FILES.iter().map(Path::new).find(|path| path.exists());
        found.map(Path::to_path_buf)
    }
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            // Nowhere to write: the code is what is left to tell.
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let surroundings = Surroundings::read();
    let done = match cli.command {
        Command::Run(args) => run::run(args, surroundings),
        Command::Check(args) => check::check(&args, surroundings),
        Command::Config(command) => config::config(&command, &surroundings),
        Command::Proxy(args) => proxy::proxy(&args, surroundings),
        Command::Reload(args) => remote::reload(&args, &surroundings),
        Command::Status(args) => remote::status(&args, &surroundings),
        Command::Events(args) => remote::events(&args, &surroundings),
        Command::Services(args) => remote::services(&args, &surroundings),
        Command::Drain(args) => remote::drain(&args, &surroundings),
        Command::Undrain(args) => remote::undrain(&args, &surroundings),
        Command::Balance(args) => remote::balance(&args, &surroundings),
        Command::Tunnels(args) => remote::tunnels(&args, &surroundings),
        Command::Cluster(command) => cluster::cluster(&command, &surroundings),
        Command::Explain(args) => remote::explain(&args, &surroundings),
        Command::Demo(args) => demo::run(&args),
        Command::DemoApp(args) => demo::run_app(&args),
        Command::DemoGateway(args) => demo::run_gateway(&args),
        Command::Version => {
            say(concat!("tidegate ", env!("CARGO_PKG_VERSION")));
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        complain(&format!("tidegate: {error:#}"));
        ExitCode::FAILURE
    })
}

/// Writes a line to standard output; a reader that left is no error.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    drop(write!(out, "{text}{end}").and_then(|()| out.flush()));
}

/// Writes a line to standard error.
fn complain(text: &str) {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    drop(write!(std::io::stderr().lock(), "{text}{end}"));
}

/// Whether standard error shows colours.
fn colours() -> bool {
    std::io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
