//! The worker threads: started here, watched here, replaced here.
//!
//! A thread cannot be killed. One that stopped turning keeps its connections and is left alone; its sockets
//! go, as duplicates, to a new thread in its place, so nobody who connects has to wait for it. Should it turn
//! again, it finishes what it has and ends.

use super::listeners::{Listeners, Moves};
use crate::proxy::explain::{Explanation, Question};
use crate::proxy::worker::{self, Command, ListenSocket, SocketId, WorkerContext, WorkerHandle};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

/// Silence after which a worker is called late.
pub const LATE: Duration = Duration::from_secs(1);
/// Silence after which a worker is replaced.
pub const STALLED: Duration = Duration::from_secs(10);
/// Replacements after which the process gives up: something is wrong that new threads don't cure.
pub const MAX_REPLACEMENTS: usize = 15;

/// What was seen of the workers in one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It has not turned for longer than [`LATE`].
    Late { worker: usize, silent: Duration },
    /// A late one turns again.
    Back { worker: usize },
    /// A new thread took its sockets.
    Replaced { worker: usize, why: Cause },
    /// It should be replaced and that failed; tried again at the next look.
    NotReplaced { worker: usize, error: String },
    /// Too many were replaced; the process must end.
    GiveUp,
}

/// Why a worker was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Stalled,
    /// Its thread ended by itself.
    Died,
}

/// A worker's health, from how long it has been silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pulse {
    Turning,
    Late,
    Stalled,
}

fn pulse(silent: Duration) -> Pulse {
    match silent {
        s if s > STALLED => Pulse::Stalled,
        s if s > LATE => Pulse::Late,
        _ => Pulse::Turning,
    }
}

/// How long a worker has been silent, not counting the time before `grace`: while the watcher itself slept, in a
/// suspended machine, everybody did.
fn silence(now_ms: u64, last_tick_ms: u64, grace_ms: u64) -> Duration {
    Duration::from_millis(now_ms.saturating_sub(last_tick_ms.max(grace_ms)))
}

#[derive(Debug)]
struct Slot {
    handle: WorkerHandle,
    /// What its queue had no room for.
    outbox: VecDeque<Command>,
    late: bool,
}

impl Slot {
    fn new(handle: WorkerHandle) -> Self {
        Self {
            handle,
            outbox: VecDeque::new(),
            late: false,
        }
    }

    /// Queues a command; one that finds no room waits here, and those after it. Bounded by what control does in
    /// the [`STALLED`] seconds until such a worker is replaced.
    fn send(&mut self, command: Command) {
        self.outbox.push_back(command);
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(command) = self.outbox.pop_front() {
            match self.handle.commands.try_send(command) {
                Ok(()) => {}
                Err(TrySendError::Full(command)) => {
                    self.outbox.push_front(command);
                    return;
                }
                // The thread is gone; the next look finds out.
                Err(TrySendError::Closed(_)) => return,
            }
        }
    }

    fn connections(&self) -> usize {
        self.handle.status.connections.load(Ordering::Relaxed)
    }
}

/// All workers.
#[derive(Debug)]
pub struct Workers {
    context: WorkerContext,
    slots: Vec<Slot>,
    /// Replaced, and not ended yet.
    retired: Vec<Slot>,
    replacements: Vec<usize>,
    /// When the watcher last looked, and the time before which silence does not count.
    looked: Instant,
    grace_ms: u64,
    /// The threads were told to end.
    stopping: bool,
}

impl Workers {
    /// Starts `count` workers without sockets.
    ///
    /// # Errors
    /// A thread or its runtime could not be made.
    pub fn start(count: usize, context: WorkerContext) -> io::Result<Self> {
        let slots = (0..count).map(|index| Ok(Slot::new(worker::spawn(index, context.clone())?)));
        Ok(Self {
            slots: slots.collect::<io::Result<_>>()?,
            context,
            retired: Vec::new(),
            replacements: vec![0; count],
            looked: Instant::now(),
            grace_ms: 0,
            stopping: false,
        })
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Tells the workers about listeners that came and went. New ones first: a renamed listener is then never
    /// without anybody who accepts.
    pub fn apply(&mut self, moves: Moves) {
        for (worker, socket) in moves.listen {
            self.send(worker, Command::Listen(socket));
        }
        for (worker, id) in moves.unlisten {
            self.send(worker, Command::Unlisten(id));
        }
    }

    /// Tells all workers that a new snapshot serves.
    pub fn snapshot_moved(&mut self) {
        for slot in self.slots.iter_mut().chain(&mut self.retired) {
            // A worker that finds no time for its queue finds the new generation by itself.
            let moved = |command: &Command| matches!(command, Command::SnapshotMoved);
            if !slot.outbox.iter().any(moved) {
                slot.send(Command::SnapshotMoved);
            }
        }
    }

    fn send(&mut self, worker: usize, command: Command) {
        if let Some(slot) = self.slots.get_mut(worker) {
            slot.send(command);
        }
    }

    /// Has whoever is at an endpoint that is cut end now; retired workers too.
    pub fn cut(&mut self) {
        for slot in self.slots.iter_mut().chain(&mut self.retired) {
            slot.send(Command::Cut);
        }
    }

    /// Has a worker say what would become of a request; `None` when there is no such worker, or it has no time.
    pub fn explain(
        &self,
        worker: usize,
        question: Question,
    ) -> Option<oneshot::Receiver<Option<Explanation>>> {
        let (answer, told) = oneshot::channel();
        let slot = self.slots.get(worker)?;
        // Not worth waiting for room: then the worker has other worries.
        slot.handle
            .commands
            .try_send(Command::Explain(Box::new(question), answer))
            .ok()?;
        Some(told)
    }

    /// Asks every worker, retired ones too; who has no room for a question is left out.
    pub fn ask_all<T>(&self, question: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<oneshot::Receiver<T>> {
        let slots = self.slots.iter().chain(&self.retired);
        slots
            .filter_map(|slot| {
                let (answer, told) = oneshot::channel();
                slot.handle.commands.try_send(question(answer)).ok()?;
                Some(told)
            })
            .collect()
    }

    /// Looks at every worker; called a few times a second.
    pub fn look(&mut self, listeners: &Listeners) -> Vec<Sight> {
        let now_ms = self.context.board.now_ms();
        if self.looked.elapsed() > LATE {
            self.grace_ms = now_ms;
        }
        self.looked = Instant::now();
        self.end_retired();
        if self.stopping {
            return Vec::new();
        }

        let mut sights = Vec::new();
        for worker in 0..self.slots.len() {
            self.look_at(worker, now_ms, listeners, &mut sights);
        }
        sights
    }

    fn look_at(&mut self, worker: usize, now_ms: u64, listeners: &Listeners, sights: &mut Vec<Sight>) {
        let slot = &mut self.slots[worker];
        slot.flush();
        let ticked = slot.handle.status.last_tick_ms.load(Ordering::Relaxed);
        let silent = silence(now_ms, ticked, self.grace_ms);
        let cause = match pulse(silent) {
            _ if slot.handle.thread.is_finished() => Cause::Died,
            Pulse::Stalled => Cause::Stalled,
            Pulse::Late if !slot.late => {
                slot.late = true;
                sights.push(Sight::Late { worker, silent });
                return;
            }
            Pulse::Late => return,
            Pulse::Turning => {
                if std::mem::take(&mut slot.late) {
                    sights.push(Sight::Back { worker });
                }
                return;
            }
        };
        if self.replacements.iter().sum::<usize>() >= MAX_REPLACEMENTS {
            sights.push(Sight::GiveUp);
            return;
        }
        sights.push(match self.replace(worker, listeners) {
            Ok(()) => Sight::Replaced { worker, why: cause },
            Err(error) => Sight::NotReplaced {
                worker,
                error: error.to_string(),
            },
        });
    }

    fn replace(&mut self, worker: usize, listeners: &Listeners) -> io::Result<()> {
        let sockets: Vec<ListenSocket> = listeners.sockets_of(worker)?;
        let mut fresh = Slot::new(worker::spawn(worker, self.context.clone())?);
        let ids: Vec<SocketId> = sockets.iter().map(|socket| socket.id).collect();
        for socket in sockets {
            fresh.send(Command::Listen(socket));
        }
        let mut old = std::mem::replace(&mut self.slots[worker], fresh);
        old.handle.status.retired.store(true, Ordering::Relaxed);
        for id in ids {
            old.send(Command::Unlisten(id));
        }
        old.send(Command::Drain);
        self.retired.push(old);
        self.replacements[worker] += 1;
        Ok(())
    }

    /// Ends retired workers that turn again and have nothing left to finish.
    fn end_retired(&mut self) {
        let now_ms = self.context.board.now_ms();
        for slot in &mut self.retired {
            slot.flush();
            let ticked = slot.handle.status.last_tick_ms.load(Ordering::Relaxed);
            let turning = pulse(silence(now_ms, ticked, 0)) == Pulse::Turning;
            if turning && slot.outbox.is_empty() && slot.connections() == 0 {
                slot.send(Command::Stop);
            }
        }
        self.retired.retain(|slot| !slot.handle.thread.is_finished());
    }

    /// Asks all connections to end when their request ends.
    pub fn drain(&mut self) {
        for slot in &mut self.slots {
            slot.send(Command::Drain);
        }
    }

    /// Cuts what is left and ends the threads; [`Self::ended`] tells when they have.
    pub fn stop(&mut self) {
        self.stopping = true;
        for slot in self.slots.iter_mut().chain(&mut self.retired) {
            slot.send(Command::Stop);
        }
    }

    /// Whether every thread has ended, but for retired ones, which may never.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.slots.iter().all(|slot| slot.handle.thread.is_finished())
    }

    /// Connections that the workers serve, retired ones included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.slots
            .iter()
            .chain(&self.retired)
            .map(Slot::connections)
            .sum()
    }

    /// What each worker looks like now.
    #[must_use]
    pub fn view(&self) -> Vec<WorkerView> {
        let now_ms = self.context.board.now_ms();
        let view = |(worker, slot): (usize, &Slot)| {
            let status = &slot.handle.status;
            let silent = silence(now_ms, status.last_tick_ms.load(Ordering::Relaxed), self.grace_ms);
            WorkerView {
                worker,
                connections: slot.connections(),
                generation: status.generation.load(Ordering::Relaxed),
                silent,
                turning: pulse(silent) == Pulse::Turning && !slot.handle.thread.is_finished(),
                replacements: self.replacements[worker],
            }
        };
        self.slots.iter().enumerate().map(view).collect()
    }

    /// Workers that were replaced and still hold connections.
    #[must_use]
    pub fn retired(&self) -> usize {
        self.retired.len()
    }
}

/// One worker, for status.
#[derive(Clone, Debug)]
pub struct WorkerView {
    pub worker: usize,
    pub connections: usize,
    pub generation: u64,
    /// Since it last showed that it turns.
    pub silent: Duration,
    pub turning: bool,
    /// How often its thread was replaced.
    pub replacements: usize,
}

#[cfg(test)]
mod tests;
