//! Certificates from a real authority, acme2certifier, a process of its own with its own ideas of the protocol. It
//! looks at names on the real ports, so all of it runs in a private network namespace with its own names; where
//! that, or the authority, can't be had, the test says so and does nothing.

use crate::gateway;
use std::path::Path;
use std::process::{Command, Stdio};
use testkit::gateway::Running;
use testkit::{Backend, Ca, Conn, NameServer, TlsClient, eventually, eventually_some};

/// Set in the namespace.
const INSIDE: &str = "TIDEGATE_TEST_INSIDE";
const NAME: &str = "acme_real::a_real_authority_issues_and_renews_by_both_challenges";

const SERVE: &str = r#"
import ssl, sys
from wsgiref.simple_server import make_server
from acme2certifier.share.acme2certifier_wsgi import application
server = make_server("127.0.0.1", 8443, application)
server.base_environ["HTTPS"] = "on"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

const AUTHORITY: &str = "
[DEFAULT]
debug: False
[CAhandler]
handler_module: acme2certifier.cahandlers.openssl_ca_handler
issuing_ca_key: @dir@/ca.key
issuing_ca_cert: @dir@/ca.pem
issuing_ca_crl: @dir@/crl.pem
cert_save_path: @dir@/issued
cert_validity_days: 30
ca_cert_chain_list: []
[DBhandler]
handler: wsgi
dbfile: @dir@/authority.db
[Challenge]
challenge_validation_disable: False
[Order]
tnauthlist_support: False
";

const CONFIG: &str = r#"
[runtime]
state_dir = "@state@"
[listeners.web]
address = "127.0.0.1:443"
acme = { directory = "https://ca.test:8443/directory", ca = "@root@", email = "ops@example.com", challenge = "@challenge@", retry = "1s" }
[listeners.plain]
address = "127.0.0.1:80"
[[routes]]
hosts = ["@name@"]
upstream = "app"
[upstreams.app]
endpoints = [{ address = "@app@" }]
"#;

/// An interpreter that has the authority.
fn python() -> Option<String> {
    let named = std::env::var("TIDEGATE_TEST_ACME_PYTHON").ok();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-python/bin/python");
    let candidates = named
        .into_iter()
        .chain([root.display().to_string(), "python3".to_owned()]);
    candidates.into_iter().find(|python| {
        let asked = Command::new(python)
            .args(["-c", "import acme2certifier"])
            .stderr(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    })
}

/// Runs the test once more where ports 80 and 443 are free and names are what the test says.
fn in_a_namespace() {
    let possible = Command::new("unshare")
        .args(["-n", "-m", "ip", "link", "set", "lo", "up"])
        .output();
    if !possible.is_ok_and(|output| output.status.success()) {
        eprintln!("not done: no private network namespace can be had here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hosts"), "127.0.0.1 localhost ca.test\n").unwrap();
    std::fs::write(dir.path().join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    let script = r#"
        ip link set lo up && mount --bind "$1/hosts" /etc/hosts && mount --bind "$1/resolv.conf" /etc/resolv.conf &&
        exec "$2" "$3" --exact --nocapture"#;
    let status = Command::new("unshare")
        .args(["-n", "-m", "sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .arg(NAME)
        .env(INSIDE, "1")
        .status();
    assert!(status.unwrap().success());
}

/// The authority; ends with the test.
fn authority(python: &str, dir: &Path, ca: &Ca) -> Running {
    let tls = ca.leaf(&["ca.test"]);
    for (name, content) in [
        ("serve.py", SERVE),
        (
            "authority.cfg",
            &AUTHORITY.replace("@dir@", &dir.display().to_string()),
        ),
        ("ca.pem", ca.pem()),
        ("ca.key", &ca.key_pem()),
        ("crl.pem", &ca.revocations(&[], 4000)),
        ("tls.pem", &tls.chain),
        ("tls.key", &tls.key),
    ] {
        std::fs::write(dir.join(name), content).unwrap();
    }
    std::fs::create_dir(dir.join("issued")).unwrap();
    let mut command = Command::new(python);
    command
        .args(["serve.py", "tls.pem", "tls.key"])
        .current_dir(dir)
        .env("ACME_SRV_CONFIGFILE", dir.join("authority.cfg"));
    let running = Running::start(command);
    eventually("the authority listens", || {
        Conn::try_connect("127.0.0.1:8443").is_ok()
    });
    running
}

#[test]
fn a_real_authority_issues_and_renews_by_both_challenges() {
    let Some(python) = python() else {
        eprintln!("not done: acme2certifier is not there (tests/run installs it)");
        return;
    };
    if std::env::var_os(INSIDE).is_none() {
        return in_a_namespace();
    }
    let names = NameServer::start_on(53);
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new("real authority");
    let server = authority(&python, dir.path(), &ca);
    let backend = Backend::text("hi");
    let client = TlsClient::trusting(&ca).build();
    for (challenge, name) in [("tls-alpn-01", "alpn.test"), ("http-01", "http.test")] {
        names.addresses(name, 60, &["127.0.0.1".parse().unwrap()]);
        let state = tempfile::tempdir().unwrap();
        let start = |more: &str| {
            gateway(&CONFIG.replace("retry =", &format!("{more} retry =")))
                .with("state", state.path().display())
                .with("root", dir.path().join("ca.pem").display())
                .with("challenge", challenge)
                .with("name", name)
                .with("app", backend.address())
                .start()
        };
        let first = start("");
        let mut conn = eventually_some(&format!("{challenge}; {}", server.stderr()), || {
            client.try_connect(first.web(), name).ok()
        });
        conn.send(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n"));
        assert_eq!(conn.response().text(), "hi");
        let issued = conn.agreed().certificate;
        assert_eq!(first.stop(), Some(0));

        // Two hours later the operator wants to have more left than there is.
        let kept = std::fs::read_dir(state.path().join("acme"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let file = std::fs::File::open(kept.join(format!("certificates/{name}.pem"))).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(7200))
            .unwrap();
        let again = start("renew_before = \"60d\",");
        eventually("it is renewed", || {
            again.metric("tidegate_acme_orders_total", &["result=\"renewed\""]) == 1.0
        });
        assert_ne!(client.connect(again.web(), name).agreed().certificate, issued);
        assert_eq!(
            again.metric("tidegate_acme_orders_total", &["result=\"failed\""]),
            0.0
        );
        assert_eq!(again.stop(), Some(0));
    }
}
