//! Keys of the process itself: workers, logs, DNS, and the admin API.

use super::{COUNT, DEADLINE, TIME};
use crate::config::choices::Choice;
use crate::config::form::Form;
use crate::config::keys::legacy;
use crate::config::keys::{Key, Shape};
use crate::config::model::{AddressFamily, LogFormat, LogLevel, ShedOrder};

pub(super) const RUNTIME: &[Key] = &[
    Key::new(
        "workers",
        Form::Workers,
        "auto",
        "Single-threaded workers; `auto` is one for each usable core, counting affinity and the cgroup's quota.",
    )
    .legacy(&legacy::WORKERS)
    .or_legacy(&legacy::ONE_WORKER)
    .restart(),
    Key::new(
        "drain_delay",
        TIME,
        "0s",
        "How long readiness fails, on shutdown, before listeners stop: time for load balancers to notice.",
    ),
    Key::new("drain_timeout", TIME, "30s", "How long requests and tunnels may take to finish on shutdown."),
    Key::table(
        "drain",
        RUNTIME_DRAIN,
        "How tunnels are asked to go on shutdown: with close code 1001 where frames are known (`websocket.inspect`), by the end of the connection otherwise. `drain_timeout` is their deadline.",
    ),
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

const RUNTIME_DRAIN: &[Key] = &[
    Key::new(
        "rate",
        COUNT,
        "0",
        "Tunnels per second, over all workers; what is left at `drain_timeout` is cut. 0: as many as it takes to be done by then, if that is 5s away or more; otherwise nobody is asked.",
    ),
    Key::new(
        "jitter",
        Form::Ratio,
        "0.5",
        "How much the slices in which they are asked vary in size, as a part of it.",
    ),
    Key::new(
        "order",
        Form::Choice(ShedOrder::NAMES),
        "least_active",
        "Whom to ask first: those open for longest, or those silent for longest.",
    ),
];

pub(super) const LOG: &[Key] = &[
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

pub(super) const ACCESS_LOG: &[Key] = &[
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

pub(super) const DNS: &[Key] = &[
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

pub(super) const ADMIN: &[Key] = &[
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
        Form::Grant,
        "viewer",
        "`viewer` reads; `operator` also drains and weighs; `admin` also changes the configuration. `register:UPSTREAM` registers the services that this upstream discovers (`discover.registry`), and may do nothing else: for application servers.",
    ),
    Key::required(
        "token",
        Form::Secret,
        "\"env:TIDEGATE_ADMIN_TOKEN\"",
        "The bearer token: `env:NAME` or `file:/PATH`.",
    ),
];
