//! Counts frames from an endpoint that carry nothing. Each costs us an answer, or at least a look: an endpoint is
//! configured and not hostile, but one that has gone mad must not take the time of those that have not.
//!
//! Pure; `now` is an argument. Frames of heads and bodies, either way, pay for what comes with them: window updates,
//! pings that measure the way, acknowledgements.

use std::time::Instant;

const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// Such frames that an endpoint has in hand.
const MOST: u32 = 2000;
/// What comes every second, and with each frame of a head or a body.
const PER_SECOND: u32 = 100;
const PER_FRAME: u32 = 4;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Flood {
    received: Scanner,
    sent: Scanner,
    left: u32,
    refilled: Instant,
}

impl Flood {
    pub fn new(now: Instant) -> Self {
        Self {
            received: Scanner::default(),
            // What we say before the first frame.
            sent: Scanner {
                skip: 24,
                ..Scanner::default()
            },
            left: MOST,
            refilled: now,
        }
    }

    /// Looks at bytes from the endpoint; whether there were too many such frames.
    pub fn received(&mut self, bytes: &[u8], now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.refilled).as_secs();
        if seconds > 0 {
            self.refilled = now;
            self.earn(
                u32::try_from(seconds)
                    .unwrap_or(u32::MAX)
                    .saturating_mul(PER_SECOND),
            );
        }
        let (mut carrying, mut idle) = (0_u32, 0_u32);
        self.received.scan(bytes, |kind, length| {
            if carries(kind) && length > 0 {
                carrying += 1;
            } else {
                idle += 1;
            }
        });
        self.earn(carrying.saturating_mul(PER_FRAME));
        let too_many = idle > self.left;
        self.left = self.left.saturating_sub(idle);
        too_many
    }

    /// Looks at bytes to the endpoint.
    pub fn sent(&mut self, bytes: &[u8]) {
        let mut carrying = 0_u32;
        self.sent
            .scan(bytes, |kind, _| carrying += u32::from(carries(kind)));
        self.earn(carrying.saturating_mul(PER_FRAME));
    }

    fn earn(&mut self, n: u32) {
        self.left = self.left.saturating_add(n).min(MOST);
    }
}

const fn carries(kind: u8) -> bool {
    matches!(kind, DATA | HEADERS | CONTINUATION)
}

/// Finds the headers of frames in bytes that come in pieces of any size.
#[derive(Debug, Default)]
struct Scanner {
    /// Bytes that belong to what was seen already.
    skip: u32,
    header: [u8; HEADER],
    filled: usize,
}

impl Scanner {
    fn scan(&mut self, mut bytes: &[u8], mut see: impl FnMut(u8, u32)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passed = bytes.len().min(self.skip as usize);
                self.skip -= passed as u32;
                bytes = &bytes[passed..];
                continue;
            }
            let taken = bytes.len().min(HEADER - self.filled);
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEADER {
                let length = u32::from_be_bytes([0, self.header[0], self.header[1], self.header[2]]);
                see(self.header[3], length);
                self.skip = length;
                self.filled = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let mut bytes = (length as u32).to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[kind, 0, 0, 0, 0, 1]);
        bytes.resize(HEADER + length, 0xaa);
        bytes
    }

    proptest! {
        #[test]
        fn torn_or_whole_the_same_frames_are_found(
            frames in proptest::collection::vec((0_u8..12, 0_usize..40), 0..20),
            cuts in proptest::collection::vec(1_usize..13, 1..8),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(kind, length)| frame(*kind, *length)).collect();
            let (mut scanner, mut seen) = (Scanner::default(), Vec::new());
            let (mut rest, mut cuts) = (bytes.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                scanner.scan(piece, |kind, length| seen.push((kind, length as usize)));
                rest = after;
            }
            prop_assert_eq!(seen, frames);
        }
    }

    #[test]
    fn pings_alone_are_too_many_soon_and_pings_with_answers_never() {
        let now = Instant::now();
        let (ping, data) = (frame(6, 8), frame(DATA, 100));
        let mut flood = Flood::new(now);
        let alone = (0..=MOST).position(|_| flood.received(&ping, now));
        assert_eq!(alone, Some(MOST as usize));
        let mut flood = Flood::new(now);
        for _ in 0..10 * MOST {
            let both = [&ping[..], &ping, &data].concat();
            assert!(!flood.received(&both, now));
        }
    }

    #[test]
    fn what_is_sent_pays_for_the_window_updates_that_it_causes() {
        let now = Instant::now();
        let mut flood = Flood::new(now);
        flood.sent(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        for _ in 0..10 * MOST {
            flood.sent(&frame(DATA, 10));
            assert!(!flood.received(&frame(8, 4).repeat(2), now));
        }
    }

    #[test]
    fn time_gives_some_back() {
        let start = Instant::now();
        let mut flood = Flood::new(start);
        assert!(!flood.received(&frame(6, 8).repeat(MOST as usize), start));
        assert!(flood.received(&frame(6, 8), start));
        let later = start + Duration::from_secs(1);
        assert!(!flood.received(&frame(6, 8).repeat(PER_SECOND as usize), later));
        assert!(flood.received(&frame(6, 8), later));
    }

    #[test]
    fn frames_without_content_pay_for_nothing() {
        let now = Instant::now();
        let mut flood = Flood::new(now);
        let found = (0..=MOST).any(|_| flood.received(&frame(DATA, 0), now));
        assert!(found);
    }
}
