//! Names and values of fields as HTTP/2's engine takes them, kept by each worker.
//!
//! Responses have the same fields over and over. To make a name anew each time is to read it letter by letter, and to
//! allocate where no standard knows it; and a value that is the one of the response before needs no looking at.

use super::names::{SLOT_COUNT, is_same, known_slot};
use super::scan::plain_name_len;
use http::header::SET_COOKIE;
use http::{HeaderName, HeaderValue};
use std::cell::RefCell;

/// Names and values longer than this are not kept.
const LONGEST_NAME: usize = 64;
const LONGEST_VALUE: usize = 128;
/// Of values that differ from the one kept, every so manieth takes its place: most that differ are new each time.
const TRIED: u8 = 16;

thread_local! {
    static KEPT: RefCell<[Option<Kept>; SLOT_COUNT]> = const { RefCell::new([const { None }; SLOT_COUNT]) };
}

#[derive(Debug)]
struct Kept {
    name: HeaderName,
    value: Option<HeaderValue>,
    /// How many came that differed.
    others: u8,
}

impl Kept {
    fn value(&mut self, text: &[u8]) -> Option<HeaderValue> {
        if let Some(value) = self.value.as_ref().filter(|value| value.as_bytes() == text) {
            return Some(value.clone());
        }
        self.others = (self.others + 1) % TRIED;
        if self.others == 0 && text.len() <= LONGEST_VALUE && self.name != SET_COOKIE {
            self.value = HeaderValue::from_bytes(text).ok();
        }
        None
    }
}

/// The name made of this token, whatever its case; `None` where it is none.
pub fn field_name(name: &[u8]) -> Option<HeaderName> {
    lookup(name, |_| ()).map(|(name, ())| name)
}

/// The same, and the value where it is one that was there before.
pub fn field(name: &[u8], value: &[u8]) -> Option<(HeaderName, Option<HeaderValue>)> {
    lookup(name, |kept| kept.and_then(|kept| kept.value(value)))
}

#[inline]
fn lookup<R>(name: &[u8], with: impl FnOnce(Option<&mut Kept>) -> R) -> Option<(HeaderName, R)> {
    KEPT.with_borrow_mut(|kept| {
        let slot = &mut kept[known_slot(name)];
        match slot {
            Some(kept) if is_same(name, kept.name.as_str().as_bytes()) => {
                Some((kept.name.clone(), with(Some(kept))))
            }
            _ => {
                let made = HeaderName::from_bytes(name).ok()?;
                // Of other names there may be some that look the same to who compares them without their case.
                if name.len() <= LONGEST_NAME && plain_name_len(name) == name.len() {
                    let name = made.clone();
                    let (value, others) = (None, 0);
                    *slot = Some(Kept { name, value, others });
                }
                Some((made, with(None)))
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

    #[test]
    fn a_value_is_given_only_for_its_own_text_and_cookies_are_not_kept() {
        let mut given = 0;
        for _ in 0..100 {
            for (name, value) in [
                ("X-A", "one"),
                ("x-a", "two"),
                ("x-b", "one"),
                ("set-cookie", "a=1"),
            ] {
                let (made, kept) = field(name.as_bytes(), value.as_bytes()).unwrap();
                assert_eq!(made.as_str(), name.to_ascii_lowercase());
                assert!(kept.as_ref().is_none_or(|kept| kept == value), "{name}");
                assert!(name != "set-cookie" || kept.is_none());
                given += usize::from(kept.is_some());
            }
        }
        assert!(given > 150, "{given} of 300");
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
