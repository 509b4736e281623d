//! Keeps one connection, for as long as it takes: resolve, connect, use, and again.

use super::dial::{self, Raw};
use super::fault::Fault;
use super::health::Connection;
use super::link::{Batch, Link, NoAnswer};
use super::resp::Value;
use super::{Outgoing, Plane, subscription};
use crate::base::seldom::PerCause;
use crate::cluster::listener::Cause;
use crate::cluster::state::Reason;
use crate::config::model::{RedisAddress, RedisKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// Longest wait before the second attempt; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// A connection that held so long is not blamed for the end of the one before.
const HELD: Duration = Duration::from_secs(10);
/// Between pings of the connection of commands: it tells first that a server does not answer any more.
const PING: Duration = Duration::from_millis(300);
/// Between pings of the other one, which has a beat each second anyway.
const SELDOM: Duration = Duration::from_secs(2);
/// How long a ping may take.
const PONG: Duration = Duration::from_millis(600);
/// Between looks at who is the master.
const LOOK: Duration = Duration::from_secs(1);
/// Announcements that go out together.
const TOGETHER: usize = 64;
/// What they are called among what a server refuses.
const ANNOUNCEMENTS: &str = "announcements";
/// How long they may take to be taken.
const TAKEN: Duration = Duration::from_millis(500);

/// Runs until the bus ends.
pub(super) async fn run(plane: Arc<Plane>, connection: Connection) {
    let mut wait = FIRST_WAIT;
    // Also where the connection is made and lost again and again.
    let mut told = PerCause::default();
    let mut ending = plane.ending.subscribe();
    loop {
        let began = Instant::now();
        let fault = tokio::select! {
            fault = hold(&plane, connection) => fault,
            _ = ending.wait_for(|ending| *ending) => return,
        };
        match connection {
            Connection::Commands => plane.commands.store(None),
            Connection::Heartbeat => plane.heartbeat.store(None),
            Connection::Subscription => {}
        }
        if told.is_news(fault.reason, std::time::Instant::now()) {
            tracing::info!(connection = connection.name(), reason = fault.reason.name(), detail = %fault.detail, "a connection to the Redis of the cluster failed");
        }
        plane.shared.counters.reconnect(fault.reason);
        plane.down(connection, &fault);
        if began.elapsed() > HELD {
            wait = FIRST_WAIT;
        }
        // The whole of it is random, so that gateways that lost one server do not come back together.
        tokio::select! {
            () = sleep(wait.mul_f64(fastrand::f64())) => {}
            _ = ending.wait_for(|ending| *ending) => return,
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// One connection from its beginning to its end.
async fn hold(plane: &Arc<Plane>, connection: Connection) -> Fault {
    let mut moved = plane.moved.subscribe();
    moved.mark_unchanged();
    let (raw, address) = match open(plane, connection).await {
        Ok(opened) => opened,
        Err(fault) => return fault,
    };
    let using = async {
        match connection {
            Connection::Commands => commands(plane, raw, &address).await,
            Connection::Heartbeat => heartbeat(plane, raw, &address).await,
            Connection::Subscription => subscription::run(plane, raw, &address).await,
        }
    };
    tokio::select! {
        fault = using => fault,
        _ = moved.changed() => Fault::new(Reason::Moved, format!("{address} is not the one to talk to")),
    }
}

async fn open(plane: &Plane, connection: Connection) -> Result<(Raw, RedisAddress), Fault> {
    let access = plane.access.load_full();
    let address = plane.resolver.resolve(&access).await?;
    let name = format!(
        "tidegate-{}-{}",
        connection.name(),
        plane.shared.known_as.load().configured()
    );
    match dial::to_master(&access, &address, &name).await {
        Ok(raw) => Ok((raw, address)),
        Err(fault) => {
            if access.url.kind == RedisKind::Single {
                plane.resolver.pass_over(&address);
            }
            Err(fault)
        }
    }
}

async fn commands(plane: &Arc<Plane>, raw: Raw, address: &RedisAddress) -> Fault {
    let link = Arc::new(Link::over(raw.stream, raw.read));
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked = Instant::now();
    let mut first = true;
    loop {
        tokio::select! {
            _ = pings.tick() => {}
            fault = link.ended() => return fault,
        }
        match ping(&link).await {
            Ok(rtt) => {
                plane.shared.counters.answered(rtt);
                plane.health.answered(rtt);
            }
            Err(fault) => return fault,
        }
        if first {
            first = false;
            plane.commands.store(Some(Arc::clone(&link)));
            plane.up(Connection::Commands, &address.to_string());
            plane.shared.ears.reset(Cause::Reconnected);
        }
        plane.tell();
        let access = plane.access.load_full();
        let may_move = access.url.kind != RedisKind::Single;
        if may_move && looked.elapsed() > LOOK {
            looked = Instant::now();
            // A master that came back from a pause does not know that another took its place.
            if let Ok(Ok(now)) = timeout(PONG, plane.resolver.resolve(&access)).await
                && now != *address
            {
                plane.move_on();
            }
        }
    }
}

async fn heartbeat(plane: &Arc<Plane>, raw: Raw, address: &RedisAddress) -> Fault {
    let link = Arc::new(Link::over(raw.stream, raw.read));
    let mut pings = interval(SELDOM);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first = true;
    loop {
        tokio::select! {
            _ = pings.tick() => {}
            fault = link.ended() => return fault,
        }
        if let Err(fault) = ping(&link).await {
            return fault;
        }
        if first {
            first = false;
            plane.heartbeat.store(Some(Arc::clone(&link)));
            plane.up(Connection::Heartbeat, &address.to_string());
        }
    }
}

async fn ping(link: &Link) -> Result<Duration, Fault> {
    let asked = Instant::now();
    match link.call(&[b"PING"], PONG).await {
        Ok(Value::Error(text)) => Err(Fault::said(&text)),
        Ok(_) => Ok(asked.elapsed()),
        // It has more to do than it can: the ones before are late first.
        Err(NoAnswer::Busy) => Ok(asked.elapsed()),
        Err(NoAnswer::Ended(fault)) => Err(fault),
    }
}

/// Sends what was announced, as fast as the connection takes it.
pub(super) async fn send(plane: Arc<Plane>, mut queue: mpsc::Receiver<Outgoing>) {
    let mut waiting = Vec::with_capacity(TOGETHER);
    while queue.recv_many(&mut waiting, TOGETHER).await > 0 {
        let Some(link) = plane.commands.load_full() else {
            plane.shared.counters.announce_drops.add(waiting.len() as u64);
            waiting.clear();
            continue;
        };
        let mut batch = Batch::default();
        for outgoing in waiting.drain(..) {
            batch.add(&[b"PUBLISH", outgoing.channel.as_bytes(), &outgoing.bytes]);
        }
        if batch.is_empty() {
            continue;
        }
        match link.batch(batch, TAKEN).await {
            Ok(values) => {
                let mut refused = None;
                for value in values {
                    if let Value::Error(text) = value {
                        plane.shared.counters.announce_drops.inc();
                        refused = Some(Fault::said(&text));
                    }
                }
                match refused {
                    Some(fault) => plane.refused(ANNOUNCEMENTS, &fault),
                    None => plane.done(ANNOUNCEMENTS),
                }
            }
            Err(_) => plane.shared.counters.announce_drops.inc(),
        }
    }
}
