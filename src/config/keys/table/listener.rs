//! Keys of where clients connect.

use super::acme::ACME;
use super::process::ACCESS_LOG;
use super::route::HEADER_EDITS;
use super::tls::TLS;
use super::{COUNT, DEADLINE, H2_LARGEST_WINDOW, KIB, MIB, TIME};
use crate::config::choices::Choice;
use crate::config::form::Form;
use crate::config::keys::{Key, MapKey, Shape};
use crate::config::model::{DotSegments, DoubleSlash, EncodedSlash, Protocol, RequestIdPolicy};

/// A head that passes can be held: one less than the fields a head has room for, with some for the gateway's own.
const MAX_HEADERS: i64 = 1000;

pub(super) const LISTENER: &[Key] = &[
    Key::required(
        "address",
        Form::Listen,
        "\"127.0.0.1:8080\"",
        "Address to listen on: `IP:PORT`, `[IPV6]:PORT` or `unix:/PATH`. Port 0 takes a free one and keeps it over reloads.",
    ),
    Key::list(
        "protocols",
        Form::Choice(Protocol::NAMES),
        "h1",
        "Protocols spoken here without TLS: h1 is HTTP/1.1, h2c is HTTP/2 by prior knowledge on the same port.",
    ),
    Key::optional("mode", Form::Mode, "\"0660\"", "Permission bits of a unix socket. Default: by the umask."),
    Key::new(
        "backlog",
        Form::Integer { min: 1, max: 65_535 },
        "4096",
        "Connections that the kernel keeps waiting; it caps this at net.core.somaxconn.",
    ),
    Key::list(
        "trusted_proxies",
        Form::Cidr,
        "",
        "Networks whose X-Forwarded-* and Forwarded headers are believed, walked from right to left. Default: nobody's.",
    )
    .example("[\"10.0.0.0/8\"]"),
    Key::optional_table(
        "proxy_protocol",
        PROXY_PROTOCOL,
        "Every connection begins with a PROXY protocol header, version 1 or 2, in which a proxy in front says whose it is; that address counts as the client's from then on, and HTTPS as how it came if the proxy says that it spoke TLS to it (version 2). Connections without it, or from peers that are not trusted, are closed unserved. Absent: none is expected, and one that comes is refused as any request that makes no sense.",
    ),
    Key::table("limits", LIMITS, "Limits for clients."),
    Key::table(
        "path_policy",
        PATH_POLICY,
        "The one form of a path that is matched and forwarded.",
    ),
    Key::new(
        "request_id",
        Form::Choice(RequestIdPolicy::NAMES),
        "if_trusted",
        "X-Request-Id: always a new one, the client's if the client is a trusted proxy, the client's whoever it is, or none.",
    ),
    Key::map("error_pages", MapKey::Status, Form::Path, "Pages to send in place of the built-in ones, by status.")
        .example("{ 502 = \"errors/502.html\" }"),
    Key::new(
        "error_header",
        Form::Bool,
        "true",
        "Send X-Tidegate-Error with the token of a request that the gateway failed.",
    ),
    Key::table("forwarded", FORWARDED, "What endpoints are told of the client."),
    Key::optional_table("access_log", ACCESS_LOG, "Access log of this listener. Absent: that of `log.access`."),
    Key::table("request_headers", HEADER_EDITS, "Changes to every request, after those of the route."),
    Key::table("response_headers", HEADER_EDITS, "Changes to every response, after those of the route."),
    Key::optional_table("tls", TLS, "Serve HTTPS. Absent: clients come in the clear, unless there is `acme`.").along_with("acme"),
    Key::optional_table(
        "acme",
        ACME,
        "Serve HTTPS with certificates that the gateway orders from an authority and renews itself (RFC 8555). Account, keys and certificates are kept in `runtime.state_dir`. Until a name's first certificate is there, clients that ask for it are refused as for a name of no certificate; one that can't be renewed serves on.",
    ),
    Key {
        shape: Shape::Tables(PASSTHROUGH, None),
        ..Key::optional_table(
            "passthrough",
            PASSTHROUGH,
            "TLS that is not opened here: by the name that a client asks for (SNI), all of its connection goes to an endpoint, which shows its own certificate. Other names are served by `tls`; without that they are refused, and nothing but TLS is spoken here.",
        )
    },
    Key::new(
        "redirect_https",
        Form::Bool,
        "false",
        "On a listener without TLS: answer every request with 308 to the same over HTTPS, on its usual port. What a trusted proxy received over HTTPS, by X-Forwarded-Proto or by the PROXY protocol, is served.",
    ),
    Key::optional(
        "hsts",
        TIME,
        "\"180d\"",
        "On a TLS listener: tell browsers, in every response, to come by HTTPS only for so long (Strict-Transport-Security). 0s: take back what they were told.",
    ),
];

const PASSTHROUGH: &[Key] = &[
    Key::required(
        "sni",
        Form::Host,
        "\"db.example.com\"",
        "The name: the exact one first, then the longest `*.example.com`, which stands for one or more labels. No regex.",
    ),
    Key::required(
        "upstream",
        Form::Name,
        "\"app\"",
        "Where its connections go: to an endpoint that is well, picked as for requests, and to another one when it can't be reached. It has no `tls`: the client's own TLS goes there.",
    ),
    Key::new("connect", TIME, "1s", "To connect to an endpoint. 0s: no bound."),
    Key::new(
        "idle",
        TIME,
        "1h",
        "Longest silence in both directions; then the connection is closed. 0s: no bound.",
    ),
    Key::new(
        "max_age",
        TIME,
        "0s",
        "Longest life of a connection, busy or not. 0s: no bound.",
    ),
];

const PROXY_PROTOCOL: &[Key] = &[
    Key::required_list(
        "trusted",
        Form::Cidr,
        "[\"10.0.0.0/8\"]",
        "Networks of the proxies; everybody else is refused. Peers on a unix socket count as 127.0.0.1.",
    ),
    Key::new(
        "timeout",
        DEADLINE,
        "5s",
        "From the connection to the last byte of the header; then it is closed.",
    ),
];

const LIMITS: &[Key] = &[
    Key::new(
        "header_bytes",
        Form::Size {
            min: 256,
            max: 16 * MIB,
        },
        "32KiB",
        "A request head; beyond it 431.",
    ),
    Key::new(
        "headers",
        Form::Integer {
            min: 1,
            max: MAX_HEADERS,
        },
        "100",
        "Header fields in a head; beyond it 431.",
    ),
    Key::new(
        "uri_bytes",
        Form::Size {
            min: 16,
            max: 16 * MIB,
        },
        "8KiB",
        "The request target; beyond it 414. At most `header_bytes`.",
    ),
    Key::new(
        "body",
        Form::Size {
            min: 0,
            max: i64::MAX as u64,
        },
        "10MB",
        "A request body; beyond it 413. 0: no limit.",
    ),
    Key::new(
        "header_timeout",
        DEADLINE,
        "10s",
        "From the first byte of a head to its last; then 408.",
    ),
    Key::new(
        "body_idle",
        DEADLINE,
        "30s",
        "Longest silence while a request body is awaited; then 408.",
    ),
    Key::new(
        "send_timeout",
        DEADLINE,
        "60s",
        "Longest time in which a client takes nothing of its response. Meanwhile the gateway holds 256 KiB of it at most (and 64 KiB over TLS); once a worker holds 64 MiB so, each connection adds 4 KiB and no more.",
    ),
    Key::new(
        "keep_alive",
        DEADLINE,
        "75s",
        "Idle time between requests; then the connection is closed.",
    ),
    Key::new(
        "requests_per_connection",
        COUNT,
        "0",
        "Requests on one connection. 0: no limit.",
    ),
    Key::new(
        "min_rate",
        Form::Size {
            min: 0,
            max: i64::MAX as u64,
        },
        "100B",
        "Bytes per second, measured over `body_idle` or `send_timeout`, below which a client that sends a body or takes a response is cut. 0: no limit.",
    ),
    Key::new(
        "handshake_timeout",
        DEADLINE,
        "10s",
        "From accepting a TLS connection to the end of its handshake; then it is closed.",
    ),
    Key::new(
        "connections",
        COUNT,
        "0",
        "Connections of this listener; beyond it accepting waits. 0: no limit.",
    ),
    Key::new(
        "connections_per_ip",
        COUNT,
        "0",
        "Connections of one client address (a /64 for IPv6); beyond it they are closed. 0: no limit.",
    ),
    Key::new(
        "tunnels",
        COUNT,
        "0",
        "Tunnels open at the same time that came by this listener, over HTTP/1.1 and HTTP/2; one more is answered with 503 `overloaded`. Connections of `passthrough` count too; one more of them gets the TLS alert `internal_error`. 0: no limit.",
    ),
    Key::new(
        "max_connection_age",
        TIME,
        "0s",
        "Age at which a connection is closed after the request it is at; in HTTP/2 after those that are running. 0s: none.",
    ),
    Key::new(
        "h2_streams",
        Form::Integer { min: 1, max: 65_535 },
        "128",
        "Requests at once on an HTTP/2 connection. A connection holds at most `h2_connection_window` of bodies from the client, `h2_streams` × `h2_send_buffer` of responses, the heads of its requests, and what `retry.body` has kept of bodies that may have to be sent again.",
    ),
    Key::new(
        "h2_window",
        Form::Size {
            min: 16 * KIB,
            max: H2_LARGEST_WINDOW,
        },
        "256KiB",
        "Bytes of one HTTP/2 request body that a client may send before they are taken by the endpoint.",
    ),
    Key::new(
        "h2_connection_window",
        Form::Size {
            min: 64 * KIB,
            max: H2_LARGEST_WINDOW,
        },
        "1MiB",
        "The same for all requests of an HTTP/2 connection together.",
    ),
    Key::new(
        "h2_send_buffer",
        Form::Size {
            min: 16 * KIB,
            max: 16 * MIB,
        },
        "64KiB",
        "Bytes of one HTTP/2 response that wait for the connection, within what the client's windows allow.",
    ),
    Key::new(
        "h2_frame_bytes",
        Form::Size {
            min: 16 * KIB,
            max: 16 * MIB - 1,
        },
        "16KiB",
        "Largest HTTP/2 frame taken. The bound of a head, SETTINGS_MAX_HEADER_LIST_SIZE, follows from `header_bytes` and `headers`.",
    ),
    Key::new(
        "h2_ping",
        TIME,
        "0s",
        "Silence of an HTTP/2 client after which it is sent a PING; the connection is closed when the answer takes longer than `h2_ping_timeout`. 0s: none is sent.",
    ),
    Key::new(
        "h2_ping_timeout",
        DEADLINE,
        "20s",
        "Longest wait for the answer to a PING.",
    ),
];

const PATH_POLICY: &[Key] = &[
    Key::new(
        "dot_segments",
        Form::Choice(DotSegments::NAMES),
        "resolve",
        "`/./` and `/../`.",
    ),
    Key::new("double_slash", Form::Choice(DoubleSlash::NAMES), "merge", "`//`."),
    Key::new(
        "encoded_slash",
        Form::Choice(EncodedSlash::NAMES),
        "reject",
        "`%2F`.",
    ),
];

const FORWARDED: &[Key] = &[
    Key::new(
        "x_forwarded",
        Form::Bool,
        "true",
        "Send X-Forwarded-For, -Proto, -Host, -Port and X-Real-IP; an untrusted client's own are replaced.",
    ),
    Key::new("forwarded", Form::Bool, "false", "Send Forwarded (RFC 7239)."),
    Key::new("via", Form::Bool, "false", "Send Via."),
];
