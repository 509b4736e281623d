//! Changes of endpoints and balancers at run time. They win over the file, outlive reloads and restarts, and are
//! taken back with DELETE.

use super::Api;
use super::paging::Params;
use super::problem::Problem;
use super::writes::submit;
use crate::base::clock::calendar;
use crate::config::Choice;
use crate::config::form::{pattern, quantity};
use crate::config::keys::legacy;
use crate::config::model::{Balance, HashKey};
use crate::control::Actor;
use crate::control::command::Action;
use crate::control::overrides::{BalanceWish, EndpointWish, Wish};
use crate::control::status::{self, OverridesStatus};
use crate::upstream::shared::overrides::Algorithm;
use crate::upstream::shared::{AdminState, EndpointKey};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// `{"state":"draining","weight":3,"deadline":"5m","reason":"…"}`. What is not named stays as it is; `null` for
/// weight or deadline takes them back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointWanted {
    state: Option<String>,
    #[serde(default, deserialize_with = "named")]
    weight: Option<Option<u32>>,
    #[serde(default, deserialize_with = "named")]
    deadline: Option<Option<String>>,
    reason: Option<String>,
    r#for: Option<String>,
    until: Option<String>,
}

/// The moment at which a change is taken back: `"for":"2h"` from now on, or `"until":"2026-12-24T18:00:00Z"`; without
/// either never.
pub(super) fn end(lasts: Option<&str>, until: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    match (lasts, until) {
        (Some(_), Some(_)) => Err(unprocessable(
            "it has `for` and `until`: which of them?".to_owned(),
        )),
        (Some(text), None) => calendar()
            .checked_add(duration(text)?)
            .map(Some)
            .map_err(|_| unprocessable(format!("{text:?} is beyond the calendar"))),
        (None, Some(text)) => text.parse().map(Some).map_err(|_| {
            unprocessable(format!("{text:?} is no moment")).hint("such as \"2026-12-24T18:00:00Z\"")
        }),
        (None, None) => Ok(None),
    }
}

/// Tells `null` from absence.
pub(super) fn named<'de, T: Deserialize<'de>, D: Deserializer<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

/// `{"balance":"hash","key":"header:x-user","reason":"…"}`; `algorithm` is another word for it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BalanceWanted {
    #[serde(alias = "algorithm")]
    balance: String,
    /// Of `hash`; absent: the file's.
    key: Option<String>,
    reason: Option<String>,
    r#for: Option<String>,
    until: Option<String>,
}

/// Another state or weight of an endpoint.
///
/// # Errors
/// 400 for a body that is none, 404 for an endpoint that there is not, 422 for what makes no sense.
pub async fn endpoint(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Path((upstream, address)): Path<(String, String)>,
    params: Params,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let wanted: EndpointWanted = read(
        &body,
        "{\"state\":\"draining\",\"weight\":3,\"deadline\":\"5m\",\"reason\":\"…\"}",
    )?;
    let wish = EndpointWish {
        state: wanted.state.as_deref().map(state).transpose()?,
        weight: wish(wanted.weight),
        deadline: match wanted.deadline {
            None => Wish::Keep,
            Some(None) => Wish::Reset,
            Some(Some(text)) => Wish::To(duration(&text)?),
        },
        reason: wanted.reason,
        until: end(wanted.r#for.as_deref(), wanted.until.as_deref())?,
    };
    let key = key(&upstream, &address);
    let known = status::upstream(&api.gateway, &upstream).is_some_and(|upstream| {
        upstream
            .endpoints
            .iter()
            .any(|endpoint| endpoint.address == address)
    });
    if !known {
        return Err(no_endpoint(&key));
    }
    change_endpoint(&api, actor, params.dry_run, key, wish).await
}

/// An endpoint back to what the file says of it.
///
/// # Errors
/// 404 when nothing is overridden there.
pub async fn forget_endpoint(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Path((upstream, address)): Path<(String, String)>,
    params: Params,
) -> Result<Json<Value>, Problem> {
    let key = key(&upstream, &address);
    if api.gateway.overrides.load().endpoint(&key).is_none() {
        return Err(Problem::not_found(format!("nothing is overridden at {key}")));
    }
    change_endpoint(&api, actor, params.dry_run, key, EndpointWish::back_to_the_file()).await
}

pub(super) async fn change_endpoint(
    api: &Api,
    actor: Actor,
    dry_run: bool,
    key: EndpointKey,
    wish: EndpointWish,
) -> Result<Json<Value>, Problem> {
    let action = Action::ChangeEndpoint {
        endpoint: key.clone(),
        wish,
    };
    let Json(mut answer) = submit(api, actor, dry_run, action).await?;
    if !dry_run {
        let upstream = status::upstream(&api.gateway, &key.upstream);
        let now = upstream.and_then(|upstream| {
            let mut endpoints = upstream.endpoints.into_iter();
            endpoints.find(|endpoint| *endpoint.address == *key.address)
        });
        answer["endpoint"] = json!(now);
    }
    Ok(Json(answer))
}

/// Another algorithm of one upstream.
///
/// # Errors
/// 400 for a body that is none, 404 for an upstream that there is not, 422 for an algorithm that there is not.
pub async fn balance(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Path(upstream): Path<String>,
    params: Params,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let wanted: BalanceWanted = read(&body, "{\"balance\":\"least_connections\"}")?;
    if status::upstream(&api.gateway, &upstream).is_none() {
        return Err(no_upstream(&upstream));
    }
    let wish = BalanceWish {
        upstreams: vec![upstream.into()],
        algorithm: Some(algorithm(&wanted.balance, wanted.key.as_deref())?),
        reason: wanted.reason,
        until: end(wanted.r#for.as_deref(), wanted.until.as_deref())?,
    };
    submit(&api, actor, params.dry_run, Action::ChangeBalance(wish)).await
}

/// The algorithm of an upstream back to what the file says.
///
/// # Errors
/// 404 when it is not overridden.
pub async fn forget_balance(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Path(upstream): Path<String>,
    params: Params,
) -> Result<Json<Value>, Problem> {
    if api.gateway.overrides.load().balance(&upstream).is_none() {
        return Err(Problem::not_found(format!(
            "the algorithm of {upstream:?} is not overridden"
        )));
    }
    let wish = BalanceWish {
        upstreams: vec![upstream.into()],
        algorithm: None,
        reason: None,
        until: None,
    };
    submit(&api, actor, params.dry_run, Action::ChangeBalance(wish)).await
}

/// Everything that differs from the file, also what sleeps because the file no longer has it.
pub async fn list(State(api): State<Api>) -> Json<OverridesStatus> {
    Json(status::overrides(&api.gateway))
}

/// What is absent stays, what is `null` is taken back.
pub(super) fn wish<T>(wanted: Option<Option<T>>) -> Wish<T> {
    match wanted {
        None => Wish::Keep,
        Some(None) => Wish::Reset,
        Some(Some(value)) => Wish::To(value),
    }
}

fn key(upstream: &str, address: &str) -> EndpointKey {
    EndpointKey {
        upstream: Arc::from(upstream),
        address: Arc::from(address),
    }
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8], example: &str) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        Problem::bad_request(format!("the body is not what is expected: {error}"))
            .hint(format!("send {example}"))
    })
}

fn state(name: &str) -> Result<AdminState, Problem> {
    AdminState::from_name(name).ok_or_else(|| {
        unprocessable(format!("there is no state {name:?}"))
            .hint(format!("one of {}", AdminState::NAMES.join(", ")))
    })
}

pub(super) fn duration(text: &str) -> Result<Duration, Problem> {
    quantity::duration(text).map_err(|complaint| {
        unprocessable(format!("{text:?} is no time: {}", complaint.reason)).hint(
            complaint
                .hint
                .unwrap_or_else(|| "such as \"5m\" or \"90s\"".to_owned()),
        )
    })
}

/// An algorithm by our word for it, or by one that other systems have, with what it needs.
pub(super) fn algorithm(name: &str, key: Option<&str>) -> Result<Algorithm, Problem> {
    let ours = legacy::algorithm(name).ok();
    let balance = ours.as_deref().and_then(Balance::from_name).ok_or_else(|| {
        unprocessable(format!("there is no algorithm {name:?}"))
            .hint(format!("one of {}", Balance::NAMES.join(", ")))
    })?;
    let key = key.map(hash_key).transpose()?;
    if key.is_some() && balance != Balance::Hash {
        return Err(unprocessable(format!("{} has no key", balance.name())).hint("hash has"));
    }
    Ok(Algorithm { balance, key })
}

fn hash_key(text: &str) -> Result<HashKey, Problem> {
    pattern::hash_key(text).map_err(|complaint| {
        unprocessable(format!("{text:?} is no key: {}", complaint.reason)).hint(
            complaint
                .hint
                .unwrap_or_else(|| "header:NAME, cookie:NAME, query:NAME, uri or client_ip".to_owned()),
        )
    })
}

pub(super) fn unprocessable(message: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", message)
}

pub(super) fn no_upstream(name: &str) -> Problem {
    Problem::not_found(format!("there is no upstream {name:?}")).hint("GET /api/v1/upstreams lists them")
}

fn no_endpoint(key: &EndpointKey) -> Problem {
    Problem::not_found(format!("there is no endpoint {key}"))
        .hint("GET /api/v1/upstreams lists them; in a path, / is %2F")
}
