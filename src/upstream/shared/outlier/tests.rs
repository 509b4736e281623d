use super::*;
use crate::config::model::{Balance, Outlier, Pool};
use crate::upstream::shared::{AdminState, EndpointKey, EndpointPlan, EndpointState};
use proptest::prelude::*;

const WHY: Reason = Reason::InARow {
    failures: 5,
    last: Fault::Failed(Token::ConnectFailed),
};

fn plan(endpoints: usize) -> UpstreamPlan {
    let endpoint = |i| {
        let key = EndpointKey {
            upstream: "u".into(),
            address: format!("10.0.0.{i}:80").into(),
        };
        EndpointPlan {
            authority: key.address.clone(),
            server_name: None,
            state: Arc::new(EndpointState::new(key, vec![])),
            weight: 1,
            backup: false,
            admin: AdminState::Active,
            max_connections: 0,
        }
    };
    let mut plan = UpstreamPlan {
        name: "u".into(),
        balance: Balance::RoundRobin,
        hashing: Default::default(),
        sticky: None,
        health: None,
        endpoints: (0..endpoints).map(endpoint).collect(),
        pool: Pool {
            idle_per_worker: 1,
            idle_timeout: Duration::from_secs(1),
            max_requests: 0,
            max_age: Duration::ZERO,
        },
        dial: Default::default(),
        resilience: Default::default(),
    };
    plan.resilience.outlier = Outlier {
        eject: Duration::from_secs(5),
        max_eject: Duration::from_secs(60),
        max_ejected: 0.5,
        ..Outlier::default()
    };
    plan
}

fn length(plan: &UpstreamPlan, index: usize) -> u64 {
    let last = plan.endpoints[index].state.ejections.last().unwrap();
    last.time().as_secs()
}

#[test]
fn each_ejection_is_twice_as_long_up_to_the_bound() {
    let plan = plan(2);
    let mut now = Millis(1);
    let mut lengths = Vec::new();
    for _ in 0..6 {
        assert!(eject(&plan, 0, WHY, now));
        lengths.push(length(&plan, 0));
        now = plan.endpoints[0].state.standing.ejected_until();
    }
    assert_eq!(lengths, [5, 10, 20, 40, 60, 60]);
    assert_eq!(plan.endpoints[0].state.ejections.total(), 6);
}

#[test]
fn being_well_for_as_long_as_it_was_out_forgives_one_doubling() {
    let plan = plan(2);
    let state = &plan.endpoints[0].state;
    assert!(eject(&plan, 0, WHY, Millis(1)));
    assert!(eject(&plan, 0, WHY, Millis(5_001)));
    assert_eq!(length(&plan, 0), 10);
    // It is back at 15.001 s, and forgiven one doubling at 25.001 s.
    state.ejections.forgive(Millis(25_000));
    assert_eq!(state.ejections.doublings.load(Relaxed), 2);
    state.ejections.forgive(Millis(25_001));
    assert_eq!(state.ejections.doublings.load(Relaxed), 1);
    state.ejections.forgive(Millis(25_002));
    assert_eq!(state.ejections.doublings.load(Relaxed), 1, "one at a time");
    state.ejections.forgive(Millis(35_001));
    state.ejections.forgive(Millis(90_000));
    assert_eq!(state.ejections.doublings.load(Relaxed), 0);
    assert!(eject(&plan, 0, WHY, Millis(90_001)));
    assert_eq!(length(&plan, 0), 5);
}

#[test]
fn no_more_than_the_share_is_out_at_once() {
    for (endpoints, share, most) in [
        (1, 0.5, 0),
        (2, 0.5, 1),
        (3, 0.5, 1),
        (4, 0.5, 2),
        (3, 0.1, 1),
        (3, 0.0, 0),
        (3, 1.0, 3),
    ] {
        let mut plan = plan(endpoints);
        plan.resilience.outlier.max_ejected = share;
        let out = (0..endpoints)
            .filter(|i| eject(&plan, *i, WHY, Millis(7)))
            .count();
        assert_eq!(out, most, "{share} of {endpoints}");
    }
}

#[test]
fn one_that_is_out_is_not_ejected_again_and_one_that_is_not_in_service_never() {
    let mut plan = plan(4);
    assert!(eject(&plan, 0, WHY, Millis(10)));
    assert!(!eject(&plan, 0, WHY, Millis(11)));
    assert_eq!(plan.endpoints[0].state.ejections.total(), 1);
    plan.endpoints[1].admin = AdminState::Draining;
    plan.endpoints[2].weight = 0;
    assert!(!eject(&plan, 1, WHY, Millis(11)) && !eject(&plan, 2, WHY, Millis(11)));
    assert!(!eject(&plan, 99, WHY, Millis(11)), "an index of an older plan");
}

#[test]
fn a_reason_reads_as_a_sentence() {
    assert_eq!(WHY.to_string(), "5 failures in a row, the last: connect_failed");
    let rate = Reason::TooMany {
        failures: 12,
        requests: 20,
    };
    assert_eq!(rate.to_string(), "12 of 20 requests failed");
    let one = Reason::InARow {
        failures: 1,
        last: Fault::Answered(503),
    };
    assert_eq!(one.to_string(), "a failure: status 503");
}

proptest! {
    #[test]
    fn whatever_happens_the_cap_holds_and_everybody_comes_back(
        endpoints in 1usize..12, share in 0.0f64..=1.0, steps in prop::collection::vec((0usize..12, 0u64..20_000), 1..60)
    ) {
        let mut plan = plan(endpoints);
        plan.resilience.outlier.max_ejected = share;
        let most = most_out(&plan, share);
        let mut now = Millis(1);
        for (index, wait) in steps {
            now = now.plus(Duration::from_millis(wait));
            eject(&plan, index, WHY, now);
            prop_assert!(out(&plan, now) <= most);
            for endpoint in &plan.endpoints {
                endpoint.state.ejections.forgive(now);
            }
        }
        prop_assert_eq!(out(&plan, now.plus(Duration::from_secs(61))), 0);
    }
}

#[test]
fn the_latest_fault_is_remembered_with_its_moment() {
    let last = LastFault::default();
    assert_eq!(last.get(), None);
    let tokens = Token::ALL.iter().map(|token| Fault::Failed(*token));
    let statuses = [100, 503, 599].map(Fault::Answered).into_iter();
    let of_grpc = Code::ALL.iter().map(|code| Fault::Grpc(*code));
    for (second, fault) in tokens.chain(statuses).chain(of_grpc).enumerate() {
        let at = Millis(1000 * second as u64 + 1);
        last.note(fault, at);
        assert_eq!(last.get(), Some((fault, at)));
    }
}
