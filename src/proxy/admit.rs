//! Whether a request may be served at all, and what it is about: framing, host, path, who asks.

use super::client::{Client, Link};
use super::client_ip;
use super::context::{RequestContext, Text};
use super::error::ProxyError;
use super::flow::{Flow, Framing};
use super::service::Rest;
use crate::h1::body::ChunkLimits;
use crate::message::framing::{self, BodyKind};
use crate::message::head::{Method, RequestHead, Span};
use crate::message::host::{self, Target};
use crate::message::names::Name;
use crate::message::path::{self, PathPolicy};
use crate::message::token::{Reject, Token};
use crate::snapshot::RequestIdPolicy;
use crate::tls::server::{Served, ServerTls};
use smallvec::SmallVec;

/// Longest request id taken over from a client.
const LONGEST_REQUEST_ID: usize = 128;

/// What is known of an admitted request beyond its context.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    /// `OPTIONS *`.
    pub about_the_server: bool,
    /// The target was in absolute form, which endpoints do not expect.
    pub absolute: bool,
}

/// Checks a request and notes its normal forms in the context.
pub(super) fn admit(client: &Client, context: &mut RequestContext) -> Result<Admitted, ProxyError> {
    // Until its framing is understood, nothing that follows can be taken for a request.
    context.rest = Rest::Unknown;
    let found = inspect(context.head()?, &context.listener.plan.path_policy)?;
    context.body = match &client.link {
        Link::H1(_) => found.body,
        // What follows an extended CONNECT is no body.
        Link::H2(_) if context.head()?.buf.has(Name::Upgrade) => BodyKind::None,
        Link::H2(stream) => stream.body(found.body),
    };
    context.query = found.query;
    context.host = found.host;
    context.path = found.path;
    context.rest = if found.expects_continue && context.body != BodyKind::None {
        Rest::Unknown
    } else {
        unread(context)
    };
    directed(context)?;
    client_ip::resolve(client, context);
    context.request_id = request_id(context);
    Ok(Admitted {
        about_the_server: found.asterisk,
        absolute: found.absolute,
    })
}

/// Whether the connection is one for the request's host: a certificate is for some hosts and not for others, and
/// what one host asks of a client's certificate another may not (RFC 9110 section 7.4).
fn directed(context: &RequestContext) -> Result<(), Reject> {
    let (Some(session), Some(tls)) = (&context.who.tls, &context.listener.plan.tls) else {
        return Ok(());
    };
    is_directed(tls, &session.served, context.host_bytes())
}

/// The same of a connection that was made for `served`.
pub(super) fn is_directed(tls: &ServerTls, served: &Served, host: &[u8]) -> Result<(), Reject> {
    // Requests of HTTP/1.0 may name none; then they are for the one that the connection is for.
    let host = match (host, &served.name) {
        (b"", Some(name)) => name.as_bytes(),
        (host, _) => host,
    };
    // What is no text is no name of a certificate.
    let admitted = std::str::from_utf8(host).is_ok_and(|host| tls.admits(served, host));
    if admitted {
        Ok(())
    } else {
        Err(Reject::new(
            Token::Misdirected,
            "the connection was made for another host than the request is for",
        ))
    }
}

/// What a sound head says.
pub(super) struct Found {
    pub body: BodyKind,
    pub host: Text,
    pub path: Text,
    pub query: Option<Span>,
    /// `OPTIONS *`.
    pub asterisk: bool,
    absolute: bool,
    expects_continue: bool,
}

/// Reads what a head says, or why it is refused.
pub(super) fn inspect(head: &RequestHead, policy: &PathPolicy) -> Result<Found, Reject> {
    framing::check_request(head)?;
    let body = framing::request_body(head)?;
    if matches!(head.method, Method::Connect | Method::Trace) {
        return Err(Reject::new(
            Token::MethodNotAllowed,
            "CONNECT and TRACE are not served",
        ));
    }
    let expects_continue = framing::expects_continue(head)?;
    let named = head.buf.get(Name::Host).map(host::parse_host).transpose()?;
    let target = host::target_form(head.method, head.target())?;
    let effective = match (&target, named) {
        // HTTP/1.0 may come without any host.
        (Target::Origin { .. } | Target::Asterisk, None) => None,
        (_, named) => Some(target.effective_host(named)?),
    };
    let mut made = Vec::new();
    let host = match effective {
        Some(host) => {
            let normal = host.normal(&mut made);
            span_in(head, normal).map_or_else(|| Text::Own(normal.to_vec()), Text::Head)
        }
        None => Text::default(),
    };
    let asterisk = target.is_asterisk();
    let path = if asterisk {
        Text::Own(b"*".to_vec())
    } else {
        normal_path(head, target.path(), policy)?
    };
    Ok(Found {
        body,
        host,
        path,
        query: target.query().and_then(|query| span_in(head, query)),
        asterisk,
        absolute: matches!(target, Target::Absolute { .. }),
        expects_continue,
    })
}

fn normal_path(head: &RequestHead, path: &[u8], policy: &PathPolicy) -> Result<Text, Reject> {
    let mut out = Vec::new();
    Ok(match path::normalise(path, policy, &mut out)? {
        path::Normal::AsIs => span_in(head, path).map_or_else(|| Text::Own(path.to_vec()), Text::Head),
        path::Normal::Written => Text::Own(out),
    })
}

/// Where a piece of the head lies in it; `None` for text from elsewhere.
fn span_in(head: &RequestHead, piece: &[u8]) -> Option<Span> {
    let bytes = head.buf.bytes.as_ptr_range();
    let piece = piece.as_ptr_range();
    if bytes.start <= piece.start && piece.end <= bytes.end {
        let start = piece.start as usize - bytes.start as usize;
        return Some(Span::new(
            start,
            start + (piece.end as usize - piece.start as usize),
        ));
    }
    None
}

/// The body as something that can be read and thrown away.
fn unread(context: &RequestContext) -> Rest {
    match context.body {
        BodyKind::None | BodyKind::Length(0) => Rest::Nothing,
        body => Rest::Unread(Box::new(Flow::new(
            body,
            Framing::Plain,
            ChunkLimits::request(&context.listener.plan.head_limits),
        ))),
    }
}

/// The request id: taken over where the policy says so and it is sane, else a new one of 128 random bits.
fn request_id(context: &RequestContext) -> SmallVec<[u8; 32]> {
    let keep = match context.listener.plan.request_id {
        RequestIdPolicy::Off => return SmallVec::new(),
        RequestIdPolicy::Generate => false,
        RequestIdPolicy::IfTrusted => context.trusted,
        RequestIdPolicy::AlwaysKeep => true,
    };
    if keep
        && let Some(given) = context
            .request
            .as_ref()
            .and_then(|head| head.buf.get(Name::XRequestId))
        && !given.is_empty()
        && given.len() <= LONGEST_REQUEST_ID
        && given.iter().all(|b| b.is_ascii_graphic())
    {
        return SmallVec::from_slice(given);
    }
    let random = fastrand::u128(..);
    let mut id = [0; 32];
    for (place, shift) in id.chunks_exact_mut(8).zip([96, 64, 32, 0]) {
        place.copy_from_slice(&hex_digits((random >> shift) as u32));
    }
    SmallVec::from_buf(id)
}

/// The digits of a number in lower case, all at once: each nibble gets a byte of its own, and what is above nine is a
/// letter.
const fn hex_digits(number: u32) -> [u8; 8] {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let halves = number as u64;
    let halves = (halves | halves << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (bytes | bytes << 4) & each(0x0f);
    let letters = (nibbles + each(6)) >> 4 & each(1);
    (nibbles + each(b'0') + letters * (b'a' - b'0' - 10) as u64).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        for number in [0, 1, 0x0123_4567, 0x89ab_cdef, 0xfedc_ba98, 0x9a9a_a9a9, u32::MAX] {
            assert_eq!(hex_digits(number), format!("{number:08x}").as_bytes());
        }
    }
}
