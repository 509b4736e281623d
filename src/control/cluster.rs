//! The gateway among others. Started with it, asked by whoever wants to know, awaited by nobody who serves a request.
//!
//! [`beat`] keeps its record alive and finds out who is there; the bus itself is [`crate::cluster::Bus`], which holds
//! everything that gateways share. [`ping`] asks the others themselves, for the time that the store is away.

mod beat;
pub mod ping;

use crate::cluster::bus::Bus;
use crate::cluster::configs::ConfigMark;
use crate::cluster::envelope::{self, Key, UNDERSTOOD, Versions};
use crate::cluster::membership::{Member, Peer};
use crate::cluster::names::{Names, NodeId};
use crate::cluster::ping::PingKey;
use crate::cluster::record::Record;
use crate::cluster::redis::{Access, Login, Options, Secure};
use crate::cluster::store::LeaseView;
use crate::config::diagnostic::Diagnostic;
use crate::config::model::{self, DuplicateNode, Labels, ListenAddress};
use crate::control::sharing::identity::Identity;
use crate::tls::client::ClientTls;
use arc_swap::ArcSwap;
use ping::Pings;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

pub use beat::run;

/// How often, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub heartbeat: Duration,
    pub gone_after: Duration,
    pub duplicate: DuplicateNode,
}

/// What this node knows of the cluster.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What it told of itself last.
    pub own: Record,
    /// The others, by what they are known by.
    pub members: Vec<Member>,
    /// Those that are asked directly whether they live.
    pub peers: Vec<Peer>,
    pub leases: Vec<LeaseView>,
    /// Version of the shared configuration; 0 for none.
    pub config: u64,
    /// Whether this is about now; otherwise it is the last that was known.
    pub fresh: bool,
    /// Another node has our id, and has this incarnation.
    pub duplicate: Option<u64>,
}

/// The gateway in its cluster, of one or of many.
#[derive(Debug)]
pub struct Cluster {
    pub name: String,
    pub bus: Bus,
    /// How gateways ask each other whether they live, if they do.
    pub pings: Option<Pings>,
    advertised: Option<SocketAddr>,
    pace: Pace,
    labels: Labels,
    /// By which its key is told from another.
    key: String,
    identity: ArcSwap<Identity>,
    view: ArcSwap<View>,
    /// Joins and ends of members, counted.
    flaps: AtomicU64,
    leaving: watch::Sender<bool>,
    /// Which configuration the store has, as each beat finds it; nothing before the first.
    stored: watch::Sender<Option<ConfigMark>>,
}

impl Cluster {
    /// As configured; nothing is done yet. `kept` is the id of the state directory.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(config: &model::Cluster, kept: &str, incarnation: u64) -> Result<Self, Vec<Diagnostic>> {
        let id = config.node.as_deref().unwrap_or(kept);
        let node =
            NodeId::new(id).map_err(|error| vec![Diagnostic::error("cluster.node", error.to_string())])?;
        let bus = match options(config)? {
            Some(options) => Bus::redis(options, node, incarnation),
            None => Bus::embedded(node, incarnation),
        };
        Ok(Self {
            name: config.name.clone(),
            pings: pings(config),
            advertised: match config.advertise {
                Some(ListenAddress::Tcp(address)) => Some(address),
                Some(ListenAddress::Unix(_)) | None => None,
            },
            bus,
            pace: Pace {
                heartbeat: config.heartbeat,
                gone_after: config.gone_after,
                duplicate: config.duplicate,
            },
            labels: config.labels.clone(),
            key: config.key.as_ref().map_or_else(String::new, |key| {
                envelope::fingerprint(key.0.as_bytes(), &config.name)
            }),
            identity: ArcSwap::default(),
            view: ArcSwap::default(),
            flaps: AtomicU64::new(0),
            leaving: watch::Sender::new(false),
            stored: watch::Sender::new(None),
        })
    }

    /// Who is there, as far as is known.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// What cluster and gateway are called in the form of other systems; empty before that is known.
    #[must_use]
    pub fn identity(&self) -> Arc<Identity> {
        self.identity.load_full()
    }

    /// Calls them so.
    pub fn call(&self, identity: Identity) {
        self.identity.store(Arc::new(identity));
    }

    /// Whether another gateway has the same `cluster.key`, or has none as this one.
    #[must_use]
    pub fn has_our_key(&self, other: &Record) -> bool {
        other.key == self.key
    }

    /// Follows which configuration the store has: changed with each beat that it answers.
    #[must_use]
    pub fn stored(&self) -> watch::Receiver<Option<ConfigMark>> {
        self.stored.subscribe()
    }

    /// Members that joined or ended, since the start.
    #[must_use]
    pub fn flaps(&self) -> u64 {
        self.flaps.load(Ordering::Relaxed)
    }

    /// Takes over how to get into the Redis from another configuration; everything else in it waits for a start.
    pub fn reconfigure(&self, before: &model::Cluster, now: &model::Cluster) {
        let files = now.redis.as_ref().is_some_and(|url| url.tls);
        if before == now && !files {
            return;
        }
        // What is wrong with it was told before it came into force.
        if let Ok(Some(options)) = options(now) {
            self.bus.access(options.access, before != now);
        }
    }

    /// Tells the others that this gateway goes. Once; nobody waits for it.
    pub fn leave(&self) {
        self.leaving.send_replace(true);
    }
}

/// Where there is anybody to ask, and a key to know the answers by.
fn pings(config: &model::Cluster) -> Option<Pings> {
    let key = config
        .key
        .as_ref()
        .filter(|_| config.ping && config.redis.is_some())?;
    Some(Pings {
        key: PingKey::new(key.0.as_bytes()),
        counts: ping::Counts::default(),
    })
}

/// What the bus over Redis needs; nothing for a cluster of one.
///
/// # Errors
/// Terms of TLS that can't be used.
pub fn options(config: &model::Cluster) -> Result<Option<Options>, Vec<Diagnostic>> {
    let Some(url) = &config.redis else {
        return Ok(None);
    };
    let secure = if url.tls { Some(secure(config)?) } else { None };
    let secret = |secret: &Option<model::Secret>| secret.as_ref().map(|secret| secret.0.clone());
    let access = Access {
        login: Login {
            user: config.redis_user.clone().or_else(|| url.user.clone()),
            password: secret(&config.redis_password).or_else(|| secret(&url.password)),
        },
        sentinel_login: Login {
            user: config.sentinel_user.clone(),
            password: secret(&config.sentinel_password),
        },
        secure,
        url: url.clone(),
    };
    Ok(Some(Options {
        access,
        names: Names::new(&config.prefix, &config.name),
        key: config.key.as_ref().map(|secret| Key::new(secret.0.as_bytes())),
        versions: versions(),
    }))
}

/// The versions of announcements that this gateway understands.
#[cfg(not(feature = "faults"))]
const fn versions() -> Versions {
    UNDERSTOOD
}

/// A test may have a gateway that understands others, such as `1-2`: one of the next version.
#[cfg(feature = "faults")]
fn versions() -> Versions {
    let asked = std::env::var("TIDEGATE_FAULT_ENVELOPES").ok();
    let range = asked.as_deref().and_then(|asked| asked.split_once('-'));
    let read = range.and_then(|(least, greatest)| Some((least.parse().ok()?, greatest.parse().ok()?)));
    read.map_or(UNDERSTOOD, |(least, greatest)| Versions { least, greatest })
}

fn secure(config: &model::Cluster) -> Result<Secure, Vec<Diagnostic>> {
    let mut found = Vec::new();
    match ClientTls::load(&config.redis_tls, None, &[], "cluster.redis_tls", &mut found) {
        Some(tls) => {
            let (config, name) = tls.terms();
            Ok(Secure { config, name })
        }
        None => Err(found),
    }
}
