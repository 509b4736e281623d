//! Tasks that serve one job after another.
//!
//! To make a task, and to end it, costs several times what it costs to wake one: requests of HTTP/2, each
//! in a task, are better served by tasks that stay. They belong to one thread. A job that panics takes its task along and no other.

use super::task::{self, PanicCount};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};
use tokio::task::AbortHandle;

/// Tasks that wait for a job, at most, and what is left of them where fewer are wanted; see [`Crew::trim`].
const KEPT: usize = 1024;
const KEPT_IDLE: usize = 32;

/// See the module's text.
#[derive(Debug)]
pub struct Crew<J> {
    idle: RefCell<Vec<Rc<Hand<J>>>>,
}

/// One task, as who gives it something to do sees it.
#[derive(Debug)]
struct Hand<J> {
    told: RefCell<Told<J>>,
    waker: RefCell<Option<Waker>>,
    abort: RefCell<Option<AbortHandle>>,
}

#[derive(Debug, Default)]
enum Told<J> {
    #[default]
    Nothing,
    Serve(J),
    Leave,
}

impl<J> Default for Crew<J> {
    fn default() -> Self {
        Self {
            idle: RefCell::default(),
        }
    }
}

impl<J: 'static> Crew<J> {
    /// Has a task that waits, or else a new one, serve a job. What ends it is good for this job only.
    pub fn give<F>(self: &Rc<Self>, job: J, serve: impl Fn(J) -> F + 'static) -> Option<AbortHandle>
    where
        F: Future<Output = ()> + 'static,
    {
        let idle = self.idle.borrow_mut().pop();
        if let Some(hand) = idle {
            hand.tell(Told::Serve(job));
            return hand.abort.borrow().clone();
        }
        let hand = Rc::new(Hand {
            told: RefCell::new(Told::Serve(job)),
            waker: RefCell::default(),
            abort: RefCell::default(),
        });
        let (crew, own) = (self.clone(), hand.clone());
        let task = task::spawn_local_counted(|count| crew.work(own, serve, count));
        hand.abort.replace(Some(task.abort_handle()));
        hand.abort.borrow().clone()
    }

    async fn work<F>(self: Rc<Self>, hand: Rc<Hand<J>>, serve: impl Fn(J) -> F, _count: PanicCount)
    where
        F: Future<Output = ()>,
    {
        while let Some(job) = hand.next().await {
            serve(job).await;
            let mut idle = self.idle.borrow_mut();
            if idle.len() >= KEPT {
                return;
            }
            idle.push(hand.clone());
        }
    }

    /// Lets go of half of the tasks that wait beyond a few; to be called every second or so.
    pub fn trim(&self) {
        let mut idle = self.idle.borrow_mut();
        let left = KEPT_IDLE + idle.len().saturating_sub(KEPT_IDLE) / 2;
        // Those that waited longest.
        let excess = idle.len().saturating_sub(left);
        for hand in idle.drain(..excess) {
            hand.tell(Told::Leave);
        }
    }
}

impl<J> Hand<J> {
    fn tell(&self, told: Told<J>) {
        self.told.replace(told);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// What is to be done next; nothing any more when told to leave.
    async fn next(&self) -> Option<J> {
        poll_fn(|cx| match self.told.take() {
            Told::Serve(job) => Poll::Ready(Some(job)),
            Told::Leave => Poll::Ready(None),
            Told::Nothing => {
                // A task has one waker.
                self.waker.borrow_mut().get_or_insert_with(|| cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::{LocalSet, yield_now};

    type Served = Rc<RefCell<Vec<(u32, tokio::task::Id)>>>;

    /// Serves a number by noting it, and the task that serves; 13 is unlucky, 99 never ends.
    fn noting(served: &Served) -> impl Fn(u32) -> std::pin::Pin<Box<dyn Future<Output = ()>>> + use<> {
        let served = served.clone();
        move |job| {
            let served = served.clone();
            Box::pin(async move {
                yield_now().await;
                assert_ne!(job, 13);
                if job == 99 {
                    std::future::pending::<()>().await;
                }
                served.borrow_mut().push((job, tokio::task::id()));
            })
        }
    }

    async fn settle() {
        for _ in 0..10 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn one_job_after_another_is_served_by_one_task() {
        LocalSet::new()
            .run_until(async {
                let (crew, served) = (Rc::new(Crew::default()), Served::default());
                for job in 0..3 {
                    crew.give(job, noting(&served));
                    settle().await;
                }
                let tasks: Vec<_> = served.borrow().iter().map(|(_, task)| *task).collect();
                assert_eq!(
                    served.borrow().iter().map(|(job, _)| *job).collect::<Vec<_>>(),
                    [0, 1, 2]
                );
                assert!(tasks.iter().all(|task| *task == tasks[0]));
            })
            .await;
    }

    #[tokio::test]
    async fn jobs_at_once_are_served_at_once() {
        LocalSet::new()
            .run_until(async {
                let (crew, served) = (Rc::new(Crew::default()), Served::default());
                crew.give(99, noting(&served));
                crew.give(1, noting(&served));
                settle().await;
                assert_eq!(served.borrow().len(), 1);
            })
            .await;
    }

    #[tokio::test]
    async fn a_panic_and_an_abort_end_one_job_each() {
        LocalSet::new()
            .run_until(async {
                let (crew, served) = (Rc::new(Crew::default()), Served::default());
                let before = task::panics_on_this_thread();
                crew.give(13, noting(&served));
                let endless = crew.give(99, noting(&served)).unwrap();
                settle().await;
                assert_eq!(task::panics_on_this_thread(), before + 1);
                endless.abort();
                settle().await;
                assert!(endless.is_finished());
                assert_eq!(crew.idle.borrow().len(), 0);
                crew.give(1, noting(&served));
                settle().await;
                assert_eq!(served.borrow().len(), 1);
            })
            .await;
    }

    #[tokio::test]
    async fn tasks_that_wait_are_bounded_and_go_when_nobody_wants_them() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let (crew, served) = (Rc::new(Crew::default()), Served::default());
                for job in 100..=100 + KEPT as u32 {
                    crew.give(job, noting(&served));
                }
                while served.borrow().len() <= KEPT {
                    yield_now().await;
                }
                settle().await;
                assert_eq!(crew.idle.borrow().len(), KEPT);
                let last = crew.idle.borrow()[0].abort.borrow().clone().unwrap();
                for _ in 0..12 {
                    crew.trim();
                }
                assert_eq!(crew.idle.borrow().len(), KEPT_IDLE);
                while !last.is_finished() {
                    yield_now().await;
                }
            })
            .await;
    }
}
