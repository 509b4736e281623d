//! Keys of how trouble with endpoints is seen and met.

use super::{COUNT, DEADLINE, MIB, TIME};
use crate::config::choices::Choice;
use crate::config::form::Form;
use crate::config::keys::legacy;
use crate::config::keys::{Key, MapKey};
use crate::config::model::{Cause, HealthKind, InitialHealth};

/// Probes in a row.
const STREAK: Form = Form::Integer { min: 1, max: 1000 };

pub(super) const BREAKER: &[Key] = &[
    Key::new(
        "max_requests",
        COUNT,
        "0",
        "Requests at the same time, over all endpoints and workers; tunnels do not count. More are answered with 503 `overloaded`. 0: no limit.",
    ),
    Key::new(
        "error_rate",
        Form::Ratio,
        "0",
        "Share of failed attempts at which it opens. 0: it never does.",
    ),
    Key::new(
        "min_requests",
        Form::Integer {
            min: 1,
            max: u32::MAX as i64,
        },
        "100",
        "Attempts within `window` below which `error_rate` says nothing.",
    ),
    Key::new("window", DEADLINE, "10s", "Time that `error_rate` is taken over."),
    Key::new(
        "open_for",
        DEADLINE,
        "5s",
        "How long it stays open before requests are let through to see.",
    ),
];

pub(super) const HEALTH: &[Key] = &[
    Key::new(
        "kind",
        Form::Choice(HealthKind::NAMES),
        "http",
        "What passes: an answer as `status` and `body` want it (`http`), a connection (`tcp`), SERVING from the service `grpc.health.v1.Health` (`grpc`, for an upstream that is spoken to in HTTP/2), or a WebSocket handshake that is answered with 101.",
    ),
    Key::new(
        "path",
        Form::Request,
        "/",
        "What is asked for. Its answer may have 1 MiB.",
    )
    .example("\"/health\""),
    Key::new("method", Form::Method, "GET", "Method of the question."),
    Key::optional(
        "host",
        Form::Authority,
        "\"app.example.com\"",
        "The Host of the question. Default: the endpoint's address.",
    ),
    Key::map(
        "headers",
        MapKey::EditedHeader,
        Form::PlainValue,
        "Further headers of the question.",
    )
    .example("{ Authorization = \"Basic aGk6aG8=\" }"),
    Key::optional(
        "service",
        Form::Word,
        "\"shop.v1.Orders\"",
        "Which service a probe of kind grpc asks for. Default: the empty name, which stands for the server as a whole.",
    ),
    Key::new(
        "status",
        Form::StatusSet,
        "200-399",
        "Statuses that pass, as ranges with commas between them.",
    ),
    Key::optional(
        "body",
        Form::TextPattern,
        "\"ready\"",
        "What the body must have: a text, or a regular expression after `~`.",
    ),
    Key::optional(
        "port",
        Form::Integer { min: 1, max: 65_535 },
        "8081",
        "Port that is asked. Default: the endpoint's.",
    ),
    Key::new(
        "interval",
        DEADLINE,
        "1s",
        "From the beginning of one probe to that of the next, at most; an endpoint that closes the connection of its last probe is asked at once.",
    )
    .legacy(&legacy::HEALTH_INTERVAL),
    Key::new(
        "fast_interval",
        DEADLINE,
        "250ms",
        "The same from the first failure until the endpoint is well again. Never longer than `interval`, and than `timeout` while the failure is made sure of.",
    ),
    Key::new(
        "timeout",
        DEADLINE,
        "1s",
        "For a whole probe, connecting included. An endpoint that hangs is out after `interval` + `fall` × `timeout` at the latest.",
    )
    .legacy(&legacy::HEALTH_TIMEOUT),
    Key::new(
        "rise",
        STREAK,
        "2",
        "Passes in a row that bring an endpoint back.",
    ),
    Key::new(
        "fall",
        STREAK,
        "3",
        "Failures in a row that take it out; fewer are a pause that does no harm.",
    ),
    Key::new(
        "jitter",
        Form::Ratio,
        "0.1",
        "Share by which waits are shortened at random, so that probes of many endpoints spread.",
    ),
    Key::new(
        "max_hold",
        TIME,
        "30s",
        "Longest hold. An endpoint that fails again soon after it was back is held: out for 1 second, then 2, 4, … up to this, however many probes pass. A first failure costs nothing, and one doubling is forgiven for each time as long as this that it was well. Where no endpoint is well, requests go to those held that pass. 0s: none is held.",
    ),
    Key::new(
        "initial",
        Form::Choice(InitialHealth::NAMES),
        "probing",
        "What a new endpoint is. `probing`: nothing, until its first probe decides; requests that have no other endpoint wait for that, 1 second at most. `healthy`, `unhealthy`: that, until `fall` or `rise` say otherwise. A reload keeps what is known.",
    ),
    Key::new(
        "share",
        Form::Bool,
        "false",
        "Gateways of a cluster probe for each other: while all is quiet, two of those who ask the same question do, and the others go by what these say. Whatever changes, all of them probe at once and go on until all has been quiet for a while.",
    ),
];

pub(super) const OUTLIER: &[Key] = &[
    Key::new(
        "consecutive_failures",
        COUNT,
        "5",
        "Failures in a row at which an endpoint is ejected, at once. 0: they do not count.",
    ),
    Key::new("window", DEADLINE, "10s", "Time that `error_rate` is taken over."),
    Key::new(
        "error_rate",
        Form::Ratio,
        "0.5",
        "Share of failed requests at which an endpoint is ejected. 0: it does not count.",
    ),
    Key::new(
        "min_requests",
        Form::Integer {
            min: 1,
            max: u32::MAX as i64,
        },
        "20",
        "Requests within `window` below which `error_rate` says nothing.",
    ),
    Key::new(
        "eject",
        DEADLINE,
        "5s",
        "How long the first ejection lasts; each further one twice as long, until the endpoint has been well for a while.",
    )
    .legacy(&legacy::RECOVERY),
    Key::new("max_eject", DEADLINE, "60s", "Longest ejection."),
    Key::new(
        "max_ejected",
        Form::Ratio,
        "0.5",
        "Share of the endpoints that may be out at the same time, rounded down; one of two or more always may. 0: none.",
    ),
    Key::list(
        "on",
        Form::Choice(Cause::NAMES),
        "connect,reset,timeout,invalid,5xx",
        "What is a failure: no connection, one that ended before the answer did, no answer in time, one that makes no sense, or a status. `5xx` leaves out 501 and 505, which speak of the request. `grpc_unavailable` and its like: calls of gRPC that are answered by nothing but this status (the breaker counts it behind messages too).",
    )
    .example("[\"connect\", \"reset\", \"timeout\"]"),
];

pub(super) const RETRY: &[Key] = &[
    Key::new(
        "attempts",
        Form::Integer { min: 1, max: 8 },
        "2",
        "Tries of a request that was sent, the first included. One that could not be sent does not count: it is tried at up to 8 endpoints. 1: never another try.",
    )
    .legacy(&legacy::RETRIES)
    .or_legacy(&legacy::MAX_ATTEMPTS),
    Key::new(
        "budget",
        Form::Ratio,
        "0.2",
        "Share of the requests of the last 10 s that may be repeated; each worker keeps count by itself, and 10 a second always may.",
    ),
    Key::list(
        "on",
        Form::Choice(Cause::NAMES),
        "connect,reset,timeout,502,503,504",
        "After what: no connection (or no byte sent), one that ended before an answer, no answer within `timeouts.response`, one that makes no sense, or a status. Calls of gRPC are POST: for `grpc_unavailable` and its like, which mean an answer that is nothing but this status, set `non_idempotent` too where calls may be made twice. Empty: after nothing.",
    )
    .example("[\"connect\", \"503\"]"),
    Key::new(
        "body",
        Form::Size { min: 0, max: 16 * MIB },
        "64KiB",
        "Request body kept for another try while it is sent. A longer one is sent once.",
    ),
    Key::new(
        "non_idempotent",
        Form::Bool,
        "false",
        "Also repeat methods that are not idempotent, such as POST, without an `Idempotency-Key`.",
    ),
];
