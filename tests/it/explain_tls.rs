//! `explain` for clients that come by HTTPS: what it says of a connection is what becomes of one.

use crate::gateway;
use serde_json::Value;
use testkit::{Backend, Ca, Gateway, TlsClient};

const CONFIG: &str = r#"
[listeners.plain]
address = "127.0.0.1:0"
redirect_https = true
trusted_proxies = ["127.0.0.1"]
[listeners.web]
address = "127.0.0.1:0"
hsts = "1h"
passthrough = [{ sni = "db.test", upstream = "app" }]
[listeners.web.tls]
certificates = [{ cert = "a.pem", key = "a.key" }]
client_auth_by_name = [{ names = ["admin.test"], ca = "clients.pem" }]
[listeners.announced]
address = "127.0.0.1:0"
proxy_protocol = { trusted = ["127.0.0.1"] }
redirect_https = true

[[routes]]
upstream = "app"

[upstreams.app]
endpoints = ["@app@"]
"#;

fn start(ca: &Ca, backend: &Backend) -> Gateway {
    let leaf = ca.leaf(&["a.test", "admin.test"]);
    gateway(CONFIG)
        .with("app", backend.address())
        .file("a.pem", &leaf.chain)
        .file("a.key", &leaf.key)
        .file("clients.pem", Ca::new("clients").pem())
        .start()
}

fn told(gateway: &Gateway, url: &str, more: &str) -> Value {
    let url = url.replace(':', "%3A").replace('/', "%2F");
    gateway
        .admin_get(&format!("/api/v1/explain?method=GET&url={url}{more}"))
        .json()
}

#[test]
fn what_is_explained_of_a_name_is_what_becomes_of_it() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    let gateway = start(&ca, &backend);
    let client = TlsClient::trusting(&ca).build();
    for (name, outcome, asks) in [
        ("a.test", "opened", Some("none")),
        ("A.test.", "opened", Some("none")),
        ("admin.test", "opened", Some("required")),
        ("other.test", "refused", None),
        ("db.test", "passed_on", None),
    ] {
        let told = told(&gateway, &format!("https://{name}/x"), "&listener=web");
        assert_eq!(told["tls"]["outcome"], outcome, "{told:#}");
        assert_eq!(told["tls"]["client_certificate"].as_str(), asks, "{told:#}");
        let answered = client
            .try_connect(gateway.addr("web"), name)
            .and_then(|mut conn| {
                let request = format!("GET /x HTTP/1.1\r\nHost: {name}\r\n\r\n");
                conn.try_send(request).map_err(|error| error.to_string())?;
                conn.try_response_to("GET").map_err(|error| format!("{error:?}"))
            });
        match (outcome, asks) {
            ("opened", Some("none")) => {
                assert_eq!(answered.unwrap().text(), "hi");
                assert_eq!(told["scheme"], "https");
                assert_eq!(told["hsts"], "max-age=3600");
                assert_eq!(told["upstreams"][0]["pick"], backend.address().to_string());
                assert_eq!(told["tls"]["certificates"][0]["names"][0], "a.test");
                let file = told["tls"]["certificates"][0]["file"].as_str().unwrap();
                assert!(file.ends_with("a.pem"), "{file}");
            }
            ("opened", _) => assert!(answered.is_err()),
            ("refused", _) => {
                assert_eq!(told["tls"]["refused"], "no certificate is for this name");
                assert!(told["action"].is_null() && answered.is_err());
            }
            _ => {
                assert_eq!(
                    (&told["action"], &told["scheme"]),
                    (&"passthrough".into(), &"tls".into())
                );
                assert_eq!(told["upstreams"][0]["pick"], backend.address().to_string());
            }
        }
    }
    let none = told(&gateway, "https://a.test/", "&listener=web&server_name=");
    assert_eq!(none["tls"]["outcome"], "refused", "{none:#}");
    let nonsense = gateway.admin_get("/api/v1/explain?url=/&listener=web&server_name=a%20b");
    assert_eq!(nonsense.status, 400, "{nonsense}");
}

#[test]
fn a_host_that_the_connection_is_not_for_is_explained_as_it_is_refused() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    let gateway = start(&ca, &backend);
    let mut conn = TlsClient::trusting(&ca)
        .build()
        .connect(gateway.addr("web"), "a.test");
    for host in ["admin.test", "other.test", "a.test"] {
        let told = told(
            &gateway,
            "https://a.test/x",
            &format!("&listener=web&header=Host:{host}"),
        );
        let answer = conn
            .send(format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .response();
        assert_eq!(
            told["refused"]["status"].as_u64().unwrap_or(200),
            u64::from(answer.status),
            "{told:#}"
        );
        assert_eq!(
            told["refused"]["token"].as_str(),
            answer.header("x-tidegate-error")
        );
    }
}

#[test]
fn the_way_to_https_is_explained() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    let gateway = start(&ca, &backend);
    let mut plain = testkit::Conn::connect(gateway.addr("plain"));
    let ask = |more: &str| told(&gateway, "http://a.test/x?y", more);
    let redirected = ask("&listener=plain");
    let answer = plain.send("GET /x?y HTTP/1.1\r\nHost: a.test\r\n\r\n").response();
    assert_eq!(
        (&redirected["action"], answer.status),
        (&"redirect_https".into(), 308)
    );
    assert_eq!(redirected["location"].as_str(), answer.header("location"));
    let trusted = ask("&listener=plain&header=X-Forwarded-Proto:https");
    assert_eq!(trusted["action"], "forward", "{trusted:#}");
    // Who comes to a port for HTTPS without it, and by whom HTTPS is announced.
    let lost = ask("&listener=web");
    assert_eq!(
        (&lost["refused"]["status"], &lost["tls"]),
        (&400.into(), &Value::Null)
    );
    assert_eq!(ask("&listener=announced")["action"], "redirect_https");
    let announced = told(&gateway, "https://a.test/", "&listener=announced");
    assert_eq!(
        (&announced["action"], &announced["scheme"]),
        (&"forward".into(), &"https".into())
    );
    // The one listener that speaks so, whatever the port is called outside.
    let found = told(&gateway, "https://a.test/", "");
    assert_eq!(found["listener"], "web", "{found:#}");
}

#[test]
fn the_command_tells_of_the_handshake() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    let gateway = start(&ca, &backend);
    let ran = gateway.cli(&["explain", "GET", "https://admin.test/x"]).expect(0);
    for words in [
        "the name admin.test: opened, certificate of the client: required",
        "a.pem for a.test",
        "max-age",
    ] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    let ran = gateway
        .cli(&[
            "explain",
            "GET",
            "https://admin.test/x",
            "--server-name",
            "other.test",
        ])
        .expect(0);
    assert!(
        ran.stdout.contains("refused, no certificate is for this name"),
        "{}",
        ran.stdout
    );
    let ran = gateway
        .cli(&["explain", "GET", "http://a.test/x", "--listener", "plain"])
        .expect(0);
    assert!(ran.stdout.contains("sent to https://a.test/x"), "{}", ran.stdout);
}
