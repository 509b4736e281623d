//! A real Prometheus as a process of the test, which scrapes what it is told to and is asked in its own language.

use crate::address::Address;
use crate::eventually::eventually_some;
use crate::gateway::Running;
use crate::raw::Conn;
use serde_json::Value;
use std::fmt::Write;
use std::process::{Command, Stdio};

/// Whether this machine has the server; tests that need it say that they are skipped otherwise.
#[must_use]
pub fn installed() -> bool {
    let found = Command::new("prometheus")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: prometheus is not installed (tests/run says how)");
    }
    found
}

/// One server, with what it has collected.
#[derive(Debug)]
pub struct Prometheus {
    _running: Running,
    address: Address,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    /// One with this configuration.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("written");
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.path().join("data").display()
            ))
            .arg("--web.listen-address=127.0.0.1:0");
        let running = Running::start(command);
        let address = eventually_some("prometheus listens", || {
            let log = running.stderr();
            let line = log.lines().find(|line| line.contains("\"Listening on\""))?;
            Some(Address::parse(line.split("address=").nth(1)?.trim()))
        });
        eventually_some("prometheus is ready", || {
            let told = Conn::try_connect(address.clone()).ok()?.get("/-/ready");
            (told.status == 200).then_some(())
        });
        Self {
            _running: running,
            address,
            _dir: dir,
        }
    }

    /// The values that a query has now, or why it has none.
    ///
    /// # Errors
    /// What the server finds wrong with the query.
    pub fn query(&self, query: &str) -> Result<Vec<f64>, String> {
        let mut target = "/api/v1/query?query=".to_owned();
        for byte in query.bytes() {
            let _ = write!(target, "%{byte:02X}");
        }
        let told = Conn::connect(self.address.clone()).get(&target).json();
        if told["status"] != "success" {
            return Err(told["error"].to_string());
        }
        let samples = told["data"]["result"].as_array().map_or(&[][..], Vec::as_slice);
        let value = |sample: &Value| sample["value"][1].as_str()?.parse().ok();
        Ok(samples.iter().filter_map(value).collect())
    }
}
