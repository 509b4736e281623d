//! Commands that talk to a running gateway: over its control socket, or its admin listener.

mod change;
mod client;
mod cluster;
mod events;
mod forget;
mod published;
mod services;
mod show;
mod status;
mod tunnels;
mod when;

pub(super) use change::{BalanceArgs, DrainArgs, UndrainArgs, balance, drain, undrain};
pub(super) use events::{EventsArgs, events};
pub(super) use forget::{ForgetArgs, forget};
pub(super) use published::{PublishArgs, RollbackArgs, UnpublishArgs, VersionsArgs};
pub(super) use published::{publish, rollback, unpublish, versions};
pub(super) use services::{ServicesArgs, services};
pub(super) use tunnels::{TunnelsArgs, tunnels};

use super::{ConfigFile, EXIT_USAGE, complain, say};
use crate::app::Surroundings;
use crate::control::state_dir::CONTROL_SOCKET;
use anyhow::{Context, bail};
use clap::Args;
use client::{Answer, Question, Target};
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Warnings of so long ago are shown with the status.
const RECENTLY: SignedDuration = SignedDuration::from_hours(1);

/// Which gateway, and how to reach it.
#[derive(Debug, Args)]
struct Reach {
    #[command(flatten)]
    file: ConfigFile,
    /// Control socket of the gateway [default: control.sock in its state directory]
    #[arg(long, value_name = "PATH", conflicts_with = "admin")]
    control: Option<PathBuf>,
    /// Address of the gateway's admin listener, such as http://127.0.0.1:9900
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// Token for the admin listener; the control socket needs none
    #[arg(
        long,
        value_name = "TOKEN",
        env = "TIDEGATE_ADMIN_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    reach: Reach,
    /// Say what would change, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Read only certificates and keys anew, not the configuration
    #[arg(long)]
    tls: bool,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    reach: Reach,
    /// As the API gives it
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Method, such as GET
    method: String,
    /// http://HOST[:PORT]/PATH, https://..., or a path alone
    url: String,
    /// Header of the request, as `Name: value`
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Name that the client asks for in TLS; empty for none [default: the URL's host]
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Address that the request comes from [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// Listener that it comes to [default: the one at the URL's port, or the only one that speaks so]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Worker to ask
    #[arg(long, value_name = "N", default_value_t = 0)]
    worker: usize,
    /// As the API gives it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn explain(args: &ExplainArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    let explanation = expect_ok(ask(&args.reach, surroundings, "GET", &explain_path(args))?)?;
    say(&if args.json {
        format!("{explanation:#}")
    } else {
        show::explanation(&explanation)
    });
    Ok(ExitCode::SUCCESS)
}

fn explain_path(args: &ExplainArgs) -> String {
    let mut path = format!("/api/v1/explain?worker={}", args.worker);
    let mut parameter = |name: &str, value: &str| {
        let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
        path.push_str(&format!("&{name}={value}"));
    };
    parameter("method", &args.method);
    parameter("url", &args.url);
    for header in &args.headers {
        parameter("header", header);
    }
    if let Some(name) = &args.server_name {
        parameter("server_name", name);
    }
    if let Some(client) = args.client {
        parameter("client", &client.to_string());
    }
    if let Some(listener) = &args.listener {
        parameter("listener", listener);
    }
    path
}

pub(super) fn reload(args: &ReloadArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    let what = if args.tls { "tls" } else { "config" };
    let dry_run = if args.dry_run { "?dry_run=true" } else { "" };
    let path = format!("/api/v1/{what}/reload{dry_run}");
    let answer = ask(&args.reach, surroundings, "POST", &path)?;
    if answer.status == 422 {
        complain(&show::rejected(&answer.body));
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    say(&show::reloaded(&expect_ok(answer)?));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn status(args: &StatusArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    let stats = expect_ok(ask(&args.reach, surroundings, "GET", "/stats")?)?;
    say(&if args.json {
        format!("{stats:#}")
    } else {
        status::tell(&stats, &beside(&args.reach, surroundings))
    });
    Ok(ExitCode::SUCCESS)
}

/// What goes with the status where it can be had.
fn beside(reach: &Reach, surroundings: &Surroundings) -> status::Beside {
    let verdicts = ask(reach, surroundings, "GET", "/api/v1/clustering/verdicts").and_then(expect_ok);
    let recently = (Timestamp::now() - RECENTLY).to_string();
    let warnings = events::all(reach, surroundings, "severity=warning", Some(&recently));
    status::Beside {
        verdicts: verdicts.unwrap_or_default(),
        warnings: warnings.unwrap_or_default().0,
    }
}

fn expect_ok(answer: Answer) -> anyhow::Result<Value> {
    if answer.status == 200 {
        return Ok(answer.body);
    }
    let error = &answer.body["error"];
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    if answer.status == 401 {
        bail!(
            "the gateway answers 401: {} (--token TOKEN, or TIDEGATE_ADMIN_TOKEN; on its own machine -c FILE needs none)",
            text("message")
        );
    }
    match text("hint") {
        hint if hint.is_empty() => bail!("the gateway answers {}: {}", answer.status, text("message")),
        hint => bail!(
            "the gateway answers {}: {} ({hint})",
            answer.status,
            text("message")
        ),
    }
}

fn ask(reach: &Reach, surroundings: &Surroundings, method: &str, path: &str) -> anyhow::Result<Answer> {
    ask_with(reach, surroundings, method, path, None)
}

fn ask_with(
    reach: &Reach,
    surroundings: &Surroundings,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<Answer> {
    let body = body.map(Value::to_string).unwrap_or_default();
    bring(reach, surroundings, method, path, body.as_bytes())
}

/// Asks with a body as it is.
fn bring(
    reach: &Reach,
    surroundings: &Surroundings,
    method: &str,
    path: &str,
    body: &[u8],
) -> anyhow::Result<Answer> {
    let target = target(reach, surroundings)?;
    runtime()?.block_on(client::ask(&target, &Question { method, path, body }))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the client could not be started")
}

/// Where to ask.
fn target(reach: &Reach, surroundings: &Surroundings) -> anyhow::Result<Target> {
    Ok(match &reach.admin {
        Some(url) => Target::Admin {
            address: address_of(url)?.to_owned(),
            token: reach.token.clone(),
        },
        None => {
            readable(reach)?;
            Target::Control(control_sockets(reach, surroundings))
        }
    })
}

/// Who names a file that is not there is told so, and not of a gateway that some other file started.
fn readable(reach: &Reach) -> anyhow::Result<()> {
    match (&reach.control, &reach.file.config) {
        (None, Some(path)) => {
            std::fs::metadata(path).with_context(|| format!("{} can't be read", path.display()))?;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn address_of(url: &str) -> anyhow::Result<&str> {
    if url.starts_with("https://") {
        bail!("the admin listener speaks plain HTTP: {url}");
    }
    Ok(url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/'))
}

/// Where the control socket may be, most likely first: as the running gateway found its state directory, though
/// the configuration may be broken by now, which is what a reload is to tell.
fn control_sockets(reach: &Reach, surroundings: &Surroundings) -> Vec<PathBuf> {
    if let Some(path) = &reach.control {
        return vec![path.clone()];
    }
    let from_environment = surroundings
        .environment
        .get("TIDEGATE_RUNTIME__STATE_DIR")
        .map(PathBuf::from);
    let from_file = || reach.file.find().ok().and_then(|path| state_dir_in(&path));
    let configured = from_environment.or_else(from_file);
    let candidates = surroundings.state_candidates(configured);
    candidates
        .paths()
        .into_iter()
        .map(|path| path.join(CONTROL_SOCKET))
        .collect()
}

/// `runtime.state_dir` of a file that may be wrong otherwise. Relative paths start at the file.
fn state_dir_in(path: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(path).ok()?;
    let table: toml::Table = text.parse().ok()?;
    let state_dir = table.get("runtime")?.get("state_dir")?.as_str()?;
    Some(path.parent().unwrap_or_else(|| Path::new("")).join(state_dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_is_found_in_a_configuration_that_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gate.toml");
        std::fs::write(&path, "nonsense = 1\n[runtime]\nstate_dir = \"state\"\n").unwrap();
        assert_eq!(state_dir_in(&path), Some(directory.path().join("state")));
        std::fs::write(&path, "[runtime\n").unwrap();
        assert_eq!(state_dir_in(&path), None);
    }

    #[test]
    fn an_admin_address_is_taken_as_people_write_it() {
        assert_eq!(address_of("http://127.0.0.1:9900/").unwrap(), "127.0.0.1:9900");
        assert_eq!(address_of("127.0.0.1:9900").unwrap(), "127.0.0.1:9900");
        assert!(address_of("https://127.0.0.1:9900").is_err());
    }
}
