//! Where a body's bytes go: behind a head, to a wire, into frames, to one of those and a copy, or nowhere.

use super::FlowError;
use crate::message::fields;
use crate::net::wire::Wire;
use crate::proxy::upload::Kept;
use http::HeaderMap;
use std::io;
use std::task::Context;

/// Where a body's bytes go.
pub(in crate::proxy) trait Put {
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
pub(super) struct Keeping<'a, P> {
    pub to: &'a mut P,
    pub kept: &'a mut Kept,
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
pub(super) struct ToWire<'a, 'b> {
    pub wire: &'a mut Wire,
    cx: &'a mut Context<'b>,
    failed: Option<io::Error>,
}

impl<'a, 'b> ToWire<'a, 'b> {
    pub const fn new(wire: &'a mut Wire, cx: &'a mut Context<'b>) -> Self {
        Self {
            wire,
            cx,
            failed: None,
        }
    }

    pub fn check(self) -> Result<(), FlowError> {
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
pub(super) struct ToFrames {
    pub payload: Vec<u8>,
    pub trailers: HeaderMap,
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

/// They are thrown away.
pub(super) struct Nowhere;

impl Put for Nowhere {
    fn put(&mut self, _: &[&[u8]]) -> io::Result<()> {
        Ok(())
    }
}
