//! CRC-32C (Castagnoli; RFC 9260 appendix A), which version 2 headers may carry.

use std::ops::Range;

/// The polynomial, its lowest bit first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            remainder = (remainder >> 1) ^ (POLYNOMIAL & 0_u32.wrapping_sub(remainder & 1));
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
}

/// The checksum of `bytes` with zeros at the place where it stands itself.
pub(super) fn without(bytes: &[u8], hole: Range<usize>) -> u32 {
    let remainder = bytes.iter().enumerate().fold(u32::MAX, |remainder, (at, byte)| {
        let byte = if hole.contains(&at) { 0 } else { *byte };
        TABLE[usize::from(remainder as u8 ^ byte)] ^ (remainder >> 8)
    });
    !remainder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // The check value of the CRC catalogues, and two of RFC 3720 B.4.
        assert_eq!(without(b"123456789", 0..0), 0xe306_9283);
        assert_eq!(without(&[0; 32], 0..0), 0x8a91_36aa);
        assert_eq!(without(&[0xff; 32], 0..0), 0x62a8_ab43);
    }

    #[test]
    fn its_own_place_counts_as_zeros() {
        assert_eq!(without(b"12??6789", 2..4), without(b"12\0\x006789", 0..0));
    }
}
