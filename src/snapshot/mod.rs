//! One immutable generation of everything that serving a request needs, and the one swap that makes it live.

mod compile;
mod headers;
mod live;
mod passthrough;

pub use compile::{Parts, certificates, compile, upstreams};
pub use headers::HeaderPlan;
pub use live::Live;
pub use passthrough::{Passthrough, PassthroughPlan};

pub use crate::config::model::{
    AcceptProxy, Forwarded, HostHeader, Limits, Protocols, RequestIdPolicy, ShedOrder, Timeouts,
    TunnelBounds, WebSocket,
};

use crate::config::model::ListenAddress;
use crate::h1::parse::HeadLimits;
use crate::message::error_page::OwnPage;
use crate::message::path::PathPolicy;
use crate::message::template::Template;
use crate::routing::RouteTable;
use crate::routing::redirect::Redirect;
use crate::routing::rewrite::PathRewrite;
use crate::routing::split::Split;
use crate::telemetry::access_log::AccessLog;
use crate::tls::acme::challenge::Challenges;
use crate::tls::server::ServerTls;
use crate::upstream::shared::UpstreamPlan;
use crate::upstream::shared::dial::Dials;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A compiled configuration. Holding one proves that it is valid: there is no other way to it than [`compile`].
#[derive(Debug)]
pub struct Snapshot {
    /// Counts up with every swap, from 1.
    pub generation: u64,
    /// Client connections over all listeners; 0: no limit.
    pub max_connections: usize,
    /// TLS handshakes in progress on one worker; 0: no limit.
    pub max_handshakes: usize,
    /// In the order of the configuration's names.
    pub listeners: Vec<Arc<ListenerPlan>>,
    /// In the order of the configuration; the table's route numbers index it.
    pub routes: Vec<Arc<RoutePlan>>,
    /// In the order of the configuration's names.
    pub upstreams: Vec<Arc<UpstreamPlan>>,
    pub table: Arc<RouteTable>,
    /// Answers that authorities look for while they issue certificates.
    pub challenges: Arc<Challenges>,
}

impl Snapshot {
    /// How connections to the endpoints begin.
    #[must_use]
    pub fn dials(&self) -> Dials {
        let dials = self
            .upstreams
            .iter()
            .map(|plan| (plan.name.clone(), plan.dial.clone()));
        dials.collect()
    }

    /// The same with listeners whose files were read anew.
    #[must_use]
    pub fn with_listeners(&self, generation: u64, listeners: Vec<Arc<ListenerPlan>>) -> Self {
        Self {
            listeners,
            ..self.with_upstreams(generation, self.upstreams.clone())
        }
    }

    /// The same with other upstreams of the same names: what routes to them does not change.
    #[must_use]
    pub fn with_upstreams(&self, generation: u64, upstreams: Vec<Arc<UpstreamPlan>>) -> Self {
        Self {
            generation,
            max_connections: self.max_connections,
            max_handshakes: self.max_handshakes,
            listeners: self.listeners.clone(),
            routes: self.routes.clone(),
            upstreams,
            table: Arc::clone(&self.table),
            challenges: Arc::clone(&self.challenges),
        }
    }
}

/// A listener, compiled.
#[derive(Clone, Debug)]
pub struct ListenerPlan {
    pub name: Arc<str>,
    pub address: ListenAddress,
    pub limits: Limits,
    pub protocols: Protocols,
    pub head_limits: HeadLimits,
    pub path_policy: PathPolicy,
    pub trusted_proxies: Vec<IpNet>,
    /// `None`: connections begin without a PROXY protocol header.
    pub proxy_protocol: Option<AcceptProxy>,
    pub request_id: RequestIdPolicy,
    pub error_pages: BTreeMap<u16, OwnPage>,
    pub error_header: bool,
    pub forwarded: Forwarded,
    pub access: Option<AccessLog>,
    pub request_headers: HeaderPlan,
    pub response_headers: HeaderPlan,
    /// `None`: clients come in the clear.
    pub tls: Option<Arc<ServerTls>>,
    /// Connections that go on with their TLS unopened.
    pub passthrough: Passthrough,
    pub redirect_https: bool,
    /// The value of Strict-Transport-Security.
    pub hsts: Option<Box<str>>,
}

impl ListenerPlan {
    /// Whether connections begin with a ClientHello.
    #[must_use]
    pub const fn expects_tls(&self) -> bool {
        self.tls.is_some() || !self.passthrough.is_empty()
    }

    /// The same with certificates read anew.
    fn with_tls(&self, tls: Arc<ServerTls>) -> Self {
        Self {
            tls: Some(tls),
            ..self.clone()
        }
    }
}

/// A route, compiled.
#[derive(Debug)]
pub struct RoutePlan {
    pub name: Arc<str>,
    pub action: ActionPlan,
    pub rewrite: Option<PathRewrite>,
    pub host: HostHeader,
    pub request_headers: HeaderPlan,
    pub response_headers: HeaderPlan,
    pub timeouts: Timeouts,
    pub websocket: WebSocket,
    /// `None`: the listener's.
    pub body_limit: Option<u64>,
    /// Lower case.
    pub upgrades: Vec<String>,
    targets: Vec<Target>,
}

impl RoutePlan {
    /// Where the route sends requests; empty when it answers itself.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }
}

/// One upstream that a route sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Index in [`Snapshot::upstreams`].
    pub upstream: usize,
}

/// What a route does.
#[derive(Debug)]
pub enum ActionPlan {
    /// Chooses among [`RoutePlan::targets`] by their index; `None` when there is one only.
    Forward(Option<Split<usize>>),
    Redirect(Redirect),
    Respond(FixedResponse),
}

/// An answer without an endpoint.
#[derive(Debug)]
pub struct FixedResponse {
    pub status: u16,
    pub body: Template,
    pub headers: Vec<(Box<str>, Template)>,
}
