//! The line of requests that found every endpoint at its limit. First come, first served; bounded.
//!
//! It is touched only when there is somebody in it: whoever gives up a place at an endpoint looks at one number,
//! and only when that is not 0 at the line itself.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// One upstream's line, of all workers.
#[derive(Debug, Default)]
pub struct Queue {
    /// How many are in the line. Written with the line locked, before anybody in it looks for room once more.
    waiting: AtomicUsize,
    line: Mutex<Line>,
    pub counts: QueueCounts,
}

/// What became of those who came.
#[derive(Debug, Default)]
pub struct QueueCounts {
    /// Got a place, and how long they waited in all.
    pub served: AtomicU64,
    pub served_ms: AtomicU64,
    /// Did not fit into the line.
    pub full: AtomicU64,
    /// Were not served in time.
    pub late: AtomicU64,
}

#[derive(Debug, Default)]
struct Line {
    waiters: VecDeque<Waiter>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    waker: Option<Waker>,
}

impl Queue {
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// A place at the end of the line, unless there are `most` in it.
    pub fn join(&self, most: usize) -> Option<Place<'_>> {
        let mut line = self.lock();
        if line.waiters.len() >= most {
            self.counts.full.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let ticket = line.next_ticket;
        line.next_ticket += 1;
        line.waiters.push_back(Waiter { ticket, waker: None });
        self.count(&line);
        Some(Place { queue: self, ticket })
    }

    /// There may be room for one more: calls the first.
    pub fn freed(&self) {
        if self.waiting() > 0 {
            self.call_first();
        }
    }

    fn call_first(&self) {
        let mut line = self.lock();
        let first = line.waiters.pop_front();
        self.count(&line);
        drop(line);
        if let Some(waker) = first.and_then(|first| first.waker) {
            waker.wake();
        }
    }

    fn count(&self, line: &Line) {
        self.waiting.store(line.waiters.len(), Ordering::SeqCst);
    }

    /// Whole after a panic too: a waiter is either in it or not.
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line. Who leaves it after being called, whether there was room or not, calls the next.
#[derive(Debug)]
pub struct Place<'a> {
    queue: &'a Queue,
    ticket: u64,
}

impl Place<'_> {
    /// Whether nobody is before it.
    #[must_use]
    pub fn is_first(&self) -> bool {
        let line = self.queue.lock();
        line.waiters
            .front()
            .is_none_or(|first| first.ticket >= self.ticket)
    }

    /// Back to the head of the line: there was no room after all.
    pub fn again(&self) {
        let mut line = self.queue.lock();
        if !line.waiters.iter().any(|waiter| waiter.ticket == self.ticket) {
            let before = line.waiters.partition_point(|waiter| waiter.ticket < self.ticket);
            line.waiters.insert(
                before,
                Waiter {
                    ticket: self.ticket,
                    waker: None,
                },
            );
            self.queue.count(&line);
        }
    }

    /// Waits until it is called.
    pub async fn called(&self) {
        poll_fn(|cx| self.poll_called(cx)).await;
    }

    pub fn poll_called(&self, cx: &Context<'_>) -> Poll<()> {
        let mut line = self.queue.lock();
        let own = line
            .waiters
            .iter_mut()
            .find(|waiter| waiter.ticket == self.ticket);
        match own {
            None => Poll::Ready(()),
            Some(waiter) => {
                if !waiter
                    .waker
                    .as_ref()
                    .is_some_and(|waker| waker.will_wake(cx.waker()))
                {
                    waiter.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// It got what it waited for.
    pub fn served(self, after: Duration) {
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.queue.counts.served.fetch_add(1, Ordering::Relaxed);
        self.queue.counts.served_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Its time is over.
    pub fn late(self) {
        self.queue.counts.late.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut line = self.queue.lock();
        let before = line.waiters.len();
        line.waiters.retain(|waiter| waiter.ticket != self.ticket);
        let was_called = line.waiters.len() == before;
        self.queue.count(&line);
        drop(line);
        // Perhaps it leaves the room unused; and if not, the next finds none and waits on.
        if was_called {
            self.queue.freed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_called(place: &Place<'_>) -> bool {
        place.poll_called(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn who_comes_first_is_called_first() {
        let queue = Queue::default();
        let (a, b) = (queue.join(9).unwrap(), queue.join(9).unwrap());
        assert!(a.is_first() && !b.is_first());
        assert!(!is_called(&a) && !is_called(&b));
        queue.freed();
        assert!(is_called(&a) && !is_called(&b));
        // There was no room after all: it keeps its place before the other.
        a.again();
        assert!(!is_called(&a) && a.is_first() && !b.is_first());
        queue.freed();
        assert!(is_called(&a) && !is_called(&b));
    }

    #[test]
    fn the_line_is_bounded_and_those_who_leave_make_room() {
        let queue = Queue::default();
        let a = queue.join(2).unwrap();
        let b = queue.join(2).unwrap();
        assert!(queue.join(2).is_none() && queue.join(0).is_none());
        assert_eq!(queue.counts.full.load(Ordering::Relaxed), 2);
        drop(a);
        assert_eq!(queue.waiting(), 1);
        assert!(queue.join(2).is_some() && b.is_first());
    }

    #[test]
    fn a_call_that_nobody_takes_goes_to_the_next() {
        let queue = Queue::default();
        let (a, b) = (queue.join(9).unwrap(), queue.join(9).unwrap());
        queue.freed();
        assert!(!is_called(&b));
        drop(a);
        assert!(is_called(&b));
        drop(b);
        assert_eq!(queue.waiting(), 0);
        queue.freed();
    }
}
