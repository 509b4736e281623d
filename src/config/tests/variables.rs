//! Values from the environment.

use super::*;

fn with(variables: &[(&str, &str)]) -> Loaded {
    with_text(GOOD, variables)
}

fn with_text(text: &str, variables: &[(&str, &str)]) -> Loaded {
    match load_text("test.toml", text, &environment(variables)) {
        Ok(loaded) => loaded,
        Err(rejected) => panic!("{}", render::text(&rejected.diagnostics, false)),
    }
}

fn refused(variables: &[(&str, &str)]) -> Diagnostic {
    let all = load_text("test.toml", GOOD, &environment(variables))
        .unwrap_err()
        .diagnostics;
    assert_eq!(all.len(), 1, "{:#?}", shorts(&all));
    all.into_iter().next().unwrap()
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
    let text = format!("[runtime]\nmax_connections = 7\n{GOOD}");
    assert_eq!(with_text(&text, &[]).config.runtime.max_connections, 7);
    let loaded = with_text(&text, &[("TIDEGATE_RUNTIME__MAX_CONNECTIONS", "9")]);
    assert_eq!(loaded.config.runtime.max_connections, 9);
    let origin = loaded.origins.describe("runtime.max_connections");
    assert_eq!(origin, "env TIDEGATE_RUNTIME__MAX_CONNECTIONS");
}

#[test]
fn named_objects_are_found_whatever_their_spelling() {
    let text = GOOD
        .replace("web", "\"My-Web.1\"")
        .replace("routes]]", "routes]]\nname = 'all-of-it'");
    let config = with_text(
        &text,
        &[
            ("TIDEGATE_LISTENERS__MY_WEB_1__LIMITS__BODY", "5MB"),
            ("TIDEGATE_LISTENERS__MY_WEB_1__ERROR_HEADER", "false"),
            ("TIDEGATE_UPSTREAMS__APP__BALANCE", "least_connections"),
            ("TIDEGATE_UPSTREAMS__APP__ENDPOINTS__0__WEIGHT", "5"),
            ("TIDEGATE_ROUTES__ALL_OF_IT__TIMEOUTS__CONNECT", "3s"),
            ("TIDEGATE_ROUTES__0__PRIORITY", "-4"),
        ],
    )
    .config;
    let web = &config.listeners["My-Web.1"];
    assert_eq!((web.limits.body, web.error_header), (5_000_000, false));
    assert_eq!(config.upstreams["app"].balance, model::Balance::LeastConnections);
    assert_eq!(
        config.upstreams["app"].endpoints[0].weight, 5,
        "a string of an address makes room for it"
    );
    assert_eq!(config.routes[0].timeouts.connect.as_secs(), 3);
    assert_eq!(config.routes[0].priority, -4);
}

#[test]
fn a_name_with_two_underscores_is_not_taken_apart() {
    let text = GOOD
        .replace("upstreams.app]", "upstreams.a__b]")
        .replace("'app'", "'a__b'");
    let config = with_text(&text, &[("TIDEGATE_UPSTREAMS__A__B__BALANCE", "weighted")]).config;
    assert_eq!(config.upstreams["a__b"].balance, model::Balance::Weighted);
}

#[test]
fn tables_that_may_be_absent_come_to_be() {
    let variables = [
        ("TIDEGATE_ADMIN__ADDRESS", "127.0.0.1:9900"),
        ("TIDEGATE_LOG__ACCESS__FORMAT", "json"),
    ];
    let config = with(&variables).config;
    assert!(config.admin.is_some());
    assert_eq!(config.log.access.unwrap().format, model::AccessFormat::Json);
}

#[test]
fn weights_of_a_split_can_be_set() {
    let text = GOOD.replace("upstream = 'app'", "split = { app = 1 }");
    let config = with_text(&text, &[("TIDEGATE_ROUTES__0__SPLIT__APP", "7")]).config;
    assert_eq!(
        config.routes[0].action,
        model::Action::Split([("app".to_owned(), 7)].into())
    );
}

#[test]
fn a_bad_value_names_its_variable() {
    let told = refused(&[("TIDEGATE_RUNTIME__WORKERS", "many")]);
    assert_eq!(
        short(&told),
        "runtime.workers: environment variable TIDEGATE_RUNTIME__WORKERS: found \"many\"; accepted: \"auto\" or an integer from 1 to 1024"
    );
    let told = refused(&[("TIDEGATE_DNS__MIN_TTL", "2m")]);
    assert_eq!(
        short(&told),
        "dns.min_ttl: environment variable TIDEGATE_DNS__MIN_TTL: dns.min_ttl is longer than dns.max_ttl"
    );
}

#[test]
fn unknown_variables_are_refused_with_what_was_meant() {
    for (variable, expected, hint) in [
        (
            "TIDEGATE_RUNTME__WORKERS",
            "there is no RUNTME; accepted: INCLUDE, RUNTIME,",
            Some("did you mean `RUNTIME`?"),
        ),
        (
            "TIDEGATE_RUNTIME__WORKER",
            "there is no WORKER in runtime; accepted: WORKERS,",
            Some("did you mean `WORKERS`?"),
        ),
        (
            "TIDEGATE_UPSTREAMS__APB__BALANCE",
            "there is no APB in upstreams; accepted: APP",
            Some("did you mean `APP`?"),
        ),
        (
            "TIDEGATE_UPSTREAMS__APP__ENDPOINTS__7__WEIGHT",
            "there is no 7 in upstreams.app.endpoints; accepted: 0",
            None,
        ),
        ("TIDEGATE_UPSTREAMS__APP", "there is no APP in upstreams", None),
        (
            "TIDEGATE_LISTENERS__WEB__TRUSTED_PROXIES",
            "listeners.web.trusted_proxies is a list",
            None,
        ),
        (
            "TIDEGATE_LISTENERS__WEB__LIMITS",
            "listeners.web.limits is a table; name one of its keys",
            None,
        ),
        (
            "TIDEGATE_RUNTIME__WORKERS__X",
            "runtime.workers has no keys of its own",
            None,
        ),
        ("TIDEGATE_ADMIN__TOKENS__X__TOKEN", "admin.tokens is empty", None),
        (
            "TIDEGATE_ROUTES__0__SPLIT__X",
            "there is no X in routes[0].split; accepted: nothing",
            None,
        ),
        ("TIDEGATE___X", "there is no ; accepted: ", None),
    ] {
        let all = load_text("test.toml", GOOD, &environment(&[(variable, "1")]))
            .unwrap_err()
            .diagnostics;
        let told = &all[0];
        let message = told
            .message
            .strip_prefix(&format!("environment variable {variable}: "));
        assert!(
            message.is_some_and(|message| message.starts_with(expected)),
            "{variable}: {}",
            told.message
        );
        if hint.is_some() {
            assert_eq!(told.hint.as_deref(), hint, "{variable}");
        }
    }
}

#[test]
fn names_that_look_the_same_to_the_environment_are_not_guessed_at() {
    let text = format!("{GOOD}[upstreams.a-b]\nendpoints = ['a:1']\n[upstreams.a_b]\nendpoints = ['a:1']\n");
    let env = environment(&[("TIDEGATE_UPSTREAMS__A_B__BALANCE", "weighted")]);
    let told = load_text("test.toml", &text, &env).unwrap_err().diagnostics;
    assert!(
        told[0].message.contains("it may mean `a-b` or `a_b`"),
        "{}",
        told[0].message
    );
}

#[test]
fn variables_without_a_section_are_for_others() {
    let config = with(&[
        ("TIDEGATE_ADMIN_TOKEN", "x"),
        ("TIDEGATE", "y"),
        ("OTHER__THING", "z"),
    ])
    .config;
    assert_eq!(config, load_good(GOOD).config);
}

#[test]
fn old_names_of_the_node_win_over_the_file() {
    let text = format!("[runtime]\nmax_connections = 7\nworkers = 3\n{GOOD}");
    let loaded = with_text(&text, &[("MAX_CONNECTIONS", "5000"), ("CLUSTER_WORKERS", "2")]);
    assert_eq!(loaded.config.runtime.max_connections, 5000);
    assert_eq!(loaded.config.runtime.workers, model::Workers::Count(2));
    assert_eq!(loaded.origins.describe("runtime.workers"), "env CLUSTER_WORKERS");
    let both = [
        ("MAX_CONNECTIONS", "5000"),
        ("TIDEGATE_RUNTIME__MAX_CONNECTIONS", "6"),
    ];
    assert_eq!(
        with(&both).config.runtime.max_connections,
        6,
        "the exact name wins"
    );
    assert_eq!(
        with_text(&text, &[("MAX_CONNECTIONS", "")])
            .config
            .runtime
            .max_connections,
        7
    );
}

#[test]
fn old_names_for_all_upstreams_are_defaults() {
    let variables = [("LB_ALGORITHM", "least_connections"), ("LB_TIMEOUT", "2.5")];
    let loaded = with(&variables);
    assert_eq!(
        loaded.config.upstreams["app"].balance,
        model::Balance::LeastConnections
    );
    assert_eq!(loaded.config.routes[0].timeouts.response.as_millis(), 2500);
    assert_eq!(
        loaded.origins.describe("upstreams.app.balance"),
        "env LB_ALGORITHM"
    );
    let text = GOOD
        .replace("endpoints", "balance = 'weighted'\nendpoints")
        .replace("= 'app'", "= 'app'\ntimeouts = { response = '9s' }");
    let config = with_text(&text, &variables).config;
    assert_eq!(config.upstreams["app"].balance, model::Balance::Weighted);
    assert_eq!(config.routes[0].timeouts.response.as_secs(), 9);
    for (name, balance) in [
        ("weighted_round_robin", model::Balance::Weighted),
        ("AI_OPTIMIZED", model::Balance::Adaptive),
        ("ip-hash", model::Balance::IpHash),
    ] {
        let config = with(&[("LB_ALGORITHM", name), ("LB_TIMEOUT", "30")]).config;
        assert_eq!(config.upstreams["app"].balance, balance);
    }
}

#[test]
fn old_names_with_values_of_another_version_are_refused() {
    let told = refused(&[("LB_ALGORITHM", "sticky")]);
    let expected = "environment variable LB_ALGORITHM: found \"sticky\"; this version has round_robin, weighted, least_connections, random_two, least_time, adaptive, ip_hash, hash, first";
    assert_eq!(told.message, expected);
    for (variable, value) in [
        ("LB_TIMEOUT", "soon"),
        ("LB_TIMEOUT", "-1"),
        ("LB_TIMEOUT", "nan"),
        ("LB_TIMEOUT", "1e300"),
        ("MAX_CONNECTIONS", "lots"),
        ("CLUSTER_WORKERS", "0"),
        ("LB_RETRY_ATTEMPTS", "-1"),
        ("LB_RETRY_ATTEMPTS", "8"),
        ("FAILOVER_MAX_ATTEMPTS", "0"),
        ("FAILOVER_RECOVERY_TIMEOUT", "0"),
    ] {
        let told = refused(&[(variable, value)]);
        assert!(
            told.message
                .starts_with(&format!("environment variable {variable}: found ")),
            "{}",
            told.message
        );
    }
}
