//! What is to be changed in a head when it is written onward: an overlay, so that the head itself stays as
//! received for the access log and for retries.

use super::bytes::{blank_controls, is_query_byte, is_target_byte};
use super::head::{HeadBuf, Span};
use super::names::Name;
use smallvec::SmallVec;

/// Dropped fields and added lines. Lives in a free list beside the head's buffer.
#[derive(Debug)]
pub struct Edits {
    drop: [u64; HeadBuf::MAX_FIELDS / 64],
    dropped: usize,
    /// Replacement of the request target; `None` keeps the one received.
    target: Option<Span>,
    lines: SmallVec<[Span; 16]>,
    arena: Vec<u8>,
}

impl Default for Edits {
    fn default() -> Self {
        Self {
            drop: [0; HeadBuf::MAX_FIELDS / 64],
            dropped: 0,
            target: None,
            lines: SmallVec::new(),
            arena: Vec::new(),
        }
    }
}

impl Edits {
    pub fn clear(&mut self) {
        if self.dropped > 0 {
            self.drop = [0; HeadBuf::MAX_FIELDS / 64];
            self.dropped = 0;
        }
        self.target = None;
        self.lines.clear();
        self.arena.clear();
    }

    /// Leaves out the field at this index.
    pub fn drop_index(&mut self, index: usize) {
        self.drop[index / 64] |= 1 << (index % 64);
        self.dropped += 1;
    }

    #[must_use]
    pub fn is_dropped(&self, index: usize) -> bool {
        self.drop[index / 64] & (1 << (index % 64)) != 0
    }

    /// The indexes of dropped fields among the first `fields`, rising.
    pub fn dropped(&self, fields: usize) -> impl Iterator<Item = usize> {
        let words = if self.dropped == 0 { 0 } else { fields.div_ceil(64) };
        let mut word = 0;
        let mut bits = self.drop[0];
        std::iter::from_fn(move || {
            while word < words {
                if bits != 0 {
                    let index = word * 64 + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    return Some(index);
                }
                word += 1;
                bits = self.drop.get(word).copied().unwrap_or_default();
            }
            None
        })
    }

    /// Whether every field is kept.
    #[must_use]
    pub const fn keeps_all(&self) -> bool {
        self.dropped == 0
    }

    /// Leaves out every field with this known name.
    pub fn drop_known(&mut self, head: &HeadBuf, id: Name) {
        for index in head.places(id) {
            if head.fields[index].id == id {
                self.drop_index(index);
            }
        }
    }

    /// Leaves out every field with this name, any case, and every line added under it.
    pub fn drop_named(&mut self, head: &HeadBuf, name: &[u8]) {
        for index in 0..head.fields.len() {
            if head.name(index).eq_ignore_ascii_case(name) {
                self.drop_index(index);
            }
        }
        let arena = &self.arena;
        self.lines.retain(|line| {
            let text = line.of(arena);
            !(text.len() > name.len()
                && text[name.len()] == b':'
                && text[..name.len()].eq_ignore_ascii_case(name))
        });
    }

    /// Adds the line `name: value`.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        self.arena.reserve(name.len() + value.len() + 4);
        self.add_with(name, |out| out.extend_from_slice(value));
    }

    /// Adds a line whose value is written by `value`. Control characters in it become spaces: whatever a
    /// value is made of, it cannot forge a line.
    pub fn add_with(&mut self, name: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        let start = self.arena.len();
        self.arena.extend_from_slice(name);
        self.arena.extend_from_slice(b": ");
        let value_start = self.arena.len();
        value(&mut self.arena);
        blank_controls(&mut self.arena[value_start..]);
        self.arena.extend_from_slice(b"\r\n");
        self.lines.push(Span::new(start, self.arena.len()));
    }

    /// Adds lines that were written before, each with its CRLF. They cannot be found by name any more: not for heads
    /// that are edited further.
    pub fn add_block(&mut self, lines: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(lines);
        self.lines.push(Span::new(start, self.arena.len()));
    }

    /// Replaces the request target. Bytes that may not stand in one are escaped: whatever a target is made
    /// of, it cannot forge a line.
    pub fn set_target(&mut self, target: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let start = self.arena.len();
        let mut in_query = false;
        for &byte in target {
            in_query |= byte == b'?';
            if is_target_byte(byte) || in_query && is_query_byte(byte) {
                self.arena.push(byte);
            } else {
                let escape = [b'%', DIGITS[(byte >> 4) as usize], DIGITS[(byte & 0xf) as usize]];
                self.arena.extend_from_slice(&escape);
            }
        }
        self.target = Some(Span::new(start, self.arena.len()));
    }

    #[must_use]
    pub fn target(&self) -> Option<&[u8]> {
        self.target.map(|span| span.of(&self.arena))
    }

    /// The added lines in order, each with its CRLF.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().map(|line| line.of(&self.arena))
    }

    /// How many bytes the added lines take, at most.
    #[must_use]
    pub fn added_bytes(&self) -> usize {
        self.arena.len()
    }

    /// How many bytes of text there is room for, used or not.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.arena.capacity()
    }

    /// Appends the added lines in order, neighbours in one copy.
    pub fn write_lines(&self, out: &mut Vec<u8>) {
        let mut run = Span::default();
        for &line in &self.lines {
            if line.start != run.end {
                out.extend_from_slice(run.of(&self.arena));
                run.start = line.start;
            }
            run.end = line.end;
        }
        out.extend_from_slice(run.of(&self.arena));
    }

    /// Whether a line with this name was added.
    #[must_use]
    pub fn adds(&self, name: &[u8]) -> bool {
        self.lines().any(|l| {
            l.len() > name.len() && l[name.len()] == b':' && l[..name.len()].eq_ignore_ascii_case(name)
        })
    }
}
