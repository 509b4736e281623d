//! The answers that change nothing.

use super::paging::Params;
use super::problem::Problem;
use super::{Api, cluster, families, openapi};
use crate::config::{effective, schema};
use crate::control::explain::{self, Explanation, Unanswered, Wondering};
use crate::control::gateway::Phase;
use crate::control::health;
use crate::control::status::{self, EndpointCondition, Status, UpstreamStatus, WorkerStatus};
use crate::telemetry::metrics::{Encoder, Exposition, catalogue};
use crate::upstream::shared::AdminState;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Everything at a glance.
pub async fn stats(State(api): State<Api>) -> Json<Status> {
    Json(Status::of(&api.gateway))
}

pub async fn workers(State(api): State<Api>) -> Json<Value> {
    let workers: Vec<WorkerStatus> = status::workers(&api.gateway, &api.gateway.metrics.totals());
    Json(json!({ "workers": workers }))
}

/// The scrape, in the format that `Accept` asks for.
pub async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let exposition = Exposition::negotiate(accept);
    let text = api
        .gateway
        .metrics
        .render(exposition, |encoder| live_families(&api, encoder));
    ([(header::CONTENT_TYPE, exposition.content_type())], text).into_response()
}

/// What is not counted but is so: the state of endpoints, and ours.
fn live_families(api: &Api, encoder: &mut Encoder) {
    let snapshot = api.gateway.live.load();
    let endpoints: Vec<_> = snapshot
        .upstreams
        .iter()
        .flat_map(|upstream| {
            upstream
                .endpoints
                .iter()
                .map(|endpoint| (&*upstream.name, endpoint))
        })
        .collect();
    encoder.family(&catalogue::ENDPOINT_READY, |samples| {
        for (upstream, endpoint) in &endpoints {
            let ready = status::condition(endpoint) == EndpointCondition::Active;
            samples.add(&[upstream, &endpoint.state.key.address], ready);
        }
    });
    encoder.family(&catalogue::ENDPOINT_WEIGHT, |samples| {
        for (upstream, endpoint) in &endpoints {
            samples.add(
                &[upstream, &endpoint.state.key.address],
                u64::from(endpoint.weight),
            );
        }
    });
    encoder.family(&catalogue::ENDPOINT_IN_FLIGHT, |samples| {
        for (upstream, endpoint) in &endpoints {
            samples.add(
                &[upstream, &endpoint.state.key.address],
                u64::from(endpoint.state.in_flight()),
            );
        }
    });
    encoder.family(&catalogue::ENDPOINT_TUNNELS, |samples| {
        for (upstream, endpoint) in &endpoints {
            samples.add(
                &[upstream, &endpoint.state.key.address],
                u64::from(endpoint.state.tunnels()),
            );
        }
    });
    encoder.family(&catalogue::ENDPOINT_DRAIN_LEFT, |samples| {
        for (upstream, endpoint) in endpoints.iter().filter(|(_, e)| e.admin != AdminState::Active) {
            samples.add(
                &[upstream, &endpoint.state.key.address],
                u64::from(endpoint.state.load()),
            );
        }
    });
    encoder.family(&catalogue::ENDPOINT_DRAIN_SECONDS, |samples| {
        for (upstream, endpoint) in endpoints.iter().filter(|(_, e)| e.admin != AdminState::Active) {
            let progress = api.gateway.drains.progress(&endpoint.state.key);
            if let Some(end) = progress.and_then(|progress| progress.end) {
                let left = end.saturating_duration_since(tokio::time::Instant::now());
                samples.add(&[upstream, &endpoint.state.key.address], left.as_secs_f64());
            }
        }
    });
    families::rebalance(&api.gateway.rebalances, &snapshot, encoder);
    families::resilience(&snapshot, encoder);
    families::orders(&api.gateway.orders.load(), encoder);
    families::services(&api.gateway.services, encoder);
    families::certificates(&snapshot, encoder);
    cluster::families(&api.gateway, encoder);
    health::view::families(&snapshot, encoder);
    encoder.family(&catalogue::DRAIN_SECONDS, |samples| {
        if let Some(deadline) = api.gateway.board.shed().and_then(|shed| shed.deadline) {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            samples.add(&[], left.as_secs_f64());
        }
    });
    let draining = api.gateway.phase() == Phase::Draining;
    encoder.family(&catalogue::DRAINING, |samples| samples.add(&[], draining));
}

pub async fn upstreams(State(api): State<Api>, params: Params) -> Json<Value> {
    let all = status::upstreams(&api.gateway, &api.gateway.metrics.totals());
    let (upstreams, next) = params.page(all, |upstream| &upstream.name);
    Json(json!({ "upstreams": upstreams, "next": next }))
}

/// # Errors
/// There is no such upstream.
pub async fn upstream(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<UpstreamStatus>, Problem> {
    status::upstream(&api.gateway, &name)
        .map(Json)
        .ok_or_else(|| Problem::not_found(format!("there is no upstream {name:?}")))
}

/// Certificates in use by listener, and those that the gateway gets itself.
pub async fn tls(State(api): State<Api>) -> Json<Value> {
    let orders = api.gateway.orders.load_full();
    Json(json!({ "certificates": status::tls::certificates(&api.gateway), "orders": *orders }))
}

pub async fn routes(State(api): State<Api>, params: Params) -> Json<Value> {
    let all = status::routes(&api.gateway, &api.gateway.metrics.totals());
    let (routes, next) = params.page(all, |route| &route.name);
    Json(json!({ "routes": routes, "next": next }))
}

/// Where a request would go, and why. `header` may come several times, as `Name: value`.
///
/// # Errors
/// The question has no sense, or the worker no time.
pub async fn explain(
    State(api): State<Api>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Explanation>, Problem> {
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let wondering = wondering(query)?;
    match explain::explain(&api.gateway, &wondering).await {
        Ok(explanation) => Ok(Json(explanation)),
        Err(error @ Unanswered::NoWorker(_)) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            error.to_string(),
        )),
        Err(error) => Err(Problem::bad_request(error.to_string())),
    }
}

fn wondering(query: Vec<(String, String)>) -> Result<Wondering, Problem> {
    let mut wondering = Wondering {
        method: "GET".to_owned(),
        ..Wondering::default()
    };
    for (name, value) in query {
        match name.as_str() {
            "method" => wondering.method = value,
            "url" => wondering.url = value,
            "header" => {
                let (name, value) = value
                    .split_once(':')
                    .ok_or_else(|| Problem::bad_request("header is written as `Name: value`"))?;
                wondering.headers.push((name.to_owned(), value.trim().to_owned()));
            }
            "server_name" => wondering.server_name = Some(value),
            "client" => wondering.client = Some(parsed("client", &value)?),
            "listener" => wondering.listener = Some(value),
            "worker" => wondering.worker = parsed("worker", &value)?,
            _ => {
                return Err(Problem::bad_request(format!(
                    "there is no parameter {name:?} here"
                )));
            }
        }
    }
    Ok(wondering)
}

fn parsed<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, Problem> {
    let bad = |_| Problem::bad_request(format!("{name} cannot be {value:?}"));
    value.parse().map_err(bad)
}

pub async fn listeners(State(api): State<Api>, params: Params) -> Json<Value> {
    let all = status::listeners(&api.gateway, &api.gateway.metrics.totals());
    let (listeners, next) = params.page(all, |listener| &listener.name);
    Json(json!({ "listeners": listeners, "next": next }))
}

/// The configuration in force with every default and where each value comes from; secrets masked.
pub async fn config(State(api): State<Api>) -> Response {
    let text = effective::json(&api.gateway.running.load());
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

pub async fn config_schema() -> Json<Value> {
    Json(schema::json_schema())
}

/// Audit entries above `since`, the oldest first.
pub async fn audit(State(api): State<Api>, params: Params) -> Json<Value> {
    let audit = api.gateway.journal.audit(params.since(), params.limit());
    let next = audit.last().map_or_else(|| params.since(), |entry| entry.id);
    Json(json!({ "audit": audit, "next": next }))
}

pub async fn openapi_document() -> Json<Value> {
    Json(openapi::document())
}
