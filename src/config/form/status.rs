//! Sets of statuses: `200`, `200-399`, `200,301-308`.

use super::Complaint;
use crate::config::model::StatusSet;

/// Reads one; ranges in any order, and as many as make sense.
pub fn set(text: &str) -> Result<StatusSet, Complaint> {
    const MOST_RANGES: usize = 32;
    let ranges: Result<Vec<_>, _> = text.split(',').map(|part| range(part.trim())).collect();
    let ranges = ranges?;
    if ranges.len() > MOST_RANGES {
        return Err(Complaint::new(format!("it has more than {MOST_RANGES} parts")));
    }
    Ok(StatusSet(ranges))
}

fn range(text: &str) -> Result<(u16, u16), Complaint> {
    if let Some(class) = text.strip_suffix("xx")
        && class.parse::<u16>().is_ok_and(|class| (1..=5).contains(&class))
    {
        return Err(
            Complaint::new("ranges are written with their ends").instead(&format!("{class}00-{class}99"))
        );
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (status(first)?, status(last)?) {
        (first, last) if first > last => {
            Err(Complaint::new("the range ends before it begins").instead(&format!("{last}-{first}")))
        }
        range => Ok(range),
    }
}

fn status(text: &str) -> Result<u16, Complaint> {
    let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(status @ 100..=599) if digits => Ok(status),
        Ok(_) | Err(_) => Err(Complaint::new(format!("{text:?} is no status from 100 to 599"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_single_or_ranges() {
        let some = set("200, 301-308").unwrap();
        assert_eq!(some, StatusSet(vec![(200, 200), (301, 308)]));
        assert_eq!(some.to_string(), "200,301-308");
        assert_eq!(set(&some.to_string()), Ok(some.clone()));
        for (status, within) in [(200, true), (201, false), (301, true), (308, true), (309, false)] {
            assert_eq!(some.contains(status), within, "{status}");
        }
    }

    #[test]
    fn what_is_no_status_is_refused_with_what_was_meant() {
        for text in [
            "", "ok", "99", "600", "200-", "-200", "200--300", "+200", "2000", "200;300", "0200",
        ] {
            assert!(set(text).is_err(), "{text:?}");
        }
        assert_eq!(set("2xx").unwrap_err().hint.as_deref(), Some("write \"200-299\""));
        assert_eq!(
            set("399-200").unwrap_err().hint.as_deref(),
            Some("write \"200-399\"")
        );
        assert!(set(&vec!["200"; 99].join(",")).is_err());
    }
}
