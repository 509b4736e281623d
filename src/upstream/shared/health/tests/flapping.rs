//! Endpoints that come and go.

use super::*;

/// One pass and one failure are enough, and holds are as by default.
const DAMPED: Cadence = Cadence {
    rise: 1,
    fall: 1,
    interval: SECOND,
    fast_interval: Duration::from_millis(250),
    timeout: SECOND,
    jitter: 0.0,
    max_hold: Duration::from_secs(30),
};

/// Takes a probe in that was answered at once; how long it is held, if it is from now on.
fn note(record: &mut Record, limits: &Cadence, at: u64, passes: bool) -> Option<Turn> {
    let outcome = if passes { Ok(()) } else { Err(Failure::Closed) };
    record.note(probe(at, outcome), limits, Millis(at))
}

fn hold(turn: Option<Turn>) -> Option<u64> {
    match turn {
        Some(Turn::Failed { hold, .. }) => hold.map(|hold| hold.time.as_secs()),
        other => panic!("{other:?}"),
    }
}

/// One that failed, was back, and failed again: held from 3 s to 4 s.
fn held() -> Record {
    let mut record = Record::new(Health::Pending, Millis(1));
    note(&mut record, &DAMPED, 500, true);
    assert_eq!(hold(note(&mut record, &DAMPED, 1_000, false)), None);
    assert_eq!(record.held_until(Millis(1_000)), None);
    let back = note(&mut record, &DAMPED, 2_000, true);
    assert!(matches!(back, Some(Turn::Recovered { .. })), "{back:?}");
    assert_eq!(hold(note(&mut record, &DAMPED, 3_000, false)), Some(1));
    record
}

#[test]
fn one_that_fails_again_soon_is_not_well_before_its_hold_is_over_and_then_at_once() {
    let mut record = held();
    assert_eq!(record.health(), Health::Unhealthy);
    assert_eq!(record.held_until(Millis(3_999)), Some(Millis(4_000)));
    assert_eq!(record.held_until(Millis(4_000)), None);
    for at in [3_250, 3_500, 3_750, 3_999] {
        assert_eq!(note(&mut record, &DAMPED, at, true), None);
        let known = (record.verdict(), record.health());
        assert_eq!(
            known,
            (Health::Unhealthy, Health::Held),
            "it is better than one that fails"
        );
    }
    let after = SECOND;
    assert_eq!(
        note(&mut record, &DAMPED, 4_000, true),
        Some(Turn::Recovered { after })
    );
    assert_eq!((record.health(), record.flaps()), (Health::Healthy, 1));
    assert_eq!(hold(note(&mut record, &DAMPED, 5_000, false)), Some(2));
    assert_eq!(record.flaps(), 2);
}

#[test]
fn failures_during_a_hold_do_not_make_it_longer() {
    let mut record = held();
    note(&mut record, &DAMPED, 3_500, true);
    assert_eq!(note(&mut record, &DAMPED, 3_900, false), None);
    assert_eq!(record.health(), Health::Unhealthy);
    assert_eq!(record.held_until(Millis(3_900)), Some(Millis(4_000)));
    assert!(note(&mut record, &DAMPED, 4_000, true).is_some());
}

#[test]
fn after_a_hold_it_takes_as_many_passes_as_ever() {
    let limits = Cadence { rise: 3, ..DAMPED };
    let mut record = held();
    note(&mut record, &limits, 3_500, true);
    note(&mut record, &limits, 3_750, true);
    assert_eq!(record.health(), Health::Unhealthy);
    assert!(
        note(&mut record, &limits, 4_000, true).is_some(),
        "those during it count"
    );
    let mut record = held();
    assert_eq!(note(&mut record, &limits, 4_000, true), None);
    assert_eq!(note(&mut record, &limits, 4_250, true), None);
    assert!(note(&mut record, &limits, 4_500, true).is_some());
}

#[test]
fn the_next_probe_is_due_when_the_hold_ends() {
    let mut record = held();
    let fast = DAMPED.fast_interval;
    assert_eq!(record.wait(&DAMPED, 0.0), fast);
    note(&mut record, &DAMPED, 3_900, true);
    assert_eq!(record.wait(&DAMPED, 0.0), Duration::from_millis(100));
    note(&mut record, &DAMPED, 3_998, false);
    assert_eq!(record.wait(&DAMPED, 0.0), LEAST_WAIT);
    note(&mut record, &DAMPED, 4_010, false);
    assert_eq!(record.wait(&DAMPED, 0.0), fast);
}

#[test]
fn a_witnessed_failure_is_damped_like_any_other() {
    let limits = Cadence { fall: 9, ..DAMPED };
    let mut record = held();
    note(&mut record, &limits, 4_000, true);
    record.witnessed(Millis(5_000));
    assert_eq!(hold(note(&mut record, &limits, 4_500, false)), Some(2));
}

#[test]
fn holds_follow_the_configuration() {
    let mut record = held();
    let off = Cadence {
        max_hold: Duration::ZERO,
        ..DAMPED
    };
    assert!(note(&mut record, &off, 3_010, true).is_some(), "it is over");
    assert_eq!(hold(note(&mut record, &off, 3_020, false)), None);
    assert!(note(&mut record, &off, 3_030, true).is_some());
}

/// Probes an endpoint that is there and away by turns, as a prober does. When its verdict turned, for how long it was
/// held, and the record.
fn watch(limits: &Cadence, turns: &[u64], randoms: &[f64]) -> (Vec<u64>, Vec<Duration>, Record, u64) {
    let mut record = Record::new(Health::Pending, Millis(1));
    let (mut now, mut turned, mut held) = (1, Vec::new(), Vec::new());
    let mut random = randoms.iter().cycle();
    let mut end = now;
    for (turn, length) in turns.iter().enumerate() {
        end += length;
        while now < end {
            match note(&mut record, limits, now, turn % 2 == 0) {
                None | Some(Turn::FoundWell) => {}
                Some(Turn::Recovered { .. }) => turned.push(now),
                Some(Turn::Failed { hold, .. }) => {
                    turned.push(now);
                    held.extend(hold.map(|hold| hold.time));
                }
            }
            now += record.wait(limits, *random.next().unwrap_or(&0.0)).as_millis() as u64;
        }
    }
    (turned, held, record, now)
}

#[test]
fn one_that_dies_every_two_seconds_turns_its_verdict_six_times_a_minute_at_most() {
    let limits = Cadence {
        rise: 2,
        fall: 3,
        jitter: 0.1,
        ..DAMPED
    };
    let minutes = 20;
    let (turned, held, ..) = watch(&limits, &[2_000; 30 * 20], &[0.3, 0.9, 0.1]);
    assert_eq!(held[..5], [1, 2, 4, 8, 16].map(Duration::from_secs));
    assert!(held[5..].iter().all(|hold| *hold == limits.max_hold), "{held:?}");
    assert!(held.len() > minutes, "{held:?}");
    let begun = 120_000;
    for (index, from) in turned.iter().enumerate().filter(|(_, at)| **at > begun) {
        let minute = turned[index..].iter().take_while(|at| **at < from + 60_000);
        assert!(minute.count() <= 6, "{turned:?}");
    }
    let undamped = Cadence {
        max_hold: Duration::ZERO,
        ..limits
    };
    let (often, held, ..) = watch(&undamped, &[2_000; 30 * 20], &[0.3, 0.9, 0.1]);
    assert!(often.len() > 20 * minutes && held.is_empty(), "{}", often.len());
}

proptest! {
    /// However an endpoint comes and goes: verdicts turn seldom, holds have their bound, and who stays is back as soon
    /// as its hold is over.
    #[test]
    fn an_endpoint_that_comes_and_goes_is_damped(
        rise in 1..4_u32,
        fall in 1..4_u32,
        interval in 20..3_000_u64,
        fast in 20..1_000_u64,
        most in prop_oneof![Just(0), 100..60_000_u64],
        randoms in prop::collection::vec(0.0..1.0_f64, 16),
        turns in prop::collection::vec(prop_oneof![1..500_u64, 100..5_000_u64, 100..90_000_u64], 1..80),
    ) {
        let limits = Cadence {
            rise,
            fall,
            interval: Duration::from_millis(interval),
            fast_interval: Duration::from_millis(fast),
            timeout: SECOND,
            jitter: 0.5,
            max_hold: Duration::from_millis(most),
        };
        let (turned, held, mut record, mut now) = watch(&limits, &turns, &randoms);
        match now.checked_div(most) {
            None => prop_assert!(held.is_empty()),
            Some(bounds) => {
                let few = 2 + (0..8).filter(|n| SECOND * (1 << n) < limits.max_hold).count() as u64;
                prop_assert!(turned.len() as u64 <= 2 * (few + bounds) + 1, "{turned:?}");
            }
        }
        prop_assert!(held.iter().all(|hold| *hold <= limits.max_hold));
        // From now on it stays.
        let until = record.held_until(Millis(now)).unwrap_or(Millis(now));
        prop_assert!(until.since(Millis(now)) <= limits.max_hold);
        let mut back = None;
        while back.is_none() || record.verdict() != Health::Healthy {
            back = Some(note(&mut record, &limits, now, true));
            now += record.wait(&limits, 0.0).as_millis() as u64;
        }
        if let Some(Some(_)) = back {
            let late = record.since().since(until);
            prop_assert!(record.since() >= until, "too early");
            prop_assert!(late <= (limits.fast_interval.min(limits.interval) * (rise - 1)).max(LEAST_WAIT), "{late:?}");
        }
        let since = record.since();
        // For as long as that it is steady, and its next failure is free.
        let steady = limits.max_hold * (turns.len() as u32 + 1);
        let later = since.plus(steady).0.max(now) + 1;
        let mut told = Vec::new();
        for n in 0..u64::from(fall) {
            told.extend(note(&mut record, &limits, later + n, false));
        }
        prop_assert!(matches!(told[..], [Turn::Failed { hold: None, .. }]), "{told:?}");
    }
}
