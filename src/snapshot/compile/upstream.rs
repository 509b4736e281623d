//! What an upstream becomes: endpoints, written and discovered, with the state that they keep over generations.

use crate::config::model::{self, DnsName, EndpointAddress};
use crate::upstream::shared::check::CheckPlan;
use crate::upstream::shared::dial;
use crate::upstream::shared::names::Directory;
use crate::upstream::shared::resilience::Resilience;
use crate::upstream::shared::standing::Health;
use crate::upstream::shared::sticky::StickyPlan;
use crate::upstream::shared::sticky::value::Key as StickyKey;
use crate::upstream::shared::{
    Dial, EndpointKey, EndpointPlan, Hashing, Overrides, Registry, Target as EndpointTarget, UpstreamPlan,
};
use std::collections::HashSet;
use std::sync::Arc;

pub(super) fn upstream_plan(
    name: &str,
    upstream: &model::Upstream,
    dial: Option<&Arc<Dial>>,
    registry: &Registry,
    directory: &Directory,
    overrides: &Overrides,
) -> Arc<UpstreamPlan> {
    let name: Arc<str> = name.into();
    let discovered = discovered(upstream, directory);
    // Compiled before, or the configuration would not be in force.
    let check = upstream
        .health
        .as_ref()
        .and_then(|health| CheckPlan::compile(health).ok());
    let health = check.map(Arc::new);
    let presumed = health.as_ref().map_or(Health::Unchecked, |check| check.initial());
    let discovered_name = dial::discovered_name(upstream);
    let named = upstream.endpoints.iter().map(|endpoint| {
        let server_name = dial::server_name(&endpoint.address);
        (endpoint, server_name)
    });
    let discovered = discovered
        .iter()
        .map(|endpoint| (endpoint, discovered_name.clone()));
    let endpoints: Vec<EndpointPlan> = named
        .chain(discovered)
        // Of whom it is not known how connections to them begin, nobody is connected to.
        .filter(|_| dial.is_some())
        .map(|(endpoint, server_name)| {
            let key = EndpointKey {
                upstream: name.clone(),
                address: endpoint.text.as_str().into(),
            };
            let authority = match &endpoint.address {
                // A path is no authority; applications behind a unix socket expect this name.
                EndpointAddress::Unix(_) => "localhost".into(),
                EndpointAddress::Ip(_) | EndpointAddress::Name { .. } => key.address.clone(),
            };
            EndpointPlan {
                weight: overrides.weight_of(&key, endpoint.weight),
                admin: overrides.admin_of(&key),
                state: registry
                    .checked_endpoint(key, presumed, || known_targets(&endpoint.address, directory)),
                backup: endpoint.backup,
                max_connections: endpoint.max_connections,
                authority,
                server_name,
            }
        })
        .collect();
    let sticky = upstream.sticky.as_ref().map(|written| {
        // Found before, or the configuration would not be in force.
        let keys = sticky_keys(&name, upstream, registry).unwrap_or_default();
        let sessions = |most| registry.sessions(&name, most);
        Arc::new(StickyPlan::new(written, keys, sessions, &endpoints))
    });
    let resilience = Resilience {
        outlier: upstream.outlier,
        retry: upstream.retry,
        breaker: upstream.breaker,
        queue: upstream.queue,
        slow_start: upstream.slow_start,
        limited: endpoints.iter().any(|endpoint| endpoint.max_connections > 0),
        admission: registry.admission(&name),
    };
    Arc::new(UpstreamPlan {
        name,
        balance: upstream.balance,
        hashing: Hashing::new(
            upstream.balance,
            upstream.key.clone(),
            upstream.bounded_load,
            sticky.as_deref(),
            &endpoints,
        ),
        sticky,
        endpoints,
        pool: upstream.pool,
        dial: dial.cloned().unwrap_or_default(),
        resilience,
        health,
    })
}

/// What an upstream's sticky cookies are signed with; none where it has no such cookie.
pub(super) fn sticky_keys(
    name: &str,
    upstream: &model::Upstream,
    registry: &Registry,
) -> std::io::Result<Vec<StickyKey>> {
    let Some(model::StickyBy::Cookie(cookie)) = upstream.sticky.as_ref().map(|sticky| &sticky.by) else {
        return Ok(Vec::new());
    };
    if cookie.keys.is_empty() {
        let secrets = registry.own_key().secrets()?;
        return Ok(secrets
            .iter()
            .map(|secret| StickyKey::new(secret, name))
            .collect());
    }
    let secrets = cookie.keys.iter().map(|secret| secret.0.as_bytes());
    Ok(secrets.map(|secret| StickyKey::new(secret, name)).collect())
}

/// The endpoints that are discovered, but for those that the configuration names itself: what it says of them stands.
fn discovered(upstream: &model::Upstream, directory: &Directory) -> Vec<model::Endpoint> {
    let Some(discover) = &upstream.discover else {
        return Vec::new();
    };
    let written: HashSet<&EndpointAddress> = upstream.endpoints.iter().map(|e| &e.address).collect();
    let places = directory.discovered(&discover.from);
    places
        .iter()
        .map(|place| model::Endpoint {
            weight: place.weight,
            backup: place.backup,
            max_connections: discover.max_connections,
            ..model::Endpoint::at(place.address)
        })
        .filter(|endpoint| !written.contains(&endpoint.address))
        .take(discover.max_endpoints)
        .collect()
}

/// What an address stands for as far as is known; names are resolved by control.
fn known_targets(address: &EndpointAddress, directory: &Directory) -> Vec<EndpointTarget> {
    match address {
        EndpointAddress::Ip(address) => vec![EndpointTarget::Tcp(*address)],
        EndpointAddress::Unix(path) => vec![EndpointTarget::Unix(path.clone())],
        EndpointAddress::Name { host, port } => {
            let name = DnsName::Host {
                host: host.clone(),
                port: *port,
            };
            let places = directory.places(&name);
            places
                .iter()
                .map(|place| EndpointTarget::Tcp(place.address))
                .collect()
        }
    }
}
