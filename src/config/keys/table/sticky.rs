//! Keys of sessions that stay at their endpoints.

use super::TIME;
use crate::config::choices::Choice;
use crate::config::form::Form;
use crate::config::keys::Key;
use crate::config::model::{OnMissing, SameSite, Secure};

pub(super) const STICKY: &[Key] = &[
    Key::optional(
        "cookie",
        Form::CookieName,
        "\"tidegate_app\"",
        "Name of a cookie that the gateway sets and takes off again before endpoints see the request. Its value is signed and shows no address; one that was changed, is too old or comes from elsewhere chooses nothing and is replaced. A cookie of this name that an endpoint sets is left out.",
    ),
    Key::optional_table(
        "learn",
        LEARN,
        "Sessions that the application names itself: the endpoint that answers with a name gets the requests that come with it. Each process learns for itself; a name that it does not know goes where its hash says, which is the same everywhere, and is learned when it is answered.",
    ),
    Key::optional(
        "hash",
        Form::HashKey,
        "\"client_ip\"",
        "Nothing is remembered: requests with this key go to the endpoint that has it on the ring, as with `balance = \"hash\"`, those without it as `balance` says.",
    ),
    Key::new(
        "ttl",
        TIME,
        "24h",
        "How long a cookie is good, and kept by the client (Max-Age); it is made anew when half of that is over, so who comes often enough stays. For `learn`: time without a request after which a session is forgotten. 0s: without end (for cookies, until the browser is closed).",
    ),
    Key::new(
        "on_missing",
        Form::Choice(OnMissing::NAMES),
        "rebalance",
        "What becomes of a session whose endpoint is gone, in maintenance, unwell, ejected or full. `rebalance`: the same request goes to another one, where the session stays. `reject`: 503 `sticky_missing`. An endpoint that drains keeps its sessions until the deadline, one of weight 0 always.",
    ),
    Key::list(
        "keys",
        Form::Secret,
        "",
        "Secrets that sign the cookie: the first signs, all are good, so a new one is put in front of the old one, which goes after `ttl` (on several gateways: first behind it everywhere, then in front). Gateways with the same secret agree on every value. Empty: one that is made once, in the state directory.",
    )
    .example("[\"env:STICKY_KEY\"]"),
    Key::new("path", Form::CookiePath, "/", "Path of the cookie."),
    Key::optional(
        "domain",
        Form::CookieDomain,
        "\"example.com\"",
        "Domain of the cookie. Absent: the host that was asked, without those below it.",
    ),
    Key::new(
        "secure",
        Form::Choice(Secure::NAMES),
        "auto",
        "Whether the cookie is for HTTPS only. `auto`: where the client came by HTTPS, or by the word of a trusted proxy; always with `same_site = \"none\"` and `partitioned`, which browsers take no other way.",
    ),
    Key::new(
        "http_only",
        Form::Bool,
        "true",
        "Keep the cookie from the page's scripts.",
    ),
    Key::new(
        "same_site",
        Form::Choice(SameSite::NAMES),
        "lax",
        "When requests that come from other sites carry the cookie. `none`: always; `off`: the attribute is left out.",
    ),
    Key::new(
        "partitioned",
        Form::Bool,
        "false",
        "A cookie for each site that the application is embedded in (CHIPS).",
    ),
    Key::new(
        "private",
        Form::Bool,
        "true",
        "Add `Cache-Control: private` to answers that the cookie comes with, unless they say `private` or `no-store` themselves: no shared cache is to give one client's place to others. HAProxy calls this `nocache`.",
    ),
];

const LEARN: &[Key] = &[
    Key::optional(
        "cookie",
        Form::CookieName,
        "\"sid\"",
        "The application's cookie. It is passed on, both ways.",
    ),
    Key::optional(
        "header",
        Form::HeaderName,
        "\"mcp-session-id\"",
        "The application's header, the same in requests and responses.",
    ),
    Key::new(
        "max_sessions",
        Form::Integer {
            min: 128,
            max: 100_000_000,
        },
        "100000",
        "Sessions that are known at a time, some 60 bytes each. At least the half of them that was used last always is.",
    ),
];
