//! The table of keys. Texts here are what operators read in the reference file, the docs, and their editors.

mod acme;
mod cluster;
mod listener;
mod process;
mod resilience;
mod route;
mod sticky;
mod tls;
mod upstream;

use crate::config::form::Form;
use crate::config::keys::{Key, Shape};
use cluster::CLUSTER;
use listener::LISTENER;
use process::{ADMIN, DNS, LOG, RUNTIME};
use route::ROUTE;
use upstream::UPSTREAM;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// RFC 9113 section 6.9.1.
const H2_LARGEST_WINDOW: u64 = i32::MAX as u64;

/// Where zero means "no limit" and nothing else bounds the number.
const COUNT: Form = Form::Integer {
    min: 0,
    max: u32::MAX as i64,
};

const TIME: Form = Form::Duration { zero: true };
const DEADLINE: Form = Form::Duration { zero: false };

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
    Key::table("dns", DNS, "Names of endpoints are resolved again when their answers expire. The last good answer stays in use when a look-up fails or finds nothing. Authorities of `acme` are looked up in the same way, when they are asked."),
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
    Key::table("cluster", CLUSTER, "The gateway among others. Without `redis` it is a cluster of one, with nothing to install."),
    Key::optional_table("admin", ADMIN, "The admin API. Absent: off."),
];
