//! Everything about a start that can fail: open, bind, become who we are to be, start threads.

use super::ready::ReadyFile;
use super::{RunOptions, StartError};
use crate::config::Loaded;
use crate::config::model::{ListenAddress, Workers as WorkerCount};
use crate::control::cluster::Cluster;
use crate::control::failover::{self, FailOvers};
use crate::control::following::Beginning;
use crate::control::gateway::{AdminSocket, Node, Parts};
use crate::control::journal::{Journal, one_line};
use crate::control::listeners::{BindError, Listeners, socket_address};
use crate::control::overrides::file;
use crate::control::process::{self, Identity, PidFile};
use crate::control::reload;
use crate::control::services::{self, Services};
use crate::control::sharing::keys;
use crate::control::state_dir::{self, StateDir};
use crate::control::sticky_key;
use crate::control::systemd::Inherited;
use crate::control::workers::Workers;
use crate::control::{Gateway, cores};
use crate::net::listen::{self, Address, Options, Socket, SocketFile};
use crate::proxy::board::Board;
use crate::proxy::worker::{Report, WorkerContext};
use crate::snapshot::{self, Live, Snapshot};
use crate::telemetry::access_log::AccessWriter;
use crate::telemetry::events::{Events, Severity};
use crate::telemetry::log::LogControl;
use crate::telemetry::metrics::Metrics;
use crate::tls::acme::{Acme, HOME};
use crate::upstream::shared::names::Directory;
use crate::upstream::shared::sticky::own_key::OwnKey;
use crate::upstream::shared::{Overrides, Registry};
use jiff::Timestamp;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Reports of workers that may wait for control.
const REPORTS: usize = 1024;
/// Connections to the control socket that the kernel keeps.
const CONTROL_BACKLOG: u32 = 64;
/// Everything that can fail has not.
pub(super) struct Prepared {
    pub gateway: Arc<Gateway>,
    pub access: Arc<AccessWriter>,
    pub log: LogControl,
    pub reports: mpsc::Receiver<Report>,
    pub control: Option<(UnixListener, SocketFile)>,
    pub ready_file: Option<ReadyFile>,
    pub pid_file: Option<PidFile>,
}

/// Does it, in the order of a reload; threads come last.
pub(super) fn prepare(
    options: &RunOptions,
    mut beginning: Beginning,
    inherited: Inherited,
    log: LogControl,
) -> Result<Prepared, StartError> {
    let metrics = Metrics::new();
    let candidates = options
        .surroundings
        .state_candidates(beginning.loaded.config.runtime.state_dir.clone());
    let cluster = &beginning.loaded.config.cluster;
    let shared = if cluster.redis.is_some() && cluster.key.is_some() {
        let state = StateDir::open(&candidates).ok();
        state.map(|state| keys::kept_secrets(state.path()))
    } else {
        None
    };
    let own_key = OwnKey::kept(move || sticky_key::secret(&candidates));
    own_key.share(shared.unwrap_or_default());
    let registry = Arc::new(Registry::with_key(own_key));
    let access = AccessWriter::start(Arc::clone(&metrics.access_log))
        .map_err(StartError::system("the access log's thread could not be started"))?;
    let directory = Directory::default();
    let tickets = Arc::default();
    let acme = Arc::<Acme>::default();
    let none = Overrides::default();
    let parts = || snapshot::Parts {
        registry: &registry,
        access: &access,
        // Names are resolved by a task, and that does not run yet.
        directory: &directory,
        overrides: &none,
        tickets: &tickets,
        acme: &acme,
    };
    let compiled = match reload::compile(beginning.loaded.clone(), 1, parts()) {
        // What the cluster published may ask for what is not there any more.
        Err(problems) if beginning.give_up(&problems.iter().map(one_line).collect::<Vec<_>>().join("; ")) => {
            reload::compile(beginning.loaded.clone(), 1, parts())
        }
        compiled => compiled,
    };
    let (loaded, mut snapshot) = compiled.map_err(StartError::Config)?;
    let Beginning { following, told, .. } = beginning;
    for warning in &loaded.warnings {
        tracing::warn!("{}", one_line(warning));
    }
    reload::open_logs(&snapshot).map_err(StartError::Files)?;
    let runtime = &loaded.config.runtime;
    let identity = Identity::resolve(runtime.user.as_deref(), runtime.group.as_deref())?;
    let open_files = open_files(&loaded);

    let count = match runtime.workers {
        WorkerCount::Auto => cores::usable(),
        WorkerCount::Count(count) => count.max(1),
    };
    let mut listeners = Listeners::new(count, inherited);
    let sockets = listeners
        .prepare(&loaded.config.listeners)
        .map_err(StartError::Bind)?;
    let moves = listeners.apply(sockets);
    let admin = admin_socket(&loaded, &mut listeners)?;
    let place = Place::take(options, &loaded)?;
    let (overrides, damaged) = kept_overrides(&place);
    if let Some(state) = &place.state {
        acme.keep_in(state.path());
    }
    if !overrides.is_empty() {
        let upstreams = snapshot::upstreams(
            &loaded.config,
            &snapshot.dials(),
            &registry,
            &directory,
            &overrides,
        );
        snapshot = snapshot.with_upstreams(1, upstreams);
    }
    let pid_file = runtime.pid_file.as_deref().map(PidFile::write).transpose()?;
    let ready_file = options
        .ready_file
        .as_deref()
        .map(|path| {
            let what = format!("ready file {} cannot be written", path.display());
            ReadyFile::reserve(path, identity.as_ref()).map_err(StartError::system(what))
        })
        .transpose()?;
    if let Some(identity) = identity {
        hand_over(&identity, &loaded, &snapshot, &place, pid_file.as_ref());
        identity.assume()?;
    }

    let live = Arc::new(Live::new(snapshot));
    let board = Arc::new(Board::default());
    board.set_accept_fd_limit(process::client_descriptors(open_files));
    let (report, reports) = mpsc::channel(REPORTS);
    let context = WorkerContext {
        live: Arc::clone(&live),
        metrics: Arc::clone(&metrics),
        access: Arc::clone(&access),
        board: Arc::clone(&board),
        reports: report,
    };
    let mut workers =
        Workers::start(count, context).map_err(StartError::system("a worker could not be started"))?;
    workers.apply(moves);
    metrics.control.serving(1);
    let node = place.node();
    let cluster =
        Cluster::new(&loaded.config.cluster, &node.id, place.incarnation()).map_err(StartError::Config)?;
    let gateway = Gateway::new(Parts {
        node,
        cluster,
        live,
        tickets,
        acme,
        registry,
        journal: Journal::new(Events::new(Arc::clone(&metrics))),
        metrics,
        board,
        loaded,
        overrides,
        following,
        failovers: kept_history(&place),
        services: kept_services(&place),
        listeners,
        workers,
        admin,
    });
    for text in told {
        gateway
            .journal
            .note(Severity::Error, "config.rejected", &gateway.cluster.name, text);
    }
    if let Some(text) = damaged {
        gateway
            .journal
            .note(Severity::Error, "overrides.damaged", "", text);
    }
    Ok(Prepared {
        gateway,
        access,
        log,
        reports,
        control: place.control,
        ready_file,
        pid_file,
    })
}

/// What operators changed in an earlier run. A file that can't be taken is put aside, and told: to serve as the
/// file says is better than not to.
fn kept_overrides(place: &Place) -> (Overrides, Option<String>) {
    let Some(state) = &place.state else {
        return (Overrides::default(), None);
    };
    match file::load(state.path()) {
        Ok(overrides) => (overrides, None),
        Err(error) => {
            let path = state.path().join(file::FILE);
            let aside = match file::put_aside(state.path()) {
                Ok(aside) => format!("it is now {}", aside.display()),
                Err(error) => format!("it could not be put aside either: {error}"),
            };
            let text = format!(
                "{}: {error}; the gateway starts without the drains, weights and algorithms set at run time, {aside}",
                path.display()
            );
            (Overrides::default(), Some(text))
        }
    }
}

/// The fail-overs of earlier runs. Without them the gateway is as good.
fn kept_history(place: &Place) -> FailOvers {
    let Some(state) = &place.state else {
        return FailOvers::default();
    };
    match failover::file::load(state.path()) {
        Ok(entries) => FailOvers::new(entries),
        Err(error) => {
            tracing::warn!(%error, "the history of fail-overs can't be read, and begins anew");
            FailOvers::default()
        }
    }
}

/// What registered itself in an earlier run, and may still be there. Without it they register anew.
fn kept_services(place: &Place) -> Services {
    let Some(state) = &place.state else {
        return Services::default();
    };
    match services::file::load(state.path()) {
        Ok(instances) => Services::new(instances, Timestamp::now()),
        Err(error) => {
            tracing::warn!(%error, "the registered services of the last run can't be read");
            Services::default()
        }
    }
}

/// Raises the limit of open files, and says when that is not enough: aloud to who asked for so many connections.
fn open_files(loaded: &Loaded) -> u64 {
    let limit = process::raise_open_files().unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit of open files could not be raised");
        rustix::process::getrlimit(rustix::process::Resource::Nofile)
            .current
            .unwrap_or(u64::MAX)
    });
    if let Some(text) = process::too_few_files(limit, loaded.config.runtime.max_connections) {
        if loaded.origins.describe("runtime.max_connections") == "default" {
            tracing::info!("{text}");
        } else {
            tracing::warn!("{text}");
        }
    }
    limit
}

fn admin_socket(loaded: &Loaded, listeners: &mut Listeners) -> Result<Option<AdminSocket>, StartError> {
    let admin = loaded.config.admin.as_ref();
    let socket = admin.map(|admin| {
        let written = socket_address(&admin.address);
        match listeners.claim_inherited("admin", &written) {
            Some(socket) => adopted_admin(written, socket),
            None => reload::bind_admin(&admin.address),
        }
    });
    let socket = socket
        .transpose()
        .map_err(|error| StartError::Bind(vec![error]))?;
    for name in listeners.unclaimed() {
        tracing::warn!(
            socket = name,
            "the service manager passed a socket that no listener has the name or address of"
        );
    }
    Ok(socket)
}

fn adopted_admin(written: Address, socket: Socket) -> Result<AdminSocket, BindError> {
    match listen::adopt(socket) {
        Ok(mut bound) => {
            let socket = bound.sockets.remove(0);
            Ok(AdminSocket {
                written,
                bound: bound.address,
                socket,
                file: None,
            })
        }
        Err(source) => Err(BindError {
            listener: "admin".to_owned(),
            address: written,
            source,
        }),
    }
}

/// Where this process keeps its state, and its way in for local commands.
struct Place {
    state: Option<StateDir>,
    control: Option<(UnixListener, SocketFile)>,
}

impl Place {
    /// A configured directory must be usable; without one the gateway does without state.
    fn take(options: &RunOptions, loaded: &Loaded) -> Result<Self, StartError> {
        let configured = loaded.config.runtime.state_dir.clone();
        let required = configured.is_some();
        let state = match StateDir::open(&options.surroundings.state_candidates(configured)) {
            Ok(state) => Some(state),
            Err(error) if required => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "no state is kept and there is no control socket; set runtime.state_dir");
                None
            }
        };
        let control = state
            .as_ref()
            .and_then(|state| control_socket(&state.control_socket()));
        Ok(Self { state, control })
    }

    /// Higher with every start.
    fn incarnation(&self) -> u64 {
        let Some(state) = &self.state else {
            return state_dir::incarnation_after(0);
        };
        state.incarnation().unwrap_or_else(|error| {
            tracing::warn!(%error, "the number of this start can't be kept");
            state_dir::incarnation_after(0)
        })
    }

    fn node(&self) -> Node {
        let id = self.state.as_ref().map(StateDir::node_id);
        let id = match id {
            Some(Ok(id)) => id,
            Some(Err(error)) => {
                tracing::warn!(%error, "the node id can't be kept: it changes with every start");
                state_dir::random_node_id()
            }
            None => state_dir::random_node_id(),
        };
        Node {
            id,
            started: Timestamp::now(),
            state_dir: self.state.as_ref().map(|state| state.path().to_path_buf()),
            control_socket: self.control.as_ref().map(|(_, file)| file.path().to_path_buf()),
        }
    }
}

/// Binds the control socket. A second gateway with the same state directory does without, as the first must keep
/// it.
fn control_socket(path: &Path) -> Option<(UnixListener, SocketFile)> {
    let options = Options {
        backlog: CONTROL_BACKLOG,
        mode: Some(0o600),
    };
    match listen::bind(&Address::Unix(path.to_path_buf()), 1, options) {
        Ok(mut bound) => match (bound.sockets.pop(), bound.file) {
            (Some(Socket::Unix(socket)), Some(file)) => Some((socket, file)),
            _ => None,
        },
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            tracing::warn!(
                socket = %path.display(),
                "another gateway has this state directory; this one goes without a control socket"
            );
            None
        }
        Err(error) => {
            tracing::warn!(socket = %path.display(), %error, "there is no control socket");
            None
        }
    }
}

/// What is in a directory; nothing, where there is none.
fn entries(path: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(path).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).collect()
}

/// Gives what was made with privileges to who the process will be.
fn hand_over(
    identity: &Identity,
    loaded: &Loaded,
    snapshot: &Snapshot,
    place: &Place,
    pid_file: Option<&PidFile>,
) {
    let mut paths: Vec<PathBuf> = Vec::new();
    if let Some(state) = &place.state {
        paths.push(state.path().to_path_buf());
        paths.extend(entries(state.path()));
        // Three levels: authorities, what is kept of each, certificates.
        let mut level = vec![state.path().join(HOME)];
        for _ in 0..3 {
            level = level.iter().flat_map(|path| entries(path)).collect();
            paths.extend(level.iter().cloned());
        }
    }
    paths.extend(pid_file.map(|file| file.path().to_path_buf()));
    let logs = snapshot
        .listeners
        .iter()
        .filter_map(|listener| listener.access.as_ref());
    paths.extend(
        logs.map(|log| log.file.path().to_path_buf())
            .filter(|path| path != Path::new("-")),
    );
    paths.extend(
        loaded
            .config
            .listeners
            .values()
            .filter_map(|listener| match &listener.address {
                ListenAddress::Unix(path) => Some(path.clone()),
                ListenAddress::Tcp(_) => None,
            }),
    );
    for path in paths {
        if let Err(error) = identity.own(&path) {
            tracing::warn!(path = %path.display(), %error, "could not be given to runtime.user");
        }
    }
}
