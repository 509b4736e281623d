//! Field lines the quick way, for heads in which there is nothing unusual: names of letters, digits and hyphens,
//! values of printable ASCII with at most one space before them.
//!
//! Nothing is ever refused here. Where a head is not of this kind, or not complete, the careful reading starts anew
//! and has the only word.

use crate::message::head::{Field, HeadBuf, Span};
use crate::message::names::Name;
use crate::message::scan::{plain_name_len, printable_len};

/// Reads field lines up to and including the empty line; returns the position after it. On `None`, what is in the
/// buffer means nothing.
pub(super) fn field_lines(input: &[u8], start: usize, limit: usize, buf: &mut HeadBuf) -> Option<usize> {
    buf.clear();
    let mut at = start;
    let mut rest = input.get(start..)?;
    while !rest.starts_with(b"\r\n") {
        let line_len = field_line(rest, at, buf)?;
        rest = &rest[line_len..];
        at += line_len;
    }
    (buf.fields.len() <= limit).then_some(at + 2)
}

/// Reads the field line that begins here, `at` in the input; returns its length.
#[inline]
fn field_line(line: &[u8], at: usize, buf: &mut HeadBuf) -> Option<usize> {
    let (name, after) = line.split_at_checked(plain_name_len(line))?;
    let (b':', after) = after.split_first()? else {
        return None;
    };
    let (value, end) = after.split_at_checked(printable_len(after))?;
    let space = usize::from(value.first() == Some(&b' '));
    let spaced = value.get(space) == Some(&b' ') || value.last() == Some(&b' ');
    if name.is_empty() || spaced || !end.starts_with(b"\r\n") || buf.fields.len() == HeadBuf::MAX_FIELDS {
        return None;
    }
    let value_start = at + name.len() + 1;
    let value_end = value_start + value.len();
    buf.push(Field {
        name: Span::new(at, at + name.len()),
        value: Span::new(value_start + space, value_end),
        id: Name::recognise_plain(name),
    });
    Some(value_end + 2 - at)
}
