//! One probe: a connection, a question, an answer held to the configuration. Everything that an endpoint may send
//! is bounded, and one deadline stands over all of it.

use super::grpc;
use super::http2::{self, Answered, Asked};
use super::line::Kept;
use super::websocket::{self, Key};
use crate::base::clock::Millis;
use crate::config::model::HealthKind;
use crate::h1::body::{BodyDecoder, ChunkLimits, Step};
use crate::h1::parse::{HeadLimits, Parsed, parse_response};
use crate::message::framing::{self, BodyKind};
use crate::message::head::{HeadBuf, Method, ResponseHead};
use crate::net::scratch::FIRST_READ;
use crate::net::wire::Wire;
use crate::tls::client_fault::{self, TlsFault};
use crate::upstream::conn::h2::handshake;
use crate::upstream::conn::{BeginError, Caller, Conn, Dial, Target};
use crate::upstream::shared::EndpointPlan;
use crate::upstream::shared::check::CheckPlan;
use crate::upstream::shared::health::{Failure, Probe};
use bytes::Bytes;
use http::Request;
use rustls::pki_types::ServerName;
use std::future::poll_fn;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Largest body of an answer; a larger one is a failure, told at once where it is announced.
pub(super) const MAX_BODY: u64 = 1 << 20;
/// Bounds of an answer's head.
const HEAD: HeadLimits = HeadLimits {
    head_bytes: 32 * 1024,
    fields: 256,
    target_bytes: 0,
};
/// Interim answers before the one that counts.
const MOST_INTERIM: u32 = 8;

/// What is asked of one endpoint, made once.
#[derive(Debug)]
pub(super) struct Question {
    pub plan: Arc<CheckPlan>,
    /// How connections begin, as those of requests do.
    dial: Arc<Dial>,
    server_name: Option<ServerName<'static>>,
    /// The request in HTTP/1.1; a WebSocket handshake gets a key of its own each time.
    head: Vec<u8>,
    /// Its host, where the configuration does not say.
    authority: Arc<str>,
}

/// What came of a probe.
pub(super) struct Probed {
    pub probe: Probe,
    /// A connection that the endpoint keeps open.
    pub line: Option<Kept>,
}

/// An answer that passed.
#[derive(Debug)]
struct Passed {
    status: Option<u16>,
    line: Option<Kept>,
}

/// One that did not, with its status where it had one.
#[derive(Debug)]
struct Failed {
    status: Option<u16>,
    why: Failure,
}

impl From<Failure> for Failed {
    fn from(why: Failure) -> Self {
        Self { status: None, why }
    }
}

impl Question {
    pub fn new(plan: Arc<CheckPlan>, dial: Arc<Dial>, endpoint: &EndpointPlan) -> Self {
        let head = match plan.check.kind {
            HealthKind::Http | HealthKind::Websocket => request(&plan, &endpoint.authority),
            HealthKind::Tcp | HealthKind::Grpc => Vec::new(),
        };
        Self {
            plan,
            dial,
            server_name: endpoint.server_name.clone(),
            head,
            authority: endpoint.authority.clone(),
        }
    }

    /// Asks at all of an endpoint's addresses at once; it is well if one of them is.
    pub async fn ask(&self, targets: &[Target]) -> Probed {
        let (began, start) = (Millis::now(), Instant::now());
        let asked: Vec<_> = targets
            .iter()
            .map(|target| Box::pin(self.ask_at(target)))
            .collect();
        let answer = match futures_util::future::select_ok(asked).await {
            Ok((passed, _others_are_dropped)) => Ok(passed),
            Err(failed) => Err(failed),
        };
        let took = start.elapsed();
        let probe = |status, outcome| Probe {
            began,
            took,
            status,
            outcome,
        };
        match answer {
            Ok(Passed { status, line }) => Probed {
                probe: probe(status, Ok(())),
                line,
            },
            Err(Failed { status, why }) => Probed {
                probe: probe(status, Err(why)),
                line: None,
            },
        }
    }

    async fn ask_at(&self, target: &Target) -> Result<Passed, Failed> {
        let within = self.plan.check.timeout;
        let deadline = Instant::now() + within;
        let target = self.at_port(target);
        let mut conn = self.open(&target, &self.dial, deadline).await?;
        if self.plan.check.kind == HealthKind::Websocket && conn.speaks_http2().map_err(unready)? {
            let mut asked = self.begin_http2(conn, deadline).await?;
            match &self.dial.apart {
                // As requests are, where the endpoint does not offer it over HTTP/2.
                Some(apart) if !asked.takes_extended_connect() => {
                    conn = self.open(&target, apart, deadline).await?;
                }
                _ => {
                    let status = self.websocket_http2(&mut asked, deadline).await?;
                    return Ok(Passed {
                        status: Some(status),
                        line: Some(Kept::Http2(Box::new(asked))),
                    });
                }
            }
        }
        let answered = match self.plan.check.kind {
            HealthKind::Tcp => {
                return Ok(Passed {
                    status: None,
                    line: None,
                });
            }
            HealthKind::Http if conn.speaks_http2().map_err(unready)? => {
                return self.http2(conn, deadline).await;
            }
            HealthKind::Grpc => return self.grpc(conn, deadline).await,
            HealthKind::Http => timeout_at(deadline, self.http(&mut conn)).await,
            HealthKind::Websocket => timeout_at(deadline, self.websocket(&mut conn)).await,
        };
        match answered {
            Ok(Ok((status, kept))) => Ok(Passed {
                status: Some(status),
                line: kept.then_some(Kept::Http1(Box::new(conn))),
            }),
            Ok(Err(failed)) => Err(failed),
            Err(_) => Err(late(within, &conn.wire).into()),
        }
    }

    /// A connection, ready for a question.
    async fn open(&self, target: &Target, dial: &Arc<Dial>, deadline: Instant) -> Result<Conn, Failed> {
        let opened = timeout_at(deadline, Conn::open(target, dial)).await;
        let conn = opened
            .map_err(|_| Failure::ConnectTimeout(self.plan.check.timeout))?
            .map_err(|error| Failure::Connect(reason(&error)))?;
        let begun = timeout_at(deadline, conn.begin(Caller::Gateway, self.server_name.as_ref())).await;
        let conn = begun.map_err(|_| self.late_to_begin())?.map_err(unready)?;
        Ok(conn)
    }

    /// The deadline passed between the connection and the question.
    fn late_to_begin(&self) -> Failure {
        match self.dial.tls {
            Some(_) => no_tls(TlsFault::Timeout),
            None => Failure::ConnectTimeout(self.plan.check.timeout),
        }
    }

    fn at_port(&self, target: &Target) -> Target {
        match (target, self.plan.check.port) {
            (Target::Tcp(address), Some(port)) => {
                let mut address = *address;
                address.set_port(port);
                Target::Tcp(address)
            }
            (target, _) => target.clone(),
        }
    }

    /// Status of the answer, and whether the connection lives on.
    async fn http(&self, conn: &mut Conn) -> Result<(u16, bool), Failed> {
        send(&mut conn.wire, &self.head).await?;
        let head = response_head(&mut conn.wire).await?;
        let status = head.status;
        let failed = |why| Failed {
            status: Some(status),
            why,
        };
        self.accept(status).map_err(failed)?;
        let method = Method::recognise(self.plan.check.method.as_bytes());
        let kind = framing::response_body(&head, method)
            .map_err(|reject| failed(Failure::Malformed(reject.detail)))?;
        let body = body(&mut conn.wire, kind, self.plan.body.is_some())
            .await
            .map_err(failed)?;
        if self
            .plan
            .body
            .as_ref()
            .is_some_and(|wanted| !wanted.is_met_by(&body))
        {
            return Err(failed(Failure::Body));
        }
        let kept = kind != BodyKind::UntilClose
            && status != 101
            && framing::persistent(head.version, &head.buf)
            && conn.is_usable();
        Ok((status, kept))
    }

    fn accept(&self, status: u16) -> Result<(), Failure> {
        let accepted = &self.plan.check.status;
        if accepted.contains(status) {
            return Ok(());
        }
        Err(Failure::Status {
            found: status,
            accepted: accepted.to_string(),
        })
    }

    /// The same over HTTP/2.
    async fn http2(&self, conn: Conn, deadline: Instant) -> Result<Passed, Failed> {
        let request = http2::request(&self.plan.check, &self.authority, self.dial.tls.is_some())?;
        let wanted = self.plan.body.as_ref();
        let (asked, answered) = self.ask_http2(conn, request, wanted.is_some(), deadline).await?;
        let failed = |why| Failed {
            status: Some(answered.status),
            why,
        };
        self.accept(answered.status).map_err(failed)?;
        let body = answered.body.map_err(failed)?;
        if wanted.is_some_and(|wanted| !wanted.is_met_by(&body)) {
            return Err(failed(Failure::Body));
        }
        Ok(Passed {
            status: Some(answered.status),
            line: Some(Kept::Http2(Box::new(asked))),
        })
    }

    /// What the health service of gRPC says.
    async fn grpc(&self, conn: Conn, deadline: Instant) -> Result<Passed, Failed> {
        conn.speaks_http2().map_err(unready)?;
        let check = &self.plan.check;
        let left = deadline.saturating_duration_since(Instant::now());
        let request = grpc::request(check, &self.authority, self.dial.tls.is_some(), left)?;
        let (asked, answered) = self.ask_http2(conn, request, true, deadline).await?;
        let status = answered.status;
        grpc::judge(&check.service, answered).map_err(|why| Failed {
            status: Some(status),
            why,
        })?;
        Ok(Passed {
            status: Some(status),
            line: Some(Kept::Http2(Box::new(asked))),
        })
    }

    async fn ask_http2(
        &self,
        conn: Conn,
        request: Request<Bytes>,
        wanted: bool,
        deadline: Instant,
    ) -> Result<(Asked, Answered), Failed> {
        let mut asked = self.begin_http2(conn, deadline).await?;
        let answered = timeout_at(deadline, asked.ask(request, wanted)).await;
        let answered = answered.map_err(|_| self.late(asked.bytes_read()))??;
        Ok((asked, answered))
    }

    async fn begin_http2(&self, conn: Conn, deadline: Instant) -> Result<Asked, Failed> {
        let begun = timeout_at(deadline, handshake(conn.wire.transport, &self.dial.http2)).await;
        Ok(Asked::over(begun.map_err(|_| self.late(0))?.map_err(unready)?))
    }

    fn late(&self, bytes: u64) -> Failure {
        let within = self.plan.check.timeout;
        Failure::Timeout { within, bytes }
    }

    /// The same as [`Self::websocket`], by an extended CONNECT (RFC 8441). Its status.
    async fn websocket_http2(&self, asked: &mut Asked, deadline: Instant) -> Result<u16, Failed> {
        if !asked.takes_extended_connect() {
            return Err(Failure::Handshake("it does not offer extended CONNECT (RFC 8441)").into());
        }
        let request = http2::request(&self.plan.check, &self.authority, self.dial.tls.is_some())?;
        let opened = timeout_at(deadline, asked.open_websocket(request.map(drop))).await;
        let status = opened.map_err(|_| self.late(0))??;
        if (200..300).contains(&status) {
            return Ok(status);
        }
        Err(Failed {
            status: Some(status),
            why: Failure::Status {
                found: status,
                accepted: "200".to_owned(),
            },
        })
    }

    /// A session that was let in is closed at once: nobody keeps a user that never speaks.
    async fn websocket(&self, conn: &mut Conn) -> Result<(u16, bool), Failed> {
        let key = Key::random();
        send(&mut conn.wire, &[self.head.as_slice(), &key.fields()].concat()).await?;
        let head = response_head(&mut conn.wire).await?;
        let failed = |why| Failed {
            status: Some(head.status),
            why,
        };
        if head.status != 101 {
            return Err(failed(Failure::Status {
                found: head.status,
                accepted: "101".to_owned(),
            }));
        }
        key.check(&head.buf)
            .map_err(|what| failed(Failure::Handshake(what)))?;
        // It was let in; whether it hears the goodbye does not matter.
        let _said = send(&mut conn.wire, &websocket::close_frame()).await;
        Ok((head.status, false))
    }
}

/// The request as far as it is the same each time. Ends with an empty line but for a handshake, whose key follows.
fn request(plan: &CheckPlan, authority: &str) -> Vec<u8> {
    let check = &plan.check;
    let websocket = check.kind == HealthKind::Websocket;
    let method = if websocket { "GET" } else { &check.method };
    let host = check.host.as_deref().unwrap_or(authority);
    let mut text = format!("{method} {} HTTP/1.1\r\nHost: {host}\r\n", check.path);
    let given = |name: &str| check.headers.keys().any(|given| given.eq_ignore_ascii_case(name));
    for (name, value) in [("User-Agent", "tidegate-health"), ("Accept", "*/*")] {
        if !given(name) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    for (name, value) in &check.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if websocket {
        return text.into_bytes();
    }
    if matches!(method, "POST" | "PUT" | "PATCH") {
        text.push_str("Content-Length: 0\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

async fn send(wire: &mut Wire, bytes: &[u8]) -> Result<(), Failure> {
    let mut first = true;
    poll_fn(|cx| {
        if std::mem::take(&mut first)
            && let Err(error) = wire.send(cx, &[bytes])
        {
            return Poll::Ready(Err(error));
        }
        wire.poll_flush(cx)
    })
    .await
    .map_err(|error| broken(&error))
}

/// The final head; interim ones are passed over.
async fn response_head(wire: &mut Wire) -> Result<ResponseHead, Failure> {
    for _ in 0..=MOST_INTERIM {
        let mut buf = Box::<HeadBuf>::default();
        let mut scanned = 0;
        let mut parse = |bytes: &[u8]| match parse_response(bytes, &HEAD, &mut scanned, &mut buf) {
            Parsed::Complete { head, len } => (len, ControlFlow::Break(Ok(head))),
            Parsed::Partial => (0, ControlFlow::Continue(())),
            Parsed::Reject(reject) => (0, ControlFlow::Break(Err(Failure::Malformed(reject.detail)))),
        };
        let line = read(wire, &mut parse).await??;
        if line.status >= 200 || line.status == 101 {
            let head = line.with(buf);
            framing::check_response(&head).map_err(|reject| Failure::Malformed(reject.detail))?;
            return Ok(head);
        }
    }
    Err(Failure::Malformed("too many interim answers"))
}

/// Reads a body to its end. It is given back if it is wanted.
async fn body(wire: &mut Wire, kind: BodyKind, wanted: bool) -> Result<Vec<u8>, Failure> {
    let mut decoder = BodyDecoder::new(kind, ChunkLimits::response(&HEAD));
    let mut kept = Vec::new();
    let mut ended = decoder.is_end();
    while !ended {
        let taken = read(wire, &mut |bytes: &[u8]| {
            let mut used = 0;
            loop {
                match decoder.step(&bytes[used..]) {
                    Ok(Step::Data { data, consumed }) => {
                        if decoder.announced() > MAX_BODY {
                            return (used, ControlFlow::Break(Err(Failure::TooLarge(MAX_BODY))));
                        }
                        if wanted {
                            kept.extend_from_slice(&bytes[used + data.start..used + data.end]);
                        }
                        used += consumed;
                    }
                    Ok(Step::Framing { consumed } | Step::Trailers { consumed, .. }) => used += consumed,
                    Ok(Step::End) => return (used, ControlFlow::Break(Ok(true))),
                    Ok(Step::NeedMore) if decoder.is_end() => return (used, ControlFlow::Break(Ok(true))),
                    Ok(Step::NeedMore) => return (used, ControlFlow::Break(Ok(false))),
                    Err(reject) => {
                        return (used, ControlFlow::Break(Err(Failure::Malformed(reject.detail))));
                    }
                }
            }
        })
        .await;
        ended = match taken {
            Ok(taken) => taken?,
            // The end of the stream is that of the body, or comes too early.
            Err(Failure::Closed) => decoder.at_eof().map(|()| true).map_err(|_| Failure::Closed)?,
            Err(other) => return Err(other),
        };
    }
    Ok(kept)
}

/// Hands out what has arrived, then what arrives, until it is enough.
async fn read<T>(
    wire: &mut Wire,
    take: &mut impl FnMut(&[u8]) -> (usize, ControlFlow<T>),
) -> Result<T, Failure> {
    if !wire.carried().is_empty() {
        let (used, flow) = take(wire.carried());
        wire.consume(used);
        if let ControlFlow::Break(done) = flow {
            return Ok(done);
        }
    }
    loop {
        match poll_fn(|cx| wire.poll_more(cx, FIRST_READ, &mut *take)).await {
            Ok(Some(ControlFlow::Break(done))) => return Ok(done),
            Ok(Some(ControlFlow::Continue(()))) => {}
            Ok(None) => return Err(Failure::Closed),
            Err(error) => return Err(broken(&error)),
        }
    }
}

fn no_tls(fault: TlsFault) -> Failure {
    Failure::Tls {
        fault,
        reason: fault.text().to_owned(),
    }
}

fn unready(error: BeginError) -> Failure {
    match error {
        BeginError::Io(error) => broken(&error),
        BeginError::Tls { fault, .. } => Failure::Tls {
            fault,
            reason: error.reason(),
        },
        BeginError::NotHttp2(_) => Failure::Malformed("the endpoint does not speak HTTP/2"),
    }
}

fn late(within: Duration, wire: &Wire) -> Failure {
    Failure::Timeout {
        within,
        bytes: wire.bytes_read,
    }
}

/// A connection that breaks in the middle is one that ends too early, whichever way.
pub(super) fn broken(error: &io::Error) -> Failure {
    if let Some(fault) = client_fault::of_io(error) {
        return no_tls(fault);
    }
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            Failure::Closed
        }
        _ => Failure::Connect(reason(error)),
    }
}

/// The system's word for it, without its number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text.get(..end).unwrap_or_default().to_lowercase()
}
