//! How long is held, and how much is forgiven.

use super::*;
use proptest::prelude::*;

const MOST: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

/// The holds that follow failures of an endpoint that was well for so many seconds before each.
fn holds(most: Duration, well_for: &[u64]) -> Vec<f64> {
    let (mut flapping, mut now) = (Flapping::default(), Millis(1));
    let each = well_for.iter().map(|seconds| {
        let well = SECOND * u32::try_from(*seconds).unwrap();
        now = flapping.until().max(now).plus(well);
        let hold = flapping.failed(well, most, now);
        let until = hold.map_or(Millis::NEVER, |hold| now.plus(hold.time));
        assert_eq!(flapping.until(), until);
        until.since(now).as_secs_f64()
    });
    each.collect()
}

#[test]
fn the_first_failure_is_free_and_each_further_one_costs_twice_as_much_up_to_the_bound() {
    assert_eq!(
        holds(MOST, &[5, 2, 2, 2, 2, 2, 2, 2]),
        [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    );
    assert_eq!(holds(SECOND / 2, &[0, 0, 0]), [0.0, 0.5, 0.5]);
    assert_eq!(holds(SECOND, &[0, 0, 0]), [0.0, 1.0, 1.0]);
}

#[test]
fn an_endpoint_that_fails_now_and_then_is_never_held() {
    assert_eq!(holds(MOST, &[30, 30, 600, 31, 30]), [0.0; 5]);
    assert_eq!(holds(MOST, &[30, 29]), [0.0, 1.0]);
}

#[test]
fn one_doubling_is_forgiven_for_each_time_as_long_as_the_bound() {
    assert_eq!(holds(MOST, &[1, 1, 1, 1, 30, 60, 29])[3..], [4.0, 4.0, 2.0, 4.0]);
    // Who is at the bound has no more to be forgiven than it takes to get there.
    let long = [&[1; 40][..], &[6 * 30]].concat();
    assert_eq!(holds(MOST, &long)[39..], [30.0, 0.0]);
}

#[test]
fn without_a_bound_nobody_is_held_and_nothing_remembered() {
    assert_eq!(holds(Duration::ZERO, &[0; 9]), [0.0; 9]);
    let mut flapping = Flapping::default();
    for (most, held) in [
        (MOST, false),
        (MOST, true),
        (Duration::ZERO, false),
        (MOST, false),
    ] {
        let hold = flapping.failed(Duration::ZERO, most, Millis(1));
        assert_eq!((hold.is_some(), flapping.until() > Millis(1)), (held, held));
    }
    assert_eq!(flapping.flaps(), 1);
}

#[test]
fn a_shorter_bound_ends_a_hold_that_has_begun() {
    let mut flapping = Flapping::default();
    for _ in 0..5 {
        flapping.failed(Duration::ZERO, MOST, Millis(1_000));
    }
    assert_eq!((flapping.until(), flapping.flaps()), (Millis(9_000), 4));
    flapping.bound(MOST);
    assert_eq!(flapping.until(), Millis(9_000));
    flapping.bound(2 * SECOND);
    assert_eq!(flapping.until(), Millis(3_000));
    flapping.bound(Duration::ZERO);
    assert_eq!(flapping.until(), Millis(1_000));
}

#[test]
fn bounds_without_sense_do_no_harm() {
    for most in [Duration::from_nanos(1), Duration::MAX] {
        let mut flapping = Flapping::default();
        for n in 0..100 {
            let now = Millis(1 + n);
            let hold = flapping.failed(Duration::ZERO, most, now);
            assert_eq!(hold.is_some(), n > 0);
            assert!(hold.is_none_or(|hold| hold.time <= most));
            assert_eq!(flapping.until() > Millis::NEVER, n > 0);
        }
    }
}

proptest! {
    /// Whatever it does, in any time it fails no more often than once in each bound, and a few times on top.
    #[test]
    fn failures_lie_the_bound_apart_but_for_the_first_few(
        most in 1..120_000_u64,
        wells in prop::collection::vec(prop_oneof![0..500_u64, 0..5_000_u64, 0..200_000_u64], 1..120),
    ) {
        let bound = Duration::from_millis(most);
        let (mut flapping, mut now, mut failures) = (Flapping::default(), Millis(1), 0);
        // Until the hold is as long as the bound.
        let mut few = 2;
        while FIRST * (1 << (few - 2)) < bound {
            few += 1;
        }
        for (before, well) in wells.into_iter().map(Duration::from_millis).enumerate() {
            now = now.max(flapping.until()).plus(well);
            let hold = flapping.failed(well, bound, now);
            prop_assert!(before > 0 || hold.is_none(), "the first is free");
            prop_assert!(hold.is_none_or(|hold| hold.time <= bound));
            failures += 1;
            prop_assert!(failures <= few + now.0 / most, "{failures} in {} ms", now.0);
        }
    }
}
