//! A new connection to an endpoint: opened within its time, while its client is watched, and what went wrong told.

use super::client::Client;
use super::context::{Attempt, RequestContext};
use super::error::{ProxyError, Side};
use super::exchange::Bounds;
use super::room;
use crate::message::head::Version;
use crate::message::token::Token;
use crate::snapshot::Timeouts;
use crate::telemetry::access::Outcome;
use crate::telemetry::log::Every;
use crate::tls::client_fault::TlsFault;
use crate::upstream::conn::{BeginError, Caller, Conn, Dial};
use crate::upstream::local::{LocalEndpoint, LocalUpstream};
use rustls::pki_types::ServerName;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A new connection to an endpoint.
pub(super) async fn reach(
    client: &mut Client,
    context: &mut RequestContext,
    timeouts: &Timeouts,
    upstream: &LocalUpstream,
    index: usize,
    dial: &Arc<Dial>,
) -> Result<Box<Conn>, ProxyError> {
    begin_attempt(context, &upstream.endpoints[index], index, false);
    open(client, context, timeouts, upstream, index, dial).await
}

/// The same for an attempt that has begun.
pub(super) async fn open(
    client: &mut Client,
    context: &mut RequestContext,
    timeouts: &Timeouts,
    upstream: &LocalUpstream,
    index: usize,
    dial: &Arc<Dial>,
) -> Result<Box<Conn>, ProxyError> {
    let endpoint = &upstream.endpoints[index];
    let behalf = client.behalf(dial);
    let dialling = Dialling {
        dial,
        caller: Caller::Client(behalf.as_ref()),
        server_name: upstream.plan.endpoints[index].server_name.as_ref(),
    };
    connect(client, context, timeouts, endpoint, dialling)
        .await
        .map_err(ProxyError::unsent)
}

pub(super) fn begin_attempt(
    context: &mut RequestContext,
    endpoint: &Rc<LocalEndpoint>,
    index: usize,
    reused: bool,
) {
    let now = if context.attempts.is_empty() {
        context.head_done
    } else {
        Instant::now()
    };
    endpoint.series.attempts.inc();
    if !context.attempts.is_empty() {
        endpoint.series.retries.inc();
    }
    context.attempts.push(Attempt {
        endpoint: endpoint.clone(),
        index,
        outcome: Outcome::Cancelled,
        reused,
        version: Version::H11,
        started: now,
        connected: reused.then_some(now),
        head: None,
        ended: None,
    });
}

/// How a connection is to begin.
struct Dialling<'a> {
    dial: &'a Arc<Dial>,
    caller: Caller<'a>,
    /// The endpoint's own name, for TLS.
    server_name: Option<&'a ServerName<'static>>,
}

/// Opens a connection within the connect timeout and the request's own deadline.
async fn connect(
    client: &mut Client,
    context: &mut RequestContext,
    timeouts: &Timeouts,
    endpoint: &LocalEndpoint,
    Dialling {
        dial,
        caller,
        server_name,
    }: Dialling<'_>,
) -> Result<Box<Conn>, ProxyError> {
    let series = &endpoint.series;
    let started = Instant::now();
    let targets = endpoint.state.targets();
    if targets.list.is_empty() {
        series.connects_failed.inc();
        return Err(ProxyError::new(Token::DnsFailed, Side::Endpoint));
    }
    let first = endpoint.state.turn(targets.list.len());
    let connect_by = Bounds::after(started, timeouts.connect);
    let late = late(connect_by, context);
    let reached = Cell::new(false);
    let mut opening = std::pin::pin!(async {
        let conn = Conn::open_any(&targets.list, first, dial).await?;
        reached.set(true);
        conn.begin(caller, server_name).await
    });
    let opened = std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(opened) = opening.as_mut().poll(cx) {
            return std::task::Poll::Ready(Ok(opened));
        }
        if let Err(gone) = room::watch_client(cx, client, context) {
            return std::task::Poll::Ready(Err(gone));
        }
        match late {
            Some((by, error)) if client.alarm.passed(cx, by) => std::task::Poll::Ready(Err(error)),
            _ => std::task::Poll::Pending,
        }
    })
    .await;
    let now = Instant::now();
    match opened {
        Ok(Ok(conn)) => {
            series.connects.inc();
            series.connect_seconds.record(now - started);
            match conn.is_resumed() {
                Some(true) => series.tls_resumed.inc(),
                Some(false) => series.tls_full.inc(),
                None => {}
            }
            if let Some(attempt) = context.attempts.last_mut() {
                attempt.connected = Some(now);
            }
            Ok(Box::new(conn))
        }
        Ok(Err(BeginError::Io(error))) => {
            series.connects_failed.inc();
            Err(ProxyError::io(Token::ConnectFailed, Side::Endpoint, &error))
        }
        Ok(Err(BeginError::NotHttp2(_))) => {
            series.connects_failed.inc();
            Err(ProxyError::new(Token::ConnectFailed, Side::Endpoint))
        }
        Ok(Err(error @ BeginError::Tls { fault, .. })) => {
            series.connects_failed.inc();
            complain(endpoint, fault, &error.reason());
            Err(ProxyError::tls(fault))
        }
        Err(gone) if gone.side == Side::Client => Err(gone),
        Err(late) => {
            series.connects_failed.inc();
            if reached.get() && dial.tls.is_some() && late.token == Token::ConnectTimeout {
                return Err(ProxyError {
                    timeout: late.timeout,
                    ..ProxyError::tls(TlsFault::Timeout)
                });
            }
            Err(late)
        }
    }
}

/// Which deadline of connecting comes first, and what it means when it passes.
pub(super) fn late(connect_by: Option<Instant>, context: &RequestContext) -> Option<(Instant, ProxyError)> {
    match (connect_by, context.deadline) {
        (Some(connect), Some(total)) if total.at < connect => Some((total.at, total.late())),
        (Some(connect), _) => Some((connect, late_connect(context))),
        (None, total) => total.map(|total| (total.at, total.late())),
    }
}

const fn late_connect(context: &RequestContext) -> ProxyError {
    let key = match context.passthrough {
        Some(_) => "listeners.passthrough.connect",
        None => "routes.timeouts.connect",
    };
    ProxyError::late(Token::ConnectTimeout, Side::Endpoint, key)
}

/// What exactly is wrong with an endpoint's TLS, in one line of so many.
pub(super) fn complain(endpoint: &LocalEndpoint, fault: TlsFault, error: &str) {
    static COMPLAINTS: Every = Every::new(Duration::from_secs(1));
    if let Some(others) = COMPLAINTS.pass() {
        let (key, reason) = (&endpoint.state.key, fault.name());
        let target = format!("{}/{}", key.upstream, key.address);
        tracing::warn!(endpoint = target, reason, "TLS failed: {error}{others}");
    }
}
