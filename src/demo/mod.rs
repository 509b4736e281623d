//! `tidegate demo`: three small app servers, a gateway in front of them, and what to try with them.
//!
//! The app servers and the gateway are processes of their own, so that killing one is the real thing. Everything
//! ends with the demo, however it ends: an app server stops when its standard input closes, the gateway has asked
//! the kernel for a signal when its parent dies, and the folder with the configuration is removed.

mod app;
mod chat;
mod children;
mod console;
mod load;
mod place;

pub use app::AppArgs;
pub use children::GatewayArgs;

use anyhow::Context;
use children::{App, Bus, Gateway};
use console::Console;
use futures_util::future::join_all;
use place::Place;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// App servers behind the gateway.
const APPS: usize = 3;
/// Times that the gateway is started before the demo gives up.
const GATEWAY_STARTS: u32 = 3;
/// A killed app server comes back after this long: enough to see that nothing fails meanwhile.
const COMES_BACK_AFTER: Duration = Duration::from_secs(8);

/// `tidegate demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Send this many requests per second through the gateway and show what comes of them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub load: Option<u32>,
}

/// Runs the demo until Ctrl-C.
///
/// # Errors
/// A process could not be started, or the gateway ended by itself.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(demo(args))
}

/// Runs one app server: the hidden command `demo-app`.
///
/// # Errors
/// Its port is taken, or standard input is not the demo's pipe.
pub fn run_app(args: &AppArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(app::serve(args))
}

/// Becomes the gateway: the hidden command `demo-gateway`.
///
/// # Errors
/// The gateway's program could not be started.
pub fn run_gateway(args: &GatewayArgs) -> anyhow::Result<ExitCode> {
    children::become_gateway(args)
}

/// One thread: the kernel's parent-death signal belongs to the thread that started the child, so children are
/// started on the one that lives as long as the demo.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")
}

async fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let console = Console::new();

    let mut apps = Vec::with_capacity(APPS);
    for number in 1..=APPS {
        apps.push(App::start(&program, &format!("app-{number}"), 0).await?);
    }
    let endpoints: Vec<_> = apps.iter().map(|app| app.address).collect();
    let (place, mut gateway) = start_gateway(&program, &endpoints).await?;
    console.note(&welcome(&program, &place, &apps, gateway.pid()));

    let bus = Bus::new();
    let keep_apps = join_all(apps.into_iter().map(|app| keep(app, &program, &bus, &console)));
    let load = load::run(args.load, place.web, &console);
    let outcome = tokio::select! {
        ended = gateway.follow(&console) => Err(anyhow::anyhow!("the gateway ended by itself: {ended}")),
        _ = keep_apps => Ok(()),
        () = load => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    console.note("stopping: the gateway drains, then everything is gone");
    tokio::select! {
        () = gateway.stop(&console) => {}
        // Asked twice: now. What is left dies as it is dropped.
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Starts the gateway on free ports. One that was free may be taken by the time it is bound, then others are looked
/// for.
async fn start_gateway(program: &Path, endpoints: &[SocketAddr]) -> anyhow::Result<(Place, Gateway)> {
    let mut starts = 1;
    loop {
        let place = Place::new(endpoints)?;
        match Gateway::start(program, &place.config, &place.ready_file).await {
            Ok(gateway) => return Ok((place, gateway)),
            Err(_) if starts < GATEWAY_STARTS => starts += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Keeps an app server's seat: passes its chat on while it lives, and starts it again when it was killed.
async fn keep(mut app: App, program: &Path, bus: &Bus, console: &Console) {
    loop {
        let ended = app.follow(bus).await;
        let (name, address) = (app.name.clone(), app.address);
        let seconds = COMES_BACK_AFTER.as_secs();
        console.note(&format!(
            "{name} is gone ({ended}); the others serve on. It comes back in {seconds} s"
        ));
        app = loop {
            tokio::time::sleep(COMES_BACK_AFTER).await;
            match App::start(program, &name, address.port()).await {
                Ok(app) => break app,
                Err(error) => console.note(&format!("{name} does not start: {error:#}")),
            }
        };
        console.note(&format!("{name} is back: pid {}", app.pid()));
    }
}

fn welcome(program: &Path, place: &Place, apps: &[App], gateway: u32) -> String {
    let Place {
        web, admin, config, ..
    } = place;
    let config = config.display();
    let servers: String = apps
        .iter()
        .map(|app| format!("  {:9} {}  pid {}\n", app.name, app.address, app.pid()))
        .collect();
    let victim = apps.get(1).map_or(0, App::pid);
    let third = apps.get(2).map(|app| app.address.to_string()).unwrap_or_default();
    let program = program.display();
    format!(
        "Tidegate demo: three app servers behind one gateway\n\n\
         \x20 open      http://{web}/        which server answers, a chat over WebSocket, a clock over SSE\n\
         \x20 admin     http://{admin}/stats   also /metrics, /readyz, /api/v1/upstreams, /api/v1/routes\n\
         \x20 config    {config}\n\n\
         {servers}\
         \x20 gateway   {web}  pid {gateway}\n\n\
         Try\n\
         \x20 curl -s http://{web}/whoami\n\
         \x20     another server each time\n\
         \x20 kill -9 {victim}\n\
         \x20     app-2 is gone: requests go to the others, its chat and clock reconnect; its checks bring it back\n\
         \x20 {program} drain {third} -c {config}\n\
         \x20     app-3 finishes what it has and gets nothing new, until: undrain {third}\n\
         \x20 {program} balance apps least_connections -c {config}\n\
         \x20     another algorithm from the next request on; --reset goes back to the file's\n\
         \x20 {program} status -c {config}\n\
         \x20     each endpoint's state, requests, open connections, and who changed what\n\
         \x20 edit {config}\n\
         \x20     it is read again on every save, and a mistake changes nothing but a message here\n\n\
         Ctrl-C ends all of it.\n"
    )
}

/// The address of a listener that answers on loopback.
fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
