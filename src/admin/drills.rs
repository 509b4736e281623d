//! Fail-over drills: begin one, see what came of it, end it.

use super::Api;
use super::changes::{duration, read, unprocessable};
use super::paging::Params;
use super::problem::Problem;
use crate::control::Actor;
use crate::control::drills::run::{self, Begun};
use crate::control::drills::{DrillWish, Mode, Refused, Report};
use crate::upstream::shared::EndpointKey;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// How long a drill takes where nothing is said.
const USUAL: Duration = Duration::from_secs(30);
const EXAMPLE: &str = "{\"node\":\"chat/10.0.0.1:3001\",\"mode\":\"simulate\",\"duration\":\"30s\"}";

/// `node` is `upstream/address`, as the history of fail-overs has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    node: Option<String>,
    #[serde(alias = "pool")]
    upstream: Option<String>,
    address: Option<String>,
    mode: Option<String>,
    duration: Option<String>,
    duration_s: Option<f64>,
    #[serde(default)]
    share: f64,
    reason: Option<String>,
    #[serde(default)]
    force: bool,
}

/// Begins a drill.
///
/// # Errors
/// 400 for a body that is none, 404 for an endpoint that there is not, 409 where it can't be held now, 422 for what
/// makes no sense.
pub async fn begin(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    params: Params,
    body: Bytes,
) -> Result<Response, Problem> {
    let wish = wish(read(&body, EXAMPLE)?)?;
    let begun = run::begin(&api.gateway, &api.commands, &actor, &wish, params.dry_run).await;
    let Begun { report, mark } = begun.map_err(|error| refused(&error))?;
    let runs = mark.is_some() || report.mode != Mode::Simulate;
    let status = if runs {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    let mut answer = json!({ "dry_run": params.dry_run, "report": report });
    if let Some(mark) = mark {
        answer["header"] = json!({ "name": "X-Tidegate-Drill", "value": mark });
    }
    Ok((status, Json(answer)).into_response())
}

fn wish(asked: Asked) -> Result<DrillWish, Problem> {
    let (upstream, address) = match (asked.node, asked.upstream, asked.address) {
        (Some(node), None, None) => match node.split_once('/') {
            Some((upstream, address)) => (upstream.to_owned(), address.to_owned()),
            None => {
                return Err(unprocessable(format!("{node:?} is no endpoint")).hint("write upstream/address"));
            }
        },
        (None, Some(upstream), Some(address)) => (upstream, address),
        _ => {
            return Err(unprocessable(
                "it has either node, or upstream and address".to_owned(),
            ));
        }
    };
    let mode = asked.mode.as_deref().unwrap_or(Mode::Simulate.name());
    let mode = Mode::from_name(mode).ok_or_else(|| {
        unprocessable(format!("there is no mode {mode:?}")).hint(format!("one of {}", Mode::NAMES.join(", ")))
    })?;
    let duration = match (asked.duration, asked.duration_s) {
        (Some(_), Some(_)) => {
            return Err(unprocessable(
                "it has duration and duration_s: which of them?".to_owned(),
            ));
        }
        (Some(text), None) => duration(&text)?,
        (None, Some(seconds)) => Duration::try_from_secs_f64(seconds)
            .map_err(|_| unprocessable(format!("{seconds} is no number of seconds")))?,
        (None, None) => USUAL,
    };
    Ok(DrillWish {
        endpoint: EndpointKey {
            upstream: upstream.into(),
            address: address.into(),
        },
        mode,
        duration,
        share: asked.share,
        reason: asked.reason,
        force: asked.force,
    })
}

fn refused(refused: &Refused) -> Problem {
    let (status, code) = match refused {
        Refused::NoEndpoint => (StatusCode::NOT_FOUND, "not_found"),
        Refused::Held | Refused::TooMany | Refused::NotActive(_) | Refused::Alone => {
            (StatusCode::CONFLICT, "conflict")
        }
        Refused::Duration
        | Refused::Share
        | Refused::ShareOfWhat
        | Refused::LongReason
        | Refused::Override(_) => (StatusCode::UNPROCESSABLE_ENTITY, "unprocessable"),
    };
    let problem = Problem::new(status, code, refused.to_string());
    match refused {
        Refused::Alone => problem.hint("\"force\": true holds it all the same"),
        Refused::NoEndpoint => problem.hint("GET /api/v1/upstreams lists them"),
        _ => problem,
    }
}

/// Reports, the latest first.
pub async fn list(State(api): State<Api>, params: Params) -> Json<Value> {
    run::count_all(&api.gateway);
    let mut reports = api.gateway.drills.reports();
    reports.truncate(params.limit());
    Json(json!({ "drills": reports }))
}

/// One report.
///
/// # Errors
/// 404 when there is none.
pub async fn one(State(api): State<Api>, Path(id): Path<u64>) -> Result<Json<Report>, Problem> {
    run::count_all(&api.gateway);
    api.gateway
        .drills
        .report(id)
        .map(Json)
        .ok_or_else(|| no_drill(id))
}

/// Ends a drill.
///
/// # Errors
/// 404 when none of this number runs, 422 when the endpoint could not be given back.
pub async fn stop(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<u64>,
) -> Result<Json<Report>, Problem> {
    let stopped = run::stop(&api.gateway, &api.commands, &actor, id).await;
    stopped
        .map_err(|error| refused(&error))?
        .map(Json)
        .ok_or_else(|| no_drill(id))
}

fn no_drill(id: u64) -> Problem {
    Problem::not_found(format!("no drill {id} is held, or its report is no longer kept"))
}
