//! Moments and spans as people read them.

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use std::time::Duration;

const DAY: u64 = 24 * 3600;

/// A moment that the gateway told, and how far it is from now: `18:14:01Z (5 s ago)`. What is none stays as it is.
pub(super) fn moment(text: &str) -> String {
    told(text, Timestamp::now())
}

/// The same for a column: day and time, to the second.
pub(super) fn stamp(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) => written("%Y-%m-%d %H:%M:%SZ", time),
        Err(_) => text.to_owned(),
    }
}

/// The time of day alone.
pub(super) fn clock(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) => written("%H:%M:%SZ", time),
        Err(_) => text.to_owned(),
    }
}

/// A span by its two largest units, such as `2 h 3 min`.
pub(super) fn span(seconds: u64) -> String {
    let units = [(DAY, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (size, unit) in units {
        let count = left / size;
        left %= size;
        if count > 0 && parts.len() < 2 {
            parts.push(format!("{count} {unit}"));
        } else if !parts.is_empty() {
            break;
        }
    }
    if parts.is_empty() {
        return "0 s".to_owned();
    }
    parts.join(" ")
}

fn told(text: &str, now: Timestamp) -> String {
    let Ok(time) = text.parse::<Timestamp>() else {
        return text.to_owned();
    };
    let (between, future) = match Duration::try_from(now.duration_since(time)) {
        Ok(ago) => (ago, false),
        Err(_) => (
            Duration::try_from(time.duration_since(now)).unwrap_or_default(),
            true,
        ),
    };
    let seconds = (between + Duration::from_millis(500)).as_secs();
    let how_far = match (seconds, future) {
        (0, false) => "just now".to_owned(),
        (seconds, false) => format!("{} ago", span(seconds)),
        (seconds, true) => format!("in {}", span(seconds)),
    };
    let at = if seconds < DAY / 2 {
        clock(text)
    } else {
        stamp(text)
    };
    format!("{at} ({how_far})")
}

fn written(format: &str, time: Timestamp) -> String {
    strtime::format(format, &time.to_zoned(TimeZone::UTC)).unwrap_or_else(|_| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_to_the_second_with_how_far_it_is() {
        let now: Timestamp = "2026-11-21T18:14:06Z".parse().unwrap();
        for (text, says) in [
            ("2026-11-21T18:14:01.889415239Z", "18:14:01Z (4 s ago)"),
            ("2026-11-21T18:14:05.9Z", "18:14:05Z (just now)"),
            ("2026-11-21T18:19:06Z", "18:19:06Z (in 5 min)"),
            ("2026-11-19T17:14:06Z", "2026-11-19 17:14:06Z (2 d 1 h ago)"),
            ("2026-11-24T18:14:06Z", "2026-11-24 18:14:06Z (in 3 d)"),
            ("T", "T"),
        ] {
            assert_eq!(told(text, now), says);
        }
        assert_eq!(stamp("2026-11-21T18:14:01.889415239Z"), "2026-11-21 18:14:01Z");
    }

    #[test]
    fn a_span_has_two_units_at_most() {
        for (seconds, says) in [
            (0, "0 s"),
            (59, "59 s"),
            (62, "1 min 2 s"),
            (7200, "2 h"),
            (90_061, "1 d 1 h"),
        ] {
            assert_eq!(span(seconds), says);
        }
    }
}
