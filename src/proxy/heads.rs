//! Head buffers and edits of this worker that wait to be used again.

use crate::message::edits::Edits;
use crate::message::head::HeadBuf;
use std::cell::RefCell;

/// Buffers kept while many requests run at once, for whom making them anew would be most of what is allocated: those of
/// 512 requests and their answers. That is 2 MiB a worker as heads are, 8 MiB at the most.
const KEPT: usize = 1024;
/// What is left of them when fewer run; see [`trim`].
const KEPT_IDLE: usize = 64;
/// A buffer that grew larger than this for an unusual head is not kept.
const LARGEST_KEPT: usize = 8 * 1024;
/// The same for the number of its fields.
const MOST_FIELDS_KEPT: usize = 128;

thread_local! {
    // Boxed, because that is how heads own them: taking and giving moves a pointer.
    #[allow(clippy::vec_box)]
    static HEADS: RefCell<Vec<Box<HeadBuf>>> = const { RefCell::new(Vec::new()) };
    #[allow(clippy::vec_box)]
    static EDITS: RefCell<Vec<Box<Edits>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer with anything in it: whoever fills one clears it first.
pub(super) fn take() -> Box<HeadBuf> {
    HEADS.with(|heads| heads.borrow_mut().pop()).unwrap_or_default()
}

pub(super) fn give(head: Box<HeadBuf>) {
    if head.bytes.capacity() > LARGEST_KEPT || head.fields.capacity() > MOST_FIELDS_KEPT {
        return;
    }
    HEADS.with(|heads| {
        let mut heads = heads.borrow_mut();
        if heads.len() < KEPT {
            heads.push(head);
        }
    });
}

/// Lets go of half of the buffers that wait beyond a few; to be called every second or so.
pub(super) fn trim() {
    HEADS.with_borrow_mut(halve);
    EDITS.with_borrow_mut(halve);
}

fn halve<T>(kept: &mut Vec<T>) {
    kept.truncate(KEPT_IDLE + kept.len().saturating_sub(KEPT_IDLE) / 2);
}

/// Edits in use; they go back when dropped.
#[derive(Debug)]
pub(super) struct BorrowedEdits(Option<Box<Edits>>);

pub(super) fn edits() -> BorrowedEdits {
    BorrowedEdits(Some(
        EDITS.with(|edits| edits.borrow_mut().pop()).unwrap_or_default(),
    ))
}

impl std::ops::Deref for BorrowedEdits {
    type Target = Edits;
    fn deref(&self) -> &Edits {
        // Only `drop` takes it out.
        self.0
            .as_deref()
            .unwrap_or_else(|| unreachable!("edits are there until dropped"))
    }
}

impl std::ops::DerefMut for BorrowedEdits {
    fn deref_mut(&mut self) -> &mut Edits {
        self.0
            .as_deref_mut()
            .unwrap_or_else(|| unreachable!("edits are there until dropped"))
    }
}

impl Drop for BorrowedEdits {
    fn drop(&mut self) {
        let Some(mut edits) = self.0.take() else { return };
        edits.clear();
        if edits.capacity() > LARGEST_KEPT {
            return;
        }
        EDITS.with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT {
                kept.push(edits);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_goes_when_nobody_wants_it() {
        for _ in 0..2 * KEPT {
            give(Box::default());
        }
        let waiting = || HEADS.with_borrow(Vec::len);
        assert_eq!(waiting(), KEPT);
        trim();
        assert_eq!(waiting(), KEPT_IDLE + (KEPT - KEPT_IDLE) / 2);
        for _ in 0..20 {
            trim();
        }
        assert_eq!(waiting(), KEPT_IDLE);
    }

    #[test]
    fn buffers_of_unusual_heads_are_not_kept() {
        let mut large = Box::<HeadBuf>::default();
        large.bytes.reserve(LARGEST_KEPT + 1);
        give(large);
        let mut many = Box::<HeadBuf>::default();
        many.fields.reserve(MOST_FIELDS_KEPT + 1);
        give(many);
        assert_eq!(HEADS.with_borrow(Vec::len), 0);
        let mut borrowed = edits();
        borrowed.add(b"x", &[b'a'; LARGEST_KEPT]);
        drop(borrowed);
        assert_eq!(EDITS.with_borrow(Vec::len), 0);
    }
}
