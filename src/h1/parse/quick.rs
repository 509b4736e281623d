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
    let limit = limit.min(HeadBuf::MAX_FIELDS);
    let mut rest = input.get(start..)?;
    while !rest.starts_with(b"\r\n") {
        if buf.fields.len() >= limit {
            return None;
        }
        let (field, next) = field_line(rest, input.len() - rest.len())?;
        buf.push(field);
        rest = next;
    }
    Some(input.len() - rest.len() + 2)
}

/// Reads the field line that begins here, `at` in the input, and gives what follows it.
#[inline]
fn field_line(line: &[u8], at: usize) -> Option<(Field, &[u8])> {
    let (name, after) = line.split_at_checked(plain_name_len(line))?;
    let (b':', after) = after.split_first()? else {
        return None;
    };
    let (value, end) = after.split_at_checked(printable_len(after))?;
    let space = usize::from(value.first() == Some(&b' '));
    let spaced = value.get(space) == Some(&b' ') || value.last() == Some(&b' ');
    if name.is_empty() || spaced {
        return None;
    }
    let [b'\r', b'\n', next @ ..] = end else {
        return None;
    };
    let name_end = at + name.len();
    let value_end = name_end + 1 + value.len();
    let field = Field {
        name: Span::new(at, name_end),
        value: Span::new(name_end + 1 + space, value_end),
        id: Name::recognise_plain(name),
    };
    Some((field, next))
}
