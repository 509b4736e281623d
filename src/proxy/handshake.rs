//! From an accepted connection of a TLS listener to one that carries requests, or is passed on unopened, or to its
//! end with a reason.

mod turns;

pub(super) use self::turns::Handshakes;
use self::turns::Running;
use super::ends::Ends;
use super::secured::Secured;
use super::view::ListenerView;
use super::worker::Worker;
use crate::net::alarm::Alarm;
use crate::net::scratch::{self, FIRST_READ};
use crate::net::secure::{HandshakeError, Secure};
use crate::net::transport::Transport;
use crate::snapshot::ListenerPlan;
use crate::telemetry::log::Every;
use crate::telemetry::metrics::{Handshake, TlsFailure};
use crate::tls::hello::{self, Greeting, Hello, NoHello};
use crate::tls::server::ServerTls;
use rustls::{Error, PeerIncompatible, ServerConfig};
use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// How long a handshake may still take while the gateway drains.
const DRAIN_GRACE: Duration = Duration::from_secs(1);
/// Longest wait for who spoke plain HTTP to take the answer, and the most bytes of it that are thrown away.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;
/// A fatal alert in the clear (RFC 8446 section 6): the name is not known here.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
/// As above: what came could not be decoded.
const DECODE_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];
/// As above: what went wrong is not the client's fault.
pub(super) const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
/// Failures are the everyday of a public port: one line of a kind in so much time, with a count of the others.
const COMPLAINTS: Duration = Duration::from_secs(1);
static COMPLAINT: [Every; TlsFailure::ALL.len()] = [const { Every::new(COMPLAINTS) }; TlsFailure::ALL.len()];

const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
Content-Length: 73\r\nConnection: close\r\nX-Tidegate-Error: bad_request\r\n\r\n\
This port speaks HTTPS, and the request came as plain HTTP: use https://\n";

/// Why there is no session, with what is told of it.
struct Failure {
    kind: TlsFailure,
    detail: Box<dyn fmt::Display>,
}

impl Failure {
    fn new(kind: TlsFailure, detail: &'static str) -> Self {
        Self {
            kind,
            detail: Box::new(detail),
        }
    }
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Self {
        let kind = match &error {
            HandshakeError::Closed => TlsFailure::Closed,
            HandshakeError::Io(_) => TlsFailure::Closed,
            HandshakeError::Tls(error) => kind_of(error),
        };
        Self {
            kind,
            detail: Box::new(error),
        }
    }
}

fn kind_of(error: &Error) -> TlsFailure {
    match error {
        Error::NoCertificatesPresented | Error::InvalidCertificate(_) => TlsFailure::ClientCertificate,
        Error::InvalidCertRevocationList(_) => TlsFailure::ClientCertificate,
        Error::NoApplicationProtocol => TlsFailure::Alpn,
        Error::AlertReceived(_) => TlsFailure::Alert,
        Error::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon) => {
            TlsFailure::ClientCertificate
        }
        Error::PeerIncompatible(_) => TlsFailure::Incompatible,
        // How rustls says that the resolver had none.
        Error::General(_) => TlsFailure::NoCertificate,
        _ => TlsFailure::Protocol,
    }
}

/// What a connection is once its ClientHello was read, and answered where that is ours to do.
pub(super) enum Greeted {
    /// A session.
    Session(Transport, Rc<Secured>),
    /// An endpoint's to answer.
    Unopened(Unopened),
}

/// A connection that goes on with its TLS unopened.
pub(super) struct Unopened {
    pub transport: Transport,
    /// The name that the client asks for.
    pub name: String,
    /// Index in the listener's `passthrough`.
    pub rule: usize,
    /// All that was read: the ClientHello, and what may have come with it.
    pub hello: Vec<u8>,
    /// When it began to be waited for.
    pub started: Instant,
}

/// Does it. `None`: the connection is over, counted and told.
pub(super) async fn run(
    worker: &Rc<Worker>,
    listener: &ListenerView,
    transport: Transport,
    ends: &Ends,
) -> Option<Greeted> {
    let started = Instant::now();
    let asked = RefCell::new(None);
    let result = {
        let mut work = std::pin::pin!(shake(worker, &listener.plan, transport, ends.server, &asked));
        let mut alarm = Alarm::default();
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            let limit = listener.plan.limits.handshake_timeout;
            let limit = if worker.draining.get() {
                limit.min(DRAIN_GRACE)
            } else {
                limit
            };
            if alarm.passed(cx, started + limit) {
                let detail = match &*asked.borrow() {
                    None => "no whole ClientHello came within limits.handshake_timeout",
                    Some(_) => "the handshake did not end within limits.handshake_timeout",
                };
                return Poll::Ready(Err(Failure::new(TlsFailure::Timeout, detail)));
            }
            Poll::Pending
        })
        .await
    };
    let series = &listener.series;
    match result {
        Ok(Greeted::Unopened(unopened)) => Some(Greeted::Unopened(unopened)),
        Ok(Greeted::Session(transport, secured)) => {
            series
                .tls_handshakes
                .inc(Handshake::of(secured.protocol == "TLSv1.3", secured.resumed));
            series.tls_handshake_seconds.record(started.elapsed());
            Some(Greeted::Session(transport, secured))
        }
        Err(failure) => {
            series.tls_failures.inc(failure.kind);
            complain(listener, ends.client, &asked.borrow(), &failure);
            None
        }
    }
}

fn complain(listener: &ListenerView, peer: Option<SocketAddr>, asked: &Option<Hello>, failure: &Failure) {
    let Some(others) = COMPLAINT[failure.kind as usize].pass() else {
        return;
    };
    let client = peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string());
    let name = asked.as_ref().and_then(|hello| hello.server_name.as_deref());
    let (listener, reason, detail) = (&*listener.plan.name, failure.kind.name(), &failure.detail);
    if failure.kind == TlsFailure::Challenge {
        tracing::info!(listener, client, server_name = name, "{detail}{others}");
        return;
    }
    tracing::info!(
        listener,
        client,
        server_name = name,
        reason,
        "TLS handshake failed: {detail}{others}"
    );
}

/// The handshake itself, however long it takes; `asked` is what the client asked for, once it has.
async fn shake(
    worker: &Rc<Worker>,
    plan: &ListenerPlan,
    mut transport: Transport,
    server: Option<SocketAddr>,
    asked: &RefCell<Option<Hello>>,
) -> Result<Greeted, Failure> {
    let started = Instant::now();
    let mut seen = Vec::new();
    let hello = match poll_fn(|cx| poll_hello(cx, &mut transport, &mut seen)).await? {
        Ok(hello) => hello,
        Err(NoHello::PlainHttp) => {
            answer_plain_http(&mut transport).await;
            return Err(Failure::new(
                TlsFailure::PlainHttp,
                "plain HTTP on a port for HTTPS",
            ));
        }
        Err(NoHello::NotTls) => {
            return Err(Failure::new(TlsFailure::NotTls, "what came is no TLS"));
        }
        Err(NoHello::Malformed) => {
            alert(&mut transport, &DECODE_ERROR).await;
            return Err(Failure::new(TlsFailure::Protocol, "the ClientHello is malformed"));
        }
        Err(NoHello::TooLarge) => {
            alert(&mut transport, &DECODE_ERROR).await;
            return Err(Failure::new(
                TlsFailure::TooLarge,
                "the ClientHello is larger than 16 KiB",
            ));
        }
    };
    let name = hello.server_name.as_deref();
    if let Some((name, rule)) = name.and_then(|name| Some((name, plan.passthrough.find(name)?))) {
        return Ok(Greeted::Unopened(Unopened {
            transport,
            name: name.to_owned(),
            rule,
            hello: seen,
            started,
        }));
    }
    if let Some(config) = plan.tls.as_ref().and_then(|tls| tls.challenge(&hello)) {
        *asked.borrow_mut() = Some(hello);
        return answer_authority(worker, transport, config, seen).await;
    }
    let local = server.map(|address| address.ip());
    let tls = plan.tls.as_ref();
    let answer = tls.and_then(|tls| Some((tls, tls.answer(&hello, local)?)));
    *asked.borrow_mut() = Some(hello);
    let Some((tls, answer)) = answer else {
        alert(&mut transport, &UNRECOGNIZED_NAME).await;
        let detail = asked
            .borrow()
            .as_ref()
            .map_or("", |hello| unanswered(tls.map(AsRef::as_ref), hello));
        return Err(Failure::new(TlsFailure::UnknownName, detail));
    };
    let running = Running::begin(worker).await;
    let mut secure = Secure::accept(transport, answer.config, seen).map_err(HandshakeError::Tls)?;
    poll_fn(|cx| secure.poll_handshake(cx)).await?;
    drop(running);
    let secured = Secured::new(secure.session(), answer.served, tls.asks_clients());
    let transport = Transport::Tls(Box::new(secure));
    Ok(Greeted::Session(transport, Rc::new(secured)))
}

/// Why nobody answers a client that asks for this name, or for none.
pub(super) fn unanswered(tls: Option<&ServerTls>, hello: &Hello) -> &'static str {
    match (hello.server_name.is_some(), tls) {
        (true, Some(tls)) if tls.awaits(hello) => {
            "the certificate for this name has yet to be had from its authority"
        }
        (true, Some(_)) => "no certificate is for this name",
        (false, Some(_)) => "the client asks for no name, and no certificate is for this address",
        (true, None) => "no `passthrough` is for this name",
        (false, None) => "the client asks for no name, by which its TLS would be passed on",
    }
}

/// Shows an authority that the name is ours: the handshake is all that it wants (RFC 8737 section 3).
async fn answer_authority(
    worker: &Rc<Worker>,
    transport: Transport,
    config: Arc<ServerConfig>,
    seen: Vec<u8>,
) -> Result<Greeted, Failure> {
    let _running = Running::begin(worker).await;
    let mut secure = Secure::accept(transport, config, seen).map_err(HandshakeError::Tls)?;
    poll_fn(|cx| secure.poll_handshake(cx)).await?;
    let _best_effort = poll_fn(|cx| secure.poll_shutdown(cx)).await;
    Err(Failure::new(
        TlsFailure::Challenge,
        "an authority looked whether the name is ours, and has seen it",
    ))
}

/// Reads until it is clear what the client begins with.
fn poll_hello(
    cx: &mut Context<'_>,
    transport: &mut Transport,
    seen: &mut Vec<u8>,
) -> Poll<Result<Result<Hello, NoHello>, Failure>> {
    loop {
        match hello::read(seen) {
            Greeting::Hello(hello) => return Poll::Ready(Ok(Ok(hello))),
            Greeting::Refused(why) => return Poll::Ready(Ok(Err(why))),
            Greeting::Partial => {}
        }
        let read = scratch::with_in(|buffer| {
            let read = ready!(transport.poll_read(cx, &mut buffer[..FIRST_READ]));
            if let Ok(n) = read {
                seen.extend_from_slice(&buffer[..n]);
            }
            Poll::Ready(read)
        });
        match ready!(read) {
            Ok(0) => {
                let detail = match seen.is_empty() {
                    true => "the client left without a word",
                    false => "the client left within its ClientHello",
                };
                return Poll::Ready(Err(Failure::new(TlsFailure::Closed, detail)));
            }
            Ok(_) => {}
            Err(error) => return Poll::Ready(Err(HandshakeError::Io(error).into())),
        }
    }
}

/// Tells who speaks plain HTTP so, in plain HTTP, and reads on for a moment so that the answer is not lost.
async fn answer_plain_http(transport: &mut Transport) {
    alert(transport, PLAIN_HTTP).await;
    let linger = async {
        let mut left = LINGER_BYTES;
        while left > 0 {
            let read =
                poll_fn(|cx| scratch::with_in(|buffer| transport.poll_read(cx, &mut buffer[..FIRST_READ])));
            match read.await {
                Ok(0) | Err(_) => break,
                Ok(n) => left = left.saturating_sub(n),
            }
        }
    };
    // Who takes longer had its chance.
    let _late = tokio::time::timeout(LINGER, linger).await;
}

/// Writes a few last bytes and ends our direction.
pub(super) async fn alert(transport: &mut Transport, bytes: &[u8]) {
    // The socket is fresh: it takes them at once, or the client is gone.
    let _best_effort = poll_fn(|cx| transport.poll_write(cx, bytes)).await;
    let _best_effort = poll_fn(|cx| transport.poll_shutdown(cx)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_plain_http_says_its_length() {
        let text = std::str::from_utf8(PLAIN_HTTP).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len())),
            "{}",
            body.len()
        );
    }
}
