//! The real binary as a process of the test.

use crate::address::Address;
use crate::cli::{self, Ran, command};
use crate::eventually::{eventually, eventually_some, patience};
use crate::message::Response;
use crate::raw::Conn;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How a gateway is to be started.
#[derive(Debug)]
pub struct Builder {
    binary: String,
    config: String,
    files: Vec<(String, String)>,
    values: Vec<(String, String)>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    nofile: Option<u32>,
    runner: Vec<String>,
    admin: bool,
    token: Option<String>,
    config_map: bool,
}

impl Builder {
    /// The configuration. `@name@` stands for a value given by [`Builder::with`]; `@dir@` for the directory
    /// that the file lies in.
    #[must_use]
    pub fn config(mut self, config: &str) -> Self {
        config.clone_into(&mut self.config);
        self
    }

    /// Fills a placeholder, typically with a backend's address.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        self.values.push((format!("@{name}@"), value.to_string()));
        self
    }

    /// A file beside the configuration.
    #[must_use]
    pub fn file(mut self, name: &str, content: &str) -> Self {
        self.files.push((name.to_owned(), content.to_owned()));
        self
    }

    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&a| a.to_owned()));
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Limits the open files of the process, hard and soft.
    #[must_use]
    pub const fn nofile(mut self, limit: u32) -> Self {
        self.nofile = Some(limit);
        self
    }

    /// Has another command start it, which becomes it: such as one that enters a namespace.
    #[must_use]
    pub fn under(mut self, runner: &[String]) -> Self {
        self.runner = runner.to_vec();
        self
    }

    /// Adds no admin listener where the configuration has none.
    #[must_use]
    pub const fn without_admin(mut self) -> Self {
        self.admin = false;
        self
    }

    /// The bearer token that requests to the admin listener carry.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Lays the configuration out as Kubernetes mounts a ConfigMap: `tidegate.toml` is a link through `..data`,
    /// which [`Gateway::swap_config_map`] exchanges.
    #[must_use]
    pub const fn as_config_map(mut self) -> Self {
        self.config_map = true;
        self
    }

    /// Starts the gateway and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    #[must_use]
    pub fn start(self) -> Gateway {
        match self.try_start() {
            Ok(gateway) => gateway,
            Err(ran) => panic!(
                "the gateway did not start ({:?}):\n{}{}",
                ran.code, ran.stdout, ran.stderr
            ),
        }
    }

    /// Starts the gateway and waits until it serves or ends.
    ///
    /// # Errors
    /// When it ends by itself.
    ///
    /// # Panics
    /// When it does neither in time.
    #[track_caller]
    pub fn try_start(self) -> Result<Gateway, Ran> {
        let dir = tempfile::Builder::new()
            .prefix("tidegate-test-")
            .tempdir()
            .expect("temporary directory");
        for (name, content) in &self.files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            std::fs::write(path, content).expect("file");
        }
        let mut gateway = Gateway {
            child: self.spawn(dir.path()),
            log: Arc::default(),
            stdout: Arc::default(),
            ready: Value::Null,
            code: None,
            values: self.values,
            admin: self.admin,
            token: self.token,
            binary: self.binary,
            dir,
        };
        gateway.capture();
        gateway.await_ready()
    }

    fn spawn(&self, dir: &Path) -> Child {
        let config = dir.join("tidegate.toml");
        let text = complete(&self.config, &self.values, self.admin, dir);
        if self.config_map {
            mount_config_map(dir, &text);
            symlink("..data/tidegate.toml", &config).expect("link");
        } else {
            std::fs::write(&config, text).expect("configuration");
        }
        let mut words = self.runner.clone();
        if let Some(limit) = self.nofile {
            let limited = format!("ulimit -n {limit}; exec \"$@\"");
            words.extend(["sh", "-c", &limited, "sh"].map(str::to_owned));
        }
        words.push(self.binary.clone());
        let mut command = command(&words[0]);
        command
            .args(&words[1..])
            .arg("run")
            .arg("-c")
            .arg(&config)
            .arg("--ready-file")
            .arg(dir.join("ready.json"));
        command.args(&self.args);
        command.current_dir(dir);
        if !self.config.contains("state_dir") {
            command.env("TIDEGATE_RUNTIME__STATE_DIR", dir.join("state"));
        }
        command.envs(self.env.iter().map(|(n, v)| (n, v)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"))
    }
}

/// Fills the placeholders and adds an admin listener where there is none.
fn complete(config: &str, values: &[(String, String)], admin: bool, dir: &Path) -> String {
    let mut text = config.replace("@dir@", &dir.display().to_string());
    for (name, value) in values {
        text = text.replace(name, value);
    }
    if admin && !text.contains("[admin]") {
        text += "\n[admin]\naddress = \"127.0.0.1:0\"\n";
    }
    text
}

/// A new directory with the configuration, and `..data` pointing at it from one moment to the next.
fn mount_config_map(dir: &Path, text: &str) {
    let version = format!("..{}", std::fs::read_dir(dir).map_or(0, Iterator::count));
    std::fs::create_dir(dir.join(&version)).expect("directory");
    std::fs::write(dir.join(&version).join("tidegate.toml"), text).expect("configuration");
    symlink(&version, dir.join("..data_tmp")).expect("link");
    std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).expect("rename");
}

/// A running gateway; killed when dropped, its log printed when the test fails.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    log: Arc<Mutex<String>>,
    stdout: Arc<Mutex<String>>,
    ready: Value,
    code: Option<i32>,
    values: Vec<(String, String)>,
    admin: bool,
    token: Option<String>,
    binary: String,
    dir: tempfile::TempDir,
}

impl Gateway {
    /// `binary` comes from `env!("CARGO_BIN_EXE_tidegate")` in the test crate.
    #[must_use]
    pub fn builder(binary: &str) -> Builder {
        Builder {
            binary: binary.to_owned(),
            config: String::new(),
            files: Vec::new(),
            values: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            nofile: None,
            runner: Vec::new(),
            admin: true,
            token: None,
            config_map: false,
        }
    }

    fn capture(&mut self) {
        follow(self.child.stderr.take(), &self.log);
        follow(self.child.stdout.take(), &self.stdout);
    }

    #[track_caller]
    fn await_ready(mut self) -> Result<Self, Ran> {
        let path = self.dir.path().join("ready.json");
        let ready = eventually_some("the gateway is ready", || {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(Err(status.code()));
            }
            let text = std::fs::read_to_string(&path).ok()?;
            serde_json::from_str::<Value>(&text).ok().map(Ok)
        });
        match ready {
            Ok(ready) => {
                self.ready = ready;
                Ok(self)
            }
            Err(code) => {
                // Quiet on drop: this end is what the caller asked about.
                self.code = code;
                let (stdout, stderr) = (self.stdout(), self.final_log());
                Err(Ran { code, stdout, stderr })
            }
        }
    }

    /// The log once the pipe has ended.
    fn final_log(&self) -> String {
        eventually("the log ends", || Arc::strong_count(&self.log) == 1);
        self.log()
    }

    // ---- addresses and files ----

    /// Where a listener is bound; of a listener added by a reload, as `/stats` tells it.
    ///
    /// # Panics
    /// When there is no such listener.
    #[track_caller]
    #[must_use]
    pub fn addr(&self, listener: &str) -> Address {
        let bound = &self.ready["listeners"][listener];
        let text = bound
            .as_str()
            .unwrap_or_else(|| panic!("no listener {listener:?} in {}", self.ready));
        Address::parse(text)
    }

    /// The listener named `web`.
    #[track_caller]
    #[must_use]
    pub fn web(&self) -> Address {
        self.addr("web")
    }

    /// # Panics
    /// When there is no admin listener.
    #[track_caller]
    #[must_use]
    pub fn admin(&self) -> Address {
        Address::parse(
            self.ready["admin"]
                .as_str()
                .unwrap_or_else(|| panic!("no admin in {}", self.ready)),
        )
    }

    /// What the ready file said.
    #[must_use]
    pub const fn ready(&self) -> &Value {
        &self.ready
    }

    /// The directory of the configuration.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// # Panics
    /// When the file can't be read.
    #[track_caller]
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Waits until the log holds these words; what the gateway has written arrives here a little later.
    #[track_caller]
    pub fn await_log(&self, words: &str) {
        crate::eventually(&format!("{words:?} is logged"), || self.log().contains(words));
    }

    /// Everything written to stderr so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().map(|log| log.clone()).unwrap_or_default()
    }

    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.lock().map(|out| out.clone()).unwrap_or_default()
    }

    // ---- clients ----

    /// A connection to the listener `web`.
    #[track_caller]
    #[must_use]
    pub fn connect(&self) -> Conn {
        Conn::connect(self.web())
    }

    /// One GET to the listener `web` on a connection of its own.
    #[track_caller]
    #[must_use]
    pub fn get(&self, target: &str) -> Response {
        self.connect().get(target)
    }

    /// Sends bytes to the listener `web` on a connection of their own, reads one answer.
    #[track_caller]
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> Response {
        self.connect().send(bytes).response()
    }

    /// GET of an admin path.
    #[track_caller]
    #[must_use]
    pub fn admin_get(&self, target: &str) -> Response {
        self.admin_call("GET", target, "", "")
    }

    /// Any request to the admin listener, with extra header lines.
    #[track_caller]
    #[must_use]
    pub fn admin_call(&self, method: &str, target: &str, headers: &str, body: &str) -> Response {
        let mut lines = headers.to_owned();
        if let Some(token) = self.token.as_ref().filter(|_| !lines.contains("Authorization")) {
            lines += &format!("Authorization: Bearer {token}\r\n");
        }
        if !body.is_empty() {
            lines += &format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            );
        }
        let request = format!("{method} {target} HTTP/1.1\r\nHost: admin\r\n{lines}\r\n{body}");
        Conn::connect(self.admin()).send(request).response_to(method)
    }

    /// `/stats`.
    #[track_caller]
    #[must_use]
    pub fn stats(&self) -> Value {
        self.admin_get("/stats").json()
    }

    /// The metrics page.
    #[track_caller]
    #[must_use]
    pub fn metrics(&self) -> String {
        self.admin_get("/metrics").text()
    }

    /// Sum of the samples of a metric whose labels contain each of these `key="value"` texts.
    #[track_caller]
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = self.metrics();
        let samples = page.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|r| r.starts_with(['{', ' '])) && labels.iter().all(|l| line.contains(l))
        });
        samples
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// Runs a command of the binary against this gateway's configuration.
    #[track_caller]
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> Ran {
        let mut command = command(&self.binary);
        command.args(args).current_dir(self.dir());
        command.env("TIDEGATE_RUNTIME__STATE_DIR", self.path("state"));
        cli::finish(command)
    }

    // ---- upstreams ----

    /// What the API shows of the endpoint at this address of the upstream `app`.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    #[must_use]
    pub fn endpoint(&self, address: &Address) -> Value {
        let upstream = self.admin_get("/api/v1/upstreams/app").json();
        let text = address.to_string();
        let mut endpoints = upstream["endpoints"].as_array().into_iter().flatten();
        let found = endpoints.find(|endpoint| endpoint["address"] == text.as_str());
        found
            .unwrap_or_else(|| panic!("no {address} in {upstream}"))
            .clone()
    }

    /// Events of this type so far, the oldest first.
    #[track_caller]
    #[must_use]
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let page = self.admin_get("/api/v1/events?limit=1000").json();
        let all = page["events"].as_array().into_iter().flatten();
        all.filter(|event| event["type"] == kind).cloned().collect()
    }

    // ---- configuration ----

    /// The number of the running configuration.
    #[track_caller]
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.metric("tidegate_config_generation", &[]) as u64
    }

    /// Reloads so far with this result: `applied`, `unchanged`, `rejected`.
    #[track_caller]
    #[must_use]
    pub fn reloads(&self, result: &str) -> u64 {
        self.metric(
            "tidegate_config_reloads_total",
            &[&format!("result=\"{result}\"")],
        ) as u64
    }

    /// Client connections open now, tunnels included; the admin listener's are not counted.
    #[track_caller]
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.metric("tidegate_connections_open", &[]) as u64
    }

    /// Records of the JSON access log `access.log` beside the configuration.
    ///
    /// # Panics
    /// When a line is no JSON.
    #[track_caller]
    #[must_use]
    pub fn access_log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("access.log")).unwrap_or_default();
        let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
        complete.lines().map(parse).collect()
    }

    /// The first access record with this target.
    #[track_caller]
    #[must_use]
    pub fn access_record(&self, target: &str) -> Value {
        eventually_some(&format!("an access record of {target}"), || {
            self.access_log()
                .into_iter()
                .find(|record| record["target"] == target)
        })
    }

    /// Writes the configuration file, placeholders filled, and nothing else.
    pub fn write_config(&self, config: &str) {
        let text = complete(config, &self.values, self.admin, self.dir.path());
        // By rename, as careful tools do: a reader never sees half a file.
        let fresh = self.path("tidegate.toml.new");
        std::fs::write(&fresh, text).expect("write");
        std::fs::rename(fresh, self.path("tidegate.toml")).expect("rename");
    }

    /// Exchanges the configuration as Kubernetes does; see [`Builder::as_config_map`].
    pub fn swap_config_map(&self, config: &str) {
        mount_config_map(
            self.dir(),
            &complete(config, &self.values, self.admin, self.dir()),
        );
    }

    /// Writes a configuration that will be refused, and waits until it was.
    #[track_caller]
    pub fn reload_refused(&self, config: &str) {
        let before = self.reloads("rejected");
        self.write_config(config);
        self.signal(Signal::HUP);
        eventually("the new configuration is refused", || {
            self.reloads("rejected") > before
        });
    }

    /// Writes the configuration and waits until it serves.
    #[track_caller]
    pub fn reload(&self, config: &str) {
        let before = self.generation();
        self.write_config(config);
        self.signal(Signal::HUP);
        eventually("the new configuration serves", || self.generation() > before);
    }

    // ---- the process ----

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn os_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(self.os_pid(), signal);
    }

    /// TERM, and the exit code.
    #[track_caller]
    #[must_use]
    pub fn stop(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// The exit code, once it ends by itself.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let ended = cli::wait(&mut self.child, patience() * 2);
        let code = ended.unwrap_or_else(|| panic!("the gateway does not end"));
        self.code = code;
        code
    }

    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Open file descriptors.
    #[must_use]
    pub fn fds(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Resident memory.
    #[must_use]
    pub fn rss_kb(&self) -> u64 {
        self.status_number("VmRSS:")
    }

    #[must_use]
    pub fn threads(&self) -> u64 {
        self.status_number("Threads:")
    }

    /// CPU time used so far, user and system, all threads.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // The command's name stands in parentheses and may hold anything; times are fields 14 and 15.
        let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|t| t.parse::<u64>().ok());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    fn status_number(&self, key: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap_or_default();
        line.split_whitespace()
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the gateway's log ---\n{}---", self.log());
        }
    }
}

fn follow(pipe: Option<impl Read + Send + 'static>, text: &Arc<Mutex<String>>) {
    let text = Arc::clone(text);
    let Some(pipe) = pipe else { return };
    thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            if let Ok(mut text) = text.lock() {
                text.push_str(&String::from_utf8_lossy(&line));
            }
            line.clear();
        }
    });
}

/// A long-running command of the binary other than `run`, such as `demo`.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

impl Running {
    /// # Panics
    /// When it can't be started.
    #[track_caller]
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let (stdout, stderr) = (Arc::default(), Arc::default());
        follow(child.stdout.take(), &stdout);
        follow(child.stderr.take(), &stderr);
        Self {
            child,
            stdout,
            stderr,
        }
    }

    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.lock().map(|out| out.clone()).unwrap_or_default()
    }

    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.lock().map(|out| out.clone()).unwrap_or_default()
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// The exit code, once it ends.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        cli::wait(&mut self.child, patience() * 2).unwrap_or_else(|| panic!("it does not end"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!(
                "--- stdout ---\n{}--- stderr ---\n{}---",
                self.stdout(),
                self.stderr()
            );
        }
    }
}

pub use rustix::process::Signal as Sig;
