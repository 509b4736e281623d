//! Cookies where they lie in a head: found by name, and one of them taken out.

use super::edits::Edits;
use super::head::HeadBuf;
use super::names::Name;
use super::params::cookie_values;

/// Takes every cookie of this name out of a request. What is left of a field keeps its bytes; a field of which nothing
/// is left goes.
pub fn take_out(head: &HeadBuf, name: &[u8], edits: &mut Edits) {
    if cookie_values(head, name).next().is_none() {
        return;
    }
    for index in 0..head.fields.len() {
        if head.fields[index].id != Name::Cookie || edits.is_dropped(index) {
            continue;
        }
        let value = head.value(index);
        if !pairs(value).any(|pair| is_named(pair, name)) {
            continue;
        }
        edits.drop_index(index);
        if pairs(value).all(|pair| is_named(pair, name) || pair.trim_ascii().is_empty()) {
            continue;
        }
        edits.add_with(head.name(index), |out| {
            let start = out.len();
            for pair in pairs(value).filter(|pair| !is_named(pair, name)) {
                if out.len() > start {
                    out.push(b';');
                    out.extend_from_slice(pair);
                } else {
                    out.extend_from_slice(pair.trim_ascii_start());
                }
            }
        });
    }
}

/// The pieces of a Cookie field, with the space around them.
fn pairs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|b| *b == b';')
}

/// Whether a piece is the cookie of this name, by the same reading as [`cookie_values`].
fn is_named(pair: &[u8], name: &[u8]) -> bool {
    let pair = pair.trim_ascii();
    pair.len() > name.len() && pair[name.len()] == b'=' && pair[..name.len()] == *name
}

/// Name and value that a Set-Cookie field gives (RFC 6265 section 5.2), without the attributes.
#[must_use]
pub fn given(set_cookie: &[u8]) -> Option<(&[u8], &[u8])> {
    let pair = set_cookie.split(|b| *b == b';').next()?;
    let at = memchr::memchr(b'=', pair)?;
    Some((pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::head::{Field, Span};
    use proptest::prelude::*;

    fn head(fields: &[(&str, &str)]) -> HeadBuf {
        let mut head = HeadBuf::default();
        for (name, value) in fields {
            let start = head.bytes.len();
            head.bytes.extend_from_slice(name.as_bytes());
            let colon = head.bytes.len();
            head.bytes.extend_from_slice(value.as_bytes());
            head.push(Field {
                name: Span::new(start, colon),
                value: Span::new(colon, head.bytes.len()),
                id: Name::recognise(name.as_bytes()),
            });
        }
        head
    }

    /// The Cookie fields without `tg`, in the order in which they are written.
    fn without(fields: &[(&str, &str)]) -> Vec<String> {
        let head = head(fields);
        let mut edits = Edits::default();
        take_out(&head, b"tg", &mut edits);
        let kept = (0..head.fields.len()).filter(|index| !edits.is_dropped(*index));
        let kept = kept.map(|index| String::from_utf8_lossy(head.value(index)).into_owned());
        let added = edits.lines().map(|line| {
            let line = String::from_utf8_lossy(line).into_owned();
            line.trim_end().split_once(": ").unwrap().1.to_owned()
        });
        kept.chain(added).collect()
    }

    #[test]
    fn one_cookie_goes_and_the_bytes_of_the_others_stay() {
        let left = |value: &str| without(&[("Cookie", value)]);
        assert_eq!(left("tg=1"), [""; 0]);
        assert_eq!(left(" tg=1 ; "), [""; 0]);
        assert_eq!(left("tg=1; a=2"), ["a=2"]);
        assert_eq!(left("a=2; tg=1"), ["a=2"]);
        assert_eq!(left("a=2;tg=1;  b=\"x y\" ;c"), ["a=2;  b=\"x y\" ;c"]);
        assert_eq!(left("tg=1; a=2; tg=3"), ["a=2"], "all of them");
        for others in ["TG=1; tgx=2; xtg=3", "tg; a=tg=1", "a=1;; b=2"] {
            assert_eq!(left(others), [others], "nothing is of that name");
        }
    }

    #[test]
    fn it_is_taken_out_of_several_fields() {
        let left = without(&[
            ("Cookie", "a=1"),
            ("X", "tg=1"),
            ("cookie", "tg=2"),
            ("Cookie", "tg=3; b=4"),
        ]);
        assert_eq!(left, ["a=1", "tg=1", "b=4"]);
    }

    #[test]
    fn a_field_that_goes_anyway_does_not_come_back() {
        let head = head(&[("Cookie", "tg=1; a=2")]);
        let mut edits = Edits::default();
        edits.drop_index(0);
        take_out(&head, b"tg", &mut edits);
        assert_eq!(edits.lines().count(), 0);
    }

    #[test]
    fn a_set_cookie_field_begins_with_name_and_value() {
        assert_eq!(given(b"sid=abc; Path=/; x=y"), Some((&b"sid"[..], &b"abc"[..])));
        assert_eq!(given(b" sid = a=b "), Some((&b"sid"[..], &b"a=b"[..])));
        assert_eq!(given(b"sid=; Max-Age=0"), Some((&b"sid"[..], &b""[..])));
        assert_eq!(given(b"sid; a=b"), None);
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_no_such_cookie_is_left_and_no_other_is_lost(value in "[tga=; \"1]{0,40}") {
            let before = head(&[("Cookie", &value)]);
            let left = without(&[("Cookie", &value)]).concat();
            let after = head(&[("Cookie", &left)]);
            prop_assert_eq!(cookie_values(&after, b"tg").count(), 0);
            for name in [&b"a"[..], b"t", b"", b"1", b"g"] {
                let values = |head| cookie_values(head, name).map(<[u8]>::to_vec).collect::<Vec<_>>();
                prop_assert_eq!(values(&before), values(&after));
            }
        }
    }
}
