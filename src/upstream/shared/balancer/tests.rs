use super::*;
use crate::config::model::{HashKey, Pool};
use crate::upstream::shared::state::{EndpointKey, EndpointState};
use crate::upstream::shared::{AdminState, Hashing};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const ALL: [Balance; 9] = [
    Balance::RoundRobin,
    Balance::Weighted,
    Balance::LeastConnections,
    Balance::RandomTwo,
    Balance::LeastTime,
    Balance::Adaptive,
    Balance::IpHash,
    Balance::Hash,
    Balance::First,
];

pub(crate) fn endpoint(address: String, weight: u32, backup: bool) -> EndpointPlan {
    let key = EndpointKey {
        upstream: "u".into(),
        address: address.into(),
    };
    EndpointPlan {
        authority: key.address.clone(),
        server_name: None,
        state: Arc::new(EndpointState::new(key, vec![])),
        weight,
        backup,
        admin: AdminState::Active,
        max_connections: 0,
    }
}

pub(crate) fn plan_of(balance: Balance, bounded_load: f64, endpoints: Vec<EndpointPlan>) -> UpstreamPlan {
    UpstreamPlan {
        name: "u".into(),
        balance,
        hashing: Hashing::new(balance, HashKey::ClientIp, bounded_load, None, &endpoints),
        endpoints,
        pool: Pool {
            idle_per_worker: 1,
            idle_timeout: Duration::from_secs(1),
            max_requests: 0,
            max_age: Duration::ZERO,
        },
        dial: Default::default(),
        sticky: None,
        health: None,
        resilience: Default::default(),
    }
}

fn plan(balance: Balance, weights: &[(u32, bool)]) -> UpstreamPlan {
    let endpoints = weights
        .iter()
        .enumerate()
        .map(|(i, &(weight, backup))| endpoint(format!("10.0.0.{i}:80"), weight, backup))
        .collect();
    plan_of(balance, 0.0, endpoints)
}

const fn ask(key: u64) -> Ask {
    Ask {
        now: Millis(1000),
        key: Some(key),
    }
}

/// Picks with a key of their own each, by endpoint.
fn counts(plan: &UpstreamPlan, seed: u64, picks: u64, usable: impl Fn(usize) -> bool) -> Vec<u32> {
    let mut balancer = Balancer::new(plan, seed);
    let mut counts = vec![0; plan.endpoints.len()];
    for key in 0..picks {
        if let Some(index) = balancer.pick(plan, ask(key), &usable) {
            counts[index] += 1;
        }
    }
    counts
}

fn picks(plan: &UpstreamPlan, seed: u64, n: u64) -> String {
    let mut balancer = Balancer::new(plan, seed);
    let name = |index: usize| char::from(b'a' + index as u8);
    (0..n)
        .filter_map(|_| balancer.pick(plan, ask(0), |_| true).map(name))
        .collect()
}

// What holds for every algorithm.

#[test]
fn backups_serve_only_when_no_primary_can() {
    for balance in ALL {
        let plan = plan(balance, &[(1, false), (1, true)]);
        assert_eq!(counts(&plan, 3, 50, |_| true), [50, 0], "{balance:?}");
        assert_eq!(counts(&plan, 3, 50, |i| i != 0), [0, 50], "{balance:?}");
        assert_eq!(counts(&plan, 3, 50, |_| false), [0, 0], "{balance:?}");
    }
}

#[test]
fn nobody_of_weight_zero_or_out_of_service_is_picked() {
    for balance in ALL {
        let mut endpoints: Vec<_> = (0..4)
            .map(|i| endpoint(format!("e{i}:80"), u32::from(i != 0), false))
            .collect();
        endpoints[1].admin = AdminState::Draining;
        endpoints[2].admin = AdminState::Maintenance;
        let plan = plan_of(balance, 1.25, endpoints);
        assert_eq!(counts(&plan, 1, 50, |_| true), [0, 0, 0, 50], "{balance:?}");
        let none = plan_of(balance, 1.25, vec![endpoint("e:80".to_owned(), 0, false)]);
        assert_eq!(counts(&none, 1, 5, |_| true), [0]);
        assert_eq!(counts(&plan_of(balance, 1.25, vec![]), 1, 5, |_| true), [0; 0]);
    }
}

#[test]
fn equal_endpoints_get_equal_shares() {
    for balance in ALL.into_iter().filter(|balance| *balance != Balance::First) {
        let plan = plan(balance, &[(1, false); 5]);
        let counts = counts(&plan, 11, 10_000, |_| true);
        // A ring's shares differ by its points; the others by chance.
        let allowed = if plan.hash_key().is_some() {
            1400..2600
        } else {
            1880..2120
        };
        assert!(
            counts.iter().all(|c| allowed.contains(c)),
            "{balance:?}: {counts:?}"
        );
    }
}

#[test]
fn weights_are_shares_where_nothing_runs() {
    for balance in ALL
        .into_iter()
        .filter(|balance| !matches!(balance, Balance::First | Balance::LeastTime | Balance::Adaptive))
    {
        let plan = plan(balance, &[(6, false), (3, false), (1, false)]);
        let counts = counts(&plan, 5, 10_000, |_| true);
        let off = if plan.hash_key().is_some() { 900 } else { 200 };
        for (count, share) in counts.iter().zip([6000, 3000, 1000]) {
            assert!(count.abs_diff(share) < off, "{balance:?}: {counts:?}");
        }
    }
}

#[test]
fn the_same_place_gives_the_same_pick() {
    for balance in ALL {
        let plan = plan(balance, &[(1, false), (2, false), (3, false)]);
        let mut balancer = Balancer::new(&plan, 4);
        for key in 0..100 {
            let preview = balancer.clone().pick(&plan, ask(key), |_| true);
            assert_eq!(balancer.pick(&plan, ask(key), |_| true), preview, "{balance:?}");
        }
    }
}

proptest! {
    #[test]
    fn a_pick_is_open_and_usable_and_there_is_one_whenever_somebody_is(
        endpoints in prop::collection::vec((0u32..4, any::<bool>(), any::<bool>(), 0u32..5), 0..100),
        algorithm in 0..ALL.len(),
        bounded in any::<bool>(),
        seed: u64,
    ) {
        let plans = endpoints.iter().enumerate().map(|(i, (weight, backup, ..))| {
            endpoint(format!("h{i}:1"), *weight, *backup)
        });
        let plan = plan_of(ALL[algorithm], if bounded { 1.25 } else { 0.0 }, plans.collect());
        for (plan, (.., load)) in plan.endpoints.iter().zip(&endpoints) {
            (0..*load).for_each(|_| plan.state.request_started());
        }
        let usable = |index: usize| endpoints[index].2;
        let somebody = plan.endpoints.iter().enumerate().any(|(i, e)| e.is_open() && usable(i));
        let primary = plan.endpoints.iter().enumerate().any(|(i, e)| e.is_open() && usable(i) && !e.backup);
        let mut balancer = Balancer::new(&plan, seed);
        for key in 0..20 {
            let picked = balancer.pick(&plan, ask(key), usable);
            prop_assert_eq!(picked.is_some(), somebody);
            if let Some(index) = picked {
                prop_assert!(plan.endpoints[index].is_open() && usable(index));
                prop_assert!(!(primary && plan.endpoints[index].backup));
            }
        }
    }
}

// Turns.

#[test]
fn weights_five_one_one_never_burst() {
    let plan = plan(Balance::Weighted, &[(5, false), (1, false), (1, false)]);
    for seed in 0..100 {
        let order = picks(&plan, seed, 70);
        assert!(
            !order.contains("aaaa") && !order.contains("bc") && !order.contains("cb"),
            "{order}"
        );
        let round: String = order.chars().take(7).collect();
        assert_eq!(round.repeat(10), order);
    }
}

#[test]
fn equal_endpoints_take_turns_in_the_order_of_the_file() {
    let plan = plan(Balance::RoundRobin, &[(3, false); 4]);
    let order = picks(&plan, 9, 40);
    assert!("abcd".repeat(11).contains(&order), "{order}");
}

#[test]
fn workers_start_at_different_endpoints() {
    let plan = plan(Balance::RoundRobin, &[(1, false); 4]);
    let firsts: HashSet<_> = (0..64).map(|seed| picks(&plan, seed, 1)).collect();
    assert_eq!(firsts.len(), 4);
}

#[test]
fn who_could_not_be_picked_does_not_make_up_for_it_later() {
    let plan = plan(Balance::RoundRobin, &[(1, false), (2, false), (3, false)]);
    let mut balancer = Balancer::new(&plan, 2);
    for _ in 0..1000 {
        balancer.pick(&plan, ask(0), |index| index != 2);
    }
    let mut counts = [0; 3];
    for _ in 0..12 {
        counts[balancer.pick(&plan, ask(0), |_| true).unwrap()] += 1;
    }
    assert!(counts[2] <= 7 && counts[0] >= 1, "{counts:?}");
}

#[test]
fn the_share_of_who_is_out_goes_to_the_others_by_weight() {
    let plan = plan(Balance::RoundRobin, &[(1, false); 4]);
    assert_eq!(counts(&plan, 1, 300, |index| index != 1), [100, 0, 100, 100]);
}

proptest! {
    #[test]
    fn each_round_gives_every_endpoint_exactly_its_weight(weights in prop::collection::vec(0u32..8, 1..8), seed: u64) {
        let total: u32 = weights.iter().sum();
        let plan = plan(Balance::RoundRobin, &weights.iter().map(|&w| (w, false)).collect::<Vec<_>>());
        let counts = counts(&plan, seed, u64::from(total * 3), |_| true);
        prop_assert_eq!(counts, weights.iter().map(|w| w * 3).collect::<Vec<_>>());
    }

    #[test]
    fn no_endpoint_is_ever_more_than_a_turn_ahead_of_its_share(weights in prop::collection::vec(1u32..1_000_000, 1..6), seed: u64) {
        let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        let plan = plan(Balance::RoundRobin, &weights.iter().map(|&w| (w, false)).collect::<Vec<_>>());
        let mut balancer = Balancer::new(&plan, seed);
        let mut counts = vec![0f64; weights.len()];
        for picks in 1..=200 {
            counts[balancer.pick(&plan, ask(0), |_| true).unwrap()] += 1.0;
            for (count, weight) in counts.iter().zip(&weights) {
                let share = f64::from(picks) * f64::from(*weight) / total;
                // One turn of one's own, and one of each other that came early.
                prop_assert!((count - share).abs() < 1.0 + weights.len() as f64, "{counts:?} of {weights:?}");
            }
        }
    }
}

// Loads.

#[test]
fn least_connections_counts_requests_and_tunnels_per_weight() {
    let plan = plan(Balance::LeastConnections, &[(2, false), (1, false), (1, false)]);
    plan.endpoints[0].state.request_started();
    plan.endpoints[1].state.tunnel_opened();
    assert_eq!(
        counts(&plan, 1, 20, |i| i < 2),
        [20, 0, 0],
        "a half is less than one"
    );
    plan.endpoints[0].state.request_started();
    plan.endpoints[0].state.tunnel_opened();
    assert_eq!(counts(&plan, 1, 20, |i| i < 2), [0, 20, 0]);
    assert_eq!(counts(&plan, 1, 20, |_| true), [0, 0, 20]);
}

#[test]
fn what_stays_is_spread_by_weight() {
    for balance in [Balance::LeastConnections, Balance::RandomTwo] {
        let plan = plan(balance, &[(3, false), (1, false), (1, false)]);
        let mut balancer = Balancer::new(&plan, 8);
        for _ in 0..500 {
            let index = balancer.pick(&plan, ask(0), |_| true).unwrap();
            plan.endpoints[index].state.tunnel_opened();
        }
        let loads: Vec<u32> = plan.endpoints.iter().map(|e| e.state.load()).collect();
        assert!(
            loads[0].abs_diff(300) < 5 && loads[1].abs_diff(100) < 5,
            "{balance:?}: {loads:?}"
        );
    }
}

#[test]
fn among_a_thousand_the_load_is_even_though_few_are_looked_at() {
    for (balance, most) in [(Balance::LeastConnections, 11), (Balance::RandomTwo, 14)] {
        let endpoints = (0..1000).map(|i| endpoint(format!("e{i}:1"), 1, false)).collect();
        let plan = plan_of(balance, 0.0, endpoints);
        let mut balancer = Balancer::new(&plan, 8);
        for _ in 0..10_000 {
            let index = balancer.pick(&plan, ask(0), |_| true).unwrap();
            plan.endpoints[index].state.request_started();
        }
        let highest = plan.endpoints.iter().map(|e| e.state.load()).max().unwrap();
        assert!(highest <= most, "{balance:?}: {highest}");
    }
}

#[test]
fn random_two_takes_the_less_loaded_of_two() {
    let plan = plan(Balance::RandomTwo, &[(1, false); 4]);
    plan.endpoints[0].state.request_started();
    let counts = counts(&plan, 3, 3000, |_| true);
    assert_eq!(counts[0], 0, "whomever it is compared with is less loaded");
    assert!(counts[1..].iter().all(|c| (850..1150).contains(c)), "{counts:?}");
}

// Times.

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

// Keys.

fn homes(plan: &UpstreamPlan, keys: u64, usable: impl Fn(usize) -> bool) -> HashMap<u64, Arc<str>> {
    let mut balancer = Balancer::new(plan, 1);
    (0..keys)
        .filter_map(|key| {
            let index = balancer.pick(plan, ask(ring::hash(&key.to_le_bytes())), &usable)?;
            Some((key, plan.endpoints[index].state.key.address.clone()))
        })
        .collect()
}

fn hashed(addresses: impl IntoIterator<Item = (u32, u32)>) -> UpstreamPlan {
    let endpoints = addresses
        .into_iter()
        .map(|(i, weight)| endpoint(format!("10.0.{}.{}:80", i / 256, i % 256), weight, false))
        .collect();
    plan_of(Balance::Hash, 0.0, endpoints)
}

#[test]
fn a_key_stays_whoever_asks_and_in_whatever_order_the_file_is() {
    let forth = hashed((0..20).map(|i| (i, 1)));
    let back = hashed((0..20).rev().map(|i| (i, 1)));
    assert_eq!(homes(&forth, 2000, |_| true), homes(&back, 2000, |_| true));
}

#[test]
fn the_hash_is_the_same_for_ever() {
    // Other gateways, and other versions of this one, must agree.
    assert_eq!(ring::hash(b""), 0xe220_a839_7b1d_cdaf);
    assert_eq!(ring::hash(b"10.0.0.1:80"), ring::hash(&b"10.0.0.1:80"[..]));
    let all: HashSet<u64> = (0..100_000u32)
        .map(|n| ring::hash(&n.to_string().into_bytes()))
        .collect();
    assert_eq!(all.len(), 100_000);
}

#[test]
fn a_request_without_a_key_goes_anywhere() {
    let plan = hashed((0..4).map(|i| (i, 1)));
    let mut balancer = Balancer::new(&plan, 1);
    let nothing = Ask {
        now: Millis(1),
        key: None,
    };
    let picked: HashSet<_> = (0..100)
        .filter_map(|_| balancer.pick(&plan, nothing, |_| true))
        .collect();
    assert_eq!(picked.len(), 4);
}

#[test]
fn the_keys_of_a_lost_endpoint_are_spread_over_the_others() {
    let plan = hashed((0..10).map(|i| (i, 1)));
    let before = homes(&plan, 20_000, |_| true);
    let lost = &plan.endpoints[3].state.key.address;
    let after = homes(&plan, 20_000, |index| index != 3);
    let mut heirs: BTreeMap<&str, u32> = BTreeMap::new();
    for (key, home) in &before {
        if home == lost {
            *heirs.entry(&after[key]).or_default() += 1;
        } else {
            assert_eq!(home, &after[key], "the others' keys stay");
        }
    }
    let all: u32 = heirs.values().sum();
    assert_eq!(heirs.len(), 9);
    assert!(heirs.values().all(|n| *n < all / 3), "{heirs:?}");
}

#[test]
fn keys_still_stay_when_hardly_anybody_is_left() {
    let plan = hashed((0..1000).map(|i| (i, 1)));
    let few = |index: usize| index.is_multiple_of(250);
    let (first, again) = (homes(&plan, 500, few), homes(&plan, 500, few));
    assert_eq!(first, again);
    let used: HashSet<_> = first.values().collect();
    assert_eq!(used.len(), 4);
    let fewer = homes(&plan, 500, |index| few(index) && index != 0);
    let lost = &plan.endpoints[0].state.key.address;
    assert!(
        first
            .iter()
            .all(|(key, home)| home == lost || fewer[key] == *home)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn an_endpoint_that_comes_takes_its_share_of_keys_and_no_other_key_moves(count in 2u32..40, new in 100u32..10_000) {
        let before = homes(&hashed((0..count).map(|i| (i, 1))), 4000, |_| true);
        let plan = hashed((0..count).chain([new]).map(|i| (i, 1)));
        let after = homes(&plan, 4000, |_| true);
        let newcomer = &plan.endpoints[count as usize].state.key.address;
        let moved: Vec<_> = before.iter().filter(|(key, home)| after[key] != **home).collect();
        prop_assert!(moved.iter().all(|(key, _)| after[key] == *newcomer));
        let share = 4000.0 / f64::from(count + 1);
        prop_assert!((moved.len() as f64) < share * 1.6 && (moved.len() as f64) > share * 0.5, "{} of {share}", moved.len());
    }
}

#[test]
fn a_bounded_endpoint_never_has_more_than_its_bound() {
    for bound in [1.0, 1.25, 2.0] {
        let endpoints = (0..8)
            .map(|i| endpoint(format!("e{i}:1"), 1 + i % 2, false))
            .collect();
        let plan = plan_of(Balance::Hash, bound, endpoints);
        let mut balancer = Balancer::new(&plan, 1);
        let weight: f64 = plan.endpoints.iter().map(|e| f64::from(e.weight)).sum();
        for n in 1..=600 {
            // A hot key: half of all requests.
            let key = if n % 2 == 0 { 7 } else { n };
            let index = balancer.pick(&plan, ask(key), |_| true).unwrap();
            plan.endpoints[index].state.request_started();
            let most = (bound * n as f64 * f64::from(plan.endpoints[index].weight) / weight).ceil();
            assert!(
                f64::from(plan.endpoints[index].state.load()) <= most,
                "{bound} at {n}"
            );
        }
    }
}

#[test]
fn with_room_a_bound_changes_nothing() {
    let addresses = || {
        (0..6)
            .map(|i| endpoint(format!("e{i}:1"), 1, false))
            .collect::<Vec<_>>()
    };
    let (free, bounded) = (
        plan_of(Balance::Hash, 0.0, addresses()),
        plan_of(Balance::Hash, 1.25, addresses()),
    );
    assert_eq!(homes(&free, 500, |_| true), homes(&bounded, 500, |_| true));
}

#[test]
fn first_goes_down_the_file() {
    let plan = plan(Balance::First, &[(1, false), (5, false), (1, true)]);
    assert_eq!(counts(&plan, 1, 10, |_| true), [10, 0, 0]);
    assert_eq!(counts(&plan, 1, 10, |index| index != 0), [0, 10, 0]);
    assert_eq!(counts(&plan, 1, 10, |index| index == 2), [0, 0, 10]);
}
