//! The demo's load: a fixed rate of small requests through the gateway, and one line that says what became of them.
//!
//! Latency counts from the moment a request was due, so a stall shows in it.

use super::app::SERVER_HEADER;
use super::console::Console;
use futures_util::future::{join_all, pending};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Connections at most; each carries about this many requests a second before another is opened.
const MAX_CONNECTIONS: u32 = 64;
const RATE_PER_CONNECTION: u32 = 50;
/// A request without an answer for this long has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests that could not be sent in time are given up after this long, or a slow second would be owed for ever.
const OWED_AT_MOST: Duration = Duration::from_secs(1);
const SAYS_EVERY: Duration = Duration::from_secs(1);
/// Where the output is no terminal each line stays, so there are fewer.
const NOTES_EVERY: Duration = Duration::from_secs(5);
/// Latencies kept for one line.
const MAX_LATENCIES: usize = 1 << 20;
/// Different servers counted; the rest is left out of the shares.
const MAX_SERVERS: usize = 16;

type Sender = SendRequest<Empty<Bytes>>;
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What happened since the last line.
#[derive(Default)]
struct Tally {
    failed: u64,
    latencies_us: Vec<u32>,
    by_server: BTreeMap<String, u64>,
}

/// Sends until it is dropped; without a rate, does nothing for as long.
pub async fn run(rate: Option<u32>, gateway: SocketAddr, console: &Console) {
    let Some(rate) = rate else { return pending().await };
    let tally = RefCell::new(Tally::default());
    let connections = rate.div_ceil(RATE_PER_CONNECTION).clamp(1, MAX_CONNECTIONS);
    let gap = Duration::from_secs(1) / rate;
    let start = Instant::now();
    let sends = (0..connections).map(|n| send(gateway, start + gap * n, gap * connections, &tally));
    let says = async {
        let every = if console.is_terminal() {
            SAYS_EVERY
        } else {
            NOTES_EVERY
        };
        loop {
            let since = Instant::now();
            sleep(every).await;
            console.status(tally.take().line(rate, since.elapsed()));
        }
    };
    tokio::join!(join_all(sends), says);
}

/// One connection's share of the rate: a request at `due`, and after every `gap`.
async fn send(gateway: SocketAddr, mut due: Instant, gap: Duration, tally: &RefCell<Tally>) {
    let mut connection = None;
    loop {
        sleep_until(due).await;
        let answered = timeout(PATIENCE, request(gateway, &mut connection)).await;
        let answered = answered.unwrap_or_else(|elapsed| Err(elapsed.into()));
        if answered.is_err() {
            // What is left on the connection is unknown.
            connection = None;
        }
        tally.borrow_mut().count(answered, due.elapsed());
        due = (due + gap).max(Instant::now() - OWED_AT_MOST);
    }
}

/// One request and its whole answer; the name of the server that answered.
async fn request(gateway: SocketAddr, connection: &mut Option<Sender>) -> Result<String, Failure> {
    let sender = match connection {
        Some(sender) if !sender.is_closed() => sender,
        _ => connection.insert(connect(gateway).await?),
    };
    sender.ready().await?;
    let request = Request::get("/whoami")
        .header(HOST, gateway.to_string())
        .body(Empty::new())?;
    let response = sender.send_request(request).await?;
    let (status, server) = (response.status(), response.headers().get(SERVER_HEADER).cloned());
    response.into_body().collect().await?;
    match server {
        Some(server) if status == StatusCode::OK => Ok(server.to_str()?.to_owned()),
        _ => Err(format!("status {status}").into()),
    }
}

async fn connect(gateway: SocketAddr) -> Result<Sender, Failure> {
    let stream = TcpStream::connect(gateway).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    crate::base::task::spawn(async move {
        // Its error reaches the request that was under way.
        drop(connection.await);
    });
    Ok(sender)
}

impl Tally {
    fn count(&mut self, answered: Result<String, Failure>, latency: Duration) {
        let Ok(server) = answered else {
            self.failed += 1;
            return;
        };
        if self.latencies_us.len() < MAX_LATENCIES {
            self.latencies_us
                .push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        }
        if self.by_server.len() < MAX_SERVERS || self.by_server.contains_key(&server) {
            *self.by_server.entry(server).or_default() += 1;
        }
    }

    fn line(mut self, rate: u32, over: Duration) -> String {
        self.latencies_us.sort_unstable();
        let answered = self.latencies_us.len();
        let per_second = answered as f64 / over.as_secs_f64();
        let quantile = |percent: usize| {
            let at = (answered * percent / 100).min(answered.saturating_sub(1));
            self.latencies_us
                .get(at)
                .map_or(0.0, |us| f64::from(*us) / 1000.0)
        };
        let (p50, p99, failed) = (quantile(50), quantile(99), self.failed);
        let mut line = format!(
            "load {rate}/s: {per_second:.0}/s answered, {failed} failed, p50 {p50:.1} ms, p99 {p99:.1} ms"
        );
        for (server, count) in &self.by_server {
            let share = 100.0 * *count as f64 / answered.max(1) as f64;
            line.push_str(&format!(", {server} {share:.0} %"));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_rate_failures_quantiles_and_shares() {
        let mut tally = Tally::default();
        for ms in 1..=100u64 {
            let server = if ms <= 75 { "app-1" } else { "app-2" };
            tally.count(Ok(server.to_owned()), Duration::from_millis(ms));
        }
        tally.count(Err("down".into()), Duration::ZERO);
        let line = tally.line(50, Duration::from_secs(2));
        let expected =
            "load 50/s: 50/s answered, 1 failed, p50 51.0 ms, p99 100.0 ms, app-1 75 %, app-2 25 %";
        assert_eq!(line, expected);
    }

    #[test]
    fn a_second_without_answers_has_a_line_too() {
        let line = Tally::default().line(10, Duration::from_secs(1));
        assert_eq!(line, "load 10/s: 0/s answered, 0 failed, p50 0.0 ms, p99 0.0 ms");
    }

    #[tokio::test]
    async fn the_rate_is_kept_and_the_servers_are_told_apart() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = super::super::app::router(std::sync::Arc::new(super::super::app::AppState::new("app-9")));
        let tally = RefCell::new(Tally::default());
        let enough = async {
            while tally.borrow().latencies_us.len() < 20 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let sends = send(address, Instant::now(), Duration::from_millis(5), &tally);
        tokio::select! {
            () = sends => {}
            served = axum::serve(listener, app) => served.unwrap(),
            () = enough => {}
        }
        let tally = tally.take();
        assert_eq!(
            (tally.failed, tally.by_server.keys().cloned().collect()),
            (0, vec!["app-9".to_owned()])
        );
    }
}
