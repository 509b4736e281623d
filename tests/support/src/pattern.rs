//! Bodies that are cheap to make and to verify: any lost, repeated, moved or changed byte shows.

/// Prime, so that no power-of-two buffer can hide a shift.
const TILE: usize = 65_521;

fn tile() -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    (0..TILE)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 11) as u8
        })
        .collect()
}

/// The pattern from its start.
#[must_use]
pub fn bytes(len: usize) -> Vec<u8> {
    let tile = tile();
    let mut out = Vec::with_capacity(len);
    while out.len() < len {
        let take = TILE.min(len - out.len());
        out.extend_from_slice(&tile[..take]);
    }
    out
}

/// Verifies a stream that should carry the pattern.
#[derive(Debug)]
pub struct Checker {
    tile: Vec<u8>,
    seen: usize,
}

impl Default for Checker {
    fn default() -> Self {
        Self {
            tile: tile(),
            seen: 0,
        }
    }
}

impl Checker {
    /// # Panics
    /// At the first byte that differs from the pattern.
    #[track_caller]
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = self.seen % TILE;
            let take = bytes.len().min(TILE - at);
            let (now, rest) = bytes.split_at(take);
            if now != &self.tile[at..at + take] {
                let off = now
                    .iter()
                    .zip(&self.tile[at..])
                    .position(|(a, b)| a != b)
                    .unwrap_or(0);
                panic!("body differs from the pattern at byte {}", self.seen + off);
            }
            self.seen += take;
            bytes = rest;
        }
    }

    #[must_use]
    pub const fn seen(&self) -> usize {
        self.seen
    }
}
