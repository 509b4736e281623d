//! A reload, strictly in this order: load, validate, compile, bind, swap, retire. Everything that can fail lies
//! before the swap and has changed nothing by then, so there is no way back to build.

mod admin;
mod follow;
mod source;
mod tls;

pub use admin::bind_admin;
pub use source::Source;

use super::change::{self, Change, ChangeKind};
use super::command::Outcome;
use super::gateway::{Gateway, Phase};
use super::listeners::BindError;
use super::sharing::config::document::Document;
use super::{cluster, drains, unverified};
use crate::config::diagnostic::Diagnostic;
use crate::config::{Loaded, SharedText};
use crate::snapshot::{self, Parts, Snapshot};
use crate::telemetry::access_log::AccessWriter;
use crate::telemetry::metrics::{OTHER, SeriesKey, UNROUTED};
use crate::upstream::shared::AdminState;
use admin::AdminMove;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

/// What reloads work on.
#[derive(Debug)]
pub struct Reloader {
    gateway: Arc<Gateway>,
    source: Source,
    access: Arc<AccessWriter>,
    tried: Tried,
    /// What the cluster published, could not be used, and why: tried again it is no news.
    refused: Option<(Arc<Document>, Vec<Diagnostic>)>,
}

/// What was tried last. Problems carry the text that they are in, so equal ones mean equal files.
#[derive(Debug, PartialEq, Eq)]
enum Tried {
    Loaded(u64),
    Rejected(Vec<Diagnostic>),
}

/// What a reload came to, with what must be watched from now on.
#[derive(Debug)]
pub struct Reloaded {
    pub outcome: Outcome,
    pub watched: Watched,
    /// The same bytes were tried just before.
    pub repeated: bool,
}

/// Files that the configuration was read from, or should have been, and the directories they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    pub files: Vec<PathBuf>,
    pub directories: Vec<PathBuf>,
}

/// A configuration that could be in force.
struct Candidate {
    loaded: Loaded,
    snapshot: Snapshot,
    changes: Vec<Change>,
}

impl Reloader {
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, source: Source, access: Arc<AccessWriter>) -> Self {
        let tried = Tried::Loaded(gateway.running.load().fingerprint);
        Self {
            gateway,
            source,
            access,
            tried,
            refused: None,
        }
    }

    /// The whole sequence. With `dry_run` it ends before anything is bound.
    pub async fn reload(&mut self, dry_run: bool) -> Reloaded {
        let (loaded, watched) = match self.load(self.gateway.following.text()).await {
            Ok(loaded) => loaded,
            Err(mut reloaded) => {
                if let Outcome::Rejected(problems) = &reloaded.outcome {
                    reloaded.repeated = self.seen(Tried::Rejected(problems.clone()));
                }
                return reloaded;
            }
        };
        let repeated = self.seen(Tried::Loaded(loaded.fingerprint));
        let outcome = self.go_by(loaded, dry_run).await;
        Reloaded {
            outcome,
            watched,
            repeated,
        }
    }

    /// Reads it, and says what must be watched from now on.
    async fn load(&self, shared: Option<SharedText>) -> Result<(Loaded, Watched), Reloaded> {
        let source = self.source.clone();
        let loading = tokio::task::spawn_blocking(move || match shared {
            Some(shared) => source.load_under(&shared),
            None => source.load(),
        });
        match loading.await {
            Ok(Ok(loaded)) => {
                let watched = Watched {
                    files: loaded.files.clone(),
                    directories: loaded.directories.clone(),
                };
                Ok((loaded, watched))
            }
            Ok(Err(rejected)) => Err(Reloaded {
                outcome: Outcome::Rejected(rejected.diagnostics),
                watched: Watched {
                    files: rejected.files,
                    directories: rejected.directories,
                },
                repeated: false,
            }),
            Err(panic) => Err(internal(&panic)),
        }
    }

    /// Validates, compiles, and puts it in force.
    async fn go_by(&self, loaded: Loaded, dry_run: bool) -> Outcome {
        if !dry_run {
            self.gateway.names.settle(&loaded.config).await;
        }
        match self.candidate(loaded).await {
            Ok(None) => Outcome::Unchanged {
                generation: self.gateway.live.generation(),
            },
            Ok(Some(candidate)) if dry_run => Outcome::Applied {
                generation: candidate.snapshot.generation,
                changes: candidate.changes,
                warnings: candidate.loaded.warnings,
            },
            Ok(Some(candidate)) => self.put_in_force(candidate),
            Err(diagnostics) => Outcome::Rejected(diagnostics),
        }
    }

    fn seen(&mut self, now: Tried) -> bool {
        let seen = self.tried == now;
        self.tried = now;
        seen
    }

    /// Validates and compiles. `None`: it is what runs already.
    async fn candidate(&self, loaded: Loaded) -> Result<Option<Candidate>, Vec<Diagnostic>> {
        let running = self.gateway.running.load_full();
        if loaded.fingerprint == running.fingerprint && loaded.config == running.config {
            return Ok(None);
        }
        refuse_restart_only(&running, &loaded)?;
        let mut changes = change::changes(&running.config, &loaded.config);
        if changes.is_empty() {
            // An error page, or a comment.
            changes.push(Change {
                object: "files",
                name: String::new(),
                change: ChangeKind::Changed,
            });
        }
        let generation = self.gateway.live.generation() + 1;
        let (gateway, access) = (Arc::clone(&self.gateway), self.access.clone());
        let overrides = self.gateway.overrides.load_full();
        let compiling = tokio::task::spawn_blocking(move || {
            let parts = Parts {
                registry: &gateway.registry,
                access: &access,
                directory: &gateway.names.directory,
                overrides: &overrides,
                tickets: &gateway.tickets,
                acme: &gateway.acme,
            };
            compile(loaded, generation, parts)
        });
        match compiling.await {
            Ok(Ok((loaded, snapshot))) => Ok(Some(Candidate {
                loaded,
                snapshot,
                changes,
            })),
            Ok(Err(diagnostics)) => Err(diagnostics),
            Err(panic) => Err(vec![Diagnostic::error("", format!("internal error: {panic}"))]),
        }
    }

    /// Binds, and with all of it standing swaps. No await: nobody sees a half of it.
    fn put_in_force(&self, candidate: Candidate) -> Outcome {
        let Candidate {
            loaded,
            snapshot,
            changes,
        } = candidate;
        let generation = snapshot.generation;
        let gateway = &self.gateway;
        if gateway.phase() == Phase::Draining {
            return Outcome::Rejected(vec![Diagnostic::error("", "the gateway is ending")]);
        }
        if let Err(refused) = open_logs(&snapshot) {
            return Outcome::Rejected(placed(refused, &loaded));
        }
        let mut plane = gateway.plane();
        let prepared = match plane.listeners.prepare(&loaded.config.listeners) {
            Ok(prepared) => prepared,
            Err(errors) => {
                return Outcome::Rejected(placed(errors.iter().map(refused_listener).collect(), &loaded));
            }
        };
        let admin = match self.admin_move(loaded.config.admin.as_ref()) {
            Ok(admin) => admin,
            Err(error) => {
                let error = Diagnostic::error("admin.address", error.to_string());
                return Outcome::Rejected(placed(vec![error], &loaded));
            }
        };

        drains::spare(gateway, |key| {
            gateway.overrides.load().admin_of(key) != AdminState::Active
        });
        gateway.live.swap(snapshot);
        let before = gateway.running.load_full();
        gateway
            .cluster
            .reconfigure(&before.config.cluster, &loaded.config.cluster);

        let moves = plane.listeners.apply(prepared);
        gateway.move_sockets(&mut plane, moves);
        plane.workers.snapshot_moved();
        drop(plane);
        match admin {
            AdminMove::Stays => {}
            AdminMove::Goes => gateway.replace_admin(None),
            AdminMove::To(socket) => gateway.replace_admin(Some(socket)),
        }
        unverified::tell(gateway);
        let warnings = loaded.warnings.clone();
        gateway.running.store(Arc::new(loaded));
        forget_removed_series(gateway);
        gateway.endpoints_changed.notify_one();
        gateway.drains.look();
        Outcome::Applied {
            generation,
            changes,
            warnings,
        }
    }
}

/// Compiles a configuration; its warnings join those of reading it. Blocking: error pages are read.
///
/// # Errors
/// Everything that is wrong with it.
pub fn compile(
    mut loaded: Loaded,
    generation: u64,
    parts: Parts<'_>,
) -> Result<(Loaded, Snapshot), Vec<Diagnostic>> {
    match snapshot::compile(&loaded.config, generation, parts) {
        Ok((snapshot, warnings)) => {
            // It takes effect with a restart; what is wrong with it is told now.
            cluster::options(&loaded.config.cluster).map_err(|told| placed(told, &loaded))?;
            let warnings = placed(warnings, &loaded);
            loaded.warnings.extend(warnings);
            Ok((loaded, snapshot))
        }
        Err(diagnostics) => Err(placed(diagnostics, &loaded)),
    }
}

/// Opens the access logs that a snapshot writes to.
///
/// # Errors
/// Those that cannot be opened.
pub fn open_logs(snapshot: &Snapshot) -> Result<(), Vec<Diagnostic>> {
    let refused: Vec<Diagnostic> = snapshot
        .listeners
        .iter()
        .filter_map(|listener| Some((listener, listener.access.as_ref()?)))
        .filter_map(|(listener, log)| {
            let error = log.file.prepare().err()?;
            let key = format!("listeners.{}.access_log", listener.name);
            Some(Diagnostic::error(
                key,
                format!("{} cannot be opened: {error}", log.file.path().display()),
            ))
        })
        .collect();
    if refused.is_empty() { Ok(()) } else { Err(refused) }
}

fn internal(panic: &tokio::task::JoinError) -> Reloaded {
    let diagnostic = Diagnostic::error("", format!("internal error while loading: {panic}"));
    Reloaded {
        outcome: Outcome::Rejected(vec![diagnostic]),
        watched: Watched::default(),
        repeated: false,
    }
}

fn refuse_restart_only(running: &Loaded, loaded: &Loaded) -> Result<(), Vec<Diagnostic>> {
    let shares = |loaded: &Loaded| loaded.config.cluster.redis.is_some();
    let other_bus = (shares(running) != shares(loaded)).then(|| "cluster.redis".to_owned());
    let refused: Vec<Diagnostic> = loaded
        .restart_keys(running)
        .into_iter()
        .chain(other_bus)
        .map(|key| {
            Diagnostic::error(key, "changed, and takes effect only at a start")
                .hint("restart the gateway, or put the former value back")
        })
        .collect();
    if refused.is_empty() {
        Ok(())
    } else {
        Err(placed(refused, loaded))
    }
}

fn refused_listener(error: &BindError) -> Diagnostic {
    Diagnostic::error(format!("listeners.{}.address", error.listener), error.to_string())
}

/// Fills in where in the files each problem lies.
pub(super) fn placed(mut diagnostics: Vec<Diagnostic>, loaded: &Loaded) -> Vec<Diagnostic> {
    for diagnostic in &mut diagnostics {
        loaded.origins.place(diagnostic);
    }
    diagnostics
}

/// Series of what is gone go with it, or a gateway that reloads for a year grows for a year.
pub(super) fn forget_removed_series(gateway: &Gateway) {
    let (running, live) = (gateway.running.load_full(), gateway.live.load());
    let config = &running.config;
    let routes: HashSet<&str> = config
        .routes
        .iter()
        .map(|route| route.name.as_str())
        .chain([UNROUTED, OTHER])
        .collect();
    let endpoints: HashSet<(&str, &str)> = live
        .upstreams
        .iter()
        .flat_map(|upstream| &upstream.endpoints)
        .map(|endpoint| (&*endpoint.state.key.upstream, &*endpoint.state.key.address))
        .collect();
    gateway.metrics.retain(|key| match key {
        SeriesKey::Listener(name) => name == OTHER || config.listeners.contains_key(name),
        SeriesKey::Route { route, .. } => routes.contains(route),
        SeriesKey::Endpoint { upstream, address } => {
            upstream == OTHER || endpoints.contains(&(upstream, address))
        }
    });
}
