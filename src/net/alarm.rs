//! One timer per connection for all its deadlines.
//!
//! Phases of a request name a deadline; the timer is touched only when a deadline comes *before* the one it is
//! armed for, and when it fires early it is armed again. So a connection that serves requests one after another,
//! each with its deadline a little later than the last, touches the timer wheel once per deadline length and
//! not once per request.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Instant;
use tokio::task::coop::unconstrained;
use tokio::time::Sleep;

/// See the module's text. Belongs to one task.
#[derive(Debug, Default)]
pub struct Alarm {
    armed: Option<(Instant, Pin<Box<Sleep>>)>,
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
        let (at, sleep) = self
            .armed
            .get_or_insert_with(|| (deadline, Box::pin(tokio::time::sleep_until(deadline.into()))));
        *at = deadline;
        sleep.as_mut().reset(deadline.into());
        // Polled for its waker; whether it fired is asked by `is_elapsed`. Unconstrained, because a task that has used
        // up its turn would be told to come again and the waker not be kept, but it comes again believing it is armed.
        std::pin::pin!(unconstrained(sleep.as_mut())).poll(cx).is_ready()
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
