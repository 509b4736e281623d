//! Gateways that ask each other whether they live, so that they know while the store is away.
//!
//! Each asks each other one once per heartbeat at its admin listener, a connection a question. What comes of it goes to
//! the task that keeps the members, which heeds it only while the store is not heard. Being asked changes nothing here.

use crate::base::task;
use crate::cluster::counters::Count;
use crate::cluster::membership::Peer;
use crate::cluster::names::NodeId;
use crate::cluster::ping::{Answer, MAX, PATH, PingKey, Question, Unbelieved};
use crate::cluster::record::Record;
use crate::control::Gateway;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Answers that the keeper of the members may be behind; what finds no room is asked again.
pub(super) const BEHIND: usize = 64;
/// Bytes of an answer's head.
const MAX_HEAD: usize = 16 << 10;

/// How gateways ask each other.
#[derive(Debug)]
pub struct Pings {
    pub key: PingKey,
    pub counts: Counts,
}

/// What came of questions.
#[derive(Debug, Default)]
pub struct Counts {
    pub answered: Count,
    /// Nobody listens there.
    pub refused: Count,
    /// No connection, or no whole answer, in time.
    pub silent: Count,
    /// Something else answers there.
    pub garbage: Count,
    /// Not signed by our key, or an answer to another question.
    pub forged: Count,
    /// Questions of others that were answered.
    pub served: Count,
    /// Questions that were not, for nobody of ours asked them.
    pub rejected: Count,
}

impl Counts {
    /// Each with the word for it.
    pub fn all(&self) -> [(&'static str, u64); 7] {
        [
            ("answered", &self.answered),
            ("refused", &self.refused),
            ("silent", &self.silent),
            ("garbage", &self.garbage),
            ("forged", &self.forged),
            ("served", &self.served),
            ("rejected", &self.rejected),
        ]
        .map(|(name, count)| (name, count.get()))
    }
}

/// What came of asking one gateway.
#[derive(Debug)]
pub(super) enum Heard {
    /// This incarnation lives, and tells this of itself.
    Answer(NodeId, u64, Box<Record>),
    /// It did not answer; whether its host said that nobody listens there.
    Nothing(NodeId, u64, bool),
}

/// Answers another gateway's question.
///
/// # Errors
/// It is none, and nothing is answered.
pub fn answer(gateway: &Gateway, pings: &Pings, bytes: &[u8]) -> Result<Vec<u8>, Unbelieved> {
    let cluster = &gateway.cluster;
    let question = Question::decode(bytes, &pings.key, &cluster.name, &cluster.bus.node())
        .inspect_err(|_| pings.counts.rejected.inc())?;
    pings.counts.served.inc();
    let own = &cluster.view().own;
    Ok(question
        .answer(&pings.key, cluster.bus.incarnation(), own)
        .encode())
}

/// A task that ends with whoever holds this.
#[derive(Debug)]
pub(super) struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks until it is dropped, where gateways ask each other.
pub(super) fn start(gateway: &Arc<Gateway>, heard: mpsc::Sender<Heard>) -> Option<Task> {
    gateway.cluster.pings.as_ref()?;
    Some(Task(task::spawn(run(Arc::clone(gateway), heard))))
}

async fn run(gateway: Arc<Gateway>, heard: mpsc::Sender<Heard>) {
    let cluster = &gateway.cluster;
    let Some(pings) = &cluster.pings else { return };
    let mut ticks = interval(cluster.pace.heartbeat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Questions under way, one at a time to each.
    let mut asking: BTreeMap<NodeId, Task> = BTreeMap::new();
    loop {
        ticks.tick().await;
        asking.retain(|_, task| !task.0.is_finished());
        for peer in &cluster.view().peers {
            if asking.contains_key(&peer.node) {
                continue;
            }
            let own = cluster.bus.node();
            let Some(question) = Question::new(&pings.key, &cluster.name, &own, &peer.node) else {
                continue;
            };
            let asked = ask(Arc::clone(&gateway), peer.clone(), question, heard.clone());
            asking.insert(peer.node.clone(), Task(task::spawn(asked)));
        }
    }
}

async fn ask(gateway: Arc<Gateway>, peer: Peer, question: Question, heard: mpsc::Sender<Heard>) {
    let Some(pings) = &gateway.cluster.pings else {
        return;
    };
    let within = gateway.cluster.pace.gone_after / 3;
    let news = one(pings, peer, &question, within).await;
    // Should the keeper of the members be behind: it is asked again soon.
    drop(heard.try_send(news));
}

async fn one(pings: &Pings, peer: Peer, question: &Question, within: Duration) -> Heard {
    let counts = &pings.counts;
    let said = match timeout(within, exchange(peer.address, question.encode())).await {
        Ok(said) => said,
        Err(_) => Err(Silence::Silent),
    };
    let refused = matches!(said, Err(Silence::Refused));
    let (count, news) = match said {
        Ok(bytes) => match Answer::decode(&bytes, &pings.key, question) {
            // Another one by now: the one that was asked is no more.
            Ok((incarnation, _)) if incarnation != peer.incarnation => {
                let gone = Heard::Nothing(peer.node, peer.incarnation, true);
                (&counts.answered, gone)
            }
            Ok((incarnation, record)) => {
                let answer = Heard::Answer(peer.node, incarnation, Box::new(record));
                (&counts.answered, answer)
            }
            Err(Unbelieved::Forged) => (&counts.forged, nothing(peer, false)),
            Err(Unbelieved::Garbage) => (&counts.garbage, nothing(peer, false)),
        },
        Err(Silence::Refused) => (&counts.refused, nothing(peer, refused)),
        Err(Silence::Silent) => (&counts.silent, nothing(peer, refused)),
        Err(Silence::Other) => (&counts.garbage, nothing(peer, refused)),
    };
    count.inc();
    news
}

fn nothing(peer: Peer, refused: bool) -> Heard {
    Heard::Nothing(peer.node, peer.incarnation, refused)
}

/// Why there is nothing to be read.
enum Silence {
    /// Nobody listens there, says its host.
    Refused,
    Silent,
    /// Whoever is there speaks of something else.
    Other,
}

impl From<io::Error> for Silence {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            _ => Self::Silent,
        }
    }
}

/// One question over one connection.
async fn exchange(address: SocketAddr, question: Vec<u8>) -> Result<Bytes, Silence> {
    let stream = TcpStream::connect(address).await?;
    let mut builder = http1::Builder::new();
    let (mut sender, connection) = builder
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| Silence::Silent)?;
    let request = Request::post(PATH)
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(question)))
        .map_err(|_| Silence::Other)?;
    let answered = async {
        let answer = sender.send_request(request).await.map_err(|error| {
            if error.is_parse() {
                Silence::Other
            } else {
                Silence::Silent
            }
        })?;
        if answer.status() != StatusCode::OK {
            return Err(Silence::Other);
        }
        let body = Limited::new(answer.into_body(), MAX).collect().await;
        body.map(|body| body.to_bytes()).map_err(|_| Silence::Other)
    };
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        // It has ended: what came is there, or will never be.
        _ = connection => answered.await,
    }
}
