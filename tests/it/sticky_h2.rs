//! Sessions where endpoints speak HTTP/2, and where clients open their WebSockets by extended CONNECT (RFC 8441).

use crate::gateway;
use crate::h2_client::{self, get};
use crate::h2_server::Server;
use crate::sticky::{Browser, THREE, expect_counted, place};
use crate::websocket_h2::{Socket, ask, connect};
use crate::websocket_h2_upstream::named;
use http::{HeaderMap, Request};
use testkit::ws::{self, TEXT};
use testkit::{Backend, Conn, Gateway, eventually};

fn servers() -> [Server; 3] {
    ["a", "b", "c"].map(named)
}

/// Three of these addresses, both protocols for clients, and `more` of the upstream.
fn keeping(sticky: &str, addresses: [testkit::Address; 3], more: &str) -> Gateway {
    let config = THREE
        .replace("[[routes]]", "protocols = [\"h1\", \"h2c\"]\n[[routes]]")
        .replace("sticky =", &format!("{more}\nsticky ="));
    let [a, b, c] = addresses;
    gateway(&config)
        .with("sticky", sticky)
        .with("a", a)
        .with("b", b)
        .with("c", c)
        .start()
}

fn to_h2(sticky: &str, servers: &[Server; 3]) -> Gateway {
    keeping(
        sticky,
        servers.each_ref().map(Server::address),
        "protocol = \"h2\"",
    )
}

fn with_cookie(mut request: Request<()>, browser: &Browser) -> Request<()> {
    for (name, value) in &browser.cookies {
        let crumb = format!("{name}={value}").parse().unwrap();
        request.headers_mut().append("cookie", crumb);
    }
    request
}

fn note(browser: &mut Browser, headers: &HeaderMap) {
    for set in headers.get_all("set-cookie") {
        browser.told += 1;
        let (name, value) = set
            .to_str()
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .split_once('=')
            .unwrap();
        browser.cookies.retain(|(known, _)| known != name);
        browser.cookies.push((name.to_owned(), value.to_owned()));
    }
}

/// Opens a WebSocket by extended CONNECT and returns who answered.
fn tunnel_over_h2(browser: &mut Browser, client: &h2_client::Client) -> String {
    let request = with_cookie(connect("websocket", "/chat"), browser);
    let mut socket = Socket::asking(client, request);
    note(browser, &socket.headers);
    let (opcode, name) = socket.hear().expect("its name");
    assert_eq!(opcode, TEXT);
    String::from_utf8(name).unwrap()
}

/// The same by an Upgrade of HTTP/1.1.
fn tunnel_over_h1(browser: &mut Browser, gateway: &Gateway) -> String {
    let mut conn: Conn = gateway.connect();
    let answer = conn.send(ws::handshake("/chat", &browser.header())).response();
    assert_eq!(answer.status, 101, "{answer}");
    browser.note(&answer);
    let (opcode, name) = ws::read_frame(&mut conn).expect("its name");
    assert_eq!(opcode, TEXT);
    String::from_utf8(name).unwrap()
}

#[test]
fn a_session_that_begins_with_any_kind_of_request_holds_for_all_kinds() {
    let servers = servers();
    let gateway = to_h2("cookie = \"tg\"", &servers);
    let client = h2_client::Client::connect(&gateway.web());
    let kinds: [&dyn Fn(&mut Browser) -> String; 4] = [
        &|browser| tunnel_over_h2(browser, &client),
        &|browser| tunnel_over_h1(browser, &gateway),
        &|browser| browser.get(&gateway.web(), "/").text(),
        &|browser| {
            let answer = client.ask(with_cookie(get("/"), browser), b"");
            note(browser, &answer.headers);
            answer.text()
        },
    ];
    for first in kinds {
        let mut browser = Browser::default();
        // Of the application, and not ours to take.
        browser.cookies.push(("app".to_owned(), "1".to_owned()));
        let home = first(&mut browser);
        assert_eq!(browser.told, 1);
        for kind in kinds {
            assert_eq!(kind(&mut browser), home);
        }
        assert_eq!(browser.told, 1, "set only when it changes");
        for seen in servers[place(&home)].requests() {
            assert_eq!(seen.header("cookie").unwrap_or("app=1"), "app=1");
        }
    }
    expect_counted(&gateway, "new", 4.0);
    // What was not taken back yet is a request that runs.
    eventually("the others kept theirs", || {
        client.turn();
        crate::sticky::counted(&gateway, "kept") == 16.0
    });
}

#[test]
fn a_session_whose_endpoint_is_gone_moves_within_the_handshake() {
    for over_h1 in [false, true] {
        let mut servers = servers();
        let gateway = to_h2("cookie = \"tg\"", &servers);
        let client = h2_client::Client::connect(&gateway.web());
        let mut browser = Browser::default();
        let open = |browser: &mut Browser| match over_h1 {
            true => tunnel_over_h1(browser, &gateway),
            false => tunnel_over_h2(browser, &client),
        };
        let home = open(&mut browser);
        let address = servers[place(&home)].address();
        servers[place(&home)].down();
        eventually("it is gone", || Conn::try_connect(&address).is_err());
        let new = open(&mut browser);
        assert!(
            new != home && browser.told == 2,
            "{new} from {home}, {}",
            browser.told
        );
        for _ in 0..3 {
            assert_eq!(open(&mut browser), new);
        }
        assert_eq!(browser.told, 2);
        assert_eq!(
            gateway.metric("tidegate_sticky_cookies_total", &["reason=\"moved\""]),
            1.0
        );
    }
}

#[test]
fn where_another_endpoint_will_not_do_the_handshake_is_refused() {
    let mut servers = servers();
    let gateway = to_h2("cookie = \"tg\", on_missing = \"reject\"", &servers);
    let client = h2_client::Client::connect(&gateway.web());
    let mut browser = Browser::default();
    let home = tunnel_over_h2(&mut browser, &client);
    let address = servers[place(&home)].address();
    servers[place(&home)].down();
    eventually("it is gone", || Conn::try_connect(&address).is_err());
    let answered = || ask(&client, with_cookie(connect("websocket", "/chat"), &browser)).0;
    // What went wrong there, or that it is not there; never another one.
    for _ in 0..3 {
        let answer = answered();
        let token = answer.headers()["x-tidegate-error"].to_str().unwrap().to_owned();
        assert!([502, 503].contains(&answer.status().as_u16()), "{answer:?}");
        assert!(["connect_failed", "sticky_missing"].contains(&&*token), "{token}");
        assert!(!answer.headers().contains_key("set-cookie"));
    }
    // Who has no session is let in.
    let others = tunnel_over_h2(&mut Browser::default(), &client);
    assert_ne!(others, home);
}

#[test]
fn an_extended_connect_is_kept_where_endpoints_speak_http_1() {
    let names = ["a", "b", "c"];
    let backends: [Backend; 3] = names.map(|name| {
        Backend::script(move |conn, visit| {
            let Ok(request) = conn.try_request() else { return };
            let key = request.header("sec-websocket-key").unwrap_or_default().to_owned();
            visit.hit(request);
            let _ = conn.try_send(ws::accepted(&key));
            let _ = conn.try_send(ws::frame(TEXT, name.as_bytes(), false));
            let _end = conn.try_read(1);
        })
    });
    let gateway = keeping("cookie = \"tg\"", backends.each_ref().map(Backend::address), "");
    let client = h2_client::Client::connect(&gateway.web());
    let mut browser = Browser::default();
    let home = tunnel_over_h2(&mut browser, &client);
    for _ in 0..3 {
        assert_eq!(tunnel_over_h2(&mut browser, &client), home);
        assert_eq!(tunnel_over_h1(&mut browser, &gateway), home);
    }
    assert_eq!(browser.told, 1);
    let server = &backends[place(&home)];
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.header("cookie").is_none())
    );
}
