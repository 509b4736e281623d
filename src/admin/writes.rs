//! The answers to those who want something changed.

use super::Api;
use super::paging::Params;
use super::problem::Problem;
use crate::config::diagnostic::Diagnostic;
use crate::config::model::LogLevel;
use crate::config::render;
use crate::control::Actor;
use crate::control::command::{Action, Command, Outcome, SubmitError};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Longest time for which another log level can be asked.
const MAX_LEVEL_SECONDS: u64 = 7 * 24 * 3600;

/// Loads the configuration anew; with `dry_run` says what that would change.
///
/// # Errors
/// 422 with every problem when it is refused, 503 when too many commands wait.
pub async fn reload(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    params: Params,
) -> Result<Json<Value>, Problem> {
    submit(&api, actor, params.dry_run, Action::Reload).await
}

/// Reads certificates, keys and lists of revoked ones anew.
///
/// # Errors
/// 422 with every problem when they are refused, 503 when too many commands wait.
pub async fn reload_tls(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    params: Params,
) -> Result<Json<Value>, Problem> {
    submit(&api, actor, params.dry_run, Action::ReloadTls).await
}

/// Opens log files anew.
///
/// # Errors
/// 503 when too many commands wait.
pub async fn reopen_logs(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    params: Params,
) -> Result<Json<Value>, Problem> {
    submit(&api, actor, params.dry_run, Action::ReopenLogs).await
}

/// `{"level":"debug","seconds":600}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelWanted {
    level: String,
    /// The configured level comes back after so long; absent: at the next reload.
    seconds: Option<u64>,
}

/// Another level of the application log, for a while.
///
/// # Errors
/// 400 when the body is none of that, 503 when too many commands wait.
pub async fn log_level(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    params: Params,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let wanted: LevelWanted = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request(format!("the body is not what is expected: {error}"))
            .hint("send {\"level\":\"debug\",\"seconds\":600}")
    })?;
    let level = level(&wanted.level)?;
    if wanted
        .seconds
        .is_some_and(|seconds| !(1..=MAX_LEVEL_SECONDS).contains(&seconds))
    {
        return Err(Problem::bad_request(format!(
            "seconds must be from 1 to {MAX_LEVEL_SECONDS}"
        )));
    }
    let revert_after = wanted.seconds.map(Duration::from_secs);
    submit(
        &api,
        actor,
        params.dry_run,
        Action::SetLogLevel { level, revert_after },
    )
    .await
}

fn level(name: &str) -> Result<LogLevel, Problem> {
    Ok(match name {
        "error" => LogLevel::Error,
        "warn" => LogLevel::Warn,
        "info" => LogLevel::Info,
        "debug" => LogLevel::Debug,
        "trace" => LogLevel::Trace,
        other => {
            return Err(Problem::bad_request(format!("there is no log level {other:?}"))
                .hint("one of error, warn, info, debug, trace"));
        }
    })
}

pub(super) async fn submit(
    api: &Api,
    actor: Actor,
    dry_run: bool,
    action: Action,
) -> Result<Json<Value>, Problem> {
    let of_the_file = matches!(action, Action::Reload | Action::ReloadTls);
    let command = Command {
        actor,
        dry_run,
        action,
    };
    match api.commands.submit(command).await {
        Ok(Outcome::Rejected(diagnostics)) if !of_the_file => Err(refused(&diagnostics, dry_run)),
        Ok(outcome) => answer(&outcome, dry_run).map(Json),
        Err(error @ SubmitError::Busy) => {
            Err(
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error.to_string())
                    .hint("try again in a moment"),
            )
        }
        Err(error @ SubmitError::Ending) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            error.to_string(),
        )),
    }
}

/// A change that makes no sense.
fn refused(diagnostics: &[Diagnostic], dry_run: bool) -> Problem {
    let first = diagnostics.first();
    let message = first.map_or("the change is refused", |first| &first.message);
    let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "change_rejected", message)
        .with("dry_run", json!(dry_run))
        .with("diagnostics", render::json(diagnostics));
    match first.and_then(|first| first.hint.clone()) {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

fn answer(outcome: &Outcome, dry_run: bool) -> Result<Value, Problem> {
    let name = outcome.name();
    Ok(match outcome {
        Outcome::Applied {
            generation,
            changes,
            warnings,
        } => json!({
            "outcome": name,
            "dry_run": dry_run,
            "generation": generation,
            "changes": changes,
            "warnings": render::json(warnings),
        }),
        Outcome::Unchanged { generation } => json!({
            "outcome": name,
            "dry_run": dry_run,
            "generation": generation,
            "changes": [],
        }),
        Outcome::Done => json!({ "outcome": name, "dry_run": dry_run }),
        Outcome::Closed { tunnels } => json!({ "outcome": name, "dry_run": dry_run, "tunnels": tunnels }),
        Outcome::Rejected(diagnostics) => {
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "config_rejected",
                "the configuration is refused; the running one is untouched",
            )
            .hint("tidegate check shows the same problems with their place in the file")
            .with("outcome", json!(name))
            .with("dry_run", json!(dry_run))
            .with("diagnostics", render::json(diagnostics)));
        }
    })
}
