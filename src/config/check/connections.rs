//! What connections begin with: PROXY protocol headers, TLS to endpoints.

use super::Checker;
use crate::config::diagnostic::Diagnostic;
use crate::config::files::{Files, MAX_PEM_BYTES};
use crate::config::model::{HostPattern, Passthrough, Upstream, UpstreamProtocol};
use crate::config::path::{index, join};
use ipnet::IpNet;
use std::collections::HashMap;

impl Checker<'_> {
    /// `at`: where a listener says whose headers it takes.
    pub(super) fn proxy_protocol(&mut self, at: &str, trusted: &[IpNet]) {
        let at = join(at, "trusted");
        if trusted.is_empty() && !self.problems.any_under(&at) {
            let message =
                "nobody is trusted to send PROXY protocol headers: every connection would be refused";
            let told = Diagnostic::error(at, message);
            self.problems
                .add(told.hint("name the networks of the proxies, such as [\"10.0.0.0/8\"]"));
        } else if let Some(net) = trusted.iter().find(|net| net.prefix_len() == 0) {
            let message = format!("{net} trusts everybody: who can connect can claim any client address");
            self.warning(at, message, None);
        }
    }

    /// `at`: where a listener says which TLS it passes on.
    pub(super) fn passthrough(&mut self, at: &str, rules: &[Passthrough]) {
        let mut seen: HashMap<&HostPattern, usize> = HashMap::new();
        for (n, rule) in rules.iter().enumerate() {
            let own = index(at, n);
            if matches!(rule.sni, HostPattern::Regex(_)) {
                let message = "found a regex; accepted: a name, or `*.` and a name".to_owned();
                self.error(join(&own, "sni"), message);
            }
            if let Some(first) = seen.get(&rule.sni) {
                let message = format!("this name is taken by {}", index(at, *first));
                self.error(join(&own, "sni"), message);
            } else {
                seen.insert(&rule.sni, n);
            }
            self.reference("upstreams", "upstream", &rule.upstream, join(&own, "upstream"));
            let speaks_tls = |name: &str| {
                let upstream = self.config.upstreams.get(name);
                upstream.is_some_and(|upstream| upstream.tls.is_some())
            };
            if speaks_tls(&rule.upstream) {
                let message = format!(
                    "upstreams.{} has `tls`, and the client's TLS would go within it",
                    rule.upstream
                );
                let told = Diagnostic::error(join(&own, "upstream"), message);
                self.problems
                    .add(told.hint("make an upstream of the same endpoints without `tls`"));
            }
        }
    }

    /// `at`: where an upstream stands.
    pub(super) fn upstream_protocol(&mut self, at: &str, upstream: &Upstream) {
        if upstream.protocol == UpstreamProtocol::Auto && upstream.tls.is_none() {
            let message = "without `tls` there is nothing to ask: `auto` is HTTP/1.1".to_owned();
            let hint = "`h2` is HTTP/2 by prior knowledge".to_owned();
            self.warning(join(at, "protocol"), message, Some(hint));
        }
        let bounds = &upstream.http2;
        let all = u64::from(bounds.streams) * u64::from(bounds.window);
        if upstream.protocol != UpstreamProtocol::H1 && u64::from(bounds.connection_window) < all {
            let message = format!(
                "less than `streams` × `window`, which is {all}B: clients that take nothing of their responses can hold up the others on the connection"
            );
            self.warning(join(&join(at, "http2"), "connection_window"), message, None);
        }
    }

    /// Files are read by whoever compiles them; here they are found missing while the operator looks.
    pub(super) fn upstream_tls(&mut self, files: &mut Files) {
        for (name, upstream) in &self.config.upstreams {
            let Some(tls) = &upstream.tls else { continue };
            let at = join(&join("upstreams", name), "tls");
            for (key, path) in [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)] {
                if let Some(path) = path {
                    self.readable(files, path, MAX_PEM_BYTES, join(&at, key));
                }
            }
            for (key, other, lonely) in [
                ("cert", "key", tls.cert.is_some() && tls.key.is_none()),
                ("key", "cert", tls.key.is_some() && tls.cert.is_none()),
            ] {
                if lonely {
                    self.error(join(&at, key), format!("`{key}` is there without `{other}`"));
                }
            }
            if !tls.verify {
                let message = "certificates are not looked at: whoever answers at an endpoint's address is believed to be it".to_owned();
                let hint = "name whom to trust with `ca`, and what certificates are for with `server_name`";
                self.warning(join(&at, "verify"), message, Some(hint.to_owned()));
                if tls.ca.is_some() {
                    let message = "`ca` has no effect without `verify`".to_owned();
                    self.warning(join(&at, "ca"), message, None);
                }
            }
        }
    }
}
