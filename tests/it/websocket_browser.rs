//! A browser opens its WebSocket over the HTTP/2 connection that carried the page. A machine without Chromium skips.

use crate::gateway;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use testkit::{Backend, Ca, eventually, ws};

const CHROMIUM: &str = "/usr/bin/chromium";

const CONFIG: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
[listeners.web.tls]
certificates = [{ cert = "a.pem", key = "a.key" }]
default = "first"
[[routes]]
paths = ["=/page"]
[routes.respond]
headers = { Content-Type = "text/html" }
body = """<!doctype html><title>page</title><script>
const socket = new WebSocket("wss://" + location.host + "/chat", ["a", "b"]);
socket.onopen = () => socket.send("hello as " + socket.protocol);
socket.onmessage = (message) => socket.send("heard " + message.data);
</script>"""
[[routes]]
upstream = "app"
[upstreams.app]
endpoints = ["@app@"]
[log]
access = { path = "access.log", format = "json" }
"#;

/// Ends with the test.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

#[test]
fn chromium_opens_a_websocket_over_http_2() {
    if !std::path::Path::new(CHROMIUM).exists() {
        eprintln!("skipped: there is no {CHROMIUM}");
        return;
    }
    let heard = Arc::new(Mutex::new(Vec::new()));
    let said = heard.clone();
    let backend = Backend::script(move |conn, visit| {
        let Ok(request) = conn.try_request() else { return };
        let key = request.header("sec-websocket-key").unwrap_or_default().to_owned();
        visit.hit(request);
        conn.send(ws::accepted(&key).replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: b\r\n\r\n"));
        while let Ok((opcode, payload)) = ws::read_frame(conn) {
            let mut said = said.lock().unwrap();
            said.push(String::from_utf8_lossy(&payload).into_owned());
            let answers = said.len() == 1;
            drop(said);
            if answers && conn.try_send(ws::frame(opcode, b"welcome", false)).is_err() {
                return;
            }
        }
    });
    let leaf = Ca::default().leaf(&["localhost"]);
    let gateway = gateway(CONFIG)
        .with("app", backend.address())
        .file("a.pem", &leaf.chain)
        .file("a.key", &leaf.key)
        .start();
    let port = gateway.web().to_string().rsplit_once(':').unwrap().1.to_owned();
    let profile = tempfile::tempdir().unwrap();
    let browser = Command::new(CHROMIUM)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--ignore-certificate-errors",
            "--remote-debugging-port=0",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("https://localhost:{port}/page"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let browser = Browser(browser.expect("a browser"));
    for _ in 0..6 {
        // It takes its time to start, on a busy machine more than patience has.
        if !heard.lock().unwrap().is_empty() {
            break;
        }
        testkit::pace(std::time::Duration::from_secs(5));
    }
    eventually("the page hears and answers", || heard.lock().unwrap().len() == 2);
    assert_eq!(*heard.lock().unwrap(), ["hello as b", "heard welcome"]);
    let requests = backend.requests();
    let handshake = requests.iter().find(|request| request.headers.has("upgrade"));
    let offered = handshake.and_then(|request| request.header("sec-websocket-protocol"));
    assert_eq!(offered, Some("a, b"));
    drop(browser);
    let record = gateway.access_record("/chat");
    assert_eq!(
        (&record["version"], &record["status"], &record["tunnel"]),
        (&"HTTP/2.0".into(), &200.into(), &true.into()),
        "{record}"
    );
    assert_eq!(gateway.access_record("/page")["connection"], record["connection"]);
}
