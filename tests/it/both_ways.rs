//! What an exchange is, whatever is spoken on either side: every behaviour here runs over the four combinations of
//! HTTP/1.1 and HTTP/2, in and out.

use crate::gateway;
use crate::h2_client::{self, send_all};
use crate::h2_server::{Seen, Server, Stream, moment};
use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use std::sync::Arc;
use testkit::{Address, Backend, Gateway, Reply, eventually, pattern};

/// What a side speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    H1,
    H2,
}

const COMBINATIONS: [(Speaks, Speaks); 4] = [
    (Speaks::H1, Speaks::H1),
    (Speaks::H1, Speaks::H2),
    (Speaks::H2, Speaks::H1),
    (Speaks::H2, Speaks::H2),
];

type Fields = Vec<(String, String)>;

/// A message, whatever it is written in.
#[derive(Clone, Debug, Default)]
struct Message {
    /// Method and path.
    line: (String, String),
    host: String,
    fields: Fields,
    body: Vec<u8>,
    /// The body's length is told before it.
    announced: bool,
    trailers: Fields,
}

impl Message {
    fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    fn new(method: &str, path: &str) -> Self {
        Self {
            line: (method.to_owned(), path.to_owned()),
            host: "test".to_owned(),
            ..Self::default()
        }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>, announced: bool) -> Self {
        self.body = body.into();
        self.announced = announced;
        self
    }

    fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn all(&self, name: &str) -> Vec<&str> {
        all(&self.fields, name)
    }

    fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name}: {all:?}");
        all.first().copied()
    }
}

fn all<'a>(fields: &'a Fields, name: &str) -> Vec<&'a str> {
    let same = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
    fields
        .iter()
        .filter(same)
        .map(|(_, value)| value.as_str())
        .collect()
}

/// What a server does with a request.
#[derive(Clone, Debug)]
enum Act {
    Answer(u16, Message),
    /// An interim response first.
    Hint(Fields, Message),
    /// Ends the exchange without an answer.
    Die,
    /// Ends it in the middle of one.
    DieAfter(Vec<u8>),
    Hang,
}

/// A complete answer, or how it broke off.
#[derive(Debug)]
struct Answer {
    status: u16,
    message: Message,
    whole: bool,
    /// Of an interim response that came before.
    hints: Fields,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.message.body).into_owned()
    }

    fn token(&self) -> Option<&str> {
        self.message.field("x-tidegate-error")
    }
}

/// A server that speaks one of both.
enum Back {
    H1(Backend),
    H2(Server),
}

impl Back {
    fn start(speaks: Speaks, act: impl Fn(&Message) -> Act + Send + Sync + 'static) -> Self {
        match speaks {
            Speaks::H1 => Self::H1(Backend::http(move |request| reply(request, &act))),
            Speaks::H2 => {
                let act = Arc::new(act);
                Self::H2(Server::streams(move |stream| {
                    let act = Arc::clone(&act);
                    async move {
                        // Who takes its stream back is answered no more.
                        let _gone = serve(stream, &*act).await;
                    }
                }))
            }
        }
    }

    fn address(&self) -> Address {
        match self {
            Self::H1(backend) => backend.address(),
            Self::H2(server) => server.address(),
        }
    }

    fn hits(&self) -> usize {
        match self {
            Self::H1(backend) => backend.hits(),
            Self::H2(server) => server.hits(),
        }
    }

    fn last(&self) -> Message {
        match self {
            Self::H1(backend) => of_h1(&backend.last_request()),
            Self::H2(server) => of_h2(&server.last_request()),
        }
    }

    /// Requests that it is at now.
    fn running(&self) -> usize {
        match self {
            Self::H1(backend) => backend.open_connections(),
            Self::H2(server) => server.running(),
        }
    }
}

fn of_h1(request: &testkit::Request) -> Message {
    let mut fields = request.headers.0.clone();
    fields.retain(|(name, _)| !name.eq_ignore_ascii_case("host"));
    Message {
        line: (request.method.clone(), request.target.clone()),
        host: request.header("host").unwrap_or_default().to_owned(),
        fields,
        body: request.body.clone(),
        announced: request.headers.has("content-length"),
        trailers: request.trailers.0.clone(),
    }
}

fn of_h2(seen: &Seen) -> Message {
    Message {
        line: (seen.method.clone(), seen.path.clone()),
        host: seen.authority.clone(),
        fields: listed(&seen.headers),
        body: seen.body.clone(),
        announced: seen.headers.contains_key("content-length"),
        trailers: seen.trailers.as_ref().map(listed).unwrap_or_default(),
    }
}

fn listed(map: &HeaderMap) -> Fields {
    let text = |value: &HeaderValue| value.to_str().expect("text").to_owned();
    map.iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}

fn mapped(fields: &Fields) -> HeaderMap {
    let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).expect("a name");
    fields
        .iter()
        .map(|(n, value)| (name(n), value.parse().expect("a value")))
        .collect()
}

/// Field lines and body of a message in HTTP/1.1.
fn written(message: &Message, bodiless: bool) -> String {
    let mut text = String::new();
    for (name, value) in &message.fields {
        text += &format!("{name}: {value}\r\n");
    }
    let body = String::from_utf8(message.body.clone()).expect("text");
    if bodiless && (!message.announced || body.is_empty()) {
        return text + "\r\n";
    }
    if bodiless {
        // What it would be, as for HEAD.
        return text + &format!("Content-Length: {}\r\n\r\n", body.len());
    }
    if message.announced {
        return text + &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    }
    text += "Transfer-Encoding: chunked\r\n\r\n";
    if !body.is_empty() {
        text += &format!("{:x}\r\n{body}\r\n", body.len());
    }
    text += "0\r\n";
    for (name, value) in &message.trailers {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n"
}

fn reply(request: &testkit::Request, act: &dyn Fn(&Message) -> Act) -> Reply {
    match act(&of_h1(request)) {
        Act::Answer(status, message) => {
            let bodiless = request.method == "HEAD" || matches!(status, 204 | 304);
            Reply::raw(format!("HTTP/1.1 {status} X\r\n{}", written(&message, bodiless)))
        }
        Act::Hint(fields, message) => {
            let mut head = "HTTP/1.1 103 Early Hints\r\n".to_owned();
            for (name, value) in &fields {
                head += &format!("{name}: {value}\r\n");
            }
            Reply::raw(format!(
                "{head}\r\nHTTP/1.1 200 X\r\n{}",
                written(&message, false)
            ))
        }
        Act::Die => Reply::close(),
        Act::DieAfter(body) => Reply::raw("HTTP/1.1 200 X\r\nContent-Length: 1000000\r\n\r\n")
            .then(body)
            .then_close(),
        Act::Hang => Reply::hang(),
    }
}

async fn serve(mut stream: Stream, act: &dyn Fn(&Message) -> Act) -> Result<(), h2::Error> {
    let mut seen = Seen::of(&stream.request, stream.connection);
    let body = stream.request.body_mut();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        seen.body.extend_from_slice(&piece);
    }
    seen.trailers = body.trailers().await?;
    let (act, head) = (act(&of_h2(&seen)), seen.method == "HEAD");
    stream.hit(seen);
    let (status, message) = match act {
        Act::Answer(status, message) => (status, message),
        Act::Hint(fields, message) => {
            let mut hint = Response::new(());
            *hint.status_mut() = http::StatusCode::EARLY_HINTS;
            *hint.headers_mut() = mapped(&fields);
            stream.respond.send_informational(hint)?;
            (200, message)
        }
        Act::Die => {
            stream.respond.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        }
        Act::DieAfter(body) => {
            let mut sending = stream.respond.send_response(Response::new(()), false)?;
            send_all(&mut sending, &body, false).await?;
            // What was sent is to be there before the reset overtakes it.
            moment().await;
            sending.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        }
        Act::Hang => {
            stream.cancelled().await;
            return Ok(());
        }
    };
    let mut response = Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    *response.headers_mut() = mapped(&message.fields);
    if message.announced && !matches!(status, 204 | 304) {
        response
            .headers_mut()
            .insert("content-length", message.body.len().into());
    }
    let bodiless = head || matches!(status, 204 | 304);
    let ends = bodiless || message.body.is_empty() && message.trailers.is_empty();
    let mut sending = stream.respond.send_response(response, ends)?;
    if ends {
        return Ok(());
    }
    send_all(&mut sending, &message.body, message.trailers.is_empty()).await?;
    if !message.trailers.is_empty() {
        sending.send_trailers(mapped(&message.trailers))?;
    }
    Ok(())
}

/// A client that speaks one of both.
fn ask(speaks: Speaks, gateway: &Gateway, message: &Message) -> Answer {
    match speaks {
        Speaks::H1 => ask_h1(gateway, message),
        Speaks::H2 => ask_h2(gateway, message),
    }
}

fn ask_h1(gateway: &Gateway, message: &Message) -> Answer {
    let (method, path) = &message.line;
    let bodiless = message.body.is_empty() && message.trailers.is_empty() && !message.announced;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", message.host);
    let mut conn = gateway.connect();
    conn.send(head + &written(message, bodiless));
    let mut hints = Fields::new();
    loop {
        let answer = conn.try_response_to(method).expect("an answer");
        if answer.status == 103 {
            hints = answer.headers.0.clone();
            continue;
        }
        return Answer {
            status: answer.status,
            whole: answer.cut.is_none(),
            message: Message {
                fields: answer.headers.0.clone(),
                body: answer.body.clone(),
                announced: answer.headers.has("content-length"),
                trailers: answer.trailers.0,
                ..Message::default()
            },
            hints,
        };
    }
}

fn ask_h2(gateway: &Gateway, message: &Message) -> Answer {
    let client = h2_client::Client::connect(&gateway.web());
    let (method, path) = &message.line;
    let mut request = http::Request::builder()
        .method(method.as_str())
        .uri(format!("http://{}{path}", message.host))
        .body(())
        .expect("a request");
    *request.headers_mut() = mapped(&message.fields);
    if message.announced {
        request
            .headers_mut()
            .insert("content-length", message.body.len().into());
    }
    client.run(async {
        let bodiless = message.body.is_empty() && message.trailers.is_empty();
        let (mut answer, mut stream) = client.begin(request, bodiless).await.expect("a stream");
        let sending = async {
            if !bodiless {
                send_all(&mut stream, &message.body, message.trailers.is_empty())
                    .await
                    .ok();
            }
            if !message.trailers.is_empty() {
                stream.send_trailers(mapped(&message.trailers)).ok();
            }
        };
        let reading = async {
            let mut hints = Fields::new();
            if let Some(Ok(hint)) = std::future::poll_fn(|cx| answer.poll_informational(cx)).await {
                hints = listed(hint.headers());
            }
            // A reset may overtake what was said before it.
            let Ok(answer) = answer.await else {
                return Answer {
                    status: 0,
                    message: Message::default(),
                    whole: false,
                    hints,
                };
            };
            let (head, mut body) = answer.into_parts();
            let mut message = Message {
                fields: listed(&head.headers),
                announced: head.headers.contains_key("content-length"),
                ..Message::default()
            };
            let mut whole = true;
            while let Some(piece) = body.data().await {
                let Ok(piece) = piece else {
                    whole = false;
                    break;
                };
                body.flow_control()
                    .release_capacity(piece.len())
                    .expect("capacity");
                message.body.extend_from_slice(&piece);
            }
            if whole && let Some(trailers) = body.trailers().await.expect("trailers") {
                message.trailers = listed(&trailers);
            }
            Answer {
                status: head.status.as_u16(),
                message,
                whole,
                hints,
            }
        };
        futures_util::future::join(reading, sending).await.0
    })
}

/// One endpoint behind a listener that speaks both.
fn front(speaks: Speaks, back: &Back, more: &str) -> Gateway {
    let protocol = match speaks {
        Speaks::H1 => "h1",
        Speaks::H2 => "h2",
    };
    gateway(
        r#"
        runtime = { workers = 1 }
        [listeners.web]
        address = "127.0.0.1:0"
        protocols = ["h1", "h2c"]
        [upstreams.app]
        protocol = "@protocol@"
        endpoints = ["@app@"]
        [[routes]]
        upstream = "app"
        @more@
        "#,
    )
    .with("protocol", protocol)
    .with("app", back.address())
    .with("more", more)
    .start()
}

/// What is asked of one of the four, given a way to ask and the back.
type Behaviour = fn(&dyn Fn(&Message) -> Answer, &Back);

/// Runs a behaviour over the four.
fn over_all(act: fn(&Message) -> Act, more: &str, behaves: Behaviour) {
    for (inner, outer) in COMBINATIONS {
        eprintln!("{inner:?} in, {outer:?} out");
        let back = Back::start(outer, act);
        let gateway = front(outer, &back, more);
        behaves(&|message| ask(inner, &gateway, message), &back);
    }
}

fn ok(body: impl Into<Vec<u8>>) -> Act {
    Act::Answer(200, Message::default().body(body, true))
}

#[test]
fn a_request_and_its_answer_pass_with_their_fields() {
    let act = |request: &Message| {
        let answer = Message::default()
            .with("x-mine", "1")
            .with("set-cookie", "a=1")
            .with("set-cookie", "b=2");
        let (method, path) = &request.line;
        Act::Answer(200, answer.body(format!("{method} {path}"), true))
    };
    over_all(act, "", |ask, back| {
        let mut request = Message::get("/a/b?c=d&e")
            .with("x-a", "1")
            .with("cookie", "a=1; b=2")
            .with("te", "trailers");
        request.host = "Test.example:99".to_owned();
        let answer = ask(&request);
        assert_eq!((answer.status, answer.text().as_str()), (200, "GET /a/b?c=d&e"));
        assert_eq!(answer.message.field("x-mine"), Some("1"));
        assert_eq!(answer.message.all("set-cookie"), ["a=1", "b=2"]);
        let seen = back.last();
        assert_eq!(seen.host, "Test.example:99");
        assert_eq!(
            (seen.field("x-a"), seen.field("te")),
            (Some("1"), Some("trailers"))
        );
        assert_eq!(seen.field("cookie"), Some("a=1; b=2"));
        assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(seen.field("x-forwarded-host"), Some("Test.example:99"));
    });
}

#[test]
fn bodies_of_all_sizes_pass_both_ways_told_and_untold() {
    let act = |request: &Message| {
        Act::Answer(
            200,
            Message::default().body(request.body.clone(), request.announced),
        )
    };
    over_all(act, "", |ask, back| {
        for len in [1, 4095, 16_384, 16_385, 300_000, 2_000_000] {
            let body: Vec<u8> = pattern::bytes(len).iter().map(|byte| b'a' + byte % 26).collect();
            for announced in [true, false] {
                let answer = ask(&Message::new("POST", "/").body(body.clone(), announced));
                assert!(answer.whole && answer.message.body == body, "{len} {announced}");
                let seen = back.last();
                assert_eq!((seen.announced, seen.body.len()), (announced, len));
            }
        }
        let answer = ask(&Message::new("POST", "/").body("", true));
        assert!(answer.whole && answer.message.body.is_empty());
    });
}

#[test]
fn answers_without_a_body_have_none() {
    let act = |request: &Message| match request.line.1.as_str() {
        "/none" => Act::Answer(204, Message::default()),
        "/same" => Act::Answer(304, Message::default().with("etag", "\"a\"")),
        "/empty" => ok(""),
        _ => ok("hello"),
    };
    over_all(act, "", |ask, _| {
        for (path, status) in [("/none", 204), ("/same", 304), ("/empty", 200)] {
            let answer = ask(&Message::get(path));
            assert_eq!((answer.status, answer.text().as_str()), (status, ""));
            assert!(answer.whole, "{path}");
        }
        assert_eq!(ask(&Message::get("/same")).message.field("etag"), Some("\"a\""));
        let answer = ask(&Message::new("HEAD", "/"));
        assert_eq!((answer.status, answer.text().as_str()), (200, ""));
        assert_eq!(answer.message.field("content-length"), Some("5"));
    });
}

#[test]
fn trailers_pass_both_ways() {
    let act = |request: &Message| {
        let sum = all(&request.trailers, "x-sum").concat();
        let answer = Message::default().body("hi", false);
        Act::Answer(200, answer.trailer("grpc-status", &sum).trailer("x-end", "yes"))
    };
    over_all(act, "", |ask, back| {
        let request = Message::new("POST", "/")
            .body("body", false)
            .trailer("x-sum", "42");
        let answer = ask(&request);
        assert_eq!(answer.text(), "hi");
        assert_eq!(all(&answer.message.trailers, "grpc-status"), ["42"]);
        assert_eq!(all(&answer.message.trailers, "x-end"), ["yes"]);
        assert_eq!(back.last().body, b"body");
    });
}

#[test]
fn interim_answers_pass() {
    let act = |_: &Message| {
        Act::Hint(
            vec![("link".to_owned(), "</a.css>".to_owned())],
            Message::default().body("hi", true),
        )
    };
    over_all(act, "", |ask, _| {
        let answer = ask(&Message::get("/"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "hi"));
        assert_eq!(all(&answer.hints, "link"), ["</a.css>"]);
    });
}

#[test]
fn an_endpoint_that_dies_is_told_from_one_that_answers() {
    let act = |request: &Message| match request.line.1.as_str() {
        "/die" => Act::Die,
        "/half" => Act::DieAfter(b"the beginning".to_vec()),
        _ => ok("hi"),
    };
    over_all(act, "", |ask, _| {
        let answer = ask(&Message::get("/die"));
        assert_eq!((answer.status, answer.token()), (502, Some("upstream_reset")));
        let answer = ask(&Message::get("/half"));
        assert!(matches!(answer.status, 0 | 200) && !answer.whole);
        assert!("the beginning".starts_with(&answer.text()));
        assert_eq!(ask(&Message::get("/")).text(), "hi");
    });
}

#[test]
fn an_endpoint_that_does_not_answer_is_given_up_in_time_and_told() {
    let act = |_: &Message| Act::Hang;
    over_all(act, "timeouts = { response = \"200ms\" }", |ask, back| {
        let answer = ask(&Message::get("/"));
        assert_eq!((answer.status, answer.token()), (504, Some("response_timeout")));
        eventually("the endpoint need not go on", || back.running() == 0);
    });
}

#[test]
fn what_the_gateway_refuses_is_refused_alike() {
    over_all(
        |_| ok("hi"),
        "paths = [\"/app\"]",
        |ask, back| {
            for (message, status, token) in [
                (Message::get("/nowhere"), 404, "no_route"),
                (
                    Message::get("/app").with("expect", "the moon"),
                    417,
                    "expectation_failed",
                ),
            ] {
                let answer = ask(&message);
                assert_eq!((answer.status, answer.token()), (status, Some(token)));
            }
            assert_eq!(back.hits(), 0);
            assert_eq!(ask(&Message::get("/app")).text(), "hi");
        },
    );
}

#[test]
fn what_speaks_of_one_connection_does_not_reach_the_other() {
    let act = |_: &Message| {
        let answer = Message::default().with("proxy-authenticate", "Basic");
        Act::Answer(200, answer.body("hi", true))
    };
    over_all(act, "", |ask, back| {
        let answer = ask(&Message::get("/").with("proxy-authorization", "Basic x"));
        assert_eq!(answer.text(), "hi");
        for gone in [
            "proxy-authenticate",
            "connection",
            "keep-alive",
            "transfer-encoding",
        ] {
            assert!(answer.message.all(gone).is_empty(), "{gone}");
        }
        let seen = back.last();
        for gone in [
            "proxy-authorization",
            "keep-alive",
            "upgrade",
            "transfer-encoding",
            "x-tidegate-error",
        ] {
            assert!(seen.all(gone).is_empty(), "{gone}");
        }
    });
}

#[test]
fn edits_of_a_route_reach_the_other_side() {
    let more = r#"
        host = "api.internal"
        request_headers = { set = { "X-Set" = "1" }, remove = ["X-Gone"] }
        response_headers = { set = { "X-Back" = "2" }, remove = ["X-Mine"] }
        strip_prefix = "/app"
    "#;
    let act = |_: &Message| Act::Answer(200, Message::default().with("x-mine", "1").body("hi", true));
    over_all(act, more, |ask, back| {
        let answer = ask(&Message::get("/app/x").with("x-gone", "1"));
        assert_eq!(
            (answer.message.field("x-back"), answer.message.field("x-mine")),
            (Some("2"), None)
        );
        let seen = back.last();
        assert_eq!((seen.host.as_str(), seen.line.1.as_str()), ("api.internal", "/x"));
        assert_eq!((seen.field("x-set"), seen.field("x-gone")), (Some("1"), None));
    });
}

/// Two endpoints, the first of which fails.
fn failing_first(outer: Speaks, first: Act) -> (Gateway, Back, Back) {
    let first = Back::start(outer, move |_| first.clone());
    let second = Back::start(outer, |request| {
        Act::Answer(200, Message::default().body(request.body.clone(), true))
    });
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        protocols = ["h1", "h2c"]
        [[routes]]
        upstream = "app"
        [upstreams.app]
        protocol = "@protocol@"
        balance = "first"
        endpoints = ["@first@", "@second@"]
        "#,
    )
    .with("protocol", if outer == Speaks::H1 { "h1" } else { "h2" })
    .with("first", first.address())
    .with("second", second.address())
    .start();
    (gateway, first, second)
}

#[test]
fn a_request_that_may_be_repeated_goes_to_another_endpoint_with_its_body_and_others_do_not() {
    for (inner, outer) in COMBINATIONS {
        for act in [Act::Die, Act::Answer(503, Message::default().body("no", true))] {
            for announced in [true, false] {
                eprintln!("{inner:?} in, {outer:?} out, {announced} {act:?}");
                let (gateway, first, second) = failing_first(outer, act.clone());
                let put = Message::new("PUT", "/").body("again", announced);
                let answer = ask(inner, &gateway, &put);
                assert_eq!((answer.status, answer.text().as_str()), (200, "again"));
                assert_eq!((first.hits(), second.hits()), (1, 1));
                let post = Message::new("POST", "/").body("once", announced);
                let answer = ask(inner, &gateway, &post);
                assert!(matches!(answer.status, 502 | 503), "{}", answer.status);
                assert_eq!((first.hits(), second.hits()), (2, 1));
            }
        }
    }
}

#[test]
fn a_client_that_leaves_is_gone_for_the_endpoint_too() {
    for (inner, outer) in COMBINATIONS {
        eprintln!("{inner:?} in, {outer:?} out");
        let back = Back::start(outer, |request| match request.line.1.as_str() {
            "/held" => Act::Hang,
            _ => ok("hi"),
        });
        let gateway = front(outer, &back, "");
        match inner {
            Speaks::H1 => {
                let mut conn = gateway.connect();
                conn.send("GET /held HTTP/1.1\r\nHost: test\r\n\r\n");
                eventually("the request is there", || back.hits() == 1);
                conn.reset();
            }
            Speaks::H2 => {
                let client = h2_client::Client::connect(&gateway.web());
                let begun = client.run(client.begin(h2_client::get("/held"), true)).unwrap();
                eventually("the request is there", || {
                    client.turn();
                    back.hits() == 1
                });
                drop(begun);
                client.turn();
                eventually("the endpoint is told", || {
                    client.turn();
                    back.running() == 0
                });
            }
        }
        eventually("the endpoint is told", || back.running() == 0);
        assert_eq!(ask(inner, &gateway, &Message::get("/")).text(), "hi");
        if let Back::H2(server) = &back {
            assert_eq!(server.connections(), 1, "a reset costs no connection");
        }
    }
}
