//! From the configuration to a snapshot: names become indexes, texts become tables, and every mistake is found.

mod listener;
mod route;
mod upstream;

use super::{ListenerPlan, Snapshot};
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::model::Config;
use crate::routing::RouteTable;
use crate::telemetry::access_log::AccessWriter;
use crate::tls::acme::Acme;
use crate::tls::tickets::TicketRing;
use crate::upstream::shared::check::CheckPlan;
use crate::upstream::shared::dial::{self, Dials};
use crate::upstream::shared::names::Directory;
use crate::upstream::shared::{Dial, Overrides, Registry, UpstreamPlan};
use listener::{listener_plan, server_tls};
use route::route_plan;
use std::collections::HashMap;
use std::sync::Arc;
use upstream::{sticky_keys, upstream_plan};

/// What a snapshot is built upon and outlives it.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    pub registry: &'a Registry,
    pub access: &'a AccessWriter,
    /// What names stand for.
    pub directory: &'a Directory,
    /// Laid over the configuration.
    pub overrides: &'a Overrides,
    /// Keys of TLS sessions.
    pub tickets: &'a Arc<TicketRing>,
    /// Certificates that the gateway gets itself.
    pub acme: &'a Acme,
}

/// Compiles a configuration. Touches no socket; error pages are read from their files.
///
/// # Errors
/// All errors and warnings, when there is an error among them; keys are placed by the caller.
pub fn compile(
    config: &Config,
    generation: u64,
    parts: Parts<'_>,
) -> Result<(Snapshot, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut found = Vec::new();
    let listener_index: HashMap<&str, u32> = config
        .listeners
        .keys()
        .enumerate()
        .map(|(index, name)| (name.as_str(), index as u32))
        .collect();
    let upstream_index: HashMap<&str, usize> = config
        .upstreams
        .keys()
        .enumerate()
        .map(|(index, name)| (name.as_str(), index))
        .collect();
    let listeners: Vec<_> = config
        .listeners
        .iter()
        .map(|(name, listener)| listener_plan(name, listener, config, &upstream_index, parts, &mut found))
        .collect();
    let routes: Vec<_> = config
        .routes
        .iter()
        .enumerate()
        .map(|(index, route)| route_plan(index, route, &upstream_index, &mut found))
        .collect();
    let table = match RouteTable::build(&config.routes, |name| listener_index.get(name).copied()) {
        Ok((table, warnings)) => {
            found.extend(warnings);
            Some(table)
        }
        Err(errors) => {
            found.extend(errors);
            None
        }
    };
    for (name, upstream) in &config.upstreams {
        if let Some(Err(error)) = upstream.health.as_ref().map(CheckPlan::compile) {
            let key = format!("upstreams.{name}.health.body");
            found.push(Diagnostic::error(key, error.to_string()));
        }
    }
    for (name, upstream) in &config.upstreams {
        if let Err(error) = sticky_keys(name, upstream, parts.registry) {
            let key = format!("upstreams.{name}.sticky.keys");
            let message = format!("there are none, and the gateway can't keep one of its own: {error}");
            found.push(Diagnostic::error(key, message));
        }
    }
    let dials: Vec<(Arc<str>, Dial)> = config
        .upstreams
        .iter()
        .filter_map(|(name, upstream)| Some((name.as_str().into(), dial::load(name, upstream, &mut found)?)))
        .collect();
    let (Some(table), false) = (table, found.iter().any(|d| d.severity == Severity::Error)) else {
        return Err(found);
    };
    // Last, when nothing can fail any more: a refused configuration makes no endpoints known.
    let dials = dials
        .into_iter()
        .map(|(name, dial)| (name.clone(), parts.registry.dial(&name, dial)))
        .collect();
    let upstreams = upstreams(config, &dials, parts.registry, parts.directory, parts.overrides);
    let snapshot = Snapshot {
        generation,
        max_connections: config.runtime.max_connections,
        max_handshakes: config.runtime.max_handshakes,
        listeners: listeners.into_iter().flatten().collect(),
        routes: routes.into_iter().flatten().collect(),
        upstreams,
        table: Arc::new(table),
        challenges: Arc::clone(&parts.acme.challenges),
    };
    Ok((snapshot, found))
}

/// The upstreams of a configuration that compiles, as names stand and as changed at run time.
#[must_use]
pub fn upstreams(
    config: &Config,
    dials: &Dials,
    registry: &Registry,
    directory: &Directory,
    overrides: &Overrides,
) -> Vec<Arc<UpstreamPlan>> {
    let upstreams = config.upstreams.iter();
    upstreams
        .map(|(name, upstream)| {
            let upstream = overrides.over(name, upstream);
            let dial = dials.get(name.as_str());
            upstream_plan(name, &upstream, dial, registry, directory, overrides)
        })
        .collect()
}

/// The listeners of a live snapshot with the files of their TLS read anew, and warnings about those. `None`: nothing
/// in them has changed.
///
/// # Errors
/// All errors and warnings, when there is an error among them; keys are placed by the caller.
#[allow(clippy::type_complexity)]
pub fn certificates(
    live: &Snapshot,
    config: &Config,
    parts: Parts<'_>,
) -> Result<Option<(Vec<Arc<ListenerPlan>>, Vec<Diagnostic>)>, Vec<Diagnostic>> {
    let mut found = Vec::new();
    let mut changed = false;
    let mut listeners = Vec::with_capacity(live.listeners.len());
    for plan in &live.listeners {
        let written = config.listeners.get(&*plan.name);
        let (Some(before), Some(tls)) = (&plan.tls, written.and_then(|written| written.tls.as_ref())) else {
            listeners.push(plan.clone());
            continue;
        };
        let key = format!("listeners.{}", plan.name);
        let Some(now) = server_tls(&plan.name, tls, &key, config, parts, &mut found) else {
            continue;
        };
        if now.fingerprint() == before.fingerprint() {
            listeners.push(plan.clone());
        } else {
            changed = true;
            listeners.push(Arc::new(plan.with_tls(now)));
        }
    }
    if found.iter().any(|d| d.severity == Severity::Error) {
        return Err(found);
    }
    Ok(changed.then_some((listeners, found)))
}
