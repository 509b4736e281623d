//! Reading query parameters and cookies where they lie, for route predicates and variables.

use super::head::HeadBuf;
use super::names::Name;
use super::path::escape;
use std::borrow::Cow;

/// The `name=value` pairs of a query, as received; a pair without `=` has an empty value.
pub fn query_pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query
        .split(|&b| b == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| split_pair(pair).unwrap_or((pair, b"")))
}

/// The values, as received, of every query parameter whose decoded name is `name`.
pub fn query_values<'a>(query: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    query_pairs(query)
        .filter(move |(found, _)| *decode(found) == *name)
        .map(|(_, value)| value)
}

/// The values of every cookie with this name (names are case-sensitive, RFC 6265 section 5.4), as received.
pub fn cookie_values<'a>(head: &'a HeadBuf, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    head.all(Name::Cookie)
        .flat_map(|field| field.split(|&b| b == b';'))
        .filter_map(|pair| split_pair(pair.trim_ascii()))
        .filter(move |(found, _)| *found == name)
        .map(|(_, value)| value)
}

fn split_pair(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b'=', pair)?;
    Some((&pair[..at], &pair[at + 1..]))
}

/// Undoes form encoding: `+` is a space, `%XX` a byte; a broken escape stands for itself. Borrows when there
/// is nothing to undo.
#[must_use]
pub fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut i = 0;
    while i < text.len() {
        match text[i] {
            b'+' => out.push(b' '),
            b'%' => match escape(&text[i + 1..]) {
                Some(value) => {
                    out.push(value);
                    i += 2;
                }
                None => out.push(b'%'),
            },
            byte => out.push(byte),
        }
        i += 1;
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::head::{Field, Span};

    fn values(query: &str, name: &str) -> Vec<String> {
        query_values(query.as_bytes(), name.as_bytes())
            .map(|v| String::from_utf8(v.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn query_parameters_are_found_by_their_decoded_name() {
        assert_eq!(values("a=1&b=2&a=3&&%61=4&a", "a"), ["1", "3", "4", ""]);
        assert_eq!(values("a=x%20y=z&ab=1", "a"), ["x%20y=z"]);
        assert!(values("", "a").is_empty());
    }

    #[test]
    fn form_encoding_is_undone_and_broken_escapes_stay() {
        assert_eq!(*decode(b"a+b%41%zz%4"), *b"a bA%zz%4");
        assert!(matches!(decode(b"plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn cookies_are_found_over_several_fields() {
        let mut head = HeadBuf::default();
        for value in ["a=1; b=2;c=x=y", "a=3; A=4"] {
            let start = head.bytes.len();
            head.bytes.extend_from_slice(value.as_bytes());
            head.push(Field {
                name: Span::default(),
                value: Span::new(start, head.bytes.len()),
                id: Name::Cookie,
            });
        }
        assert_eq!(cookie_values(&head, b"a").collect::<Vec<_>>(), [b"1", b"3"]);
        assert_eq!(cookie_values(&head, b"c").collect::<Vec<_>>(), [b"x=y"]);
        assert_eq!(cookie_values(&head, b"d").count(), 0);
    }
}
