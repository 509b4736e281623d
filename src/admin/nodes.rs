//! What is done to one node: a gateway that has left for good, an endpoint that is put into maintenance.

use super::Api;
use super::changes::{change_endpoint, duration, read, unprocessable};
use super::paging::Params;
use super::problem::Problem;
use super::writes::submit;
use crate::cluster::NodeId;
use crate::cluster::store::Forgotten;
use crate::control::command::Action;
use crate::control::overrides::{self, EndpointWish, Wish, departed};
use crate::control::{Actor, status};
use crate::upstream::shared::{AdminState, EndpointKey};
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// What becomes of what was changed at run time on a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    #[default]
    Keep,
    Remove,
}

#[derive(Debug, Deserialize)]
pub struct Asked {
    #[serde(default)]
    overrides: Fate,
}

/// Forgets a gateway. Its registrations are other gateways' by then, or have ended by themselves.
///
/// # Errors
/// 404 for one that nobody knows, 409 for one that lives, 503 while that can't be known.
pub async fn forget(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Path(node): Path<String>,
    params: Params,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(asked) = asked.map_err(|_| Problem::bad_request("overrides is keep or remove"))?;
    let unknown = || {
        Problem::not_found(format!("no gateway {node:?} has left anything here")).hint(
            "GET /api/v1/clustering/nodes lists those that live; endpoints are those of the configuration",
        )
    };
    let id = NodeId::known_as(&node).map_err(|_| unknown())?;
    let cluster = &api.gateway.cluster;
    let known = cluster.view().members.iter().any(|member| member.node == id);
    if known || id == cluster.bus.node() {
        return Err(lives(&id));
    }
    let forgotten = cluster.bus.forget(&id, params.dry_run).await.map_err(|error| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", error.to_string())
            .hint("whether it lives is known when the cluster's store is there")
    })?;
    let before = api.gateway.overrides.load_full();
    let without = departed::without(&before, id.configured());
    let changed: Vec<String> = overrides::changes(&before, &without)
        .into_iter()
        .map(|change| format!("{} {}", change.object, change.name))
        .collect();
    match forgotten {
        Forgotten::Alive => return Err(lives(&id)),
        Forgotten::Unknown if changed.is_empty() => return Err(unknown()),
        Forgotten::Unknown | Forgotten::Gone => {}
    }
    let remove = asked.overrides == Fate::Remove;
    let action = Action::ForgetNode {
        node: id.configured().to_owned(),
        overrides: remove,
    };
    let Json(mut answer) = submit(&api, actor, params.dry_run, action).await?;
    answer["node"] = json!(id.as_str());
    answer["record"] = json!(forgotten == Forgotten::Gone);
    answer["overrides"] = json!({ "of": changed, "fate": if remove { "removed" } else { "kept" } });
    Ok(Json(answer))
}

fn lives(node: &NodeId) -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "conflict",
        format!("gateway {node} lives, or did a moment ago"),
    )
    .hint("end it first: it leaves by itself when it is told to")
}

const EXAMPLE: &str = "{\"enabled\":true,\"drain_deadline_s\":300,\"reason\":\"…\"}";

/// `{"enabled":true,"drain_deadline_s":300,"reason":"…"}`; `deadline` is the same as a duration such as `"5m"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MaintenanceWanted {
    enabled: bool,
    drain_deadline_s: Option<f64>,
    deadline: Option<String>,
    reason: Option<String>,
}

/// An endpoint into maintenance, or out of it: by its id among the nodes, `UPSTREAM/ADDRESS`, or by its address for that
/// server in every upstream.
///
/// # Errors
/// 400 for a body that is none, 404 for a node that there is not, 409 for a gateway, 422 for what makes no sense.
pub async fn maintenance(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Path(node): Path<String>,
    params: Params,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let wanted: MaintenanceWanted = read(&body, EXAMPLE)?;
    let deadline = match (&wanted.deadline, wanted.drain_deadline_s) {
        (Some(_), Some(_)) => {
            return Err(unprocessable(
                "it has deadline and drain_deadline_s: which of them?".to_owned(),
            ));
        }
        (Some(text), None) => Wish::To(duration(text)?),
        (None, Some(seconds)) => Wish::To(
            Duration::try_from_secs_f64(seconds)
                .map_err(|_| unprocessable(format!("{seconds} is no number of seconds")))?,
        ),
        (None, None) => Wish::Keep,
    };
    let wish = EndpointWish {
        state: Some(if wanted.enabled {
            AdminState::Maintenance
        } else {
            AdminState::Active
        }),
        weight: Wish::Keep,
        deadline: if wanted.enabled { deadline } else { Wish::Keep },
        reason: wanted.reason,
        until: None,
    };
    let mut changed = Vec::new();
    for key in endpoints_of(&api, &node)? {
        let name = key.to_string();
        let Json(mut answer) =
            change_endpoint(&api, actor.clone(), params.dry_run, key, wish.clone()).await?;
        answer["node_id"] = json!(name);
        changed.push(answer);
    }
    Ok(Json(json!({
        "node_id": node,
        "maintenance": wanted.enabled,
        "dry_run": params.dry_run,
        "endpoints": changed,
    })))
}

fn endpoints_of(api: &Api, node: &str) -> Result<Vec<EndpointKey>, Problem> {
    let upstreams = status::upstreams(&api.gateway, &api.gateway.metrics.totals());
    let all = upstreams.iter().flat_map(|upstream| {
        upstream.endpoints.iter().map(|endpoint| EndpointKey {
            upstream: upstream.name.as_str().into(),
            address: endpoint.address.as_str().into(),
        })
    });
    let found: Vec<EndpointKey> = all
        .filter(|key| key.to_string() == node || *key.address == *node)
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let view = api.gateway.cluster.view();
    let own = api.gateway.cluster.bus.node();
    if own.as_str() == node || view.members.iter().any(|member| member.node.as_str() == node) {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "conflict",
            format!("{node} is a gateway, and endpoints are what is put into maintenance"),
        )
        .hint("a gateway that is told to end (SIGTERM) drains: what it has is finished, the others go on"));
    }
    Err(Problem::not_found(format!("there is no node {node:?}"))
        .hint("GET /api/v1/clustering/nodes lists them; in a path, / is %2F"))
}
