//! The orderly end: readiness fails first, so that whoever sends us traffic looks elsewhere; then nobody is let
//! in any more, and what runs may finish until the deadline.

use super::gateway::{Gateway, Phase};
use super::systemd;
use crate::config::model::Drain;
use crate::telemetry::events::Severity;
use crate::upstream::shared::shed::Shed;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// How often it is looked whether connections are left.
const LOOK: Duration = Duration::from_millis(20);
/// Longest wait for threads to end once everything is cut.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// What close frames say to those who are asked to go with the gateway.
const GOING_AWAY: u16 = 1001;

/// How the end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything finished.
    Clean,
    /// So many connections were cut.
    Cut(usize),
}

/// Ends the gateway. `at_once` completes when somebody loses patience.
pub async fn drain(gateway: &Gateway, at_once: impl Future<Output = ()>) -> Ended {
    let runtime = gateway.running.load().config.runtime.clone();
    gateway.enter(Phase::Draining);
    systemd::stopping(runtime.drain_delay + runtime.drain_timeout + STOP_WAIT);
    let text = format!(
        "open: {}; waiting up to {:?}",
        counted(connections(gateway)),
        runtime.drain_timeout
    );
    gateway.journal.note(Severity::Info, "drain.started", "", text);

    tokio::select! {
        () = finish(gateway, runtime.drain_delay, runtime.drain) => {}
        () = at_once => gateway.journal.note(Severity::Warning, "drain.hurried", "", "asked again to end".to_owned()),
    }
    let left = connections(gateway);
    stop(gateway).await;
    if left == 0 {
        gateway.journal.note(
            Severity::Info,
            "drain.finished",
            "",
            "everything finished".to_owned(),
        );
        Ended::Clean
    } else {
        gateway.journal.note(
            Severity::Warning,
            "drain.cut",
            "",
            format!("cut: {}", counted(left)),
        );
        Ended::Cut(left)
    }
}

async fn finish(gateway: &Gateway, delay: Duration, rules: Drain) {
    tokio::time::sleep(delay).await;
    let deadline = Instant::now() + rules.deadline;
    close_listeners(gateway);
    // Only when the workers have taken in who had connected before does no connection mean that nobody is left.
    gateway.sockets_closed().await;
    gateway.plane().workers.drain();
    gateway.board.set_shed(Shed {
        rate: f64::from(rules.rate),
        jitter: rules.jitter,
        order: rules.order,
        began: std::time::Instant::now(),
        deadline: Some(deadline.into_std()),
        code: GOING_AWAY,
    });
    while connections(gateway) > 0 && Instant::now() < deadline {
        tokio::time::sleep(LOOK.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
}

fn close_listeners(gateway: &Gateway) {
    let plane = &mut *gateway.plane();
    let moves = plane.listeners.close();
    gateway.move_sockets(plane, moves);
}

async fn stop(gateway: &Gateway) {
    // Who is in a hurry may not have come that far.
    close_listeners(gateway);
    gateway.plane().workers.stop();
    let deadline = Instant::now() + STOP_WAIT;
    while !gateway.plane().workers.ended() && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
}

fn counted(connections: usize) -> String {
    let plural = if connections == 1 { "" } else { "s" };
    format!("{connections} connection{plural}")
}

fn connections(gateway: &Gateway) -> usize {
    gateway.plane().workers.connections()
}
