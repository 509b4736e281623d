//! What only shows when keys are looked at together: references, contradictions, files that are named.

mod cluster;
mod connections;
mod routes;
mod sticky;
mod tls;
mod upstreams;

use super::diagnostic::Diagnostic;
use super::files::{Files, MAX_PAGE_BYTES};
use super::model::{Admin, Config, Grant, ListenAddress, Listener};
use super::path::{index, join};
use super::problems::Problems;
use super::settings::Table;
use super::source::{Origin, Sources};
use super::suggest;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

/// Checks a configuration. `root` holds also what was too wrong to get into the model, so that a reference to it
/// is not told as well.
pub fn check(config: &Config, root: &Table, sources: &Sources, files: &mut Files, problems: &mut Problems) {
    let mut checker = Checker {
        config,
        root,
        sources,
        problems,
        lost: false,
    };
    checker.dns();
    checker.addresses();
    for (name, listener) in &config.listeners {
        checker.listener(&join("listeners", name), listener);
    }
    checker.error_pages(files);
    checker.tls(files);
    checker.acme(files);
    checker.route_names();
    for (at, table) in root.tables("routes").iter().enumerate() {
        let at = index("routes", at);
        checker.actions(&at, table);
        checker.route(&at, table);
    }
    checker.upstreams();
    checker.upstream_tls(files);
    let routes_misread = root.tables("routes").is_empty() && checker.problems.any_error();
    if !checker.lost && !routes_misread {
        checker.usage();
    }
    checker.cluster(files);
    if let Some(admin) = &config.admin {
        checker.admin(admin);
    }
}

struct Checker<'a> {
    config: &'a Config,
    root: &'a Table,
    sources: &'a Sources,
    problems: &'a mut Problems,
    /// A reference leads nowhere: what nothing uses may be what was meant.
    lost: bool,
}

impl Checker<'_> {
    fn error(&mut self, key: String, message: String) {
        self.problems.add(Diagnostic::error(key, message));
    }

    fn warning(&mut self, key: String, message: String, hint: Option<String>) {
        let mut told = Diagnostic::warning(key, message);
        told.hint = hint;
        self.problems.add(told);
    }

    /// Where an object stands, to name it from elsewhere.
    fn place(&self, table: Option<&Table>) -> String {
        match table.map(|table| &table.origin) {
            Some(Origin::File(place)) => format!(" (at {})", self.sources.describe(place)),
            _ => String::new(),
        }
    }

    fn dns(&mut self) {
        let dns = &self.config.dns;
        if dns.min_ttl > dns.max_ttl {
            self.error(
                "dns.min_ttl".to_owned(),
                "dns.min_ttl is longer than dns.max_ttl".to_owned(),
            );
        }
    }

    fn addresses(&mut self) {
        if self.root.named("listeners").next().is_none() {
            let told = Diagnostic::error("listeners", "there is no listener: nothing would be served");
            self.problems
                .add(told.hint("[listeners.web] with address = \"127.0.0.1:8080\""));
        }
        let listeners = self
            .config
            .listeners
            .iter()
            .map(|(name, listener)| (join("listeners", name), &listener.address));
        let admin = self
            .config
            .admin
            .iter()
            .map(|admin| ("admin".to_owned(), &admin.address));
        let all: Vec<(String, &ListenAddress)> = listeners.chain(admin).collect();
        for (at, (name, address)) in all.iter().enumerate() {
            if let Some((other, _)) = all.iter().take(at).find(|(_, other)| overlap(address, other)) {
                let message = format!("this address is taken by {other}");
                self.error(join(name, "address"), message);
            }
        }
    }

    fn listener(&mut self, at: &str, listener: &Listener) {
        let limits = &listener.limits;
        if limits.uri_bytes > limits.header_bytes {
            let message =
                "uri_bytes is larger than header_bytes, which counts the request line too".to_owned();
            self.error(join(&join(at, "limits"), "uri_bytes"), message);
        }
        let silent = !listener.protocols.h1 && !listener.protocols.h2c;
        if silent && !self.problems.any_under(&join(at, "protocols")) {
            let message = "no protocol is spoken here".to_owned();
            self.error(join(at, "protocols"), message);
        }
        if let Some(proxy_protocol) = &listener.proxy_protocol {
            self.proxy_protocol(&join(at, "proxy_protocol"), &proxy_protocol.trusted);
        }
        self.passthrough(&join(at, "passthrough"), &listener.passthrough);
        if listener.redirect_https && (listener.tls.is_some() || !listener.passthrough.is_empty()) {
            let message = "redirect_https is for listeners without TLS and has no effect here".to_owned();
            self.warning(join(at, "redirect_https"), message, None);
        }
        if listener.hsts.is_some() && listener.tls.is_none() {
            let message = "browsers heed hsts over HTTPS only: it has no effect without tls".to_owned();
            self.warning(join(at, "hsts"), message, None);
        }
        if listener.mode.is_some() && matches!(listener.address, ListenAddress::Tcp(_)) {
            let message = "mode is for unix sockets and has no effect here".to_owned();
            self.warning(join(at, "mode"), message, None);
        }
    }

    /// Error pages are read by whoever compiles them; here they are found missing while the operator looks.
    fn error_pages(&mut self, files: &mut Files) {
        let mut read = BTreeSet::new();
        for (name, listener) in &self.config.listeners {
            for (status, path) in &listener.error_pages {
                if !read.insert((path, *status)) {
                    continue;
                }
                if let Err(error) = files.read(path, MAX_PAGE_BYTES, false) {
                    let at = join(
                        &join(&join("listeners", name), "error_pages"),
                        &status.to_string(),
                    );
                    self.error(at, format!("{} {error}", path.display()));
                }
            }
        }
    }

    fn readable(&mut self, files: &mut Files, path: &Path, limit: u64, key: String) {
        if let Err(error) = files.read(path, limit, false) {
            self.error(key, format!("{} {error}", path.display()));
        }
    }

    /// A name that must be that of an object.
    fn reference(&mut self, table: &str, what: &str, name: &str, at: String) {
        if self.root.has_named(table, name) {
            return;
        }
        self.lost = true;
        let known: Vec<&str> = self.root.named(table).map(|(name, _)| name.as_str()).collect();
        let message = if known.is_empty() {
            format!("found {what} `{name}`; there is no {what} at all")
        } else {
            format!("found {what} `{name}`; accepted: {}", suggest::list(&known))
        };
        let mut told = Diagnostic::error(at, message);
        told.hint = suggest::did_you_mean(name, known)
            .or_else(|| Some(format!("add a table [{}]", join(table, name))));
        self.problems.add(told);
    }

    /// What nothing uses.
    fn usage(&mut self) {
        let mut used: BTreeSet<String> = BTreeSet::new();
        for table in self.root.tables("routes") {
            used.extend(table.get::<String>("upstream"));
            used.extend(table.map::<u32>("split").unwrap_or_default().into_keys());
        }
        for (_, table) in self.root.named("listeners") {
            let rules = table.tables("passthrough");
            used.extend(rules.iter().filter_map(|rule| rule.get::<String>("upstream")));
        }
        for (name, _) in self
            .root
            .named("upstreams")
            .filter(|(name, _)| !used.contains(*name))
        {
            let message = format!("no route uses the upstream `{name}`");
            self.warning(join("upstreams", name), message, None);
        }
        let everywhere = self
            .root
            .tables("routes")
            .iter()
            .any(|table| !table.given("listeners"));
        for (name, _) in self.root.named("listeners").filter(|_| !everywhere) {
            let reached = self
                .config
                .routes
                .iter()
                .any(|r| r.listeners.is_empty() || r.listeners.contains(name));
            // Where TLS is only passed on there are no requests.
            let opened = self
                .config
                .listeners
                .get(name)
                .is_none_or(|listener| listener.tls.is_some() || listener.passthrough.is_empty());
            if !reached && opened {
                let message =
                    format!("no route is for the listener `{name}`: it answers everything with 404");
                self.warning(join("listeners", name), message, None);
            }
        }
    }

    fn admin(&mut self, admin: &Admin) {
        let remote = match &admin.address {
            ListenAddress::Tcp(address) => !address.ip().to_canonical().is_loopback(),
            ListenAddress::Unix(_) => false,
        };
        let tokens = self
            .root
            .table("admin")
            .map_or(&[][..], |admin| admin.tables("tokens"));
        if remote && tokens.is_empty() {
            let told = Diagnostic::error(
                "admin.address",
                "an admin API without tokens may only be on a loopback address or a unix socket",
            );
            self.problems
                .add(told.hint("add `tokens`, or listen on 127.0.0.1"));
        }
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for (at, token) in admin.tokens.iter().enumerate() {
            if !names.insert(&token.name) {
                let message = format!("the name `{}` is taken by an earlier token", token.name);
                self.error(join(&index("admin.tokens", at), "name"), message);
            }
            if let Grant::Register(upstream) = &token.role
                && !self.root.named("upstreams").any(|(name, _)| name == upstream)
            {
                let known = self.root.named("upstreams").map(|(name, _)| name.as_str());
                let hint = suggest::did_you_mean(upstream, known);
                let message = format!("there is no upstream `{upstream}` that could be registered for");
                let mut told = Diagnostic::error(join(&index("admin.tokens", at), "role"), message);
                told.hint = hint;
                self.problems.add(told);
            }
        }
    }
}

/// Whether the kernel would refuse one of these when the other is bound.
fn overlap(a: &ListenAddress, b: &ListenAddress) -> bool {
    match (a, b) {
        (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => {
            let wild = |x: &SocketAddr| x.ip().is_unspecified();
            let same_family = a.is_ipv4() == b.is_ipv4();
            a.port() != 0 && a.port() == b.port() && same_family && (a.ip() == b.ip() || wild(a) || wild(b))
        }
        (ListenAddress::Unix(a), ListenAddress::Unix(b)) => a == b,
        (ListenAddress::Tcp(_), ListenAddress::Unix(_)) | (ListenAddress::Unix(_), ListenAddress::Tcp(_)) => {
            false
        }
    }
}
