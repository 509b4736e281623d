//! The table of everything that can be asked. Router and OpenAPI document are both made from it, so neither can
//! have what the other has not.

use super::auth::{self, Need, Peer};
use super::problem::Problem;
use super::{
    Api, changes, cluster, clustering, drills, events, health, nodes, published, reads, services, tunnels,
    writes,
};
use crate::config::model::Role;
use axum::body::to_bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::{Extension, Router};

/// Bytes that a request body may have where nothing else is said.
const MAX_BODY: usize = 64 * 1024;

const VIEWER: Need = Need::Role(Role::Viewer);
const OPERATOR: Need = Need::Role(Role::Operator);
const ADMIN: Need = Need::Role(Role::Admin);

/// How a question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Put,
    Post,
    Delete,
}

impl Verb {
    /// As OpenAPI writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Post => "post",
            Self::Delete => "delete",
        }
    }
}

/// One row.
#[derive(Clone, Copy)]
pub struct Endpoint {
    pub verb: Verb,
    pub path: &'static str,
    pub need: Need,
    pub summary: &'static str,
    /// Query parameters, by name.
    pub params: &'static [&'static str],
    handler: fn() -> MethodRouter<Api>,
}

macro_rules! endpoints {
    ($($verb:ident $path:literal $need:ident $handler:path, $params:expr, $summary:literal;)*) => {
        &[$(Endpoint {
            verb: endpoints!(@verb $verb),
            path: $path,
            need: $need,
            summary: $summary,
            params: &$params,
            handler: || $verb($handler),
        }),*]
    };
    (@verb get) => { Verb::Get };
    (@verb put) => { Verb::Put };
    (@verb post) => { Verb::Post };
    (@verb delete) => { Verb::Delete };
}

const NOTHING: Need = Need::Nothing;
const REGISTER: Need = Need::Register;
const CLUSTER: Need = Need::Cluster;
const LIST: [&str; 2] = ["limit", "cursor"];
const TUNNELS: [&str; 7] = [
    "limit", "cursor", "listener", "route", "upstream", "endpoint", "client",
];
const SERVICES: [&str; 9] = [
    "limit", "cursor", "name", "version", "node_id", "healthy", "health", "tag", "meta.KEY",
];
const PUBLISH: [&str; 3] = ["dry_run", "expected", "reason"];
const FEED: [&str; 3] = ["limit", "cursor", "since"];
const EVENTS: [&str; 9] = [
    "scope", "limit", "cursor", "since", "after", "type", "severity", "target", "node",
];

/// Every endpoint.
pub const ENDPOINTS: &[Endpoint] = endpoints! {
    get "/health" NOTHING health::health, [], "Whether the gateway is well, with its workers and memory";
    get "/livez" NOTHING health::livez, [], "503 when no worker turns any more";
    get "/readyz" NOTHING health::readyz, [], "503 before the gateway serves and from the first moment of a drain on";
    get "/health/workers" VIEWER reads::workers, [], "Each worker: connections, requests, CPU, loop lag, restarts";
    get "/stats" VIEWER reads::stats, [], "Everything at a glance";
    get "/api/stats" VIEWER reads::stats, [], "Everything at a glance";
    get "/metrics" VIEWER reads::metrics, [], "Prometheus text or OpenMetrics, by Accept";
    get "/api/v1/upstreams" VIEWER reads::upstreams, LIST, "Upstreams with the live state of their endpoints";
    get "/api/v1/upstreams/{name}" VIEWER reads::upstream, [], "One upstream";
    put "/api/v1/upstreams/{name}/endpoints/{address}" OPERATOR changes::endpoint, ["dry_run"], "Another state (active, draining, maintenance) or weight of an endpoint, with a deadline and a reason; kept over reloads and restarts";
    delete "/api/v1/upstreams/{name}/endpoints/{address}" OPERATOR changes::forget_endpoint, ["dry_run"], "An endpoint back to what the file says";
    put "/api/v1/upstreams/{name}/balance" OPERATOR changes::balance, ["dry_run"], "Another algorithm of an upstream; kept over reloads and restarts";
    delete "/api/v1/upstreams/{name}/balance" OPERATOR changes::forget_balance, ["dry_run"], "The algorithm of an upstream back to the file's";
    get "/api/v1/overrides" VIEWER changes::list, [], "Everything that was changed at run time: who, when, why, until when";
    get "/api/v1/routes" VIEWER reads::routes, LIST, "Routes with what was counted for them";
    get "/api/v1/tunnels" VIEWER tunnels::list, TUNNELS, "Open WebSockets and other tunnels: route, endpoint, client, age, bytes, messages where frames are looked at";
    get "/api/v1/tunnels/{id}" VIEWER tunnels::one, [], "One tunnel";
    delete "/api/v1/tunnels/{id}" OPERATOR tunnels::close_one, ["dry_run"], "Closes a tunnel, with close code 1001 where frames are known";
    post "/api/v1/tunnels/close" OPERATOR tunnels::close, ["dry_run"], "Closes the tunnels of a client, route, upstream, endpoint or listener, with a close code and a reason";
    get "/api/v1/explain" VIEWER reads::explain, ["method", "url", "header", "server_name", "client", "listener", "worker"], "Where a request would go, and why: routes asked, endpoints, the pick";
    get "/api/v1/listeners" VIEWER reads::listeners, LIST, "Listeners with the addresses really bound";
    get "/api/v1/config" VIEWER reads::config, [], "The configuration in force with every default and the origin of each value";
    get "/api/v1/config/schema" VIEWER reads::config_schema, [], "JSON Schema of the configuration";
    post "/api/v1/config/reload" ADMIN writes::reload, ["dry_run"], "Loads the configuration anew; with dry_run says what would change";
    post "/api/v1/config/publish" ADMIN published::publish, PUBLISH, "Publishes the configuration in the body, as TOML, to all gateways that follow the cluster's: looked at by each that is there before any has it; `expected` is the version that it is to replace";
    post "/api/v1/config/unpublish" ADMIN published::unpublish, PUBLISH, "Takes the published configuration back: each gateway goes by its own file again";
    get "/api/v1/config/versions" VIEWER published::versions, ["limit"], "Published configurations that are kept, the latest first: version, author, when, why, hash; and what this gateway has in force";
    get "/api/v1/config/versions/{version}" ADMIN published::version, [], "A published configuration with its text";
    post "/api/v1/config/versions/{version}/rollback" ADMIN published::rollback, PUBLISH, "Publishes the text of this version again, as a new one";
    get "/api/v1/tls" VIEWER reads::tls, [], "Certificates in use by listener, and how getting those goes that the gateway orders itself";
    post "/api/v1/tls/reload" ADMIN writes::reload_tls, ["dry_run"], "Reads certificates, keys and lists of revoked ones anew; bad ones are refused and the old ones kept";
    get "/cluster/status" VIEWER cluster::status, [], "This gateway in the cluster, as older scripts know it: serverId, status, connections, uptime in ms, clusterSize";
    get "/cluster/metrics" VIEWER cluster::metrics, [], "All gateways together, as older scripts know it: totalServers, totalConnections, averageLoad, recommendedAction, timestamp";
    post "/cluster/scale" ADMIN cluster::scale, [], "Another number of gateways, as older scripts ask for it: action, targetInstances, reason; 501, because nothing here starts or ends any";
    post "/cluster/ping" CLUSTER cluster::ping, [], "What gateways ask each other, signed by cluster.key (cluster.ping)";
    get "/api/v1/clustering/overview" VIEWER cluster::overview, [], "Gateways and endpoints together, their load, fail-overs, and how the bus is";
    get "/api/v1/clustering/nodes" VIEWER cluster::nodes, LIST, "Gateways of the cluster and the endpoints that this one knows, each with its kind and state";
    delete "/api/v1/clustering/nodes/{node_id}" ADMIN nodes::forget, ["dry_run", "overrides"], "Forgets a gateway that has left for good: its record, and with overrides=remove what was changed at run time on it, on all gateways; 409 while it lives";
    put "/api/v1/clustering/nodes/{node_id}/maintenance" OPERATOR nodes::maintenance, ["dry_run"], "An endpoint into maintenance, or out of it, by UPSTREAM/ADDRESS (with / as %2F) or its address; 409 for a gateway";
    get "/api/v1/clustering/load-balancer/config" VIEWER clustering::balancer_config, [], "How each upstream balances, and how it could";
    put "/api/v1/clustering/load-balancer/algorithm" OPERATOR clustering::balancer_algorithm, ["dry_run"], "Another algorithm for one upstream, or for all that there are";
    get "/api/v1/clustering/load-balancer/stats" VIEWER clustering::balancer_stats, [], "Picks and load of each endpoint";
    get "/api/v1/clustering/failover/config" VIEWER clustering::failover_config, [], "When endpoints of each upstream are taken for failed, and what is done about it";
    put "/api/v1/clustering/failover/thresholds" OPERATOR clustering::failover_thresholds, ["dry_run"], "Other thresholds for one upstream, or for all that there are; kept over reloads and restarts. `latency_ms` and `quorum` are refused: no latency takes an endpoint out, and how many gateways decide follows from how many there are";
    get "/api/v1/clustering/failover/history" VIEWER clustering::failover_history, FEED, "Endpoints that went and came: what found out, how fast, what it cost; the oldest first";
    get "/api/v1/clustering/verdicts" VIEWER clustering::verdicts, [], "Endpoints that some gateway holds for down, with who does and how many vote; and of those whose probes are shared (health.share), who probes them";
    get "/api/v1/clustering/failover/test" VIEWER drills::list, LIST, "Reports of fail-over drills, the latest first";
    post "/api/v1/clustering/failover/test" OPERATOR drills::begin, ["dry_run"], "A fail-over drill at an endpoint: `simulate` tells what would be, `drain` gives it nothing new for a while, `blackhole` swallows attempts of requests that carry the mark of the answer in X-Tidegate-Drill, and of a share of all; it ends by itself";
    get "/api/v1/clustering/failover/test/{id}" VIEWER drills::one, [], "The report of one drill";
    delete "/api/v1/clustering/failover/test/{id}" OPERATOR drills::stop, [], "Ends a drill before its time";
    get "/api/v1/services" VIEWER services::list, SERVICES, "Services that registered themselves, by name, health, tags and metadata (`meta.KEY=VALUE`)";
    post "/api/v1/services" REGISTER services::register, ["dry_run"], "Registers a service for its time to live; upstreams with discover.registry have it as an endpoint";
    get "/api/v1/services/{id}" VIEWER services::one, [], "One registered service";
    put "/api/v1/services/{id}" REGISTER services::put, ["dry_run"], "Registers a service under this id, or changes what it says";
    delete "/api/v1/services/{id}" REGISTER services::deregister, ["dry_run"], "Takes a registered service away; what runs there is finished";
    post "/api/v1/services/{id}/heartbeat" REGISTER services::heartbeat, [], "Renews a registration, perhaps with another health; 404: register anew";
    get "/api/v1/events" VIEWER events::list, EVENTS, "What happened to the gateway, the oldest first; with Accept: text/event-stream the stream. `since` (or `after`, `cursor`) is the number of an event or a moment, `type` a type or its first words, `severity` the least, `target` what it happened to, `node` on which gateway; scope=cluster has those of all gateways, from the log that they share";
    get "/api/v1/events/stream" VIEWER events::stream, EVENTS, "The same as server-sent events, from now on or after Last-Event-ID; `lost` tells how many went by, `reset` that the gateway was started anew; with scope=cluster those of all gateways, where `lost` tells from where on events are kept, `away` that the log can't be read now, and `slow` that the reader took nothing for too long, which ends it";
    get "/api/v1/audit" VIEWER reads::audit, FEED, "Who asked for which change, and what came of it";
    put "/api/v1/log" ADMIN writes::log_level, ["dry_run"], "Another level of the application log, for a while";
    post "/api/v1/log/reopen" ADMIN writes::reopen_logs, ["dry_run"], "Opens log files anew after they were rotated";
    get "/api/v1/openapi.json" VIEWER reads::openapi_document, [], "This document";
};

/// The router of the table.
pub fn router(api: &Api) -> Router {
    let mut router = Router::new();
    for endpoint in ENDPOINTS {
        let guard = middleware::from_fn_with_state((api.clone(), endpoint.need), guard);
        let most = DefaultBodyLimit::max(most(endpoint));
        let handler = (endpoint.handler)().layer(most).route_layer(guard);
        router = router.route(endpoint.path, handler);
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(api.clone(), around))
        .with_state(api.clone())
}

/// Bytes that the body of a request may have.
fn most(endpoint: &Endpoint) -> usize {
    match endpoint.path {
        "/api/v1/config/publish" => published::MAX_REQUEST,
        _ => MAX_BODY,
    }
}

async fn not_found() -> Problem {
    Problem::not_found("there is nothing at this path").hint("GET /api/v1/openapi.json lists everything")
}

async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this path has no such method",
    )
    .hint("GET /api/v1/openapi.json lists everything")
}

/// What kept a request from its handler, such as a body that is too long: the framework has a line of text for it.
async fn unread(response: &mut Response) -> Problem {
    let status = response.status();
    let text = to_bytes(std::mem::take(response.body_mut()), MAX_BODY).await;
    let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
    response.headers_mut().remove(CONTENT_TYPE);
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(status, "too_large", "the body is too long")
            .hint(format!("at most {MAX_BODY} bytes are read")),
        _ => Problem::new(status, "bad_request", text),
    }
}

/// Lets in who may, and tells the handler who it is.
async fn guard(
    State((api, need)): State<(Api, Need)>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let running = api.gateway.running.load_full();
    match auth::authorize(peer, request.headers(), running.config.admin.as_ref(), need) {
        Ok(actor) => {
            request.extensions_mut().insert(actor);
            next.run(request).await
        }
        Err(problem) => {
            api.gateway.metrics.control.admin_denied.inc();
            tracing::warn!(path = request.uri().path(), %peer, "admin request refused");
            problem.into_response()
        }
    }
}

/// Around everything: a request id, counting, problems as JSON, and nothing that a browser may keep.
async fn around(State(api): State<Api>, request: Request, next: Next) -> Response {
    api.gateway.metrics.control.admin_requests.inc();
    let id = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let mut response = next.run(request).await;
    let problem = match response.extensions_mut().remove::<Problem>() {
        None if response.status().is_client_error() => Some(unread(&mut response).await),
        problem => problem,
    };
    if let Some(problem) = problem {
        let headers = std::mem::take(response.headers_mut());
        response = problem.answer(&id);
        // `Allow`, for one.
        for (name, value) in headers {
            if let Some(name) = name
                && !response.headers().contains_key(&name)
                && name != CONTENT_LENGTH
            {
                response.headers_mut().insert(name, value);
            }
        }
    }
    let headers = response.headers_mut();
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", id);
    }
    response
}
