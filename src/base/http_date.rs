//! The Date field (RFC 9110 section 6.6.1), made once per second and thread.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

/// `Sun, 06 Nov 1994 08:49:37 GMT`
type Text = [u8; 29];

thread_local! {
    static CACHED: RefCell<(u64, Text)> = const { RefCell::new((u64::MAX, [0; 29])) };
}

/// The current date as it stands in a header.
#[must_use]
pub fn now() -> String {
    let second = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    CACHED.with(|cached| {
        let mut cached = cached.borrow_mut();
        if cached.0 != second {
            *cached = (second, text_of(second));
        }
        String::from_utf8_lossy(&cached.1).into_owned()
    })
}

fn text_of(second: u64) -> Text {
    let at = jiff::Timestamp::from_second(second as i64).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let text = at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let mut bytes = [b' '; 29];
    for (byte, from) in bytes.iter_mut().zip(text.bytes()) {
        *byte = from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_written_as_http_wants_it() {
        assert_eq!(&text_of(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
