//! How many handshakes a worker has in progress: each costs it time that requests wait for.

use crate::proxy::worker::Worker;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Handshakes in progress on a worker, and those that wait for their turn.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Handshakes {
    running: Cell<i64>,
    turns: RefCell<Option<(usize, Arc<Semaphore>)>>,
}

impl Handshakes {
    /// The turns that a limit gives; 0 gives them to all.
    fn turns(&self, limit: usize) -> Option<Arc<Semaphore>> {
        if limit == 0 {
            return None;
        }
        let mut turns = self.turns.borrow_mut();
        match &*turns {
            Some((of, semaphore)) if *of == limit => Some(semaphore.clone()),
            // A reload changed it. Those that run under the old limit end under it.
            _ => {
                let semaphore = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
                *turns = Some((limit, semaphore.clone()));
                Some(semaphore)
            }
        }
    }
}

/// A handshake that has its turn, until dropped.
pub(super) struct Running {
    worker: Rc<Worker>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Running {
    pub(super) async fn begin(worker: &Rc<Worker>) -> Self {
        let turn = match worker.handshakes.turns(worker.view().snapshot.max_handshakes) {
            // It is never closed.
            Some(turns) => turns.acquire_owned().await.ok(),
            None => None,
        };
        let running = Self {
            worker: worker.clone(),
            _turn: turn,
        };
        running.count(1);
        running
    }

    fn count(&self, by: i64) {
        let running = &self.worker.handshakes.running;
        running.set(running.get() + by);
        self.worker
            .metrics
            .worker
            .tls_handshakes_running
            .set(running.get());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.count(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_limit_makes_new_turns() {
        let handshakes = Handshakes::default();
        assert!(handshakes.turns(0).is_none());
        let two = handshakes.turns(2).unwrap();
        let _one = two.try_acquire_owned().unwrap();
        assert_eq!(handshakes.turns(2).unwrap().available_permits(), 1);
        assert_eq!(handshakes.turns(5).unwrap().available_permits(), 5);
    }
}
