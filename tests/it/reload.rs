//! A new configuration takes over between two requests, or changes nothing at all.

use crate::{PLAIN, gateway};
use std::time::{Duration, Instant};
use testkit::gateway::Sig;
use testkit::net::free_port;
use testkit::ws::Client;
use testkit::{Address, Backend, Conn, Gate, Gateway, Load, Reply, eventually, holds_for, ws};

/// A configuration whose only route answers with this body.
fn answering(body: &str) -> String {
    format!("[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\nrespond = {{ body = \"{body}\" }}\n")
}

#[track_caller]
fn eventually_answers(gateway: &Gateway, body: &str) {
    eventually(&format!("the answer is {body}"), || {
        gateway.get("/").text() == body
    });
}

#[test]
fn hup_reloads_and_open_connections_live_on() {
    let gateway = gateway(&answering("one")).start();
    let mut conn = gateway.connect();
    assert_eq!(conn.get("/").text(), "one");
    gateway.reload(&answering("two"));
    assert_eq!(conn.get("/").text(), "two");
    assert_eq!(gateway.get("/").text(), "two");
}

#[test]
fn a_file_replaced_by_rename_is_noticed() {
    let gateway = gateway(&answering("one")).start();
    gateway.write_config(&answering("two"));
    eventually_answers(&gateway, "two");
    gateway.write_config(&answering("three"));
    eventually_answers(&gateway, "three");
}

#[test]
fn a_file_written_in_place_is_noticed() {
    let gateway = gateway(&answering("one")).without_admin().start();
    std::fs::write(gateway.path("tidegate.toml"), answering("two")).expect("write");
    eventually_answers(&gateway, "two");
}

#[test]
fn a_file_saved_as_editors_do_is_noticed() {
    let gateway = gateway(&answering("one")).without_admin().start();
    let file = gateway.path("tidegate.toml");
    // vim: move the old one away, write a new one, remove the old one.
    std::fs::rename(&file, gateway.path("tidegate.toml~")).expect("rename");
    std::fs::write(&file, answering("two")).expect("write");
    std::fs::remove_file(gateway.path("tidegate.toml~")).expect("remove");
    eventually_answers(&gateway, "two");
}

#[test]
fn a_swapped_config_map_is_noticed() {
    let gateway = gateway(&answering("one")).as_config_map().start();
    assert_eq!(gateway.get("/").text(), "one");
    gateway.swap_config_map(&answering("two"));
    eventually_answers(&gateway, "two");
    gateway.swap_config_map(&answering("three"));
    eventually_answers(&gateway, "three");
}

#[test]
fn included_files_are_watched_too() {
    let main = "include = [\"conf.d/*.toml\"]\n[listeners.web]\naddress = \"127.0.0.1:0\"\n";
    let route = |body: &str| format!("[[routes]]\nrespond = {{ body = \"{body}\" }}\n");
    let gateway = gateway(main).file("conf.d/a.toml", &route("one")).start();
    assert_eq!(gateway.get("/").text(), "one");
    std::fs::write(gateway.path("conf.d/a.toml"), route("two")).expect("write");
    eventually_answers(&gateway, "two");
    std::fs::write(
        gateway.path("conf.d/b.toml"),
        format!("{}paths = [\"/b\"]\n", route("b")),
    )
    .expect("write");
    eventually("the new file is read", || gateway.get("/b").text() == "b");
}

const WITH_TOKEN: &str = "\n[admin]\naddress = \"127.0.0.1:0\"\ntokens = [{ name = \"ops\", role = \"admin\", token = \"env:OPS\" }]\n";

fn with_token(config: &str) -> Gateway {
    gateway(&format!("{config}{WITH_TOKEN}"))
        .env("OPS", "s3cret-s3cret-s3cret")
        .token("s3cret-s3cret-s3cret")
        .start()
}

#[test]
fn the_api_reloads_and_tells_what_changed() {
    let gateway = with_token(&answering("one"));
    gateway.write_config(&format!("{}{WITH_TOKEN}", answering("two")));
    let answer = gateway.admin_call("POST", "/api/v1/config/reload", "", "");
    assert_eq!(answer.status, 200, "{answer}");
    // Whether the API or the file watch came first, from here on the new one serves.
    assert_eq!(gateway.get("/").text(), "two");
    let again = gateway.admin_call("POST", "/api/v1/config/reload", "", "");
    assert!(again.text().contains("unchanged"), "{again}");
}

#[test]
fn the_command_reloads_through_the_control_socket() {
    let gateway = gateway(&answering("one")).start();
    gateway.write_config(&answering("two"));
    let _ = gateway.cli(&["reload"]).expect(0);
    assert_eq!(gateway.get("/").text(), "two");
    gateway.write_config("nonsense = 1");
    let refused = gateway.cli(&["reload"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(
        format!("{}{}", refused.stdout, refused.stderr).contains("nonsense"),
        "{refused:?}"
    );
    assert_eq!(gateway.get("/").text(), "two");
}

#[test]
fn an_unchanged_file_is_no_new_generation() {
    let gateway = gateway(&answering("one")).start();
    let before = gateway.generation();
    gateway.signal(Sig::HUP);
    eventually("the reload is counted", || gateway.reloads("unchanged") > 0);
    assert_eq!(gateway.generation(), before);
}

#[test]
fn a_refused_configuration_changes_nothing_and_says_so_everywhere() {
    let backend = Backend::text("app");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let gateway = with_token(&answering("one"));
    let generation = gateway.generation();
    let broken = [
        ("[listeners.web", "tidegate.toml"),
        (
            "[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\nupstream = \"missing\"\n",
            "missing",
        ),
        (
            "[listeners.web]\naddress = \"127.0.0.1:0\"\nbcklog = 7\n",
            "bcklog",
        ),
    ];
    let port_taken = format!(
        "{}[listeners.other]\naddress = \"{}\"\n",
        answering("two"),
        taken.local_addr().expect("address")
    );
    let rows = broken.iter().map(|(config, word)| ((*config).to_owned(), *word));
    for (config, word) in rows.chain([(port_taken, "other")]) {
        gateway.reload_refused(&format!("{config}{WITH_TOKEN}"));
        assert_eq!(
            (gateway.get("/").text().as_str(), gateway.generation()),
            ("one", generation),
            "{config}"
        );
        assert_eq!(gateway.metric("tidegate_config_last_reload_success", &[]), 0.0);
        gateway.await_log(word);
        let answer = gateway.admin_call("POST", "/api/v1/config/reload", "", "");
        assert!(
            (400..500).contains(&answer.status) && answer.text().contains(word),
            "{word}: {answer}"
        );
    }
    // A good one heals it.
    gateway.reload(&format!("{}{WITH_TOKEN}", answering("three")));
    assert_eq!(gateway.get("/").text(), "three");
    assert_eq!(gateway.metric("tidegate_config_last_reload_success", &[]), 1.0);
    drop(backend);
}

#[test]
fn what_needs_a_restart_is_refused_by_name() {
    let gateway = gateway(&format!("{}[runtime]\nworkers = 1\n", answering("one"))).start();
    gateway.reload_refused(&format!("{}[runtime]\nworkers = 2\n", answering("two")));
    assert_eq!(gateway.get("/").text(), "one");
    gateway.await_log("runtime.workers");
    gateway.await_log("restart");
}

#[test]
fn a_request_under_way_ends_by_the_configuration_it_began_with() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |_| Reply::ok("slow").held_by(&held));
    let gateway = gateway(PLAIN).with("app", backend.address()).start();
    let mut conn = gateway.connect();
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    gate.reached();
    gateway.reload(&answering("two"));
    assert_eq!(gateway.get("/").text(), "two");
    gate.open();
    assert_eq!(conn.response().text(), "slow");
    assert_eq!(conn.get("/").text(), "two");
}

#[test]
fn endpoints_come_and_go_and_pooled_connections_of_those_that_stay_are_kept() {
    let (a, b) = (Backend::text("a"), Backend::text("b"));
    let config = |endpoints: &str| PLAIN.replace("{ address = \"@app@\" }", endpoints);
    let (only_a, both, only_b) = (config(r#""@a@""#), config(r#""@a@", "@b@""#), config(r#""@b@""#));
    let gateway = gateway(&only_a)
        .with("a", a.address())
        .with("b", b.address())
        .start();
    let mut conn = gateway.connect();
    assert_eq!(conn.get("/").text(), "a");
    gateway.reload(&both);
    let seen: String = (0..10).map(|_| conn.get("/").text()).collect();
    assert!(seen.contains('a') && seen.contains('b'), "{seen}");
    assert_eq!(a.connections(), 1, "the pooled connection was given up");
    gateway.reload(&only_b);
    for _ in 0..5 {
        assert_eq!(conn.get("/").text(), "b");
    }
    eventually("connections to what is gone are closed", || {
        a.open_connections() == 0
    });
}

#[test]
fn counters_survive() {
    let backend = Backend::text("hi");
    let gateway = gateway(PLAIN).with("app", backend.address()).start();
    let requests = |gateway: &Gateway| gateway.metric("tidegate_requests_total", &[r#"upstream="app""#]);
    for _ in 0..7 {
        let _ = gateway.get("/");
    }
    eventually("all are counted", || requests(&gateway) == 7.0);
    gateway.reload(&format!(
        "{PLAIN}\n[[routes]]\npaths = [\"/new\"]\nrespond = {{ body = \"new\" }}\n"
    ));
    let _ = gateway.get("/");
    eventually("counting goes on", || requests(&gateway) == 8.0);
}

#[test]
fn listeners_come_and_go_and_those_that_stay_keep_their_connections() {
    let (first, second) = (free_port(), free_port());
    let with = |port: u16| {
        format!(
            "{}[listeners.extra]\naddress = \"127.0.0.1:{port}\"\n",
            answering("hi")
        )
    };
    let gateway = gateway(&answering("hi")).start();
    let at = |port: u16| Address::parse(&format!("127.0.0.1:{port}"));
    let mut stays = gateway.connect();
    assert_eq!(stays.get("/").status, 200);

    gateway.reload(&with(first));
    assert_eq!(Conn::connect(at(first)).get("/").text(), "hi");
    let mut goes = Conn::connect(at(first));
    assert_eq!(goes.get("/").status, 200);

    // A changed address is a new listener and the end of the old one.
    gateway.reload(&with(second));
    assert_eq!(Conn::connect(at(second)).get("/").text(), "hi");
    eventually("nobody listens any more", || {
        Conn::try_connect(at(first)).is_err()
    });

    gateway.reload(&answering("hi"));
    eventually("nobody listens any more", || {
        Conn::try_connect(at(second)).is_err()
    });
    assert_eq!(stays.get("/").status, 200);
    goes.expect_end();
}

#[test]
fn a_request_at_a_listener_that_goes_is_still_answered() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |_| Reply::ok("slow").held_by(&held));
    let port = free_port();
    let extra = format!("{PLAIN}\n[listeners.extra]\naddress = \"127.0.0.1:{port}\"\n");
    let gateway = gateway(&extra).with("app", backend.address()).start();
    let mut conn = Conn::connect(gateway.addr("extra"));
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    gate.reached();
    gateway.reload(PLAIN);
    gate.open();
    assert_eq!(conn.response().text(), "slow");
}

#[test]
fn a_hundred_reloads_under_load_cost_no_request_and_no_connection() {
    let (a, b) = (Backend::text("a"), Backend::text("b"));
    let ports = [free_port(), free_port()];
    let config = |n: usize| {
        let mut text = "[listeners.web]\naddress = \"127.0.0.1:0\"\n".to_owned();
        if !n.is_multiple_of(3) {
            text += &format!(
                "[listeners.extra{}]\naddress = \"127.0.0.1:{}\"\n",
                n % 2,
                ports[n % 2]
            );
        }
        let endpoints = [
            "\"@a@\"",
            "\"@a@\", \"@b@\"",
            "\"@b@\", { address = \"@a@\", weight = 3 }",
        ][n % 3];
        text += &format!("[upstreams.app]\nendpoints = [{endpoints}]\n");
        text += "[[routes]]\nname = \"main\"\npaths = [\"/\"]\nupstream = \"app\"\n";
        for route in 0..n % 5 {
            text += &format!(
                "[[routes]]\nname = \"r{route}\"\npaths = [\"/r{route}\"]\nrespond = {{ body = \"{n}\" }}\n"
            );
        }
        text + &format!(
            "[[routes]]\nname = \"generation\"\npaths = [\"/generation\"]\nrespond = {{ body = \"{n}\" }}\n"
        )
    };
    let gateway = gateway(&config(0))
        .with("a", a.address())
        .with("b", b.address())
        .start();
    let load = Load::get(gateway.web(), 8, "/");
    let mut idle: Vec<Conn> = (0..20).map(|_| gateway.connect()).collect();
    for conn in &mut idle {
        assert_eq!(conn.get("/").status, 200);
    }
    let mut watch = gateway.connect();
    for n in 1..=100 {
        gateway.write_config(&config(n));
        gateway.signal(Sig::HUP);
        eventually("the reload serves", || {
            watch.get("/generation").text() == n.to_string()
        });
    }
    load.stop().expect_flawless();
    for conn in &mut idle {
        assert_eq!(conn.get("/").status, 200);
    }
    assert_eq!(gateway.reloads("rejected"), 0);
    assert!(gateway.reloads("applied") >= 100);
    eventually("nothing is in flight", || {
        gateway.metric("tidegate_endpoint_in_flight", &[]) == 0.0
    });
}

#[test]
fn bad_and_good_configurations_in_turns_under_load_cost_nothing() {
    let backend = Backend::text("hi");
    let gateway = gateway(PLAIN).with("app", backend.address()).start();
    let load = Load::get(gateway.web(), 4, "/");
    for n in 0..15 {
        gateway.reload_refused(&format!("{PLAIN}\n[upstreams.x]\nendpoints = 7\n"));
        gateway.reload(&format!(
            "{PLAIN}\n[[routes]]\npaths = [\"/{n}\"]\nrespond = {{}}\n"
        ));
    }
    load.stop().expect_flawless();
}

#[test]
fn memory_and_descriptors_stay_flat_over_a_thousand_reloads() {
    let gateway = with_token(&answering("start"));
    let mut admin = Conn::connect(gateway.admin());
    let mut reload = |n: usize| {
        // Odd ones carry many more routes, so that what is retired has weight.
        let mut text = answering(&format!("n{n}"));
        for route in 0..(n % 2) * 50 {
            text += &format!("[[routes]]\npaths = [\"/{n}/{route}\"]\nrespond = {{ body = \"{route}\" }}\n");
        }
        gateway.write_config(&format!("{text}{WITH_TOKEN}"));
        admin.send(
            "POST /api/v1/config/reload HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret-s3cret-s3cret\r\n\r\n",
        );
        let answer = admin.response_to("POST");
        assert_eq!(answer.status, 200, "{answer}");
    };
    for n in 0..200 {
        reload(n);
    }
    let (rss, fds, threads) = (gateway.rss_kb(), gateway.fds(), gateway.threads());
    for n in 200..1000 {
        reload(n);
    }
    assert_eq!(gateway.get("/").text(), "n999");
    eventually("descriptors return", || gateway.fds() <= fds + 2);
    // Threads for files come and go as two loads happen to meet; one kept per reload would be 800.
    assert!(
        gateway.threads() <= threads + 8,
        "{} threads after {threads}",
        gateway.threads()
    );
    eventually("memory is flat", || gateway.rss_kb() < rss + 6 * 1024);
}

#[test]
fn a_tunnel_of_each_generation_lives_on_and_keeps_no_generation_alive() {
    let backend = ws::echo_backend();
    let config = |n: usize| {
        let mut text = PLAIN.to_owned();
        for route in 0..500 {
            text += &format!("[[routes]]\npaths = [\"/{n}/{route}\"]\nrespond = {{ body = \"{route}\" }}\n");
        }
        text
    };
    let gateway = gateway(&config(0)).with("app", backend.address()).start();
    let mut tunnels = Vec::new();
    let mut after_warm_up = 0;
    for n in 1..=80 {
        gateway.reload(&config(n));
        tunnels.push(Client::connect(gateway.connect(), "/ws"));
        if n == 20 {
            after_warm_up = gateway.rss_kb();
        }
    }
    for (n, tunnel) in tunnels.iter_mut().enumerate() {
        tunnel.echo(&format!("generation {n}"));
    }
    // A snapshot of 500 routes is some hundred KiB; 60 of them kept would show.
    eventually("old generations are let go", || {
        gateway.rss_kb() < after_warm_up + 8 * 1024
    });
}

#[test]
fn a_half_written_file_is_given_the_time_to_become_whole() {
    let gateway = gateway(&answering("one")).start();
    let text = format!("{}\n[admin]\naddress = \"127.0.0.1:0\"\n", answering("two"));
    let file = gateway.path("tidegate.toml");
    let (head, tail) = text.split_at(text.len() / 2);
    std::fs::write(&file, head).expect("write");
    let whole = Instant::now() + Duration::from_millis(20);
    holds_for(whole.saturating_duration_since(Instant::now()), "serving", || {
        gateway.get("/").status == 200
    });
    std::fs::write(&file, format!("{head}{tail}")).expect("write");
    eventually_answers(&gateway, "two");
}
