//! Services that register themselves: register, renew, take away, find.
//!
//! A heartbeat is answered from the table alone, so that a reload that takes long costs no registration.

use super::Api;
use super::changes::{duration, read, unprocessable};
use super::paging::Params;
use super::problem::Problem;
use crate::control::Actor;
use crate::control::services::register::{self, Denied};
use crate::control::services::{Condition, Instance, Query as Wanted, Refused, Registered, Service, TTL};
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const EXAMPLE: &str = "{\"name\":\"api\",\"address\":\"10.0.0.1\",\"port\":8080,\"ttl\":\"30s\"}";

/// What a service says of itself; `address` may have the port.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    id: Option<String>,
    #[serde(alias = "service")]
    name: String,
    #[serde(default)]
    version: String,
    address: String,
    port: Option<u16>,
    #[serde(default = "usual_weight")]
    weight: u32,
    #[serde(default)]
    node_id: String,
    #[serde(default)]
    health_endpoint: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    health: Condition,
    ttl: Option<String>,
    ttl_s: Option<f64>,
}

const fn usual_weight() -> u32 {
    1
}

/// What a heartbeat may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beat {
    health: Option<Condition>,
}

/// Registers under an id of its own choice, or of ours.
///
/// # Errors
/// 400 for a body that is none, 403 for somebody else's service, 409 for somebody else's id, 422 for what makes no
/// sense, 507 when there are too many.
pub async fn register(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    params: Params,
    body: Bytes,
) -> Result<Response, Problem> {
    let said: Said = read(&body, EXAMPLE)?;
    take(&api, &actor, params.dry_run, said)
}

/// The same under the id in the path.
///
/// # Errors
/// As [`register`].
pub async fn put(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    params: Params,
    body: Bytes,
) -> Result<Response, Problem> {
    let mut said: Said = read(&body, EXAMPLE)?;
    if said.id.as_ref().is_some_and(|said| *said != id) {
        return Err(unprocessable("the body has another id than the path".to_owned()));
    }
    said.id = Some(id);
    take(&api, &actor, params.dry_run, said)
}

fn take(api: &Api, actor: &Actor, dry_run: bool, said: Said) -> Result<Response, Problem> {
    let service = service(said)?;
    let id = service.id.clone();
    let (what, instance) =
        register::register(&api.gateway, actor, service, dry_run).map_err(|error| denied(&error))?;
    let (status, outcome) = match what {
        Registered::New => (StatusCode::CREATED, "registered"),
        Registered::Changed => (StatusCode::OK, "changed"),
        Registered::Renewed => (StatusCode::OK, "renewed"),
    };
    let status = if dry_run { StatusCode::OK } else { status };
    let answer = json!({
        "outcome": outcome,
        "dry_run": dry_run,
        "id": id,
        "service": instance.as_ref().map(shown),
    });
    Ok((status, Json(answer)).into_response())
}

fn service(said: Said) -> Result<Service, Problem> {
    let socket = socket(&said)?;
    let ttl = match (&said.ttl, said.ttl_s) {
        (Some(_), Some(_)) => return Err(unprocessable("it has ttl and ttl_s: which of them?".to_owned())),
        (Some(text), None) => duration(text)?,
        (None, Some(seconds)) => Duration::try_from_secs_f64(seconds)
            .map_err(|_| unprocessable(format!("{seconds} is no number of seconds")))?,
        (None, None) => TTL,
    };
    Ok(Service {
        id: said.id.unwrap_or_else(|| format!("{}-{socket}", said.name)),
        name: said.name,
        version: said.version,
        address: socket.ip(),
        port: socket.port(),
        weight: said.weight,
        node_id: said.node_id,
        health_endpoint: said.health_endpoint,
        tags: said.tags,
        metadata: said.metadata,
        health: said.health,
        ttl,
    })
}

fn socket(said: &Said) -> Result<SocketAddr, Problem> {
    let both = said.address.parse::<SocketAddr>();
    let alone = said.address.trim_matches(['[', ']']).parse::<IpAddr>();
    match (both, alone, said.port) {
        (Ok(socket), _, None) => Ok(socket),
        (Ok(socket), _, Some(port)) if socket.port() == port => Ok(socket),
        (_, Ok(address), Some(port)) => Ok(SocketAddr::new(address, port)),
        (_, Ok(_), None) => Err(unprocessable("there is no port".to_owned())),
        _ => Err(unprocessable(format!("{:?} is no IP address", said.address))
            .hint("names are for `endpoints` and `discover.dns`; a service says where it is")),
    }
}

/// Renews a registration.
///
/// # Errors
/// 404 when there is none (any more): register anew. 403 for somebody else's.
pub async fn heartbeat(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let beat: Beat = if body.is_empty() {
        Beat::default()
    } else {
        read(&body, "{\"health\":\"warning\"}, or nothing")?
    };
    let instance = register::renew(&api.gateway, &actor, &id, beat.health).map_err(|error| denied(&error))?;
    Ok(Json(json!({ "outcome": "renewed", "service": shown(&instance) })))
}

/// Takes a registration away.
///
/// # Errors
/// 404 when there is none, 403 for somebody else's.
pub async fn deregister(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Problem> {
    let gone =
        register::deregister(&api.gateway, &actor, &id, params.dry_run).map_err(|error| denied(&error))?;
    Ok(Json(
        json!({ "outcome": "deregistered", "dry_run": params.dry_run, "service": shown(&gone) }),
    ))
}

/// Registrations that a query finds.
///
/// # Errors
/// 400 for a question without sense.
pub async fn list(
    State(api): State<Api>,
    params: Params,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let found = api.gateway.services.find(&wanted(query)?);
    let total = found.len();
    let (found, next) = params.page(found, |instance| &instance.service.id);
    let found: Vec<Value> = found.iter().map(shown).collect();
    Ok(Json(json!({ "services": found, "total": total, "next": next })))
}

/// One registration.
///
/// # Errors
/// 404 when there is none.
pub async fn one(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let found = api.gateway.services.get(&id);
    let found = found.ok_or_else(|| denied(&Refused::Unknown(id).into()))?;
    Ok(Json(shown(&found)))
}

fn wanted(query: Vec<(String, String)>) -> Result<Wanted, Problem> {
    let mut wanted = Wanted::default();
    for (name, value) in query {
        match name.as_str() {
            "name" | "service" => wanted.name = Some(value),
            "version" => wanted.version = Some(value),
            "node_id" => wanted.node_id = Some(value),
            "tag" => wanted.tags.push(value),
            "healthy" => match value.as_str() {
                "true" | "1" => wanted.health = vec![Condition::Healthy],
                "false" | "0" => wanted.health = vec![Condition::Warning, Condition::Critical],
                _ => {
                    return Err(Problem::bad_request(format!(
                        "healthy is true or false, not {value:?}"
                    )));
                }
            },
            "health" => wanted.health.push(condition(&value)?),
            "limit" | "cursor" => {}
            _ => match name.strip_prefix("meta.") {
                Some(key) => wanted.metadata.push((key.to_owned(), value)),
                None => {
                    return Err(Problem::bad_request(format!(
                        "there is no parameter {name:?} here"
                    )));
                }
            },
        }
    }
    Ok(wanted)
}

fn condition(name: &str) -> Result<Condition, Problem> {
    Ok(match name {
        "healthy" => Condition::Healthy,
        "warning" => Condition::Warning,
        "critical" => Condition::Critical,
        _ => {
            return Err(Problem::bad_request(format!("there is no health {name:?}"))
                .hint("one of healthy, warning, critical"));
        }
    })
}

fn shown(instance: &Instance) -> Value {
    let service = &instance.service;
    json!({
        "id": service.id,
        "name": service.name,
        "version": service.version,
        "address": service.address,
        "port": service.port,
        "weight": service.weight,
        "node_id": service.node_id,
        "health_endpoint": service.health_endpoint,
        "tags": service.tags,
        "metadata": service.metadata,
        "health": service.health,
        "ttl_s": service.ttl.as_secs_f64(),
        "registered_by": instance.registered_by,
        "registered_at": instance.registered_at.to_string(),
        "last_heartbeat": instance.last_heartbeat.to_string(),
        "expires_at": instance.expires_at.to_string(),
    })
}

fn denied(denied: &Denied) -> Problem {
    let (status, code) = match denied {
        Denied::NotYours { .. } => (StatusCode::FORBIDDEN, "forbidden"),
        Denied::Refused(Refused::Unknown(_)) => (StatusCode::NOT_FOUND, "not_found"),
        Denied::Refused(Refused::Taken(_)) => (StatusCode::CONFLICT, "conflict"),
        Denied::Refused(Refused::Full) => (StatusCode::INSUFFICIENT_STORAGE, "full"),
        Denied::Refused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "unprocessable"),
    };
    let problem = Problem::new(status, code, denied.to_string());
    match denied {
        Denied::Refused(Refused::Unknown(_)) => problem.hint("register it anew: POST /api/v1/services"),
        Denied::Refused(_) | Denied::NotYours { .. } => problem,
    }
}
