//! Keys of which requests go where, and what is changed on the way.

use super::upstream::WEIGHT;
use super::{COUNT, TIME};
use crate::config::form::Form;
use crate::config::keys::legacy;
use crate::config::keys::{Key, MapKey, Shape};

pub(super) const HEADER_EDITS: &[Key] = &[
    Key::map(
        "set",
        MapKey::EditedHeader,
        Form::HeaderValue,
        "Headers to replace. `${variables}` are filled in: client_ip, request_id, host, path, query, uri, method, scheme, listener, route, upstream, header.NAME, cookie.NAME, arg.NAME, and the groups of a regex as path.GROUP and host.GROUP; `$$` is a dollar sign.",
    )
    .example("{ X-Client = \"${client_ip}\" }"),
    Key::map(
        "add",
        MapKey::EditedHeader,
        Form::HeaderValue,
        "Headers to add to those there are.",
    )
    .example("{ X-Gateway = \"tidegate\" }"),
    Key::list(
        "remove",
        Form::HeaderName,
        "",
        "Headers to leave out; done before `set` and `add`.",
    )
    .example("[\"X-Powered-By\"]"),
];

pub(super) const ROUTE: &[Key] = &[
    Key::optional(
        "name",
        Form::Name,
        "\"app\"",
        "Name in logs, metrics and the API. Default: `route-N` by position.",
    ),
    Key::list(
        "hosts",
        Form::Host,
        "",
        "Hosts: `example.com`, `*.example.com` (any depth), `~REGEX`. Empty: every host.",
    )
    .example("[\"example.com\", \"*.example.com\"]"),
    Key::list(
        "paths",
        Form::PathPattern,
        "",
        "Paths: `/prefix` by whole segments, `=/exact`, `~REGEX`. Empty: every path.",
    )
    .example("[\"/api\", \"=/favicon.ico\"]"),
    Key::list("methods", Form::Method, "", "Methods. Empty: every method.").example("[\"GET\", \"HEAD\"]"),
    Key::map(
        "headers",
        MapKey::Header,
        Form::ValuePattern,
        "Conditions on headers, by name: `value`, `~REGEX`, `*` (present), `!` (absent).",
    )
    .example("{ X-Beta = \"yes\" }"),
    Key::map(
        "query",
        MapKey::Parameter,
        Form::ValuePattern,
        "Conditions on query parameters.",
    )
    .example("{ version = \"2\" }"),
    Key::map(
        "cookies",
        MapKey::Cookie,
        Form::ValuePattern,
        "Conditions on cookies.",
    )
    .example("{ beta = \"*\" }"),
    Key::list(
        "client_ip",
        Form::Cidr,
        "",
        "Networks of the client. Empty: every client.",
    )
    .example("[\"10.0.0.0/8\"]"),
    Key::list("listeners", Form::Name, "", "Listeners. Empty: every listener.").example("[\"web\"]"),
    Key::new(
        "priority",
        Form::Integer {
            min: i32::MIN as i64,
            max: i32::MAX as i64,
        },
        "0",
        "Higher is tried first, before anything else is compared.",
    ),
    Key::optional(
        "upstream",
        Form::Name,
        "\"app\"",
        "Action: forward to this upstream. Exactly one of `upstream`, `split`, `redirect`, `respond` is written.",
    ),
    Key {
        shape: Shape::Map(MapKey::Upstream, WEIGHT),
        ..Key::optional(
            "split",
            WEIGHT,
            "{ app = 95, canary = 5 }",
            "Action: forward to these upstreams by weight.",
        )
    },
    Key::optional_table("redirect", REDIRECT, "Action: send the client elsewhere."),
    Key::optional_table("respond", RESPOND, "Action: answer at once."),
    Key::optional(
        "strip_prefix",
        Form::Prefix,
        "\"/api\"",
        "Taken off the path before it is forwarded; Location, Refresh and cookie paths get it back.",
    ),
    Key::optional(
        "add_prefix",
        Form::Prefix,
        "\"/v2\"",
        "Put before the path, after `strip_prefix` and `rewrite`.",
    ),
    Key::optional_table(
        "rewrite",
        REWRITE,
        "Change of the path by a regular expression, after `strip_prefix`.",
    ),
    Key::new(
        "host",
        Form::HostHeader,
        "preserve",
        "The Host that the endpoint sees: `preserve` the client's, the `endpoint`'s address, or a name.",
    ),
    Key::table("request_headers", HEADER_EDITS, "Changes to the request."),
    Key::table("response_headers", HEADER_EDITS, "Changes to the response."),
    Key::table(
        "timeouts",
        TIMEOUTS,
        "Deadlines of the endpoint's side. 0s: none.",
    ),
    Key::table(
        "websocket",
        WEBSOCKET,
        "Tunnels: WebSockets and the other protocols that `upgrades` lets pass. 0s: no bound.",
    ),
    Key::optional(
        "body_limit",
        Form::Size {
            min: 0,
            max: i64::MAX as u64,
        },
        "\"1GB\"",
        "Largest request body here, in place of the listener's `limits.body`. 0: no limit.",
    ),
    Key::list(
        "upgrades",
        Form::Upgrade,
        "",
        "Protocols that `Upgrade` may switch to here, besides websocket.",
    )
    .example("[\"custom/1\"]"),
];

const REDIRECT: &[Key] = &[
    Key::required(
        "to",
        Form::Target,
        "\"https://${host}${uri}\"",
        "Where to. `${variables}` are filled in, as in headers.",
    ),
    Key::new(
        "status",
        Form::Integer { min: 301, max: 308 },
        "308",
        "301, 302, 303, 307 or 308; the last two keep method and body.",
    ),
];

const RESPOND: &[Key] = &[
    Key::new("status", Form::Integer { min: 200, max: 599 }, "200", "Status."),
    Key::new(
        "body",
        Form::Body,
        "",
        "Body. `${variables}` are filled in, as in headers.",
    ),
    Key::map(
        "headers",
        MapKey::EditedHeader,
        Form::HeaderValue,
        "Headers; Content-Type is text/plain unless given.",
    )
    .example("{ Content-Type = \"application/json\" }"),
];

const REWRITE: &[Key] = &[
    Key::required(
        "regex",
        Form::Regex,
        "\"^/old/(.*)$\"",
        "What is replaced in the path.",
    ),
    Key::required(
        "to",
        Form::Target,
        "\"/new/${1}\"",
        "What replaces it. `${1}` is the first group, `${path.NAME}` a named one. A `?` begins a query, to which that of the request is added.",
    ),
];

const TIMEOUTS: &[Key] = &[
    Key::new("connect", TIME, "1s", "To connect to an endpoint."),
    Key::new(
        "response",
        TIME,
        "30s",
        "From the request sent to the response's head, for each attempt.",
    )
    .legacy(&legacy::TIMEOUT),
    Key::new(
        "idle",
        TIME,
        "60s",
        "Longest silence in a response body. Tunnels have their own: `websocket.idle`.",
    ),
    Key::new(
        "total",
        TIME,
        "0s",
        "From the request's head to the last byte, all attempts together.",
    ),
];

const WEBSOCKET: &[Key] = &[
    Key::new(
        "idle",
        TIME,
        "1h",
        "Longest silence in both directions; then the tunnel is closed.",
    ),
    Key::new("max_age", TIME, "0s", "Longest life of a tunnel, busy or not."),
    Key::new(
        "client_idle",
        TIME,
        "0s",
        "Longest silence of the client, however much the endpoint sends.",
    ),
    Key::new(
        "endpoint_idle",
        TIME,
        "0s",
        "Longest silence of the endpoint, however much the client sends.",
    ),
    Key::new(
        "handshake_timeout",
        TIME,
        "10s",
        "From the handshake sent to the endpoint's answer, in place of `timeouts.response`; then 504 `response_timeout`.",
    ),
    Key::new(
        "accept_rate",
        COUNT,
        "0",
        "Handshakes per second that go to endpoints, evenly spread. One more waits, up to a second; if its turn is further away it is answered with 503 `overloaded` and a Retry-After. 0: any number.",
    ),
    Key::new(
        "connections",
        COUNT,
        "0",
        "Tunnels of the route open at the same time; one more is answered with 503 `overloaded`. 0: no limit.",
    ),
    Key::new(
        "connections_per_ip",
        COUNT,
        "0",
        "Those of one client address (a /64 for IPv6); one more is answered with 429 `rate_limited`. 0: no limit.",
    ),
    Key::list(
        "origins",
        Form::Origin,
        "",
        "Pages that may open WebSockets here, by their origin; others are answered with 403 `denied`. A client that sends no Origin is no page, and let in. Empty: all.",
    )
    .example("[\"https://app.example.com\", \"https://*.example.com\"]"),
    Key::new(
        "inspect",
        Form::Bool,
        "false",
        "Frames of WebSockets are looked at, their payloads are not: messages are counted, close codes noted, and when the gateway ends the tunnel it says so in a close frame. Implied by the four keys that follow.",
    ),
    Key::new(
        "ping",
        TIME,
        "0s",
        "A client that is silent for so long is sent a ping, between the frames of the endpoint; one that is silent for as long again is taken for gone. Its answer goes on to the endpoint, to which it is a pong that nobody asked for (RFC 6455 allows them). 0s: none.",
    ),
    Key::new(
        "max_message",
        Form::Size {
            min: 0,
            max: i64::MAX as u64,
        },
        "0",
        "Largest message, all its frames together, as sent (compressed, where the peers agreed on that). A larger one ends the tunnel with 1009 before it is passed on beyond that. 0: no limit.",
    ),
    Key::new(
        "message_rate",
        COUNT,
        "0",
        "Messages per second of a client, a second's worth of them at once; more end the tunnel with 1008. 0: any number.",
    ),
    Key::new(
        "byte_rate",
        Form::Size {
            min: 0,
            max: i64::MAX as u64,
        },
        "0",
        "Bytes of messages per second of a client, a second's worth of them at once; more end the tunnel with 1008. 0: any number.",
    ),
    Key::new(
        "log_open",
        Form::Bool,
        "false",
        "An access record when the tunnel opens, too; `ended` says `open` there. The one at its end is always written.",
    ),
];
