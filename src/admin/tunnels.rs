//! Open tunnels: a list, one of them, and closing them.

use super::Api;
use super::changes::{read, unprocessable};
use super::paging::Params;
use super::problem::Problem;
use super::writes::submit;
use crate::config::form::address;
use crate::control::Actor;
use crate::control::command::Action;
use crate::control::tunnels::{self, DEFAULT_CODE, Told, Which};
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};

/// Which tunnels, as asked for.
#[derive(Debug, Default, Deserialize)]
pub struct Filter {
    listener: Option<String>,
    route: Option<String>,
    upstream: Option<String>,
    endpoint: Option<String>,
    client: Option<String>,
}

impl Filter {
    fn which(self) -> Result<Which, Problem> {
        Ok(Which {
            id: None,
            listener: self.listener,
            route: self.route,
            upstream: self.upstream,
            endpoint: self.endpoint,
            client: self.client.as_deref().map(client).transpose()?,
        })
    }
}

fn client(text: &str) -> Result<IpNet, Problem> {
    address::cidr(text).map_err(|complaint| {
        Problem::bad_request(format!("{text:?} is no address: {}", complaint.reason))
            .hint("such as \"203.0.113.9\" or \"203.0.113.0/24\"")
    })
}

/// Open tunnels by their numbers.
///
/// # Errors
/// 400 for a filter that is none.
pub async fn list(
    State(api): State<Api>,
    params: Params,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(filter) = filter.map_err(|error| Problem::bad_request(error.body_text()))?;
    let limit = params.limit();
    // One more, to know whether there is one.
    let mut told = tunnels::list(&api.gateway, &filter.which()?, params.since(), limit + 1).await;
    let more = told.len() > limit;
    told.truncate(limit);
    let next = told.last().filter(|_| more).map(|tunnel| tunnel.id.to_string());
    let told: Vec<Value> = told.iter().map(shown).collect();
    Ok(Json(json!({ "tunnels": told, "next": next })))
}

/// One tunnel.
///
/// # Errors
/// 404 when it is not open.
pub async fn one(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let which = by_number(&id)?;
    let told = tunnels::list(&api.gateway, &which, 0, 1).await;
    told.first().map(shown).map(Json).ok_or_else(|| no_tunnel(&id))
}

/// Closes one tunnel.
///
/// # Errors
/// 404 when it is not open.
pub async fn close_one(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Problem> {
    let which = by_number(&id)?;
    if tunnels::list(&api.gateway, &which, 0, 1).await.is_empty() {
        return Err(no_tunnel(&id));
    }
    let action = Action::CloseTunnels {
        which,
        code: DEFAULT_CODE,
        reason: None,
    };
    submit(&api, actor, params.dry_run, action).await
}

/// `{"client":"203.0.113.9","route":"chat","code":1008,"reason":"…"}`; at least one of listener, route, upstream,
/// endpoint and client.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseWanted {
    listener: Option<String>,
    route: Option<String>,
    upstream: Option<String>,
    endpoint: Option<String>,
    client: Option<String>,
    /// Of the close frame, where frames are known.
    code: Option<u16>,
    reason: Option<String>,
}

/// Closes the tunnels that are meant.
///
/// # Errors
/// 400 for a body that is none, 422 for a code that nobody may send, or when nothing is named.
pub async fn close(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    params: Params,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let wanted: CloseWanted = read(&body, "{\"client\":\"203.0.113.9\",\"reason\":\"…\"}")?;
    let code = wanted.code.unwrap_or(DEFAULT_CODE);
    // What may stand in a close frame (RFC 6455 section 7.4).
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(unprocessable(format!("{code} is no code for a close frame"))
            .hint("1001 going away, 1008 policy, 1012 restart, 4000 to 4999 for applications"));
    }
    let filter = Filter {
        listener: wanted.listener,
        route: wanted.route,
        upstream: wanted.upstream,
        endpoint: wanted.endpoint,
        client: wanted.client,
    };
    let which = filter.which()?;
    if which == Which::default() {
        return Err(unprocessable("it does not say which tunnels".to_owned())
            .hint("listener, route, upstream, endpoint or client"));
    }
    let action = Action::CloseTunnels {
        which,
        code,
        reason: wanted.reason,
    };
    submit(&api, actor, params.dry_run, action).await
}

fn by_number(id: &str) -> Result<Which, Problem> {
    let id = id.parse().map_err(|_| no_tunnel(id))?;
    Ok(Which {
        id: Some(id),
        ..Which::default()
    })
}

fn no_tunnel(id: &str) -> Problem {
    Problem::not_found(format!("there is no tunnel {id:?}")).hint("GET /api/v1/tunnels lists them")
}

fn shown(tunnel: &Told) -> Value {
    json!({
        "id": tunnel.id,
        "kind": tunnel.kind.name(),
        "listener": tunnel.listener,
        "route": tunnel.route,
        "upstream": tunnel.upstream,
        "endpoint": tunnel.endpoint,
        "client": tunnel.client.to_string(),
        "opened": tunnel.opened.to_string(),
        "age_seconds": tunnel.age.as_secs_f64(),
        "idle_seconds": tunnel.idle.as_secs_f64(),
        "bytes_received": tunnel.bytes_received,
        "bytes_sent": tunnel.bytes_sent,
        "messages_received": tunnel.messages.map(|(received, _)| received),
        "messages_sent": tunnel.messages.map(|(_, sent)| sent),
        "leaving": tunnel.leaving.map(|why| why.name()),
    })
}
