//! Fields that end at the gateway: hop-by-hop ones and those that Connection nominates (RFC 9110 section
//! 7.6.1), look-alikes with underscores, and what may not stand in a trailer section (section 6.5.1).
//!
//! A client may nominate any field, so nomination is a way to take from a request what another hop put in
//! (`Connection: X-Forwarded-For`). Fields that carry framing, routing, identity or the client's address
//! cannot be nominated away: such an option is without effect, as the RFC's "MUST NOT send a connection
//! option corresponding to a field intended for all recipients" makes it meaningless.

use super::bytes::{is_token, list};
use super::edits::Edits;
use super::framing::MAX_CONNECTION_OPTIONS;
use super::head::HeadBuf;
use super::names::Name;
use smallvec::SmallVec;

/// Always dropped, both ways. The framing fields are not here: the writer sees to them. Nor is Trailer,
/// which announces fields that are passed on.
const HOP_BY_HOP: [Name; 8] = [
    Name::Connection,
    Name::KeepAlive,
    Name::ProxyConnection,
    Name::ProxyAuthenticate,
    Name::ProxyAuthorization,
    Name::Te,
    Name::Upgrade,
    Name::Http2Settings,
];

/// Drops the fields that are meant for this hop alone.
pub fn drop_hop_by_hop(head: &HeadBuf, edits: &mut Edits) {
    // Nearly always there is nothing in it but one common option.
    if head.all(Name::Connection).any(|value| !is_common_option(value)) {
        drop_nominated(head, edits);
    }
    for id in HOP_BY_HOP {
        if head.has(id) {
            edits.drop_known(head, id);
        }
    }
}

fn drop_nominated(head: &HeadBuf, edits: &mut Edits) {
    for option in list(head.all(Name::Connection)).take(MAX_CONNECTION_OPTIONS) {
        if is_common_option(option) || is_protected(option) {
            continue;
        }
        for index in 0..head.fields.len() {
            if head.name(index).eq_ignore_ascii_case(option) {
                edits.drop_index(index);
            }
        }
    }
}

/// Options that are no fields, or fields that are dropped anyway.
fn is_common_option(option: &[u8]) -> bool {
    [&b"keep-alive"[..], b"close", b"upgrade", b"te"]
        .iter()
        .any(|known| option.eq_ignore_ascii_case(known))
}

/// Whether a field of this name stays although Connection nominates it: every name that the gateway itself
/// acts on, except those that are hop-by-hop, and whatever tells of the client.
fn is_protected(name: &[u8]) -> bool {
    let id = Name::recognise(name);
    match id {
        Name::Other | Name::Underscored => {
            starts_with_ignore_case(name, b"x-forwarded-") || starts_with_ignore_case(name, b"x-tidegate-")
        }
        _ => !HOP_BY_HOP.contains(&id),
    }
}

/// Drops fields with an underscore in their name. Applications that read headers through variables cannot
/// tell `X_Forwarded_For` from `X-Forwarded-For`.
#[inline]
pub fn drop_underscored(head: &HeadBuf, edits: &mut Edits) {
    edits.drop_known(head, Name::Underscored);
}

/// Trailer fields that are never passed on, beside those the gateway acts on: framing, routing, requests'
/// modifiers, authentication, and how to process the content.
const NOT_IN_TRAILERS: [&[u8]; 24] = [
    b"age",
    b"cache-control",
    b"content-encoding",
    b"content-range",
    b"date",
    b"expires",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"max-forwards",
    b"pragma",
    b"proxy-authentication-info",
    b"range",
    b"authentication-info",
    b"cdn-loop",
    b"early-data",
    b"priority",
    b"strict-transport-security",
    b"true-client-ip",
    b"vary",
    b"warning",
    b"www-authenticate",
];

/// Whether a trailer field of this name may be passed on. A recipient may merge trailers into the head, so
/// nothing that means something in a head may come in by this door.
#[must_use]
pub fn is_forwardable_trailer(name: &[u8]) -> bool {
    match Name::recognise(name) {
        Name::Other => {
            // The engine of HTTP/2 takes a quotation mark for a letter of a name.
            is_token(name)
                && !NOT_IN_TRAILERS
                    .iter()
                    .any(|known| name.eq_ignore_ascii_case(known))
                && !starts_with_ignore_case(name, b"x-forwarded-")
                && !starts_with_ignore_case(name, b"x-tidegate-")
                && !starts_with_ignore_case(name, b"access-control-")
                && !starts_with_ignore_case(name, b"proxy-")
                && !starts_with_ignore_case(name, b"sec-")
        }
        // Names in gRPC's metadata may have them; what only looks like another name is judged as that one.
        Name::Underscored => {
            let plain: SmallVec<[u8; 32]> = name.iter().map(|&b| if b == b'_' { b'-' } else { b }).collect();
            is_forwardable_trailer(&plain)
        }
        _ => false,
    }
}

fn starts_with_ignore_case(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests;
