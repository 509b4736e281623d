//! Real Redis servers and sentinels as processes of the test: started on free ports in directories of their own, killed,
//! paused, started again.
//!
//! Ports are found by binding port 0 and letting go of it: another process may take one in between, so a server that
//! does not come up is started again on another.

use crate::address::Address;
use crate::eventually::{eventually_some, patience};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Attempts to find a port that stays free.
const ATTEMPTS: usize = 5;

/// Whether this machine has the server; tests that need it say that they are skipped otherwise.
#[must_use]
pub fn installed() -> bool {
    let found = has("redis-server");
    if !found {
        eprintln!("skipped: redis-server is not installed (tests/run says how)");
    }
    found
}

fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A port that was free a moment ago. A Redis Cluster needs the one 10000 above it too.
fn free_port() -> u16 {
    loop {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("address").port();
        if port < 50_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

/// Where a server runs, and how it is reached.
#[derive(Clone, Debug)]
pub struct Place {
    /// Starts the server, and becomes it.
    pub runner: Vec<String>,
    /// The address that it listens at.
    pub bind: &'static str,
    /// By which others know it.
    pub known_as: String,
    /// By which the test reaches it.
    pub asked_at: String,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            runner: Vec::new(),
            bind: "127.0.0.1",
            known_as: "127.0.0.1".to_owned(),
            asked_at: "127.0.0.1".to_owned(),
        }
    }
}

/// One server.
#[derive(Debug)]
pub struct Redis {
    child: Option<Child>,
    port: u16,
    tls_port: u16,
    args: Vec<String>,
    password: Option<String>,
    dir: tempfile::TempDir,
    sentinel: bool,
    place: Place,
}

/// Of every server: it keeps nothing.
const PLAIN: [&str; 6] = [
    "--save",
    "",
    "--appendonly",
    "no",
    "--enable-debug-command",
    "yes",
];

impl Redis {
    /// A server without persistence.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A server with further options, such as `["--requirepass", "secret"]`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn with(args: &[&str]) -> Self {
        Self::at(Place::default(), args)
    }

    /// The same at a place of its own.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn at(place: Place, args: &[&str]) -> Self {
        Self::run(place, &[&PLAIN, args].concat(), false)
    }

    /// A server that also speaks TLS, with files for its certificate, its key, and whom it trusts.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn with_tls(cert: &str, key: &str, ca: &str) -> Self {
        let port = free_port();
        let text = port.to_string();
        let mut redis = Self::with(&[
            "--tls-port",
            &text,
            "--tls-cert-file",
            cert,
            "--tls-key-file",
            key,
            "--tls-ca-cert-file",
            ca,
            "--tls-auth-clients",
            "no",
        ]);
        redis.tls_port = port;
        redis
    }

    /// Where it speaks TLS.
    #[must_use]
    pub const fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// A replica of this server.
    #[must_use]
    pub fn replica(&self) -> Self {
        self.replica_at(Place::default())
    }

    /// A replica of this server at a place of its own.
    #[must_use]
    pub fn replica_at(&self, place: Place) -> Self {
        let port = self.port.to_string();
        let args = [
            "--replicaof",
            &self.place.known_as,
            &port,
            "--repl-diskless-sync-delay",
            "0",
        ];
        Self::at(place, &args)
    }

    /// A sentinel that watches this master under the name `prod`.
    #[must_use]
    pub fn sentinel(&self, quorum: usize, down_after: Duration) -> Self {
        self.sentinel_at(Place::default(), quorum, down_after)
    }

    /// A sentinel at a place of its own.
    #[must_use]
    pub fn sentinel_at(&self, place: Place, quorum: usize, down_after: Duration) -> Self {
        let config = format!(
            "sentinel monitor prod {} {} {quorum}\nsentinel down-after-milliseconds prod {}\nsentinel failover-timeout prod 3000\n",
            self.place.known_as,
            self.port,
            down_after.as_millis()
        );
        Self::run(place, &[&config], true)
    }

    fn run(place: Place, args: &[&str], sentinel: bool) -> Self {
        let password = args
            .iter()
            .position(|arg| *arg == "--requirepass")
            .and_then(|at| args.get(at + 1));
        let mut redis = Self {
            child: None,
            port: 0,
            tls_port: 0,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            password: password.map(|password| (*password).to_owned()),
            dir: tempfile::Builder::new()
                .prefix("tidegate-redis-")
                .tempdir()
                .expect("directory"),
            sentinel,
            place,
        };
        for _ in 0..ATTEMPTS {
            redis.port = free_port();
            if redis.sentinel {
                std::fs::write(redis.dir.path().join("sentinel.conf"), &redis.args[0])
                    .expect("sentinel.conf");
            }
            redis.child = Some(redis.spawn());
            if redis.comes_up() {
                return redis;
            }
            redis.kill();
        }
        panic!("no redis-server came up: {}", redis.log());
    }

    fn spawn(&self) -> Child {
        let words = [&self.place.runner[..], &["redis-server".to_owned()]].concat();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        if self.sentinel {
            command.arg(self.dir.path().join("sentinel.conf"));
        }
        command
            .args(["--port", &self.port.to_string(), "--bind", self.place.bind])
            .args(["--protected-mode", "no"])
            .args([
                "--dir",
                &self.dir.path().display().to_string(),
                "--logfile",
                "log",
            ]);
        if self.sentinel {
            command.arg("--sentinel");
        } else {
            command.args(&self.args);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().expect("redis-server")
    }

    fn comes_up(&mut self) -> bool {
        let deadline = Instant::now() + patience();
        while Instant::now() < deadline {
            if let Some(child) = &mut self.child
                && matches!(child.try_wait(), Ok(Some(_)) | Err(_))
            {
                return false;
            }
            if self
                .try_ask(&["PING"])
                .is_some_and(|answer| answer.contains("PONG") || answer.contains("LOADING"))
            {
                return true;
            }
            crate::pace(Duration::from_millis(10));
        }
        false
    }

    /// Its log, for a test that fails.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn address(&self) -> Address {
        Address::parse(&format!("{}:{}", self.place.known_as, self.port))
    }

    /// The directory that it lives in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// As the gateway is told of it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}:{}", self.place.known_as, self.port)
    }

    /// Sends a command and gives the answer as `redis-cli` would print it, roughly: texts, numbers and errors, lists
    /// with line ends between.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    #[must_use]
    pub fn ask(&self, args: &[&str]) -> String {
        self.try_ask(args)
            .unwrap_or_else(|| panic!("no answer to {args:?}"))
    }

    /// The same for a server that may be away.
    #[must_use]
    pub fn try_ask(&self, args: &[&str]) -> Option<String> {
        let bytes: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        self.try_ask_bytes(&bytes)
    }

    /// The same for arguments that are no text.
    #[must_use]
    pub fn try_ask_bytes(&self, args: &[&[u8]]) -> Option<String> {
        let address = format!("{}:{}", self.place.asked_at, self.port);
        let address = address.parse().expect("an address");
        let stream = TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        let mut connection = Wire {
            stream,
            read: Vec::new(),
        };
        if let Some(password) = &self.password {
            connection.send(&[b"AUTH", password.as_bytes()])?;
            connection.answer()?;
        }
        connection.send(args)?;
        connection.answer()
    }

    /// Another password from now on, for those who are in too.
    ///
    /// # Panics
    /// When the server does not take it.
    pub fn change_password(&mut self, password: &str) {
        assert_eq!(self.ask(&["CONFIG", "SET", "requirepass", password]), "OK");
        self.password = Some(password.to_owned());
        for kind in ["normal", "pubsub"] {
            let _ = self.ask(&["CLIENT", "KILL", "TYPE", kind]);
        }
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again where it was.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_again(&mut self) {
        eventually_some("the server is there again", || {
            self.kill();
            self.child = Some(self.spawn());
            self.comes_up().then_some(())
        });
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a running server");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("pid")).expect("pid");
        kill_process(pid, signal).expect("signal");
    }

    /// Stands still from now on: connections are accepted by the kernel, and nothing is answered.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            eprintln!("redis on {}:", self.port);
            for line in tail.iter().rev() {
                eprintln!("  {line}");
            }
        }
        self.kill();
    }
}

struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    fn send(&mut self, args: &[&[u8]]) -> Option<()> {
        let mut out = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            out.extend(format!("${}\r\n", arg.len()).into_bytes());
            out.extend(*arg);
            out.extend(b"\r\n");
        }
        self.stream.write_all(&out).ok()
    }

    fn fill(&mut self) -> Option<()> {
        let mut buffer = [0; 16 << 10];
        let n = self.stream.read(&mut buffer).ok().filter(|n| *n > 0)?;
        self.read.extend(&buffer[..n]);
        Some(())
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.read[..end]).into_owned();
                self.read.drain(..end + 2);
                return Some(line);
            }
            self.fill()?;
        }
    }

    fn answer(&mut self) -> Option<String> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1)?;
        match kind {
            "$" => {
                let Ok(length) = rest.parse::<usize>() else {
                    return Some(String::new());
                };
                while self.read.len() < length + 2 {
                    self.fill()?;
                }
                let text = String::from_utf8_lossy(&self.read[..length]).into_owned();
                self.read.drain(..length + 2);
                Some(text)
            }
            "*" => {
                let count = rest.parse::<usize>().unwrap_or(0);
                let parts: Option<Vec<String>> = (0..count).map(|_| self.answer()).collect();
                Some(parts?.join("\n"))
            }
            _ => Some(rest.to_owned()),
        }
    }
}
