//! What is to be changed in a head when it is written onward: an overlay, so that the head itself stays as
//! received for the access log and for retries.

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

    /// Whether every field is kept.
    #[must_use]
    pub const fn keeps_all(&self) -> bool {
        self.dropped == 0
    }

    /// Leaves out every field with this known name.
    pub fn drop_known(&mut self, head: &HeadBuf, id: Name) {
        let Some(first) = head.index_of(id) else { return };
        for index in first..head.fields.len() {
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
        self.add_with(name, |out| out.extend_from_slice(value));
    }

    /// Adds a line whose value is written by `value`.
    pub fn add_with(&mut self, name: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        let start = self.arena.len();
        self.arena.extend_from_slice(name);
        self.arena.extend_from_slice(b": ");
        value(&mut self.arena);
        self.arena.extend_from_slice(b"\r\n");
        self.lines.push(Span::new(start, self.arena.len()));
    }

    /// Replaces the request target.
    pub fn set_target(&mut self, target: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(target);
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

    /// Whether a line with this name was added.
    #[must_use]
    pub fn adds(&self, name: &[u8]) -> bool {
        self.lines().any(|l| {
            l.len() > name.len() && l[name.len()] == b':' && l[..name.len()].eq_ignore_ascii_case(name)
        })
    }
}
