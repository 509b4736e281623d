//! A configuration for all gateways of a cluster: published on one, looked at by all, served by all; and what each keeps
//! for itself.

use crate::gateway;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use testkit::redis::{self, Redis};
use testkit::{Builder, Gateway, Response, eventually};

pub const TOKEN: &str = "admin-admin-admin-admin";
pub const VIEWER: &str = "viewer-viewer-viewer";
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// What each gateway has in its own file: it serves "own" until something is published.
pub const OWN: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
respond = { status = 200, body = "own" }
[cluster]
redis = "@redis@"
node = "@node@"
config = "follow"
heartbeat = "200ms"
gone_after = "1s"
@more@
[runtime]
workers = 1
state_dir = "@state@"
[admin]
address = "127.0.0.1:0"
tokens = [
  { name = "ops", role = "admin", token = "env:TOKEN" },
  { name = "eyes", role = "viewer", token = "env:VIEWER" },
]
"#;

pub const WITH_KEY: &str = "key = \"env:CLUSTER_KEY\"";

/// A gateway that is stopped and started in its own place.
pub struct Node {
    pub gateway: Gateway,
    pub state: tempfile::TempDir,
}

/// One that is not started yet, with the state of this directory.
pub fn builder(name: &str, redis: &str, more: &str, state: &tempfile::TempDir) -> Builder {
    gateway(OWN)
        .env("TOKEN", TOKEN)
        .env("VIEWER", VIEWER)
        .env("CLUSTER_KEY", KEY)
        .token(TOKEN)
        .with("redis", redis)
        .with("node", name)
        .with("more", more)
        .with("state", state.path().display())
}

pub fn node(name: &str, redis: &str, more: &str) -> Node {
    let state = tempfile::tempdir().expect("directory");
    let gateway = builder(name, redis, more, &state).start();
    Node { gateway, state }
}

impl Node {
    pub fn publish(&self, text: &str) -> Response {
        self.gateway
            .admin_call("POST", "/api/v1/config/publish", "", text)
    }

    /// Publishes, and gives the version.
    #[track_caller]
    pub fn published(&self, text: &str) -> u64 {
        let answer = self.publish(text);
        assert_eq!(answer.status, 200, "{answer}");
        let answer = answer.json();
        assert_eq!(
            (&answer["outcome"], &answer["in_force"]),
            (&"applied".into(), &true.into())
        );
        answer["version"].as_u64().expect("a version")
    }

    #[track_caller]
    pub fn serves(&self, body: &str) {
        eventually(&format!("{body:?} is served"), || {
            self.gateway.get("/").text() == body
        });
    }

    pub fn config(&self) -> Value {
        self.gateway.stats()["cluster"]["config"].clone()
    }

    pub fn live(&self) {
        eventually("the bus is live", || {
            self.gateway.stats()["cluster"]["bus"]["condition"] == "live"
        });
    }

    /// Others that follow, as this one knows.
    pub fn sees(&self, count: usize) {
        eventually(&format!("{count} gateways"), || {
            self.gateway.stats()["cluster"]["nodes"] == count
        });
    }

    fn post(&self, path: &str) -> Response {
        self.gateway.admin_call("POST", path, "", "")
    }
}

/// A configuration that answers with this.
pub fn saying(body: &str) -> String {
    format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\nrespond = {{ status = 200, body = \"{body}\" }}\n"
    )
}

#[test]
fn what_is_published_on_one_gateway_is_served_by_all_and_can_be_taken_back() {
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    let (a, b) = (
        node("gw-a", &redis.url(), WITH_KEY),
        node("gw-b", &redis.url(), WITH_KEY),
    );
    a.sees(2);
    a.serves("own");
    let trial = a.gateway.admin_call(
        "POST",
        "/api/v1/config/publish?dry_run=true&reason=look",
        "",
        &saying("one"),
    );
    let trial = trial.json();
    assert_eq!((&trial["version"], &trial["dry_run"]), (&1.into(), &true.into()));
    assert_eq!(trial["gateways"][0]["verdict"], "accepted", "{trial}");
    assert_eq!(trial["changes"][0]["object"], "route", "{trial}");
    assert_eq!(redis.ask(&["EXISTS", "tidegate:1:default:{c}cfg"]), "0");

    assert_eq!(a.published(&saying("one")), 1);
    let listener = a.gateway.addr("web").to_string();
    for node in [&a, &b] {
        node.serves("one");
    }
    assert_eq!(a.gateway.addr("web").to_string(), listener);
    assert_eq!(b.published(&saying("two")), 2);
    a.serves("two");
    let same = a.publish(&saying("two")).json();
    assert_eq!(
        (&same["outcome"], &same["version"]),
        (&"unchanged".into(), &2.into())
    );

    // Who, when, what; and it is known of every gateway which it has.
    let versions = b.gateway.admin_get("/api/v1/config/versions").json();
    let kept = versions["versions"].as_array().expect("versions");
    assert_eq!(kept.len(), 2, "{versions}");
    assert_eq!(
        (&kept[0]["version"], &kept[0]["node"], &kept[0]["author"]),
        (&2.into(), &"gw-b".into(), &"token ops".into())
    );
    let first = b.gateway.admin_get("/api/v1/config/versions/1").json();
    assert_eq!(first["text"], saying("one"));
    eventually("each tells its version", || {
        let members = a.gateway.stats()["cluster"]["members"].clone();
        members
            .as_array()
            .expect("members")
            .iter()
            .all(|member| member["config_version"] == 2)
    });
    assert_eq!(a.gateway.metric("tidegate_cfg_version", &[]), 2.0);
    assert_eq!(a.gateway.metric("tidegate_cfg_lag_seconds", &[]), 0.0);
    assert_eq!(a.gateway.events("config.published").len(), 1);

    // Nothing of it lies open in the Redis, and on disk it is for nobody else.
    let stored = redis.ask(&["HGETALL", "tidegate:1:default:{c}cfg"]);
    assert!(
        !stored.contains("respond") && !stored.contains("token ops"),
        "{stored}"
    );
    let kept = a.state.path().join("cluster_config");
    let mode = std::fs::metadata(&kept).expect("kept").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let back = a.post("/api/v1/config/versions/1/rollback?reason=two+was+bad");
    assert_eq!(back.json()["version"], 3, "{back}");
    for node in [&a, &b] {
        node.serves("one");
    }
    assert_eq!(b.config()["published"]["again"], 1);
    let gone = a.post("/api/v1/config/versions/99/rollback");
    assert_eq!((gone.status, gone.token()), (404, None), "{gone}");
    let taken_back = b.post("/api/v1/config/unpublish");
    assert_eq!(taken_back.json()["version"], 4, "{taken_back}");
    for node in [&a, &b] {
        node.serves("own");
    }
    let nothing = a.post("/api/v1/config/versions/4/rollback");
    assert_eq!(nothing.status, 422, "{nothing}");
    // From here on as before.
    assert_eq!(a.published(&saying("five")), 5);
    b.serves("five");
}

#[test]
fn one_gateway_that_could_not_take_it_keeps_all_from_it_and_one_that_is_away_does_not() {
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    let a = node("gw-a", &redis.url(), WITH_KEY);
    let mut b = node("gw-b", &redis.url(), WITH_KEY);
    a.sees(2);
    b.sees(2);
    assert_eq!(a.published(&saying("one")), 1);
    b.serves("one");
    // A file that only the one has.
    let page = "errors/502.html";
    let beside = |node: &Node| node.gateway.path(page);
    std::fs::create_dir_all(beside(&a).parent().expect("directory")).expect("directory");
    std::fs::write(beside(&a), "sorry").expect("page");
    let two = saying("two").replace(
        "address = \"127.0.0.1:0\"",
        &format!("address = \"127.0.0.1:0\"\nerror_pages = {{ 502 = \"{page}\" }}"),
    );
    let refused = a.publish(&two);
    assert_eq!(refused.status, 422, "{refused}");
    let told = refused.json()["error"].clone();
    assert_eq!(told["code"], "config_rejected");
    assert_eq!(
        (&told["gateways"][0]["node"], &told["gateways"][0]["verdict"]),
        (&"gw-b".into(), &"refused".into())
    );
    let why = told["gateways"][0]["diagnostics"][0].clone();
    assert!(
        why["key"].as_str().expect("key").contains("error_pages"),
        "{told}"
    );
    assert_eq!(redis.ask(&["HGET", "tidegate:1:default:{c}cfg", "version"]), "1");
    assert_eq!(
        (a.gateway.get("/").text(), b.gateway.get("/").text()),
        ("one".into(), "one".into())
    );

    // Away it is not asked; back it finds that it can't, and goes on with what it had.
    let state = b.state;
    assert_eq!(b.gateway.stop(), Some(0));
    a.sees(1);
    assert_eq!(a.published(&two), 2);
    b = Node {
        gateway: builder("gw-b", &redis.url(), WITH_KEY, &state).start(),
        state,
    };
    b.serves("one");
    eventually("it is refused there", || b.config()["refused"]["version"] == 2);
    assert_eq!(b.config()["version"], 1);
    let told = b.gateway.events("config.rejected");
    assert!(
        told[0]["reason"].as_str().expect("reason").contains(page),
        "{told:?}"
    );
    eventually("it is behind", || {
        b.gateway.metric("tidegate_cfg_lag_seconds", &[]) > 0.0
    });
    b.serves("one");
    // What it lacked comes: it is tried again by itself.
    std::fs::create_dir_all(beside(&b).parent().expect("directory")).expect("directory");
    std::fs::write(beside(&b), "sorry").expect("page");
    b.serves("two");
    eventually("it is up to date", || {
        b.gateway.metric("tidegate_cfg_lag_seconds", &[]) == 0.0
    });
    assert!(b.config()["refused"].is_null());
    assert_eq!(
        b.gateway.events("config.rejected").len(),
        1,
        "told once, however often it was tried"
    );
}

#[test]
fn what_is_a_gateways_own_stays_so_and_its_file_goes_on_counting_for_that() {
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    let a = node("gw-a", &redis.url(), WITH_KEY);
    a.live();
    for (section, text) in [
        ("admin", "[admin]\naddress = \"127.0.0.1:1\"\n"),
        ("runtime", "[runtime]\nworkers = 2\n"),
        ("log", "[log]\nlevel = \"debug\"\n"),
        ("cluster", "[cluster]\nname = \"x\"\n"),
    ] {
        let refused = a.publish(&format!("{}{text}", saying("one")));
        assert_eq!(refused.status, 422, "{refused}");
        let told = refused.json()["error"]["diagnostics"][0].clone();
        assert_eq!(
            (&told["key"], &told["line"]),
            (&section.into(), &5.into()),
            "{told}"
        );
        assert!(
            told["message"].as_str().expect("message").contains("own"),
            "{told}"
        );
    }
    let included = a.publish(&format!("include = [\"x.toml\"]\n{}", saying("one")));
    assert_eq!(
        included.json()["error"]["diagnostics"][0]["key"],
        "include",
        "{included}"
    );
    a.published(&saying("one"));

    // Its own file: sections of its own are taken, what is shared is not, and that is said.
    let file = a.gateway.read("tidegate.toml");
    let changed = file
        .replace("body = \"own\"", "body = \"other\"")
        .replace("[runtime]", "[log]\nlevel = \"debug\"\n[runtime]");
    a.gateway.reload(&changed);
    a.gateway.await_log("`listeners`, `routes` of this file wait");
    assert_eq!(a.gateway.get("/").text(), "one");
    let shown = a.gateway.admin_get("/api/v1/config").json();
    assert_eq!(shown["config"]["log"]["level"], "debug", "{shown}");
    assert!(
        shown["origins"]["listeners.web.address"]
            .as_str()
            .expect("origin")
            .starts_with("cluster version 1:"),
        "{}",
        shown["origins"]
    );
    let back = a.post("/api/v1/config/unpublish");
    assert_eq!(back.status, 200, "{back}");
    a.serves("other");
}

#[test]
fn variables_of_the_environment_are_laid_over_what_is_published() {
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    let state = tempfile::tempdir().expect("directory");
    let a = node("gw-a", &redis.url(), WITH_KEY);
    let gateway = builder("gw-b", &redis.url(), WITH_KEY, &state)
        .env("TIDEGATE_ROUTES__0__RESPOND__BODY", "mine")
        .start();
    let b = Node { gateway, state };
    a.sees(2);
    a.published(&saying("one"));
    a.serves("one");
    eventually("it has it", || b.config()["version"] == 1);
    assert_eq!(b.gateway.get("/").text(), "mine");
}

#[test]
fn a_gateway_on_its_own_has_versions_too() {
    let state = tempfile::tempdir().expect("directory");
    let alone = OWN.replace("redis = \"@redis@\"\n", "");
    let start = || {
        gateway(&alone)
            .env("TOKEN", TOKEN)
            .env("VIEWER", VIEWER)
            .token(TOKEN)
            .with("node", "gw-a")
            .with("more", "")
            .with("state", state.path().display())
            .start()
    };
    let a = Node {
        gateway: start(),
        state: tempfile::tempdir().expect("directory"),
    };
    let control = state.path().join("control.sock").display().to_string();
    let cli = |gateway: &Gateway, args: &[&str]| {
        gateway.cli(&[&["config"], args, &["--control", &control]].concat())
    };
    let file = |body: &str| {
        let path = state.path().join("shared.toml");
        std::fs::write(&path, saying(body)).expect("file");
        path.display().to_string()
    };
    let ran = cli(&a.gateway, &["publish", &file("one"), "--dry-run"]).expect(0);
    assert!(ran.stdout.contains("would be published as version 1"), "{ran:?}");
    let ran = cli(&a.gateway, &["publish", &file("one"), "--reason", "a start"]).expect(0);
    assert!(
        ran.stdout.contains("published as version 1") && ran.stdout.contains("alone"),
        "{ran:?}"
    );
    a.serves("one");
    let _done = cli(&a.gateway, &["publish", &file("two"), "--expected", "1"]).expect(0);
    let ran = cli(&a.gateway, &["publish", &file("three"), "--expected", "1"]).expect(1);
    assert!(ran.stderr.contains("version 2 is in force, not 1"), "{ran:?}");
    let ran = cli(&a.gateway, &["versions"]).expect(0);
    assert!(
        ran.stdout.contains("a start") && ran.stdout.contains("2        *"),
        "{ran:?}"
    );
    let ran = cli(&a.gateway, &["versions", "1"]).expect(0);
    assert_eq!(ran.stdout, saying("one"));
    let bad = file("bad");
    std::fs::write(&bad, saying("x").replace("respond", "respnod")).expect("file");
    let ran = cli(&a.gateway, &["publish", &bad]).expect(2);
    assert!(
        ran.stderr.contains(&format!("{bad}:4:1: routes[0].respnod")),
        "{ran:?}"
    );
    let _done = cli(&a.gateway, &["rollback", "1"]).expect(0);
    a.serves("one");
    assert_eq!(a.gateway.stop(), Some(0));
    // It goes on with what was in force, under its number.
    let again = Node {
        gateway: start(),
        state: a.state,
    };
    assert_eq!(again.gateway.get("/").text(), "one");
    eventually("it is there again", || {
        let told = again.gateway.admin_get("/api/v1/config/versions").json();
        told["versions"][0]["version"] == 3
    });
    let _done = cli(&again.gateway, &["unpublish"]).expect(0);
    again.serves("own");
}
