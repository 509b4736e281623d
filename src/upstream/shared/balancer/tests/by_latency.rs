//! Those that go by how endpoints answered before.

use super::*;

fn answers(plan: &UpstreamPlan, index: usize, ms: u64, now: Millis) {
    plan.endpoints[index]
        .state
        .latency
        .answered(Duration::from_millis(ms), now);
}

#[test]
fn least_time_weighs_latency_with_load() {
    let plan = plan(Balance::LeastTime, &[(1, false), (1, false)]);
    answers(&plan, 0, 10, Millis(1000));
    answers(&plan, 1, 25, Millis(1000));
    assert_eq!(counts(&plan, 1, 20, |_| true), [20, 0]);
    plan.endpoints[0].state.request_started();
    assert_eq!(counts(&plan, 1, 20, |_| true), [20, 0], "twenty is less than 25");
    plan.endpoints[0].state.request_started();
    assert_eq!(counts(&plan, 1, 20, |_| true), [0, 20]);
}

#[test]
fn an_endpoint_that_never_answered_is_taken_for_a_middling_one_or_for_the_best() {
    for (balance, ms, busy) in [
        (Balance::Adaptive, 20.0, 20.0 * 8.0),
        (Balance::LeastTime, 10.0, 10.0 * 4.0),
    ] {
        let plan = plan(balance, &[(1, false); 4]);
        for (index, ms) in [(0, 10), (1, 30), (2, 20)] {
            answers(&plan, index, ms, Millis(1000));
        }
        let new = score::scores(&plan, Millis(1000))[3];
        assert_eq!((new.latency_us / 1e3, new.score / 1e3), (ms, ms), "{balance:?}");
        (0..3).for_each(|_| plan.endpoints[3].state.request_started());
        assert_eq!(
            score::scores(&plan, Millis(1000))[3].score / 1e3,
            busy,
            "{balance:?}"
        );
    }
}

#[test]
fn adaptive_leaves_the_slow_and_the_failing() {
    for (spoil, name) in [
        (
            (|plan| answers(plan, 0, 100, Millis(1000))) as fn(&UpstreamPlan),
            "slow",
        ),
        (
            |plan| {
                plan.endpoints[0]
                    .state
                    .latency
                    .failed(Duration::from_millis(1), Millis(1000))
            },
            "failing",
        ),
        (
            |plan| (0..3).for_each(|_| plan.endpoints[0].state.request_started()),
            "busy",
        ),
    ] {
        let plan = plan(Balance::Adaptive, &[(1, false); 4]);
        (0..4).for_each(|index| answers(&plan, index, 10, Millis(1000)));
        spoil(&plan);
        let counts = counts(&plan, 3, 4000, |_| true);
        assert!(counts[0] < 20, "{name}: {counts:?}");
        assert!(
            counts[1..].iter().all(|c| (1200..1500).contains(c)),
            "{name}: {counts:?}"
        );
    }
}

#[test]
fn adaptive_goes_on_taking_turns_where_the_difference_is_chance() {
    let plan = plan(Balance::Adaptive, &[(2, false), (2, false), (1, false)]);
    for (index, ms) in [(0, 100), (1, 110), (2, 115)] {
        answers(&plan, index, ms, Millis(1000));
    }
    // Nothing runs, so a heavier one is expected to be quicker; among equals they take turns.
    let counts = counts(&plan, 3, 1000, |index| index < 2);
    assert_eq!(counts[0].abs_diff(counts[1]), 0, "{counts:?}");
}

#[test]
fn adaptive_forgets_no_endpoint_however_bad_it_was() {
    let plan = plan(Balance::Adaptive, &[(1, false); 4]);
    (0..4).for_each(|index| answers(&plan, index, 10, Millis(1000)));
    answers(&plan, 0, 60_000, Millis(1000));
    let mut balancer = Balancer::new(&plan, 1);
    let mut asked = 0;
    // Two seconds later nobody has heard of it, while the others answer all the time.
    for pick in 0..4000 {
        let now = Millis(3000 + pick / 4);
        (1..4).for_each(|index| answers(&plan, index, 10, now));
        let index = balancer.pick(&plan, Ask { now, key: None }, |_| true);
        asked += u32::from(index == Some(0));
    }
    assert!(
        (3..30).contains(&asked),
        "{asked}: one in a hundred, divided by four"
    );
    // While a request runs there, no second one is spent on finding out.
    plan.endpoints[0].state.request_started();
    for pick in 0..4000 {
        let now = Millis(4000 + pick / 4);
        (1..4).for_each(|index| answers(&plan, index, 10, now));
        assert_ne!(balancer.pick(&plan, Ask { now, key: None }, |_| true), Some(0));
    }
}

#[test]
fn an_idle_endpoint_nears_the_median_and_a_busy_one_does_not() {
    let plan = plan(Balance::Adaptive, &[(1, false); 3]);
    (0..3).for_each(|index| answers(&plan, index, 10, Millis(1000)));
    answers(&plan, 0, 1000, Millis(1000));
    let latency = |now: u64| score::scores(&plan, Millis(now))[0].latency_us / 1e3;
    assert_eq!(latency(1000), 1000.0);
    assert!(
        (500.0..510.0).contains(&latency(3000)),
        "half the way after two seconds"
    );
    assert!(latency(61_000) < 20.0, "{}", latency(61_000));
    plan.endpoints[0].state.request_started();
    assert_eq!(latency(61_000), 1000.0, "an answer is awaited");
}

#[test]
fn a_score_is_latency_times_load_times_penalty_by_weight() {
    let plan = plan(Balance::Adaptive, &[(2, false)]);
    answers(&plan, 0, 30, Millis(1000));
    plan.endpoints[0].state.request_started();
    plan.endpoints[0]
        .state
        .latency
        .failed(Duration::from_millis(1), Millis(1000));
    let score = score::scores(&plan, Millis(1000))[0];
    assert_eq!((score.latency_us, score.load, score.penalty), (30_000.0, 1, 7.25));
    assert_eq!(score.score, 30_000.0 * 7.25);
    let shown = score::ScoreShown::from(score);
    assert_eq!((shown.latency_ms, shown.score), (30.0, 217.5));
    (0..6).for_each(|_| plan.endpoints[0].state.request_started());
    let score = score::scores(&plan, Millis(1000))[0];
    assert_eq!(score.score, 30_000.0 * 8.0 * 7.25);
}
