//! The gateways together: who is there, how the bus among them is, what they carry.

use super::Api;
use super::changes::{read, unprocessable};
use super::paging::Params;
use super::problem::Problem;
use crate::cluster::bus::Bus;
use crate::cluster::counters::Counters;
use crate::control::Gateway;
use crate::control::cluster::ping as asking;
use crate::control::gateway::Phase;
use crate::control::status::{self, ClusterStatus, EndpointCondition, UpstreamStatus};
use crate::telemetry::metrics::{Encoder, catalogue};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{Timestamp, Unit};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Loads above and below which another number of gateways is recommended.
const BUSY: f64 = 0.8;
const IDLE: f64 = 0.2;
/// What is recommended, and can be asked for.
const ACTIONS: [&str; 3] = ["scale_up", "scale_down", "maintain"];

/// This gateway, in the words that older scripts know.
pub async fn status(State(api): State<Api>) -> Json<Value> {
    let gateway = &api.gateway;
    let cluster = ClusterStatus::of(gateway);
    let up = Timestamp::now().duration_since(gateway.node.started);
    Json(json!({
        "serverId": cluster.node,
        "status": condition(gateway),
        "connections": gateway.board.connections(),
        "uptime": u64::try_from(up.as_millis()).unwrap_or(0),
        "clusterSize": cluster.nodes,
        "clusterId": cluster.id,
        "nodeId": gateway.cluster.identity().node,
        "bus": cluster.bus,
        "members": cluster.members,
    }))
}

fn condition(gateway: &Gateway) -> &'static str {
    match gateway.phase() {
        Phase::Serving => "healthy",
        other => other.name(),
    }
}

/// All gateways, in the words that older scripts know. `averageLoad` is 0–1.
pub async fn metrics(State(api): State<Api>) -> Json<Value> {
    let cluster = ClusterStatus::of(&api.gateway);
    let each = cluster.members.iter().map(|member| member.connections);
    let connections = each.fold(0, u64::saturating_add);
    let load = cluster.load();
    Json(json!({
        "totalServers": cluster.nodes,
        "totalConnections": connections,
        "averageLoad": (load * 1000.0).round() / 1000.0,
        "recommendedAction": recommended(load, cluster.nodes),
        "timestamp": to_the_millisecond(Timestamp::now()).to_string(),
    }))
}

/// What readers of dates that know no nanoseconds can read.
fn to_the_millisecond(time: Timestamp) -> Timestamp {
    time.round(Unit::Millisecond).unwrap_or(time)
}

/// `{"action":"scale_up","targetInstances":4,"reason":"…"}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScaleWanted {
    action: String,
    #[serde(rename = "targetInstances")]
    instances: Option<u32>,
    #[serde(rename = "reason")]
    _reason: Option<String>,
}

/// Another number of gateways, which nothing here can start or end.
///
/// # Errors
/// 400 for a body that is none, 422 for what makes no sense, and else 501.
pub async fn scale(body: Bytes) -> Result<Response, Problem> {
    let wanted: ScaleWanted = read(
        &body,
        "{\"action\":\"scale_up\",\"targetInstances\":4,\"reason\":\"…\"}",
    )?;
    if !ACTIONS.contains(&wanted.action.as_str()) {
        let told = format!("there is no action {:?}", wanted.action);
        return Err(unprocessable(told).hint(format!("one of {}", ACTIONS.join(", "))));
    }
    if wanted.instances == Some(0) {
        return Err(unprocessable("targetInstances is a number above 0".to_owned()));
    }
    Err(Problem::new(
        StatusCode::NOT_IMPLEMENTED,
        "not_implemented",
        "nothing here starts or ends gateways",
    )
    .hint("start one more with the same [cluster], or end one with SIGTERM: the others notice by themselves"))
}

/// One gateway less is only recommended where one is left, and the rest would not be busy.
fn recommended(load: f64, nodes: usize) -> &'static str {
    if load > BUSY {
        return "scale_up";
    }
    let fewer = nodes.saturating_sub(1) as f64;
    if nodes > 1 && load < IDLE && load * nodes as f64 / fewer < BUSY / 2.0 {
        return "scale_down";
    }
    "maintain"
}

/// Gateways and endpoints, in the words that older dashboards know, and more.
pub async fn overview(State(api): State<Api>) -> Json<Value> {
    let gateway = &api.gateway;
    let cluster = ClusterStatus::of(gateway);
    let upstreams = status::upstreams(gateway, &gateway.metrics.totals());
    let endpoints = endpoints(&upstreams);
    let active_endpoints = endpoints
        .values()
        .filter(|state| **state == EndpointCondition::Active)
        .count();
    let last = gateway.failovers.list(0, usize::MAX).pop();
    let (load, basis) = load(&cluster, &upstreams);
    Json(json!({
        "total_nodes": cluster.nodes + endpoints.len(),
        "active_nodes": cluster.active() + active_endpoints,
        "cluster_load": load,
        "cluster_load_basis": basis,
        // There is nothing that it was measured against.
        "performance_gain": null,
        "failover_events": gateway.failovers.count(),
        "last_failover": last.map(|entry| match entry.time.parse() {
            Ok(time) => to_the_millisecond(time).to_string(),
            Err(_) => entry.time.clone(),
        }),
        "gateways": { "total": cluster.nodes, "active": cluster.active() },
        "endpoints": { "total": endpoints.len(), "active": active_endpoints },
        "cluster": cluster,
    }))
}

/// The state of each endpoint, once however many upstreams have it: the best that one of them sees.
fn endpoints(upstreams: &[UpstreamStatus]) -> BTreeMap<&str, EndpointCondition> {
    let mut found = BTreeMap::new();
    for endpoint in upstreams.iter().flat_map(|upstream| &upstream.endpoints) {
        let known = found.entry(endpoint.address.as_str()).or_insert(endpoint.state);
        if endpoint.state == EndpointCondition::Active {
            *known = EndpointCondition::Active;
        }
    }
    found
}

/// In percent, and of what: of what endpoints may carry, where all of them have a limit; otherwise of the gateways'
/// processors.
fn load(cluster: &ClusterStatus, upstreams: &[UpstreamStatus]) -> (f64, &'static str) {
    let all = || upstreams.iter().flat_map(|upstream| &upstream.endpoints);
    let limited = all().next().is_some() && all().all(|endpoint| endpoint.max_connections > 0);
    let (share, basis) = if limited {
        let carried: f64 = all()
            .map(|endpoint| f64::from(endpoint.in_flight) + f64::from(endpoint.open_websockets))
            .sum();
        let most: f64 = all().map(|endpoint| f64::from(endpoint.max_connections)).sum();
        (carried / most, "max_connections")
    } else {
        (cluster.load(), "cpu")
    };
    ((share * 1000.0).round() / 10.0, basis)
}

/// Gateways and endpoints, each with its kind.
pub async fn nodes(State(api): State<Api>, params: Params) -> Json<Value> {
    let cluster = ClusterStatus::of(&api.gateway);
    let upstreams = status::upstreams(&api.gateway, &api.gateway.metrics.totals());
    let mut all: Vec<(String, Value)> = Vec::new();
    for member in &cluster.members {
        let mut shown = serde_json::to_value(member).unwrap_or_default();
        if let Value::Object(fields) = &mut shown {
            fields.insert("kind".to_owned(), "gateway".into());
            fields.insert("node_id".to_owned(), member.node.clone().into());
        }
        all.push((format!("gateway/{}", member.node), shown));
    }
    for upstream in &upstreams {
        for endpoint in &upstream.endpoints {
            let id = format!("{}/{}", upstream.name, endpoint.address);
            let shown = json!({
                "kind": "endpoint",
                "node_id": id,
                "upstream": upstream.name,
                "address": endpoint.address,
                "state": endpoint.state,
                "weight": endpoint.weight,
                "zone": endpoint.zone,
                "in_flight": endpoint.in_flight,
                "open_websockets": endpoint.open_websockets,
            });
            all.push((format!("endpoint/{id}"), shown));
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let (nodes, next) = params.page(all, |(id, _)| id);
    let nodes: Vec<Value> = nodes.into_iter().map(|(_, shown)| shown).collect();
    Json(json!({ "nodes": nodes, "next": next }))
}

/// Tells another gateway that this one lives.
pub async fn ping(State(api): State<Api>, question: Bytes) -> Result<Response, Problem> {
    let gateway = &api.gateway;
    let Some(pings) = &gateway.cluster.pings else {
        return Err(Problem::not_found("this gateway is not asked whether it lives")
            .hint("cluster.ping, cluster.key and cluster.redis make it so"));
    };
    // Why not is nobody's business who has not the key.
    let answer = asking::answer(gateway, pings, &question)
        .map_err(|why| Problem::new(StatusCode::FORBIDDEN, "forbidden", why.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}

/// Adds what a scrape tells of the bus and of the others.
pub(super) fn families(gateway: &Gateway, encoder: &mut Encoder) {
    let bus = &gateway.cluster.bus;
    let counters = bus.counters();
    bus_families(bus, counters, encoder);
    let cluster = ClusterStatus::of(gateway);
    encoder.family(&catalogue::CLUSTER_MEMBERS, |samples| {
        for state in ["alive", "suspect", "draining"] {
            let count = cluster
                .members
                .iter()
                .filter(|member| member.state == state)
                .count();
            samples.add(&[state], count as u64);
        }
    });
    encoder.family(&catalogue::CLUSTER_FLAPS, |samples| {
        samples.add(&[], gateway.cluster.flaps())
    });
    encoder.family(&catalogue::CLUSTER_PINGS, |samples| {
        for (result, count) in gateway.cluster.pings.iter().flat_map(|pings| pings.counts.all()) {
            samples.add(&[result], count);
        }
    });
    let holder = bus.holder();
    encoder.family(&catalogue::CLUSTER_LEASE, |samples| {
        for lease in &cluster.leases {
            samples.add(&[&lease.task], u64::from(lease.holder == holder));
        }
    });
    encoder.family(&catalogue::CLUSTER_CONFIG, |samples| {
        samples.add(&[], cluster.config_version)
    });
    encoder.family(&catalogue::CFG_VERSION, |samples| {
        samples.add(&[], cluster.config.version)
    });
    encoder.family(&catalogue::CFG_LAG, |samples| {
        samples.add(&[], cluster.config.lag_seconds)
    });
}

fn bus_families(bus: &Bus, counters: &Counters, encoder: &mut Encoder) {
    encoder.family(&catalogue::BUS_STATE, |samples| {
        samples.add(&[], u64::from(bus.state().condition.number()));
    });
    encoder.family(&catalogue::BUS_UP, |samples| {
        for (connection, up) in bus.connections() {
            samples.add(&[connection], u64::from(up));
        }
    });
    encoder.family(&catalogue::BUS_RTT, |samples| {
        if let Some(rtt) = counters.rtt() {
            samples.add(&[], rtt.as_secs_f64());
        }
    });
    encoder.family(&catalogue::BUS_LAST_OK, |samples| {
        if let Some(age) = counters.last_ok_age() {
            samples.add(&[], age.as_secs_f64());
        }
    });
    encoder.family(&catalogue::BUS_RECONNECTS, |samples| {
        for (reason, count) in counters.reconnects().filter(|(_, count)| *count > 0) {
            samples.add(&[reason.name()], count);
        }
    });
    let results = [
        ("received", &counters.received),
        ("duplicate", &counters.duplicates),
        ("unknown_version", &counters.unknown),
        ("garbage", &counters.garbage),
        ("forged", &counters.forged),
        ("too_large", &counters.too_large),
    ];
    encoder.family(&catalogue::BUS_PROBE_FAILURES, |samples| {
        samples.add(&[], counters.probe_failures.get());
    });
    encoder.family(&catalogue::BUS_ANNOUNCEMENTS, |samples| {
        samples.add(&["sent"], counters.announced.get());
        samples.add(&["dropped"], counters.announce_drops.get());
    });
    encoder.family(&catalogue::BUS_MESSAGES, |samples| {
        for (result, count) in results {
            samples.add(&[result], count.get());
        }
    });
    encoder.family(&catalogue::BUS_GAPS, |samples| {
        samples.add(&[], counters.gaps.get())
    });
    encoder.family(&catalogue::BUS_OVERFLOWS, |samples| {
        samples.add(&[], bus.overflows())
    });
    encoder.family(&catalogue::BUS_FLUSHES, |samples| {
        samples.add(&[], counters.flushes.get())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_number_of_gateways_is_recommended_only_where_it_would_hold() {
        assert_eq!(recommended(0.9, 1), "scale_up");
        assert_eq!(recommended(0.5, 3), "maintain");
        assert_eq!(recommended(0.1, 1), "maintain");
        assert_eq!(recommended(0.1, 3), "scale_down");
    }
}
