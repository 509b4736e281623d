//! How tunnels are asked to go: a few at a time, so that those who come back do not come all at once.

use crate::config::model::ShedOrder;
use std::time::{Duration, Instant};

/// Time before a deadline in which those asked last may still say goodbye.
const FAREWELL: Duration = Duration::from_secs(2);
/// A deadline nearer than this leaves no room for slices: until then nobody is asked.
const SHORTEST: Duration = Duration::from_secs(5);

/// An order to let tunnels go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shed {
    /// Tunnels per second, over all workers; 0: as many as it takes to be done by the deadline.
    pub rate: f64,
    /// How much the size of a slice varies, as a part of it.
    pub jitter: f64,
    pub order: ShedOrder,
    pub began: Instant,
    pub deadline: Option<Instant>,
    /// What close frames say.
    pub code: u16,
}

impl Shed {
    /// Whether anybody is asked at all.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.rate > 0.0
            || self
                .deadline
                .is_some_and(|deadline| deadline.saturating_duration_since(self.began) >= SHORTEST)
    }

    /// How many of `left` are to be asked in the time that has passed: of them, `part` are the caller's share.
    #[must_use]
    pub fn slice(&self, left: usize, part: f64, now: Instant, passed: Duration) -> f64 {
        let passed = passed.as_secs_f64();
        let even = match (self.rate, self.deadline) {
            (rate, _) if rate > 0.0 => rate * part * passed,
            (_, Some(deadline)) if self.asks() => {
                let until = (deadline - FAREWELL).saturating_duration_since(now).as_secs_f64();
                left as f64 * (passed / until.max(passed))
            }
            _ => 0.0,
        };
        even * (1.0 + self.jitter * (2.0 * fastrand::f64() - 1.0))
    }

    /// When the last of `left` will have been asked.
    #[must_use]
    pub fn end(&self, left: u32, now: Instant) -> Option<Instant> {
        if self.rate > 0.0 {
            let end = now.checked_add(Duration::try_from_secs_f64(f64::from(left) / self.rate).ok()?)?;
            return Some(self.deadline.map_or(end, |deadline| deadline.min(end)));
        }
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shed(rate: f64, deadline: Option<Duration>) -> Shed {
        let began = Instant::now();
        Shed {
            rate,
            jitter: 0.5,
            order: ShedOrder::Oldest,
            began,
            deadline: deadline.map(|deadline| began + deadline),
            code: 1012,
        }
    }

    /// Tunnels asked in each of so many tenths of a second.
    fn run(shed: Shed, mut left: usize, tenths: u32) -> Vec<usize> {
        let tenth = Duration::from_millis(100);
        let mut credit = 0.0;
        (0..tenths)
            .map(|n| {
                credit += shed.slice(left, 1.0, shed.began + tenth * n, tenth);
                let asked = (credit.max(0.0) as usize).min(left);
                credit -= asked as f64;
                left -= asked;
                asked
            })
            .collect()
    }

    #[test]
    fn a_rate_is_kept_whatever_the_jitter() {
        let asked = run(shed(50.0, None), 10_000, 100);
        let all: usize = asked.iter().sum();
        assert!((425..=575).contains(&all), "{all}");
        assert!(asked.iter().all(|slice| *slice <= 8), "{asked:?}");
    }

    #[test]
    fn without_a_rate_all_are_asked_shortly_before_the_deadline() {
        let asked = run(shed(0.0, Some(Duration::from_secs(22))), 1000, 220);
        assert_eq!(asked.iter().sum::<usize>(), 1000);
        let half: usize = asked[..100].iter().sum();
        assert!((400..=600).contains(&half), "{half}");
        assert_eq!(asked[205..].iter().sum::<usize>(), 0);
    }

    #[test]
    fn without_a_rate_nobody_is_asked_where_there_is_no_deadline_or_no_time() {
        for deadline in [None, Some(Duration::from_secs(1))] {
            let shed = shed(0.0, deadline);
            assert!(!shed.asks());
            assert_eq!(run(shed, 1000, 20).iter().sum::<usize>(), 0);
        }
    }

    #[test]
    fn the_end_can_be_told_beforehand() {
        let paced = shed(50.0, Some(Duration::from_secs(60)));
        assert_eq!(
            paced.end(100, paced.began),
            Some(paced.began + Duration::from_secs(2))
        );
        assert_eq!(paced.end(100_000, paced.began), paced.deadline);
        assert_eq!(shed(0.0, None).end(100, Instant::now()), None);
    }
}
