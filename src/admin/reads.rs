//! The answers that change nothing.

use super::paging::Params;
use super::problem::Problem;
use super::{Api, openapi};
use crate::config::{effective, schema};
use crate::control::gateway::Phase;
use crate::control::status::{self, EndpointCondition, Status, UpstreamStatus, WorkerStatus};
use crate::telemetry::metrics::{Encoder, Exposition, catalogue};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
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

pub async fn routes(State(api): State<Api>, params: Params) -> Json<Value> {
    let all = status::routes(&api.gateway, &api.gateway.metrics.totals());
    let (routes, next) = params.page(all, |route| &route.name);
    Json(json!({ "routes": routes, "next": next }))
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

/// Events above `since`, the oldest first.
pub async fn events(State(api): State<Api>, params: Params) -> Json<Value> {
    let page = api.gateway.journal.events.list(params.since(), params.limit());
    let next = page
        .events
        .last()
        .map_or_else(|| params.since(), |event| event.id);
    let events: Vec<_> = page.events.iter().map(AsRef::as_ref).collect();
    Json(json!({ "events": events, "next": next, "lost": page.lost }))
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
