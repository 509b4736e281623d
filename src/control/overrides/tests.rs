use super::*;
use crate::config::model::Balance;
use crate::config::{Environment, load_text};
use crate::snapshot;
use crate::upstream::shared::Registry;
use crate::upstream::shared::names::Directory;
use proptest::prelude::*;

fn key(address: &str) -> EndpointKey {
    EndpointKey {
        upstream: "app".into(),
        address: address.into(),
    }
}

fn plans() -> Vec<Arc<UpstreamPlan>> {
    let text = "[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\nupstream = \"app\"\n\
                [upstreams.app]\nendpoints = [\"a:1\", \"a:2\"]\n";
    let config = load_text("test", text, &Environment::default()).unwrap().config;
    snapshot::upstreams(
        &config,
        &[("app".into(), Arc::default())].into(),
        &Registry::default(),
        &Directory::default(),
        &Overrides::default(),
    )
}

fn asked(by: &str, second: i64) -> Asked {
    Asked {
        by: by.to_owned(),
        node: "gw-1".to_owned(),
        at: Timestamp::from_second(second).unwrap(),
    }
}

fn drain(deadline: Wish<Duration>) -> EndpointWish {
    EndpointWish {
        state: Some(AdminState::Draining),
        deadline,
        ..EndpointWish::default()
    }
}

fn weigh(weight: Wish<u32>) -> EndpointWish {
    EndpointWish {
        weight,
        ..EndpointWish::default()
    }
}

fn after(before: &Overrides, wish: &EndpointWish, asked: &Asked) -> Overrides {
    with_endpoint(before, &plans(), &key("a:1"), wish, asked).unwrap()
}

#[test]
fn a_drain_keeps_a_weight_and_a_weight_keeps_a_drain() {
    let first = after(&Overrides::default(), &weigh(Wish::To(7)), &asked("ann", 1));
    let both = after(
        &first,
        &drain(Wish::To(Duration::from_secs(60))),
        &asked("bob", 2),
    );
    let more = after(&both, &weigh(Wish::To(9)), &asked("cat", 3));
    let told = more.endpoint(&key("a:1")).unwrap();
    let leave = told.leave.as_ref().unwrap();
    assert_eq!((leave.by.as_str(), leave.since.as_second()), ("bob", 2));
    assert_eq!(leave.value.deadline, Some(Timestamp::from_second(62).unwrap()));
    assert_eq!(
        (told.weight.as_ref().unwrap().value, told.admin()),
        (9, AdminState::Draining)
    );

    let undrained = EndpointWish {
        state: Some(AdminState::Active),
        ..EndpointWish::default()
    };
    let weight_alone = after(&more, &undrained, &asked("dan", 4));
    assert_eq!(weight_alone.admin_of(&key("a:1")), AdminState::Active);
    assert_eq!(weight_alone.weight_of(&key("a:1"), 1), 9);
    let nothing = after(&weight_alone, &weigh(Wish::Reset), &asked("dan", 5));
    assert!(nothing.is_empty());
}

#[test]
fn saying_the_same_again_changes_nothing() {
    let first = after(&Overrides::default(), &drain(Wish::Keep), &asked("ann", 1));
    assert_eq!(after(&first, &drain(Wish::Keep), &asked("bob", 2)), first);
    let first = after(&Overrides::default(), &weigh(Wish::To(3)), &asked("ann", 1));
    assert_eq!(after(&first, &weigh(Wish::To(3)), &asked("bob", 2)), first);
    assert!(changes(&first, &first).is_empty());
}

#[test]
fn a_drain_that_is_hurried_began_when_it_began() {
    let first = after(&Overrides::default(), &drain(Wish::Keep), &asked("ann", 1));
    let hurry = EndpointWish {
        deadline: Wish::To(Duration::from_secs(5)),
        reason: Some("disk".to_owned()),
        ..EndpointWish::default()
    };
    let hurried = after(&first, &hurry, &asked("bob", 100));
    let leave = hurried.endpoint(&key("a:1")).unwrap().leave.clone().unwrap();
    assert_eq!((leave.by.as_str(), leave.since.as_second()), ("bob", 1));
    assert_eq!(leave.value.deadline.unwrap().as_second(), 105);
    assert_eq!(leave.reason.as_deref(), Some("disk"));
}

#[test]
fn an_end_belongs_to_what_is_told_with_it_and_lies_within_a_year() {
    let at = |second| Some(Timestamp::from_second(second).unwrap());
    let until = |wish: EndpointWish, second| EndpointWish {
        until: at(second),
        ..wish
    };
    let none = Overrides::default();
    let first = after(&none, &until(drain(Wish::Keep), 100), &asked("ann", 1));
    let both = after(&first, &until(weigh(Wish::To(7)), 200), &asked("bob", 2));
    let told = both.endpoint(&key("a:1")).unwrap();
    let ends = |told: &EndpointOverride| {
        let leave = told.leave.as_ref().and_then(|leave| leave.until);
        (leave, told.weight.as_ref().and_then(|weight| weight.until))
    };
    assert_eq!(ends(told), (at(100), at(200)));
    // Said again it stays, and moves when another one is said; another weight has none of its own.
    let again = after(&both, &drain(Wish::Keep), &asked("cat", 3));
    assert_eq!(again, both);
    let moved = after(&both, &until(drain(Wish::Keep), 300), &asked("cat", 3));
    let moved = after(&moved, &weigh(Wish::To(8)), &asked("cat", 3));
    assert_eq!(ends(moved.endpoint(&key("a:1")).unwrap()), (at(300), None));

    let refused = |wish: EndpointWish| {
        with_endpoint(&none, &plans(), &key("a:1"), &wish, &asked("ann", 50)).unwrap_err()
    };
    for second in [0, 50, 50 + 366 * 24 * 3600] {
        assert_eq!(refused(until(drain(Wish::Keep), second)), Refused::Until);
    }
    let active = EndpointWish {
        state: Some(AdminState::Active),
        ..EndpointWish::default()
    };
    for wish in [active, weigh(Wish::Reset)] {
        assert_eq!(refused(until(wish, 60)), Refused::NothingEnds);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let none = Overrides::default();
    let refused = |key: &EndpointKey, wish: &EndpointWish| {
        with_endpoint(&none, &plans(), key, wish, &asked("ann", 1)).unwrap_err()
    };
    assert_eq!(refused(&key("a:9"), &drain(Wish::Keep)), Refused::NoEndpoint);
    assert_eq!(refused(&key("a:1"), &EndpointWish::default()), Refused::Nothing);
    assert_eq!(
        refused(&key("a:1"), &weigh(Wish::To(MAX_WEIGHT + 1))),
        Refused::TooHeavy
    );
    let late = EndpointWish {
        deadline: Wish::To(Duration::from_secs(1)),
        ..EndpointWish::default()
    };
    assert_eq!(refused(&key("a:1"), &late), Refused::NoDrain);
    let active = EndpointWish {
        state: Some(AdminState::Active),
        ..late
    };
    assert_eq!(refused(&key("a:1"), &active), Refused::NoDrain);
    let long = EndpointWish {
        reason: Some("x".repeat(MAX_REASON + 1)),
        ..drain(Wish::Keep)
    };
    assert_eq!(refused(&key("a:1"), &long), Refused::LongReason);
}

#[test]
fn a_sleeping_override_can_be_taken_back_and_nothing_else() {
    let mut before = Overrides::default();
    let asked = asked("ann", 1);
    let gone = EndpointOverride {
        weight: Some(asked.says(4, None, None)),
        leave: None,
    };
    before.set_endpoint(key("gone:1"), gone);
    let with = |wish: &EndpointWish| with_endpoint(&before, &plans(), &key("gone:1"), wish, &asked);
    assert!(with(&weigh(Wish::To(5))).is_err());
    assert!(with(&EndpointWish::back_to_the_file()).unwrap().is_empty());
}

#[test]
fn an_algorithm_goes_to_every_upstream_that_is_named_or_to_none() {
    let wish = |upstreams: &[&str], algorithm| BalanceWish {
        upstreams: upstreams.iter().map(|name| Arc::from(*name)).collect(),
        algorithm,
        reason: None,
        until: None,
    };
    let none = Overrides::default();
    let least = || {
        let (balance, key) = (Balance::LeastConnections, None);
        Some(Algorithm { balance, key })
    };
    let one = with_balance(&none, &plans(), &wish(&["app"], least()), &asked("ann", 1)).unwrap();
    assert_eq!(one.balance("app").map(|told| told.value.clone()), least());
    let again = with_balance(&one, &plans(), &wish(&["app"], least()), &asked("bob", 2)).unwrap();
    assert_eq!(again, one);
    let unknown = with_balance(
        &none,
        &plans(),
        &wish(&["app", "other"], least()),
        &asked("ann", 1),
    );
    assert_eq!(unknown, Err(Refused::NoUpstream("other".into())));
    let back = with_balance(&one, &plans(), &wish(&["app"], None), &asked("ann", 3)).unwrap();
    assert!(back.is_empty());
    assert_eq!(changes(&one, &back)[0].to_string(), "~ upstream app");
}

#[test]
fn thresholds_are_changed_one_by_one_and_taken_back_one_by_one() {
    let wish = |fall, error_rate| ThresholdWish {
        upstreams: vec!["app".into()],
        fall,
        error_rate,
        ..ThresholdWish::default()
    };
    let with =
        |before: &Overrides, wish: &ThresholdWish| with_thresholds(before, &plans(), wish, &asked("ann", 1));
    let none = Overrides::default();
    let both = with(
        &with(&none, &wish(Wish::To(2), Wish::Keep)).unwrap(),
        &wish(Wish::Keep, Wish::To(0.1)),
    )
    .unwrap();
    let told = &both.thresholds("app").unwrap().value;
    assert_eq!(
        (told.fall, told.error_rate, told.rise),
        (Some(2), Some(0.1), None)
    );
    assert_eq!(changes(&none, &both)[0].to_string(), "~ upstream app");
    assert_eq!(with(&both, &wish(Wish::To(2), Wish::Keep)).unwrap(), both);
    let one = with(&both, &wish(Wish::Reset, Wish::Keep)).unwrap();
    assert_eq!(one.thresholds("app").unwrap().value.fall, None);
    assert!(with(&one, &wish(Wish::Keep, Wish::Reset)).unwrap().is_empty());

    for bad in [
        wish(Wish::To(0), Wish::Keep),
        wish(Wish::To(1001), Wish::Keep),
        wish(Wish::Keep, Wish::To(1.5)),
        wish(Wish::Keep, Wish::To(f64::NAN)),
        ThresholdWish {
            max_attempts: Wish::To(9),
            ..wish(Wish::Keep, Wish::Keep)
        },
        ThresholdWish {
            recovery_timeout: Wish::To(Duration::ZERO),
            ..wish(Wish::Keep, Wish::Keep)
        },
    ] {
        assert!(matches!(with(&none, &bad), Err(Refused::Threshold(_))), "{bad}");
    }
    assert_eq!(idle_thresholds(&plans(), &wish(Wish::To(2), Wish::Keep)).len(), 1);
    assert!(idle_thresholds(&plans(), &wish(Wish::Keep, Wish::To(0.1))).is_empty());
}

#[test]
fn leaving_an_upstream_without_endpoints_is_warned_of_once() {
    let (open, mut closed) = (plans(), (*plans()[0]).clone());
    for endpoint in &mut closed.endpoints {
        endpoint.admin = AdminState::Draining;
    }
    let closed = [Arc::new(closed)];
    assert_eq!(warnings(&open, &closed).len(), 1);
    assert!(warnings(&closed, &closed).is_empty() && warnings(&open, &open).is_empty());
}

fn wish() -> impl Strategy<Value = EndpointWish> {
    let state = proptest::option::of(prop_oneof![
        Just(AdminState::Active),
        Just(AdminState::Draining),
        Just(AdminState::Maintenance)
    ]);
    let weight = prop_oneof![Just(Wish::Keep), Just(Wish::Reset), (0..9_u32).prop_map(Wish::To)];
    let deadline = prop_oneof![
        Just(Wish::Keep),
        Just(Wish::Reset),
        (0..9_u64).prop_map(|s| Wish::To(Duration::from_secs(s)))
    ];
    (state, weight, deadline).prop_map(|(state, weight, deadline)| EndpointWish {
        state,
        weight,
        deadline,
        reason: None,
        until: None,
    })
}

proptest! {
    #[test]
    fn whatever_was_wished_the_way_back_to_the_file_is_one_wish(wishes in proptest::collection::vec(wish(), 0..12)) {
        let mut overrides = Overrides::default();
        for (second, wish) in wishes.iter().enumerate() {
            let asked = asked("ann", second as i64);
            if let Ok(after) = with_endpoint(&overrides, &plans(), &key("a:1"), wish, &asked) {
                if let Some(state) = wish.state {
                    prop_assert_eq!(after.admin_of(&key("a:1")), state);
                }
                if let Wish::To(weight) = wish.weight {
                    prop_assert_eq!(after.weight_of(&key("a:1"), 100), weight);
                }
                overrides = after;
            }
        }
        if !overrides.is_empty() {
            let back = EndpointWish::back_to_the_file();
            prop_assert!(after(&overrides, &back, &asked("bob", 99)).is_empty());
        }
    }
}
