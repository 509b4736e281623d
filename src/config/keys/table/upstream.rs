//! Keys of groups of endpoints, and how connections to them are made.

use super::resilience::{BREAKER, HEALTH, OUTLIER, RETRY};
use super::sticky::STICKY;
use super::tls::UPSTREAM_TLS;
use super::{COUNT, DEADLINE, H2_LARGEST_WINDOW, KIB, MIB, TIME};
use crate::config::choices::Choice;
use crate::config::form::Form;
use crate::config::keys::legacy;
use crate::config::keys::{Key, Shape};
use crate::config::model::{Balance, ProxyVersion, ShedOrder, UpstreamProtocol};

pub(super) const WEIGHT: Form = Form::Integer {
    min: 0,
    max: 1_000_000,
};

/// As many as metrics tell apart.
const MAX_DISCOVERED: i64 = 4096;

pub(super) const UPSTREAM: &[Key] = &[
    Key::new(
        "balance",
        Form::Choice(Balance::NAMES),
        "round_robin",
        "Who is picked. `round_robin`: by turns, heeding weights (`weighted` is the same). `least_connections`: whoever has the fewest requests and tunnels for its weight. `random_two`: the less loaded of two drawn by weight. `least_time`: the shortest latency times requests for its weight. `adaptive`: by turns, except where another one's latency, requests and failures are clearly better. `ip_hash`: by the client's address. `hash`: by `key`. `first`: the first in the file that can. Above 64 endpoints, `least_connections` and `least_time` take the best of 16 drawn by weight.",
    )
    .legacy(&legacy::ALGORITHM),
    Key::new(
        "key",
        Form::HashKey,
        "client_ip",
        "What `hash` knows a request by: `uri` is path and query. A key stays with its endpoint while that can be picked, on every gateway and over restarts; when endpoints come or go, only their share of the keys moves. A request without it goes to any endpoint.",
    ),
    Key::new(
        "bounded_load",
        Form::Factor,
        "0",
        "Most requests and tunnels that `hash` and `ip_hash` give an endpoint, times its share of all that run: at 1.25, what is a quarter above the mean goes to the next endpoint on the ring. 0: no bound.",
    ),
    Key {
        shape: Shape::Tables(ENDPOINT, Some("address")),
        ..Key::table(
            "endpoints",
            ENDPOINT,
            "The servers behind it. A string stands for an endpoint with only an address.",
        )
    },
    Key::optional_table(
        "discover",
        DISCOVER,
        "Endpoints that are not in the file but named by DNS (each address of the answer is one of its own), or registered by themselves, beside those of `endpoints`. They come and go; what runs on one that goes is finished.",
    ),
    Key::new(
        "protocol",
        Form::Choice(UpstreamProtocol::NAMES),
        "h1",
        "What endpoints are spoken to in, probes included. `h1`: HTTP/1.1. `h2`: HTTP/2, over TLS by ALPN, in the clear by prior knowledge. `auto`: over TLS what ALPN comes to, in the clear HTTP/1.1. Over HTTP/2 many requests share a connection; one for a switch of protocols (WebSocket) goes there as an extended CONNECT (RFC 8441) if the endpoint offers that, else with `auto` in HTTP/1.1, and with `h2` it is answered with 502 `upgrade_refused`.",
    ),
    Key::table("http2", HTTP2, "HTTP/2 connections to endpoints."),
    Key::optional_table(
        "proxy_protocol",
        SEND_PROXY,
        "Endpoints are told by a PROXY protocol header, before anything else on each connection, whose it is: the client's address and port, as its connection or the header of a proxy in front tells them (X-Forwarded-For changes nothing), and where it connected to. A connection then serves one client's connection only, and is closed soon after that is. Probes say that they are the gateway's own: LOCAL in version 2, UNKNOWN in version 1. Absent: no header.",
    ),
    Key::optional_table(
        "tls",
        UPSTREAM_TLS,
        "Endpoints are spoken to by TLS 1.3 or 1.2, probes included, and must prove who they are. When that fails the client gets 502 `tls_failed`, and log, metrics and API say which way: expired, self_signed, unknown_issuer, wrong_name, refused, not_tls and so on. Absent: in the clear.",
    ),
    Key::table("pool", POOL, "Connections kept for reuse."),
    Key::optional_table(
        "sticky",
        STICKY,
        "Clients come back to the endpoint that they were at: known by one of `cookie`, `learn` and `hash`. Tunnels begin where the session is, and where a route splits, it stays at its side. Absent: each request is balanced by itself.",
    ),
    Key::optional_table(
        "health",
        HEALTH,
        "Probes of each endpoint: one that fails them gets no requests until it passes again, unless that is so of all (then they are not heeded). A name that stands for several addresses is asked at up to four of them at once, and is well if one is. Absent: none is probed.",
    ),
    Key::table(
        "outlier",
        OUTLIER,
        "Endpoints at which requests fail get none for a while, longer each time. A single endpoint always stays.",
    ),
    Key::new(
        "slow_start",
        TIME,
        "0s",
        "Time over which an endpoint that is new, or back after an ejection or failed checks, comes to its full share, beginning with a tenth. Where there is no other, it gets all at once; where keys are hashed, the rest of its keys go elsewhere meanwhile. 0s: it always gets all.",
    ),
    Key::table(
        "breaker",
        BREAKER,
        "When the whole upstream is left alone: requests are answered with 503 `breaker_open` at once. After `open_for` three are let through; if they go well it closes. `outlier.on` says what is a failure.",
    ),
    Key::table(
        "queue",
        QUEUE,
        "Requests that find every endpoint at its `max_connections` wait in line, first come, first served. Who does not fit in, or waits in vain, is answered with 503 `overloaded`.",
    ),
    Key::table(
        "drain",
        DRAIN,
        "How an endpoint leaves that is told to drain, or put into maintenance: it gets nothing new, and what runs there is finished.",
    ),
    Key::optional_table(
        "rebalance",
        REBALANCE,
        "When an endpoint is added, or comes back, and has its full share (`slow_start`), tunnels of those that have more than theirs are asked to go, the newest first, as in a drain: with close code 1012 where frames are known, by the end of the connection otherwise. Clients that come back find the new one by `balance`. None is asked that a session of `sticky` would bring back, or that was opened since; backups take no part. Absent: what is uneven stays so.",
    ),
    Key::table(
        "retry",
        RETRY,
        "When a request is sent to another endpoint. One that was never sent may go anywhere; one that was, only if its method is idempotent or it carries `Idempotency-Key`, and nothing was answered to the client. When it may not, the client gets the answer that there is; when it is, what the last try came to.",
    ),
];

const ENDPOINT: &[Key] = &[
    Key::required(
        "address",
        Form::Endpoint,
        "\"127.0.0.1:3000\"",
        "`HOST:PORT`, `IP:PORT`, `[IPV6]:PORT` or `unix:/PATH`.",
    ),
    Key::new(
        "weight",
        WEIGHT,
        "1",
        "Share of the requests, compared with the others. 0: no new requests, but for those of sessions that `sticky` keeps there.",
    ),
    Key::new(
        "backup",
        Form::Bool,
        "false",
        "Takes requests only when no other endpoint can.",
    ),
    Key::new(
        "max_connections",
        COUNT,
        "0",
        "Requests and tunnels that it takes at the same time, over all workers; more wait as `queue` says. 0: no limit.",
    ),
    Key::optional(
        "zone",
        Form::Name,
        "\"a\"",
        "A label for where it stands, shown beside its state.",
    ),
];

const DISCOVER: &[Key] = &[
    Key::optional(
        "dns",
        Form::HostPort,
        "\"api.internal:8080\"",
        "`HOST:PORT`: each address of the host (A and AAAA records), with this port.",
    ),
    Key::optional(
        "srv",
        Form::ServiceName,
        "\"_http._tcp.api.internal\"",
        "Name of SRV records (RFC 2782): each address of each target with its port and weight. The lowest priority value comes first; all others together are backups, whatever their order among themselves.",
    ),
    Key::optional_table(
        "registry",
        REGISTRY,
        "Services that application servers register with the gateway's API (`POST /api/v1/services`), for as long as they renew that. Those that call themselves `critical` are not used.",
    ),
    Key::new(
        "max_endpoints",
        Form::Integer {
            min: 1,
            max: MAX_DISCOVERED,
        },
        "1000",
        "Endpoints that are used of those discovered; the rest is left out, and told.",
    ),
    Key::new(
        "max_connections",
        COUNT,
        "0",
        "Requests and tunnels that each of them takes at the same time, over all workers. 0: no limit.",
    ),
];

const REGISTRY: &[Key] = &[
    Key::required("service", Form::Name, "\"api\"", "Name of the service."),
    Key::list("tags", Form::Word, "", "Tags that each of them has. Empty: any.").example("[\"production\"]"),
];

const SEND_PROXY: &[Key] = &[Key::required(
    "send",
    Form::Choice(ProxyVersion::NAMES),
    "\"v2\"",
    "Which version: `v1`, a line of text, or `v2`, binary.",
)];

const HTTP2: &[Key] = &[
    Key::new(
        "streams",
        Form::Integer { min: 1, max: 65_535 },
        "100",
        "Requests at once on a connection, where the endpoint does not allow fewer; for more, another connection is opened. A connection holds at most `connection_window` of responses that clients have not taken, `streams` × `send_buffer` of requests, and the heads of its responses.",
    ),
    Key::new(
        "window",
        Form::Size {
            min: 16 * KIB,
            max: H2_LARGEST_WINDOW,
        },
        "128KiB",
        "Bytes of one response that an endpoint may send before the client has taken them.",
    ),
    Key::new(
        "connection_window",
        Form::Size {
            min: 64 * KIB,
            max: H2_LARGEST_WINDOW,
        },
        "16MiB",
        "The same for all responses of a connection together. Below `streams` × `window`, clients that take nothing can hold up the others.",
    ),
    Key::new(
        "send_buffer",
        Form::Size {
            min: 16 * KIB,
            max: 16 * MIB,
        },
        "64KiB",
        "Bytes of one request that wait for the connection, within what the endpoint's windows allow.",
    ),
    Key::new(
        "frame_bytes",
        Form::Size {
            min: 16 * KIB,
            max: 16 * MIB - 1,
        },
        "16KiB",
        "Largest frame taken.",
    ),
    Key::new(
        "ping",
        TIME,
        "0s",
        "Silence of an endpoint after which it is sent a PING while requests run; the connection is given up when the answer takes longer than `ping_timeout`. 0s: none is sent.",
    ),
    Key::new(
        "ping_timeout",
        DEADLINE,
        "20s",
        "Longest wait for the answer to a PING.",
    ),
];

const POOL: &[Key] = &[
    Key::new(
        "idle_per_worker",
        Form::Integer { min: 0, max: 65_535 },
        "64",
        "Idle connections kept for each endpoint by each worker. 0: none are reused.",
    ),
    Key::new(
        "idle_timeout",
        DEADLINE,
        "55s",
        "Age of an idle connection at which it is closed; below what the servers have.",
    ),
    Key::new(
        "max_requests",
        COUNT,
        "0",
        "Requests on one connection. 0: no limit.",
    ),
    Key::new(
        "max_age",
        TIME,
        "0s",
        "Age at which a connection takes no more requests. 0s: none.",
    ),
];

const QUEUE: &[Key] = &[
    Key::new(
        "max",
        Form::Integer {
            min: 0,
            max: 1_000_000,
        },
        "1024",
        "Requests that may wait, over all workers. 0: none waits.",
    ),
    Key::new("timeout", DEADLINE, "5s", "How long a request may wait."),
];

const REBALANCE: &[Key] = &[
    Key::new(
        "rate",
        Form::Integer {
            min: 1,
            max: 1_000_000,
        },
        "10",
        "Tunnels per second that are asked to go, over all endpoints and workers.",
    ),
    Key::new(
        "threshold",
        Form::Ratio,
        "0.2",
        "How far an endpoint may be above its share of the tunnels by weight, as a part of it: at 0.2, who has a fifth more than that keeps them.",
    ),
];

const DRAIN: &[Key] = &[
    Key::new(
        "deadline",
        TIME,
        "0s",
        "When what still runs there is cut, unless whoever drains it says something else. 0s: never.",
    ),
    Key::new(
        "rate",
        COUNT,
        "0",
        "Tunnels per second that are asked to go, over all workers: with close code 1012 where frames are known (`websocket.inspect`), by the end of the connection otherwise. 0: as many as it takes to be done by the deadline, if that is 5s away or more; without a deadline nobody is asked.",
    ),
    Key::new(
        "jitter",
        Form::Ratio,
        "0.5",
        "How much the slices in which tunnels are asked to go vary in size, as a part of it.",
    ),
    Key::new(
        "order",
        Form::Choice(ShedOrder::NAMES),
        "least_active",
        "Whom to ask first: those open for longest, or those silent for longest.",
    ),
];
