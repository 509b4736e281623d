//! A request's body on its way to an endpoint, and perhaps to another one after it.

use super::context::RequestContext;
use super::flow::{Flow, Framing};
use super::service::Rest;
use crate::h1::body::ChunkLimits;
use crate::message::framing::BodyKind;
use crate::message::names::Name;

/// What was sent of a body so far, as it was sent, while it is little enough to be sent again.
#[derive(Debug)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    most: usize,
    /// There was more than is kept.
    lost: bool,
}

impl Kept {
    pub const fn new(most: usize) -> Self {
        Self {
            bytes: Vec::new(),
            most,
            lost: false,
        }
    }

    /// This, and nothing more.
    pub fn exactly(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            most: bytes.len(),
            lost: false,
        }
    }

    pub fn add(&mut self, parts: &[&[u8]]) {
        let more: usize = parts.iter().map(|part| part.len()).sum();
        if self.lost || more > self.most - self.bytes.len() {
            self.lose();
            return;
        }
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }

    /// Something was sent that is not kept.
    pub fn lose(&mut self) {
        self.lost = true;
        self.bytes = Vec::new();
    }

    /// All that was sent; `None` when that was too much.
    pub fn all(&self) -> Option<&[u8]> {
        (!self.lost).then_some(&*self.bytes)
    }
}

/// See the module's text. Lives over all attempts of a request.
#[derive(Debug)]
pub(super) struct Upload {
    /// What is left to read of it; `None` when nothing is.
    pub flow: Option<Box<Flow>>,
    /// What was sent, once nothing is left to read. Before, the flow has it.
    kept: Option<Box<Kept>>,
    bodiless: bool,
    /// How what was sent was framed, where that was for us to choose.
    framing: Framing,
    /// How it goes in HTTP/1.1.
    framing_of_http1: Framing,
}

impl Upload {
    /// `keep`: how much of the body may have to be sent again; 0 when it never will.
    pub fn new(context: &RequestContext, keep: u64) -> Self {
        let framing = match context.body {
            BodyKind::None | BodyKind::Length(0) => {
                return Self {
                    flow: None,
                    kept: None,
                    bodiless: true,
                    framing: Framing::Plain,
                    framing_of_http1: Framing::Plain,
                };
            }
            // To its stream's end, in HTTP/2.
            BodyKind::Chunked | BodyKind::UntilClose => Framing::Chunked,
            BodyKind::Length(_) => Framing::Plain,
        };
        let limits = ChunkLimits::request(&context.listener.plan.head_limits);
        let mut flow = Flow::new(context.body, framing, limits).limited(context.body_limit());
        let fits = !matches!(context.body, BodyKind::Length(length) if length > keep);
        if keep > 0 && fits {
            flow.keep(Kept::new(usize::try_from(keep).unwrap_or(usize::MAX)));
        }
        Self {
            flow: Some(Box::new(flow)),
            kept: None,
            bodiless: false,
            framing,
            framing_of_http1: framing,
        }
    }

    fn sent(&self) -> Option<&Kept> {
        match &self.flow {
            Some(flow) => flow.kept(),
            None => self.kept.as_deref(),
        }
    }

    /// What another endpoint was sent, for the one that is asked now.
    pub fn sent_before(&self) -> &[u8] {
        self.sent().and_then(Kept::all).unwrap_or_default()
    }

    /// These bytes, all there are so far, were made for an endpoint that took none of them.
    pub fn not_sent(&mut self, bytes: &[u8]) {
        match &mut self.flow {
            Some(flow) if flow.kept().is_none_or(|kept| kept.all().is_none()) => {
                flow.keep(Kept::exactly(bytes));
            }
            Some(_) => {}
            None => self.kept = Some(Box::new(Kept::exactly(bytes))),
        }
    }

    /// The last of it was read and sent.
    pub fn finish(&mut self) {
        self.kept = self.flow.take().and_then(|flow| flow.into_kept());
    }

    /// Whether another endpoint can be sent what this one was.
    pub fn is_whole(&self) -> bool {
        self.bodiless
            || self.sent().is_some_and(|kept| kept.all().is_some())
            || self.flow.as_ref().is_some_and(|flow| flow.is_untouched())
    }

    /// Whether nothing is left to send, nor was sent before.
    pub fn is_over(&self) -> bool {
        self.flow.is_none() && self.sent_before().is_empty()
    }

    /// Has the body go as payload alone from now on, as in HTTP/2. False: it has begun in chunks. `to_its_end`: it ends
    /// with its stream, whatever was announced, so that trailers may follow.
    pub fn goes_plain(&mut self, to_its_end: bool) -> bool {
        let goes = self.goes(Framing::Plain);
        if let (true, Some(flow)) = (to_its_end, &mut self.flow)
            && flow.is_untouched()
        {
            flow.goes_to_its_end();
        }
        goes
    }

    /// Has the body go as HTTP/1.1 needs it from now on: in chunks, where its length is not known. False: it has begun
    /// without.
    pub fn goes_as_http1(&mut self) -> bool {
        self.goes(self.framing_of_http1)
    }

    fn goes(&mut self, framing: Framing) -> bool {
        match &mut self.flow {
            _ if self.framing == framing => true,
            Some(flow) if flow.is_untouched() => {
                flow.reframe(framing);
                self.framing = framing;
                true
            }
            _ => false,
        }
    }
}

/// What is left of the request's body is the connection's again.
pub(super) fn put_back(context: &mut RequestContext, flow: Box<Flow>) {
    // Who asked for leave to send a body, and got a final answer instead, may send it or not.
    context.rest = match expects(context) {
        true => Rest::Unknown,
        false => Rest::Unread(flow),
    };
}

/// Whether the client may be waiting for leave to send its body.
pub(super) fn expects(context: &RequestContext) -> bool {
    let head = context.request.as_ref();
    head.is_some_and(|head| head.buf.has(Name::Expect))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_kept_up_to_the_bound_and_then_not_at_all() {
        let mut kept = Kept::new(8);
        kept.add(&[b"abc", b"de"]);
        assert_eq!(kept.all(), Some(&b"abcde"[..]));
        kept.add(&[b"fgh"]);
        assert_eq!(kept.all(), Some(&b"abcdefgh"[..]));
        kept.add(&[b""]);
        assert!(kept.all().is_some());
        kept.add(&[b"i"]);
        assert_eq!(kept.all(), None);
        kept.add(&[b""]);
        assert_eq!(kept.all(), None, "what is lost stays lost");
        assert_eq!(kept.bytes.capacity(), 0);
    }
}
