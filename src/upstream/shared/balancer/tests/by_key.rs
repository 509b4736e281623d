//! Those that go by a key: who stays where, and with how much.

use super::*;
use std::collections::{BTreeMap, HashMap};

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
