//! The configuration that gateways share: publish one, see what was published, go back.

use super::Api;
use super::paging::Params;
use super::problem::Problem;
use crate::config::render;
use crate::control::Actor;
use crate::control::command::SubmitError;
use crate::control::sharing::config::document::{About, MAX_TEXT};
use crate::control::sharing::config::publish::{self, Refused, Report, What, Wish};
use crate::control::status::ClusterStatus;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

/// Bytes of a request that brings a text: one more, so that what is too long is told as such.
pub(super) const MAX_REQUEST: usize = MAX_TEXT + 1;

/// Further parameters of whatever publishes.
#[derive(Debug, Deserialize)]
pub struct Terms {
    /// The version that is in force; another is a conflict.
    expected: Option<u64>,
    reason: Option<String>,
}

impl Terms {
    fn wish(self, what: What) -> Wish {
        Wish {
            what,
            expected: self.expected,
            reason: self.reason.filter(|reason| !reason.is_empty()),
        }
    }
}

/// Publishes the text in the body.
///
/// # Errors
/// 400 for what is no text, 409 where somebody else is or was first, 413 for too much of it, 422 when a gateway
/// refuses it, 503 while the store is away.
pub async fn publish(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    params: Params,
    Query(terms): Query<Terms>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let body = body.map_err(|_| too_long())?;
    let text = std::str::from_utf8(&body)
        .map_err(|error| Problem::bad_request(format!("the text is not UTF-8: {error}")))?;
    carry_out(&api, &actor, &terms.wish(What::Text(text.into())), params.dry_run).await
}

/// Publishes the text of a version that was in force before.
///
/// # Errors
/// As above; 404 for a version that is not kept.
pub async fn rollback(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    params: Params,
    Path(version): Path<u64>,
    Query(terms): Query<Terms>,
) -> Result<Json<Value>, Problem> {
    carry_out(&api, &actor, &terms.wish(What::Again(version)), params.dry_run).await
}

/// Takes it back: each gateway goes by its own file again.
///
/// # Errors
/// As above.
pub async fn unpublish(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    params: Params,
    Query(terms): Query<Terms>,
) -> Result<Json<Value>, Problem> {
    carry_out(&api, &actor, &terms.wish(What::Nothing), params.dry_run).await
}

async fn carry_out(api: &Api, actor: &Actor, wish: &Wish, dry_run: bool) -> Result<Json<Value>, Problem> {
    match publish::publish(&api.gateway, &api.commands, actor, wish, dry_run).await {
        Ok(report) => Ok(Json(answer(api, &report, dry_run))),
        Err(refused) => Err(problem(&refused).with("dry_run", json!(dry_run))),
    }
}

fn answer(api: &Api, report: &Report, dry_run: bool) -> Value {
    let outcome = if report.unchanged { "unchanged" } else { "applied" };
    let cluster = ClusterStatus::of(&api.gateway);
    json!({
        "outcome": outcome,
        "dry_run": dry_run,
        "version": report.about.version,
        "published": report.about,
        "in_force": report.in_force,
        "changes": report.changes,
        "warnings": render::json(&report.warnings),
        "gateways": report.verdicts,
        "alone": !cluster.mode,
    })
}

fn problem(refused: &Refused) -> Problem {
    use StatusCode as S;
    let (status, code) = match refused {
        Refused::NotFollowing | Refused::Conflict { .. } | Refused::Busy(_) => (S::CONFLICT, "conflict"),
        Refused::TooLong(_) => return too_long(),
        Refused::Empty => (S::BAD_REQUEST, "bad_request"),
        Refused::NoVersion(_) => (S::NOT_FOUND, "not_found"),
        Refused::NoText(_) => (S::UNPROCESSABLE_ENTITY, "unprocessable"),
        Refused::Store(_) => (S::SERVICE_UNAVAILABLE, "store_away"),
        Refused::Submit(SubmitError::Busy) => (S::SERVICE_UNAVAILABLE, "busy"),
        Refused::Submit(SubmitError::Ending) => (S::SERVICE_UNAVAILABLE, "draining"),
        Refused::Rejected(_) | Refused::Members(_) => (S::UNPROCESSABLE_ENTITY, "config_rejected"),
    };
    let problem = Problem::new(status, code, refused.to_string());
    match refused {
        Refused::NotFollowing => problem.hint("set cluster.config = \"follow\" in its file, and restart it"),
        Refused::Conflict { .. } => problem.hint("GET /api/v1/config/versions tells what is in force"),
        Refused::Busy(_) => problem.hint("try again in a moment"),
        Refused::NoVersion(_) => problem.hint("GET /api/v1/config/versions lists those that are kept"),
        Refused::NoText(_) => problem.hint("to take it back again, unpublish"),
        Refused::Store(error) if error.passes() => problem.hint("try again when the bus is live"),
        Refused::Rejected(problems) => problem.with("diagnostics", render::json(problems)),
        Refused::Members(verdicts) => problem.with("gateways", json!(verdicts)),
        _ => problem,
    }
}

fn too_long() -> Problem {
    let message = format!("a text that is published has at most {MAX_TEXT} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
}

/// Versions that are kept, the latest first, and which one this gateway has in force.
///
/// # Errors
/// 503 while the store is away.
pub async fn versions(State(api): State<Api>, params: Params) -> Result<Json<Value>, Problem> {
    let mut versions = publish::versions(&api.gateway)
        .await
        .map_err(|refused| problem(&refused))?;
    versions.truncate(params.limit());
    let following = ClusterStatus::of(&api.gateway).config;
    Ok(Json(json!({ "versions": versions, "config": following })))
}

/// One version with its text.
///
/// # Errors
/// 404 for one that is not kept, 503 while the store is away.
pub async fn version(State(api): State<Api>, Path(version): Path<u64>) -> Result<Json<Value>, Problem> {
    let found = publish::version_of(&api.gateway, version).await;
    let document = found
        .and_then(|found| found.ok_or(Refused::NoVersion(version)))
        .map_err(|refused| problem(&refused))?;
    let about: &About = &document.about;
    Ok(Json(
        json!({ "published": about, "text": document.text.as_deref() }),
    ))
}
