//! How a gateway is to be started, and its configuration laid out.

use super::Gateway;
use crate::cli::{Ran, command};
use serde_json::Value;
use std::fmt::Display;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;

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
}

/// Fills the placeholders and adds an admin listener where there is none.
pub(super) fn complete(config: &str, values: &[(String, String)], admin: bool, dir: &Path) -> String {
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
pub(super) fn mount_config_map(dir: &Path, text: &str) {
    let version = format!("..{}", std::fs::read_dir(dir).map_or(0, Iterator::count));
    std::fs::create_dir(dir.join(&version)).expect("directory");
    std::fs::write(dir.join(&version).join("tidegate.toml"), text).expect("configuration");
    symlink(&version, dir.join("..data_tmp")).expect("link");
    std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).expect("rename");
}
