//! Searches for the end of names, values and targets: most of the work of reading a head.
//!
//! Sixteen bytes are compared at once. A test marks the bytes at which a search stops.

use wide::i8x16;

const BLOCK: usize = 16;

/// Position of the first control character (below 0x20, or 0x7F) from `at` on, or the length.
#[must_use]
#[inline]
pub fn find_control(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let controls = |block: i8x16| {
        block.simd_gt(i8x16::splat(-1)) & block.simd_lt(i8x16::splat(0x20))
            | block.simd_eq(i8x16::splat(0x7f))
    };
    bytes.len() - rest.len() + until(rest, controls)
}

/// How many letters, digits and hyphens the text begins with. Almost every field name is made of these alone.
#[must_use]
#[inline]
pub fn plain_name_len(text: &[u8]) -> usize {
    until(text, |block| {
        let letters = within(block | i8x16::splat(0x20), b'a', 26);
        let digits = within(block, b'0', 10);
        !(letters | digits | block.simd_eq(i8x16::splat(b'-' as i8)))
    })
}

/// How many printable ASCII characters (0x20 to 0x7E) the text begins with.
#[must_use]
#[inline]
pub fn printable_len(text: &[u8]) -> usize {
    until(text, |block| up_to(block, 0x1f))
}

/// Whether all of the text is printable ASCII.
#[must_use]
#[inline]
pub fn is_printable(text: &[u8]) -> bool {
    printable_len(text) == text.len()
}

/// How many bytes the text begins with that may stand anywhere in a request target (`bytes::is_target_byte`).
#[must_use]
#[inline]
pub(super) fn plain_target_len(text: &[u8]) -> usize {
    until(text, |block| {
        let one_of_two =
            |either: u8, bit: u8| (block & i8x16::splat(!bit as i8)).simd_eq(i8x16::splat(either as i8));
        up_to(block, 0x20)
            | one_of_two(b'"', b'"' ^ b'#')
            | one_of_two(b'<', b'<' ^ b'>')
            | one_of_two(b'\\', b'\\' ^ b'^')
            | block.simd_eq(i8x16::splat(b'`' as i8))
            | within(block, b'{', 3)
    })
}

/// How many bytes the text begins with that stand for themselves between quotation marks: printable ASCII without the
/// quotation mark and the backslash.
#[must_use]
#[inline]
pub fn quotable_len(text: &[u8]) -> usize {
    until(text, |block| {
        up_to(block, 0x1f)
            | block.simd_eq(i8x16::splat(b'"' as i8))
            | block.simd_eq(i8x16::splat(b'\\' as i8))
    })
}

/// Where the next character stands after which the name of a parameter may begin, in some reading of a URI: one of
/// `?&;=#`; or the length.
#[must_use]
#[inline]
pub fn find_parameter_bound(text: &[u8]) -> usize {
    until(text, |block| {
        let is = |byte: u8| block.simd_eq(i8x16::splat(byte as i8));
        is(b'=') | is(b'&') | is(b';') | is(b'?') | is(b'#')
    })
}

/// Marks what is not above `most`, DEL, and what is beyond ASCII: adding one makes DEL negative, as the latter is.
#[inline]
fn up_to(block: i8x16, most: i8) -> i8x16 {
    i8x16::splat(most + 2).simd_gt(block + i8x16::splat(1))
}

/// Marks `count` characters from `first` on: moved to the lowest numbers there are, they are below a bound.
#[inline]
fn within(block: i8x16, first: u8, count: i8) -> i8x16 {
    i8x16::splat(i8::MIN + count).simd_gt(block + i8x16::splat(i8::MIN.wrapping_sub(first as i8)))
}

/// The place of the first byte that the test marks, or the length. The test is not to mark an `a`.
#[inline]
fn until(text: &[u8], marks: impl Fn(i8x16) -> i8x16) -> usize {
    let Some((first, mut rest)) = text.split_first_chunk() else {
        return until_short(text, marks);
    };
    // Names and half of the values end here.
    let place = first_marked(first, &marks);
    if place < BLOCK {
        return place;
    }
    while let Some((pair, after)) = rest.split_first_chunk::<{ 2 * BLOCK }>() {
        let (Some(first), Some(second)) = (pair.first_chunk(), pair.last_chunk()) else {
            break;
        };
        let (first, second) = (marks(load(first)), marks(load(second)));
        if (first | second).any() {
            let bits = first.to_bitmask() | second.to_bitmask() << BLOCK;
            return text.len() - rest.len() + bits.trailing_zeros() as usize;
        }
        rest = after;
    }
    while let Some((block, after)) = rest.split_first_chunk() {
        let place = first_marked(block, &marks);
        if place < BLOCK {
            return text.len() - rest.len() + place;
        }
        rest = after;
    }
    // Overlaps with what was looked at and had no mark.
    let place = text.last_chunk().map_or(BLOCK, |last| first_marked(last, &marks));
    text.len() - BLOCK + place
}

/// The same for a text of less than a block.
#[inline]
fn until_short(text: &[u8], marks: impl Fn(i8x16) -> i8x16) -> usize {
    let mut padded = [b'a'; BLOCK];
    let count = text.len().min(BLOCK);
    padded[..count].copy_from_slice(&text[..count]);
    first_marked(&padded, marks).min(text.len())
}

#[inline]
fn load(block: &[u8; BLOCK]) -> i8x16 {
    i8x16::new(block.map(|byte| byte as i8))
}

/// The place of the first byte that the test marks, or [`BLOCK`].
#[inline]
fn first_marked(block: &[u8; BLOCK], marks: impl Fn(i8x16) -> i8x16) -> usize {
    let bits = marks(load(block)).to_bitmask();
    (bits | 1 << BLOCK).trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn searches_agree_with_a_byte_by_byte_search(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..64),
                proptest::collection::vec(any::<u8>(), 0..20),
                "[A-Za-z0-9 /:_.-]{0,64}".prop_map(String::into_bytes),
                proptest::collection::vec(prop_oneof![9 => 0x80u8.., 1 => any::<u8>()], 0..64),
            ],
            at in 0usize..70,
        ) {
            let slow = |stop: fn(u8) -> bool| (at..bytes.len()).find(|&i| stop(bytes[i])).unwrap_or(bytes.len());
            prop_assert_eq!(find_control(&bytes, at), slow(|b| b < 0x20 || b == 0x7f));
            let text = bytes.get(at..).unwrap_or_default();
            let count = |fits: fn(&u8) -> bool| text.iter().take_while(|b| fits(b)).count();
            prop_assert_eq!(plain_name_len(text), count(|b| b.is_ascii_alphanumeric() || *b == b'-'));
            prop_assert_eq!(printable_len(text), count(|b| (0x20..0x7f).contains(b)));
            prop_assert_eq!(is_printable(text), printable_len(text) == text.len());
            prop_assert_eq!(quotable_len(text), count(|b| (0x20..0x7f).contains(b) && !b"\"\\".contains(b)));
            prop_assert_eq!(find_parameter_bound(text), count(|b| !b"?&;=#".contains(b)));
        }
    }

    #[test]
    fn every_byte_is_judged_at_every_place() {
        for byte in 0..=255u8 {
            for place in 0..40 {
                let mut bytes = [b'a'; 40];
                bytes[place] = byte;
                let expected = |stops: bool| if stops { place } else { bytes.len() };
                assert_eq!(
                    find_control(&bytes, 0),
                    expected(byte < 0x20 || byte == 0x7f),
                    "{byte:#x} at {place}"
                );
                assert_eq!(
                    plain_name_len(&bytes),
                    expected(!byte.is_ascii_alphanumeric() && byte != b'-'),
                    "{byte:#x} at {place}"
                );
                for len in place + 1..bytes.len() {
                    let printable = (0x20..0x7f).contains(&byte);
                    assert_eq!(
                        is_printable(&bytes[..len]),
                        printable,
                        "{byte:#x} at {place} of {len}"
                    );
                }
                assert_eq!(
                    quotable_len(&bytes),
                    expected(!(0x20..0x7f).contains(&byte) || b"\"\\".contains(&byte)),
                    "{byte:#x} at {place}"
                );
                assert_eq!(
                    find_parameter_bound(&bytes),
                    expected(b"?&;=#".contains(&byte)),
                    "{byte:#x} at {place}"
                );
                assert_eq!(
                    printable_len(&bytes),
                    expected(!(0x20..0x7f).contains(&byte)),
                    "{byte:#x} at {place}"
                );
            }
        }
    }
}
