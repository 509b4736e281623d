//! What is written by people who come from other gateways and other formats, and what it is called here.

/// Keys of others, with where their meaning lives. Names that are near one of ours are found by likeness.
const KEYS: &[(&[&str], &str)] = &[
    (
        &["proxy_pass", "backend", "service", "target", "proxy"],
        "a route names its upstream: upstream = \"app\"; its servers stand in [upstreams.app] as endpoints",
    ),
    (
        &["server", "servers", "backends", "targets", "nodes", "members"],
        "an upstream has endpoints = [\"HOST:PORT\"]; virtual servers are `hosts` of routes",
    ),
    (
        &["server_name", "domain", "domains"],
        "names are conditions of a route: hosts = [\"example.com\"]",
    ),
    (
        &["location", "prefix", "match"],
        "paths are conditions of a route: paths = [\"/api\"]",
    ),
    (
        &["listen", "bind", "port"],
        "a listener has address = \"IP:PORT\"",
    ),
    (
        &["url", "uri", "host_port"],
        "an endpoint has address = \"HOST:PORT\"",
    ),
    (
        &["frontend", "frontends", "entrypoints"],
        "it is a listener here: [listeners.NAME]",
    ),
    (
        &[
            "health_check",
            "healthcheck",
            "health_uri",
            "check",
            "healthchecks",
        ],
        "there is `upstreams.*.health`: health = { path = \"/health\" }",
    ),
    (&["return"], "a route answers with `respond` or `redirect`"),
    (
        &["root", "alias", "index", "try_files"],
        "files are not served; forward to a server that does",
    ),
    (&["worker_processes", "threads"], "there is `runtime.workers`"),
    (
        &["client_max_body_size"],
        "there is `listeners.*.limits.body`, and `routes[].body_limit`",
    ),
    (&["keepalive_timeout"], "there is `listeners.*.limits.keep_alive`"),
    (&["proxy_connect_timeout"], "there is `routes[].timeouts.connect`"),
    (
        &["proxy_read_timeout", "timeout"],
        "there is `routes[].timeouts`: response until the head, idle within the body, total for all",
    ),
    (&["proxy_set_header"], "there is `routes[].request_headers.set`"),
    (&["add_header"], "there is `routes[].response_headers.set`"),
];

/// The same for keys of `[cluster]`, where some of those above mean something else.
const CLUSTER: &[(&[&str], &str)] = &[
    (
        &[
            "redis_url",
            "redis_uri",
            "redis_host",
            "url",
            "uri",
            "address",
            "host",
            "hosts",
            "server",
            "broker",
        ],
        "there is `cluster.redis`: redis = \"redis://HOST:6379\"",
    ),
    (
        &["enable", "mode", "clustering", "cluster_mode"],
        "there is `cluster.enabled`; whoever names a `cluster.redis` is one of several, whoever does not is alone",
    ),
    (
        &["node_id", "id", "server_id", "node_name"],
        "there is `cluster.node`: node = \"gw-1\"",
    ),
    (
        &["secret", "cluster_key", "shared_key", "psk", "token", "keys"],
        "there is `cluster.key`: key = \"env:TIDEGATE_CLUSTER_KEY\"",
    ),
    (&["user", "username"], "there is `cluster.redis_user`"),
    (
        &["password", "redis_pass"],
        "there is `cluster.redis_password`: redis_password = \"env:NAME\"",
    ),
    (
        &["tls"],
        "there is `cluster.redis_tls`, and the scheme `rediss://`",
    ),
    (
        &["role", "region", "zone"],
        "there is `cluster.labels`: labels = { role = \"main\", zone = \"a\" }",
    ),
    (
        &["peers", "members", "nodes", "seeds", "bootstrap_nodes", "join"],
        "gateways find each other through `cluster.redis`",
    ),
    (
        &["heartbeat_interval", "interval"],
        "there is `cluster.heartbeat`: heartbeat = \"1s\"",
    ),
    (
        &["failure_detection_timeout", "detection_timeout", "timeout", "ttl"],
        "there is `cluster.gone_after`: gone_after = \"3s\"",
    ),
    (
        &["key_prefix", "redis_prefix", "redis_key_prefix", "namespace"],
        "there is `cluster.prefix`",
    ),
];

/// Words of others for values that are one of a few.
const WORDS: &[(&str, &str)] = &[
    ("least_conn", "least_connections"),
    ("leastconn", "least_connections"),
    ("leasttime", "least_time"),
    ("random", "random_two"),
    ("iphash", "ip_hash"),
    ("source", "ip_hash"),
    ("consistent", "hash"),
    ("ring_hash", "hash"),
    ("maglev", "hash"),
    ("peak_ewma", "adaptive"),
    ("ewma", "adaptive"),
    ("ai_optimized", "adaptive"),
    ("least_request", "least_connections"),
    ("roundrobin", "round_robin"),
    ("rr", "round_robin"),
    ("wrr", "weighted"),
    ("ws", "websocket"),
    ("pending", "probing"),
    ("unknown", "probing"),
    ("warning", "warn"),
    ("verbose", "debug"),
    ("crit", "error"),
    ("on", "always_keep"),
    ("readonly", "viewer"),
    ("root", "admin"),
];

/// What a key of another gateway is here.
#[must_use]
pub fn key(name: &str) -> Option<&'static str> {
    find(KEYS, name)
}

/// The same where the table that it stands in says more than likeness to a key would.
#[must_use]
pub fn key_in(table: &str, name: &str) -> Option<&'static str> {
    (table == "cluster").then(|| find(CLUSTER, name)).flatten()
}

fn find(table: &[(&[&str], &'static str)], name: &str) -> Option<&'static str> {
    let found = table.iter().find(|(names, _)| names.contains(&name));
    found.map(|(_, hint)| *hint)
}

/// Which of the accepted words another gateway's word stands for.
#[must_use]
pub fn word(found: &str, accepted: &[&'static str]) -> Option<&'static str> {
    let found = found.to_ascii_lowercase();
    WORDS
        .iter()
        .filter(|(other, _)| *other == found)
        .find_map(|(_, ours)| accepted.iter().find(|name| *name == ours).copied())
}

/// What was meant by a line that is not TOML. Nothing of its value is repeated: it may be a secret.
#[must_use]
pub fn line(text: &str) -> Option<String> {
    let text = text.trim();
    let Some((key, value)) = text.split_once('=') else {
        return text.ends_with(['{', '}', ';']).then(|| {
            "this looks like the language of nginx; here it is TOML: [tables] and key = value".to_owned()
        });
    };
    let (key, value) = (key.trim(), value.trim_start());
    let bare = value.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '*' | ':' | '.'));
    let plain = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    (bare && plain).then(|| format!("text stands in quotes: {key} = \"…\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::table::ROOT;
    use crate::config::keys::walk;

    #[test]
    fn no_key_of_others_is_shadowed_by_one_of_ours_with_the_same_meaning() {
        for table in [KEYS, CLUSTER] {
            let mut twice: Vec<&str> = table
                .iter()
                .flat_map(|(names, _)| names.iter().copied())
                .collect();
            let all = twice.len();
            twice.sort_unstable();
            twice.dedup();
            assert_eq!(twice.len(), all);
        }
    }

    #[test]
    fn keys_that_hints_name_exist() {
        let mut known = Vec::new();
        walk(ROOT, &mut |pattern, _| known.push(pattern.to_owned()));
        let named = KEYS
            .iter()
            .chain(CLUSTER)
            .flat_map(|(_, hint)| hint.split('`').skip(1).step_by(2));
        for name in named.filter(|name| name.contains('.')) {
            assert!(known.iter().any(|pattern| pattern == name), "{name}: {known:?}");
        }
    }

    #[test]
    fn a_word_is_translated_only_to_one_that_is_accepted() {
        assert_eq!(
            word("leastconn", &["round_robin", "least_connections"]),
            Some("least_connections")
        );
        assert_eq!(word("Warning", &["error", "warn"]), Some("warn"));
        assert_eq!(word("leastconn", &["warn"]), None);
    }

    #[test]
    fn a_line_without_quotes_is_told_apart_from_nginx() {
        let quotes = line("address = 127.0.0.1:80").unwrap();
        assert_eq!(quotes, "text stands in quotes: address = \"…\"");
        assert!(line("location / {").unwrap().contains("nginx"));
        assert!(line("listen 80;").unwrap().contains("nginx"));
        assert_eq!(
            line("address = \"127.0.0.1:80"),
            None,
            "the quote is missing at the end only"
        );
        assert_eq!(line("nothing"), None);
    }
}
