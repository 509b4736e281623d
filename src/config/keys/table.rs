//! The table of keys. Texts here are what operators read in the reference file, the docs, and their editors.

use super::legacy;
use super::{Key, MapKey, Presence, Shape};
use crate::config::choices::Choice;
use crate::config::form::Form;
use crate::config::model::{
    AcmeChallenge, AcmeKey, AddressFamily, Alpn, Balance, Cause, ClientAuthMode, DotSegments, DoubleSlash,
    EncodedSlash, HealthKind, InitialHealth, LogFormat, LogLevel, Protocol, ProxyVersion, RequestIdPolicy,
    Role, TLS_GROUPS, TLS_SUITES, TlsPolicy, UnknownName,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// RFC 9113 section 6.9.1.
const H2_LARGEST_WINDOW: u64 = i32::MAX as u64;
/// Where zero means "no limit" and nothing else bounds the number.
const COUNT: Form = Form::Integer {
    min: 0,
    max: u32::MAX as i64,
};
const WEIGHT: Form = Form::Integer {
    min: 0,
    max: 1_000_000,
};
/// Probes in a row.
const STREAK: Form = Form::Integer { min: 1, max: 1000 };
const TIME: Form = Form::Duration { zero: true };
const DEADLINE: Form = Form::Duration { zero: false };
/// A head that passes can be held: one less than the fields a head has room for, with some for the gateway's own.
const MAX_HEADERS: i64 = 1000;

/// As many as metrics tell apart.
const MAX_DISCOVERED: i64 = 4096;

/// A whole configuration.
pub const ROOT: &[Key] = &[
    Key::list(
        "include",
        Form::Glob,
        "",
        "Further files, read after this one in the order of their names. Paths start from the directory of this file; `*` and `?` stand for parts of a name, not for a leading dot. Routes are appended; a table or key that is written twice is an error.",
    )
    .example("[\"conf.d/*.toml\"]"),
    Key::table("runtime", RUNTIME, "The process."),
    Key::table("log", LOG, "Logs. The application log goes to standard error."),
    Key::table("dns", DNS, "Names of endpoints are resolved again when their answers expire. The last good answer stays in use when a look-up fails or finds nothing."),
    Key {
        shape: Shape::Named(LISTENER, "web"),
        ..Key::table("listeners", LISTENER, "Where clients connect, by name.")
    },
    Key {
        shape: Shape::Tables(ROUTE, None),
        ..Key::table(
            "routes",
            ROUTE,
            "Which requests go where. The most specific route wins: priority, then host (exact, wildcard, regex, any), then path (exact, longest prefix, regex, any), then the number of further conditions, then order.",
        )
    },
    Key {
        shape: Shape::Named(UPSTREAM, "app"),
        ..Key::table("upstreams", UPSTREAM, "Groups of endpoints that requests are spread over, by name.")
    },
    Key::optional_table("admin", ADMIN, "The admin API. Absent: off."),
];

const RUNTIME: &[Key] = &[
    Key::new(
        "workers",
        Form::Workers,
        "auto",
        "Single-threaded workers; `auto` is one for each usable core, counting affinity and the cgroup's quota.",
    )
    .legacy(&legacy::WORKERS)
    .restart(),
    Key::new(
        "drain_delay",
        TIME,
        "0s",
        "How long readiness fails, on shutdown, before listeners stop: time for load balancers to notice.",
    ),
    Key::new("drain_timeout", TIME, "30s", "How long requests and tunnels may take to finish on shutdown."),
    Key::optional(
        "state_dir",
        Form::Path,
        "\"/var/lib/tidegate\"",
        "Where state and the control socket live. Default: /var/lib/tidegate if that can be written, else below the user's state directory.",
    )
    .restart(),
    Key::optional("user", Form::Word, "\"tidegate\"", "User to become after binding.").restart(),
    Key::optional("group", Form::Word, "\"tidegate\"", "Group to become after binding. Default: the user's.")
        .restart(),
    Key::optional("pid_file", Form::Path, "\"/run/tidegate.pid\"", "File to write the process id to.").restart(),
    Key::new(
        "max_connections",
        COUNT,
        "100000",
        "Client connections over all listeners; beyond it accepting waits. 0: no limit.",
    )
    .legacy(&legacy::MAX_CONNECTIONS),
    Key::new(
        "max_handshakes",
        COUNT,
        "1024",
        "TLS handshakes in progress on one worker, from a whole ClientHello on; beyond it they wait their turn, within `limits.handshake_timeout`. 0: no limit.",
    ),
];

const LOG: &[Key] = &[
    Key::new(
        "level",
        Form::Choice(LogLevel::NAMES),
        "info",
        "Least severity that is written.",
    ),
    Key::new(
        "format",
        Form::Choice(LogFormat::NAMES),
        "text",
        "Form of the application log.",
    ),
    Key::optional_table(
        "access",
        ACCESS_LOG,
        "One line per request, for every listener without `access_log` of its own. Absent: none.",
    ),
];

const ACCESS_LOG: &[Key] = &[
    Key::new("off", Form::Bool, "false", "Write nothing."),
    Key::new(
        "path",
        Form::Path,
        "-",
        "File to append to; `-` is standard output.",
    ),
    Key::new(
        "format",
        Form::AccessFormat,
        "combined",
        "`combined`, `json`, or an nginx log_format string with $variables.",
    ),
    Key::new(
        "sample",
        Form::Ratio,
        "1.0",
        "Share of the requests that is written. Failed ones (status 500 and above, or with an error token) always are.",
    ),
    Key::list(
        "redact_query",
        Form::Word,
        "access_token,api_key,password,secret,token",
        "Query parameters whose values are written as `***`.",
    ),
];

const DNS: &[Key] = &[
    Key::list(
        "servers",
        Form::NameServer,
        "",
        "Name servers to ask, in place of those of /etc/resolv.conf; names are then taken as they stand, without its search list.",
    )
    .example("[\"10.0.0.2\", \"[fd00::2]:5353\"]"),
    Key::new(
        "hosts_file",
        Form::Path,
        "/etc/hosts",
        "Names that are answered without asking anybody. Looked at again whenever it changes.",
    ),
    Key::new(
        "family",
        Form::Choice(AddressFamily::NAMES),
        "any",
        "Which addresses of a name are used.",
    ),
    Key::new(
        "min_ttl",
        DEADLINE,
        "1s",
        "Answers are kept at least this long, even if they ask for less; also those that there is nothing.",
    ),
    Key::new("max_ttl", DEADLINE, "60s", "Answers are kept at most this long."),
    Key::new(
        "timeout",
        DEADLINE,
        "5s",
        "Longest wait for an answer, all servers together. The last good answer stays in use while there is none.",
    ),
];

const LISTENER: &[Key] = &[
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
        "Every connection begins with a PROXY protocol header, version 1 or 2, in which a proxy in front says whose it is; that address counts as the client's from then on. Connections without it, or from peers that are not trusted, are closed unserved. Absent: none is expected, and one that comes is refused as any request that makes no sense.",
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
        "On a listener without TLS: answer every request with 308 to the same over HTTPS, on its usual port. What a trusted proxy received over HTTPS is served.",
    ),
    Key::optional(
        "hsts",
        TIME,
        "\"180d\"",
        "On a TLS listener: tell browsers, in every response, to come by HTTPS only for so long (Strict-Transport-Security). 0s: take back what they were told.",
    ),
];

const ACME: &[Key] = &[
    Key::new(
        "directory",
        Form::Word,
        "https://acme-v02.api.letsencrypt.org/directory",
        "URL of the authority's directory. By using it you agree to its terms of service.",
    ),
    Key::optional(
        "email",
        Form::Word,
        "\"ops@example.com\"",
        "Where the authority may write to. Another address is another account.",
    ),
    Key::new(
        "challenge",
        Form::Choice(AcmeChallenge::NAMES),
        "tls-alpn-01",
        "How the authority sees that the names are ours: it comes to port 443 of each name (`tls-alpn-01`, answered by every TLS listener), or to port 80 (`http-01`, answered by every listener before its routes and redirects).",
    ),
    Key::list(
        "names",
        Form::Word,
        "",
        "Names to get certificates for. Empty: the exact `hosts` of the routes of this listener, but for those that its own `tls.certificates` serve.",
    )
    .example("[\"example.com\", \"www.example.com\"]"),
    Key::new(
        "single_certificate",
        Form::Bool,
        "false",
        "One certificate for all names, at most 100. Otherwise each name has its own, so that one that the authority can't reach does not hold up the others.",
    ),
    Key::optional_table(
        "eab",
        EAB,
        "Binds the account to one that you have with the authority, where it asks for that (external account binding).",
    ),
    Key::optional(
        "profile",
        Form::Word,
        "\"shortlived\"",
        "Kind of certificate to ask for, where the authority has several.",
    ),
    Key::optional(
        "ca",
        Form::Path,
        "\"certs/acme-root.pem\"",
        "Roots by which to know the authority's own server, in PEM. Absent: those of the system.",
    ),
    Key::new(
        "key_type",
        Form::Choice(AcmeKey::NAMES),
        "p256",
        "Kind of key; a change counts from the next certificate on.",
    ),
    Key::optional(
        "renew_before",
        DEADLINE,
        "\"30d\"",
        "Renew when no more than this is left. Absent: when the authority suggests it (RFC 9773), else when a third of the lifetime is left; both at a random moment of some span.",
    ),
    Key::new(
        "retry",
        DEADLINE,
        "1m",
        "First wait after a failure; it triples with each further one, up to 6 hours. What the authority says of when to come again is heeded.",
    ),
];

const EAB: &[Key] = &[
    Key::required(
        "kid",
        Form::Word,
        "\"kid-1\"",
        "Key identifier that the authority gave you.",
    ),
    Key::required(
        "key",
        Form::Secret,
        "\"env:ACME_EAB_KEY\"",
        "HMAC key that it gave you, in base64url.",
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

const TLS: &[Key] = &[
    Key {
        shape: Shape::Tables(CERTIFICATE, None),
        ..Key::table(
            "certificates",
            CERTIFICATE,
            "Certificates with their keys, chosen by the name that a client asks for (SNI): the exact name first, then `*.` for one label. Of several for one name a client gets ECDSA before RSA, as far as it can. The files are watched, and new ones served without a break.",
        )
    },
    Key::new(
        "default",
        Form::Choice(UnknownName::NAMES),
        "reject",
        "Clients that ask for no name, or for one of no certificate: refuse them, or serve them with the first certificate.",
    ),
    Key::new(
        "policy",
        Form::Choice(TlsPolicy::NAMES),
        "intermediate",
        "`modern` speaks TLS 1.3 only, `intermediate` TLS 1.2 as well.",
    ),
    Key::list(
        "ciphers",
        Form::Choice(&TLS_SUITES),
        "",
        "Cipher suites by their registered names. Empty: all of the policy, none of which is weak.",
    )
    .example("[\"TLS_AES_128_GCM_SHA256\"]"),
    Key::list(
        "groups",
        Form::Choice(&TLS_GROUPS),
        "",
        "Key-exchange groups, preferred ones first. Empty: X25519MLKEM768 (safe from later quantum computers), X25519, secp256r1, secp384r1.",
    )
    .example("[\"X25519\", \"secp256r1\"]"),
    Key::list(
        "alpn",
        Form::Choice(Alpn::NAMES),
        "h2,http/1.1",
        "Protocols that clients may agree on, preferred ones first; clients that offer none speak HTTP/1.1. `protocols` is for listeners without TLS.",
    ),
    Key::optional_table("client_auth", CLIENT_AUTH, "Certificates of clients. Absent: none is asked for."),
    Key {
        shape: Shape::Tables(NAMED_CLIENT_AUTH, None),
        ..Key::table(
            "client_auth_by_name",
            NAMED_CLIENT_AUTH,
            "Certificates of clients, for certain names in place of `client_auth`. A connection serves requests only for hosts with the terms that it was made under (else 421), so neither Host nor a resumed session leads around them.",
        )
    },
    Key::new(
        "session_tickets",
        Form::Bool,
        "true",
        "Let clients resume sessions, at any worker and over reloads. The keys change every 6 hours.",
    ),
];

const CERTIFICATE: &[Key] = &[
    Key::required(
        "cert",
        Form::Path,
        "\"certs/site.pem\"",
        "The certificate and those that lead to its issuer, in PEM, its own first.",
    ),
    Key::required(
        "key",
        Form::Path,
        "\"certs/site.key\"",
        "Its private key, in PEM: PKCS#8, PKCS#1 or SEC1, not encrypted.",
    ),
];

const CLIENT_AUTH: &[Key] = &[CLIENT_AUTH_MODE, CLIENT_AUTH_CA, CLIENT_AUTH_CRL];

const NAMED_CLIENT_AUTH: &[Key] = &[
    Key {
        presence: Presence::Required,
        ..Key::list(
            "names",
            Form::Word,
            "",
            "Names that clients ask for: `admin.example.com`, or `*.example.com` for one label.",
        )
        .example("[\"admin.example.com\"]")
    },
    CLIENT_AUTH_MODE,
    CLIENT_AUTH_CA,
    CLIENT_AUTH_CRL,
];

const CLIENT_AUTH_MODE: Key = Key::new(
    "mode",
    Form::Choice(ClientAuthMode::NAMES),
    "required",
    "Whether a client must show a certificate, may, or is not asked. One that is shown must be good.",
);
const CLIENT_AUTH_CA: Key = Key::optional(
    "ca",
    Form::Path,
    "\"certs/clients.pem\"",
    "The authorities that issue certificates to clients, in PEM.",
);
const CLIENT_AUTH_CRL: Key = Key::list(
    "crl",
    Form::Path,
    "",
    "Lists of certificates that were revoked, in PEM. With any, each client's issuer must have one that has not run out.",
)
.example("[\"certs/clients.crl\"]");

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
        "Longest time in which a client takes nothing of its response.",
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
        "max_connection_age",
        TIME,
        "0s",
        "Age at which a connection is closed after the request it is at; in HTTP/2 after those that are running. 0s: none.",
    ),
    Key::new(
        "h2_streams",
        Form::Integer { min: 1, max: 65_535 },
        "128",
        "Requests at once on an HTTP/2 connection. A connection holds at most `h2_connection_window` of bodies from the client, `h2_streams` × `h2_send_buffer` of responses, and the heads of its requests.",
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

const HEADER_EDITS: &[Key] = &[
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

const ROUTE: &[Key] = &[
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
];

const UPSTREAM: &[Key] = &[
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
        "Endpoints that DNS names: each address of the answer is one of its own, beside those of `endpoints`. They come and go with the answers; what runs on one that goes is finished.",
    ),
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
        "Share of the requests, compared with the others. 0: no new requests.",
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
    Key::new(
        "max_endpoints",
        Form::Integer {
            min: 1,
            max: MAX_DISCOVERED,
        },
        "1000",
        "Endpoints that are used of one answer; the rest is left out, and told.",
    ),
    Key::new(
        "max_connections",
        COUNT,
        "0",
        "Requests and tunnels that each of them takes at the same time, over all workers. 0: no limit.",
    ),
];

const UPSTREAM_TLS: &[Key] = &[
    Key::optional(
        "server_name",
        Form::Word,
        "\"api.internal\"",
        "Name, or IP address, that certificates must have; a name is also asked for (SNI). Default: the host in the endpoint's address, or in `discover.dns`.",
    ),
    Key::optional(
        "ca",
        Form::Path,
        "\"ca.pem\"",
        "Certificates to trust, in PEM; a server's own may be among them. Default: those that the system trusts.",
    ),
    Key::optional(
        "cert",
        Form::Path,
        "\"client.pem\"",
        "Certificate chain that the gateway shows, in PEM. With `key`.",
    ),
    Key::optional("key", Form::Path, "\"client.key\"", "Its private key."),
    Key::new(
        "verify",
        Form::Bool,
        "true",
        "Look at certificates. false: whoever answers is believed to be the endpoint, which is told at every start and reload.",
    ),
];

const SEND_PROXY: &[Key] = &[Key::required(
    "send",
    Form::Choice(ProxyVersion::NAMES),
    "\"v2\"",
    "Which version: `v1`, a line of text, or `v2`, binary.",
)];

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
];

const BREAKER: &[Key] = &[
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

const DRAIN: &[Key] = &[Key::new(
    "deadline",
    TIME,
    "0s",
    "When what still runs there is cut, unless whoever drains it says something else. 0s: never.",
)];

const HEALTH: &[Key] = &[
    Key::new(
        "kind",
        Form::Choice(HealthKind::NAMES),
        "http",
        "What passes: an answer as `status` and `body` want it, a connection, or a WebSocket handshake that is answered with 101.",
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
        "initial",
        Form::Choice(InitialHealth::NAMES),
        "probing",
        "What a new endpoint is. `probing`: nothing, until its first probe decides; requests that have no other endpoint wait for that, 1 second at most. `healthy`, `unhealthy`: that, until `fall` or `rise` say otherwise. A reload keeps what is known.",
    ),
];

const OUTLIER: &[Key] = &[
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
        "What is a failure: no connection, one that ended before the answer did, no answer in time, one that makes no sense, or a status. `5xx` leaves out 501 and 505, which speak of the request.",
    )
    .example("[\"connect\", \"reset\", \"timeout\"]"),
];

const RETRY: &[Key] = &[
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
        "After what: no connection (or no byte sent), one that ended before an answer, no answer within `timeouts.response`, one that makes no sense, or a status. Empty: after nothing.",
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

const ADMIN: &[Key] = &[
    Key::required(
        "address",
        Form::Listen,
        "\"127.0.0.1:9900\"",
        "Address of the admin API. Without tokens it is read-only, and only on loopback or a unix socket.",
    ),
    Key {
        shape: Shape::Tables(ADMIN_TOKEN, None),
        ..Key::table("tokens", ADMIN_TOKEN, "Who may do what.")
    },
];

const ADMIN_TOKEN: &[Key] = &[
    Key::required("name", Form::Name, "\"ops\"", "Name in the audit log."),
    Key::new(
        "role",
        Form::Choice(Role::NAMES),
        "viewer",
        "`viewer` reads; `operator` also drains and weighs; `admin` also changes the configuration.",
    ),
    Key::required(
        "token",
        Form::Secret,
        "\"env:TIDEGATE_ADMIN_TOKEN\"",
        "The bearer token: `env:NAME` or `file:/PATH`.",
    ),
];
