//! The real binary as a process of the test.

mod builder;
mod process;
mod reload;
mod running;
mod told;

pub use builder::Builder;
pub use running::Running;

use crate::address::Address;
use crate::cli::{self, Ran, command};
use crate::eventually::{eventually, eventually_some};
use crate::message::Response;
use crate::raw::Conn;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread;

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

    /// Runs a command of the binary against this gateway's configuration.
    #[track_caller]
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> Ran {
        let mut command = command(&self.binary);
        command.args(args).current_dir(self.dir());
        command.env("TIDEGATE_RUNTIME__STATE_DIR", self.path("state"));
        cli::finish(command)
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

pub use rustix::process::Signal as Sig;
