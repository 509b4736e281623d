//! What can be asked of the gateway, by whom, and what can come of it.

use super::change::Change;
use super::drills::{DrillWish, Mode};
use super::overrides::{BalanceWish, EndpointWish, ThresholdWish};
use super::sharing::config::document::Document;
use crate::config::diagnostic::Diagnostic;
use crate::config::form::quantity;
use crate::config::model::{Grant, LogLevel};
use crate::proxy::tunnel::book::Which;
use crate::upstream::shared::EndpointKey;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait. One more is refused: whoever sends that many doesn't need them all.
const QUEUE: usize = 64;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A file of the configuration changed.
    FileWatch,
    Signal(&'static str),
    /// A user of the admin API, by the name of the token.
    Token {
        name: String,
        role: Grant,
    },
    /// Somebody on the same host who may open the control socket.
    ControlSocket {
        uid: u32,
    },
    /// The admin API without tokens.
    Anonymous,
    /// The time that somebody gave a change is over.
    Expiry,
    /// Another gateway of the cluster.
    Cluster {
        node: String,
    },
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileWatch => f.write_str("file watch"),
            Self::Signal(name) => write!(f, "signal {name}"),
            Self::Token { name, .. } => write!(f, "token {name}"),
            Self::ControlSocket { uid } => write!(f, "control socket uid {uid}"),
            Self::Anonymous => f.write_str("anonymous"),
            Self::Expiry => f.write_str("expiry"),
            Self::Cluster { node } => write!(f, "cluster {node}"),
        }
    }
}

/// One override in another gateway's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPiece {
    pub key: String,
    /// What it was here when that was heard; if it is something else by now, it stays.
    pub before: Option<String>,
    /// `None`: it was taken back.
    pub after: Option<String>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Reload,
    /// Certificates, keys and what belongs to them are read anew; the configuration is not.
    ReloadTls,
    /// Another level of the application log, back to the configured one after `revert_after`.
    SetLogLevel {
        level: LogLevel,
        revert_after: Option<Duration>,
    },
    ReopenLogs,
    /// What was published to the cluster comes into force.
    FollowConfig(Arc<Document>),
    /// A configuration is published to the cluster; it is done already when it is written down.
    PublishConfig {
        version: u64,
        what: String,
        reason: Option<String>,
    },
    /// Another state or weight of an endpoint than the file's.
    ChangeEndpoint {
        endpoint: EndpointKey,
        wish: EndpointWish,
    },
    /// Another algorithm of some upstreams than the file's.
    ChangeBalance(BalanceWish),
    /// Other thresholds of some upstreams than the file's.
    ChangeThresholds(ThresholdWish),
    /// Tunnels are to go, with this code where frames are known.
    CloseTunnels {
        which: Which,
        code: u16,
        reason: Option<String>,
    },
    /// A service says where it is; `told` is all it says. It is done already when it is written down: heartbeats
    /// don't wait for anybody's reload.
    RegisterService {
        service: String,
        id: String,
        told: String,
        anew: bool,
    },
    DeregisterService {
        service: String,
        id: String,
    },
    /// Overrides as other gateways have them.
    ShareOverrides(Vec<SharedPiece>),
    /// A fail-over drill; it is begun already when it is written down.
    Drill(DrillWish),
    /// A gateway has left for good, perhaps with the overrides that were made on it. Its record is gone already when it is
    /// written down.
    ForgetNode {
        node: String,
        overrides: bool,
    },
    /// Changes whose time is over are taken back: those that were to end at these moments.
    Expire(BTreeSet<Timestamp>),
}

impl Action {
    /// The word for it in the audit log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Reload => "config.reload",
            Self::ReloadTls => "tls.reload",
            Self::SetLogLevel { .. } => "log.level",
            Self::ReopenLogs => "log.reopen",
            Self::FollowConfig(_) => "config.follow",
            Self::PublishConfig { .. } => "config.publish",
            Self::ChangeEndpoint { .. } => "endpoint.change",
            Self::ChangeBalance(_) => "balance.change",
            Self::ChangeThresholds(_) => "thresholds.change",
            Self::CloseTunnels { .. } => "tunnels.close",
            Self::RegisterService { .. } => "service.register",
            Self::DeregisterService { .. } => "service.deregister",
            Self::ShareOverrides(_) => "overrides.share",
            Self::Drill(_) => "failover.test",
            Self::ForgetNode { .. } => "node.forget",
            Self::Expire(_) => "overrides.expire",
        }
    }

    /// What it is about, where that is one thing of several.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::Reload
            | Self::ReloadTls
            | Self::SetLogLevel { .. }
            | Self::ReopenLogs
            | Self::ShareOverrides(_)
            | Self::Expire(_) => String::new(),
            Self::FollowConfig(document) => format!("cluster version {}", document.about.version),
            Self::PublishConfig { version: 0, .. } => String::new(),
            Self::PublishConfig { version, .. } => format!("cluster version {version}"),
            Self::ChangeEndpoint { endpoint, .. } => endpoint.to_string(),
            Self::ChangeBalance(wish) => wish.upstreams.join(", "),
            Self::ChangeThresholds(wish) => wish.upstreams.join(", "),
            Self::CloseTunnels { which, .. } => which.to_string(),
            Self::RegisterService { service, id, .. } | Self::DeregisterService { service, id } => {
                format!("{service}/{id}")
            }
            Self::Drill(wish) => wish.endpoint.to_string(),
            Self::ForgetNode { node, .. } => node.clone(),
        }
    }

    /// What it is to become, and why, in the words of whoever asks.
    #[must_use]
    pub fn wish(&self) -> Option<(String, Option<&str>)> {
        match self {
            Self::Reload
            | Self::ReloadTls
            | Self::SetLogLevel { .. }
            | Self::ReopenLogs
            | Self::FollowConfig(_)
            | Self::DeregisterService { .. }
            | Self::ShareOverrides(_)
            | Self::Expire(_) => None,
            Self::PublishConfig { what, reason, .. } => Some((what.clone(), reason.as_deref())),
            Self::RegisterService { told, .. } => Some((told.clone(), None)),
            Self::ForgetNode { overrides, .. } => {
                let fate = if *overrides { "taken back" } else { "kept" };
                Some((format!("forgotten, what was changed there {fate}"), None))
            }
            Self::Drill(wish) => {
                let mut told = format!("drill: {}", wish.mode.name());
                if wish.mode != Mode::Simulate {
                    told += &format!(" for {}", quantity::write_duration(wish.duration));
                }
                if wish.share > 0.0 {
                    told += &format!(", share {}", wish.share);
                }
                Some((told, wish.reason.as_deref()))
            }
            Self::ChangeEndpoint { wish, .. } => Some((wish.to_string(), wish.reason.as_deref())),
            Self::ChangeBalance(wish) => Some((wish.to_string(), wish.reason.as_deref())),
            Self::ChangeThresholds(wish) => Some((wish.to_string(), wish.reason.as_deref())),
            Self::CloseTunnels { code, reason, .. } => {
                Some((format!("closed with {code}"), reason.as_deref()))
            }
        }
    }
}

/// One request for a change.
#[derive(Clone, Debug)]
pub struct Command {
    pub actor: Actor,
    /// Say what would happen, change nothing.
    pub dry_run: bool,
    pub action: Action,
}

/// What came of a command.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is in force, or would be if this were no dry run.
    Applied {
        generation: u64,
        changes: Vec<Change>,
        warnings: Vec<Diagnostic>,
    },
    /// There was nothing to do.
    Unchanged { generation: u64 },
    /// Everything is as before, for these reasons.
    Rejected(Vec<Diagnostic>),
    /// A command without a configuration was carried out.
    Done,
    /// So many tunnels go, or would.
    Closed { tunnels: usize },
}

impl Outcome {
    /// The word for it in the audit log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Applied { .. } => "applied",
            Self::Unchanged { .. } => "unchanged",
            Self::Rejected(_) => "rejected",
            Self::Done | Self::Closed { .. } => "done",
        }
    }
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    #[error("{QUEUE} commands wait already")]
    Busy,
    #[error("the gateway is ending")]
    Ending,
}

/// A command on its way, with where the outcome goes.
#[derive(Debug)]
pub(super) struct Submitted {
    pub command: Command,
    pub answer: oneshot::Sender<Outcome>,
}

/// The way to the mutator.
#[derive(Clone, Debug)]
pub struct Commands {
    queue: mpsc::Sender<Submitted>,
}

impl Commands {
    pub(super) fn channel() -> (Self, mpsc::Receiver<Submitted>) {
        let (queue, inbox) = mpsc::channel(QUEUE);
        (Self { queue }, inbox)
    }

    /// Sends a command and waits for what comes of it.
    ///
    /// # Errors
    /// The queue is full, or the gateway is ending.
    pub async fn submit(&self, command: Command) -> Result<Outcome, SubmitError> {
        let (answer, outcome) = oneshot::channel();
        self.queue
            .try_send(Submitted { command, answer })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => SubmitError::Busy,
                mpsc::error::TrySendError::Closed(_) => SubmitError::Ending,
            })?;
        outcome.await.map_err(|_| SubmitError::Ending)
    }
}
