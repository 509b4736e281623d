//! Several gateways in front of the same endpoints: a client lands where it was, whichever it meets.

use crate::sticky::{Browser, THREE, keeping, servers};
use testkit::{Backend, Builder, Gateway, Reply};

const OLD: &str = "the old key, which is long enough to be one";
const NEW: &str = "the new key, which is long enough to be one";

/// A gateway whose cookies are signed with the first of these keys.
fn signing(keys: &[&str], servers: &[Backend; 3]) -> Gateway {
    let names: Vec<String> = (0..keys.len()).map(|n| format!("\"env:KEY{n}\"")).collect();
    let sticky = format!("cookie = \"tg\", keys = [{}]", names.join(", "));
    let builder = keeping(&sticky, servers);
    let with_key = |builder: Builder, (n, key): (usize, &&str)| builder.env(&format!("KEY{n}"), key);
    keys.iter().enumerate().fold(builder, with_key).start()
}

/// Clients, each with its home.
struct Clients(Vec<(Browser, String)>);

impl Clients {
    fn new(gateways: &[Gateway], count: usize) -> Self {
        let client = |n: usize| {
            let mut browser = Browser::default();
            let home = browser.get(&gateways[n % gateways.len()].web(), "/").text();
            (browser, home)
        };
        Self((0..count).map(client).collect())
    }

    /// Every client asks every gateway; nobody may be anywhere else than at home.
    fn all_at_home(&mut self, gateways: &[Gateway], when: &str) {
        for (n, (browser, home)) in self.0.iter_mut().enumerate() {
            for gateway in gateways {
                let answer = browser.get(&gateway.web(), "/");
                assert_eq!(
                    (answer.status, &answer.text()),
                    (200, &*home),
                    "client {n} {when}"
                );
            }
        }
    }

    fn told(&self) -> usize {
        self.0.iter().map(|(browser, _)| browser.told).sum()
    }
}

#[test]
fn nobody_is_moved_by_a_rolling_restart_or_the_rotation_of_a_key() {
    let servers = servers();
    let mut gateways: Vec<Gateway> = (0..3).map(|_| signing(&[OLD], &servers)).collect();
    let mut clients = Clients::new(&gateways, 12);
    clients.all_at_home(&gateways, "at first");
    let homes: std::collections::BTreeSet<_> = clients.0.iter().map(|(_, home)| home.clone()).collect();
    assert_eq!((homes.len(), clients.told()), (3, 12), "spread, and told once");
    let rolling = |gateways: &mut Vec<Gateway>, clients: &mut Clients, keys: &[&str], when: &str| {
        for n in 0..3 {
            let old = std::mem::replace(&mut gateways[n], signing(keys, &servers));
            assert_eq!(old.stop(), Some(0));
            clients.all_at_home(gateways, when);
        }
    };
    rolling(&mut gateways, &mut clients, &[OLD], "after a restart");
    assert_eq!(clients.told(), 12, "the same key, the same cookies");
    rolling(
        &mut gateways,
        &mut clients,
        &[OLD, NEW],
        "when the new key is known",
    );
    assert_eq!(clients.told(), 12);
    rolling(&mut gateways, &mut clients, &[NEW, OLD], "when the new key signs");
    rolling(&mut gateways, &mut clients, &[NEW], "when the old key is gone");
    let told = clients.told();
    clients.all_at_home(&gateways, "in the end");
    assert_eq!(clients.told(), told, "all have cookies of the new key");
    for gateway in &gateways {
        for outcome in [
            "gone", "unwell", "failed", "foreign", "tampered", "expired", "full",
        ] {
            assert_eq!(crate::sticky::counted(gateway, outcome), 0.0, "{outcome}");
        }
    }
}

#[test]
fn a_key_is_rotated_by_a_reload_too() {
    let servers = servers();
    let config = |keys: &str| THREE.replace("@sticky@", &format!("cookie = \"tg\", keys = [{keys}]"));
    let gateway = keeping("", &servers)
        .config(&config("\"file:@dir@/old\""))
        .file("old", OLD)
        .file("new", NEW)
        .start();
    let mut browser = Browser::default();
    let home = browser.get(&gateway.web(), "/").text();
    gateway.reload(&config("\"file:@dir@/new\", \"file:@dir@/old\""));
    assert_eq!(browser.get(&gateway.web(), "/").text(), home);
    assert_eq!(browser.told, 2, "signed with the new key");
    gateway.reload(&config("\"file:@dir@/new\""));
    assert_eq!(browser.get(&gateway.web(), "/").text(), home);
    assert_eq!(browser.told, 2);
}

#[test]
fn a_key_that_the_gateway_made_is_there_after_a_restart_and_others_may_have_it() {
    let servers = servers();
    let state = tempfile::tempdir().unwrap();
    let start = || {
        let path = state.path().display().to_string();
        keeping("cookie = \"tg\"", &servers)
            .env("TIDEGATE_RUNTIME__STATE_DIR", &path)
            .start()
    };
    let first = start();
    let mut browser = Browser::default();
    let home = browser.get(&first.web(), "/").text();
    let beside = start();
    assert_eq!(
        browser.get(&beside.web(), "/").text(),
        home,
        "they share the directory"
    );
    assert_eq!((first.stop(), beside.stop()), (Some(0), Some(0)));
    let key = std::fs::read_to_string(state.path().join("sticky_key")).unwrap();
    let copied = THREE.replace("@sticky@", "cookie = \"tg\", keys = [\"file:@dir@/copied\"]");
    let elsewhere = keeping("", &servers).config(&copied).file("copied", &key).start();
    for gateway in [start(), elsewhere] {
        for _ in 0..3 {
            assert_eq!(browser.get(&gateway.web(), "/").text(), home);
        }
    }
    assert_eq!(browser.told, 1);
}

#[test]
fn a_state_directory_that_holds_no_key_is_told_at_the_start() {
    let servers = servers();
    let ran = keeping("cookie = \"tg\"", &servers)
        .file("state/sticky_key", "short")
        .try_start()
        .unwrap_err();
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("sticky_key") && ran.stderr.contains("upstreams.app.sticky"),
        "{}",
        ran.stderr
    );
}

/// After a start endpoints are known one by one. That the session's own is known late is no reason to move it.
#[test]
fn a_restart_waits_for_the_verdict_on_the_sessions_own_endpoint() {
    let slow = |name: &'static str, millis: u64| {
        Backend::http(move |request| match request.target.as_str() {
            "/health" => Reply::raw("")
                .then_pause(std::time::Duration::from_millis(millis))
                .then("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            _ => Reply::ok(name),
        })
    };
    let servers = [slow("a", 0), slow("b", 300), slow("c", 300)];
    let config = format!("{THREE}\nhealth = {{ path = \"/health\" }}\n");
    let start = || {
        keeping("cookie = \"tg\", keys = [\"env:KEY\"]", &servers)
            .config(&config)
            .env("KEY", OLD)
            .start()
    };
    let gateway = start();
    testkit::eventually("all are well", || {
        gateway.metric("tidegate_endpoint_ready", &[]) == 3.0
    });
    let gateways = [gateway];
    let mut clients = Clients::new(&gateways, 6);
    clients.all_at_home(&gateways, "at first");
    let [gateway] = gateways;
    assert_eq!(gateway.stop(), Some(0));
    let restarted = [start()];
    clients.all_at_home(&restarted, "right after the start");
    assert_eq!(clients.told(), 6);
}
