//! Clients and endpoints that stall, trickle and leave at every stage: each gets its documented answer, and
//! afterwards everything is as it was before.

use crate::gateway;
use std::time::Duration;
use testkit::net::Refused;
use testkit::ws;
use testkit::{Backend, Conn, Gateway, Load, Reply, eventually, pattern};

const CONFIG: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
limits = { header_timeout = "500ms", body_idle = "500ms", keep_alive = "500ms", send_timeout = "500ms" }

[[routes]]
upstream = "app"
timeouts = { response = "500ms", idle = "500ms", connect = "300ms" }

[[routes]]
paths = ["/refused"]
upstream = "refused"

[upstreams.app]
endpoints = [{ address = "@app@" }]
pool = { idle_timeout = "1s" }

[upstreams.refused]
endpoints = [{ address = "@refused@" }]
"#;

struct Scene {
    backend: Backend,
    gateway: Gateway,
    _refused: Refused,
    fds: usize,
    threads: u64,
}

impl Scene {
    fn new() -> Self {
        let backend = Backend::http(|r| match r.target.as_str() {
            "/hang" => Reply::hang(),
            "/reset" => Reply::reset(),
            "/close" => Reply::close(),
            "/garbage" => Reply::raw("\0\x01garbage\r\n\r\n").then_hang(),
            "/half-head" => Reply::raw("HTTP/1.1 200 OK\r\nX:").then_close(),
            "/half-body" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").then_close(),
            "/stalled-body" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").then_hang(),
            "/bad-chunk" => {
                Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").then_hang()
            }
            "/large" => Reply::pattern(8 << 20),
            _ => Reply::ok("hi"),
        });
        let refused = Refused::new();
        let gateway = gateway(CONFIG)
            .with("app", backend.address())
            .with("refused", refused.address())
            .start();
        // Both workers have done everything once before anything is counted.
        let load = Load::get(gateway.web(), 8, "/");
        eventually("some answers", || load.done() > 50);
        load.stop().expect_flawless();
        let mut scene = Self {
            backend,
            gateway,
            _refused: refused,
            fds: 0,
            threads: 0,
        };
        scene.settle();
        scene.fds = scene.gateway.fds();
        scene.threads = scene.gateway.threads();
        scene
    }

    /// Waits until nobody is connected on either side.
    #[track_caller]
    fn settle(&self) {
        eventually("no client is connected", || self.gateway.open_connections() == 0);
        eventually("no connection to the endpoint is open", || {
            self.backend.open_connections() == 0
        });
    }

    /// Everything is as it was.
    #[track_caller]
    fn expect_clean(&self) {
        self.settle();
        eventually("nothing is in flight", || {
            self.gateway.metric("tidegate_endpoint_in_flight", &[]) == 0.0
        });
        eventually("descriptors return", || self.gateway.fds() <= self.fds);
        assert_eq!(self.gateway.threads(), self.threads);
        assert_eq!(self.gateway.metric("tidegate_panics_total", &[]), 0.0);
        assert_eq!(self.gateway.get("/").text(), "hi");
    }
}

/// Each stage of an exchange at which a client may stop, as the bytes that it sent so far.
const STAGES: [&str; 10] = [
    "",
    "G",
    "GET / HTTP/1.1\r\n",
    "GET / HTTP/1.1\r\nHost: te",
    "GET /hang HTTP/1.1\r\nHost: test\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nhalf",
    "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
    "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    "GET /large HTTP/1.1\r\nHost: test\r\n\r\n",
];

#[test]
fn clients_that_leave_at_any_stage_leave_nothing_behind() {
    let scene = Scene::new();
    for _ in 0..5 {
        for stage in STAGES {
            let at_stage = || {
                let mut conn = scene.gateway.connect();
                conn.send(stage);
                conn
            };
            drop(at_stage());
            at_stage().reset();
            at_stage().half_close();
        }
    }
    scene.expect_clean();
}

#[test]
fn clients_that_stall_at_any_stage_are_cut() {
    let scene = Scene::new();
    let mut stalled: Vec<Conn> = Vec::new();
    for stage in STAGES {
        for _ in 0..3 {
            let mut conn = Conn::connect(scene.gateway.web()).with_receive_buffer(16 << 10);
            conn.send(stage);
            stalled.push(conn);
        }
    }
    // They are still there, silent: the gateway gets rid of every one of them.
    eventually("all are cut", || scene.gateway.open_connections() == 0);
    drop(stalled);
    scene.expect_clean();
}

#[test]
fn clients_that_send_a_byte_now_and_then_are_cut() {
    let scene = Scene::new();
    let mut slow: Vec<Conn> = (0..10).map(|_| scene.gateway.connect()).collect();
    let request = b"POST / HTTP/1.1\r\nHost: test\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n";
    let mut bytes = request.iter().cycle();
    eventually("all are cut", || {
        let byte = [*bytes.next().unwrap_or(&b'x')];
        for conn in &mut slow {
            let _ = conn.try_send(byte);
        }
        scene.gateway.open_connections() == 0
    });
    for conn in &mut slow {
        if let Ok(answer) = conn.try_response_to("POST") {
            answer.expect(408, Some("request_timeout"));
        }
    }
    drop(slow);
    scene.expect_clean();
}

#[test]
fn clients_that_upload_a_byte_now_and_then_are_cut() {
    let scene = Scene::new();
    let mut slow: Vec<Conn> = (0..10).map(|_| scene.gateway.connect()).collect();
    for conn in &mut slow {
        conn.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n");
    }
    eventually("all are cut", || {
        for conn in &mut slow {
            let _ = conn.try_send("x");
        }
        testkit::pace(Duration::from_millis(90));
        scene.gateway.open_connections() == 0
    });
    drop(slow);
    scene.expect_clean();
}

#[test]
fn endpoints_that_misbehave_in_every_way_leave_nothing_behind() {
    let scene = Scene::new();
    for _ in 0..3 {
        for (target, status) in [
            ("/hang", 504),
            ("/reset", 502),
            ("/close", 502),
            ("/garbage", 502),
            ("/half-head", 502),
            ("/half-body", 200),
            ("/stalled-body", 200),
            ("/bad-chunk", 200),
            ("/refused", 502),
        ] {
            let mut conn = scene.gateway.connect();
            conn.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
            if let Ok(answer) = conn.try_response_to("GET") {
                assert_eq!(answer.status, status, "{target}: {answer}");
                assert!(status != 200 || answer.cut.is_some(), "{target} looks complete");
            }
        }
    }
    scene.expect_clean();
}

#[test]
fn garbage_of_every_kind_is_survived() {
    let scene = Scene::new();
    let noise = pattern::bytes(60_000);
    for start in (0..50_000).step_by(997) {
        let mut conn = scene.gateway.connect();
        let _ = conn.try_send(&noise[start..start + 300]);
        let _ = conn.try_send("\r\n\r\n");
        if let Ok(answer) = conn.try_response_to("GET") {
            assert!((400..600).contains(&answer.status), "{answer}");
        }
    }
    // Mutations of a good request get further.
    let good =
        b"POST /x?y=z HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for (n, at) in (0..good.len()).enumerate() {
        let mut bytes = good.to_vec();
        bytes[at] = noise[n];
        let mut conn = scene.gateway.connect();
        let _ = conn.try_send(&bytes);
        conn.half_close();
        let _ = conn.try_response_to("POST");
    }
    scene.expect_clean();
}

#[test]
fn tunnels_that_end_in_any_way_leave_nothing_behind() {
    let backend = ws::echo_backend();
    let gateway = gateway(crate::PLAIN).with("app", backend.address()).start();
    let open = || ws::Client::connect(gateway.connect(), "/");
    drop(open());
    let clean = |what: &str| {
        eventually(what, || {
            gateway.open_connections() == 0 && backend.open_connections() == 0
        });
        gateway.fds()
    };
    let before = clean("the first tunnel is gone");
    for _ in 0..20 {
        drop(open());
        open().conn.reset();
        let mut client = open();
        client.conn.send(&ws::frame(ws::TEXT, &[b'x'; 5000], true)[..100]);
        client.conn.half_close();
        drop(client);
    }
    eventually("descriptors return", || clean("all tunnels are gone") <= before);
}

#[test]
fn a_storm_of_connections_leaves_nothing_behind() {
    let scene = Scene::new();
    let rss = scene.gateway.rss_kb();
    for _ in 0..5 {
        let conns: Vec<Conn> = (0..400).map(|_| scene.gateway.connect()).collect();
        drop(conns);
    }
    scene.expect_clean();
    eventually("memory returns", || scene.gateway.rss_kb() < rss + 8 * 1024);
}

#[test]
fn an_access_log_that_cannot_be_opened_is_told_at_the_start() {
    let config = "[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\nrespond = { body = \"hi\" }\n[log]\naccess = { path = \"/proc/none/access.log\" }\n";
    let ran = gateway(config).try_start().expect_err("it must not start");
    assert!(matches!(ran.code, Some(1 | 2)), "{ran:?}");
    assert!(ran.stderr.contains("/proc/none/access.log"), "{}", ran.stderr);
}
