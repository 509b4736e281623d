//! One direction of a body: out of one framing, into another, from wire to wire.

use super::upload::Kept;
use crate::h1::body::{BodyDecoder, ChunkLimits, Step};
use crate::h1::write;
use crate::message::fields;
use crate::message::framing::BodyKind;
use crate::message::grpc::{self, Code};
use crate::message::token::{Reject, Token};
use crate::net::frames::Outbound;
use crate::net::gather::{self, Gather};
use crate::net::scratch::{FIRST_READ, ReadSize};
use crate::net::source::Source;
use crate::net::splice::{self, Splice};
use crate::net::wire::Wire;
use bytes::Bytes;
use http::HeaderMap;
use std::io;
use std::task::{Context, Poll, ready};

/// Bytes that one direction moves before other connections have their turn.
const BYTES_PER_TURN: usize = 1024 * 1024;

/// How the body goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Payload alone: its length was announced, or the connection's end is its end.
    Plain,
    Chunked,
}

/// Why a body stopped.
#[derive(Debug)]
pub(super) enum FlowError {
    /// What arrived is not a body.
    Malformed(Reject),
    Read(io::Error),
    Write(io::Error),
}

/// Where a body's bytes go.
pub(super) trait Put {
    fn put(&mut self, parts: &[&[u8]]) -> io::Result<()>;

    /// Fields behind the body, as lines; where it goes as payload alone there is no place for them.
    fn trailers(&mut self, _: &[u8]) {}
}

/// Behind a head that is being written, so that both leave in one send.
impl Put for Vec<u8> {
    fn put(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        for part in parts {
            self.extend_from_slice(part);
        }
        Ok(())
    }
}

/// Where they go, and a copy of them.
struct Keeping<'a, P> {
    to: &'a mut P,
    kept: &'a mut Kept,
}

impl<P: Put> Put for Keeping<'_, P> {
    fn put(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        self.kept.add(parts);
        self.to.put(parts)
    }

    fn trailers(&mut self, lines: &[u8]) {
        if !lines.is_empty() {
            self.kept.lose();
        }
        self.to.trailers(lines);
    }
}

/// Once it has failed it takes everything and passes nothing on: what was read is then still counted to the end of
/// the body and no further, and the request behind it is not lost.
struct ToWire<'a, 'b> {
    wire: &'a mut Wire,
    cx: &'a mut Context<'b>,
    failed: Option<io::Error>,
}

impl<'a, 'b> ToWire<'a, 'b> {
    const fn new(wire: &'a mut Wire, cx: &'a mut Context<'b>) -> Self {
        Self {
            wire,
            cx,
            failed: None,
        }
    }

    fn check(self) -> Result<(), FlowError> {
        self.failed.map_or(Ok(()), |error| Err(FlowError::Write(error)))
    }
}

impl Put for ToWire<'_, '_> {
    fn put(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        if self.failed.is_none() {
            self.failed = self.wire.send(self.cx, parts).err();
        }
        Ok(())
    }
}

/// Payload and trailers for frames of HTTP/2.
#[derive(Default)]
struct ToFrames {
    payload: Vec<u8>,
    trailers: HeaderMap,
}

impl Put for ToFrames {
    fn put(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        for part in parts {
            self.payload.extend_from_slice(part);
        }
        Ok(())
    }

    fn trailers(&mut self, lines: &[u8]) {
        self.trailers = fields::map_of_lines(lines);
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Flow {
    decoder: BodyDecoder,
    source: BodyKind,
    framing: Framing,
    size: ReadSize,
    /// Set while a large body goes past user space.
    splice: Option<Box<Splice>>,
    /// Set while a large body comes in many pieces.
    gather: Option<Box<Gather>>,
    /// Bytes that left the source and did not all reach the sink.
    in_pipe: u64,
    /// Bytes of payload allowed; 0: any.
    most: u64,
    /// What was put so far, where it may be wanted again.
    kept: Option<Box<Kept>>,
    /// How a call of gRPC ended, if the source's trailers said so.
    pub grpc_status: Option<Code>,
    /// The last poll stopped because the sink takes no more, not because the source has no more.
    pub held_up: bool,
}

impl Flow {
    pub fn new(source: BodyKind, framing: Framing, limits: ChunkLimits) -> Self {
        let decoder = BodyDecoder::new(source, limits);
        Self {
            decoder,
            source,
            framing,
            size: ReadSize::default(),
            splice: None,
            gather: None,
            in_pipe: 0,
            most: 0,
            kept: None,
            grpc_status: None,
            held_up: false,
        }
    }

    /// Refuses a body with more than so many bytes of payload, before any of what is too much is passed on; 0 is no
    /// bound.
    pub const fn limited(mut self, most: u64) -> Self {
        self.most = most;
        self
    }

    /// Keeps a copy of what is put from now on.
    pub fn keep(&mut self, kept: Kept) {
        self.kept = Some(Box::new(kept));
    }

    /// Whether nothing of the body has been read.
    pub const fn is_untouched(&self) -> bool {
        self.decoder.is_untouched()
    }

    /// Reads to the source's own end, which is known to come where it was announced. Only before any of it was read.
    pub fn goes_to_its_end(&mut self) {
        self.source = BodyKind::UntilClose;
        self.decoder.goes_to_its_end();
    }

    /// Changes how the body goes on. Only before any of it has.
    pub const fn reframe(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// What was put so far, if a copy is kept.
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_deref()
    }

    pub fn into_kept(self) -> Option<Box<Kept>> {
        self.kept
    }

    /// Whether the whole body has been read.
    pub fn is_end(&self) -> bool {
        self.decoder.is_end()
    }

    /// Holds payload so far and announced against the limit.
    const fn within_limit(&self) -> Result<(), FlowError> {
        if self.most > 0 && self.decoder.announced() > self.most {
            let too_large = Reject::new(Token::BodyTooLarge, "the body is larger than `limits.body`");
            return Err(FlowError::Malformed(too_large));
        }
        Ok(())
    }

    /// Takes body bytes and puts them where they go; returns how many of them belong to this body.
    pub fn feed(&mut self, bytes: &[u8], to: &mut impl Put) -> Result<usize, FlowError> {
        let Some(mut kept) = self.kept.take() else {
            return self.feed_to(bytes, to);
        };
        let fed = self.feed_to(bytes, &mut Keeping { to, kept: &mut kept });
        self.kept = Some(kept);
        fed
    }

    fn feed_to(&mut self, bytes: &[u8], to: &mut impl Put) -> Result<usize, FlowError> {
        let mut at = 0;
        while at < bytes.len() && !self.decoder.is_end() {
            let rest = &bytes[at..];
            at += match (self.source, self.framing) {
                (BodyKind::Chunked, Framing::Chunked) => self.relay_chunks(rest, to)?,
                (BodyKind::UntilClose, Framing::Chunked) => self.make_chunk(rest, to)?,
                _ => self.strip(rest, to)?,
            };
        }
        Ok(at)
    }

    /// Canonical chunks pass as they stand.
    fn relay_chunks(&mut self, bytes: &[u8], to: &mut impl Put) -> Result<usize, FlowError> {
        let mut made = Vec::new();
        let relay = self
            .decoder
            .relay_chunked(bytes, &mut made)
            .map_err(FlowError::Malformed)?;
        self.within_limit()?;
        let verbatim = &bytes[relay.verbatim];
        match (made.is_empty(), verbatim.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => to.put(&[verbatim]),
            (false, _) => to.put(&[&made, verbatim]),
        }
        .map_err(FlowError::Write)?;
        Ok(relay.consumed)
    }

    /// What came in one read becomes one chunk.
    fn make_chunk(&mut self, bytes: &[u8], to: &mut impl Put) -> Result<usize, FlowError> {
        self.decoder.skip(bytes.len() as u64);
        self.within_limit()?;
        let mut line = Vec::with_capacity(18);
        write::chunk_size(bytes.len() as u64, &mut line);
        to.put(&[&line, bytes, b"\r\n"]).map_err(FlowError::Write)?;
        Ok(bytes.len())
    }

    /// Payload alone.
    fn strip(&mut self, bytes: &[u8], to: &mut impl Put) -> Result<usize, FlowError> {
        let step = self.decoder.step(bytes).map_err(FlowError::Malformed)?;
        self.within_limit()?;
        match step {
            Step::Data { data, consumed } => {
                to.put(&[&bytes[data]]).map_err(FlowError::Write)?;
                Ok(consumed)
            }
            Step::Framing { consumed } => Ok(consumed),
            Step::Trailers { consumed, lines } => {
                to.trailers(&lines);
                Ok(consumed)
            }
            Step::NeedMore | Step::End => Ok(0),
        }
    }

    /// The source has ended, with these lines behind it.
    fn end_of_source(&mut self, trailers: &[u8], to: &mut impl Put) -> Result<(), FlowError> {
        self.decoder.at_eof().map_err(FlowError::Malformed)?;
        if self.source == BodyKind::UntilClose && self.framing == Framing::Chunked {
            let mut last = Vec::with_capacity(8 + trailers.len());
            write::last_chunk(trailers, &mut last);
            if let Some(kept) = &mut self.kept {
                kept.add(&[&last]);
            }
            to.put(&[&last]).map_err(FlowError::Write)?;
        }
        Ok(())
    }

    /// Moves what can be moved. Ready when the whole body was read and written. Nothing is read while something
    /// waits to be written: the slower side sets the pace, and one read is all that is ever held.
    pub fn poll<S: Source>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut S,
        to: &mut Wire,
    ) -> Poll<Result<(), FlowError>> {
        let mut budget = BYTES_PER_TURN;
        loop {
            self.held_up = to.has_unsent();
            if self.held_up {
                self.size.reset();
                ready!(to.poll_flush(cx)).map_err(FlowError::Write)?;
                self.held_up = false;
            }
            from.release();
            if self.decoder.is_end() {
                return Poll::Ready(Ok(()));
            }
            if !from.carried().is_empty() {
                let mut sink = ToWire::new(to, cx);
                let used = self.feed(from.carried(), &mut sink)?;
                from.consume(used);
                sink.check()?;
                continue;
            }
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let moved = match from.wire() {
                Some(wire) if self.splices(wire, to) => ready!(self.move_past(cx, wire, to))?,
                _ => ready!(self.read(cx, from, to))?,
            };
            budget = budget.saturating_sub(moved);
        }
    }

    /// Takes what is there of the body already, so that it leaves with its head.
    pub fn take_arrived<S: Source>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut S,
        out: &mut Vec<u8>,
    ) -> Result<(), FlowError> {
        let most = out.len() + FIRST_READ;
        while !self.decoder.is_end() && out.len() < most {
            let read = from.poll_more(cx, FIRST_READ, |bytes| match self.feed(bytes, out) {
                Ok(used) => (used, Ok(())),
                Err(error) => (bytes.len(), Err(error)),
            });
            match read {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Err(FlowError::Read(error)),
                Poll::Ready(Ok(Some(fed))) => fed?,
                Poll::Ready(Ok(None)) => match self.poll_source_end(cx, from, out) {
                    Poll::Pending => break,
                    Poll::Ready(ended) => return ended,
                },
            }
        }
        Ok(())
    }

    /// Moves what can be moved to a stream of HTTP/2, as [`Self::poll`] does to a wire. Nothing is read before there
    /// is room for it, and no room is kept while there is nothing to read.
    pub fn poll_to_stream<S: Source>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut S,
        to: &mut Outbound,
    ) -> Poll<Result<(), FlowError>> {
        let mut budget = BYTES_PER_TURN;
        loop {
            self.held_up = false;
            from.release();
            if self.decoder.is_end() {
                let ended = if to.is_ended() {
                    Ok(())
                } else {
                    to.end(HeaderMap::new())
                };
                return Poll::Ready(ended.map_err(FlowError::Write));
            }
            if budget == 0 {
                to.give_back();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut want = from.carried().len().min(self.size.get());
            if want == 0 {
                if from.poll_readable(cx).map_err(FlowError::Read)?.is_pending() {
                    to.give_back();
                    return Poll::Pending;
                }
                want = self.size.get();
            }
            let room = to.poll_room(cx, want).map_err(FlowError::Write)?;
            let Poll::Ready(room) = room else {
                self.held_up = true;
                return Poll::Pending;
            };
            let Poll::Ready(moved) = self.send_read(cx, from, to, room)? else {
                to.give_back();
                return Poll::Pending;
            };
            if moved == self.size.get() {
                self.size.grow();
            }
            budget = budget.saturating_sub(moved);
        }
    }

    /// What is carried, or else one read, of at most `room` bytes, as a frame. Returns its size.
    fn send_read<S: Source>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut S,
        to: &mut Outbound,
        room: usize,
    ) -> Poll<Result<usize, FlowError>> {
        if let Some(whole) = self.take_whole(from, room) {
            let moved = whole.len();
            let sent = to.send(whole, true).map_err(FlowError::Write);
            return Poll::Ready(sent.map(|()| moved));
        }
        let mut frames = ToFrames::default();
        let moved = if from.carried().is_empty() {
            let read = from.poll_more(cx, room, |bytes| {
                let bytes = &bytes[..bytes.len().min(room)];
                frames.payload.reserve_exact(bytes.len());
                match self.feed(bytes, &mut frames) {
                    Ok(used) => (used, Ok(bytes.len())),
                    Err(error) => (bytes.len(), Err(error)),
                }
            });
            match ready!(read).map_err(FlowError::Read)? {
                Some(moved) => moved?,
                None => {
                    self.decoder.at_eof().map_err(FlowError::Malformed)?;
                    if let Some(trailers) = ready!(from.poll_trailers(cx)).map_err(FlowError::Read)? {
                        self.grpc_status = grpc::status_in(&trailers);
                        frames.trailers = fields::passed_on(&trailers);
                    }
                    0
                }
            }
        } else {
            let bytes = &from.carried()[..from.carried().len().min(room)];
            frames.payload.reserve_exact(bytes.len());
            let used = self.feed(bytes, &mut frames)?;
            from.consume(used);
            used
        };
        let end = self.decoder.is_end();
        let ToFrames { payload, trailers } = frames;
        let last = end && trailers.is_empty();
        if let (false, Some(kept)) = (trailers.is_empty(), &mut self.kept) {
            kept.lose();
        }
        to.send(Bytes::from(payload), last).map_err(FlowError::Write)?;
        if end && !last {
            to.end(trailers).map_err(FlowError::Write)?;
        }
        Poll::Ready(Ok(moved))
    }

    /// What is carried, if it is all the rest of the body, as it lies there.
    fn take_whole<S: Source>(&mut self, from: &mut S, room: usize) -> Option<Bytes> {
        let carried = from.carried().len();
        let whole = self.framing == Framing::Plain && self.decoder.remaining() == Some(carried as u64);
        if !whole || carried == 0 || carried > room || self.most > 0 || self.kept.is_some() {
            return None;
        }
        let bytes = from.wire()?.take_carried();
        self.decoder.skip(carried as u64);
        Some(Bytes::from(bytes))
    }

    /// The source has ended: what is behind the body follows.
    fn poll_source_end<S: Source>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut S,
        to: &mut impl Put,
    ) -> Poll<Result<(), FlowError>> {
        let trailers = ready!(from.poll_trailers(cx)).map_err(FlowError::Read)?;
        self.grpc_status = trailers.as_ref().and_then(grpc::status_in);
        let lines = trailers.as_ref().map(fields::trailer_lines).unwrap_or_default();
        Poll::Ready(self.end_of_source(&lines, to))
    }

    /// Whether the body is large and needs no look at its bytes.
    fn splices(&mut self, from: &Wire, to: &Wire) -> bool {
        if self.splice.is_none()
            && self.framing == Framing::Plain
            && self.kept.as_ref().is_none_or(|kept| kept.all().is_none())
            && self
                .decoder
                .remaining()
                .is_some_and(|left| left >= splice::WORTHWHILE)
            && splice::possible(&from.transport, &to.transport)
        {
            self.splice = Splice::new().map(Box::new);
        }
        self.splice.is_some()
    }

    /// Moves one pipe's worth. Returns its size.
    fn move_past(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Wire,
        to: &mut Wire,
    ) -> Poll<Result<usize, FlowError>> {
        let (Some(pipe), Some(left)) = (&mut self.splice, self.decoder.remaining()) else {
            return Poll::Ready(Ok(0));
        };
        let mut moved = 0;
        if !pipe.is_holding() {
            moved = ready!(pipe.poll_fill(cx, &from.transport, left)).map_err(FlowError::Read)?;
            if moved == 0 {
                self.splice = None;
                return Poll::Ready(self.decoder.at_eof().map_err(FlowError::Malformed).map(|()| 0));
            }
            from.bytes_read += moved as u64;
        }
        let drained = pipe.poll_drain(cx, &to.transport, |bytes| to.bytes_written += bytes);
        self.held_up = drained.is_pending();
        // The decoder hears of them once they are written: until then the body is not at its end.
        self.in_pipe += moved as u64;
        ready!(drained).map_err(FlowError::Write)?;
        let whole = std::mem::take(&mut self.in_pipe);
        self.decoder.skip(whole);
        if self.decoder.is_end() {
            self.splice = None;
        }
        Poll::Ready(Ok(usize::try_from(whole).unwrap_or(usize::MAX)))
    }

    /// Has a large body come in pieces worth waking up for.
    fn gathers<S: Source>(&mut self, from: &mut S) {
        let Some(left) = self.decoder.remaining() else {
            return;
        };
        if left < gather::WORTHWHILE {
            return;
        }
        if let Some(wire) = from.wire()
            && wire.transport.is_sealed()
        {
            self.gather.get_or_insert_default().ask(wire);
        }
    }

    /// One read, written on at once. Returns its size.
    fn read<S: Source>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut S,
        to: &mut Wire,
    ) -> Poll<Result<usize, FlowError>> {
        let size = self.size.get();
        self.gathers(from);
        let mut writing = Context::from_waker(cx.waker());
        let mut to = ToWire::new(to, &mut writing);
        let read = from.poll_more(cx, size, |bytes| match self.feed(bytes, &mut to) {
            Ok(used) => (used, Ok(bytes.len())),
            Err(error) => (bytes.len(), Err(error)),
        });
        if let (Some(gather), Some(wire)) = (&mut self.gather, from.wire()) {
            if read.is_pending() {
                gather.wait(cx, wire);
            } else {
                gather.read();
            }
        }
        match ready!(read).map_err(FlowError::Read)? {
            Some(moved) => {
                let moved = moved?;
                if moved == size && !to.wire.has_unsent() {
                    self.size.grow();
                }
                Poll::Ready(to.check().map(|()| moved))
            }
            None => {
                ready!(self.poll_source_end(cx, from, &mut to))?;
                Poll::Ready(to.check().map(|()| 0))
            }
        }
    }

    /// Reads once and throws away what belongs to the body.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>, from: &mut Wire) -> Poll<Result<(), FlowError>> {
        if self.splice.take().is_some() {
            // What lies in the pipe was read, and is body.
            self.decoder.skip(std::mem::take(&mut self.in_pipe));
            if self.decoder.is_end() {
                return Poll::Ready(Ok(()));
            }
        }
        if !from.carried().is_empty() {
            let used = self.feed(from.carried(), &mut Nowhere)?;
            from.consume(used);
            return Poll::Ready(Ok(()));
        }
        let read = ready!(
            from.poll_more(cx, FIRST_READ, |bytes| match self.feed(bytes, &mut Nowhere) {
                Ok(used) => (used, Ok(())),
                Err(error) => (bytes.len(), Err(error)),
            })
        );
        match read.map_err(FlowError::Read)? {
            Some(fed) => Poll::Ready(fed),
            None => Poll::Ready(self.decoder.at_eof().map_err(FlowError::Malformed)),
        }
    }
}

struct Nowhere;

impl Put for Nowhere {
    fn put(&mut self, _: &[&[u8]]) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
