//! Certificates that the gateway gets itself, from an authority that the test scripts.

use crate::gateway;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use testkit::acme::Ports;
use testkit::{
    Authority, Backend, Builder, Conn, Gateway, Reply, TlsClient, eventually, eventually_some, holds_for,
};

pub(crate) const CONFIG: &str = r#"
[runtime]
state_dir = "@state@"

[listeners.web]
address = "127.0.0.1:0"
acme = { directory = "@directory@", email = "ops@example.com", retry = "200ms", @acme@ }

[listeners.plain]
address = "127.0.0.1:0"

[[routes]]
hosts = ["a.test"]
upstream = "app"

[upstreams.app]
endpoints = [{ address = "@app@" }]
"#;

pub(crate) fn configured(authority: &Authority, backend: &Backend, state: &Path, acme: &str) -> Builder {
    gateway(CONFIG)
        .with("state", state.display())
        .with("directory", authority.directory())
        .with("acme", acme)
        .with("app", backend.address())
}

fn socket(gateway: &Gateway, listener: &str) -> std::net::SocketAddr {
    gateway.addr(listener).to_string().parse().unwrap()
}

/// Has the authority look for names at this gateway.
pub(crate) fn found_at(authority: &Authority, gateway: &Gateway) {
    authority.looks_at(Ports {
        http: Some(socket(gateway, "plain")),
        tls: Some(socket(gateway, "web")),
    });
}

fn start(authority: &Authority, backend: &Backend, state: &Path, acme: &str) -> Gateway {
    let gateway = configured(authority, backend, state, acme).start();
    found_at(authority, &gateway);
    gateway
}

fn client(authority: &Authority) -> TlsClient {
    TlsClient::trusting(authority.ca()).alpn(&["http/1.1"]).build()
}

pub(crate) fn served(gateway: &Gateway, authority: &Authority, name: &str) -> Option<Conn> {
    client(authority).try_connect(gateway.web(), name).ok()
}

pub(crate) fn await_served(gateway: &Gateway, authority: &Authority, name: &str) -> Vec<u8> {
    let what = format!("{name} has a certificate");
    eventually_some(&what, || served(gateway, authority, name))
        .agreed()
        .certificate
}

pub(crate) fn orders(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric("tidegate_acme_orders_total", &[&format!("result=\"{result}\"")])
}

pub(crate) fn failures(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric("tidegate_acme_failures_total", &[&format!("reason=\"{reason}\"")])
}

pub(crate) fn events(gateway: &Gateway, kind: &str) -> Vec<Value> {
    let all = gateway.admin_get("/api/v1/events?limit=1000").json();
    let all = all["events"].as_array().cloned().expect("events");
    all.into_iter().filter(|event| event["type"] == kind).collect()
}

/// The files below the state directory's part, with their permissions.
pub(crate) fn kept(state: &Path) -> Vec<(PathBuf, u32)> {
    use std::os::unix::fs::PermissionsExt;
    let mut found = Vec::new();
    let mut left = vec![state.join("acme")];
    while let Some(path) = left.pop() {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        if path.is_dir() {
            left.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        found.push((path, mode));
    }
    found
}

fn certificate_file(state: &Path) -> PathBuf {
    let files = kept(state).into_iter().map(|(path, _)| path);
    files
        .into_iter()
        .find(|path| path.extension().is_some_and(|it| it == "pem"))
        .expect("a certificate")
}

pub(crate) struct Bed {
    pub authority: Authority,
    pub backend: Backend,
    pub state: tempfile::TempDir,
}

impl Bed {
    pub fn new() -> Self {
        Self {
            authority: Authority::start(),
            backend: Backend::text("hi"),
            state: tempfile::tempdir().unwrap(),
        }
    }

    pub fn start(&self, acme: &str) -> Gateway {
        start(&self.authority, &self.backend, self.state.path(), acme)
    }
}

fn a_certificate_is_had_by(challenge: &str) {
    let bed = Bed::new();
    bed.authority.change(|script| script.ponders = 2);
    let gateway = bed.start(&format!("challenge = \"{challenge}\""));
    await_served(&gateway, &bed.authority, "a.test");
    let mut conn = served(&gateway, &bed.authority, "a.test").unwrap();
    conn.send("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(conn.response().text(), "hi");
    assert_eq!(bed.authority.complaints(), Vec::<String>::new());
    let account = &bed.authority.accounts()[0];
    assert_eq!(account.contact, ["mailto:ops@example.com"]);
    assert_eq!(bed.authority.orders()[0].names, ["a.test"]);
    assert!(
        served(&gateway, &bed.authority, "b.test").is_none(),
        "other names stay unknown"
    );
    // Certificates serve before their keeper has written down that they are there.
    let shown = eventually_some("an order that is done", || {
        let shown = gateway.admin_get("/api/v1/tls").json();
        (shown["orders"][0]["state"] == "valid").then_some(shown)
    });
    assert_eq!(shown["certificates"][0]["names"], json!(["a.test"]), "{shown}");
    assert_eq!(shown["orders"][0]["listeners"], json!(["web"]), "{shown}");
    let event = &eventually_some("an event", || events(&gateway, "certificate.issued").pop());
    assert_eq!(event["target"], "a.test");
    assert!(
        event["reason"].as_str().unwrap().contains("valid until"),
        "{event}"
    );
    assert_eq!(orders(&gateway, "issued"), 1.0);
    for (path, mode) in kept(bed.state.path()) {
        let wanted = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, wanted, "{}", path.display());
    }
}

#[test]
fn a_certificate_is_had_by_tls_alpn_01() {
    a_certificate_is_had_by("tls-alpn-01");
}

#[test]
fn a_certificate_is_had_by_http_01() {
    a_certificate_is_had_by("http-01");
}

#[test]
fn until_there_is_a_certificate_its_name_is_unknown_and_the_log_says_why() {
    let bed = Bed::new();
    bed.authority
        .change(|script| script.answers = Some(Reply::hang()));
    let gateway = bed.start("");
    assert!(served(&gateway, &bed.authority, "a.test").is_none());
    gateway.await_log("has yet to be had from its authority");
    let unknown = ["listener=\"web\"", "reason=\"unknown_name\""];
    assert_eq!(
        gateway.metric("tidegate_tls_handshake_failures_total", &unknown),
        1.0
    );
}

#[test]
fn tokens_are_answered_only_while_an_order_waits_for_them() {
    let bed = Bed::new();
    let gateway = bed.start("challenge = \"http-01\"");
    await_served(&gateway, &bed.authority, "a.test");
    let mut conn = Conn::connect(gateway.addr("plain"));
    conn.send("GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(
        conn.response().text(),
        "hi",
        "the endpoint may have an order of its own"
    );
    let challenge = TlsClient::trusting(bed.authority.ca())
        .alpn(&["acme-tls/1"])
        .build();
    let refused = challenge.try_connect(gateway.web(), "a.test");
    assert!(refused.is_err(), "no session, though there is a certificate");
}

#[test]
fn a_restart_serves_what_was_kept_and_asks_for_nothing() {
    let bed = Bed::new();
    let gateway = bed.start("");
    let before = await_served(&gateway, &bed.authority, "a.test");
    assert_eq!(gateway.stop(), Some(0));
    let (requests, again) = (bed.authority.requests(), bed.start(""));
    let mut conn = served(&again, &bed.authority, "a.test").expect("from the first handshake on");
    assert_eq!(conn.agreed().certificate, before);
    conn.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(conn.response().text(), "hi");
    // It may look whether there is a window for the renewal.
    holds_for(Duration::from_millis(500), "nothing is ordered", || {
        bed.authority.issued() == 1
    });
    assert!(bed.authority.requests() - requests <= 1);
    assert_eq!(bed.authority.accounts().len(), 1);
}

#[test]
fn a_file_that_can_not_be_used_is_replaced() {
    let bed = Bed::new();
    let gateway = bed.start("");
    await_served(&gateway, &bed.authority, "a.test");
    assert_eq!(gateway.stop(), Some(0));
    std::fs::write(certificate_file(bed.state.path()), "garbage").unwrap();
    let gateway = bed.start("");
    await_served(&gateway, &bed.authority, "a.test");
    assert_eq!(bed.authority.issued(), 2);
    assert_eq!(bed.authority.accounts().len(), 1, "the account is used again");
}

#[test]
fn a_certificate_is_renewed_before_it_runs_out_without_a_reload() {
    let bed = Bed::new();
    bed.authority
        .change(|script| script.lifetime = Duration::from_secs(6));
    let gateway = bed.start("");
    let first = await_served(&gateway, &bed.authority, "a.test");
    let mut open = served(&gateway, &bed.authority, "a.test").unwrap();
    bed.authority
        .change(|script| script.lifetime = Duration::from_secs(90 * 86_400));
    let renewed = eventually_some("it is renewed", || events(&gateway, "certificate.renewed").pop());
    assert_eq!(renewed["target"], "a.test");
    let second = await_served(&gateway, &bed.authority, "a.test");
    assert_ne!(first, second);
    open.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(open.response().text(), "hi", "connections that were open stay");
    assert_eq!(gateway.generation(), 1);
    assert_eq!(
        (orders(&gateway, "issued"), orders(&gateway, "renewed")),
        (1.0, 1.0)
    );
}

/// Lets an hour pass since the certificate was had.
fn age(state: &Path) {
    let file = std::fs::File::open(certificate_file(state)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(7200))
        .unwrap();
}

pub(crate) fn seconds() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

#[test]
fn the_authority_says_when_to_renew_and_learns_what_is_replaced() {
    let bed = Bed::new();
    let gateway = bed.start("");
    await_served(&gateway, &bed.authority, "a.test");
    assert_eq!(gateway.stop(), Some(0));
    age(bed.state.path());
    let now = seconds();
    bed.authority
        .change(|script| script.window = Some((now - 7200, now - 3600)));
    let gateway = bed.start("");
    eventually("it is renewed at once", || bed.authority.issued() == 2);
    let asked = bed.authority.asked_for_window();
    let order = &bed.authority.orders()[1];
    assert_eq!(order.replaces.as_ref(), asked.first());
    eventually("it is told", || orders(&gateway, "renewed") == 1.0);
    holds_for(
        Duration::from_millis(500),
        "what is new is not renewed again, whatever it says",
        || bed.authority.issued() == 2,
    );
}

#[test]
fn a_window_in_the_future_is_waited_for() {
    let bed = Bed::new();
    let gateway = bed.start("");
    await_served(&gateway, &bed.authority, "a.test");
    assert_eq!(gateway.stop(), Some(0));
    age(bed.state.path());
    let now = seconds();
    bed.authority
        .change(|script| script.window = Some((now + 3600, now + 7200)));
    let gateway = bed.start("");
    eventually("it is asked", || bed.authority.asked_for_window().len() == 1);
    eventually("it is planned by the window", || {
        let due = gateway.metric(
            "tidegate_acme_next_order_timestamp_seconds",
            &["certificate=\"a.test\""],
        ) as i64;
        (now + 3600..=now + 7200).contains(&due)
    });
    assert_eq!(bed.authority.issued(), 1);
}

#[test]
fn a_bad_nonce_is_asked_for_anew() {
    let bed = Bed::new();
    bed.authority.change(|script| script.spoils_nonce = true);
    let gateway = bed.start("");
    await_served(&gateway, &bed.authority, "a.test");
    assert_eq!(orders(&gateway, "failed"), 0.0);
}

#[test]
fn an_external_account_is_bound() {
    let bed = Bed::new();
    bed.authority
        .change(|script| script.external = Some(("kid-1".to_owned(), b"key of the account".to_vec())));
    let without = bed.start("");
    eventually("it is refused", || failures(&without, "account") >= 1.0);
    assert_eq!(without.stop(), Some(0));
    let gateway = configured(
        &bed.authority,
        &bed.backend,
        bed.state.path(),
        "eab = { kid = \"kid-1\", key = \"env:EAB\" }",
    )
    .env("EAB", "a2V5IG9mIHRoZSBhY2NvdW50")
    .start();
    found_at(&bed.authority, &gateway);
    await_served(&gateway, &bed.authority, "a.test");
    assert_eq!(bed.authority.accounts()[0].kid.as_deref(), Some("kid-1"));
    assert!(!gateway.log().contains("a2V5IG9m"));
}

#[test]
fn an_account_that_the_authority_lost_is_made_anew() {
    let bed = Bed::new();
    let gateway = bed.start("");
    await_served(&gateway, &bed.authority, "a.test");
    assert_eq!(gateway.stop(), Some(0));
    bed.authority.forget_accounts();
    std::fs::remove_file(certificate_file(bed.state.path())).unwrap();
    let gateway = bed.start("");
    await_served(&gateway, &bed.authority, "a.test");
    assert_eq!(failures(&gateway, "account"), 1.0);
    assert_eq!(bed.authority.accounts().len(), 2);
}

#[test]
fn names_have_certificates_of_their_own_or_share_one() {
    let bed = Bed::new();
    let gateway = bed.start("names = [\"a.test\", \"b.test\"], profile = \"short\", key_type = \"p384\"");
    for name in ["a.test", "b.test"] {
        await_served(&gateway, &bed.authority, name);
    }
    let mut names: Vec<_> = bed
        .authority
        .orders()
        .into_iter()
        .map(|order| order.names)
        .collect();
    names.sort();
    assert_eq!(names, [["a.test"], ["b.test"]]);
    assert_eq!(bed.authority.orders()[0].profile.as_deref(), Some("short"));
    assert_eq!(
        bed.authority.accounts().len(),
        1,
        "orders that begin together share an account"
    );
    assert_eq!(gateway.stop(), Some(0));

    let gateway =
        bed.start("names = [\"b.test\", \"a.test\"], single_certificate = true, key_type = \"rsa2048\"");
    let one = await_served(&gateway, &bed.authority, "a.test");
    assert_eq!(await_served(&gateway, &bed.authority, "b.test"), one);
    assert_eq!(bed.authority.orders()[2].names, ["a.test", "b.test"]);
}

#[test]
fn a_name_that_fails_does_not_hold_up_the_others_and_a_reload_brings_more() {
    let bed = Bed::new();
    let gateway = bed.start("");
    await_served(&gateway, &bed.authority, "a.test");
    let config = gateway
        .read("tidegate.toml")
        .replace("hosts = [\"a.test\"]", "hosts = [\"a.test\", \"c.test\"]");
    gateway.reload(&config);
    await_served(&gateway, &bed.authority, "c.test");
    assert_eq!(bed.authority.issued(), 2, "what is there is not ordered again");
}
