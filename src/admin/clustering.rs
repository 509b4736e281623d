//! The paths under `/api/v1/clustering` that older dashboards and scripts know: balancing and fail-over, for each
//! upstream. The same facts as elsewhere in this API, in the shapes that are expected there.

use super::Api;
use super::changes::{algorithm, no_upstream, read};
use super::paging::Params;
use super::problem::Problem;
use super::writes::submit;
use crate::config::Choice;
use crate::config::model::Balance;
use crate::control::Actor;
use crate::control::command::Action;
use crate::control::overrides::BalanceWish;
use crate::control::status::{self, EndpointStatus, UpstreamStatus};
use axum::body::Bytes;
use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// `{"upstream":"chat","algorithm":"hash","params":{"key":"header:x-user"},"reason":"…"}`; without an upstream it
/// goes to all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AlgorithmWanted {
    #[serde(alias = "pool")]
    upstream: Option<String>,
    #[serde(alias = "balance")]
    algorithm: String,
    #[serde(default)]
    params: AlgorithmParams,
    reason: Option<String>,
}

/// What some algorithms need.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AlgorithmParams {
    key: Option<String>,
}

/// How each upstream balances, and how it could.
pub async fn balancer_config(State(api): State<Api>) -> Json<Value> {
    let upstreams = upstreams(&api);
    let first = upstreams.first().map(|upstream| upstream.balance);
    // One word for all of them, where there is one.
    let algorithm = first.filter(|first| upstreams.iter().all(|upstream| upstream.balance == *first));
    let upstreams: Vec<Value> = upstreams.iter().map(balancer_of).collect();
    Json(json!({ "algorithm": algorithm, "algorithms": Balance::NAMES, "upstreams": upstreams }))
}

fn balancer_of(upstream: &UpstreamStatus) -> Value {
    let configured = match &upstream.balance_override {
        Some(told) => told.configured,
        None => Some(upstream.balance),
    };
    let endpoints = upstream.endpoints.iter().map(|endpoint| {
        json!({
            "address": endpoint.address,
            "weight": endpoint.weight,
            "backup": endpoint.backup,
            "state": endpoint.state,
            "override": endpoint.overrides,
        })
    });
    json!({
        "upstream": upstream.name,
        "algorithm": upstream.balance,
        "configured": configured,
        "override": upstream.balance_override,
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

/// Another algorithm for one upstream, or for all; kept over reloads and restarts.
///
/// # Errors
/// 400 for a body that is none, 404 for an upstream and 422 for an algorithm that there is not.
pub async fn balancer_algorithm(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    params: Params,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let example = "{\"upstream\":\"chat\",\"algorithm\":\"least_connections\"}";
    let wanted: AlgorithmWanted = read(&body, example)?;
    let algorithm = algorithm(&wanted.algorithm, wanted.params.key.as_deref())?;
    let live = api.gateway.live.load();
    let names = live.upstreams.iter().map(|plan| plan.name.clone());
    let upstreams: Vec<Arc<str>> = match &wanted.upstream {
        None => names.collect(),
        Some(wanted) => names.filter(|name| **name == **wanted).collect(),
    };
    if let (Some(name), true) = (&wanted.upstream, upstreams.is_empty()) {
        return Err(no_upstream(name));
    }
    let wish = BalanceWish {
        upstreams,
        algorithm: Some(algorithm),
        reason: wanted.reason,
    };
    submit(&api, actor, params.dry_run, Action::ChangeBalance(wish)).await
}

/// What came of it: picks and load of each endpoint.
pub async fn balancer_stats(State(api): State<Api>) -> Json<Value> {
    let upstreams = upstreams(&api);
    let stats = upstreams.iter().map(|upstream| {
        json!({
            "upstream": upstream.name,
            "algorithm": upstream.balance,
            "picks": upstream.requests,
            "in_flight": upstream.in_flight,
            "endpoints": upstream.endpoints.iter().map(picks_of).collect::<Vec<_>>(),
        })
    });
    Json(json!({ "upstreams": stats.collect::<Vec<_>>() }))
}

fn picks_of(endpoint: &EndpointStatus) -> Value {
    json!({
        "address": endpoint.address,
        "state": endpoint.state,
        "picks": endpoint.requests,
        "share": endpoint.share,
        "in_flight": endpoint.in_flight,
        "open_websockets": endpoint.open_websockets,
        "weight_now": endpoint.weight,
        "failures": endpoint.failures,
        "errors": endpoint.errors,
        "latency": endpoint.latency,
    })
}

/// Fail-overs above `since`, the oldest first.
pub async fn failover_history(State(api): State<Api>, params: Params) -> Json<Value> {
    let failovers = &api.gateway.failovers;
    let history = failovers.list(params.since(), params.limit());
    let next = history.last().map_or_else(|| params.since(), |entry| entry.id);
    Json(json!({ "history": history, "next": next, "total": failovers.count() }))
}

fn upstreams(api: &Api) -> Vec<UpstreamStatus> {
    status::upstreams(&api.gateway, &api.gateway.metrics.totals())
}
