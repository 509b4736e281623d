//! The processes of the demo: app servers and the gateway, all of this same program.

use super::console::Console;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep, timeout};

/// An app server or the gateway must be up within this.
const STARTS_WITHIN: Duration = Duration::from_secs(15);
/// Drain of the demo's gateway (3 s in its configuration) and some more; then it is killed.
const STOPS_WITHIN: Duration = Duration::from_secs(6);
const LOOKS_EVERY: Duration = Duration::from_millis(20);
/// Chat lines that an app server may be behind before it misses some.
const BUS_LINES: usize = 256;

/// `tidegate demo-gateway`: what the demo passes to the process that becomes its gateway.
#[derive(Debug, clap::Args)]
pub struct GatewayArgs {
    #[arg(long)]
    config: PathBuf,
    #[arg(long)]
    ready_file: PathBuf,
    /// The demo's process id.
    #[arg(long)]
    parent: i32,
}

/// Asks for the end with the parent, then becomes `tidegate run`: the request outlives the change of program.
pub fn become_gateway(args: &GatewayArgs) -> anyhow::Result<ExitCode> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    if getppid() != Pid::from_raw(args.parent) {
        bail!("the demo is gone already");
    }
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command
        .arg("run")
        .arg("-c")
        .arg(&args.config)
        .arg("--ready-file")
        .arg(&args.ready_file);
    Err(command.exec()).context("cannot start the gateway")
}

/// A child in a process group of its own, so that Ctrl-C reaches only the demo, which ends the rest in order.
/// Killed when it is dropped.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.process_group(0).spawn();
        child
            .map(Self)
            .with_context(|| format!("cannot start {}", command.get_program().display()))
    }

    /// How it ended, in words.
    async fn ended(&mut self) -> String {
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) => sleep(LOOKS_EVERY).await,
                Err(error) => return error.to_string(),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a child that is gone.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn reader(end: impl Into<OwnedFd>) -> anyhow::Result<Lines<BufReader<pipe::Receiver>>> {
    Ok(BufReader::new(pipe::Receiver::from_owned_fd(end.into())?).lines())
}

/// Carries chat lines between the app servers: whoever chats on one is read on all.
#[derive(Debug)]
pub struct Bus(broadcast::Sender<(String, String)>);

impl Bus {
    pub fn new() -> Self {
        Self(broadcast::channel(BUS_LINES).0)
    }
}

/// A running app server.
#[derive(Debug)]
pub struct App {
    pub name: String,
    pub address: SocketAddr,
    process: Process,
    /// Lines for it; closing it is its order to stop.
    input: pipe::Sender,
    /// Lines from it; their end is its end.
    output: Lines<BufReader<pipe::Receiver>>,
}

impl App {
    /// Starts one on this port (0: any) and waits until it listens.
    pub async fn start(program: &Path, name: &str, port: u16) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(["demo-app", "--name", name, "--port", &port.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command)?;
        let (input, output) = (process.0.stdin.take(), process.0.stdout.take());
        let input = pipe::Sender::from_owned_fd(input.context("no pipe to the app server")?.into())?;
        let mut output = reader(output.context("no pipe from the app server")?)?;
        let first = timeout(STARTS_WITHIN, output.next_line())
            .await
            .context("the app server does not start")??;
        let line = first.context("the app server ended at once")?;
        let address = line
            .parse()
            .with_context(|| format!("the app server said {line:?}"))?;
        Ok(Self {
            name: name.to_owned(),
            address,
            process,
            input,
            output,
        })
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Passes chat lines on, until the app server ends; returns how.
    pub async fn follow(&mut self, bus: &Bus) -> String {
        let mut others = bus.0.subscribe();
        loop {
            tokio::select! {
                line = self.output.next_line() => match line {
                    // Nobody may be subscribed while all others are down.
                    Ok(Some(line)) => drop(bus.0.send((self.name.clone(), line))),
                    Ok(None) | Err(_) => return self.process.ended().await,
                },
                said = others.recv() => if let Ok((origin, line)) = said && origin != self.name {
                    // A write fails when the app server is gone, which the other branch sees.
                    drop(self.input.write_all(format!("{line}\n").as_bytes()).await);
                },
            }
        }
    }
}

/// The running gateway.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    output: Lines<BufReader<pipe::Receiver>>,
    errors: Lines<BufReader<pipe::Receiver>>,
}

impl Gateway {
    /// Starts it and waits until it serves.
    pub async fn start(program: &Path, config: &Path, ready_file: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        let parent = std::process::id().to_string();
        command
            .arg("demo-gateway")
            .arg("--config")
            .arg(config)
            .arg("--ready-file")
            .arg(ready_file);
        command
            .args(["--parent", &parent])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Process::start(&mut command)?;
        let (output, errors) = (process.0.stdout.take(), process.0.stderr.take());
        let output = reader(output.context("no pipe from the gateway")?)?;
        let errors = reader(errors.context("no pipe from the gateway")?)?;
        let mut gateway = Self {
            process,
            output,
            errors,
        };
        gateway.wait_until_it_serves(ready_file).await?;
        Ok(gateway)
    }

    async fn wait_until_it_serves(&mut self, ready_file: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + STARTS_WITHIN;
        while !ready_file.exists() {
            if let Some(status) = self.process.0.try_wait()? {
                let mut said = Vec::new();
                while let Ok(Some(line)) = self.errors.next_line().await {
                    said.push(line);
                }
                bail!("the gateway ended ({status}):\n{}", said.join("\n"));
            }
            if Instant::now() > deadline {
                bail!("the gateway does not serve after {} s", STARTS_WITHIN.as_secs());
            }
            sleep(LOOKS_EVERY).await;
        }
        Ok(())
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Shows its log until it ends; returns how.
    pub async fn follow(&mut self, console: &Console) -> String {
        loop {
            tokio::select! {
                line = self.errors.next_line() => match line {
                    Ok(Some(line)) => console.note(&format!("gateway │ {line}")),
                    Ok(None) | Err(_) => return self.process.ended().await,
                },
                // Its addresses, which the demo has said already; read so that it never waits for a full pipe.
                Ok(Some(_)) = self.output.next_line() => {}
            }
        }
    }

    /// Asks it to drain and waits for its end, for a while.
    pub async fn stop(&mut self, console: &Console) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Fails only for a gateway that is gone.
            kill_process(pid, Signal::TERM).unwrap_or_default();
        }
        drop(timeout(STOPS_WITHIN, self.follow(console)).await);
    }
}
