//! A reload, strictly in this order: load, validate, compile, bind, swap, retire. Everything that can fail lies
//! before the swap and has changed nothing by then, so there is no way back to build.

use super::change::{self, Change, ChangeKind};
use super::command::Outcome;
use super::gateway::{AdminSocket, Gateway, Phase};
use super::listeners::{BindError, socket_address};
use super::sharing::config::document::Document;
use super::{cluster, drains, unverified};
use crate::config::diagnostic::Diagnostic;
use crate::config::model::{Admin, ListenAddress};
use crate::config::{self, Environment, Loaded, Rejected, SharedText};
use crate::net::listen::{self, Address, Options};
use crate::snapshot::{self, Parts, Snapshot};
use crate::telemetry::access_log::AccessWriter;
use crate::telemetry::metrics::{OTHER, SeriesKey, UNROUTED};
use crate::upstream::shared::AdminState;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

/// Connections to the admin listener that the kernel keeps.
const ADMIN_BACKLOG: u32 = 128;

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    File {
        path: PathBuf,
        environment: Environment,
    },
    /// Written by a command, such as `tidegate proxy`; it can't change.
    Text {
        name: String,
        text: String,
        environment: Environment,
    },
}

impl Source {
    /// Reads it. Blocking.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<Loaded, Rejected> {
        match self {
            Self::File { path, environment } => config::load(path, environment),
            Self::Text {
                name,
                text,
                environment,
            } => config::load_text(name, text, environment),
        }
    }

    /// As [`Self::load`], with what gateways share in the place of its own.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load_under(&self, shared: &SharedText) -> Result<Loaded, Rejected> {
        match self {
            Self::File { path, environment } => config::load_under(path, shared, environment),
            Self::Text {
                name,
                text,
                environment,
            } => config::load_text_under(name, text, shared, environment),
        }
    }
}

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

    /// The same with what was published to the cluster, which is what later reloads go by if it comes into force.
    pub async fn follow(&mut self, document: &Arc<Document>, dry_run: bool) -> Reloaded {
        let news = document
            .shared_text()
            .map(|text| SharedText { news: true, ..text });
        let mut reloaded = match self.load(news).await {
            Ok((loaded, watched)) => {
                let outcome = match self.laid_open(&loaded) {
                    Some(refused) => Outcome::Rejected(refused),
                    None => self.go_by(loaded, dry_run).await,
                };
                Reloaded {
                    outcome,
                    watched,
                    repeated: false,
                }
            }
            Err(reloaded) => reloaded,
        };
        if dry_run {
            return reloaded;
        }
        match &reloaded.outcome {
            Outcome::Rejected(problems) => {
                let refused = Some((Arc::clone(document), problems.clone()));
                reloaded.repeated = self.refused == refused;
                self.refused = refused;
            }
            _ => {
                self.refused = None;
                self.tried = Tried::Loaded(self.gateway.running.load().fingerprint);
                self.gateway.following.take(Arc::clone(document));
            }
        }
        reloaded
    }

    /// Secrets that everybody who may read the store would see.
    fn laid_open(&self, loaded: &Loaded) -> Option<Vec<Diagnostic>> {
        let alone = self.gateway.cluster.bus.is_embedded();
        if alone || loaded.config.cluster.key.is_some() || loaded.shared_secrets.is_empty() {
            return None;
        }
        let refused = loaded.shared_secrets.iter().map(|place| {
            Diagnostic::error("", format!("{place}: a secret itself stands in what is published, and without cluster.key it would lie open in the Redis"))
                .hint("name where it is kept on every gateway: \"env:NAME\" or \"file:/PATH\"")
        });
        Some(refused.collect())
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

    /// Reads what TLS of the configuration in force is made of anew, and serves it if it is sound.
    pub async fn reload_tls(&self, dry_run: bool) -> Outcome {
        let (gateway, access) = (Arc::clone(&self.gateway), self.access.clone());
        let (running, live) = (gateway.running.load_full(), gateway.live.load());
        let (config, before) = (running.clone(), live.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let parts = Parts {
                registry: &gateway.registry,
                access: &access,
                directory: &gateway.names.directory,
                overrides: &gateway.overrides.load_full(),
                tickets: &gateway.tickets,
                acme: &gateway.acme,
            };
            snapshot::certificates(&before, &config.config, parts)
        });
        let (listeners, warnings) = match reading.await {
            Ok(Ok(Some(read))) => read,
            Ok(Ok(None)) => {
                return Outcome::Unchanged {
                    generation: live.generation,
                };
            }
            Ok(Err(diagnostics)) => return Outcome::Rejected(placed(diagnostics, &running)),
            Err(panic) => {
                return Outcome::Rejected(vec![Diagnostic::error("", format!("internal error: {panic}"))]);
            }
        };
        let generation = live.generation + 1;
        let changed = live
            .listeners
            .iter()
            .zip(&listeners)
            .filter(|(old, new)| !Arc::ptr_eq(old, new));
        let changes = changed
            .map(|(_, new)| Change {
                object: "certificates",
                name: new.name.to_string(),
                change: ChangeKind::Changed,
            })
            .collect();
        if !dry_run {
            if self.gateway.phase() == Phase::Draining {
                return Outcome::Rejected(vec![Diagnostic::error("", "the gateway is ending")]);
            }
            self.gateway.live.swap(live.with_listeners(generation, listeners));
            self.gateway.plane().workers.snapshot_moved();
        }
        Outcome::Applied {
            generation,
            changes,
            warnings: placed(warnings, &running),
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

    fn admin_move(&self, wanted: Option<&Admin>) -> Result<AdminMove, BindError> {
        let current = self
            .gateway
            .admin_socket()
            .borrow()
            .as_ref()
            .map(|admin| admin.written.clone());
        let Some(wanted) = wanted else {
            return Ok(if current.is_some() {
                AdminMove::Goes
            } else {
                AdminMove::Stays
            });
        };
        if current == Some(socket_address(&wanted.address)) {
            return Ok(AdminMove::Stays);
        }
        bind_admin(&wanted.address).map(AdminMove::To)
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

/// What a reload means for the admin listener.
enum AdminMove {
    Stays,
    Goes,
    To(AdminSocket),
}

/// Binds the admin listener.
///
/// # Errors
/// The address can't be had.
pub fn bind_admin(address: &ListenAddress) -> Result<AdminSocket, BindError> {
    let written = socket_address(address);
    let refused = |source| BindError {
        listener: "admin".to_owned(),
        address: written.clone(),
        source,
    };
    let options = Options {
        backlog: ADMIN_BACKLOG,
        mode: Some(0o600).filter(|_| is_unix(&written)),
    };
    let mut bound = listen::bind(&written, 1, options).map_err(refused)?;
    let socket = bound.sockets.remove(0);
    Ok(AdminSocket {
        written,
        bound: bound.address,
        socket,
        file: bound.file,
    })
}

fn is_unix(address: &Address) -> bool {
    matches!(address, Address::Unix(_))
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
