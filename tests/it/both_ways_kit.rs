//! What the behaviours of [`crate::both_ways`] are made of: messages that are no protocol's, clients and servers that
//! speak one of both.

use crate::gateway;
use crate::h2_client::{self, send_all};
use crate::h2_server::{Seen, Server, Stream, moment};
use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use std::sync::Arc;
use testkit::{Address, Backend, Gateway, Reply};

/// What a side speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    H1,
    H2,
}

pub const COMBINATIONS: [(Speaks, Speaks); 4] = [
    (Speaks::H1, Speaks::H1),
    (Speaks::H1, Speaks::H2),
    (Speaks::H2, Speaks::H1),
    (Speaks::H2, Speaks::H2),
];

pub type Fields = Vec<(String, String)>;

/// A message, whatever it is written in.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Method and path.
    pub line: (String, String),
    pub host: String,
    pub fields: Fields,
    pub body: Vec<u8>,
    /// The body's length is told before it.
    pub announced: bool,
    pub trailers: Fields,
}

impl Message {
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub fn new(method: &str, path: &str) -> Self {
        Self {
            line: (method.to_owned(), path.to_owned()),
            host: "test".to_owned(),
            ..Self::default()
        }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>, announced: bool) -> Self {
        self.body = body.into();
        self.announced = announced;
        self
    }

    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        all(&self.fields, name)
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name}: {all:?}");
        all.first().copied()
    }
}

pub fn all<'a>(fields: &'a Fields, name: &str) -> Vec<&'a str> {
    let same = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
    fields
        .iter()
        .filter(same)
        .map(|(_, value)| value.as_str())
        .collect()
}

/// What a server does with a request.
#[derive(Clone, Debug)]
pub enum Act {
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
pub struct Answer {
    pub status: u16,
    pub message: Message,
    pub whole: bool,
    /// Of an interim response that came before.
    pub hints: Fields,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.message.body).into_owned()
    }

    pub fn token(&self) -> Option<&str> {
        self.message.field("x-tidegate-error")
    }
}

/// A server that speaks one of both.
pub enum Back {
    H1(Backend),
    H2(Server),
}

impl Back {
    pub fn start(speaks: Speaks, act: impl Fn(&Message) -> Act + Send + Sync + 'static) -> Self {
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

    pub fn address(&self) -> Address {
        match self {
            Self::H1(backend) => backend.address(),
            Self::H2(server) => server.address(),
        }
    }

    pub fn hits(&self) -> usize {
        match self {
            Self::H1(backend) => backend.hits(),
            Self::H2(server) => server.hits(),
        }
    }

    pub fn last(&self) -> Message {
        match self {
            Self::H1(backend) => of_h1(&backend.last_request()),
            Self::H2(server) => of_h2(&server.last_request()),
        }
    }

    /// Requests that it is at now.
    pub fn running(&self) -> usize {
        match self {
            Self::H1(backend) => backend.open_connections(),
            Self::H2(server) => server.running(),
        }
    }
}

pub fn of_h1(request: &testkit::Request) -> Message {
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

pub fn of_h2(seen: &Seen) -> Message {
    Message {
        line: (seen.method.clone(), seen.path.clone()),
        host: seen.authority.clone(),
        fields: listed(&seen.headers),
        body: seen.body.clone(),
        announced: seen.headers.contains_key("content-length"),
        trailers: seen.trailers.as_ref().map(listed).unwrap_or_default(),
    }
}

pub fn listed(map: &HeaderMap) -> Fields {
    let text = |value: &HeaderValue| value.to_str().expect("text").to_owned();
    map.iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}

pub fn mapped(fields: &Fields) -> HeaderMap {
    let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).expect("a name");
    fields
        .iter()
        .map(|(n, value)| (name(n), value.parse().expect("a value")))
        .collect()
}

/// Field lines and body of a message in HTTP/1.1.
pub fn written(message: &Message, bodiless: bool) -> String {
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

pub fn reply(request: &testkit::Request, act: &dyn Fn(&Message) -> Act) -> Reply {
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

pub async fn serve(mut stream: Stream, act: &dyn Fn(&Message) -> Act) -> Result<(), h2::Error> {
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
pub fn ask(speaks: Speaks, gateway: &Gateway, message: &Message) -> Answer {
    match speaks {
        Speaks::H1 => ask_h1(gateway, message),
        Speaks::H2 => ask_h2(gateway, message),
    }
}

pub fn ask_h1(gateway: &Gateway, message: &Message) -> Answer {
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

pub fn ask_h2(gateway: &Gateway, message: &Message) -> Answer {
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
pub fn front(speaks: Speaks, back: &Back, more: &str) -> Gateway {
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

/// A behaviour: asks, and looks at what came of it, on both sides.
pub type Behaves = fn(&dyn Fn(&Message) -> Answer, &Back);

/// Runs a behaviour over the four.
pub fn over_all(act: fn(&Message) -> Act, more: &str, behaves: Behaves) {
    for (inner, outer) in COMBINATIONS {
        eprintln!("{inner:?} in, {outer:?} out");
        let back = Back::start(outer, act);
        let gateway = front(outer, &back, more);
        behaves(&|message| ask(inner, &gateway, message), &back);
    }
}

pub fn ok(body: impl Into<Vec<u8>>) -> Act {
    Act::Answer(200, Message::default().body(body, true))
}

/// Two endpoints, the first of which fails.
pub fn failing_first(outer: Speaks, first: Act) -> (Gateway, Back, Back) {
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
