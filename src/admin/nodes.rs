//! Gateways that have left for good.

use super::Api;
use super::paging::Params;
use super::problem::Problem;
use super::writes::submit;
use crate::cluster::NodeId;
use crate::cluster::store::Forgotten;
use crate::control::Actor;
use crate::control::command::Action;
use crate::control::overrides::{self, departed};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

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
