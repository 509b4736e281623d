//! From settings to the model. Everything has a type and a default by now; what is left out here was found wrong
//! before, and told.

mod listener;
mod route;
mod upstream;

pub use route::route_name;

use super::keys::Presence;
use super::keys::table::ROOT;
use super::model::{
    AccessLog, Admin, AdminToken, Cluster, Config, Dns, Drain, Grant, HeaderEdits, Http2Bounds, Labels, Log,
    Runtime, TunnelBounds, UpstreamTls,
};
use super::scalar::{Chosen, FromScalar};
use super::settings::Table;
use std::collections::BTreeMap;
use std::time::Duration;

/// Reads a whole configuration; `None` only if something was found wrong.
pub fn config(root: &Table) -> Option<Config> {
    debug_assert!(ROOT.iter().all(|key| key.presence != Presence::Required));
    Some(Config {
        runtime: runtime(root.table("runtime")?)?,
        log: log(root.table("log")?)?,
        dns: dns(root.table("dns")?)?,
        listeners: named(root, "listeners", listener::listener),
        routes: root
            .tables("routes")
            .iter()
            .enumerate()
            .filter_map(|(at, table)| route::route(table, at))
            .collect(),
        upstreams: named(root, "upstreams", upstream::upstream),
        cluster: cluster(root.table("cluster")?)?,
        admin: root.table("admin").and_then(admin),
    })
}

fn named<T>(root: &Table, name: &str, read: impl Fn(&Table) -> Option<T>) -> BTreeMap<String, T> {
    root.named(name)
        .filter_map(|(name, table)| Some((name.clone(), read(table)?)))
        .collect()
}

fn chosen<T>(table: &Table, name: &str) -> Option<T>
where
    Chosen<T>: FromScalar,
{
    table.get(name).map(|Chosen(value)| value)
}

fn runtime(t: &Table) -> Option<Runtime> {
    Some(Runtime {
        workers: t.get("workers")?,
        drain_delay: t.get("drain_delay")?,
        drain_timeout: t.get("drain_timeout")?,
        drain: drain_until(t.table("drain")?, t.get("drain_timeout")?)?,
        state_dir: t.get("state_dir"),
        user: t.get("user"),
        group: t.get("group"),
        pid_file: t.get("pid_file"),
        max_connections: t.get("max_connections")?,
        max_handshakes: t.get("max_handshakes")?,
    })
}

fn log(t: &Table) -> Option<Log> {
    Some(Log {
        level: chosen(t, "level")?,
        format: chosen(t, "format")?,
        access: t.table("access").and_then(access_log),
    })
}

fn access_log(t: &Table) -> Option<AccessLog> {
    Some(AccessLog {
        off: t.get("off")?,
        path: t.get("path")?,
        format: t.get("format")?,
        sample: t.get("sample")?,
        redact_query: t.list("redact_query")?,
    })
}

fn dns(t: &Table) -> Option<Dns> {
    Some(Dns {
        servers: t.list("servers")?,
        hosts_file: t.get("hosts_file")?,
        family: chosen(t, "family")?,
        min_ttl: t.get("min_ttl")?,
        max_ttl: t.get("max_ttl")?,
        timeout: t.get("timeout")?,
    })
}

/// The bounds of HTTP/2 connections, of which the keys begin like this.
fn http2_bounds(t: &Table, prefix: &str) -> Option<Http2Bounds> {
    let key = |name: &str| format!("{prefix}{name}");
    Some(Http2Bounds {
        streams: t.get(&key("streams"))?,
        window: size(t, &key("window"))?,
        connection_window: size(t, &key("connection_window"))?,
        send_buffer: usize::try_from(t.get::<u64>(&key("send_buffer"))?).ok()?,
        frame_bytes: size(t, &key("frame_bytes"))?,
        ping: t.get(&key("ping"))?,
        ping_timeout: t.get(&key("ping_timeout"))?,
    })
}

/// A size whose form keeps it in 32 bits.
fn size(t: &Table, key: &str) -> Option<u32> {
    u32::try_from(t.get::<u64>(key)?).ok()
}

fn header_edits(t: &Table) -> Option<HeaderEdits> {
    Some(HeaderEdits {
        set: t.map("set")?,
        add: t.map("add")?,
        remove: t.list("remove")?,
    })
}

fn tunnel_bounds(t: &Table) -> Option<TunnelBounds> {
    Some(TunnelBounds {
        idle: t.get("idle")?,
        max_age: t.get("max_age")?,
    })
}

fn upstream_tls(t: &Table) -> Option<UpstreamTls> {
    Some(UpstreamTls {
        server_name: t.get("server_name"),
        ca: t.get("ca"),
        cert: t.get("cert"),
        key: t.get("key"),
        verify: t.get("verify")?,
    })
}

fn drain_until(t: &Table, deadline: Duration) -> Option<Drain> {
    Some(Drain {
        deadline,
        rate: t.get("rate")?,
        jitter: t.get("jitter")?,
        order: chosen(t, "order")?,
    })
}

fn cluster(t: &Table) -> Option<Cluster> {
    let labels = t.table("labels")?;
    let heartbeat: Duration = t.get("heartbeat")?;
    let gone_after: Duration = t.get("gone_after")?;
    // Who beats more slowly need not know when others give up.
    let gone_after = if t.given("gone_after") {
        gone_after
    } else {
        gone_after.max(heartbeat * 3)
    };
    let label = |name: &str| labels.get(name).unwrap_or_default();
    let enabled = t.get("enabled")?;
    Some(Cluster {
        name: t.get("name")?,
        enabled,
        redis: t.get("redis").filter(|_| enabled),
        redis_user: t.get("redis_user"),
        redis_password: t.get("redis_password"),
        sentinel_user: t.get("sentinel_user"),
        sentinel_password: t.get("sentinel_password"),
        redis_tls: upstream_tls(t.table("redis_tls")?)?,
        node: t.get("node"),
        prefix: t.get("prefix")?,
        key: t.get("key"),
        heartbeat,
        gone_after,
        duplicate: chosen(t, "duplicate")?,
        config: chosen(t, "config")?,
        ping: t.get("ping")?,
        advertise: t.get("advertise"),
        labels: Labels {
            role: label("role"),
            region: label("region"),
            zone: label("zone"),
        },
    })
}

fn admin(t: &Table) -> Option<Admin> {
    let tokens = t.tables("tokens").iter().filter_map(admin_token).collect();
    Some(Admin {
        address: t.get("address")?,
        tokens,
    })
}

fn admin_token(t: &Table) -> Option<AdminToken> {
    Some(AdminToken {
        name: t.get("name")?,
        role: Grant::from_text(&t.get::<String>("role")?)?,
        token: t.get("token")?,
    })
}
