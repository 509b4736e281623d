//! Announcements on their way to those who listen. Nobody waits for a slow listener: it learns that it missed
//! something, and reads what is shared again.

use super::bus::Topic;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc};

/// Announcements that a listener may be behind.
pub const BEHIND: usize = 1024;

/// What another node announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: Topic,
    /// Who announced it, as it is known.
    pub source: Arc<str>,
    pub incarnation: u64,
    /// Counts what the incarnation announced on this topic.
    pub seq: u64,
    /// What the payload is.
    pub kind: Arc<str>,
    pub payload: Bytes,
}

/// Why everything that is shared is to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The bus was away, and what was announced meanwhile was missed.
    Reconnected,
    /// The store lost what it had: what this gateway knows is to be written again.
    Flushed,
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Message(Message),
    /// Announcements were missed: read again what they are about.
    Gap,
    /// Read everything again.
    Reset(Cause),
}

#[derive(Debug)]
struct Ear {
    topics: Vec<Topic>,
    queue: mpsc::Sender<Message>,
    flags: Arc<Flags>,
}

/// What must reach a listener however far it is behind.
#[derive(Debug, Default)]
struct Flags {
    gap: AtomicBool,
    reconnected: AtomicBool,
    flushed: AtomicBool,
    ended: AtomicBool,
    rung: Notify,
}

/// Everybody who listens to one bus.
#[derive(Debug, Default)]
pub struct Ears {
    ears: Mutex<Vec<Ear>>,
    overflows: AtomicU64,
}

impl Ears {
    #[must_use]
    pub fn listen(&self, topics: &[Topic]) -> Listener {
        let (queue, received) = mpsc::channel(BEHIND);
        let flags = Arc::<Flags>::default();
        self.lock().push(Ear {
            topics: topics.to_vec(),
            queue,
            flags: Arc::clone(&flags),
        });
        Listener { received, flags }
    }

    /// Gives a message to everybody who listens to its topic.
    pub fn tell(&self, message: &Message) {
        self.lock().retain(|ear| {
            if !ear.topics.contains(&message.topic) {
                return !ear.queue.is_closed();
            }
            match ear.queue.try_send(message.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    self.overflows.fetch_add(1, Ordering::Relaxed);
                    ear.flags.raise(&ear.flags.gap);
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
    }

    /// Announcements on this topic were missed.
    pub fn gap(&self, topic: Topic) {
        for ear in self.lock().iter().filter(|ear| ear.topics.contains(&topic)) {
            ear.flags.raise(&ear.flags.gap);
        }
    }

    pub fn reset(&self, cause: Cause) {
        for ear in self.lock().iter() {
            match cause {
                Cause::Reconnected => ear.flags.raise(&ear.flags.reconnected),
                Cause::Flushed => ear.flags.raise(&ear.flags.flushed),
            }
        }
    }

    /// Nothing will be announced any more.
    pub fn end(&self) {
        for ear in self.lock().drain(..) {
            ear.flags.raise(&ear.flags.ended);
        }
    }

    /// Messages that listeners were too slow for.
    #[must_use]
    pub fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }

    /// Whole after a panic too: each change is one step.
    fn lock(&self) -> MutexGuard<'_, Vec<Ear>> {
        self.ears.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flags {
    fn raise(&self, flag: &AtomicBool) {
        flag.store(true, Ordering::Release);
        self.rung.notify_one();
    }
}

/// One who listens.
#[derive(Debug)]
pub struct Listener {
    received: mpsc::Receiver<Message>,
    flags: Arc<Flags>,
}

impl Listener {
    /// Waits for the next announcement, or for news that some were missed, which come first; `None` when the bus has
    /// ended. May be cancelled without loss.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            if self.flags.flushed.swap(false, Ordering::AcqRel) {
                return Some(Heard::Reset(Cause::Flushed));
            }
            if self.flags.reconnected.swap(false, Ordering::AcqRel) {
                return Some(Heard::Reset(Cause::Reconnected));
            }
            if self.flags.gap.swap(false, Ordering::AcqRel) {
                return Some(Heard::Gap);
            }
            if let Ok(message) = self.received.try_recv() {
                return Some(Heard::Message(message));
            }
            if self.flags.ended.load(Ordering::Acquire) {
                return None;
            }
            tokio::select! {
                message = self.received.recv() => match message {
                    Some(message) => return Some(Heard::Message(message)),
                    None => self.flags.ended.store(true, Ordering::Release),
                },
                () = self.flags.rung.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: Topic, seq: u64) -> Message {
        Message {
            topic,
            source: "gw-2".into(),
            incarnation: 1,
            seq,
            kind: "test".into(),
            payload: Bytes::new(),
        }
    }

    #[tokio::test]
    async fn a_listener_hears_its_topics_in_order() {
        let ears = Ears::default();
        let mut listener = ears.listen(&[Topic::Health]);
        ears.tell(&message(Topic::Control, 1));
        ears.tell(&message(Topic::Health, 2));
        ears.tell(&message(Topic::Health, 3));
        for seq in [2, 3] {
            let Some(Heard::Message(heard)) = listener.next().await else {
                panic!("nothing heard")
            };
            assert_eq!((heard.topic, heard.seq), (Topic::Health, seq));
        }
        ears.end();
        assert_eq!(listener.next().await, None);
    }

    #[tokio::test]
    async fn one_that_is_too_slow_learns_that_it_missed_something() {
        let ears = Ears::default();
        let mut listener = ears.listen(&[Topic::Health]);
        for seq in 0..BEHIND as u64 + 5 {
            ears.tell(&message(Topic::Health, seq));
        }
        assert_eq!(ears.overflows(), 5);
        assert_eq!(listener.next().await, Some(Heard::Gap));
        let Some(Heard::Message(first)) = listener.next().await else {
            panic!("nothing heard")
        };
        assert_eq!(first.seq, 0);
    }

    #[tokio::test]
    async fn news_of_a_loss_come_before_what_waits_and_once() {
        let ears = Ears::default();
        let mut listener = ears.listen(&[Topic::Control]);
        ears.tell(&message(Topic::Control, 1));
        ears.reset(Cause::Reconnected);
        ears.reset(Cause::Reconnected);
        ears.reset(Cause::Flushed);
        ears.gap(Topic::Health);
        assert_eq!(listener.next().await, Some(Heard::Reset(Cause::Flushed)));
        assert_eq!(listener.next().await, Some(Heard::Reset(Cause::Reconnected)));
        assert!(matches!(listener.next().await, Some(Heard::Message(_))));
    }

    #[tokio::test]
    async fn who_no_longer_listens_is_forgotten() {
        let ears = Ears::default();
        drop(ears.listen(&[Topic::Control]));
        ears.tell(&message(Topic::Control, 1));
        assert!(ears.lock().is_empty());
    }
}
