//! Bytes of a client made fit for a log line: whatever they are, they stay inside their field.

use crate::message::scan::quotable_len;

/// How values are escaped in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// `\xXX` for quote, backslash, controls and everything beyond ASCII: as nginx does by default.
    Default,
    /// For the inside of a JSON string; bytes that are no UTF-8 become U+FFFD.
    Json,
}

impl Escape {
    /// What stands for a value that there is none of.
    pub(super) const fn absent(self) -> &'static [u8] {
        match self {
            Self::Default => b"-",
            Self::Json => b"",
        }
    }

    pub(super) fn push(self, out: &mut Vec<u8>, value: &[u8]) {
        match self {
            // Nearly all are plain.
            _ if quotable_len(value) == value.len() => out.extend_from_slice(value),
            Self::Default => push_hex_escaped(out, value),
            Self::Json => push_json_escaped(out, value),
        }
    }
}

const UPPER_HEX: &[u8; 16] = b"0123456789ABCDEF";
const LOWER_HEX: &[u8; 16] = b"0123456789abcdef";

/// Copies runs of plain bytes and hands each other byte to `escape`.
fn push_runs(out: &mut Vec<u8>, value: &[u8], escape: impl Fn(&mut Vec<u8>, u8)) {
    let mut rest = value;
    loop {
        let run = quotable_len(rest);
        let (plain, tail) = rest.split_at(run);
        out.extend_from_slice(plain);
        let Some((byte, tail)) = tail.split_first() else {
            return;
        };
        escape(out, *byte);
        rest = tail;
    }
}

fn push_hex_escaped(out: &mut Vec<u8>, value: &[u8]) {
    push_runs(out, value, |out, b| {
        out.extend_from_slice(b"\\x");
        out.push(UPPER_HEX[usize::from(b >> 4)]);
        out.push(UPPER_HEX[usize::from(b & 15)]);
    });
}

/// The inside of a JSON string. Besides what JSON demands, everything is escaped that some reader takes for
/// the end of a line or a terminal for a command: DEL, the C1 controls, U+2028 and U+2029.
fn push_json_escaped(out: &mut Vec<u8>, value: &[u8]) {
    if value.is_ascii() {
        push_runs(out, value, push_json_byte);
        return;
    }
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                ' '..='~' if !matches!(c, '"' | '\\') => out.push(c as u8),
                '\0'..='\x7f' => push_json_byte(out, c as u8),
                '\u{80}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => push_unicode_escape(out, c as u16),
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn push_json_byte(out: &mut Vec<u8>, b: u8) {
    match b {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        b => push_unicode_escape(out, u16::from(b)),
    }
}

fn push_unicode_escape(out: &mut Vec<u8>, unit: u16) {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(LOWER_HEX[usize::from(unit >> shift & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(escape: Escape, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        escape.push(&mut out, value);
        out
    }

    #[test]
    fn the_default_is_what_nginx_writes() {
        assert_eq!(
            escaped(Escape::Default, b"a \"b\"\\\n\x7f\xc3\xa9"),
            br"a \x22b\x22\x5C\x0A\x7F\xC3\xA9"
        );
    }

    #[test]
    fn json_keeps_text_and_escapes_what_ends_lines() {
        let value = "é\"\\\n\u{1}\u{7f}\u{85}\u{2028}ü".as_bytes();
        assert_eq!(
            escaped(Escape::Json, value),
            r#"é\"\\\n\u0001\u007f\u0085\u2028ü"#.as_bytes()
        );
        assert_eq!(escaped(Escape::Json, b"a\xffb"), br"a\ufffdb");
    }

    proptest! {
        #[test]
        fn default_escapes_can_be_undone(value: Vec<u8>) {
            let text = escaped(Escape::Default, &value);
            let mut undone = Vec::new();
            let mut rest = text.as_slice();
            while let [first, after @ ..] = rest {
                prop_assert!((b' '..=b'~').contains(first) && *first != b'"');
                if *first == b'\\' {
                    let digits = std::str::from_utf8(&after[1..3]).unwrap();
                    undone.push(u8::from_str_radix(digits, 16).unwrap());
                    rest = &after[3..];
                } else {
                    undone.push(*first);
                    rest = after;
                }
            }
            prop_assert_eq!(undone, value);
        }

        #[test]
        fn json_escapes_read_back_as_the_text(value: Vec<u8>) {
            let mut quoted = vec![b'"'];
            push_json_escaped(&mut quoted, &value);
            quoted.push(b'"');
            let read: String = serde_json::from_slice(&quoted).unwrap();
            prop_assert_eq!(read, String::from_utf8_lossy(&value));
        }
    }
}
