//! A body on its way to a stream of HTTP/2, as frames.

use super::put::ToFrames;
use super::{BYTES_PER_TURN, Flow, FlowError, Framing};
use crate::message::{fields, grpc};
use crate::net::frames::Outbound;
use crate::net::source::Source;
use bytes::Bytes;
use http::HeaderMap;
use std::task::{Context, Poll, ready};

impl Flow {
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
}
