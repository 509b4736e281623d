use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

const HEARTBEAT: Duration = Duration::from_secs(1);
const GONE: Duration = Duration::from_secs(3);

fn membership() -> Membership {
    Membership::new(&NodeId::new("own").unwrap(), 1, HEARTBEAT, GONE)
}

fn seen(node: &str, incarnation: u64, beat: u64, age_ms: u64) -> Seen {
    Seen {
        node: NodeId::known_as(node).unwrap(),
        incarnation,
        beat,
        age: Duration::from_millis(age_ms),
        left: false,
        record: Record::default().encode(),
    }
}

fn names(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .map(|change| match change {
            Change::Joined(member) => format!("+{}", member.node),
            Change::Left(member) => format!("-{}", member.node),
            Change::Gone(member) => format!("x{}", member.node),
            Change::Suspected(member) => format!("?{}", member.node),
            Change::Recovered(member) => format!("!{}", member.node),
        })
        .collect()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_node_joins_once_and_is_gone_once_after_its_time() {
    let (mut members, t) = (membership(), Instant::now());
    assert_eq!(
        names(&members.hear(t, &[seen("own", 1, 1, 0), seen("b", 5, 1, 400)])),
        ["+b"]
    );
    assert!(members.hear(t + ms(1000), &[seen("b", 5, 2, 400)]).is_empty());
    // Its last beat was at 600 ms.
    for at in [1500, 2000, 2500] {
        assert!(members.hear(t + ms(at), &[seen("b", 5, 2, at - 600)]).is_empty());
        assert!(members.lapse(t + ms(at)).is_empty());
    }
    assert_eq!(members.next(), Some(t + ms(2600)));
    assert_eq!(names(&members.lapse(t + ms(2600))), ["?b"]);
    assert!(members.lapse(t + ms(2700)).is_empty());
    members.hear(t + ms(3000), &[seen("b", 5, 2, 2400)]);
    assert_eq!(members.next(), Some(t + ms(3600)));
    assert_eq!(names(&members.lapse(t + ms(3600))), ["xb"]);
    // Its record is there for a while.
    assert!(members.hear(t + ms(4000), &[seen("b", 5, 2, 3400)]).is_empty());
    assert!(members.lapse(t + ms(5000)).is_empty());
    assert!(members.members().is_empty());
}

#[test]
fn a_late_beat_is_suspicious_and_then_forgiven() {
    let (mut members, t) = (membership(), Instant::now());
    members.hear(t, &[seen("b", 5, 1, 0)]);
    members.hear(t + ms(1000), &[seen("b", 5, 1, 1000)]);
    members.hear(t + ms(1900), &[seen("b", 5, 1, 1900)]);
    assert_eq!(names(&members.lapse(t + ms(2000))), ["?b"]);
    assert_eq!(
        names(&members.hear(t + ms(2500), &[seen("b", 5, 2, 100)])),
        ["!b"]
    );
    assert!(members.lapse(t + ms(2600)).is_empty());
}

#[test]
fn one_that_says_so_has_left_and_its_record_does_not_bring_it_back() {
    let (mut members, t) = (membership(), Instant::now());
    members.hear(t, &[seen("b", 5, 1, 0), seen("c", 6, 1, 0)]);
    let b = NodeId::new("b").unwrap();
    assert_eq!(members.leave(&b, 4), None);
    assert_eq!(
        names(&members.leave(&b, 5).into_iter().collect::<Vec<_>>()),
        ["-b"]
    );
    assert_eq!(members.leave(&b, 5), None);
    assert!(members.hear(t + ms(100), &[seen("b", 5, 1, 100)]).is_empty());
    let mut left = seen("c", 6, 2, 0);
    left.left = true;
    assert_eq!(
        names(&members.hear(t + ms(200), std::slice::from_ref(&left))),
        ["-c"]
    );
    assert!(members.hear(t + ms(300), &[left]).is_empty());
    // It comes back as another.
    assert_eq!(names(&members.hear(t + ms(400), &[seen("c", 7, 1, 0)])), ["+c"]);
}

#[test]
fn another_incarnation_is_another_node() {
    let (mut members, t) = (membership(), Instant::now());
    members.hear(t, &[seen("b", 5, 9, 0)]);
    assert_eq!(
        names(&members.hear(t + ms(500), &[seen("b", 6, 1, 0)])),
        ["xb", "+b"]
    );
    assert_eq!(
        names(&members.hear(t + ms(600), &[seen("b", 6, 1, 0), seen("b~x", 7, 1, 0)])),
        ["+b~x"]
    );
    // Of our own id too.
    assert_eq!(
        names(&members.hear(t + ms(700), &[seen("own", 2, 1, 0)])),
        ["+own"]
    );
}

#[test]
fn records_of_the_dead_are_no_members() {
    let (mut members, t) = (membership(), Instant::now());
    assert!(members.hear(t, &[seen("dead", 5, 9, 3100)]).is_empty());
    assert!(members.hear(t + ms(500), &[seen("dead", 5, 9, 3600)]).is_empty());
    // One whose age the store's clock got wrong shows that it lives with its next beat.
    assert_eq!(
        names(&members.hear(t + ms(1000), &[seen("dead", 5, 10, 3_600_000)])),
        ["+dead"]
    );
}

#[test]
fn a_store_with_another_clock_makes_nobody_come_or_go() {
    let (mut members, t) = (membership(), Instant::now());
    members.hear(t, &[seen("b", 5, 1, 0)]);
    for n in 1..60_u64 {
        let age = [0, 10_000, 3_600_000, 500][usize::try_from(n % 4).unwrap()];
        let at = t + ms(1000 * n);
        assert!(members.hear(at, &[seen("b", 5, n + 1, age)]).is_empty(), "{n}");
        assert!(members.lapse(at + ms(900)).is_empty(), "{n}");
    }
}

#[test]
fn who_is_cut_off_judges_nobody_and_gives_others_time_to_come_back() {
    let (mut members, t) = (membership(), Instant::now());
    members.hear(t, &[seen("b", 5, 1, 0), seen("c", 5, 1, 0)]);
    // Nothing heard for a minute.
    assert!(members.lapse(t + ms(60_000)).is_empty());
    assert!(!members.fresh(t + ms(60_000)));
    // The store is back; the others are not yet.
    let at = t + ms(60_000);
    assert!(members.hear(at, &[]).is_empty());
    assert!(members.lapse(at + ms(100)).is_empty());
    for n in 1..5 {
        members.hear(at + ms(n * 1000), &[seen("b", 5, 1 + n, 0)]);
    }
    let mut changes = Vec::new();
    for n in 5..8 {
        members.hear(at + ms(n * 1000), &[seen("b", 5, 1 + n, 0)]);
        changes.extend(members.lapse(at + ms(n * 1000)));
    }
    assert_eq!(names(&changes), ["xc"]);
}

#[test]
fn a_short_interruption_gives_others_their_time_too() {
    let (mut members, t) = (membership(), Instant::now());
    members.hear(t, &[seen("b", 5, 1, 900)]);
    members.interrupt();
    // Back at once; the other one takes as long as it may.
    members.hear(t + ms(1400), &[seen("b", 5, 1, 2300)]);
    for at in [2400, 3400, 4400, 5400] {
        assert!(members.hear(t + ms(at), &[seen("b", 5, 1, at + 900)]).is_empty());
        assert!(members.lapse(t + ms(at - 100)).is_empty(), "{at}");
    }
    assert!(members.hear(t + ms(5400), &[seen("b", 5, 2, 0)]).is_empty());
    assert!(members.lapse(t + ms(6400)).is_empty());
}

proptest! {
    /// Whatever the store says: each node joins before it goes, and goes before it joins again.
    #[test]
    fn joins_and_ends_alternate(
        steps in proptest::collection::vec(
            (0_u8..4, 0_usize..3, 1_u64..4, 0_u64..6, 0_u64..5000, 0_u64..2500), 1..200),
    ) {
        let (mut members, mut now) = (membership(), Instant::now());
        let mut there: HashMap<NodeId, u64> = HashMap::new();
        for (what, node, incarnation, beat, age, passed) in steps {
            now += ms(passed);
            let node = ["b", "c", "own"][node];
            let changes = match what {
                0 | 1 => {
                    let mut seen = seen(node, incarnation, beat, age);
                    seen.left = what == 1 && age > 4000;
                    members.hear(now, &[seen])
                }
                2 => members.lapse(now),
                _ => members.leave(&NodeId::new(node).unwrap(), incarnation).into_iter().collect(),
            };
            for change in changes {
                match change {
                    Change::Joined(member) => {
                        prop_assert!(there.insert(member.node, member.incarnation).is_none());
                    }
                    Change::Left(member) | Change::Gone(member) => {
                        prop_assert_eq!(there.remove(&member.node), Some(member.incarnation));
                    }
                    Change::Suspected(member) | Change::Recovered(member) => {
                        prop_assert!(there.contains_key(&member.node));
                    }
                }
            }
            prop_assert_eq!(there.len(), members.members().len());
        }
    }
}
