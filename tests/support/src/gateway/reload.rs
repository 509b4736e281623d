//! Another configuration for a running gateway.

use super::Gateway;
use super::builder::{complete, mount_config_map};
use crate::eventually::eventually;
use rustix::process::Signal;

impl Gateway {
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
}
