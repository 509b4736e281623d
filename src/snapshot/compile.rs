//! From the configuration to a snapshot: names become indexes, texts become tables, and every mistake is found.

use super::{ActionPlan, FixedResponse, HeaderPlan, ListenerPlan, Passthrough, RoutePlan, Snapshot, Target};
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::model::{self, AccessFormat, Action, Config, DnsName, EndpointAddress};
use crate::h1::parse::HeadLimits;
use crate::message::error_page::OwnPage;
use crate::message::template::Template;
use crate::routing::RouteTable;
use crate::routing::redirect::Redirect;
use crate::routing::rewrite::PathRewrite;
use crate::routing::split::Split;
use crate::telemetry::access_format::{Format, Redact};
use crate::telemetry::access_log::{AccessLog, AccessWriter, Sampler};
use crate::tls::acme::{Acme, Orders, Wanted};
use crate::tls::server::ServerTls;
use crate::tls::tickets::TicketRing;
use crate::upstream::shared::check::CheckPlan;
use crate::upstream::shared::dial::{self, Dials};
use crate::upstream::shared::names::Directory;
use crate::upstream::shared::resilience::Resilience;
use crate::upstream::shared::standing::Health;
use crate::upstream::shared::sticky::StickyPlan;
use crate::upstream::shared::sticky::value::Key as StickyKey;
use crate::upstream::shared::{
    Dial, EndpointKey, EndpointPlan, Hashing, Overrides, Registry, Target as EndpointTarget, UpstreamPlan,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

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

fn listener_plan(
    name: &str,
    listener: &model::Listener,
    config: &Config,
    upstreams: &HashMap<&str, usize>,
    parts: Parts<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<Arc<ListenerPlan>> {
    let key = format!("listeners.{name}");
    let own = listener
        .access_log
        .as_ref()
        .map(|log| (log, format!("{key}.access_log")));
    let access = own.or_else(|| {
        config
            .log
            .access
            .as_ref()
            .map(|log| (log, "log.access".to_owned()))
    });
    let access = access
        .filter(|(log, _)| !log.off)
        .and_then(|(log, key)| access_log(log, &key, parts.access, found));
    let limits = &listener.limits;
    let tls = match &listener.tls {
        // Without it the listener would be one in the clear: better none at all.
        Some(tls) => Some(server_tls(name, tls, &key, config, parts, found)?),
        None => None,
    };
    let hsts = listener.hsts.filter(|_| tls.is_some());
    Some(Arc::new(ListenerPlan {
        tls,
        passthrough: Passthrough::compile(&listener.passthrough, upstreams),
        redirect_https: listener.redirect_https,
        hsts: hsts.map(|age| format!("max-age={}", age.as_secs()).into()),
        name: name.into(),
        address: listener.address.clone(),
        head_limits: HeadLimits {
            head_bytes: usize::try_from(limits.header_bytes).unwrap_or(usize::MAX),
            fields: limits.headers,
            target_bytes: usize::try_from(limits.uri_bytes).unwrap_or(usize::MAX),
        },
        limits: limits.clone(),
        protocols: listener.protocols,
        path_policy: listener.path_policy,
        trusted_proxies: listener.trusted_proxies.clone(),
        proxy_protocol: listener.proxy_protocol.clone(),
        request_id: listener.request_id,
        error_pages: error_pages(&listener.error_pages, &key, found),
        error_header: listener.error_header,
        forwarded: listener.forwarded,
        access,
        request_headers: HeaderPlan::compile(
            &listener.request_headers,
            &format!("{key}.request_headers"),
            found,
        ),
        response_headers: HeaderPlan::compile(
            &listener.response_headers,
            &format!("{key}.response_headers"),
            found,
        ),
    }))
}

fn server_tls(
    name: &str,
    tls: &model::Tls,
    key: &str,
    config: &Config,
    parts: Parts<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<Arc<ServerTls>> {
    let wanted = config
        .listeners
        .get(name)
        .and_then(|listener| listener.acme.as_ref())
        .map(|acme| Wanted {
            directory: &acme.directory,
            names: crate::config::acme::names(config, name),
            single: acme.single_certificate,
            named: !acme.names.is_empty(),
        });
    let orders = Orders {
        acme: parts.acme,
        wanted,
    };
    let now = jiff::Timestamp::now().as_second();
    ServerTls::load(
        name,
        tls,
        &format!("{key}.tls"),
        parts.tickets,
        orders,
        now,
        found,
    )
}

fn access_log(
    log: &model::AccessLog,
    key: &str,
    writer: &AccessWriter,
    found: &mut Vec<Diagnostic>,
) -> Option<AccessLog> {
    let format = match &log.format {
        AccessFormat::Combined => Format::combined(),
        AccessFormat::Json => Format::json(),
        AccessFormat::Template(text) => match Format::template(text) {
            Ok(format) => format,
            Err(error) => {
                found.push(Diagnostic::error(format!("{key}.format"), error.to_string()));
                return None;
            }
        },
    };
    Some(AccessLog {
        format: format.redacting(Redact::new(&log.redact_query)),
        sampler: Sampler::new(log.sample),
        file: writer.file(&log.path),
    })
}

fn error_pages(
    files: &BTreeMap<u16, std::path::PathBuf>,
    key: &str,
    found: &mut Vec<Diagnostic>,
) -> BTreeMap<u16, OwnPage> {
    let mut pages = BTreeMap::new();
    for (status, path) in files {
        match std::fs::read(path) {
            Ok(text) => {
                pages.insert(*status, OwnPage::new(path, text));
            }
            Err(error) => found.push(Diagnostic::error(
                format!("{key}.error_pages.{status}"),
                format!("cannot read {}: {error}", path.display()),
            )),
        }
    }
    pages
}

fn route_plan(
    index: usize,
    route: &model::Route,
    upstreams: &HashMap<&str, usize>,
    found: &mut Vec<Diagnostic>,
) -> Option<Arc<RoutePlan>> {
    let key = format!("routes[{index}]");
    let mut targets = Vec::new();
    let action = action(&route.action, &key, upstreams, &mut targets, found);
    let rewrite = PathRewrite::build(&route.rewrite, &key).unwrap_or_else(|errors| {
        found.extend(errors);
        None
    });
    let request_headers =
        HeaderPlan::compile(&route.request_headers, &format!("{key}.request_headers"), found);
    let response_headers =
        HeaderPlan::compile(&route.response_headers, &format!("{key}.response_headers"), found);
    Some(Arc::new(RoutePlan {
        name: route.name.as_str().into(),
        action: action?,
        rewrite,
        host: route.host.clone(),
        request_headers,
        response_headers,
        timeouts: route.timeouts,
        websocket: route.websocket.clone(),
        body_limit: route.body_limit,
        upgrades: route.upgrades.clone(),
        targets,
    }))
}

fn action(
    action: &Action,
    key: &str,
    upstreams: &HashMap<&str, usize>,
    targets: &mut Vec<Target>,
    found: &mut Vec<Diagnostic>,
) -> Option<ActionPlan> {
    let mut target = |name: &str, key: String| {
        let Some(&upstream) = upstreams.get(name) else {
            found.push(Diagnostic::error(key, format!("there is no upstream `{name}`")));
            return None;
        };
        targets.push(Target { upstream });
        Some(targets.len() - 1)
    };
    match action {
        Action::Upstream(name) => {
            target(name, format!("{key}.upstream"))?;
            Some(ActionPlan::Forward(None))
        }
        Action::Split(weights) => {
            let choices: Option<Vec<_>> = weights
                .iter()
                .map(|(name, weight)| Some((target(name, format!("{key}.split.{name}"))?, *weight)))
                .collect();
            let split = Split::new(choices?);
            if split.is_none() {
                found.push(Diagnostic::error(format!("{key}.split"), "no weight is above 0"));
            }
            Some(ActionPlan::Forward(Some(split?)))
        }
        Action::Redirect { to, status } => match Redirect::build(to, *status, &format!("{key}.redirect")) {
            Ok(redirect) => Some(ActionPlan::Redirect(redirect)),
            Err(errors) => {
                found.extend(errors);
                None
            }
        },
        Action::Respond {
            status,
            body,
            headers,
        } => fixed(*status, body, headers, key, found).map(ActionPlan::Respond),
    }
}

fn fixed(
    status: u16,
    body: &str,
    headers: &BTreeMap<String, String>,
    key: &str,
    found: &mut Vec<Diagnostic>,
) -> Option<FixedResponse> {
    let mut parse = |key: String, text: &str| {
        Template::parse(text)
            .map_err(|error| found.push(Diagnostic::error(key, error.to_string())))
            .ok()
    };
    let headers: Option<Vec<_>> = headers
        .iter()
        .map(|(name, value)| {
            Some((
                name.as_str().into(),
                parse(format!("{key}.respond.headers.{name}"), value)?,
            ))
        })
        .collect();
    let body = Template::parse_body(body)
        .map_err(|error| {
            found.push(Diagnostic::error(
                format!("{key}.respond.body"),
                error.to_string(),
            ))
        })
        .ok();
    Some(FixedResponse {
        status,
        body: body?,
        headers: headers?,
    })
}

fn upstream_plan(
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
fn sticky_keys(
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
