//! The paths under `/api/v1/clustering` that older dashboards and scripts know: balancing and fail-over, for each
//! upstream. The same facts as elsewhere in this API, in the shapes that are expected there.

use super::Api;
use super::changes::{algorithm, duration, end, named, no_upstream, read, unprocessable, wish};
use super::paging::Params;
use super::problem::Problem;
use super::writes::submit;
use crate::config::Choice;
use crate::config::model::Balance;
use crate::control::Actor;
use crate::control::command::Action;
use crate::control::overrides::{BalanceWish, ThresholdWish, Wish};
use crate::control::sharing::health;
use crate::control::sharing::verdict::majority;
use crate::control::status::{self, EndpointStatus, UpstreamStatus};
use axum::body::Bytes;
use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

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
    r#for: Option<String>,
    until: Option<String>,
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
    let wish = BalanceWish {
        upstreams: named_upstreams(&api, wanted.upstream.as_deref())?,
        algorithm: Some(algorithm),
        reason: wanted.reason,
        until: end(wanted.r#for.as_deref(), wanted.until.as_deref())?,
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
        "weight_now": endpoint.weight_now,
        "ewma_ms": endpoint.score.map(|score| score.latency_ms),
        "score": endpoint.score,
        "failures": endpoint.failures,
        "errors": endpoint.errors,
        "last_error": endpoint.last_error,
        "last_error_at": endpoint.last_error_at,
        "latency": endpoint.latency,
    })
}

/// `{"upstream":"chat","detection_timeout":"500ms","fall":2}`; without an upstream it goes to all, and `null` takes a
/// threshold back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ThresholdsWanted {
    #[serde(alias = "pool")]
    upstream: Option<String>,
    #[serde(default, deserialize_with = "named")]
    detection_timeout: Option<Option<Time>>,
    #[serde(default, deserialize_with = "named")]
    fall: Option<Option<u32>>,
    #[serde(default, deserialize_with = "named")]
    rise: Option<Option<u32>>,
    #[serde(default, deserialize_with = "named")]
    consecutive_failures: Option<Option<u32>>,
    #[serde(default, deserialize_with = "named")]
    error_rate: Option<Option<f64>>,
    #[serde(default, deserialize_with = "named")]
    recovery_timeout: Option<Option<Time>>,
    #[serde(default, deserialize_with = "named")]
    max_attempts: Option<Option<u32>>,
    /// Named by scripts for other systems; see [`not_here`].
    latency_ms: Option<Value>,
    quorum: Option<Value>,
    reason: Option<String>,
    r#for: Option<String>,
    until: Option<String>,
}

/// What there is no threshold for, and what does that work.
fn not_here(wanted: &ThresholdsWanted) -> Result<(), Problem> {
    let other = if wanted.latency_ms.is_some() {
        (
            "latency_ms: no latency takes an endpoint out",
            "`adaptive` and `least_time` give slow endpoints less, a probe fails after detection_timeout",
        )
    } else if wanted.quorum.is_some() {
        (
            "quorum: how many gateways decide follows from how many there are",
            "each goes by what it sees itself; where nobody checks, a majority of the cluster of gateways decides",
        )
    } else {
        return Ok(());
    };
    Err(Problem::bad_request(other.0.to_owned()).hint(other.1))
}

/// `"500ms"`, or a number of seconds.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Time {
    Text(String),
    Seconds(f64),
}

fn time(wanted: Option<Option<Time>>) -> Result<Wish<Duration>, Problem> {
    let read = |time: Time| match time {
        Time::Text(text) => duration(&text),
        Time::Seconds(seconds) => Duration::try_from_secs_f64(seconds)
            .map_err(|_| unprocessable(format!("{seconds} is no number of seconds"))),
    };
    Ok(wish(
        wanted.map(|wanted| wanted.map(read).transpose()).transpose()?,
    ))
}

/// When endpoints of each upstream are taken for failed, and what is done about it.
pub async fn failover_config(State(api): State<Api>) -> Json<Value> {
    let upstreams = status::thresholds(&api.gateway);
    let first = upstreams.first().map(|upstream| &upstream.now);
    // One answer for all of them, where there is one.
    let all = first.filter(|first| upstreams.iter().all(|upstream| upstream.now == **first));
    // Keys that others have: no latency takes an endpoint out, and how many gateways decide nobody sets.
    let cluster = &api.gateway.cluster;
    let quorum = match cluster.bus.is_embedded() {
        true => 1,
        false => majority(cluster.view().members.len() + 1),
    };
    let others = json!({ "latency_ms": null, "quorum": quorum });
    Json(json!({ "thresholds": all, "upstreams": upstreams, "fixed": others }))
}

/// Other thresholds for one upstream, or for all; kept over reloads and restarts.
///
/// # Errors
/// 400 for a body that is none, 404 for an upstream that there is not, 422 for values that make no sense.
pub async fn failover_thresholds(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    params: Params,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let example = "{\"upstream\":\"chat\",\"detection_timeout\":\"500ms\",\"fall\":2}";
    let wanted: ThresholdsWanted = read(&body, example)?;
    not_here(&wanted)?;
    let wish = ThresholdWish {
        upstreams: named_upstreams(&api, wanted.upstream.as_deref())?,
        detection_timeout: time(wanted.detection_timeout)?,
        fall: wish(wanted.fall),
        rise: wish(wanted.rise),
        consecutive_failures: wish(wanted.consecutive_failures),
        error_rate: wish(wanted.error_rate),
        recovery_timeout: time(wanted.recovery_timeout)?,
        max_attempts: wish(wanted.max_attempts),
        reason: wanted.reason,
        until: end(wanted.r#for.as_deref(), wanted.until.as_deref())?,
    };
    submit(&api, actor, params.dry_run, Action::ChangeThresholds(wish)).await
}

/// Fail-overs above `since`, the oldest first.
pub async fn failover_history(State(api): State<Api>, params: Params) -> Json<Value> {
    let failovers = &api.gateway.failovers;
    let history = failovers.list(params.since(), params.limit());
    let next = history.last().map_or_else(|| params.since(), |entry| entry.id);
    Json(json!({ "history": history, "next": next, "total": failovers.count() }))
}

/// Endpoints that some gateway holds for down, and who probes those whose probes are shared.
pub async fn verdicts(State(api): State<Api>) -> Json<Value> {
    let gateway = &api.gateway;
    let own = health::own(gateway);
    let node = gateway.cluster.bus.node();
    let verdicts = gateway.opinions.votes(node.as_str(), &own);
    let probing = gateway.probing.told();
    Json(json!({ "node": node.as_str(), "verdicts": verdicts, "probing": *probing }))
}

/// The upstream of this name, or all.
fn named_upstreams(api: &Api, wanted: Option<&str>) -> Result<Vec<Arc<str>>, Problem> {
    let live = api.gateway.live.load();
    let names = live.upstreams.iter().map(|plan| plan.name.clone());
    let Some(wanted) = wanted else {
        return Ok(names.collect());
    };
    let found: Vec<Arc<str>> = names.filter(|name| **name == *wanted).collect();
    if found.is_empty() {
        return Err(no_upstream(wanted));
    }
    Ok(found)
}

fn upstreams(api: &Api) -> Vec<UpstreamStatus> {
    status::upstreams(&api.gateway, &api.gateway.metrics.totals())
}
