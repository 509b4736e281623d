//! A body on its way to a wire: read and written on, or moved past user space where it is large.

use super::put::ToWire;
use super::{BYTES_PER_TURN, Flow, FlowError, Framing};
use crate::net::gather;
use crate::net::source::Source;
use crate::net::splice::{self, Splice};
use crate::net::wire::Wire;
use std::task::{Context, Poll, ready};

impl Flow {
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
}
