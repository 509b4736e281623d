//! Which bytes may stand where (RFC 9110 section 5.6.2, RFC 9112 section 3.2).

use super::scan::{find_control, is_printable, plain_target_len};

/// May stand in a token: a method, a field name, a connection option.
const TOKEN: u8 = 1;
/// May stand anywhere in a request target: what RFC 3986 allows, and the square brackets that browsers leave as
/// they are. Stricter than many servers: what a URI may only carry escaped is refused, because two parsers seldom
/// agree on its meaning.
const TARGET: u8 = 2;
/// May stand in a query: also the characters of [`QUERY_ONLY`].
const QUERY: u8 = 4;
/// Browsers send these as they are in a query, though no URI has them: the query percent-encode set of the WHATWG's
/// URL standard leaves them out, and so pages' links have them. Endpoints take them there for what they are. In a
/// path there is less need and more danger.
const QUERY_ONLY: [u8; 5] = *b"^`{|}";

const CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        let b = byte as u8;
        if !matches!(
            b,
            b'"' | b'(' | b')' | b',' | b'/' | b':'..=b'@' | b'[' | b'\\' | b']' | b'{' | b'}'
        ) {
            table[byte] |= TOKEN;
        }
        if !matches!(
            b,
            b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
        ) {
            table[byte] |= TARGET | QUERY;
        }
        byte += 1;
    }
    let mut index = 0;
    while index < QUERY_ONLY.len() {
        table[QUERY_ONLY[index] as usize] |= QUERY;
        index += 1;
    }
    table
}

/// Whether this byte may stand in a token.
#[must_use]
#[inline]
pub const fn is_token_byte(byte: u8) -> bool {
    CLASS[byte as usize] & TOKEN != 0
}

/// Whether this byte may stand anywhere in a request target.
#[must_use]
#[inline]
pub const fn is_target_byte(byte: u8) -> bool {
    CLASS[byte as usize] & TARGET != 0
}

/// Whether this byte may stand in the query of a request target.
#[must_use]
#[inline]
pub const fn is_query_byte(byte: u8) -> bool {
    CLASS[byte as usize] & QUERY != 0
}

/// How many bytes from the start may stand in a request target: up to the first question mark those of a path,
/// after it those of a query.
#[must_use]
#[inline]
pub fn target_len(text: &[u8]) -> usize {
    let plain = plain_target_len(text);
    match text.get(plain) {
        Some(&stop) if is_query_byte(stop) => target_len_with_query(text),
        _ => plain,
    }
}

fn target_len_with_query(text: &[u8]) -> usize {
    let mut in_query = false;
    let fits = |&&byte: &&u8| {
        in_query |= byte == b'?';
        is_target_byte(byte) || in_query && is_query_byte(byte)
    };
    text.iter().take_while(fits).count()
}

/// Whether all of this may stand in a request target.
#[must_use]
#[inline]
pub fn is_target(text: &[u8]) -> bool {
    target_len(text) == text.len()
}

/// Whether this is a token: at least one byte, all of them token bytes.
#[must_use]
#[inline]
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&b| is_token_byte(b))
}

/// Whether this may be a field's value: no control character but the tab.
#[must_use]
pub fn is_field_value(text: &[u8]) -> bool {
    let mut at = 0;
    loop {
        at = find_control(text, at);
        match text.get(at) {
            None => return true,
            Some(b'\t') => at += 1,
            Some(_) => return false,
        }
    }
}

/// Turns every control character but the tab into a space, so that a value cannot end its line.
#[inline]
pub fn blank_controls(text: &mut [u8]) {
    if !is_printable(text) {
        blank_each_control(text);
    }
}

fn blank_each_control(text: &mut [u8]) {
    let mut at = find_control(text, 0);
    while let Some(byte) = text.get_mut(at) {
        if *byte != b'\t' {
            *byte = b' ';
        }
        at = find_control(text, at + 1);
    }
}

/// The elements of a comma-separated list over several field lines, white space trimmed (RFC 9110 section
/// 5.6.1). Empty elements are given too, for callers that refuse them.
pub fn list<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    values.flat_map(|value| value.split(|&b| b == b',')).map(trim)
}

/// Without spaces and tabs at both ends.
#[must_use]
pub fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classes_are_those_of_the_grammar() {
        let token: Vec<u8> = (0..=255).filter(|&b| is_token_byte(b)).collect();
        assert_eq!(
            token,
            b"!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~"
        );
        let target: Vec<u8> = (0..=255).filter(|&b| is_target_byte(b)).collect();
        assert_eq!(
            target,
            b"!$%&'()*+,-./0123456789:;=?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz~"
        );
        let query: Vec<u8> = (0..=255).filter(|&b| is_query_byte(b)).collect();
        assert_eq!(
            query,
            b"!$%&'()*+,-./0123456789:;=?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~"
        );
    }

    #[test]
    fn a_target_is_judged_byte_for_byte_before_and_after_the_question_mark() {
        for byte in 0..=255u8 {
            for len in [1, 15, 16, 17, 32, 40] {
                for place in 0..len {
                    for mark in [None, Some(0), Some(len / 2)] {
                        let mut text = vec![b'a'; len];
                        if let Some(mark) = mark {
                            text[mark] = b'?';
                        }
                        text[place] = byte;
                        let in_query = mark.is_some_and(|mark| mark < place);
                        let fits = is_target_byte(byte) || in_query && is_query_byte(byte);
                        assert_eq!(is_target(&text), fits, "{byte:#x} at {place} of {len}, {mark:?}");
                        assert_eq!(target_len(&text), if fits { len } else { place });
                    }
                }
            }
        }
    }

    #[test]
    fn a_list_runs_over_lines_and_keeps_empty_elements() {
        let values: [&[u8]; 2] = [b" a ,b", b",\tc"];
        let all: Vec<&[u8]> = list(values.into_iter()).collect();
        assert_eq!(all, [&b"a"[..], b"b", b"", b"c"]);
    }
}
