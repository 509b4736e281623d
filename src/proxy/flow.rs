//! One direction of a body: out of one framing, into another.

mod put;
mod to_stream;
mod to_wire;

use super::upload::Kept;
use crate::h1::body::{BodyDecoder, ChunkLimits, Step};
use crate::h1::write;
use crate::message::fields;
use crate::message::framing::BodyKind;
use crate::message::grpc::{self, Code};
use crate::message::token::{Reject, Token};
use crate::net::gather::Gather;
use crate::net::scratch::{FIRST_READ, ReadSize};
use crate::net::source::Source;
use crate::net::splice::Splice;
use crate::net::wire::Wire;
use put::{Keeping, Nowhere, Put};
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

#[cfg(test)]
mod tests;
