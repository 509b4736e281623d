//! Every key of the table is read, and can be set from the environment.

use super::*;
use crate::config::form::Form;
use crate::config::keys::table::ROOT;
use crate::config::keys::{Key, Presence, Shape, walk};

/// A configuration in which every table is there.
const FULL: &str = "\
[log.access]
[listeners.web]
address = 'unix:/run/web.sock'
passthrough = [{ sni = 'db.test', upstream = 'db' }]
[listeners.web.access_log]
[listeners.web.tls]
certificates = [{ cert = 'Cargo.toml', key = 'Cargo.toml' }]
client_auth = { ca = 'Cargo.toml' }
client_auth_by_name = [{ names = ['a.test'], ca = 'Cargo.toml' }]
[listeners.web.acme]
names = ['a.example.com']
eab = { kid = 'kid', key = 'env:T' }
[listeners.web.proxy_protocol]
trusted = ['10.0.0.0/8']
[[routes]]
upstream = 'app'
rewrite = { regex = 'a', to = 'b' }
[[routes]]
redirect = { to = '/x' }
[[routes]]
respond = {}
[upstreams.app]
endpoints = [{ address = '127.0.0.1:3000' }]
discover = { dns = 'api:80' }
[upstreams.app.sticky]
cookie = 'session'
[upstreams.app.tls]
cert = 'Cargo.toml'
key = 'Cargo.toml'
[upstreams.app.health]
[upstreams.app.rebalance]
[upstreams.app.proxy_protocol]
send = 'v2'
[upstreams.db]
endpoints = ['127.0.0.1:5432']
sticky = { learn = { cookie = 'sid' } }
[upstreams.own]
discover = { registry = { service = 'api' } }
[cluster]
redis = 'rediss://:secret@localhost'
key = 'env:T'
[cluster.redis_tls]
cert = 'Cargo.toml'
key = 'Cargo.toml'
[admin]
address = '127.0.0.1:9900'
tokens = [{ name = 'a', token = 'env:T' }]
";

/// A value that is no key's default.
fn other(form: Form) -> &'static str {
    match form {
        Form::Bool | Form::Choice(_) => unreachable!("depends on the key"),
        Form::Integer { .. } => "301",
        Form::Workers => "7",
        Form::Factor => "1.5",
        Form::HashKey => "cookie:other",
        Form::Ratio => "0.25",
        Form::Duration { .. } => "17s",
        Form::Size { .. } => "12345B",
        Form::Listen => "127.0.0.9:9999",
        Form::Endpoint | Form::HostPort => "other:99",
        Form::ServiceName => "_other._tcp.test",
        Form::HostHeader => "endpoint",
        Form::Host | Form::CookieDomain => "other.example",
        Form::CookieName => "other",
        Form::CookiePath => "/other",
        Form::Authority => "other.example:8080",
        Form::Request => "/other?x=1",
        Form::StatusSet => "204,301-308",
        Form::TextPattern => "~other",
        Form::Mode => "0606",
        Form::AccessFormat => "$status",
        Form::Prefix | Form::Target => "/other",
        Form::Secret => "env:OTHER",
        Form::Grant => "operator",
        Form::Redis => "redis://other:6380/2",
        Form::Name if true => "app",
        Form::Method => "OTHER",
        Form::Body | Form::Word | Form::Path | Form::Regex | Form::Name => "other",
        Form::Glob
        | Form::NameServer
        | Form::Cidr
        | Form::PathPattern
        | Form::HeaderName
        | Form::HeaderValue
        | Form::PlainValue
        | Form::ValuePattern
        | Form::Upgrade
        | Form::Origin => unreachable!("only in lists and maps"),
    }
}

fn value(key: &Key, form: Form) -> String {
    let default = match key.presence {
        Presence::Default(text) => text,
        Presence::Optional | Presence::Required => "",
    };
    match form {
        Form::Bool => (default != "true").to_string(),
        Form::Choice(names) => names.iter().find(|name| **name != default).unwrap().to_string(),
        Form::Integer { max, .. } if max < 301 => max.to_string(),
        Form::Size { min, .. } if min > 12_345 => format!("{}B", min + 1),
        // The names of things that are not referred to.
        Form::Name if key.name == "name" => "fresh".to_owned(),
        Form::Word if key.name == "directory" => "https://other.example/directory".to_owned(),
        Form::Word if key.name == "email" => "other@example.com".to_owned(),
        // Files that are read.
        Form::Path if ["cert", "key", "ca"].contains(&key.name) => "README.md".to_owned(),
        form => other(form).to_owned(),
    }
}

/// The variable that sets the key of this pattern in [`FULL`].
fn variable(pattern: &str) -> String {
    let row = match pattern {
        _ if pattern.starts_with("routes[].redirect") => "routes.1",
        _ if pattern.starts_with("routes[].respond") => "routes.2",
        _ => "routes.0",
    };
    let path = pattern
        .replace("routes[]", row)
        .replace("listeners.*", "listeners.web")
        .replace("upstreams.*.sticky.learn", "upstreams.db.sticky.learn")
        .replace("upstreams.*.discover.registry", "upstreams.own.discover.registry")
        .replace("upstreams.*", "upstreams.app")
        .replace("endpoints[]", "endpoints.0")
        .replace("tokens[]", "tokens.0")
        .replace("passthrough[]", "passthrough.0")
        .replace("certificates[]", "certificates.0")
        .replace("client_auth_by_name[]", "client_auth_by_name.0");
    format!("TIDEGATE_{}", path.replace('.', "__").to_ascii_uppercase())
}

#[test]
fn every_single_value_can_be_set_from_the_environment_and_is_read() {
    let base = load_text(
        "full",
        FULL,
        &environment(&[("T", "dGVzdA"), ("OTHER", "b3RoZXI")]),
    )
    .unwrap();
    let mut tried = 0;
    walk(ROOT, &mut |pattern, key| {
        let Shape::Scalar(form) = key.shape else { return };
        // A second action, source, or thing that sessions are known by is refused, and so are TLS within TLS and a challenge by HTTP without a listener
        // for it; they are read by tests of their own.
        let elsewhere = [
            "routes[].upstream",
            "upstreams.*.discover.srv",
            "upstreams.*.sticky.learn.header",
            "upstreams.*.sticky.hash",
            "listeners.*.acme.challenge",
            "listeners.*.passthrough[].upstream",
        ];
        if elsewhere.contains(&pattern) {
            return;
        }
        let (variable, value) = (variable(pattern), value(key, form));
        let env = environment(&[
            ("T", "dGVzdA"),
            ("OTHER", "b3RoZXI"),
            (variable.as_str(), value.as_str()),
        ]);
        let loaded = match load_text("full", FULL, &env) {
            Ok(loaded) => loaded,
            Err(rejected) => panic!(
                "{variable}={value}: {}",
                render::text(&rejected.diagnostics, false)
            ),
        };
        assert_ne!(loaded.config, base.config, "{pattern} is not read");
        assert_ne!(loaded.fingerprint, base.fingerprint, "{pattern}");
        assert!(
            effective::toml(&loaded).contains(&format!("# env {variable}")),
            "{pattern}"
        );
        tried += 1;
    });
    assert!(tried > 60, "{tried}");
}

#[test]
fn every_list_and_map_is_read() {
    let base = load_text("full", FULL, &environment(&[("T", "dGVzdA")])).unwrap();
    walk(ROOT, &mut |pattern, key| {
        let single = matches!(key.shape, Shape::List(_) | Shape::Map(..));
        // Read before, spoken in one way only, needs a file, a second action, or is there already.
        let elsewhere = [
            "include",
            "listeners.*.proxy_protocol.trusted",
            "listeners.*.protocols",
            "listeners.*.acme.names",
            "listeners.*.error_pages",
            "routes[].split",
            "routes[].listeners",
        ];
        if !single || elsewhere.contains(&pattern) {
            return;
        }
        let written = match key.name {
            "redact_query" => "['other']",
            "on" => "['429']",
            "alpn" => "['http/1.1']",
            "ciphers" => "['TLS_AES_128_GCM_SHA256', 'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256']",
            "crl" => "['README.md']",
            "keys" => "['env:T']",
            _ => key.example,
        };
        let (table, name) = pattern.rsplit_once('.').unwrap();
        let table = table.replace("listeners.*", "listeners.web").replace("[]", "");
        let text = match table.as_str() {
            "dns" => format!("[dns]\n{name} = {written}\n{FULL}"),
            "routes" => FULL.replacen("[[routes]]", &format!("[[routes]]\n{name} = {written}"), 1),
            "routes.respond" => FULL.replace("respond = {}", &format!("respond.{name} = {written}")),
            "listeners.web.tls.client_auth" => FULL.replace(
                "client_auth = {",
                &format!("client_auth = {{ {name} = {written},"),
            ),
            "listeners.web.tls.client_auth_by_name" if name == "names" => FULL.replace("['a.test']", written),
            "listeners.web.tls.client_auth_by_name" => {
                FULL.replace("by_name = [{", &format!("by_name = [{{ {name} = {written},"))
            }
            "log.access" | "listeners.web.access_log" | "listeners.web.tls" => {
                FULL.replace(&format!("[{table}]"), &format!("[{table}]\n{name} = {written}"))
            }
            _ if table.starts_with("routes.") => {
                let inner = table.trim_start_matches("routes.");
                FULL.replacen(
                    "[[routes]]",
                    &format!("[[routes]]\n{inner}.{name} = {written}"),
                    1,
                )
            }
            "upstreams.*.discover.registry" => {
                FULL.replace("registry = {", &format!("registry = {{ {name} = {written},"))
            }
            "upstreams.*.sticky" => FULL.replace(
                "[upstreams.app.sticky]",
                &format!("[upstreams.app.sticky]\n{name} = {written}"),
            ),
            "upstreams.*.health" => FULL.replace(
                "[upstreams.app.health]",
                &format!("[upstreams.app.health]\n{name} = {written}"),
            ),
            _ if table.starts_with("upstreams.*.") => {
                let inner = table.trim_start_matches("upstreams.*.");
                FULL.replace(
                    "[upstreams.app]",
                    &format!("[upstreams.app]\n{inner}.{name} = {written}"),
                )
            }
            _ if table == "listeners.web" => {
                FULL.replace("[listeners.web]", &format!("[listeners.web]\n{name} = {written}"))
            }
            _ => {
                let inner = table.trim_start_matches("listeners.web.");
                FULL.replace(
                    "[listeners.web]",
                    &format!("[listeners.web]\n{inner}.{name} = {written}"),
                )
            }
        };
        let loaded = match load_text("full", &text, &environment(&[("T", "dGVzdA")])) {
            Ok(loaded) => loaded,
            Err(rejected) => panic!("{pattern}: {}", render::text(&rejected.diagnostics, false)),
        };
        assert_ne!(loaded.config, base.config, "{pattern} is not read");
    });
}

#[test]
fn names_in_the_table_are_unique_and_snake_case() {
    fn check(keys: &'static [Key]) {
        for (at, key) in keys.iter().enumerate() {
            assert!(
                key.name
                    .bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_')),
                "{}",
                key.name
            );
            assert!(
                keys[..at].iter().all(|other| other.name != key.name),
                "{} is there twice",
                key.name
            );
            check(key.children());
        }
    }
    check(ROOT);
}

#[test]
fn every_default_is_accepted_by_its_own_form() {
    walk(ROOT, &mut |pattern, key| {
        let Presence::Default(text) = key.presence else {
            return;
        };
        if let Shape::Scalar(form) = key.shape {
            let read = form.read(&form.value_of_text(text), std::path::Path::new("/"));
            assert!(read.is_ok(), "{pattern} = {text}: {read:?}");
        }
    });
}
