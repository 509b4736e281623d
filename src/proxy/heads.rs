//! Head buffers and edits of this worker that wait to be used again.

use crate::message::edits::Edits;
use crate::message::head::HeadBuf;
use std::cell::RefCell;

/// Buffers kept; more are in use only while more requests run at once.
const KEPT: usize = 64;
/// A buffer that grew larger than this for an unusual head is not kept.
const LARGEST_KEPT: usize = 16 * 1024;

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
    if head.bytes.capacity() > LARGEST_KEPT {
        return;
    }
    HEADS.with(|heads| {
        let mut heads = heads.borrow_mut();
        if heads.len() < KEPT {
            heads.push(head);
        }
    });
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
        EDITS.with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT {
                kept.push(edits);
            }
        });
    }
}
