//! Searches for the end of names, values and targets: most of the work of reading a head.
//!
//! Eight bytes are looked at in one word. A test sets the high bit of each byte that it marks; tests never
//! carry or borrow into a byte below the first one marked, so that the first is always right.

use super::bytes::is_target_byte;

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

/// Position of the first byte that is no letter, digit or hyphen from `at` on, or the length. Almost every
/// field name is made of these alone.
#[must_use]
#[inline]
pub fn find_name_end(bytes: &[u8], at: usize) -> usize {
    let exact = |word: u64| {
        let low = word & LOW;
        let lower = low | all(0x20);
        let letter = (lower + all(0x80 - b'a')) & !(lower + all(0x7f - b'z'));
        let digit = (low + all(0x80 - b'0')) & !(low + all(0x7f - b'9'));
        let no_hyphen = (low ^ all(b'-')) + LOW;
        (!(letter | digit) & no_hyphen | word) & HIGH
    };
    let mut rest = bytes.get(at..).unwrap_or_default();
    while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        let marks = exact(u64::from_le_bytes(*chunk));
        if marks != 0 {
            return bytes.len() - rest.len() + (marks.trailing_zeros() / 8) as usize;
        }
        rest = after;
    }
    bytes.len() - rest.len()
        + rest
            .iter()
            .take_while(|b| b.is_ascii_alphanumeric() || **b == b'-')
            .count()
}

/// Position of the first byte that may not stand in a request target from `at` on, or the length.
#[must_use]
#[inline]
pub fn find_target_end(bytes: &[u8], at: usize) -> usize {
    let mut rest = bytes.get(at..).unwrap_or_default();
    while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        if !chunk.iter().fold(true, |fits, &b| fits & is_target_byte(b)) {
            break;
        }
        rest = after;
    }
    bytes.len() - rest.len() + rest.iter().take_while(|&&b| is_target_byte(b)).count()
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
            prop_assert_eq!(find_name_end(&bytes, at), slow(|b| !b.is_ascii_alphanumeric() && b != b'-'));
            prop_assert_eq!(find_target_end(&bytes, at), slow(|b| !is_target_byte(b)));
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
                    find_name_end(&bytes, 0),
                    expected(!byte.is_ascii_alphanumeric() && byte != b'-'),
                    "{byte:#x} at {place}"
                );
                assert_eq!(
                    find_target_end(&bytes, 0),
                    expected(!is_target_byte(byte)),
                    "{byte:#x} at {place}"
                );
            }
        }
    }
}
