//! Clients that come back to their endpoint by the gateway's cookie: what it looks like, what becomes of bad ones, and
//! what endpoints see of it.

use crate::h2_client::{Client, get};
use crate::{binary, gateway};
use testkit::cli;
use testkit::gateway::{Running, Sig};
use testkit::{Address, Backend, Builder, Ca, Conn, Gateway, Reply, Response, TlsClient, eventually, ws};

/// One listener and an upstream of three that keeps sessions as `@sticky@` says. One worker, so that new sessions take
/// strict turns.
pub const THREE: &str = r#"
[runtime]
workers = 1

[log.access]
path = "@dir@/access.log"
format = "json"

[listeners.web]
address = "127.0.0.1:0"

[[routes]]
upstream = "app"

[upstreams.app]
endpoints = ["@a@", "@b@", "@c@"]
sticky = { @sticky@ }
"#;

/// Servers that answer with their name.
pub fn servers() -> [Backend; 3] {
    ["a", "b", "c"].map(Backend::text)
}

/// [`THREE`] in front of these servers.
pub fn keeping(sticky: &str, servers: &[Backend; 3]) -> Builder {
    gateway(THREE)
        .with("sticky", sticky)
        .with("a", servers[0].address())
        .with("b", servers[1].address())
        .with("c", servers[2].address())
}

/// A client that keeps cookies as browsers do, but for time and path.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    /// Name and value.
    pub cookies: Vec<(String, String)>,
    /// `Set-Cookie` fields seen.
    pub told: usize,
}

impl Browser {
    pub fn with(name: &str, value: &str) -> Self {
        Self {
            cookies: vec![(name.to_owned(), value.to_owned())],
            told: 0,
        }
    }

    /// A request on a connection of its own.
    #[track_caller]
    pub fn get(&mut self, address: &Address, target: &str) -> Response {
        self.ask(&mut Conn::connect(address), "GET", target)
    }

    #[track_caller]
    pub fn ask(&mut self, conn: &mut Conn, method: &str, target: &str) -> Response {
        let cookie = self.header();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{cookie}\r\n");
        let response = conn.send(head).response_to(method);
        self.note(&response);
        response
    }

    /// The Cookie line of a request; empty without cookies.
    pub fn header(&self) -> String {
        if self.cookies.is_empty() {
            return String::new();
        }
        let pairs: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!("Cookie: {}\r\n", pairs.join("; "))
    }

    pub fn note(&mut self, response: &Response) {
        for set in response.headers.all("set-cookie") {
            self.told += 1;
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
    }

    pub fn cookie(&self, name: &str) -> &str {
        let found = self.cookies.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("no cookie {name} in {self:?}")).1
    }
}

/// Sessions counted with this outcome.
pub fn counted(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric(
        "tidegate_sticky_sessions_total",
        &[&format!("outcome=\"{outcome}\"")],
    )
}

/// Waits until so many are: a request is counted when all of it is over.
#[track_caller]
pub fn expect_counted(gateway: &Gateway, outcome: &str, count: f64) {
    eventually(&format!("{count} sessions are {outcome}"), || {
        counted(gateway, outcome) == count
    });
}

/// The place of the server that answers with this name.
pub fn place(name: &str) -> usize {
    ["a", "b", "c"].iter().position(|known| *known == name).unwrap()
}

#[test]
fn a_client_comes_back_to_its_endpoint_and_is_told_once() {
    let servers = servers();
    let gateway = keeping("cookie = \"tg\"", &servers).start();
    let web = gateway.web();
    let mut homes = Vec::new();
    for _ in 0..6 {
        let mut browser = Browser::default();
        let home = browser.get(&web, "/").text();
        for _ in 0..5 {
            assert_eq!(browser.get(&web, "/").text(), home);
        }
        assert_eq!(browser.told, 1, "set only when it changes");
        homes.push(home);
    }
    homes.sort();
    assert_eq!(homes, ["a", "a", "b", "b", "c", "c"], "new sessions are balanced");
    expect_counted(&gateway, "new", 6.0);
    expect_counted(&gateway, "kept", 30.0);
    assert_eq!(
        gateway.metric("tidegate_sticky_cookies_total", &["reason=\"new\""]),
        6.0
    );
    eventually("the log tells", || {
        let records = gateway.access_log();
        records.iter().filter(|record| record["sticky"] == "kept").count() == 30
    });
}

#[test]
fn the_cookie_shows_no_address_and_has_the_attributes_it_should() {
    let servers = servers();
    let gateway = keeping(
        "cookie = \"tg\", ttl = \"1h\", path = \"/app\", domain = \"example.com\"",
        &servers,
    )
    .start();
    let response = gateway.get("/");
    let set = response.header("set-cookie").unwrap();
    let (pair, attributes) = set.split_once("; ").unwrap();
    assert_eq!(
        attributes,
        "Path=/app; Domain=example.com; Max-Age=3600; HttpOnly; SameSite=Lax"
    );
    assert_eq!(pair.len(), "tg=".len() + 49, "{pair}");
    assert_eq!(response.headers.all("cache-control"), ["private"]);
    let other = gateway.get("/");
    assert_ne!(
        other.header("set-cookie"),
        Some(set),
        "another endpoint, another value"
    );
}

#[test]
fn answers_that_say_whom_they_are_for_are_left_alone() {
    let says = |cache: &'static str| Backend::http(move |_| Reply::ok("x").header("Cache-Control", cache));
    let servers = [
        says("public, max-age=60"),
        says("max-age=0, private"),
        says("No-Store"),
    ];
    let gateway = keeping("cookie = \"tg\"", &servers).start();
    let mut told: Vec<Vec<String>> = (0..3)
        .map(|_| {
            gateway
                .get("/")
                .headers
                .all("cache-control")
                .iter()
                .map(|&it| it.to_owned())
                .collect()
        })
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            vec!["No-Store"],
            vec!["max-age=0, private"],
            vec!["public, max-age=60", "private"]
        ]
    );
    let post = gateway.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    assert!(post.header("set-cookie").is_some());
    assert!(
        !post.headers.all("cache-control").contains(&"private")
            || post.headers.all("cache-control").len() == 1
    );
    let gateway = keeping("cookie = \"tg\", private = false", &servers).start();
    assert!((0..3).all(|_| gateway.get("/").headers.all("cache-control").len() == 1));
}

#[test]
fn over_https_it_is_secure() {
    let servers = servers();
    let ca = Ca::default();
    let leaf = ca.leaf(&["test"]);
    let config = THREE.replace(
        "[[routes]]",
        "[listeners.web.tls]\ncertificates = [{ cert = \"site.pem\", key = \"site.key\" }]\n[[routes]]",
    );
    let gateway = keeping("cookie = \"tg\", same_site = \"strict\"", &servers)
        .config(&config)
        .file("site.pem", &leaf.chain)
        .file("site.key", &leaf.key)
        .start();
    let client = TlsClient::trusting(&ca).build();
    let response = client.connect(gateway.web(), "test").get("/");
    let set = response.header("set-cookie").unwrap();
    assert!(set.ends_with("; HttpOnly; Secure; SameSite=Strict"), "{set}");
}

#[test]
fn a_trusted_proxy_says_how_the_client_came() {
    let servers = servers();
    let trusting = THREE.replace("[[routes]]", "trusted_proxies = [\"127.0.0.1\"]\n[[routes]]");
    let asked = |config: &str| {
        let gateway = keeping("cookie = \"tg\"", &servers).config(config).start();
        let response = gateway.send("GET / HTTP/1.1\r\nHost: test\r\nX-Forwarded-Proto: https\r\n\r\n");
        response.header("set-cookie").unwrap().contains("; Secure")
    };
    assert!(asked(&trusting));
    assert!(!asked(THREE), "nobody else's word counts");
}

#[test]
fn endpoints_do_not_see_it_and_other_cookies_stay_as_they_are() {
    let servers = servers();
    let gateway = keeping("cookie = \"tg\"", &servers).start();
    let mut browser = Browser::default();
    let home = browser.get(&gateway.web(), "/").text();
    let server = &servers[place(&home)];
    let value = browser.cookie("tg");
    let seen = |cookies: &str| {
        let answer = gateway.send(format!("GET / HTTP/1.1\r\nHost: test\r\n{cookies}\r\n"));
        assert_eq!((answer.text(), answer.header("set-cookie")), (home.clone(), None));
        let request = server.last_request();
        request
            .headers
            .all("cookie")
            .iter()
            .map(|&it| it.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(&format!("Cookie: tg={value}\r\n")), [""; 0]);
    assert_eq!(
        seen(&format!("Cookie: a=1;b=\"x y\" ; tg={value};c\r\n")),
        ["a=1;b=\"x y\" ;c"]
    );
    let several = seen(&format!(
        "Cookie: a=1\r\nCookie: tg={value}\r\ncookie: tg=old; b=2\r\n"
    ));
    assert_eq!(several, ["a=1", "b=2"]);
}

#[test]
fn an_endpoints_own_cookie_of_that_name_is_left_out() {
    let server = || {
        Backend::http(|_| {
            Reply::ok("x")
                .header("Set-Cookie", "tg=theirs; Path=/")
                .header("Set-Cookie", "sid=1")
        })
    };
    let servers = [server(), server(), server()];
    let gateway = keeping("cookie = \"tg\"", &servers).start();
    let first = gateway.get("/");
    let all = first.headers.all("set-cookie");
    assert!(
        all.len() == 2 && all[0] == "sid=1" && all[1].starts_with("tg=1"),
        "{all:?}"
    );
    let mut browser = Browser::default();
    browser.note(&first);
    let second = browser.get(&gateway.web(), "/");
    assert_eq!(second.headers.all("set-cookie"), ["sid=1"]);
}

#[test]
fn that_holds_where_paths_of_cookies_are_put_back() {
    let server = || Backend::http(|_| Reply::ok("x").header("Set-Cookie", "tg=theirs; Path=/"));
    let servers = [server(), server(), server()];
    let config = THREE.replace(
        "upstream = \"app\"",
        "upstream = \"app\"\npaths = [\"/app\"]\nstrip_prefix = \"/app\"",
    );
    let gateway = keeping("cookie = \"tg\"", &servers).config(&config).start();
    let response = gateway.get("/app/");
    let all = response.headers.all("set-cookie");
    assert!(all.len() == 1 && all[0].starts_with("tg=1"), "{all:?}");
}

#[test]
fn a_websocket_begins_where_the_session_is() {
    let servers = [ws::echo_backend(), ws::echo_backend(), ws::echo_backend()];
    let gateway = keeping("cookie = \"tg\"", &servers).start();
    let mut browser = Browser::default();
    let mut conn = gateway.connect();
    let answer = conn.send(ws::handshake("/", "")).response();
    assert_eq!(answer.status, 101);
    browser.note(&answer);
    assert_eq!(browser.told, 1, "it is told with the 101");
    let home = servers.iter().position(|server| server.hits() == 1).unwrap();
    for _ in 0..5 {
        let mut conn = gateway.connect();
        let answer = conn.send(ws::handshake("/", &browser.header())).response();
        assert_eq!((answer.status, answer.header("set-cookie")), (101, None));
        conn.send(ws::frame(ws::TEXT, b"hello", true));
        assert_eq!(ws::read_frame(&mut conn).unwrap().1, b"hello");
    }
    assert_eq!(servers[home].hits(), 6);
    assert!(
        servers[home]
            .requests()
            .iter()
            .all(|request| !request.headers.has("cookie"))
    );
}

#[test]
fn it_is_the_same_over_http_2() {
    let servers = servers();
    let config = THREE.replace("[[routes]]", "protocols = [\"h1\", \"h2c\"]\n[[routes]]");
    let gateway = keeping("cookie = \"tg\"", &servers).config(&config).start();
    let client = Client::connect(&gateway.web());
    let first = client.get("/");
    let set = first.header("set-cookie").unwrap().to_owned();
    let pair = set.split(';').next().unwrap();
    for _ in 0..4 {
        // Browsers send each cookie as a field of its own.
        let mut request = get("/");
        for cookie in ["a=1", pair, "b=2"] {
            request.headers_mut().append("cookie", cookie.parse().unwrap());
        }
        let again = client.ask(request, b"");
        assert_eq!((again.text(), again.header("set-cookie")), (first.text(), None));
    }
    let server = servers.iter().find(|server| server.hits() == 5).unwrap();
    assert_eq!(server.last_request().headers.all("cookie"), ["a=1; b=2"]);
}

#[test]
fn bad_cookies_choose_nothing_and_are_replaced() {
    let servers = servers();
    let gateway = keeping("cookie = \"tg\", keys = [\"env:KEY\"]", &servers)
        .env("KEY", "first key first key first key first")
        .start();
    let elsewhere = keeping("cookie = \"tg\", keys = [\"env:KEY\"]", &servers)
        .env("KEY", "other key other key other key other")
        .start();
    let mut good = Browser::default();
    good.get(&gateway.web(), "/");
    let good = good.cookie("tg").to_owned();
    let mut foreign = Browser::default();
    foreign.get(&elsewhere.web(), "/");
    let changed = |at: usize| {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let long = "1".repeat(5000);
    for (value, outcome) in [
        ("", "malformed"),
        ("10.0.0.1:80", "malformed"),
        (&good[..48], "malformed"),
        (&long, "malformed"),
        (&changed(48), "tampered"),
        (&changed(20), "tampered"),
        (&changed(1), "foreign"),
        (foreign.cookie("tg"), "foreign"),
    ] {
        let before = counted(&gateway, outcome);
        let mut homes = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let mut browser = Browser::with("tg", value);
            homes.insert(browser.get(&gateway.web(), "/").text());
            assert_eq!(browser.told, 1, "{value}");
            assert_ne!(browser.cookie("tg"), value);
        }
        assert_eq!(homes.len(), 3, "{value} chose an endpoint");
        expect_counted(&gateway, outcome, before + 3.0);
    }
    assert_eq!(
        gateway.metric("tidegate_sticky_cookies_total", &["reason=\"replaced\""]),
        24.0
    );
}

#[test]
fn of_several_cookies_the_first_that_says_something_counts_and_few_are_looked_at() {
    let servers = servers();
    let gateway = keeping("cookie = \"tg\"", &servers).start();
    let mut browser = Browser::default();
    let home = browser.get(&gateway.web(), "/").text();
    let good = browser.cookie("tg").to_owned();
    let asked = |bad: usize| {
        let value = format!("{}tg={good}", "tg=nonsense; ".repeat(bad));
        gateway.send(format!("GET / HTTP/1.1\r\nHost: test\r\nCookie: {value}\r\n\r\n"))
    };
    for _ in 0..4 {
        assert_eq!(asked(3).text(), home);
    }
    assert!(asked(4).header("set-cookie").is_some(), "enough is enough");
    let many = asked(400);
    assert_eq!(many.status, 200);
    assert!(servers.iter().all(|server| {
        server
            .requests()
            .iter()
            .all(|request| !request.headers.has("cookie"))
    }));
}

#[test]
fn a_cookie_of_another_upstream_says_nothing() {
    let servers = servers();
    let config = r#"
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
[[routes]]
paths = ["/other"]
upstream = "other"
[upstreams.app]
endpoints = ["@a@", "@b@"]
sticky = { cookie = "tg" }
[upstreams.other]
endpoints = ["@a@", "@b@"]
sticky = { cookie = "tg" }
"#;
    let gateway = keeping("", &servers).config(config).start();
    let mut browser = Browser::default();
    browser.get(&gateway.web(), "/");
    browser.get(&gateway.web(), "/other");
    assert_eq!(browser.told, 2);
    expect_counted(&gateway, "foreign", 1.0);
}

#[test]
fn a_session_stays_at_one_side_of_a_split() {
    let servers = servers();
    let config = THREE
        .replace("upstream = \"app\"", "split = { app = 50, other = 50 }")
        .replace("\"@a@\", ", "")
        + "[upstreams.other]\nendpoints = [\"@a@\"]\nsticky = { cookie = \"tg\" }\n";
    let gateway = keeping("cookie = \"tg\"", &servers).config(&config).start();
    let mut homes = std::collections::BTreeSet::new();
    for _ in 0..16 {
        let mut browser = Browser::default();
        let home = browser.get(&gateway.web(), "/").text();
        for _ in 0..4 {
            assert_eq!(browser.get(&gateway.web(), "/").text(), home);
        }
        assert_eq!(browser.told, 1);
        homes.insert(home);
    }
    assert_eq!(homes.len(), 3, "both sides have some");
}

#[test]
fn a_session_that_ran_out_is_a_new_one() {
    let servers = servers();
    let gateway = keeping("cookie = \"tg\", ttl = \"2s\"", &servers).start();
    let mut browser = Browser::default();
    browser.get(&gateway.web(), "/");
    let old = browser.clone();
    eventually("half of the time is over", || {
        browser.get(&gateway.web(), "/");
        browser.told > 1
    });
    assert_ne!(browser.cookie("tg"), old.cookie("tg"));
    assert!(gateway.metric("tidegate_sticky_cookies_total", &["reason=\"renewed\""]) >= 1.0);
    eventually("all of it is over", || {
        old.clone().get(&gateway.web(), "/");
        counted(&gateway, "expired") > 0.0
    });
}

#[test]
fn explain_tells_where_a_session_is() {
    let servers = servers();
    let gateway = keeping("cookie = \"tg\"", &servers).start();
    let explain = |cookie: &str| {
        let header = format!("Cookie: tg={cookie}");
        let ran = gateway.cli(&["explain", "GET", "http://test/", "-H", &header]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stdout
    };
    let mut browser = Browser::default();
    let home = browser.get(&gateway.web(), "/").text();
    let address = servers[place(&home)].address();
    let told = explain(browser.cookie("tg"));
    assert!(
        told.contains(&format!("session by cookie tg: at {address}, and stays there"))
            && told.contains(&format!("{address} weight 1, 0 in flight, 0 tunnels: picked")),
        "{told}"
    );
    assert!(explain("nonsense").contains("none yet (malformed)"));
    assert_eq!(counted(&gateway, "kept"), 0.0, "nothing was asked");
}

#[test]
fn a_gateway_without_a_file_keeps_sessions_too() {
    let servers = servers();
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let mut command = cli::command(binary());
    command.args(["proxy", "--listen", "127.0.0.1:0", "--sticky", "--ready-file"]);
    command.arg(&ready).current_dir(dir.path());
    command.env("TIDEGATE_RUNTIME__STATE_DIR", dir.path());
    for server in &servers {
        command.args(["--to", &server.address().to_string()]);
    }
    let mut running = Running::start(command);
    eventually("it serves", || {
        std::fs::read_to_string(&ready).is_ok_and(|told| !told.is_empty())
    });
    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    let address = Address::parse(told["listeners"]["proxy"].as_str().unwrap());
    let mut browser = Browser::default();
    let home = browser.get(&address, "/").text();
    for _ in 0..5 {
        assert_eq!(browser.get(&address, "/").text(), home);
    }
    assert_eq!((browser.told, browser.cookie("tidegate").len()), (1, 49));
    running.signal(Sig::TERM);
    assert_eq!(running.wait(), Some(0));
}
