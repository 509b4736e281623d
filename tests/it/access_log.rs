//! One record per request, complete or not: in the operator's format, unforgeable, off the request path.

use crate::{PLAIN, gateway, in_front_of};
use testkit::gateway::Sig;
use testkit::{Backend, Gateway, Reply, eventually};

/// A gateway with this access log.
fn logging(backend: &Backend, log: &str) -> Gateway {
    gateway(&format!("{PLAIN}\n[log]\naccess = {log}\n"))
        .with("app", backend.address())
        .start()
}

/// The text of the log once it has so many lines.
#[track_caller]
fn lines(gateway: &Gateway, n: usize) -> Vec<String> {
    let read = || std::fs::read_to_string(gateway.path("access.log")).unwrap_or_default();
    eventually("the access log has its lines", || read().lines().count() >= n);
    read().lines().map(ToOwned::to_owned).collect()
}

#[test]
fn the_json_record_tells_the_whole_story() {
    let backend = Backend::text("hello");
    let gateway = logging(&backend, r#"{ path = "access.log", format = "json" }"#);
    let answer = gateway.send(
        "POST /p?q=1 HTTP/1.1\r\nHost: Test.example:99\r\nUser-Agent: me/1\r\nReferer: http://r/\r\n\
         Content-Length: 3\r\n\r\nabc",
    );
    assert_eq!(answer.status, 200);
    let record = gateway.access_record("/p?q=1");
    for (key, value) in [
        ("method", "POST"),
        ("host", "test.example"),
        ("path", "/p"),
        ("client", "127.0.0.1"),
        ("listener", "web"),
        ("upstream", "app"),
        ("user_agent", "me/1"),
        ("referer", "http://r/"),
        ("version", "HTTP/1.1"),
    ] {
        assert_eq!(record[key], value, "{key} in {record}");
    }
    assert_eq!(
        (&record["status"], &record["upstream_status"], &record["token"]),
        (&200.into(), &200.into(), &().into())
    );
    assert_eq!(record["body_bytes_sent"], 5);
    assert!(
        record["bytes_received"].as_u64() > Some(60) && record["bytes_sent"].as_u64() > Some(20),
        "{record}"
    );
    assert!(
        record["duration_ms"].is_number() && record["request_id"].is_string(),
        "{record}"
    );
    let attempt = &record["attempts"][0];
    assert_eq!(attempt["endpoint"], backend.address().to_string().as_str());
    assert_eq!(
        (&attempt["outcome"], &attempt["reused"]),
        (&"answered".into(), &false.into())
    );
    assert!(
        attempt["connected_ms"].is_number() && attempt["head_ms"].is_number(),
        "{attempt}"
    );
}

#[test]
fn the_combined_format_is_the_one_that_tools_read() {
    let backend = Backend::text("hello");
    let gateway = logging(&backend, r#"{ path = "access.log", format = "combined" }"#);
    gateway.send("GET /a?b=c HTTP/1.1\r\nHost: test\r\nUser-Agent: me \"1\"\r\nReferer: http://r/\r\n\r\n");
    let line = &lines(&gateway, 1)[0];
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(
        line.contains("] \"GET /a?b=c HTTP/1.1\" 200 5 \"http://r/\" \"me "),
        "{line}"
    );
    assert!(
        !line.contains("me \"1\""),
        "quotes of a client must be escaped: {line}"
    );
}

#[test]
fn an_nginx_log_format_is_understood() {
    let backend = Backend::text("hello");
    let format = r#"$remote_addr [$request] $status $body_bytes_sent $upstream_addr "$http_x_mine" $host ${request_method}"#;
    let gateway = logging(
        &backend,
        &format!("{{ path = \"access.log\", format = '{format}' }}"),
    );
    gateway.send("GET /f HTTP/1.1\r\nHost: test\r\nX-Mine: here\r\n\r\n");
    let line = &lines(&gateway, 1)[0];
    let endpoint = backend.address();
    assert_eq!(
        *line,
        format!("127.0.0.1 [GET /f HTTP/1.1] 200 5 {endpoint} \"here\" test GET")
    );
}

#[test]
fn no_request_can_forge_a_line() {
    let backend = Backend::text("hello");
    let evil = b"GET /%0a%0d?x=%0a HTTP/1.1\r\nHost: test\r\nUser-Agent: a\"\\ \xff\t\x80 b\r\nReferer: \"} {\r\n\r\n";
    for format in ["combined", "json", "$http_user_agent|$http_referer|$uri|$args"] {
        let gateway = logging(
            &backend,
            &format!("{{ path = \"access.log\", format = '{format}' }}"),
        );
        assert_eq!(gateway.send(evil).status, 200);
        gateway.send("GET /second HTTP/1.1\r\nHost: test\r\n\r\n");
        let text = lines(&gateway, 2);
        assert_eq!(text.len(), 2, "{text:?}");
        assert!(
            text.iter().all(|line| !line.contains(['\r', '\0', '\t', '\x1b'])),
            "{text:?}"
        );
        if format == "json" {
            // Workers write their lines each for themselves, in no common order.
            let agents = gateway.access_log();
            let mut agents = agents.iter().filter_map(|record| record["user_agent"].as_str());
            assert!(agents.any(|agent| agent.starts_with("a\"\\")));
        }
    }
}

#[test]
fn secrets_in_query_strings_are_redacted_by_rule() {
    let backend = Backend::http(|r| Reply::ok(r.target.clone()));
    let gateway = logging(
        &backend,
        r#"{ path = "access.log", format = "json", redact_query = ["token", "api_key"] }"#,
    );
    let target = "/a?token=s3cret&x=1&api_key=k3y&tokens=fine&token=again";
    let request = format!("GET {target} HTTP/1.1\r\nHost: test\r\nReferer: http://r/?token=s3cret\r\n\r\n");
    // What is logged is redacted, what is forwarded is not.
    assert_eq!(gateway.send(request).text(), target);
    let text = lines(&gateway, 1).join("");
    for secret in ["s3cret", "k3y", "again"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(text.contains("x=1") && text.contains("tokens=fine"), "{text}");
}

#[test]
fn it_is_reopened_on_usr1_and_nothing_is_lost() {
    let backend = Backend::text("hello");
    let gateway = logging(&backend, r#"{ path = "access.log", format = "json" }"#);
    let _ = gateway.get("/before");
    let _ = gateway.access_record("/before");
    std::fs::rename(gateway.path("access.log"), gateway.path("access.log.1")).expect("rotate");
    let _ = gateway.get("/between");
    gateway.signal(Sig::USR1);
    eventually("the log is opened anew", || gateway.path("access.log").exists());
    let _ = gateway.get("/after");
    let _ = gateway.access_record("/after");
    assert!(gateway.read("access.log.1").contains("/before"));
    // Another worker may have served it, and writes its lines when it likes.
    eventually("the record made meanwhile is in one of them", || {
        ["access.log.1", "access.log"]
            .iter()
            .any(|name| gateway.read(name).contains("/between"))
    });
    assert!(!gateway.read("access.log").contains("/before"));
}

#[test]
fn a_full_disk_drops_records_and_counts_them_but_serves() {
    let backend = Backend::text("hello");
    let gateway = logging(&backend, r#"{ path = "/dev/full", format = "json" }"#);
    let mut conn = gateway.connect();
    for _ in 0..50 {
        assert_eq!(conn.get("/").status, 200);
    }
    eventually("failures are counted", || {
        gateway.metric("tidegate_access_log_records_total", &[r#"result="failed""#]) >= 50.0
    });
    assert!(gateway.metric("tidegate_access_log_errors_total", &[]) >= 1.0);
    // Said once in a while, not per request.
    assert!(gateway.log().lines().count() < 60, "{}", gateway.log());
}

#[test]
fn a_log_that_nobody_reads_stalls_no_request() {
    let backend = Backend::text("hello");
    let dir = tempfile::tempdir().expect("directory");
    let fifo = dir.path().join("fifo");
    let made = std::process::Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .expect("mkfifo");
    assert!(made.success());
    // Held open but never read: the pipe fills.
    let _reader = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&fifo)
        .expect("open");
    let gateway = logging(
        &backend,
        &format!("{{ path = \"{}\", format = \"json\" }}", fifo.display()),
    );
    let mut conn = gateway.connect();
    for _ in 0..2000 {
        assert_eq!(conn.get("/").status, 200);
    }
    eventually("all are counted", || {
        gateway.metric("tidegate_requests_total", &[]) >= 2000.0
    });
}

#[test]
fn a_listener_may_have_its_own_log_or_none() {
    let backend = Backend::text("hello");
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        access_log = { path = "web.log", format = "json" }
        [listeners.quiet]
        address = "127.0.0.1:0"
        access_log = { off = true }
        [listeners.plain]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        [upstreams.app]
        endpoints = [{ address = "@app@" }]
        [log]
        access = { path = "access.log", format = "json" }
        "#,
    )
    .with("app", backend.address())
    .start();
    let get = |listener: &str| {
        assert_eq!(
            testkit::Conn::connect(gateway.addr(listener)).get("/").status,
            200
        )
    };
    get("web");
    get("quiet");
    get("plain");
    eventually("both logs have their line", || {
        let read = |name: &str| std::fs::read_to_string(gateway.path(name)).unwrap_or_default();
        read("web.log").contains("\"listener\":\"web\"")
            && read("access.log").contains("\"listener\":\"plain\"")
    });
    assert!(!gateway.read("access.log").contains("quiet"));
}

#[test]
fn a_client_that_leaves_is_logged_as_such_and_no_fault_of_the_endpoint() {
    let backend = Backend::http(|_| Reply::hang());
    let gateway = logging(&backend, r#"{ path = "access.log", format = "json" }"#);
    let mut conn = gateway.connect();
    conn.send("GET /left HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it arrives", || backend.hits() == 1);
    conn.reset();
    let record = gateway.access_record("/left");
    assert_eq!(
        (&record["status"], &record["token"], &record["ended"]),
        (&499.into(), &"client_closed".into(), &"client".into())
    );
    assert_eq!(record["attempts"][0]["outcome"], "cancelled", "{record}");
    assert_eq!(gateway.metric("tidegate_upstream_failures_total", &[]), 0.0);
}

#[test]
fn without_a_configured_log_none_is_written() {
    let backend = Backend::text("hello");
    let gateway = in_front_of(&backend);
    let _ = gateway.get("/");
    assert!(!gateway.path("access.log").exists());
}
