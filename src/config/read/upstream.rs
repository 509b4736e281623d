//! What is written of an upstream.

use super::{chosen, drain_until, http2_bounds, upstream_tls};
use crate::config::model::{
    Breaker, Causes, Discover, DiscoverFrom, DnsName, Drain, Endpoint, EndpointAddress, Health, Learn,
    Outlier, Pool, Queue, Rebalance, Retry, Services, SessionName, Sticky, StickyBy, StickyCookie, Upstream,
};
use crate::config::scalar::Chosen;
use crate::config::settings::Table;
use std::time::Duration;

pub(super) fn upstream(t: &Table) -> Option<Upstream> {
    Some(Upstream {
        balance: chosen(t, "balance")?,
        key: t.get("key")?,
        bounded_load: t.get("bounded_load")?,
        endpoints: t.tables("endpoints").iter().filter_map(endpoint).collect(),
        discover: t.table("discover").and_then(discover),
        protocol: chosen(t, "protocol")?,
        http2: http2_bounds(t.table("http2")?, "")?,
        proxy_protocol: t.table("proxy_protocol").and_then(|t| chosen(t, "send")),
        tls: t.table("tls").and_then(upstream_tls),
        pool: pool(t.table("pool")?)?,
        sticky: t.table("sticky").and_then(sticky),
        health: t.table("health").and_then(health),
        outlier: outlier(t.table("outlier")?)?,
        retry: retry(t.table("retry")?)?,
        breaker: breaker(t.table("breaker")?)?,
        queue: queue(t.table("queue")?)?,
        drain: drain(t.table("drain")?)?,
        rebalance: t.table("rebalance").and_then(rebalance),
        slow_start: t.get("slow_start")?,
    })
}

fn endpoint(t: &Table) -> Option<Endpoint> {
    let (address, text) = t.get("address")?;
    Some(Endpoint {
        address,
        text,
        weight: t.get("weight")?,
        backup: t.get("backup")?,
        max_connections: t.get("max_connections")?,
        zone: t.get("zone"),
    })
}

fn discover(t: &Table) -> Option<Discover> {
    let from = match (t.table("registry"), t.get("dns")) {
        (Some(registry), _) => DiscoverFrom::Registry(Services {
            service: registry.get("service")?,
            tags: registry.list("tags")?,
        }),
        (None, Some((EndpointAddress::Name { host, port }, _))) => {
            DiscoverFrom::Dns(DnsName::Host { host, port })
        }
        (None, Some(_)) => return None,
        (None, None) => DiscoverFrom::Dns(DnsName::Service(t.get("srv")?)),
    };
    Some(Discover {
        from,
        max_endpoints: t.get("max_endpoints")?,
        max_connections: t.get("max_connections")?,
    })
}

fn pool(t: &Table) -> Option<Pool> {
    Some(Pool {
        idle_per_worker: t.get("idle_per_worker")?,
        idle_timeout: t.get("idle_timeout")?,
        max_requests: t.get("max_requests")?,
        max_age: t.get("max_age")?,
    })
}

fn sticky(t: &Table) -> Option<Sticky> {
    let by = if let Some(name) = t.get("cookie") {
        StickyBy::Cookie(StickyCookie {
            name,
            ttl: t.get("ttl")?,
            keys: t.list("keys")?,
            path: t.get("path")?,
            domain: t.get("domain"),
            secure: chosen(t, "secure")?,
            http_only: t.get("http_only")?,
            same_site: chosen(t, "same_site")?,
            partitioned: t.get("partitioned")?,
            private: t.get("private")?,
        })
    } else if let Some(learn) = t.table("learn") {
        let cookie = learn.get("cookie").map(SessionName::Cookie);
        StickyBy::Learn(Learn {
            name: cookie.or_else(|| learn.get("header").map(SessionName::Header))?,
            max_sessions: learn.get("max_sessions")?,
            idle: t.get("ttl")?,
        })
    } else {
        StickyBy::Hash(t.get("hash")?)
    };
    Some(Sticky {
        by,
        on_missing: chosen(t, "on_missing")?,
    })
}

fn health(t: &Table) -> Option<Health> {
    Some(Health {
        kind: chosen(t, "kind")?,
        method: t.get("method")?,
        path: t.get("path")?,
        host: t.get("host"),
        headers: t.map("headers")?,
        status: t.get("status")?,
        body: t.get("body"),
        service: t.get("service").unwrap_or_default(),
        port: t.get("port"),
        interval: t.get("interval")?,
        fast_interval: t.get("fast_interval")?,
        timeout: t.get("timeout")?,
        rise: t.get("rise")?,
        fall: t.get("fall")?,
        jitter: t.get("jitter")?,
        max_hold: t.get("max_hold")?,
        initial: chosen(t, "initial")?,
        share: t.get("share")?,
    })
}

fn outlier(t: &Table) -> Option<Outlier> {
    let eject = t.get("eject")?;
    let max_eject: Duration = t.get("max_eject")?;
    // Who makes the first longer need not know of the longest.
    let max_eject = if t.given("max_eject") {
        max_eject
    } else {
        max_eject.max(eject)
    };
    Some(Outlier {
        consecutive_failures: t.get("consecutive_failures")?,
        window: t.get("window")?,
        error_rate: t.get("error_rate")?,
        min_requests: t.get("min_requests")?,
        eject,
        max_eject,
        max_ejected: t.get("max_ejected")?,
        on: causes(t)?,
    })
}

fn retry(t: &Table) -> Option<Retry> {
    Some(Retry {
        attempts: t.get("attempts")?,
        budget: t.get("budget")?,
        on: causes(t)?,
        body: t.get("body")?,
        non_idempotent: t.get("non_idempotent")?,
    })
}

fn breaker(t: &Table) -> Option<Breaker> {
    Some(Breaker {
        max_requests: t.get("max_requests")?,
        error_rate: t.get("error_rate")?,
        min_requests: t.get("min_requests")?,
        window: t.get("window")?,
        open_for: t.get("open_for")?,
    })
}

fn queue(t: &Table) -> Option<Queue> {
    Some(Queue {
        max: t.get("max")?,
        timeout: t.get("timeout")?,
    })
}

fn causes(t: &Table) -> Option<Causes> {
    let causes = t.list("on")?;
    Some(causes.into_iter().map(|Chosen(cause)| cause).collect())
}

fn drain(t: &Table) -> Option<Drain> {
    drain_until(t, t.get("deadline")?)
}

fn rebalance(t: &Table) -> Option<Rebalance> {
    Some(Rebalance {
        rate: t.get("rate")?,
        threshold: t.get("threshold")?,
    })
}
