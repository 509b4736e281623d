//! Tunnels of all workers: told, and closed.

use super::gateway::Gateway;
pub use crate::proxy::tunnel::book::{DEFAULT_CODE, Told, Which};
use crate::proxy::worker::Command;
use std::time::Duration;
use tokio::sync::oneshot::Receiver;
use tokio::time::{Instant, timeout_at};

/// Longest wait for the workers; one that has no time is left out.
const PATIENCE: Duration = Duration::from_secs(2);

/// At most `most` tunnels of those that are meant, by their numbers from `after` on.
pub async fn list(gateway: &Gateway, which: &Which, after: u64, most: usize) -> Vec<Told> {
    let asked = gateway
        .plane()
        .workers
        .ask_all(|answer| Command::Tunnels(Box::new(which.clone()), after, most, answer));
    let mut told: Vec<Told> = answers(asked).await.into_iter().flatten().collect();
    told.sort_unstable_by_key(|tunnel| tunnel.id);
    told.truncate(most);
    told
}

/// Has the tunnels that are meant go, with this code where frames are known, or only counts them.
pub async fn close(gateway: &Gateway, which: &Which, code: u16, dry_run: bool) -> usize {
    let asked = gateway.plane().workers.ask_all(|answer| Command::CloseTunnels {
        which: Box::new(which.clone()),
        code,
        dry_run,
        answer,
    });
    answers(asked).await.into_iter().sum()
}

async fn answers<T>(asked: Vec<Receiver<T>>) -> Vec<T> {
    let by = Instant::now() + PATIENCE;
    let mut answers = Vec::with_capacity(asked.len());
    for answer in asked {
        if let Ok(Ok(answer)) = timeout_at(by, answer).await {
            answers.push(answer);
        }
    }
    answers
}
