//! The life of a gateway that stands: its tasks, the signals, the end.

use super::prepare::Prepared;
use super::ready::ReadyFile;
use super::{RunOptions, StartError};
use crate::admin::{Api, server};
use crate::base::task;
use crate::control::command::{Action, Actor, Command, Commands};
use crate::control::drain::{self, Ended};
use crate::control::failover::follow;
use crate::control::gateway::Phase;
use crate::control::mutator::Mutator;
use crate::control::reload::{Reloader, Source};
use crate::control::supervise::Supervisor;
use crate::control::{
    Gateway, acme, certificates, cluster, discovery, dns, drains, drills, health, outlier, rebalance,
    services, sharing, systemd, unverified, watch as files,
};
use crate::telemetry::access_log::AccessWriter;
use crate::telemetry::events::Severity;
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

/// Threads for what blocks: reading files, compiling.
const BLOCKING_THREADS: usize = 8;
/// Longest wait for all workers to turn before readiness is told anyway.
const FIRST_TURN: Duration = Duration::from_secs(5);
/// Longest wait for the access log's last records.
const LAST_RECORDS: Duration = Duration::from_secs(2);
/// Longest wait for the cluster to be told that this gateway goes.
const LEAVING: Duration = Duration::from_millis(500);
/// How long the admin side may finish its answers.
const ADMIN_GRACE: Duration = Duration::from_millis(200);

const EXIT_DONE: u8 = 0;
const EXIT_FAILED: u8 = 1;
const EXIT_CUT: u8 = 3;

/// Serves until a signal ends it. Gives the exit code.
pub(super) fn run(prepared: Prepared, options: RunOptions) -> Result<u8, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(StartError::system("the control runtime could not be made"))?;
    let code = runtime.block_on(serve(prepared, options));
    // A file that hangs must not keep the process.
    runtime.shutdown_background();
    code
}

async fn serve(prepared: Prepared, options: RunOptions) -> Result<u8, StartError> {
    let Prepared {
        gateway,
        access,
        log,
        reports,
        control,
        ready_file,
        pid_file: _removed_at_the_end,
    } = prepared;
    let mut signals = Signals::listen().map_err(StartError::system("signals can't be received"))?;
    let (end, ending) = watch::channel(false);

    let (supervisor, must_end) = Supervisor::new(Arc::clone(&gateway), reports);
    task::spawn(supervisor.run());
    let reloader = Reloader::new(Arc::clone(&gateway), options.source.clone(), Arc::clone(&access));
    let (mutator, commands, watched) = Mutator::new(Arc::clone(&gateway), reloader, Arc::clone(&access), log);
    let changing = task::spawn(mutator.run());
    if matches!(options.source, Source::File { .. }) {
        task::spawn(files::run(watched, commands.clone()));
    }
    task::spawn(dns::run(Arc::clone(&gateway)));
    task::spawn(acme::run(Arc::clone(&gateway)));
    task::spawn(drains::run(Arc::clone(&gateway)));
    task::spawn(rebalance::run(Arc::clone(&gateway)));
    task::spawn(health::run(Arc::clone(&gateway)));
    task::spawn(health::fail_open::run(Arc::clone(&gateway)));
    task::spawn(outlier::run(Arc::clone(&gateway)));
    task::spawn(follow::run(Arc::clone(&gateway)));
    task::spawn(drills::run::run(Arc::clone(&gateway)));
    // Before the first look at what is discovered: it serves with them.
    services::keep::offer(&gateway);
    task::spawn(services::keep::run(Arc::clone(&gateway)));
    task::spawn(certificates::run(Arc::clone(&gateway)));
    let beating = task::spawn(cluster::run(Arc::clone(&gateway)));
    sharing::start(&gateway, &commands);
    let api = Api {
        gateway: Arc::clone(&gateway),
        commands: commands.clone(),
    };
    task::spawn(server::serve_listener(
        api.clone(),
        gateway.admin_socket(),
        ending.clone(),
    ));
    let control = serve_control(&api, control, ending)?;
    if let Some(interval) = systemd::watchdog_interval() {
        task::spawn(watchdog(Arc::clone(&gateway), interval));
    }

    all_turn(&gateway).await;
    discovery::settle(&gateway).await;
    gateway.enter(Phase::Serving);
    announce(&gateway, ready_file)?;
    let code = until_end(&gateway, &commands, &mut signals, must_end).await;

    // By then the cluster has been told, or can't be.
    gateway.cluster.leave();
    drop(tokio::time::timeout(LEAVING, beating).await);
    gateway.cluster.bus.end().await;
    // Whoever listens to the end is told; whoever does not is not waited for.
    end.send_replace(true);
    gateway.replace_admin(None);
    tokio::time::sleep(ADMIN_GRACE).await;
    if let Some(file) = control
        && let Err(error) = file.remove()
    {
        tracing::warn!(%error, "the control socket could not be removed");
    }
    services::keep::keep(&gateway).await;
    finish_log(access).await;
    // The log's last lines are written when its keeper goes.
    changing.abort();
    drop(changing.await);
    Ok(code)
}

fn serve_control(
    api: &Api,
    control: Option<(std::os::unix::net::UnixListener, crate::net::listen::SocketFile)>,
    ending: watch::Receiver<bool>,
) -> Result<Option<crate::net::listen::SocketFile>, StartError> {
    let Some((socket, file)) = control else {
        return Ok(None);
    };
    let listener =
        UnixListener::from_std(socket).map_err(StartError::system("the control socket can't be used"))?;
    task::spawn(server::serve_control(api.clone(), listener, ending));
    Ok(Some(file))
}

/// Tells the service manager that we live, as long as a worker turns.
async fn watchdog(gateway: Arc<Gateway>, interval: Duration) {
    loop {
        if gateway.workers().iter().any(|worker| worker.turning) {
            systemd::watchdog();
        }
        tokio::time::sleep(interval).await;
    }
}

/// Waits until every worker turns. Connections that come before wait in the kernel.
async fn all_turn(gateway: &Gateway) {
    let deadline = Instant::now() + FIRST_TURN;
    while Instant::now() < deadline {
        if gateway
            .metrics
            .workers()
            .iter()
            .all(|worker| worker.worker.loop_ticks.get() > 0)
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Tells everybody that it serves, and where.
fn announce(gateway: &Gateway, ready_file: Option<ReadyFile>) -> Result<(), StartError> {
    let admin = gateway
        .admin_socket()
        .borrow()
        .as_ref()
        .map(|admin| admin.bound.to_string());
    let mut lines = String::new();
    let mut listeners = Map::new();
    for listener in gateway.bound() {
        lines.push_str(&format!("listener {} on {}\n", listener.name, listener.address));
        listeners.insert(
            listener.name.to_string(),
            Value::String(listener.address.to_string()),
        );
    }
    if let Some(admin) = &admin {
        lines.push_str(&format!("admin on {admin}\n"));
    }
    lines.push_str("ready\n");
    if let Some(file) = ready_file {
        let ready = json!({
            "pid": std::process::id(),
            "listeners": listeners,
            "admin": admin,
            "control": gateway.node.control_socket,
        });
        let what = format!("ready file {} cannot be written", file.path().display());
        file.publish(format!("{ready}\n").as_bytes())
            .map_err(StartError::system(what))?;
    }
    // Who started us may not read this.
    let mut out = io::stdout().lock();
    drop(out.write_all(lines.as_bytes()).and_then(|()| out.flush()));
    drop(out);
    systemd::ready("serving");
    let workers = gateway.workers().len();
    gateway.journal.note(
        Severity::Info,
        "gateway.ready",
        "",
        format!("serving with {workers} workers"),
    );
    unverified::tell(gateway);
    Ok(())
}

/// The signals that we know.
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    user1: Signal,
    user2: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Reload,
    ReopenLogs,
    Upgrade,
    End,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.user1.recv() => Asked::ReopenLogs,
            _ = self.user2.recv() => Asked::Upgrade,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.terminate.recv() => Asked::End,
            _ = self.quit.recv() => Asked::End,
        }
    }

    async fn next_end(&mut self) {
        while self.next().await != Asked::End {}
    }
}

async fn until_end(
    gateway: &Gateway,
    commands: &Commands,
    signals: &mut Signals,
    mut must_end: watch::Receiver<bool>,
) -> u8 {
    loop {
        let asked = tokio::select! {
            asked = signals.next() => asked,
            _ = must_end.wait_for(|must| *must) => return EXIT_FAILED,
        };
        match asked {
            Asked::Reload => send(commands, "HUP", Action::Reload),
            Asked::ReopenLogs => send(commands, "USR1", Action::ReopenLogs),
            Asked::Upgrade => {
                tracing::warn!("USR2: changing the binary without a restart is not available yet")
            }
            Asked::End => break,
        }
    }
    // Others need not find out by themselves.
    gateway.cluster.leave();
    match drain::drain(gateway, signals.next_end()).await {
        Ended::Clean => EXIT_DONE,
        Ended::Cut(_) => EXIT_CUT,
    }
}

fn send(commands: &Commands, name: &'static str, action: Action) {
    let commands = commands.clone();
    task::spawn(async move {
        let command = Command {
            actor: Actor::Signal(name),
            dry_run: false,
            action,
        };
        if let Err(error) = commands.submit(command).await {
            tracing::warn!(signal = name, %error, "the signal was not followed");
        }
    });
}

/// Writes out the last records. Waits on a thread that may block.
async fn finish_log(access: Arc<AccessWriter>) {
    let finished = tokio::task::spawn_blocking(move || access.finish(LAST_RECORDS)).await;
    if !matches!(finished, Ok(true)) {
        tracing::warn!("some access records could not be written");
    }
}
