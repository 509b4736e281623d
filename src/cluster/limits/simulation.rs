//! Many gateways, one store and the way between them on a virtual clock: what is granted over any time, by whom.

use super::Verdict;
use super::bucket::Bucket;
use super::lease::Leased;
use super::limit::Limit;
use super::take::{Take, Taken, step};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

const STEP: Duration = Duration::from_millis(1);
/// A lease that has not come by then does not come.
const LEASE: u32 = 100;
/// Steps between tries while the store is away.
const PROBE: u32 = 1000;

#[derive(Clone, Debug)]
struct Scene {
    limit: Limit,
    nodes: usize,
    steps: u32,
    /// Steps to the store, and the same back.
    way: u32,
    /// Of each node, how many requests come in which steps.
    traffic: Vec<(u32, u32)>,
    /// The store answers nobody between these.
    away: std::ops::Range<u32>,
    seed: u64,
}

#[derive(Default)]
struct Node {
    own: Bucket,
    leased: Leased,
    open: bool,
}

enum Mail {
    Asked(usize, Take),
    Answered(usize, Take, Taken),
    Lost(usize),
}

/// When somebody was granted something, and who.
fn run(scene: &Scene) -> Vec<(u32, usize)> {
    let mut rng = fastrand::Rng::with_seed(scene.seed);
    let begin = Instant::now();
    let mut nodes: Vec<Node> = (0..scene.nodes).map(|_| Node::default()).collect();
    let mut mail: BTreeMap<u32, Vec<Mail>> = BTreeMap::new();
    let (mut free_at, mut granted) = (Duration::ZERO, Vec::new());
    let gateways = u32::try_from(scene.nodes).unwrap();
    for at in 0..scene.steps {
        let now = begin + STEP * at;
        for mail_of_now in mail.remove(&at).unwrap_or_default() {
            match mail_of_now {
                Mail::Asked(node, _) if scene.away.contains(&at) => {
                    mail.entry(at + LEASE).or_default().push(Mail::Lost(node));
                }
                Mail::Asked(node, take) => {
                    let (after, taken) = step(free_at, STEP * at, &take);
                    free_at = after;
                    let answer = Mail::Answered(node, take, taken);
                    mail.entry(at + 1 + scene.way).or_default().push(answer);
                }
                Mail::Answered(node, take, taken) => nodes[node].leased.answered(now, &take, taken),
                Mail::Lost(node) => {
                    nodes[node].leased.failed();
                    nodes[node].open = true;
                }
            }
        }
        if at % PROBE == 0 && !scene.away.contains(&at) {
            nodes.iter_mut().for_each(|node| node.open = false);
        }
        let first = rng.usize(..scene.nodes);
        for turn in 0..scene.nodes {
            let n = (first + turn) % scene.nodes;
            let (most, every) = scene.traffic[n];
            let requests = if rng.u32(..every) == 0 {
                rng.u32(0..=most)
            } else {
                0
            };
            for _ in 0..requests {
                let node = &mut nodes[n];
                let works = !node.open;
                let decision = node
                    .leased
                    .decide(now, &scene.limit, gateways, &mut node.own, works);
                if decision.verdict == Verdict::Admitted {
                    granted.push((at, n));
                }
                if decision.ask {
                    let take = node.leased.ask(&scene.limit, gateways);
                    mail.entry(at + 1 + scene.way)
                        .or_default()
                        .push(Mail::Asked(n, take));
                }
            }
        }
    }
    granted
}

/// By how much the worst of all stretches of time exceeded what comes evenly.
fn excess(limit: &Limit, granted: &[(u32, usize)]) -> f64 {
    let interval = limit.rate().interval.as_secs_f64();
    let (mut excess, mut worst, mut last) = (0.0_f64, 0.0_f64, 0);
    for (at, _) in granted {
        let passed = (STEP * (at - last)).as_secs_f64();
        excess = (excess - passed / interval).max(0.0) + 1.0;
        worst = worst.max(excess);
        last = *at;
    }
    worst
}

fn scenes() -> impl Strategy<Value = Scene> {
    let limit = (1..2000_u32, 1..200_u32);
    let traffic = proptest::collection::vec((0..20_u32, 1..30_u32), 1..5);
    (limit, traffic, 0..40_u32, any::<u64>()).prop_map(|((count, burst), traffic, way, seed)| Scene {
        limit: Limit::new(count, Duration::from_secs(1), burst).unwrap(),
        nodes: traffic.len(),
        steps: 6000,
        way,
        traffic,
        away: 0..0,
        seed,
    })
}

/// What the module's text promises. Not counted yet is, of each gateway, what it granted on credit while one question was
/// on its way, of which the next one tells, and while that one is; and what it leased before.
fn shared_slack(scene: &Scene) -> f64 {
    let nodes = u32::try_from(scene.nodes).unwrap();
    let share = scene.limit.share(nodes);
    let way = STEP * (2 * scene.way + 2);
    let meanwhile = f64::from(share.burst) + way.as_secs_f64() / share.interval.as_secs_f64();
    f64::from(nodes) * (2.0 * meanwhile + f64::from(scene.limit.lease()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn leased_tokens_never_exceed_the_limit_by_more_than_the_slack(scene in scenes()) {
        let granted = run(&scene);
        let most = f64::from(scene.limit.rate().burst) + shared_slack(&scene);
        let worst = excess(&scene.limit, &granted);
        prop_assert!(worst <= most + 1e-6, "{worst} of {most}");
    }

    #[test]
    fn a_store_that_goes_and_comes_adds_no_more_than_the_gateways_own_shares(
        scene in scenes(),
        from in 0..3000_u32,
        long in 1..3000_u32,
    ) {
        let scene = Scene { away: from..from + long, ..scene };
        let granted = run(&scene);
        let nodes = u32::try_from(scene.nodes).unwrap();
        let share = scene.limit.share(nodes);
        let own = f64::from(nodes * share.burst);
        let over = f64::from(nodes) / share.interval.as_secs_f64() - 1.0 / scene.limit.rate().interval.as_secs_f64();
        // It may take a probe until those who went by themselves know that the store is back.
        let alone = (STEP * (long + PROBE + LEASE)).as_secs_f64();
        // Meanwhile nobody takes anything from the store: it has as much as may come at once again.
        let most = 2.0 * f64::from(scene.limit.rate().burst) + shared_slack(&scene) + own + over.max(0.0) * alone;
        let worst = excess(&scene.limit, &granted);
        prop_assert!(worst <= most + 1e-6, "{worst} of {most}");
    }

    #[test]
    fn one_who_alone_has_traffic_gets_the_whole_limit(
        count in 20..2000_u32,
        burst in 1..100_u32,
        nodes in 1..6_usize,
        seed in any::<u64>(),
    ) {
        let mut traffic = vec![(0, 1); nodes];
        traffic[0] = (10, 1);
        let limit = Limit::new(count, Duration::from_secs(1), burst).unwrap();
        let scene = Scene { limit, nodes, steps: 5000, way: 1, traffic, away: 0..0, seed };
        let granted = run(&scene).len();
        // A bucket that is full while a question is on its way gets no fuller: where less may be held than a lease and
        // what comes meanwhile, each lease takes that much longer.
        let (lease, way) = (f64::from(limit.lease()), 0.008);
        let waits = lease + f64::from(count) * way > f64::from(burst);
        let each = lease / f64::from(count) + if waits { way } else { 0.0 };
        let wanted = 5.0 * lease / each * 0.9;
        prop_assert!(granted as f64 >= wanted, "{granted} of {wanted}");
    }

    #[test]
    fn gateways_by_themselves_exceed_the_limit_by_a_fifth_and_rounding(scene in scenes()) {
        let scene = Scene { away: 0..u32::MAX, ..scene };
        let granted = run(&scene);
        let nodes = scene.nodes as f64;
        let factor = if scene.nodes == 1 { 1.0 } else { 1.2 };
        let faster = Limit::new(1, scene.limit.rate().interval.div_f64(factor), 1).unwrap();
        let most = factor * f64::from(scene.limit.rate().burst) + nodes;
        let worst = excess(&faster, &granted);
        prop_assert!(worst <= most + 1e-3, "{worst} of {most}");
    }

    #[test]
    fn asked_for_each_request_the_store_grants_what_the_limit_says_and_no_more(
        count in 1..2000_u32,
        burst in 1..200_u32,
        gaps in proptest::collection::vec(0..20_u32, 1..2000),
    ) {
        let limit = Limit::new(count, Duration::from_secs(1), burst).unwrap();
        let take = Take { rate: limit.rate(), owed: 0, wanted: 1, credit: 0 };
        let (mut at, mut free_at, mut granted) = (0, Duration::ZERO, Vec::new());
        let mut allowed = f64::from(burst);
        for gap in gaps {
            at += gap;
            allowed = (allowed + (STEP * gap).as_secs_f64() / take.rate.interval.as_secs_f64()).min(f64::from(burst));
            let (after, taken) = step(free_at, STEP * at, &take);
            free_at = after;
            prop_assert!(taken.granted == 1 || allowed < 1.0 + 1e-6, "refused with {allowed} left");
            if taken.granted == 1 {
                allowed -= 1.0;
                granted.push((at, 0));
            }
        }
        prop_assert!(excess(&limit, &granted) <= f64::from(burst) + 1e-6);
    }
}
