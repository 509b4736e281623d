//! Field names as HTTP/2's engine takes them, kept by each worker.
//!
//! Responses name the same fields over and over; to make a name anew each time is to read it letter by letter, and
//! to allocate where no standard knows it.

use super::names::{SLOT_COUNT, is_same, known_slot};
use super::scan::plain_name_len;
use http::HeaderName;
use std::cell::RefCell;

/// A name longer than this is not kept.
const LONGEST_KEPT: usize = 64;

thread_local! {
    static KEPT: RefCell<[Option<HeaderName>; SLOT_COUNT]> = const { RefCell::new([const { None }; SLOT_COUNT]) };
}

/// The name made of this token, whatever its case; `None` where it is none.
pub fn field_name(name: &[u8]) -> Option<HeaderName> {
    KEPT.with_borrow_mut(|kept| {
        let slot = &mut kept[known_slot(name)];
        match slot {
            Some(kept) if is_same(name, kept.as_str().as_bytes()) => Some(kept.clone()),
            _ => {
                let made = HeaderName::from_bytes(name).ok()?;
                // Of other names there may be some that look the same to who compares them without their case.
                if name.len() <= LONGEST_KEPT && plain_name_len(name) == name.len() {
                    *slot = Some(made.clone());
                }
                Some(made)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::bytes::is_token;
    use proptest::prelude::*;

    #[test]
    fn names_are_told_apart_however_they_follow_each_other() {
        for name in [
            "Date", "X-a", "x-A", "x-b", "x^y", "x~y", "X_a", "date", "Etag", "etaG", "x-a",
        ] {
            let made = field_name(name.as_bytes()).unwrap();
            assert_eq!(made.as_str(), name.to_ascii_lowercase());
        }
        assert_eq!(field_name(b""), None);
        assert_eq!(field_name(b"a b"), None);
    }

    proptest! {
        #[test]
        fn a_kept_name_is_the_one_that_would_be_made(names in proptest::collection::vec("[!-~]{1,6}", 1..40)) {
            for name in names.iter().filter(|name| is_token(name.as_bytes())) {
                let made = HeaderName::from_bytes(name.as_bytes()).ok();
                prop_assert_eq!(field_name(name.as_bytes()), made);
            }
        }
    }
}
