//! The only places that spawn. A task on a worker is confined: its panic ends it alone, is counted, and is
//! reported by the worker.

use std::cell::Cell;
use std::future::Future;
use tokio::task::JoinHandle;

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Counts the panic of the task that it lives in, to its end.
#[derive(Debug)]
pub struct PanicCount(());

impl Drop for PanicCount {
    fn drop(&mut self) {
        if std::thread::panicking() {
            PANICS.with(|count| count.set(count.get() + 1));
        }
    }
}

/// Runs a future on this thread's runtime.
pub fn spawn_local<F: Future<Output = ()> + 'static>(future: F) -> JoinHandle<()> {
    spawn_local_counted(|count| async move {
        let _count = count;
        future.await;
    })
}

/// The same for a future that holds the count itself, which spares a copy of it where many are short.
pub fn spawn_local_counted<F: Future<Output = ()> + 'static>(
    make: impl FnOnce(PanicCount) -> F,
) -> JoinHandle<()> {
    #[allow(clippy::disallowed_methods)]
    tokio::task::spawn_local(make(PanicCount(())))
}

/// Runs a future on the runtime of the calling control task.
pub fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) -> JoinHandle<()> {
    #[allow(clippy::disallowed_methods)]
    tokio::spawn(future)
}

/// Panics of tasks spawned on this thread so far.
#[must_use]
pub fn panics_on_this_thread() -> u64 {
    PANICS.with(Cell::get)
}
