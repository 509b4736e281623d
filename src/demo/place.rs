//! Where a demo lives: a folder of its own, free ports, and the gateway's configuration.

use super::loopback;
use anyhow::Context;
use std::fs::DirBuilder;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const WEB_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9900;
/// Ports tried from the first wish on.
const PORTS_TRIED: u16 = 100;

/// A folder that goes when it is dropped, with what the gateway needs in it.
#[derive(Debug)]
pub struct Place {
    folder: PathBuf,
    pub config: PathBuf,
    pub ready_file: PathBuf,
    pub web: SocketAddr,
    pub admin: SocketAddr,
}

impl Place {
    pub fn new(endpoints: &[SocketAddr]) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("tidegate-demo-{}", std::process::id()));
        // Only ours, and refused if it exists: the folder for temporary files belongs to everybody.
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.with_context(|| format!("cannot make {}", folder.display()))?;
        let (config, ready_file) = (folder.join("tidegate.toml"), folder.join("ready.json"));
        let place = Self {
            folder,
            config,
            ready_file,
            web: free(WEB_PORT)?,
            admin: free(ADMIN_PORT)?,
        };
        let text = config_text(&place.folder, place.web, place.admin, endpoints);
        std::fs::write(&place.config, text).context("cannot write the configuration")?;
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// The first free port from this one on.
fn free(first: u16) -> anyhow::Result<SocketAddr> {
    let mut candidates = (first..first + PORTS_TRIED).map(loopback);
    let found = candidates.find(|address| TcpListener::bind(address).is_ok());
    found.with_context(|| format!("no free port from {first} to {}", first + PORTS_TRIED - 1))
}

/// TOML basic strings and paths: only these two characters need an escape in a path that is printable.
fn quoted(path: &Path) -> String {
    format!(
        "\"{}\"",
        path.display()
            .to_string()
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
    )
}

fn config_text(folder: &Path, web: SocketAddr, admin: SocketAddr, endpoints: &[SocketAddr]) -> String {
    let state = quoted(&folder.join("state"));
    let line = |(number, address): (usize, &SocketAddr)| {
        format!("  {{ address = \"{address}\", weight = 1 }},   # app-{number}\n")
    };
    let list: String = (1..).zip(endpoints).map(line).collect();
    format!(
        r#"# The gateway of the demo. Edit it while the demo runs: it is read again on every save.

[runtime]
state_dir = {state}
drain_timeout = "3s"

[log]
level = "info"

[listeners.web]
address = "{web}"

[[routes]]
name = "apps"
paths = ["/"]
upstream = "apps"
timeouts = {{ connect = "1s", response = "5s" }}

# Take the # away and save; then: curl http://{web}/hello
# [[routes]]
# name = "hello"
# paths = ["/hello"]
# respond = {{ status = 200, body = "hello from the gateway\n" }}

[upstreams.apps]
balance = "round_robin"        # or least_connections, adaptive, ...
health = {{ path = "/whoami", interval = "1s", rise = 2 }}
endpoints = [
{list}]

# What the page shows of the gateway: one answer of its admin API.
[[routes]]
name = "gateway"
paths = ["=/gateway/apps"]
methods = ["GET"]
rewrite = {{ regex = "^.*$", to = "/api/v1/upstreams/apps" }}
host = "endpoint"
upstream = "gateway"

[upstreams.gateway]
endpoints = ["{admin}"]

[admin]
address = "{admin}"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_passed_over() {
        let taken = TcpListener::bind(loopback(0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        if port > u16::MAX - PORTS_TRIED {
            return;
        }
        assert_ne!(free(port).unwrap().port(), port);
    }

    #[test]
    fn the_folder_is_private_and_goes_with_the_place() {
        use std::os::unix::fs::PermissionsExt;
        let place = Place::new(&[loopback(1)]).unwrap();
        let folder = place.folder.clone();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert!(
            std::fs::read_to_string(&place.config)
                .unwrap()
                .contains("127.0.0.1:1")
        );
        drop(place);
        assert!(!folder.exists());
    }

    #[test]
    fn the_configuration_is_toml_with_every_endpoint() {
        let text = config_text(
            Path::new("/tmp/a \"b\""),
            loopback(1),
            loopback(2),
            &[loopback(3), loopback(4)],
        );
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["runtime"]["state_dir"].as_str(), Some("/tmp/a \"b\"/state"));
        assert_eq!(
            table["upstreams"]["gateway"]["endpoints"][0].as_str(),
            Some("127.0.0.1:2")
        );
        assert_eq!(
            table["upstreams"]["apps"]["endpoints"].as_array().unwrap().len(),
            2
        );
    }
}
