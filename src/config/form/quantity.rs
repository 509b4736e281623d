//! Durations and sizes: a number with a unit.

use super::Complaint;
use std::time::Duration;

/// The longest duration that can be written; timers take no more without overflow anywhere.
pub const MAX_DURATION: Duration = Duration::from_secs(365 * 86_400);

/// Units of time in nanoseconds, longest first.
const TIME: &[(&str, u128)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Units of size in bytes, largest first; where two are equal in what they divide, the shorter text wins.
const SIZE: &[(&str, u128)] = &[
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads `500ms`, `5s`, `1h30m`, `1.5s`.
pub fn duration(text: &str) -> Result<Duration, Complaint> {
    let mut rest = text;
    let mut nanos: u128 = 0;
    if rest.is_empty() {
        return Err(Complaint::new("it is empty"));
    }
    while !rest.is_empty() {
        let (number, unit, after) = part(rest).ok_or_else(|| Complaint::new("it is not a duration"))?;
        let Some((_, scale)) = TIME.iter().find(|(name, _)| *name == unit) else {
            return Err(unknown_unit(
                unit,
                number,
                likely(unit, &["ms", "m", "h", "d", "us", "ns"], "s"),
            ));
        };
        let value = scaled(number, *scale).ok_or_else(|| Complaint::new("the number is too long"))?;
        nanos = nanos.saturating_add(value);
        rest = after;
    }
    let value = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
    if value > MAX_DURATION {
        return Err(Complaint::new("it is longer than 365 days"));
    }
    Ok(value)
}

/// Reads `64KiB`, `10MB`, `100B`, `1048576`.
pub fn size(text: &str) -> Result<u64, Complaint> {
    let (number, unit, rest) = part(text).ok_or_else(|| Complaint::new("it is not a size"))?;
    let scale = if unit.is_empty() {
        Some(1)
    } else {
        SIZE.iter().find(|(n, _)| *n == unit).map(|(_, s)| *s)
    };
    let Some(scale) = scale.filter(|_| rest.is_empty()) else {
        return Err(unknown_unit(
            unit,
            number,
            likely(unit, &["kB", "MB", "GB", "TB", "B"], "KiB"),
        ));
    };
    scaled(number, scale)
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| *bytes <= i64::MAX as u64)
        .ok_or_else(|| Complaint::new("the number is too long"))
}

fn unknown_unit(unit: &str, number: &str, example: &str) -> Complaint {
    let reason = if unit.is_empty() {
        "it has no unit".to_owned()
    } else {
        format!("there is no unit `{unit}`")
    };
    Complaint::new(reason).instead(&format!("{number}{example}"))
}

/// The unit whose first letter a word has: `megs` are MB, `minutes` m.
fn likely(word: &str, units: &[&'static str], otherwise: &'static str) -> &'static str {
    let word = word.trim().to_ascii_lowercase();
    let milli = word.starts_with("ms") || word.starts_with("milli");
    units
        .iter()
        .filter(|unit| **unit != "ms" || milli)
        .find(|unit| {
            let first = unit.chars().next().map(|c| c.to_ascii_lowercase());
            first.is_some() && word.chars().next() == first
        })
        .copied()
        .unwrap_or(otherwise)
}

/// Splits off a number and the letters after it.
fn part(text: &str) -> Option<(&str, &str, &str)> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(digits)?;
    let letters = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at_checked(letters)?;
    let starts = number.starts_with(|c: char| c.is_ascii_digit());
    let well = starts && !number.ends_with('.') && number.matches('.').count() <= 1;
    well.then_some((number, unit, rest))
}

/// A decimal number times a unit, what is finer than 1 cut off; `None` if it has too many digits.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    const MAX_DIGITS: usize = 19;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole = whole.trim_start_matches('0');
    if whole.len() > MAX_DIGITS || fraction.len() > MAX_DIGITS {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = fraction.parse().ok()?;
    Some(whole * unit + fraction * unit / scale)
}

/// Writes a duration the way it is read: in the largest unit that divides it.
#[must_use]
pub fn write_duration(value: Duration) -> String {
    let nanos = value.as_nanos();
    let fits = |(_, scale): &&(&str, u128)| nanos != 0 && nanos.is_multiple_of(*scale);
    let (name, scale) = TIME.iter().find(fits).unwrap_or(&("s", 1));
    format!("{}{name}", nanos / scale)
}

/// Writes a size the way it is read: the largest unit that divides it.
#[must_use]
pub fn write_size(value: u64) -> String {
    let bytes = u128::from(value);
    let (name, scale) = SIZE
        .iter()
        .find(|(_, scale)| bytes != 0 && bytes.is_multiple_of(*scale))
        .unwrap_or(&("B", 1));
    format!("{}{name}", bytes / scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, millis) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("2m", 120_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1_500),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "", "5", "s", "5 s", "5x", "-5s", "1.s", ".5s", "1..5s", "5sec", "é", "366d", "1e3s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("30").unwrap_err().hint.as_deref(), Some("write \"30s\""));
        assert!(duration("99999999999999999999s").is_err());
        assert!(
            duration(&"9999999999999999s".repeat(50_000)).is_err(),
            "sums saturate"
        );
    }

    #[test]
    fn sizes_know_decimal_and_binary_units() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("10MB", 10_000_000),
            ("100B", 100),
            ("1048576", 1 << 20),
            ("1.5KiB", 1_536),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "KiB",
            "10m",
            "10MBs",
            "1KB1B",
            "-1B",
            "10 MB",
            "99999999999TiB",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quantities_are_written_short() {
        assert_eq!(write_duration(Duration::from_secs(5_400)), "90m");
        assert_eq!(write_duration(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(write_duration(Duration::ZERO), "0s");
        assert_eq!(write_size(10_000_000), "10MB");
        assert_eq!(write_size(32 << 10), "32KiB");
        assert_eq!(write_size(0), "0B");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanos in 0..MAX_DURATION.as_nanos() as u64, bytes in 0..=i64::MAX as u64) {
            let value = Duration::from_nanos(nanos);
            prop_assert_eq!(duration(&write_duration(value)), Ok(value));
            prop_assert_eq!(size(&write_size(bytes)), Ok(bytes));
        }
    }
}
