//! What only shows when the keys of `[cluster]` are looked at together.

use super::Checker;
use crate::config::diagnostic::Diagnostic;
use crate::config::files::{Files, MAX_PEM_BYTES};
use crate::config::model::{ConfigSource, ListenAddress};
use crate::config::path::join;
use crate::config::source::Origin;

/// Shorter secrets can be guessed.
const SHORT_KEY: usize = 16;

impl Checker<'_> {
    pub(super) fn cluster(&mut self, files: &mut Files) {
        let cluster = &self.config.cluster;
        let at = |key: &str| join("cluster", key);
        if cluster.gone_after < cluster.heartbeat * 2 {
            let message = "gone_after is less than twice the heartbeat: one that comes late would make a gateway leave and join";
            let hint = "three heartbeats are usual; both are set by HEARTBEAT_INTERVAL and FAILURE_DETECTION_TIMEOUT too";
            self.error_with(at("gone_after"), message.to_owned(), hint.to_owned());
        }
        if cluster.key.as_ref().is_some_and(|key| key.0.len() < SHORT_KEY) {
            let message = format!("the secret has fewer than {SHORT_KEY} characters");
            let hint = "openssl rand -base64 32".to_owned();
            self.warning(at("key"), message, Some(hint));
        }
        self.ping();
        if !cluster.enabled {
            return;
        }
        let Some(url) = &cluster.redis else {
            let written = self.root.table("cluster");
            let told = written.and_then(|table| table.item("enabled"));
            if told.is_some_and(|item| matches!(item.origin, Origin::Environment(_))) {
                let message = "there is no `redis` to share with others: this gateway is alone".to_owned();
                let hint = "name one, here or in REDIS_URL".to_owned();
                self.warning(at("enabled"), message, Some(hint));
            }
            for (key, written) in [
                ("redis_user", cluster.redis_user.is_some()),
                ("redis_password", cluster.redis_password.is_some()),
                ("sentinel_user", cluster.sentinel_user.is_some()),
                ("sentinel_password", cluster.sentinel_password.is_some()),
            ] {
                if written {
                    self.warning(
                        at(key),
                        "there is no `redis` that it would be for".to_owned(),
                        None,
                    );
                }
            }
            return;
        };
        if cluster.config == ConfigSource::Follow && cluster.key.is_none() {
            let message =
                "there is no `key`: whoever may write to the Redis decides what this gateway serves";
            let hint = "key = \"env:TIDEGATE_CLUSTER_KEY\", the same everywhere".to_owned();
            self.warning(at("config"), message.to_owned(), Some(hint));
        }
        let passwordless = url.password.is_none() && cluster.redis_password.is_none();
        if passwordless && (url.user.is_some() || cluster.redis_user.is_some()) {
            let message = "there is a user without a password: the gateway logs in as nobody".to_owned();
            let key = if cluster.redis_user.is_some() {
                "redis_user"
            } else {
                "redis"
            };
            self.warning(at(key), message, None);
        }
        let tls = &cluster.redis_tls;
        let under = |key: &str| join("cluster.redis_tls", key);
        for (key, path) in [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)] {
            if let Some(path) = path {
                self.readable(files, path, MAX_PEM_BYTES, under(key));
                if !url.tls {
                    let message = "it is for `rediss` URLs and has no effect here".to_owned();
                    self.warning(under(key), message, None);
                }
            }
        }
        for (key, other, lonely) in [
            ("cert", "key", tls.cert.is_some() && tls.key.is_none()),
            ("key", "cert", tls.key.is_some() && tls.cert.is_none()),
        ] {
            if lonely {
                self.error(under(key), format!("`{key}` is there without `{other}`"));
            }
        }
        if !tls.verify {
            let message = "certificates are not looked at: whoever answers is believed to be the Redis";
            self.warning(under("verify"), message.to_owned(), None);
        }
    }

    fn error_with(&mut self, key: String, message: String, hint: String) {
        let mut told = Diagnostic::error(key, message);
        told.hint = Some(hint);
        self.problems.add(told);
    }

    /// What gateways need to ask each other whether they live.
    fn ping(&mut self) {
        let cluster = &self.config.cluster;
        let at = |key: &str| join("cluster", key);
        if !cluster.ping {
            if cluster.advertise.is_some() {
                let message = "there is no `ping = true` that it would be for".to_owned();
                self.warning(at("advertise"), message, None);
            }
            return;
        }
        if cluster.redis.is_none() && cluster.enabled {
            let message = "there is no `redis`, and nobody to ask".to_owned();
            self.warning(at("ping"), message, None);
        }
        if cluster.key.is_none() {
            let message = "there is no `key`: anybody could answer in another gateway's place";
            let hint = "key = \"env:TIDEGATE_CLUSTER_KEY\", the same everywhere";
            self.error_with(at("ping"), message.to_owned(), hint.to_owned());
        }
        let Some(admin) = &self.config.admin else {
            let message = "there is no [admin] listener where others could ask this gateway";
            self.error(at("ping"), message.to_owned());
            return;
        };
        let (key, reached) = match &cluster.advertise {
            Some(address) => ("advertise", address),
            None => ("ping", &admin.address),
        };
        let message = match reached {
            ListenAddress::Unix(_) => "other gateways reach no unix socket: `advertise` an address",
            ListenAddress::Tcp(address) if address.ip().is_unspecified() => {
                "an address that stands for all of a host's is none that others reach: `advertise` one"
            }
            ListenAddress::Tcp(address) if key == "advertise" && address.port() == 0 => "it has no port",
            ListenAddress::Tcp(_) => return,
        };
        self.error(at(key), message.to_owned());
    }
}
