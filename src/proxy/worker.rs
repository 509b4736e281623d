//! One worker: a thread with a single-threaded runtime, its sockets, its connections, its pools.
//!
//! Everything below [`Worker`] is `!Send`: no lock, no shared reference count on the request path. Other threads
//! reach a worker through its bounded command channel; it answers through the bounded report channel.

use super::accept::{self, Accepted};
use super::board::{Board, Peer, WorkerStatus};
use super::connection;
use super::explain::{self, Explanation, Question};
use super::h2::job::{self, Job};
use super::handshake::Handshakes;
use super::heads;
use super::tunnel::book::{Book, Told, Which};
use super::view::{ListenerKey, View, Views};
use crate::base::clock::Millis;
use crate::base::crew::Crew;
use crate::base::task;
use crate::net::listen::Socket;
use crate::net::{alarm, unsent};
use crate::snapshot::Live;
use crate::telemetry::access_log::{AccessSink, AccessWriter};
use crate::telemetry::metrics::{Metrics, WorkerMetrics};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};

/// Commands that may wait for a worker.
const COMMAND_QUEUE: usize = 1024;
/// A worker shows that it turns this often.
pub const TICK: Duration = Duration::from_millis(100);
/// Pools are swept, and access records written out, every so many ticks.
const SWEEP_TICKS: u64 = 10;
const FLUSH_TICKS: u64 = 3;
/// Tunnels are held to their terms every so many ticks.
const TUNNEL_TICKS: u64 = 5;

/// Number of a listening socket in this process; a listener has one per worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId(pub u64);

/// A socket to accept from.
#[derive(Debug)]
pub struct ListenSocket {
    pub id: SocketId,
    pub listener: Arc<str>,
    pub socket: Socket,
}

/// What a worker is told.
#[derive(Debug)]
pub enum Command {
    /// Accept from this socket.
    Listen(ListenSocket),
    /// Accept what is queued, then close this descriptor and report.
    Unlisten(SocketId),
    /// The snapshot was swapped: let the old one go, also when no request comes.
    SnapshotMoved,
    /// A connection that another worker accepted.
    Handoff(Accepted),
    /// Say what would become of a request; `None` when there is no such listener.
    Explain(Box<Question>, oneshot::Sender<Option<Explanation>>),
    /// Tell of so many of the tunnels that are meant, those with a number above this.
    Tunnels(Box<Which>, u64, usize, oneshot::Sender<Vec<Told>>),
    /// Have the tunnels that are meant go, with this code, or only count them; tell how many there are.
    CloseTunnels {
        which: Box<Which>,
        code: u16,
        dry_run: bool,
        answer: oneshot::Sender<usize>,
    },
    /// What runs at some endpoint is to end now: whoever is at one looks whether it is this.
    Cut,
    /// End connections when their request ends, idle ones now.
    Drain,
    /// Cut everything and end the thread.
    Stop,
}

/// What a worker tells. Sent with `try_send`: a full queue drops the report and counts it.
#[derive(Debug)]
pub enum Report {
    Unlistened {
        worker: usize,
        socket: SocketId,
    },
    /// This many tasks panicked since the last report.
    Panicked {
        worker: usize,
        count: u64,
    },
    /// Descriptors or memory ran out; accepting pauses.
    AcceptPaused {
        worker: usize,
        listener: Arc<str>,
        error: String,
    },
}

/// What workers share with control.
#[derive(Clone, Debug)]
pub struct WorkerContext {
    pub live: Arc<Live>,
    pub metrics: Arc<Metrics>,
    pub access: Arc<AccessWriter>,
    pub board: Arc<Board>,
    pub reports: Sender<Report>,
}

/// A running worker.
#[derive(Debug)]
pub struct WorkerHandle {
    pub index: usize,
    pub commands: Sender<Command>,
    pub status: Arc<WorkerStatus>,
    pub thread: std::thread::JoinHandle<()>,
}

/// Starts a worker's thread. It joins the board at once.
///
/// # Errors
/// The thread or its runtime could not be made.
pub fn spawn(index: usize, context: WorkerContext) -> io::Result<WorkerHandle> {
    let (commands, inbox) = mpsc::channel(COMMAND_QUEUE);
    let status = Arc::new(WorkerStatus::default());
    status
        .last_tick_ms
        .store(context.board.now_ms(), Ordering::Relaxed);
    let metrics = context.metrics.add_worker(index);
    let own_status = status.clone();
    let board = context.board.clone();
    let thread = std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(Default::default())
            {
                Ok(runtime) => runtime,
                Err(error) => {
                    tracing::error!(worker = index, %error, "worker could not make its runtime");
                    return;
                }
            };
            runtime
                .block_on(async move { Worker::new(index, context, own_status, metrics).run(inbox).await });
        })?;
    board.join(&Peer {
        index,
        status: status.clone(),
        commands: commands.clone(),
    });
    Ok(WorkerHandle {
        index,
        commands,
        status,
        thread,
    })
}

/// What the worker knows of one of its connections.
#[derive(Debug)]
pub(super) struct Entry {
    pub listener: ListenerKey,
    /// Wakes the connection's task, which then looks at the worker's state and at its endpoint's.
    waker: RefCell<Option<Waker>>,
    abort: RefCell<Option<AbortHandle>>,
}

impl Entry {
    /// The task that waits for this serves the connection from now on.
    pub async fn served_here(&self) {
        poll_fn(|cx| {
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Ready(())
        })
        .await;
    }

    /// Has the task look around.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// The connection goes on in another task.
    pub fn adopt(&self, task: &JoinHandle<()>) {
        *self.abort.borrow_mut() = Some(task.abort_handle());
    }
}

/// The state of a worker, shared by its tasks.
#[derive(Debug)]
pub(super) struct Worker {
    pub index: usize,
    pub context: WorkerContext,
    pub metrics: Arc<WorkerMetrics>,
    pub status: Arc<WorkerStatus>,
    /// Connections end when their request does.
    pub draining: Cell<bool>,
    /// The thread ends.
    pub stopped: Cell<bool>,
    pub access: AccessSink,
    views: RefCell<Views>,
    connections: RefCell<Slab<Rc<Entry>>>,
    /// Requests of HTTP/2 connections, each a task of its own.
    streams: RefCell<Slab<Rc<Entry>>>,
    crew: Rc<Crew<Job>>,
    accepting: RefCell<HashMap<SocketId, AbortHandle>>,
    next_connection: Cell<u64>,
    pub handshakes: Handshakes,
    pub tunnels: Book,
}

impl Worker {
    fn new(
        index: usize,
        context: WorkerContext,
        status: Arc<WorkerStatus>,
        metrics: Arc<WorkerMetrics>,
    ) -> Rc<Self> {
        let views = RefCell::new(Views::new(&context, &metrics));
        let access = context.access.sink();
        Rc::new(Self {
            index,
            context,
            metrics,
            status,
            draining: Cell::new(false),
            stopped: Cell::new(false),
            access,
            views,
            connections: RefCell::default(),
            streams: RefCell::default(),
            crew: Rc::default(),
            accepting: RefCell::default(),
            next_connection: Cell::new(0),
            handshakes: Handshakes::default(),
            tunnels: Book::default(),
        })
    }

    async fn run(self: Rc<Self>, mut inbox: Receiver<Command>) {
        task::spawn_local(self.clone().tick());
        while let Some(command) = inbox.recv().await {
            match command {
                Command::Listen(socket) => self.listen(socket),
                Command::Unlisten(id) => self.unlisten(id),
                Command::SnapshotMoved => self.snapshot_moved(),
                Command::Handoff(accepted) => self.clone().register(accepted),
                Command::Explain(question, answer) => {
                    let told = explain::explain(&self.view(), self.index, &question, Millis::now());
                    // Who asked may have left.
                    drop(answer.send(told));
                }
                // Who asked may have left, here too.
                Command::Tunnels(which, after, most, answer) => {
                    drop(answer.send(self.tunnels.tell(&which, after, most)));
                }
                Command::CloseTunnels {
                    which,
                    code,
                    dry_run,
                    answer,
                } => drop(answer.send(self.tunnels.close(&which, code, dry_run))),
                Command::Cut => self.wake(|_| true),
                Command::Drain => self.drain(),
                Command::Stop => break,
            }
        }
        self.stopped.set(true);
        self.cut_all();
        // Cut tasks are dropped in the next turn, and write their records then.
        tokio::task::yield_now().await;
        self.views.borrow().leave();
        tokio::task::yield_now().await;
        self.access.flush();
    }

    /// The view of the current snapshot.
    pub fn view(&self) -> Rc<View> {
        self.views
            .borrow_mut()
            .current(&self.context, &self.metrics, &self.status)
    }

    fn listen(self: &Rc<Self>, socket: ListenSocket) {
        let id = socket.id;
        let task = task::spawn_local(accept::run(self.clone(), socket));
        self.accepting.borrow_mut().insert(id, task.abort_handle());
    }

    /// Ends accepting: the loop sees that it was taken off the list, empties the queue and reports.
    fn unlisten(&self, id: SocketId) {
        if let Some(task) = self.accepting.borrow_mut().remove(&id) {
            task.abort();
        }
    }

    fn snapshot_moved(&self) {
        let view = self.view();
        self.wake(|entry| {
            view.listener(entry.listener)
                .is_none_or(|listener| listener.removed)
        });
    }

    fn drain(&self) {
        self.draining.set(true);
        self.wake(|_| true);
    }

    fn wake(&self, which: impl Fn(&Entry) -> bool) {
        for (_, entry) in self
            .connections
            .borrow()
            .iter()
            .chain(self.streams.borrow().iter())
        {
            if which(entry) {
                entry.wake();
            }
        }
    }

    /// Starts serving a connection.
    pub fn register(self: Rc<Self>, accepted: Accepted) {
        let key = self.views.borrow_mut().key(&accepted.listener);
        let entry = Rc::new(Entry {
            listener: key,
            waker: RefCell::default(),
            abort: RefCell::default(),
        });
        let slot = self.connections.borrow_mut().insert(entry.clone());
        self.count_connections();
        self.next_connection.set(self.next_connection.get() + 1);
        // Numbers are told apart over workers by their rest.
        let number = self.next_connection.get() * 1024 + self.index as u64;
        let registered = Registered {
            worker: self.clone(),
            slot,
        };
        let task = task::spawn_local(connection::run(self, registered, entry.clone(), accepted, number));
        *entry.abort.borrow_mut() = Some(task.abort_handle());
    }

    /// Starts serving a stream of one of this worker's connections.
    pub fn register_stream(
        self: &Rc<Self>,
        listener: ListenerKey,
        job: impl FnOnce(Rc<Entry>, RegisteredStream) -> Job,
    ) {
        let entry = Rc::new(Entry {
            listener,
            waker: RefCell::default(),
            abort: RefCell::default(),
        });
        let slot = self.streams.borrow_mut().insert(entry.clone());
        let registered = RegisteredStream {
            worker: self.clone(),
            slot,
        };
        let job = job(entry.clone(), registered);
        *entry.abort.borrow_mut() = self.crew.give(job, job::run);
    }

    fn count_connections(&self) {
        let count = self.connections.borrow().len();
        self.status.connections.store(count, Ordering::Relaxed);
        self.metrics.worker.connections_open.set(count as i64);
    }

    pub fn count_tunnels(&self) {
        self.status.tunnels.store(self.tunnels.count(), Ordering::Relaxed);
    }

    pub fn report(&self, report: Report) {
        if self.context.reports.try_send(report).is_err() {
            self.metrics.worker.reports_dropped.inc();
        }
    }

    fn cut_all(&self) {
        let entries: Vec<_> = self
            .connections
            .borrow()
            .iter()
            .chain(self.streams.borrow().iter())
            .map(|(_, entry)| entry.clone())
            .collect();
        for entry in entries {
            if let Some(task) = &*entry.abort.borrow() {
                task.abort();
            }
        }
    }

    /// Shows that the worker turns, and does what is due at intervals.
    async fn tick(self: Rc<Self>) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut panics = 0;
        let mut due = Instant::now();
        for turn in 0_u64.. {
            interval.tick().await;
            let now = Instant::now();
            let late = now.saturating_duration_since(due);
            due = now + TICK;
            self.status
                .last_tick_ms
                .store(self.context.board.now_ms(), Ordering::Relaxed);
            let series = &self.metrics.worker;
            series.loop_ticks.inc();
            series.loop_lag.record(late);
            series.loop_lag_max_us.raise(late.as_micros() as i64);
            series.cpu_us.set(thread_cpu_us());
            series.unsent_bytes.set(unsent::held() as i64);
            let count = task::panics_on_this_thread();
            if count > panics {
                series.panics.add(count - panics);
                self.report(Report::Panicked {
                    worker: self.index,
                    count: count - panics,
                });
                panics = count;
            }
            if turn % SWEEP_TICKS == 0 {
                self.views.borrow().sweep(now);
                heads::trim();
                alarm::trim();
                self.crew.trim();
            }
            let everybody = self.context.board.shed();
            if turn % TUNNEL_TICKS == 0 {
                self.tunnels.sweep(everybody.is_some());
            }
            let all = || self.context.board.tunnels();
            self.tunnels.shed(everybody.as_deref(), all, TICK);
            if turn % FLUSH_TICKS == 0 {
                self.access.flush();
            }
        }
    }
}

/// Processor time of the calling thread in microseconds.
fn thread_cpu_us() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}

/// A connection's place in its worker; dropping it, however the connection ends, frees it.
#[derive(Debug)]
pub(super) struct Registered {
    worker: Rc<Worker>,
    slot: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.worker.connections.borrow_mut().try_remove(self.slot);
        self.worker.count_connections();
    }
}

/// A stream's place in its worker, as [`Registered`] is a connection's.
#[derive(Debug)]
pub(super) struct RegisteredStream {
    worker: Rc<Worker>,
    slot: usize,
}

impl Drop for RegisteredStream {
    fn drop(&mut self) {
        self.worker.streams.borrow_mut().try_remove(self.slot);
    }
}
