//! One timer per connection for all its deadlines.
//!
//! Phases of a request name a deadline; the timer is touched only when a deadline comes *before* the one it is
//! armed for, and when it fires early it is armed again. So a connection that serves requests one after another,
//! each with its deadline a little later than the last, touches the timer wheel once per deadline length and
//! not once per request. Streams of HTTP/2 come and go with each request; what they leave behind, armed, serves those
//! that follow in the same way.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Instant;
use tokio::task::coop::unconstrained;
use tokio::time::Sleep;

/// Timers of alarms that are gone, at most, and what is left of them where fewer are wanted; see [`trim`].
const KEPT: usize = 1024;
const KEPT_IDLE: usize = 64;

/// When it fires, or fired.
type Timer = (Instant, Pin<Box<Sleep>>);

thread_local! {
    static SPARE: RefCell<Vec<Timer>> = const { RefCell::new(Vec::new()) };
}

/// Lets go of half of the timers that wait beyond a few; to be called every second or so.
pub fn trim() {
    SPARE.with_borrow_mut(|spare| spare.truncate(KEPT_IDLE + spare.len().saturating_sub(KEPT_IDLE) / 2));
}

/// See the module's text. Belongs to one task.
#[derive(Debug, Default)]
pub struct Alarm {
    armed: Option<Timer>,
}

impl Alarm {
    /// Whether the deadline has passed; if not, the task is woken when it does, at the latest.
    pub fn passed(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        match &self.armed {
            Some((at, sleep)) if *at <= deadline && !sleep.is_elapsed() => false,
            _ => self.passed_now(cx, deadline),
        }
    }

    #[cold]
    fn passed_now(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        if Instant::now() >= deadline {
            return true;
        }
        let (at, sleep) = self.armed.get_or_insert_with(|| {
            let spare = SPARE.with_borrow_mut(Vec::pop);
            spare.unwrap_or_else(|| (deadline, Box::pin(tokio::time::sleep_until(deadline.into()))))
        });
        // One that another task left fires early enough, and now wakes this one.
        let lasts = *at <= deadline && !sleep.is_elapsed();
        if lasts && !is_up(sleep.as_mut(), cx) {
            return false;
        }
        *at = deadline;
        sleep.as_mut().reset(deadline.into());
        is_up(sleep.as_mut(), cx)
    }
}

/// Polled for its waker; whether it fired is asked by `is_elapsed`. Unconstrained, because a task that has used up its
/// turn would be told to come again and the waker not be kept, but it comes again believing it is armed.
fn is_up(sleep: Pin<&mut Sleep>, cx: &mut Context<'_>) -> bool {
    std::pin::pin!(unconstrained(sleep)).poll(cx).is_ready()
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let Some(timer) = self.armed.take() else { return };
        // At the end of the thread there may be no place for it any more.
        let _kept = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < KEPT {
                spare.push(timer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn wait(alarm: &mut Alarm, deadline: Instant) {
        std::future::poll_fn(|cx| {
            if alarm.passed(cx, deadline) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    }

    #[tokio::test]
    async fn an_early_firing_waits_on_for_the_later_deadline() {
        let mut alarm = Alarm::default();
        let start = Instant::now();
        let first = start + Duration::from_millis(20);
        std::future::poll_fn(|cx| {
            assert!(!alarm.passed(cx, first));
            std::task::Poll::Ready(())
        })
        .await;
        let later = start + Duration::from_millis(60);
        wait(&mut alarm, later).await;
        assert!(Instant::now() >= later);
    }

    #[tokio::test]
    async fn an_earlier_deadline_wakes_in_its_time() {
        let mut alarm = Alarm::default();
        let start = Instant::now();
        std::future::poll_fn(|cx| {
            assert!(!alarm.passed(cx, start + Duration::from_secs(3600)));
            std::task::Poll::Ready(())
        })
        .await;
        wait(&mut alarm, start + Duration::from_millis(20)).await;
        assert!(start.elapsed() < Duration::from_secs(3000));
    }

    #[tokio::test]
    async fn a_timer_that_another_task_left_wakes_the_next_in_its_time() {
        for (armed_for, deadline) in [(20, 60), (3600 * 1000, 20)] {
            let left = crate::base::task::spawn(std::future::poll_fn(move |cx| {
                let mut alarm = Alarm::default();
                assert!(!alarm.passed(cx, Instant::now() + Duration::from_millis(armed_for)));
                std::task::Poll::Ready(())
            }));
            left.await.unwrap();
            assert_eq!(SPARE.with_borrow(Vec::len), 1);
            let deadline = Instant::now() + Duration::from_millis(deadline);
            let next = crate::base::task::spawn(async move {
                wait(&mut Alarm::default(), deadline).await;
                assert!(Instant::now() >= deadline);
            });
            tokio::time::timeout(Duration::from_secs(5), next)
                .await
                .unwrap()
                .unwrap();
        }
    }

    #[tokio::test]
    async fn timers_that_wait_are_bounded_and_go_when_nobody_wants_them() {
        std::future::poll_fn(|cx| {
            let alarms: Vec<Alarm> = std::iter::repeat_with(|| {
                let mut alarm = Alarm::default();
                assert!(!alarm.passed(cx, Instant::now() + Duration::from_secs(3600)));
                alarm
            })
            .take(KEPT + 1)
            .collect();
            drop(alarms);
            std::task::Poll::Ready(())
        })
        .await;
        let waiting = || SPARE.with_borrow(Vec::len);
        assert_eq!(waiting(), KEPT);
        for _ in 0..20 {
            trim();
        }
        assert_eq!(waiting(), KEPT_IDLE);
    }

    #[tokio::test]
    async fn a_task_that_used_up_its_turn_is_woken_too() {
        let mut alarm = Alarm::default();
        let deadline = Instant::now() + Duration::from_millis(20);
        let mut first = true;
        let waiting = std::future::poll_fn(|cx| {
            if std::mem::take(&mut first) {
                while std::pin::pin!(tokio::task::consume_budget()).poll(cx).is_ready() {}
            }
            if alarm.passed(cx, deadline) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        });
        tokio::time::timeout(Duration::from_secs(5), waiting)
            .await
            .unwrap();
    }
}
