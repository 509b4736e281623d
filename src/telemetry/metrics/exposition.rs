//! The text form of a scrape: Prometheus 0.0.4, or OpenMetrics 1.0.
//!
//! Written here and not by prometheus-client: ours are sums over per-worker blocks, which its registry would
//! have to be fed again at each scrape, and it speaks OpenMetrics only.

use super::catalogue::{Family, Kind};
use super::histogram::{BOUNDS_US, HistogramCounts, SHOWN};
use std::fmt::Write as _;

/// Which of the two text formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    Prometheus,
    OpenMetrics,
}

impl Exposition {
    /// What the scraper's `Accept` asks for; without one, the format that everything reads.
    #[must_use]
    pub fn negotiate(accept: Option<&str>) -> Self {
        if accept.is_some_and(|a| a.contains("application/openmetrics-text")) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The value of a sample.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    Count(u64),
    Level(i64),
    Real(f64),
    /// Microseconds, written in seconds.
    Micros(u64),
}

impl From<u64> for Number {
    fn from(n: u64) -> Self {
        Self::Count(n)
    }
}
impl From<i64> for Number {
    fn from(n: i64) -> Self {
        Self::Level(n)
    }
}
impl From<f64> for Number {
    fn from(n: f64) -> Self {
        Self::Real(n)
    }
}
impl From<bool> for Number {
    fn from(b: bool) -> Self {
        Self::Count(u64::from(b))
    }
}

/// Writes families one after the other.
#[derive(Debug)]
pub struct Encoder {
    out: String,
    exposition: Exposition,
}

impl Encoder {
    #[must_use]
    pub fn new(exposition: Exposition) -> Self {
        Self {
            out: String::with_capacity(64 * 1024),
            exposition,
        }
    }

    /// Writes one family: its head, then what `samples` adds. Each family at most once per scrape.
    pub fn family(&mut self, family: &'static Family, samples: impl FnOnce(&mut Samples<'_>)) {
        let name = match (self.exposition, family.kind) {
            (Exposition::OpenMetrics, Kind::Counter) => {
                family.name.strip_suffix("_total").unwrap_or(family.name)
            }
            _ => family.name,
        };
        for text in [
            "# HELP ",
            name,
            " ",
            family.help,
            "\n# TYPE ",
            name,
            " ",
            family.kind.name(),
            "\n",
        ] {
            self.out.push_str(text);
        }
        samples(&mut Samples {
            out: &mut self.out,
            family,
        });
    }

    #[must_use]
    pub fn finish(mut self) -> String {
        if self.exposition == Exposition::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

/// The samples of one family.
#[derive(Debug)]
pub struct Samples<'a> {
    out: &'a mut String,
    family: &'static Family,
}

impl Samples<'_> {
    /// One sample. `labels` are the values of the family's labels, in order.
    pub fn add(&mut self, labels: &[&str], value: impl Into<Number>) {
        self.head("", labels, None);
        self.value(value.into());
    }

    /// One histogram: the shown buckets, sum and count.
    pub fn histogram(&mut self, labels: &[&str], counts: &HistogramCounts) {
        let mut cumulated = 0;
        let mut next = 0;
        for shown in SHOWN {
            cumulated += counts.buckets[next..=shown].iter().sum::<u64>();
            next = shown + 1;
            self.head("_bucket", labels, Some(Bound::Micros(BOUNDS_US[shown])));
            self.value(cumulated.into());
        }
        let count = counts.count();
        self.head("_bucket", labels, Some(Bound::Infinite));
        self.value(count.into());
        self.head("_sum", labels, None);
        self.value(Number::Micros(counts.sum_us));
        self.head("_count", labels, None);
        self.value(count.into());
    }

    fn head(&mut self, suffix: &str, labels: &[&str], bound: Option<Bound>) {
        debug_assert_eq!(labels.len(), self.family.labels.len(), "{}", self.family.name);
        self.out.push_str(self.family.name);
        self.out.push_str(suffix);
        let mut separator = '{';
        for (name, value) in self.family.labels.iter().zip(labels) {
            self.out.push(separator);
            self.out.push_str(name);
            self.out.push_str("=\"");
            push_escaped(self.out, value);
            self.out.push('"');
            separator = ',';
        }
        if let Some(bound) = bound {
            self.out.push(separator);
            self.out.push_str("le=\"");
            match bound {
                Bound::Micros(us) => push_seconds(self.out, us),
                Bound::Infinite => self.out.push_str("+Inf"),
            }
            self.out.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.out.push('}');
        }
        self.out.push(' ');
    }

    fn value(&mut self, value: Number) {
        match value {
            Number::Count(n) => self.out.push_str(itoa::Buffer::new().format(n)),
            Number::Level(n) => self.out.push_str(itoa::Buffer::new().format(n)),
            Number::Micros(us) => push_seconds(self.out, us),
            Number::Real(n) => {
                let _infallible = write!(self.out, "{n}");
            }
        }
        self.out.push('\n');
    }
}

enum Bound {
    Micros(u64),
    Infinite,
}

/// Seconds with as many decimals as they need, at least one.
fn push_seconds(out: &mut String, us: u64) {
    let _infallible = write!(out, "{}.{:06}", us / 1_000_000, us % 1_000_000);
    while out.ends_with('0') && !out.ends_with(".0") {
        out.pop();
    }
}

fn push_escaped(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalogue;
    use super::super::histogram::Histogram;
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_label_value_cannot_break_its_line() {
        let mut encoder = Encoder::new(Exposition::Prometheus);
        encoder.family(&catalogue::CONNECTIONS, |s| s.add(&["a\"} 1\nb\\"], 7u64));
        let text = encoder.finish();
        assert_eq!(
            text.lines().nth(2),
            Some(r#"tidegate_connections_total{listener="a\"} 1\nb\\"} 7"#)
        );
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn openmetrics_names_the_counter_family_without_its_suffix_and_ends_with_eof() {
        let mut encoder = Encoder::new(Exposition::OpenMetrics);
        encoder.family(&catalogue::EVENTS, |s| s.add(&[], 3u64));
        assert_eq!(
            encoder.finish(),
            "# HELP tidegate_events Events posted.\n# TYPE tidegate_events counter\ntidegate_events_total 3\n# EOF\n"
        );
    }

    #[test]
    fn a_histogram_shows_cumulated_buckets_that_end_in_its_count() {
        let histogram = Histogram::default();
        for us in [90, 120, 2_000_000, 500_000_000] {
            histogram.record(Duration::from_micros(us));
        }
        let mut encoder = Encoder::new(Exposition::Prometheus);
        encoder.family(&catalogue::LOOP_LAG, |s| s.histogram(&["0"], &histogram.counts()));
        let text = encoder.finish();
        for line in [
            r#"tidegate_loop_lag_seconds_bucket{worker="0",le="0.0001"} 1"#,
            r#"tidegate_loop_lag_seconds_bucket{worker="0",le="0.00025"} 2"#,
            r#"tidegate_loop_lag_seconds_bucket{worker="0",le="1.0"} 2"#,
            r#"tidegate_loop_lag_seconds_bucket{worker="0",le="2.5"} 3"#,
            r#"tidegate_loop_lag_seconds_bucket{worker="0",le="+Inf"} 4"#,
            r#"tidegate_loop_lag_seconds_sum{worker="0"} 502.00021"#,
            r#"tidegate_loop_lag_seconds_count{worker="0"} 4"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_format_follows_accept() {
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        assert_eq!(Exposition::negotiate(Some(prometheus)), Exposition::OpenMetrics);
        assert_eq!(Exposition::negotiate(Some("*/*")), Exposition::Prometheus);
        assert_eq!(Exposition::negotiate(None), Exposition::Prometheus);
    }
}
