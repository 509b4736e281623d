//! The formatted second. A log writes the same second thousands of times, so each thread keeps the last one.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::cell::RefCell;
use std::time::{Duration, SystemTime};

/// How a moment is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeFormat {
    /// `20/Nov/2025:23:30:01 +0100`, in local time.
    Common,
    /// `2025-11-20T23:30:01+01:00`, in local time.
    Iso8601,
    /// `2025-11-20T22:30:01.123456Z`.
    Utc,
    /// `1763677801.123`: Unix time with milliseconds.
    Unix,
}

/// One formatted second.
#[derive(Debug, Default)]
struct Second {
    at: Option<i64>,
    text: String,
}

impl Second {
    fn text(&mut self, at: i64, format: impl FnOnce(Timestamp) -> String) -> &[u8] {
        if self.at != Some(at) {
            self.text = format(Timestamp::from_second(at).unwrap_or_default());
            self.at = Some(at);
        }
        self.text.as_bytes()
    }
}

#[derive(Default)]
struct Cache {
    zone: Option<TimeZone>,
    common: Second,
    iso: Second,
    utc: Second,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

/// Appends `time`. A time before 1970 is written as 1970.
pub(super) fn push_time(out: &mut Vec<u8>, time: SystemTime, format: TimeFormat) {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let at = i64::try_from(since.as_secs()).unwrap_or(0);
    CACHE.with_borrow_mut(|cache| {
        let Cache {
            zone,
            common,
            iso,
            utc,
        } = cache;
        let mut local = |t: Timestamp| t.to_zoned(zone.get_or_insert_with(TimeZone::system).clone());
        match format {
            TimeFormat::Common => out.extend_from_slice(
                common.text(at, |t| local(t).strftime("%d/%b/%Y:%H:%M:%S %z").to_string()),
            ),
            TimeFormat::Iso8601 => {
                out.extend_from_slice(
                    iso.text(at, |t| local(t).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()),
                );
            }
            TimeFormat::Utc => {
                out.extend_from_slice(utc.text(at, |t| t.strftime("%Y-%m-%dT%H:%M:%S").to_string()));
                out.push(b'.');
                push_padded(out, since.subsec_micros(), 6);
                out.push(b'Z');
            }
            TimeFormat::Unix => push_seconds(out, since),
        }
    });
}

/// Seconds with three decimals, cut, as nginx writes times.
pub(super) fn push_seconds(out: &mut Vec<u8>, duration: Duration) {
    out.extend_from_slice(itoa::Buffer::new().format(duration.as_secs()).as_bytes());
    out.push(b'.');
    push_padded(out, duration.subsec_millis(), 3);
}

/// Milliseconds with three decimals.
pub(super) fn push_millis(out: &mut Vec<u8>, duration: Duration) {
    out.extend_from_slice(itoa::Buffer::new().format(duration.as_millis()).as_bytes());
    out.push(b'.');
    push_padded(out, duration.subsec_micros() % 1000, 3);
}

fn push_padded(out: &mut Vec<u8>, n: u32, width: usize) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(n).as_bytes();
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(digits.len())));
    out.extend_from_slice(digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(time: SystemTime, format: TimeFormat) -> String {
        let mut out = Vec::new();
        push_time(&mut out, time, format);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_format_is_written_as_documented() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_763_677_801_003_056);
        assert_eq!(written(time, TimeFormat::Utc), "2025-11-20T22:30:01.003056Z");
        assert_eq!(written(time, TimeFormat::Unix), "1763677801.003");
        let zone = regex::Regex::new(r"^2[01]/Nov/2025:\d\d:\d\d:01 [+-]\d{4}$").unwrap();
        assert!(zone.is_match(&written(time, TimeFormat::Common)));
        let zone = regex::Regex::new(r"^2025-11-2[01]T\d\d:\d\d:01[+-]\d\d:\d\d$").unwrap();
        assert!(zone.is_match(&written(time, TimeFormat::Iso8601)));
    }

    #[test]
    fn the_kept_second_follows_the_clock_both_ways() {
        let second = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        assert_eq!(written(second(1), TimeFormat::Utc), "1970-01-01T00:00:01.000000Z");
        assert_eq!(written(second(2), TimeFormat::Utc), "1970-01-01T00:00:02.000000Z");
        assert_eq!(written(second(1), TimeFormat::Utc), "1970-01-01T00:00:01.000000Z");
    }

    #[test]
    fn an_absurd_clock_does_not_panic() {
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::MAX / 4);
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(5);
        for format in [
            TimeFormat::Common,
            TimeFormat::Iso8601,
            TimeFormat::Utc,
            TimeFormat::Unix,
        ] {
            assert!(!written(far, format).is_empty());
            assert!(!written(before, format).is_empty());
        }
    }

    #[test]
    fn durations_keep_three_decimals() {
        let mut out = Vec::new();
        push_seconds(&mut out, Duration::from_micros(1_005_999));
        out.push(b' ');
        push_millis(&mut out, Duration::from_micros(1_005_042));
        assert_eq!(out, b"1.005 1005.042");
    }
}
