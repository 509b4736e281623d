//! Searches for the end of names and values: most of the work of reading a head.
//!
//! Eight bytes are looked at in one word. A test sets the high bit of each byte that it marks; tests never
//! carry or borrow into a byte below the first one marked, so that the first is always right.

const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES << 7;
const LOW: u64 = !HIGH;

/// A word of this byte alone.
const fn all(byte: u8) -> u64 {
    ONES * byte as u64
}

/// Position of the first control character (below 0x20, or 0x7F) from `at` on, or the length.
#[must_use]
#[inline]
pub fn find_control(bytes: &[u8], at: usize) -> usize {
    // Cheap, but it marks what is beyond ASCII as well.
    let suspect = |word: u64| (word.wrapping_sub(all(0x20)) | word.wrapping_add(ONES)) & HIGH;
    let mut rest = bytes.get(at..).unwrap_or_default();
    while let Some((pair, after)) = rest.split_first_chunk::<16>() {
        let (first, second) = halves(pair);
        if suspect(first) | suspect(second) != 0
            && let Some(place) = place(controls(first), controls(second))
        {
            return bytes.len() - rest.len() + place;
        }
        rest = after;
    }
    bytes.len() - rest.len() + find_control_short(rest)
}

/// [`find_control`] in less than sixteen bytes: the first word and the last, which may overlap.
fn find_control_short(bytes: &[u8]) -> usize {
    let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) else {
        return bytes.iter().take_while(|&&b| b >= 0x20 && b != 0x7f).count();
    };
    let marks = controls(u64::from_le_bytes(*first));
    if marks != 0 {
        return (marks.trailing_zeros() / 8) as usize;
    }
    let marks = controls(u64::from_le_bytes(*last));
    // Without a mark there are 64 zeros.
    bytes.len() - 8 + (marks.trailing_zeros() / 8) as usize
}

/// The control characters in a word.
const fn controls(word: u64) -> u64 {
    (word.wrapping_sub(all(0x20)) | ((word & LOW) + ONES)) & !word & HIGH
}

/// How many letters, digits and hyphens the text begins with. Almost every field name is made of these alone.
#[must_use]
#[inline]
pub fn plain_name_len(text: &[u8]) -> usize {
    // Of the bounds of the ranges, a letter or digit has passed one.
    let others = |word: u64| {
        let lower = word | all(0x20);
        let passed = |word: u64, bound: u8| word.wrapping_add(all(0x80 - bound));
        let letter = passed(lower, b'a') ^ passed(lower, b'z' + 1);
        let digit = passed(word, b'0') ^ passed(word, b'9' + 1);
        let no_hyphen = (word ^ all(b'-')).wrapping_add(LOW);
        (!(letter ^ digit) & no_hyphen | word) & HIGH
    };
    let mut rest = text;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let marks = others(u64::from_le_bytes(*word));
        if marks != 0 {
            return text.len() - rest.len() + (marks.trailing_zeros() / 8) as usize;
        }
        rest = after;
    }
    let plain = |b: &&u8| b.is_ascii_alphanumeric() || **b == b'-';
    text.len() - rest.len() + rest.iter().take_while(plain).count()
}

/// How many printable ASCII characters (0x20 to 0x7E) the text begins with.
#[must_use]
#[inline]
pub fn printable_len(text: &[u8]) -> usize {
    let mut rest = text;
    while let Some((block, after)) = rest.split_first_chunk::<16>() {
        if !is_printable_block(block) {
            break;
        }
        rest = after;
    }
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let marks = unprintable(u64::from_le_bytes(*word));
        if marks != 0 {
            return text.len() - rest.len() + (marks.trailing_zeros() / 8) as usize;
        }
        rest = after;
    }
    text.len() - rest.len() + rest.iter().take_while(|b| (0x20..0x7f).contains(*b)).count()
}

/// Whether all of the text is printable ASCII. Made for short texts: the last block or word overlaps.
#[must_use]
#[inline]
pub fn is_printable(text: &[u8]) -> bool {
    if let Some(last) = text.last_chunk::<16>() {
        let (blocks, _) = text.as_chunks::<16>();
        return blocks.iter().all(is_printable_block) && is_printable_block(last);
    }
    match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(first), Some(last)) => {
            unprintable(u64::from_le_bytes(*first)) | unprintable(u64::from_le_bytes(*last)) == 0
        }
        _ => text.iter().all(|b| (0x20..0x7f).contains(b)),
    }
}

/// Compiles to a comparison of vectors: adding one makes DEL negative, as what is beyond ASCII is.
#[inline]
fn is_printable_block<const N: usize>(block: &[u8; N]) -> bool {
    let other = |byte: u8| u8::from((byte as i8).wrapping_add(1) <= 0x20);
    block.iter().fold(0, |any, &byte| any | other(byte)) == 0
}

/// What is not printable ASCII in a word.
const fn unprintable(word: u64) -> u64 {
    (word.wrapping_sub(all(0x20)) | word.wrapping_add(ONES) | word) & HIGH
}

#[inline]
fn halves(pair: &[u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(*pair);
    (both as u64, (both >> 64) as u64)
}

/// The place of the first mark in two words.
#[inline]
fn place(first: u64, second: u64) -> Option<usize> {
    match (first, second) {
        (0, 0) => None,
        (0, _) => Some(8 + (second.trailing_zeros() / 8) as usize),
        _ => Some((first.trailing_zeros() / 8) as usize),
    }
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
                    printable_len(&bytes),
                    expected(!(0x20..0x7f).contains(&byte)),
                    "{byte:#x} at {place}"
                );
            }
        }
    }
}
