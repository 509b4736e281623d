//! Upstreams: endpoints, where they are discovered, and how they are checked.

use super::Checker;
use crate::config::choices::Choice;
use crate::config::diagnostic::Diagnostic;
use crate::config::model::{Endpoint, Health, HealthKind, UpstreamProtocol};
use crate::config::path::{index, join};
use crate::config::settings::Table;
use std::collections::HashMap;

/// The keys of `discover` of which exactly one is written.
const SOURCES: [&str; 3] = ["dns", "srv", "registry"];

impl Checker<'_> {
    pub(super) fn upstreams(&mut self) {
        for (name, table) in self.root.named("upstreams") {
            let at = join("upstreams", name);
            let discover = table.table("discover");
            if table.tables("endpoints").is_empty() && discover.is_none() && !self.problems.any_under(&at) {
                self.error(at.clone(), "the upstream has no endpoint".to_owned());
            }
            if let Some(discover) = discover {
                self.discover(&join(&at, "discover"), discover);
            }
            self.sticky_keys(&at, table);
        }
        for (name, upstream) in &self.config.upstreams {
            let at = join("upstreams", name);
            self.endpoints(
                &join(&at, "endpoints"),
                &upstream.endpoints,
                upstream.discover.is_some(),
            );
            if let Some(health) = &upstream.health {
                self.health(&join(&at, "health"), name, health);
            }
            if let Some(sticky) = &upstream.sticky {
                self.sticky(&at, upstream, sticky);
            }
            self.rebalance(&at, upstream);
            self.upstream_protocol(&at, upstream);
            let outlier = &upstream.outlier;
            if outlier.max_eject < outlier.eject {
                let message = "max_eject is shorter than eject, the time of a first ejection".to_owned();
                self.error(join(&join(&at, "outlier"), "max_eject"), message);
            }
        }
    }

    /// `more`: others may be discovered.
    fn endpoints(&mut self, at: &str, endpoints: &[Endpoint], more: bool) {
        let mut seen = HashMap::new();
        for (position, endpoint) in endpoints.iter().enumerate() {
            match seen.get(&endpoint.address) {
                Some(first) => {
                    let message = format!("the endpoint {} is endpoints[{first}] already", endpoint.text);
                    self.error(join(&index(at, position), "address"), message);
                }
                None => drop(seen.insert(&endpoint.address, position)),
            }
        }
        if !more && !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.weight == 0) {
            let message = "no endpoint has a weight above 0: none takes requests".to_owned();
            self.warning(at.to_owned(), message, None);
        }
    }

    fn discover(&mut self, at: &str, table: &Table) {
        let given: Vec<&str> = SOURCES
            .into_iter()
            .filter(|name| table.given(name) || table.table(name).is_some())
            .collect();
        if given.len() != 1 && !self.problems.any_under(at) {
            let found = if given.is_empty() {
                "none".to_owned()
            } else {
                given.join(" and ")
            };
            let message = format!("found {found}; accepted: one of {}", SOURCES.join(", "));
            self.error(at.to_owned(), message);
        }
    }

    fn health(&mut self, at: &str, upstream: &str, health: &Health) {
        let unused: &[&str] = match health.kind {
            HealthKind::Http => &["service"],
            HealthKind::Tcp => &["path", "method", "host", "headers", "status", "body", "service"],
            HealthKind::Grpc => &["path", "method", "status", "body"],
            HealthKind::Websocket => &["method", "status", "body", "service"],
        };
        let table = self.root.named("upstreams").find(|(name, _)| *name == upstream);
        let written = table.and_then(|(_, table)| table.table("health"));
        let given = |name: &str| written.is_some_and(|written| written.given(name));
        for name in unused.iter().filter(|name| given(name)) {
            let message = format!("`{name}` has no effect on probes of kind {}", health.kind.name());
            self.warning(join(at, name), message, None);
        }
        let cluster = &self.config.cluster;
        if health.share && cluster.enabled && cluster.redis.is_none() {
            let message = "there is no `cluster.redis`, and nobody to share probes with".to_owned();
            self.warning(join(at, "share"), message, None);
        }
        if given("fast_interval") && health.fast_interval > health.interval {
            let message = "fast_interval is longer than interval, which is kept to then".to_owned();
            self.warning(join(at, "fast_interval"), message, None);
        }
        let soonest = health.fast_interval.min(health.interval) * health.rise;
        if given("max_hold") && !health.max_hold.is_zero() && health.max_hold <= soonest {
            let message =
                "max_hold is over before `rise` probes can have passed, and holds nobody up".to_owned();
            let hint = Some("write \"0s\" to hold none".to_owned());
            self.warning(join(at, "max_hold"), message, hint);
        }
        if health.kind == HealthKind::Grpc
            && let Some(upstream) = self.config.upstreams.get(upstream)
        {
            let spoken = match upstream.protocol {
                UpstreamProtocol::H1 => false,
                UpstreamProtocol::H2 => true,
                UpstreamProtocol::Auto => upstream.tls.is_some(),
            };
            if !spoken {
                let message =
                    "gRPC is spoken over HTTP/2, and endpoints are spoken to in HTTP/1.1".to_owned();
                let told = Diagnostic::error(join(at, "kind"), message);
                self.problems
                    .add(told.hint("write protocol = \"h2\" in the upstream"));
            }
        }
        if health.kind == HealthKind::Http {
            match health.method.as_str() {
                "HEAD" if health.body.is_some() => {
                    let message = "an answer to HEAD has no body to look into".to_owned();
                    self.error(join(at, "body"), message);
                }
                "CONNECT" => {
                    let message = "CONNECT asks for a tunnel, and no probe wants one".to_owned();
                    self.error(join(at, "method"), message);
                }
                _ => {}
            }
        }
    }
}
