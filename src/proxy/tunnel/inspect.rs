//! What one direction of a WebSocket is held to, by the heads of its frames.

use crate::snapshot::WebSocket;
use crate::ws::frames::{CLOSE, Frame, Scanned, Scanner, Speaker, Stop};
use std::time::Instant;

/// See the module's text. Boxed, one per direction, and only where frames are looked at.
#[derive(Debug)]
pub(super) struct Inspector {
    scanner: Scanner,
    max_message: u64,
    rate: Option<Rate>,
    /// Messages that were passed on whole, or whose last frame is on its way.
    pub messages: u64,
    /// A close frame was passed on: its code, or 1005.
    pub close: Option<u16>,
    /// What begins now is not passed on.
    leaving: bool,
    /// Which bound ended it.
    broken: Option<Broken>,
}

/// Why a direction is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Malformed(&'static str),
    TooLarge,
    TooMany,
}

impl Inspector {
    pub fn new(speaker: Speaker, rules: &WebSocket) -> Self {
        let rate = Rate::new(rules.message_rate, rules.byte_rate);
        Self {
            scanner: Scanner::new(speaker),
            max_message: rules.max_message,
            // Endpoints are trusted with that.
            rate: rate.filter(|_| speaker == Speaker::Client),
            messages: 0,
            close: None,
            leaving: false,
            broken: None,
        }
    }

    pub const fn is_between_frames(&self) -> bool {
        self.scanner.is_between_frames()
    }

    /// The beginning of a head that never got its end.
    pub fn held(&self) -> &[u8] {
        self.scanner.held()
    }

    /// Why nothing more is passed on.
    pub const fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// The frame that is on its way is the last one.
    pub const fn leave(&mut self) {
        self.leaving = true;
    }

    /// Looks at what came.
    pub fn look(&mut self, bytes: &[u8]) -> Scanned {
        let Self {
            scanner,
            max_message,
            rate,
            messages,
            close,
            leaving,
            broken,
        } = self;
        // The clock is asked only where it matters, and once.
        let now = rate.as_ref().map(|_| Instant::now());
        let scanned = scanner.scan(bytes, |frame: &Frame| {
            if *leaving {
                return false;
            }
            if frame.is_control() {
                if frame.opcode == CLOSE {
                    close.get_or_insert(frame.code.unwrap_or(1005));
                }
                return true;
            }
            if *max_message > 0 && frame.message > *max_message {
                *broken = Some(Broken::TooLarge);
            } else if let (Some(rate), Some(now)) = (rate.as_mut(), now)
                && !rate.allows(frame, now)
            {
                *broken = Some(Broken::TooMany);
            }
            *messages += u64::from(frame.last && broken.is_none());
            broken.is_none()
        });
        if let Some(Stop::Malformed(what)) = scanned.stop {
            *broken = Some(Broken::Malformed(what));
        }
        scanned
    }
}

/// Messages and bytes per second, of which a second's worth may come at once.
#[derive(Debug)]
struct Rate {
    messages: Bucket,
    bytes: Bucket,
}

#[derive(Debug)]
struct Bucket {
    /// 0: any number.
    per_second: f64,
    left: f64,
    filled: Instant,
}

impl Rate {
    fn new(messages: u32, bytes: u64) -> Option<Self> {
        (messages > 0 || bytes > 0).then(|| Self {
            messages: Bucket::new(f64::from(messages)),
            bytes: Bucket::new(bytes as f64),
        })
    }

    fn allows(&mut self, frame: &Frame, now: Instant) -> bool {
        let began = frame.message == frame.len;
        let message = !began || self.messages.take(1.0, now);
        message && self.bytes.take(frame.len as f64, now)
    }
}

impl Bucket {
    fn new(per_second: f64) -> Self {
        Self {
            per_second,
            left: per_second,
            filled: Instant::now(),
        }
    }

    fn take(&mut self, amount: f64, now: Instant) -> bool {
        if self.per_second <= 0.0 {
            return true;
        }
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.left = (self.left + since * self.per_second).min(self.per_second);
        self.filled = now;
        self.left -= amount;
        self.left >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_second_s_worth_may_come_at_once_and_no_more() {
        let mut bucket = Bucket::new(3.0);
        let now = Instant::now();
        assert!((0..3).all(|_| bucket.take(1.0, now)));
        assert!(!bucket.take(1.0, now));
        let mut bucket = Bucket::new(2.0);
        let start = Instant::now();
        for tick in 0..20 {
            assert!(
                bucket.take(1.0, start + Duration::from_millis(500) * tick),
                "{tick}"
            );
        }
    }

    #[test]
    fn a_message_beyond_the_largest_is_told_by_its_head() {
        let rules = WebSocket {
            max_message: 4,
            ..WebSocket::default()
        };
        let mut inspector = Inspector::new(Speaker::Server, &rules);
        let fits = inspector.look(&[0x01, 3, 1, 2, 3]);
        assert_eq!((fits.pass, inspector.broken()), (5, None));
        let beyond = inspector.look(&[0x80, 2, 1, 2]);
        assert_eq!((beyond.pass, inspector.broken()), (0, Some(Broken::TooLarge)));
        assert_eq!(inspector.messages, 0);
    }
}
