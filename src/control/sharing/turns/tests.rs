use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const INTERVAL: Duration = Duration::from_secs(1);
const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// What one gateway sees when all is well.
fn seen<'a>(
    own: &'a str,
    members: &'a [&'a str],
    passed: Millis,
    says: &'a dyn Fn(&str) -> Option<Millis>,
) -> Seen<'a> {
    Seen {
        endpoint: 7,
        own,
        members,
        interval: INTERVAL,
        connected: true,
        well: true,
        passed,
        doubted: false,
        says,
    }
}

/// One of three whose turn it is not, and the two whose it is.
fn resting() -> (&'static str, Vec<&'static str>) {
    let members = &NAMES[..3];
    let chosen = probers(members, "a", 7);
    let own = members.iter().copied().find(|name| !chosen.contains(name));
    (own.unwrap(), chosen)
}

/// A gateway that has come to rest at this moment.
fn rested() -> (Turns, Millis) {
    let (own, _) = resting();
    let mut turns = Turns::default();
    let says = |_: &str| Some(Millis(1_500));
    assert_eq!(
        turns.look(Millis(1_000), &seen(own, &NAMES[..3], Millis(900), &says)),
        Turn::Settling
    );
    let now = Millis(3_000);
    let turn = turns.look(now, &seen(own, &NAMES[..3], Millis(1_200), &says));
    assert_eq!(turn, Turn::Rest(now.plus(REST)));
    (turns, now)
}

#[test]
fn it_rests_when_all_was_quiet_and_both_say_that_it_is_well() {
    let (own, chosen) = resting();
    let members = &NAMES[..3];
    let mut turns = Turns::default();
    let mut look = |now: u64, passed: u64, heard: [Option<u64>; 2]| {
        let says = |node: &str| {
            let place = chosen.iter().position(|name| *name == node).unwrap();
            heard[place].map(Millis)
        };
        turns.look(Millis(now), &seen(own, members, Millis(passed), &says))
    };
    let both = [Some(1_500), Some(1_500)];
    assert_eq!(look(1_000, 900, both), Turn::Settling);
    assert_eq!(look(2_000, 1_500, both), Turn::Settling, "not for long enough");
    assert_eq!(
        look(3_100, 1_000, both),
        Turn::Settling,
        "it has not looked since"
    );
    assert_eq!(look(3_100, 1_500, [Some(1_500), None]), Turn::Unheard);
    assert_eq!(
        look(3_100, 1_500, [Some(900), Some(1_500)]),
        Turn::Unheard,
        "said before the change"
    );
    assert!(matches!(look(3_100, 1_500, both), Turn::Rest(_)));
    // What they said becomes old.
    assert_eq!(look(6_200, 1_500, both), Turn::Rest(Millis(6_500)));
    assert_eq!(look(6_500, 1_500, both), Turn::Unheard);
    assert_eq!(
        look(6_600, 6_550, [Some(6_600), Some(6_600)]),
        Turn::Settling,
        "it goes on for a while"
    );
}

#[test]
fn whatever_happens_ends_the_rest_at_once_and_for_a_while() {
    type Change = fn(&mut Seen<'_>);
    let changes: [(Change, Turn); 4] = [
        (|seen| seen.connected = false, Turn::Apart),
        (|seen| seen.well = false, Turn::Unwell),
        (|seen| seen.doubted = true, Turn::Doubted),
        (|seen| seen.members = &NAMES[..4], Turn::Settling),
    ];
    let (own, _) = resting();
    for (change, expected) in changes {
        let (mut turns, at) = rested();
        let fresh = |_: &str| Some(Millis(2_900));
        let mut other = seen(own, &NAMES[..3], Millis(2_900), &fresh);
        change(&mut other);
        let turn = turns.look(at, &other);
        if expected == Turn::Settling {
            // With one more it may be its own turn.
            assert!(matches!(turn, Turn::Settling | Turn::Own), "{turn:?}");
        } else {
            assert_eq!(turn, expected);
        }
        let after = turns.look(at.plus(QUIET / 2), &seen(own, &NAMES[..3], at, &fresh));
        assert_eq!(after, Turn::Settling);
    }
}

#[test]
fn one_or_two_gateways_all_probe() {
    for n in 1..=PROBERS {
        for own in &NAMES[..n] {
            let says = |_: &str| Some(Millis(9_000));
            let mut turns = Turns::default();
            for now in [1_000, 5_000, 9_000] {
                let turn = turns.look(Millis(now), &seen(own, &NAMES[..n], Millis(now), &says));
                assert_eq!(turn, Turn::Own);
            }
        }
    }
}

#[test]
fn endpoints_are_spread_over_the_gateways() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for endpoint in 0..1_000 {
        for prober in probers(&NAMES[..5], "a", hash(&u64::to_be_bytes(endpoint))) {
            *counts.entry(prober).or_default() += 1;
        }
    }
    assert_eq!(counts.len(), 5);
    assert!(counts.values().all(|n| (300..500).contains(n)), "{counts:?}");
}

/// Which members each of some gateways sees; itself always.
fn views() -> impl Strategy<Value = Vec<BTreeSet<usize>>> {
    (1..NAMES.len()).prop_flat_map(|n| {
        let one = proptest::collection::btree_set(0..n, 0..=n);
        proptest::collection::vec(one, n).prop_map(|mut views| {
            for (own, view) in views.iter_mut().enumerate() {
                view.insert(own);
            }
            views
        })
    })
}

fn members(view: &BTreeSet<usize>) -> Vec<&'static str> {
    view.iter().map(|of| NAMES[*of]).collect()
}

proptest! {
    /// Whatever each of them sees and hears, somebody probes.
    #[test]
    fn in_every_view_and_in_all_together_somebody_probes(
        views in views(), endpoint: u64, said in 0..20_000u64, looks in proptest::collection::vec(0..20_000u64, 1..6),
    ) {
        let mut looks = looks;
        looks.sort_unstable();
        let says = |_: &str| Some(Millis(said));
        let mut turns: Vec<Turns> = views.iter().map(|_| Turns::default()).collect();
        for now in looks {
            let now = Millis(now + 1);
            let mut probing = 0;
            for (own, view) in views.iter().enumerate() {
                let members = members(view);
                let chosen = probers(&members, NAMES[own], endpoint);
                prop_assert_eq!(chosen.len(), members.len().min(PROBERS));
                let seen = Seen { endpoint, ..seen(NAMES[own], &members, now, &says) };
                probing += usize::from(!matches!(turns[own].look(now, &seen), Turn::Rest(_)));
            }
            prop_assert!(probing > 0);
        }
    }

    /// Where all see the same, exactly so many go on, and all the others rest in the end.
    #[test]
    fn who_sees_the_same_chooses_the_same(n in 1..NAMES.len(), endpoint: u64) {
        let members = &NAMES[..n];
        let mut probing = 0;
        for own in members {
            let mut turns = Turns::default();
            let mut last = Turn::Settling;
            for second in 1..8u64 {
                let now = Millis(second * 1_000);
                let says = |_: &str| Some(now);
                last = turns.look(now, &Seen { endpoint, ..seen(own, members, now, &says) });
            }
            probing += usize::from(last == Turn::Own);
            prop_assert!(matches!(last, Turn::Own | Turn::Rest(_)), "{last:?}");
        }
        prop_assert_eq!(probing, n.min(PROBERS));
    }

    /// Nobody rests on what was said long ago, and no rest is longer than it may be.
    #[test]
    fn silence_ends_every_rest(said in 1..5_000u64, interval in 1..5_000u64, now in 1..40_000u64, disturbed in 0..5_000u64) {
        let (own, _) = resting();
        let interval = Duration::from_millis(interval);
        let says = |_: &str| Some(Millis(said));
        let mut turns = Turns::default();
        turns.look(Millis(disturbed), &Seen { interval, ..seen(own, &NAMES[..3], Millis(disturbed), &says) });
        let now = Millis(disturbed + now);
        let turn = turns.look(now, &Seen { interval, ..seen(own, &NAMES[..3], now, &says) });
        if let Turn::Rest(until) = turn {
            prop_assert!(until > now && until <= now.plus(REST));
            prop_assert!(until <= Millis(said).plus(interval * FRESH_INTERVALS + WAY));
            prop_assert!(said > disturbed);
        }
    }

    /// One gateway more or less changes the choice only where it is, or was, chosen itself.
    #[test]
    fn others_keep_their_endpoints_when_one_comes_or_goes(n in 2..NAMES.len(), endpoint: u64) {
        let before = probers(&NAMES[..n - 1], "a", endpoint);
        let after = probers(&NAMES[..n], "a", endpoint);
        let stayed = before.iter().filter(|name| after.contains(name)).count();
        prop_assert!(stayed + 1 >= before.len());
        if !after.contains(&NAMES[n - 1]) {
            prop_assert_eq!(before, after);
        }
    }
}
