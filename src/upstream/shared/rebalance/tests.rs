//! Rounds against a model of endpoints, tunnels and clients that come back, or do not.

use super::*;
use proptest::prelude::*;

const LOOK: Duration = Duration::from_millis(100);
const NONE: Duration = Duration::ZERO;

fn rules(rate: u32, threshold: f64) -> Rebalance {
    Rebalance { rate, threshold }
}

/// Where clients go that were asked.
#[derive(Clone, Copy, Debug)]
enum Clients {
    /// To the least loaded, after so many looks.
    ComeBack(usize),
    /// To any, by weight, after so many looks.
    ComeBackAnywhere(usize),
    StayAway,
}

/// Endpoints with tunnels, each known by when it was opened.
#[derive(Debug)]
struct Model {
    now: Millis,
    watch: Watch,
    weights: Vec<u32>,
    tunnels: Vec<Vec<Millis>>,
    asked: Vec<u32>,
    /// To be asked, and nobody there may be.
    due: Vec<u32>,
    /// Clients on their way back, by the look that they come with.
    away: Vec<usize>,
    clients: Clients,
    looks: usize,
    random: fastrand::Rng,
}

impl Model {
    fn new(weights: &[u32], tunnels: &[u32], clients: Clients, seed: u64) -> Self {
        let opened = |count: &u32| (0..*count).map(|n| Millis(1 + u64::from(n))).collect();
        Self {
            now: Millis(100_000),
            watch: Watch::default(),
            weights: weights.to_vec(),
            tunnels: tunnels.iter().map(opened).collect(),
            asked: vec![0; weights.len()],
            due: vec![0; weights.len()],
            away: Vec::new(),
            clients,
            looks: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn join(&mut self, weight: u32) {
        self.weights.push(weight);
        self.tunnels.push(Vec::new());
        self.asked.push(0);
        self.due.push(0);
    }

    fn counts(&self) -> Vec<u32> {
        self.tunnels.iter().map(|opened| opened.len() as u32).collect()
    }

    fn next_home(&mut self) -> usize {
        match self.clients {
            Clients::ComeBackAnywhere(_) => {
                let mut at = self.random.u32(0..self.weights.iter().sum());
                let mut index = 0;
                while at >= self.weights[index] {
                    at -= self.weights[index];
                    index += 1;
                }
                index
            }
            Clients::ComeBack(_) | Clients::StayAway => (0..self.weights.len())
                .min_by(|a, b| {
                    let load = |i: usize| self.tunnels[i].len() as f64 / f64::from(self.weights[i]);
                    load(*a).total_cmp(&load(*b))
                })
                .unwrap(),
        }
    }

    fn look(&mut self, rules: Rebalance) -> Option<Change> {
        self.now = self.now.plus(LOOK);
        self.looks += 1;
        let looks = self.looks;
        let back = self.away.iter().filter(|at| **at <= looks).count();
        self.away.retain(|at| *at > looks);
        for _ in 0..back {
            let home = self.next_home();
            self.tunnels[home].push(self.now);
        }
        let mut members: Vec<Member> = (0..self.weights.len())
            .map(|index| Member {
                address: format!("e{index}").into(),
                weight: self.weights[index],
                tunnels: self.tunnels[index].len() as u32,
                due: self.due[index],
            })
            .collect();
        let change = self.watch.look(self.now, rules, NONE, &mut members);
        let Some(before) = self.watch.round.as_ref().map(|round| round.began) else {
            self.due.fill(0);
            return change;
        };
        for (index, member) in members.iter().enumerate() {
            self.due[index] = 0;
            for _ in 0..member.due {
                // The newest that may be asked.
                let newest = self.tunnels[index].iter().rposition(|opened| *opened < before);
                let Some(newest) = newest else {
                    self.due[index] += 1;
                    continue;
                };
                self.tunnels[index].remove(newest);
                self.asked[index] += 1;
                match self.clients {
                    Clients::ComeBack(after) | Clients::ComeBackAnywhere(after) => {
                        self.away.push(self.looks + after);
                    }
                    Clients::StayAway => {}
                }
            }
        }
        change
    }

    fn run(&mut self, rules: Rebalance, looks: usize) {
        for _ in 0..looks {
            self.look(rules);
        }
    }

    /// How far the fullest is above its fair share, as a part of it.
    fn spread(&self) -> f64 {
        let total: f64 = self.counts().iter().map(|count| f64::from(*count)).sum();
        let weights: f64 = self.weights.iter().map(|weight| f64::from(*weight)).sum();
        let above = |(count, weight): (u32, &u32)| {
            let fair = total * f64::from(*weight) / weights;
            (f64::from(count) - 1.0) / fair.max(1.0) - 1.0
        };
        let all = self.counts().into_iter().zip(&self.weights).map(above);
        all.fold(f64::MIN, f64::max)
    }
}

#[test]
fn those_that_are_there_from_the_start_are_left_alone_however_uneven() {
    let mut model = Model::new(&[1, 1], &[100, 0], Clients::ComeBack(1), 1);
    model.run(rules(100, 0.1), 300);
    assert_eq!(model.counts(), [100, 0]);
}

#[test]
fn a_new_endpoint_gets_its_share_at_the_rate_and_no_more_than_the_threshold_asks() {
    let mut model = Model::new(&[1], &[100], Clients::ComeBack(3), 1);
    let rules = rules(10, 0.2);
    model.look(rules);
    model.join(1);
    assert_eq!(model.look(rules), Some(Change::Began));
    // A second.
    model.run(rules, 10);
    assert!((9..=11).contains(&model.asked[0]), "{:?}", model.asked);
    model.run(rules, 200);
    assert_eq!((model.counts(), model.asked.clone()), (vec![60, 40], vec![40, 0]));
    assert!(model.watch.round.is_none(), "it is over");
}

#[test]
fn clients_that_stay_away_make_nobody_else_go() {
    let mut model = Model::new(&[1], &[100], Clients::StayAway, 1);
    let rules = rules(50, 0.2);
    model.look(rules);
    model.join(1);
    model.run(rules, 400);
    assert_eq!(model.counts(), [60, 0]);
}

#[test]
fn where_nobody_may_be_asked_a_round_ends_by_itself_and_says_so() {
    let mut watch = Watch::default();
    let mut due = 0;
    let mut ends = Vec::new();
    for tenths in 0..300_u64 {
        let member = |address: &str, tunnels, due| Member {
            address: address.into(),
            weight: 1,
            tunnels,
            due,
        };
        let mut members = vec![member("a", 100, due)];
        if tenths > 0 {
            members.push(member("b", 0, 0));
        }
        let now = Millis(1000 + tenths * 100);
        if let Some(change) = watch.look(now, rules(10, 0.2), NONE, &mut members) {
            ends.push(change);
        }
        // They are all held by a session, say: nobody takes what is due.
        due = members[0].due;
        assert!(due <= 5, "{due}");
    }
    assert_eq!(ends, [Change::Began, Change::Ended { left: 40 }]);
}

#[test]
fn a_slow_start_is_waited_for_and_one_that_leaves_meanwhile_is_forgotten() {
    let mut watch = Watch::default();
    let rules = rules(10, 0.2);
    let member = |address: &str, tunnels| Member {
        address: address.into(),
        weight: 1,
        tunnels,
        due: 0,
    };
    let slow = Duration::from_secs(5);
    let mut both = [member("a", 100), member("b", 0)];
    assert_eq!(watch.look(Millis(1000), rules, slow, &mut both[..1]), None);
    assert_eq!(watch.look(Millis(1100), rules, slow, &mut both), None);
    assert!(watch.is_busy());
    assert_eq!(watch.look(Millis(6000), rules, slow, &mut both), None);
    assert_eq!(watch.look(Millis(6000), rules, slow, &mut both[..1]), None);
    assert_eq!(
        watch.look(Millis(6200), rules, slow, &mut both[..1]),
        None,
        "it left"
    );
    assert!(!watch.is_busy());
    // Back again.
    assert_eq!(watch.look(Millis(7000), rules, slow, &mut both), None);
    assert_eq!(
        watch.look(Millis(12_000), rules, slow, &mut both),
        Some(Change::Began)
    );
}

#[test]
fn workers_never_take_more_than_is_due() {
    let asking = Asking::new(Millis(5));
    asking.add(3);
    assert_eq!((asking.take(2), asking.take(2), asking.take(2)), (2, 1, 0));
    asking.add(1);
    assert_eq!((asking.due(), asking.take(9)), (1, 1));
}

fn endpoints() -> impl Strategy<Value = Vec<(u32, u32)>> {
    prop::collection::vec((1_u32..5, 0_u32..200), 1..6)
}

proptest! {
    /// Whoever comes back goes to the least loaded: the spread comes under the threshold, and there it ends.
    #[test]
    fn a_round_stops_at_the_threshold_and_asks_no_more_than_the_surplus(
        there in endpoints(),
        new in 1_u32..5,
        threshold in 0.05_f64..1.0,
        rate in 5_u32..200,
        delay in 1_usize..20,
        seed in any::<u64>(),
    ) {
        let (weights, tunnels): (Vec<u32>, Vec<u32>) = there.into_iter().unzip();
        let mut model = Model::new(&weights, &tunnels, Clients::ComeBack(delay), seed);
        let rules = rules(rate, threshold);
        model.look(rules);
        model.join(new);
        let total: u32 = model.counts().iter().sum();
        let weights: u32 = model.weights.iter().sum();
        let surplus: u32 = model
            .counts()
            .iter()
            .zip(&model.weights)
            .map(|(count, weight)| {
                let fair = f64::from(total) * f64::from(*weight) / f64::from(weights);
                count.saturating_sub((fair * (1.0 + threshold) - 1e-6).ceil() as u32)
            })
            .sum();
        model.run(rules, (f64::from(surplus) / f64::from(rate) * 10.0) as usize + 200);
        let asked = model.asked.clone();
        prop_assert!(asked.iter().sum::<u32>() <= surplus, "{asked:?} of {surplus}");
        prop_assert!(model.spread() <= threshold + 1e-6, "{:?}", model.counts());
        prop_assert!(model.watch.round.is_none(), "it is over");
        model.run(rules, 300);
        prop_assert_eq!(model.asked, asked, "and stays so");
    }

    /// Wherever they go, it ends, nobody is asked twice, and the new one is asked for nothing.
    #[test]
    fn clients_that_go_anywhere_are_asked_once_at_most(
        there in endpoints(),
        new in 1_u32..5,
        threshold in 0.0_f64..1.0,
        delay in 1_usize..20,
        seed in any::<u64>(),
    ) {
        let (weights, tunnels): (Vec<u32>, Vec<u32>) = there.into_iter().unzip();
        let before = tunnels.clone();
        let mut model = Model::new(&weights, &tunnels, Clients::ComeBackAnywhere(delay), seed);
        let rules = rules(100, threshold);
        model.look(rules);
        model.join(new);
        model.run(rules, 1000);
        prop_assert!(model.watch.round.is_none());
        for (asked, before) in model.asked.iter().zip(before) {
            prop_assert!(*asked <= before);
        }
        prop_assert_eq!(model.asked.last(), Some(&0));
    }
}
