//! One direction of a tunnel: bytes from one side to the other, with nothing held while nothing comes.

use super::inspect::{Broken, Inspector};
use crate::net::frames::Outbound;
use crate::net::scratch::{FIRST_READ, ReadSize};
use crate::net::source::Source;
use crate::net::wire::Wire;
use crate::ws::frames::{self, CLOSE, PING};
use bytes::Bytes;
use http::HeaderMap;
use std::io;
use std::task::{Context, Poll, ready};

/// Bytes that one direction moves before other connections have their turn.
const BYTES_PER_TURN: usize = 1024 * 1024;

/// Where a direction's bytes go.
pub(super) trait Sink {
    /// Room is to be asked for once it is known that there is something to send.
    const ROOM_ON_DEMAND: bool;

    /// Ready when everything that was put before is gone.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// How many bytes, at most `want`, may be put.
    fn poll_room(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<io::Result<usize>>;

    /// Leaves room that was not used to others.
    fn give_back(&mut self) {}

    fn put(&mut self, cx: &mut Context<'_>, parts: [&[u8]; 2]) -> io::Result<()>;

    /// Ends the direction.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Sink for Wire {
    const ROOM_ON_DEMAND: bool = false;

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_unsent() {
            return Self::poll_flush(self, cx);
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn poll_room(&mut self, _: &mut Context<'_>, want: usize) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(want))
    }

    #[inline]
    fn put(&mut self, cx: &mut Context<'_>, [first, second]: [&[u8]; 2]) -> io::Result<()> {
        if first.is_empty() {
            self.send(cx, &[second]).map(drop)
        } else {
            self.send(cx, &[first, second]).map(drop)
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_shutdown(cx)
    }
}

impl Sink for Outbound {
    const ROOM_ON_DEMAND: bool = true;

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<io::Result<usize>> {
        Self::poll_room(self, cx, want)
    }

    fn give_back(&mut self) {
        Self::give_back(self);
    }

    fn put(&mut self, _: &mut Context<'_>, [first, second]: [&[u8]; 2]) -> io::Result<()> {
        if first.is_empty() && second.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(first.len() + second.len());
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        self.send(Bytes::from(bytes), false)
    }

    fn poll_end(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.is_ended() {
            true => Ok(()),
            false => self.end(HeaderMap::new()),
        })
    }
}

/// Why a direction stopped.
#[derive(Debug)]
pub(super) enum Stopped {
    Read(io::Error),
    Write(io::Error),
    /// What came may not be passed on.
    Broken(Broken),
}

/// How far a direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Between two frames, or at once where there are none, it is ended with this code.
    Leaving(u16),
    /// The other side is being told of the end.
    Ending,
    /// It was told by us; what still comes is thrown away, so that nobody's last words are lost to a reset.
    Deaf,
    Ended,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Direction {
    size: ReadSize,
    phase: Phase,
    /// The end was ours.
    told: bool,
    /// Frames that go to this sink are masked.
    masks: bool,
    /// A ping waits for its place.
    ping: bool,
    pub inspector: Option<Box<Inspector>>,
}

impl Direction {
    pub fn new(masks: bool, inspector: Option<Box<Inspector>>) -> Self {
        Self {
            size: ReadSize::default(),
            phase: Phase::Open,
            told: false,
            masks,
            ping: false,
            inspector,
        }
    }

    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Whether the side that it leads to was told that nothing more comes.
    pub fn is_silent(&self) -> bool {
        matches!(self.phase, Phase::Deaf | Phase::Ended)
    }

    /// Ends it, with a close frame where frames are known.
    pub fn leave(&mut self, code: u16) {
        if self.phase == Phase::Open {
            self.phase = Phase::Leaving(code);
            if let Some(inspector) = &mut self.inspector {
                inspector.leave();
            }
        }
    }

    /// Asks the side that it leads to for a sign of life.
    pub fn ping(&mut self) {
        self.ping = self.inspector.is_some();
    }

    /// Moves what can be moved; ready when it has ended. Nothing is read while something waits to be written: the slower
    /// side sets the pace, and one read is all that is ever held.
    pub fn poll<S: Source, K: Sink>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut S,
        to: &mut K,
    ) -> Poll<Result<(), Stopped>> {
        let mut budget = BYTES_PER_TURN;
        loop {
            if matches!(self.phase, Phase::Ended) {
                return Poll::Ready(Ok(()));
            }
            if self.phase == Phase::Deaf {
                return self.poll_deaf(cx, from, &mut budget);
            }
            if to.poll_flush(cx).map_err(Stopped::Write)?.is_pending() {
                self.size.reset();
                return Poll::Pending;
            }
            if self.phase == Phase::Ending {
                ready!(to.poll_end(cx)).map_err(Stopped::Write)?;
                self.phase = if self.told { Phase::Deaf } else { Phase::Ended };
                continue;
            }
            if self.ping || self.phase != Phase::Open {
                ready!(self.poll_words(cx, to))?;
                if self.phase == Phase::Ending {
                    continue;
                }
            }
            from.release();
            if budget == 0 {
                to.give_back();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            budget = budget.saturating_sub(ready!(self.step(cx, from, to))?);
        }
    }

    /// What is there already, or one read, written on at once. Returns its size.
    fn step<S: Source, K: Sink>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut S,
        to: &mut K,
    ) -> Poll<Result<usize, Stopped>> {
        let mut size = self.size.get();
        if K::ROOM_ON_DEMAND {
            if from.carried().is_empty() && from.poll_readable(cx).map_err(Stopped::Read)?.is_pending() {
                to.give_back();
                return Poll::Pending;
            }
            size = ready!(to.poll_room(cx, size)).map_err(Stopped::Write)?;
            // Of what was held back of a head, all goes at once.
            size = size.min(self.size.get()).max(1);
        }
        let carried = from.carried();
        if !carried.is_empty() {
            let len = carried.len().min(size);
            let passed = self.pass(cx, &carried[..len], to);
            from.consume(len);
            return Poll::Ready(passed.map(|()| len));
        }
        let mut writing = Context::from_waker(cx.waker());
        let read = from.poll_more(cx, size, |bytes| {
            let len = bytes.len().min(size);
            (len, self.pass(&mut writing, &bytes[..len], to).map(|()| len))
        });
        let Poll::Ready(read) = read else {
            to.give_back();
            return Poll::Pending;
        };
        match read.map_err(Stopped::Read)? {
            Some(passed) => {
                let moved = passed?;
                if moved == size {
                    self.size.grow();
                }
                Poll::Ready(Ok(moved))
            }
            None => {
                if let Some(inspector) = &self.inspector {
                    to.put(&mut writing, [b"", inspector.held()])
                        .map_err(Stopped::Write)?;
                }
                self.phase = Phase::Ending;
                Poll::Ready(Ok(0))
            }
        }
    }

    #[inline]
    fn pass<K: Sink>(&mut self, cx: &mut Context<'_>, bytes: &[u8], to: &mut K) -> Result<(), Stopped> {
        let Some(inspector) = &mut self.inspector else {
            return to.put(cx, [b"", bytes]).map_err(Stopped::Write);
        };
        let scanned = inspector.look(bytes);
        if scanned.pass > 0 || !scanned.held().is_empty() {
            to.put(cx, [scanned.held(), &bytes[..scanned.pass]])
                .map_err(Stopped::Write)?;
        }
        match inspector.broken() {
            Some(broken) => Err(Stopped::Broken(broken)),
            None => Ok(()),
        }
    }

    /// Says what is ours to say, if it is the moment for it. Ready when the direction may go on.
    fn poll_words<K: Sink>(&mut self, cx: &mut Context<'_>, to: &mut K) -> Poll<Result<(), Stopped>> {
        let Some(inspector) = &self.inspector else {
            self.ping = false;
            if let Phase::Leaving(_) = self.phase {
                (self.phase, self.told) = (Phase::Ending, true);
            }
            return Poll::Ready(Ok(()));
        };
        // After a broken frame nothing of it was passed on.
        if !inspector.is_between_frames() {
            return Poll::Ready(Ok(()));
        }
        let mask = self.masks.then(|| fastrand::u32(..).to_be_bytes());
        let (frame, len) = match self.phase {
            // Whoever sent a close frame says nothing after it (RFC 6455 section 5.5.1).
            Phase::Leaving(_) | Phase::Open if inspector.close.is_some() => ([0; 8], 0),
            Phase::Leaving(code) => frames::control(CLOSE, code.to_be_bytes(), 2, mask),
            _ => frames::control(PING, [0; 2], 0, mask),
        };
        if len > 0 {
            if ready!(to.poll_room(cx, len)).map_err(Stopped::Write)? < len {
                return Poll::Pending;
            }
            to.put(cx, [b"", &frame[..len]]).map_err(Stopped::Write)?;
        }
        self.ping = false;
        if let Phase::Leaving(_) = self.phase {
            (self.phase, self.told) = (Phase::Ending, true);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_deaf<S: Source>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut S,
        budget: &mut usize,
    ) -> Poll<Result<(), Stopped>> {
        let carried = from.carried().len();
        from.consume(carried);
        from.release();
        while *budget > 0 {
            match ready!(from.poll_more(cx, FIRST_READ, |bytes| (bytes.len(), bytes.len()))) {
                Ok(Some(len)) => *budget = budget.saturating_sub(len.max(1)),
                // It ends one way or the other.
                Ok(None) | Err(_) => {
                    self.phase = Phase::Ended;
                    return Poll::Ready(Ok(()));
                }
            }
            from.release();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
