//! Counts frames that cost us more than they cost who sends them, and says when there were too many.
//!
//! A scanner looks at the header of every frame, both ways, below the engine that understands them: it sees floods
//! that the engine answers or swallows without a word, and resets that the engine makes on its own. Each kind of abuse
//! has an account that honest use fills again: answered requests pay for resets, frames of data for window updates and
//! pings, and a little comes with time. Pure; `now` is an argument.

use crate::telemetry::metrics::{Abuse, RESET_CODES};
use std::time::Instant;

/// Bytes that a client sends before its first frame (RFC 9113 section 3.4).
pub(in crate::proxy) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
/// Of a payload, what is looked at: the code of RST_STREAM, and of GOAWAY the beginning of its text.
const CODE: usize = 4;
const TEXT_AT: usize = 8;
const TEXT: usize = 11;
const LOOKED_AT: usize = FRAME_HEADER + TEXT_AT + TEXT;
/// How the engine's texts begin when it has enough of something before we have.
const FOUND_BY_THE_ENGINE: [(&[u8], Abuse); 5] = [
    (b"header_list", Abuse::HeaderBomb),
    (b"too_many_co", Abuse::Continuation),
    (b"too_many_da", Abuse::SmallFrames),
    (b"too_many_in", Abuse::MadeYouReset),
    (b"too_many_re", Abuse::RapidReset),
];

/// The bounds of a connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Allowed {
    /// Streams at once: a client may take all of them back, as a browser does whose user goes elsewhere.
    pub streams: u32,
    /// CONTINUATION frames of one head.
    pub continuations: u32,
}

/// What may be spent: it begins full, and never holds more.
#[derive(Clone, Copy, Debug)]
struct Account {
    left: u32,
    most: u32,
    /// Comes every second.
    per_second: u32,
}

impl Account {
    const fn new(most: u32, per_second: u32) -> Self {
        Self {
            left: most,
            most,
            per_second,
        }
    }

    fn earn(&mut self, n: u32) {
        self.left = self.left.saturating_add(n).min(self.most);
    }

    /// Whether one could be spent.
    const fn spend(&mut self) -> bool {
        let had = self.left > 0;
        self.left = self.left.saturating_sub(1);
        had
    }
}

/// Least streams' worth of resets that a client has in hand.
const LEAST_RESETS: u32 = 200;
/// Window updates and priorities per frame of data or head: a client may update the stream and the connection each time,
/// and set priorities for a stream.
const CONTROL_PER_FRAME: u32 = 4;

/// See the module's text.
#[derive(Debug)]
pub(in crate::proxy) struct Guard {
    received: Scanner,
    sent: Scanner,
    counts: Counts,
}

#[derive(Debug)]
struct Counts {
    resets: Account,
    made_resets: Account,
    settings: Account,
    pings: Account,
    empty: Account,
    control: Account,
    refilled: Instant,
    continuations: u32,
    most_continuations: u32,
    /// Since when a head is incomplete.
    head_since: Option<Instant>,
    found: Option<Abuse>,
    /// Resets of ours that the client provoked, so far.
    provoked: u32,
    any_code: bool,
    codes: Codes,
}

/// Counts by error code; codes beyond the known ones are last.
pub(in crate::proxy) type PerCode = [u32; RESET_CODES.len()];

/// What was counted of each error code: streams reset, and connections ended, by the client and by us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Codes {
    pub resets_received: PerCode,
    pub resets_sent: PerCode,
    pub ends_received: PerCode,
    pub ends_sent: PerCode,
}

impl Guard {
    pub fn new(allowed: Allowed, now: Instant) -> Self {
        Self {
            received: Scanner::behind(PREFACE.len() as u32),
            sent: Scanner::behind(0),
            counts: Counts {
                resets: Account::new(LEAST_RESETS.max(allowed.streams.saturating_mul(2)), 20),
                made_resets: Account::new(100, 1),
                settings: Account::new(20, 1),
                pings: Account::new(100, 10),
                empty: Account::new(100, 1),
                control: Account::new(2000, 100),
                refilled: now,
                continuations: 0,
                most_continuations: allowed.continuations,
                head_since: None,
                found: None,
                provoked: 0,
                any_code: false,
                codes: Codes::default(),
            },
        }
    }

    /// Looks at bytes from the client.
    pub fn received(&mut self, bytes: &[u8], now: Instant) {
        let counts = &mut self.counts;
        counts.refill(now);
        self.received.scan(bytes, |frame| counts.received(frame, now));
    }

    /// Looks at bytes to the client.
    pub fn sent(&mut self, bytes: &[u8]) {
        let counts = &mut self.counts;
        self.sent.scan(bytes, |frame| counts.sent(frame));
    }

    /// What was found first.
    pub const fn found(&self) -> Option<Abuse> {
        self.counts.found
    }

    /// Resets of ours that the client provoked, so far.
    pub const fn provoked(&self) -> u32 {
        self.counts.provoked
    }

    /// Since when a head is incomplete.
    pub const fn head_since(&self) -> Option<Instant> {
        self.counts.head_since
    }

    /// A request ran for long before it ended: nobody asked for it in order to take it back.
    pub fn excuse_reset(&mut self) {
        self.counts.resets.earn(1);
    }

    /// Error codes since the last time this was asked, if there were any.
    pub fn take_codes(&mut self) -> Option<Codes> {
        let counts = &mut self.counts;
        std::mem::take(&mut counts.any_code).then(|| std::mem::take(&mut counts.codes))
    }
}

impl Counts {
    fn refill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.refilled).as_secs();
        if seconds == 0 {
            return;
        }
        self.refilled = now;
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        for account in [
            &mut self.resets,
            &mut self.made_resets,
            &mut self.settings,
            &mut self.pings,
            &mut self.empty,
            &mut self.control,
        ] {
            account.earn(account.per_second.saturating_mul(seconds));
        }
    }

    fn received(&mut self, frame: Frame, now: Instant) {
        let (account, abuse) = match frame.kind {
            Kind::Data | Kind::Headers | Kind::Continuation => return self.useful(frame, now),
            Kind::Reset => {
                self.any_code = true;
                self.codes.resets_received[frame.code] += 1;
                (&mut self.resets, Abuse::RapidReset)
            }
            Kind::Settings if frame.flags & ACK != 0 => return,
            Kind::Settings => (&mut self.settings, Abuse::Settings),
            Kind::Ping if frame.flags & ACK != 0 => (&mut self.control, Abuse::Control),
            Kind::Ping => (&mut self.pings, Abuse::Ping),
            Kind::GoAway => {
                self.ended(frame, |codes| &mut codes.ends_received);
                (&mut self.control, Abuse::Control)
            }
            Kind::Other => (&mut self.control, Abuse::Control),
        };
        if !account.spend() {
            self.found.get_or_insert(abuse);
        }
    }

    /// A frame of a head or a body.
    fn useful(&mut self, frame: Frame, now: Instant) {
        if frame.kind == Kind::Continuation {
            self.continuations += 1;
            if self.continuations > self.most_continuations {
                self.found.get_or_insert(Abuse::Continuation);
            }
        }
        match frame.kind {
            Kind::Data => {}
            _ if frame.flags & END_HEADERS != 0 => {
                self.head_since = None;
                self.continuations = 0;
            }
            _ => {
                self.head_since.get_or_insert(now);
            }
        }
        let ends = frame.flags & END_STREAM != 0 && frame.kind != Kind::Continuation;
        if frame.length == 0 && !ends {
            if !self.empty.spend() {
                self.found.get_or_insert(Abuse::Empty);
            }
            return;
        }
        self.control.earn(CONTROL_PER_FRAME);
        self.pings.earn(1);
    }

    /// A connection that ends without an error is none to count.
    fn ended(&mut self, frame: Frame, by: impl FnOnce(&mut Codes) -> &mut PerCode) {
        if frame.code != 0 {
            self.any_code = true;
            by(&mut self.codes)[frame.code] += 1;
        }
    }

    fn sent(&mut self, frame: Frame) {
        match frame.kind {
            Kind::Reset => {
                self.any_code = true;
                self.codes.resets_sent[frame.code] += 1;
                // Those of our own making are CANCEL, INTERNAL_ERROR and NO_ERROR.
                if !matches!(frame.code, 0 | 2 | 8) {
                    self.provoked = self.provoked.saturating_add(1);
                    if !self.made_resets.spend() {
                        self.found.get_or_insert(Abuse::MadeYouReset);
                    }
                }
            }
            Kind::Data | Kind::Headers => {
                self.control.earn(CONTROL_PER_FRAME);
                self.pings.earn(1);
                if frame.flags & END_STREAM != 0 {
                    self.resets.earn(1);
                }
            }
            Kind::GoAway => {
                self.ended(frame, |codes| &mut codes.ends_sent);
                if let Some(found) = frame.found {
                    self.found.get_or_insert(found);
                }
            }
            Kind::Settings | Kind::Ping | Kind::Continuation | Kind::Other => {}
        }
    }
}

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Headers,
    Reset,
    Settings,
    Ping,
    GoAway,
    Continuation,
    Other,
}

impl Kind {
    const fn of(code: u8) -> Self {
        match code {
            0 => Self::Data,
            1 => Self::Headers,
            3 => Self::Reset,
            4 => Self::Settings,
            6 => Self::Ping,
            7 => Self::GoAway,
            9 => Self::Continuation,
            _ => Self::Other,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    kind: Kind,
    flags: u8,
    length: u32,
    /// Of RST_STREAM and GOAWAY: the error code.
    code: usize,
    /// Of GOAWAY: what its text says that the engine found.
    found: Option<Abuse>,
}

/// Finds frames in bytes that come in pieces of any size. Payloads are passed over.
#[derive(Debug)]
struct Scanner {
    /// Bytes that belong to what was seen already.
    skip: u32,
    header: [u8; LOOKED_AT],
    filled: usize,
}

impl Scanner {
    const fn behind(skip: u32) -> Self {
        Self {
            skip,
            header: [0; LOOKED_AT],
            filled: 0,
        }
    }

    fn scan(&mut self, mut bytes: &[u8], mut see: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passed = bytes.len().min(self.skip as usize);
                self.skip -= passed as u32;
                bytes = &bytes[passed..];
                continue;
            }
            let want = self.wanted();
            let taken = bytes.len().min(want - self.filled);
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == self.wanted() {
                see(self.frame());
                self.skip = self.length() - (self.filled - FRAME_HEADER) as u32;
                self.filled = 0;
            }
        }
    }

    /// How much of the frame is looked at; known once its header is there.
    fn wanted(&self) -> usize {
        if self.filled < FRAME_HEADER {
            return FRAME_HEADER;
        }
        let (least, most) = match Kind::of(self.header[3]) {
            Kind::Reset => (CODE, CODE),
            Kind::GoAway => (TEXT_AT, TEXT_AT + TEXT),
            _ => (0, 0),
        };
        match self.length() as usize {
            length if length < least => FRAME_HEADER,
            length => FRAME_HEADER + length.min(most),
        }
    }

    const fn length(&self) -> u32 {
        u32::from_be_bytes([0, self.header[0], self.header[1], self.header[2]])
    }

    fn frame(&self) -> Frame {
        let kind = Kind::of(self.header[3]);
        let payload = &self.header[FRAME_HEADER..self.filled];
        // Of GOAWAY the code is behind the last stream, and before the text.
        let (code, text) = match kind {
            Kind::Reset => (payload.first_chunk(), None),
            Kind::GoAway => (
                payload.get(CODE..).and_then(<[u8]>::first_chunk),
                payload.get(TEXT_AT..),
            ),
            _ => (None, None),
        };
        let code = code.map_or(0, |code: &[u8; CODE]| u32::from_be_bytes(*code));
        Frame {
            kind,
            flags: self.header[4],
            length: self.length(),
            code: usize::try_from(code)
                .unwrap_or(usize::MAX)
                .min(RESET_CODES.len() - 1),
            found: text.and_then(found_by_the_engine),
        }
    }
}

fn found_by_the_engine(text: &[u8]) -> Option<Abuse> {
    FOUND_BY_THE_ENGINE
        .iter()
        .find_map(|(known, found)| (*known == text).then_some(*found))
}

#[cfg(test)]
mod tests;
