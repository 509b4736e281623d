//! The two directions of an HTTP/2 stream.
//!
//! Flow control is the back-pressure. What arrives is given back to the other side's window only when it has gone
//! on ([`Inbound`]); what leaves is made only when there is room for it ([`Outbound`]), so a slow reader makes
//! nobody hold a body for him.

use super::source::Source;
use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use std::io;
use std::task::{Context, Poll, ready};

/// What arrives on a stream.
#[derive(Debug)]
pub struct Inbound {
    stream: RecvStream,
    /// Received, not used.
    chunk: Bytes,
    /// Used, not given back to the window.
    used: usize,
    /// Bytes of payload received.
    pub bytes_read: u64,
}

impl Inbound {
    #[must_use]
    pub const fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            chunk: Bytes::new(),
            used: 0,
            bytes_read: 0,
        }
    }

    /// Whether nothing comes any more, trailers included.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.chunk.is_empty() && self.stream.is_end_stream()
    }

    /// Receives the next frame's payload; ready with false at the end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.chunk.is_empty() {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    self.bytes_read += bytes.len() as u64;
                    self.chunk = bytes;
                }
                Some(Err(error)) => return Poll::Ready(Err(as_io(error))),
                None => return Poll::Ready(Ok(false)),
            }
        }
        Poll::Ready(Ok(true))
    }
}

impl Source for Inbound {
    fn carried(&self) -> &[u8] {
        &self.chunk
    }

    fn consume(&mut self, n: usize) {
        self.chunk.advance(n);
        self.used += n;
    }

    fn poll_more<R>(
        &mut self,
        cx: &mut Context<'_>,
        _size: usize,
        use_it: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Poll<io::Result<Option<R>>> {
        if !ready!(self.poll_chunk(cx))? {
            return Poll::Ready(Ok(None));
        }
        let (used, result) = use_it(&self.chunk);
        self.consume(used);
        Poll::Ready(Ok(Some(result)))
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_chunk(cx).map_ok(drop)
    }

    fn release(&mut self) {
        if self.used > 0 {
            // Fails where more is given back than came, and that cannot be.
            let _counted = self.stream.flow_control().release_capacity(self.used);
            self.used = 0;
        }
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<HeaderMap>>> {
        self.stream.poll_trailers(cx).map_err(as_io)
    }
}

/// What leaves on a stream, behind its head.
#[derive(Debug)]
pub struct Outbound {
    stream: SendStream<Bytes>,
    ended: bool,
    /// Bytes of payload handed over for sending.
    pub bytes_written: u64,
}

impl Outbound {
    /// `ended`: the head was all.
    #[must_use]
    pub const fn new(stream: SendStream<Bytes>, ended: bool) -> Self {
        Self {
            stream,
            ended,
            bytes_written: 0,
        }
    }

    /// Whether the end was sent.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.ended
    }

    /// How many bytes, at most `want`, may be sent now. They are kept for this stream out of the connection's window
    /// until they are sent or [given back](Self::give_back): to be asked for only when there is something to send.
    ///
    /// # Errors
    /// The other side took the stream back, or the connection is gone.
    pub fn poll_room(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<io::Result<usize>> {
        self.stream.reserve_capacity(want);
        loop {
            match self.stream.capacity().min(want) {
                0 => match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(as_io(error))),
                    None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                },
                room => return Poll::Ready(Ok(room)),
            }
        }
    }

    /// Leaves to other streams what was not used.
    pub fn give_back(&mut self) {
        self.stream.reserve_capacity(0);
    }

    /// Sends what there is room for.
    ///
    /// # Errors
    /// As for [`Self::poll_room`].
    pub fn send(&mut self, bytes: Bytes, end: bool) -> io::Result<()> {
        if bytes.is_empty() && !end {
            return Ok(());
        }
        self.bytes_written += bytes.len() as u64;
        self.ended |= end;
        self.stream.send_data(bytes, end).map_err(as_io)
    }

    /// Ends the stream, with these fields behind it.
    ///
    /// # Errors
    /// As for [`Self::poll_room`].
    pub fn end(&mut self, trailers: HeaderMap) -> io::Result<()> {
        if trailers.is_empty() {
            return self.send(Bytes::new(), true);
        }
        self.ended = true;
        self.stream.send_trailers(trailers).map_err(as_io)
    }

    /// Ready when the other side took the stream back.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Reason>> {
        self.stream.poll_reset(cx).map_err(as_io)
    }

    /// Ends the stream at once, for this reason.
    pub fn reset(&mut self, reason: Reason) {
        self.ended = true;
        self.stream.send_reset(reason);
    }
}

/// What a log says of an error of HTTP/2.
#[must_use]
pub fn detail(error: &h2::Error) -> &'static str {
    if !error.is_remote() {
        return "the rules of HTTP/2 were broken";
    }
    if error.is_go_away() {
        return "the connection was ended (GOAWAY)";
    }
    match error.reason() {
        Some(Reason::NO_ERROR) => "the stream was reset (NO_ERROR)",
        Some(Reason::PROTOCOL_ERROR) => "the stream was reset (PROTOCOL_ERROR)",
        Some(Reason::INTERNAL_ERROR) => "the stream was reset (INTERNAL_ERROR)",
        Some(Reason::FLOW_CONTROL_ERROR) => "the stream was reset (FLOW_CONTROL_ERROR)",
        Some(Reason::REFUSED_STREAM) => "the stream was refused (REFUSED_STREAM)",
        Some(Reason::CANCEL) => "the stream was reset (CANCEL)",
        Some(Reason::ENHANCE_YOUR_CALM) => "the stream was reset (ENHANCE_YOUR_CALM)",
        Some(Reason::HTTP_1_1_REQUIRED) => "the stream was reset (HTTP_1_1_REQUIRED)",
        _ => "the stream was reset",
    }
}

/// The error as one of input and output, which is what it is to the other side of an exchange.
#[must_use]
pub fn as_io(error: h2::Error) -> io::Error {
    let kind = if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::Other.into());
    } else if error.is_remote() {
        io::ErrorKind::ConnectionReset
    } else if error.is_library() {
        io::ErrorKind::InvalidData
    } else {
        // We wrote on a stream that had ended meanwhile.
        io::ErrorKind::ConnectionAborted
    };
    io::Error::new(kind, error)
}
