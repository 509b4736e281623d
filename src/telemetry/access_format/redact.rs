//! Secrets in query strings, left out of the log by the name of their parameter.

use crate::message::scan::find_parameter_bound;
use percent_encoding::percent_decode;

/// What stands for a redacted value.
const MASK: &[u8] = b"***";

/// Names of query parameters whose values are not to be logged.
#[derive(Clone, Debug, Default)]
pub struct Redact {
    names: Box<[Box<[u8]>]>,
    /// Length of the shortest name. An encoded name is never shorter than it is decoded.
    shortest: usize,
}

impl Redact {
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        Self {
            names: names.iter().map(|n| n.as_bytes().into()).collect(),
            shortest: names.iter().map(String::len).min().unwrap_or(0),
        }
    }

    /// Whether the value of this parameter is to be hidden. Names are compared percent-decoded and in any case,
    /// since servers differ in what they take for the same parameter.
    #[must_use]
    pub fn hides(&self, parameter: &[u8]) -> bool {
        if parameter.len() < self.shortest {
            return false;
        }
        if memchr::memchr2(b'%', b'+', parameter).is_none() {
            return self.names.iter().any(|n| n.eq_ignore_ascii_case(parameter));
        }
        let decoded = || percent_decode(parameter).map(|b| if b == b'+' { b' ' } else { b });
        self.names.iter().any(|name| {
            decoded()
                .map(|b| b.to_ascii_lowercase())
                .eq(name.iter().map(u8::to_ascii_lowercase))
        })
    }

    /// Hands `uri` to `write`, piece by piece, with the hidden values replaced.
    pub fn uri(&self, uri: &[u8], write: impl FnMut(&[u8])) {
        let query = match self.names.is_empty() {
            true => None,
            false => memchr::memchr2(b'?', b'#', uri),
        };
        self.masked(uri, query.map_or(uri.len(), |mark| mark + 1), write);
    }

    /// The same for a query string on its own.
    pub fn query(&self, query: &[u8], write: impl FnMut(&[u8])) {
        self.masked(query, if self.names.is_empty() { query.len() } else { 0 }, write);
    }

    /// A parameter may begin after any separator that some server knows, but a hidden value ends only where all
    /// agree that it does: so no reading of the string leaves a part of it visible.
    fn masked(&self, text: &[u8], query: usize, mut write: impl FnMut(&[u8])) {
        let (mut rest, mut from) = (text, query);
        while let Some(value) = self.hidden(rest, from) {
            let (shown, hidden) = rest.split_at(value);
            write(shown);
            write(MASK);
            let end = memchr::memchr2(b'&', b'#', hidden).unwrap_or(hidden.len());
            (rest, from) = (&hidden[end..], 0);
        }
        write(rest);
    }

    /// Where the first hidden value begins, from `from` on.
    fn hidden(&self, text: &[u8], from: usize) -> Option<usize> {
        // The equals sign is a bound too: for those who split a parameter at its last, a name begins after it.
        let mut name = from;
        loop {
            let bound = name + find_parameter_bound(text.get(name..).unwrap_or_default());
            let is_name = *text.get(bound)? == b'=';
            if is_name && self.hides(&text[name..bound]) {
                return Some(bound + 1);
            }
            name = bound + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redacted(uri: &str) -> String {
        let redact = Redact::new(&["token".into(), "api key".into()]);
        let mut out = Vec::new();
        redact.uri(uri.as_bytes(), |piece| out.extend_from_slice(piece));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn named_values_are_masked_wherever_they_stand() {
        for (uri, expected) in [
            ("/a?token=s3cret", "/a?token=***"),
            ("/a?x=1&token=s3cret&y=2", "/a?x=1&token=***&y=2"),
            ("/a?token=one&token=two", "/a?token=***&token=***"),
            ("/a?TOKEN=s3cret", "/a?TOKEN=***"),
            ("/a?%74oken=s3cret", "/a?%74oken=***"),
            ("/a?api+key=s3cret", "/a?api+key=***"),
            ("/a?api%20key=s3cret", "/a?api%20key=***"),
            ("/a?x;token=s3cret;rest", "/a?x;token=***"),
            ("/a?b?token=s3cret", "/a?b?token=***"),
            ("https://a/b?x#token=s3cret", "https://a/b?x#token=***"),
            ("https://a/b#token=s3cret", "https://a/b#token=***"),
            ("/a?token=", "/a?token=***"),
            // Whoever splits at the last sign reads a token here.
            ("/a?x=token=s3cret", "/a?x=token=***"),
            ("/a=1?token=s3cret#token=2", "/a=1?token=***#token=***"),
        ] {
            assert_eq!(redacted(uri), expected);
        }
    }

    #[test]
    fn everything_else_stands_as_it_was() {
        for uri in [
            "",
            "/",
            "/token=1",
            "/token=1?x=2",
            "/a?tokens=1&xtoken=2",
            "/a?token",
            "/a?&&=&",
            "*",
            "/a?",
        ] {
            assert_eq!(redacted(uri), uri);
        }
    }

    proptest! {
        #[test]
        fn without_names_nothing_changes(uri: Vec<u8>) {
            let mut out = Vec::new();
            Redact::default().uri(&uri, |piece| out.extend_from_slice(piece));
            prop_assert_eq!(out, uri);
        }

        #[test]
        fn a_named_value_never_shows(before in "[a-z=&;?#%]{0,12}", value in "[A-Z;?=]{1,8}", after in "[a-z&;]{0,8}") {
            let out = redacted(&format!("/?{before}&token=Q{value}Q&{after}"));
            prop_assert!(!out.contains('Q'), "{}", out);
        }
    }
}
