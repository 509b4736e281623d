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
fn who_had_our_id_is_off_the_list_once_it_is_ours() {
    for (silent_ms, told) in [(1000, "-own"), (2000, "xown")] {
        let (mut members, t) = (membership(), Instant::now());
        let second = seen("own~abc", 1, 1, 0);
        let before = [seen("own", 9, 4, 0), second];
        assert_eq!(names(&members.hear(t, &before)), ["+own"]);
        for at in (1000..silent_ms).step_by(1000) {
            assert!(members.hear(t + ms(at), &before).is_empty());
        }
        let at = t + ms(silent_ms);
        assert_eq!(names(&members.hear(at, &[seen("own", 1, 2, 0)])), [told]);
        assert!(members.members().is_empty());
        assert!(members.lapse(at + GONE).is_empty());
    }
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

#[test]
fn a_store_that_was_just_lost_makes_nobody_late() {
    let (mut members, t) = (membership(), Instant::now());
    members.hear(t, &[seen("b", 5, 1, 900)]);
    members.interrupt();
    // Its next beat would have come, had there been where to.
    assert!(members.lapse(t + ms(1200)).is_empty());
    assert!(members.lapse(t + ms(2500)).is_empty());
    assert!(members.hear(t + ms(3000), &[seen("b", 5, 2, 500)]).is_empty());
    assert!(members.lapse(t + ms(3000)).is_empty());
    assert_eq!(names(&members.lapse(t + ms(4500))), ["?b"]);
}

/// When the one other member is found gone, looked at every second and whenever something may lapse, and told `seen`.
fn gone_at(members: &mut Membership, from: Instant, start: u64, last: &Seen) -> u64 {
    (start..start + 10_000)
        .find(|&at| {
            let now = from + ms(at);
            if (at - start).is_multiple_of(1000) {
                let mut seen = last.clone();
                seen.age += ms(at - start);
                members.hear(now, &[seen]);
            }
            let changes = members.lapse(now);
            names(&changes).contains(&format!("x{}", last.node))
        })
        .expect("it is gone")
}

#[test]
fn a_store_that_was_not_there_at_the_start_makes_nobody_look_younger() {
    let (mut members, t) = (membership(), Instant::now());
    // The first beat goes out before there is a connection.
    members.interrupt();
    members.hear(t + ms(100), &[seen("b", 5, 1, 50)]);
    // It dies 10 ms after its second beat, which was 900 ms ago when it is looked at.
    assert_eq!(gone_at(&mut members, t, 1100, &seen("b", 5, 2, 900)), 3200);
}

#[test]
fn a_beat_after_an_interruption_is_as_old_as_it_is() {
    let (mut members, t) = (membership(), Instant::now());
    members.hear(t, &[seen("b", 5, 1, 0)]);
    members.interrupt();
    assert!(members.hear(t + ms(800), &[seen("b", 5, 1, 800)]).is_empty());
    // Its next beat came at 1000, and it died.
    assert_eq!(gone_at(&mut members, t, 1800, &seen("b", 5, 2, 800)), 4000);
}

#[test]
fn a_beat_of_before_another_master_took_over_is_not_as_old_as_its_clock_says() {
    let (mut members, t) = (membership(), Instant::now());
    members.hear(t, &[seen("b", 5, 1, 0)]);
    // Nothing was heard for five seconds, and the new master's clock is ten seconds ahead.
    let at = t + ms(5000);
    assert!(members.hear(at, &[seen("b", 5, 2, 10_000)]).is_empty());
    assert!(members.lapse(at).is_empty());
    assert!(members.hear(at + ms(1000), &[seen("b", 5, 3, 100)]).is_empty());
    assert!(members.lapse(at + ms(1000)).is_empty());
}

fn id(node: &str) -> NodeId {
    NodeId::known_as(node).unwrap()
}

/// Two others, heard at `t`, and after that the store is not.
fn deaf() -> (Membership, Instant) {
    let (mut members, t) = (membership(), Instant::now());
    members.hear(t, &[seen("b", 5, 1, 0), seen("c", 6, 1, 0)]);
    (members, t)
}

fn answers(members: &mut Membership, at: Instant, node: &str, incarnation: u64) -> Vec<String> {
    let change = members.answered(at, &id(node), incarnation, Record::default());
    names(&change.into_iter().collect::<Vec<_>>())
}

#[test]
fn while_the_store_is_away_answers_tell_who_lives() {
    let (mut members, t) = deaf();
    for second in 1..=2 {
        assert!(answers(&mut members, t + ms(second * 1000), "b", 5).is_empty());
        assert!(answers(&mut members, t + ms(second * 1000), "c", 6).is_empty());
    }
    assert!(!members.fresh(t + ms(2000)));
    // From here on one of them says nothing.
    let mut changes = Vec::new();
    for second in 3..=6 {
        let at = t + ms(second * 1000);
        answers(&mut members, at, "b", 5);
        members.missed(&id("c"), 6, false);
        changes.extend(names(&members.lapse(at)));
    }
    assert_eq!(changes, ["?c", "xc"]);
    let b = &members.members()[&id("b")];
    assert!(b.is_known_directly());
    assert_eq!(b.silent(t + ms(6500)), ms(500));
    // It was slow, and answers yet: it is asked as long as the store is away.
    members.missed(&id("c"), 6, false);
    assert_eq!(answers(&mut members, t + ms(7000), "c", 6), ["+c"]);
    assert!(members.lapse(t + ms(7000)).is_empty());
    // The store is back, with all that it had.
    let all = [seen("b", 5, 1, 8000), seen("c", 6, 1, 8000)];
    assert!(members.hear(t + ms(8000), &all).is_empty());
    let all = [seen("b", 5, 2, 0), seen("c", 6, 2, 0)];
    assert!(members.hear(t + ms(9000), &all).is_empty());
    assert!(members.lapse(t + ms(9000)).is_empty());
}

#[test]
fn one_that_died_meanwhile_does_not_come_back_with_the_store() {
    let (mut members, t) = deaf();
    answers(&mut members, t + ms(1000), "b", 5);
    answers(&mut members, t + ms(1000), "c", 6);
    let mut changes = Vec::new();
    for second in 2..=5 {
        let at = t + ms(second * 1000);
        answers(&mut members, at, "b", 5);
        members.missed(&id("c"), 6, true);
        changes.extend(names(&members.lapse(at)));
    }
    assert_eq!(changes, ["?c", "xc"]);
    let all = [seen("b", 5, 2, 0), seen("c", 6, 1, 6000)];
    assert!(members.hear(t + ms(6000), &all).is_empty());
    // What is heard of it now says nothing: only the store does.
    assert!(answers(&mut members, t + ms(6100), "c", 6).is_empty());
    assert_eq!(members.members().len(), 1);
    assert_eq!(names(&members.hear(t + ms(7000), &[seen("c", 6, 2, 0)])), ["+c"]);
}

#[test]
fn who_hears_nobody_takes_only_those_for_gone_whose_hosts_say_so() {
    let (mut members, t) = deaf();
    answers(&mut members, t + ms(1000), "b", 5);
    answers(&mut members, t + ms(1000), "c", 6);
    for second in 2..=60 {
        members.missed(&id("b"), 5, false);
        members.missed(&id("c"), 6, false);
        assert!(members.lapse(t + ms(second * 1000)).is_empty(), "{second}");
    }
    members.missed(&id("b"), 5, true);
    assert_eq!(names(&members.lapse(t + ms(61_000))), ["xb"]);
    assert_eq!(members.members().len(), 1);
}

#[test]
fn one_lost_question_and_one_that_never_answered_say_nothing() {
    let (mut members, t) = deaf();
    answers(&mut members, t + ms(1000), "b", 5);
    // We slept, and what was under way came to nothing.
    members.missed(&id("b"), 5, true);
    members.missed(&id("c"), 6, true);
    members.missed(&id("c"), 6, true);
    assert!(members.lapse(t + ms(60_000)).is_empty());
    // Nor does another incarnation's silence.
    members.missed(&id("b"), 4, true);
    assert!(members.lapse(t + ms(60_000)).is_empty());
    assert!(answers(&mut members, t + ms(60_000), "b", 4).is_empty());
    members.missed(&id("b"), 5, true);
    assert_eq!(names(&members.lapse(t + ms(60_000))), ["xb"]);
}

#[test]
fn while_the_store_is_heard_it_alone_decides() {
    let (mut members, t) = deaf();
    for second in 1..=2 {
        let at = t + ms(second * 1000);
        members.hear(at, &[seen("b", 5, 1 + second, 0), seen("c", 6, 1, second * 1000)]);
        assert!(answers(&mut members, at, "c", 6).is_empty());
        members.missed(&id("b"), 5, true);
        members.missed(&id("b"), 5, true);
    }
    // It answers us and has not written: others may not reach it.
    let at = t + ms(3000);
    members.hear(at, &[seen("b", 5, 4, 0), seen("c", 6, 1, 3000)]);
    answers(&mut members, at, "c", 6);
    assert_eq!(names(&members.lapse(at)), ["xc"]);
    assert!(members.members().contains_key(&id("b")));
}

#[test]
fn a_bounded_number_is_asked_and_together_they_ask_everybody() {
    let mut members = membership();
    let at_port = |n: u64| Record {
        ping: format!("192.0.2.1:{}", 9000 + n),
        ..Record::default()
    };
    let all: Vec<Seen> = (0..40)
        .map(|n| Seen {
            record: at_port(n).encode(),
            ..seen(&format!("n{n:02}"), n, 1, 0)
        })
        .chain([seen("mute", 99, 1, 0)])
        .collect();
    members.hear(Instant::now(), &all);
    let asked = members.peers();
    assert_eq!(asked.len(), MOST_ASKED);
    // "own" comes after all of them: it begins where they do.
    assert_eq!(asked[0].node, id("n00"));
    assert_eq!(asked[0].address, "192.0.2.1:9000".parse().unwrap());
    assert!(asked.iter().all(|peer| peer.node != id("mute")));
}

proptest! {
    /// Whatever the store says: each node joins before it goes, and goes before it joins again.
    #[test]
    fn joins_and_ends_alternate(
        steps in proptest::collection::vec(
            (0_u8..6, 0_usize..3, 1_u64..4, 0_u64..6, 0_u64..5000, 0_u64..2500), 1..200),
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
                4 => {
                    members.answered(now, &id(node), incarnation, Record::default()).into_iter().collect()
                }
                5 => {
                    members.missed(&id(node), incarnation, age > 2500);
                    Vec::new()
                }
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

    /// The same of one whose beats come late or never, and who answers, or does not, while the store is heard or away.
    #[test]
    fn answers_make_nobody_join_or_go_twice(
        steps in proptest::collection::vec((0_u8..8, 0_u64..1500, any::<bool>()), 1..120),
    ) {
        let (mut members, mut now) = deaf();
        let (mut there, mut beat) = (true, 1);
        let b = id("b");
        for (what, passed, yes) in steps {
            now += ms(passed);
            let changes = match what {
                0 => {
                    beat += u64::from(yes);
                    members.hear(now, &[seen("b", 5, beat, 0)])
                }
                1 | 2 => members.answered(now, &b, 5, Record::default()).into_iter().collect(),
                3..=5 => {
                    members.missed(&b, 5, yes);
                    members.lapse(now)
                }
                _ => members.lapse(now),
            };
            for change in changes {
                match change {
                    Change::Joined(member) if member.node == b => {
                        prop_assert!(!there);
                        there = true;
                    }
                    Change::Gone(member) if member.node == b => {
                        prop_assert!(there);
                        there = false;
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(there, members.members().contains_key(&b));
        }
    }
}
