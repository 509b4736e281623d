use super::*;
use proptest::prelude::*;

pub(super) fn service(id: &str, address: &str) -> Service {
    Service {
        id: id.to_owned(),
        name: "api".to_owned(),
        version: "2".to_owned(),
        address: address.parse().unwrap(),
        port: 8080,
        weight: 1,
        node_id: String::new(),
        health_endpoint: "/health".to_owned(),
        tags: vec!["blue".to_owned()],
        metadata: BTreeMap::from([("region".to_owned(), "eu".to_owned())]),
        health: Condition::Healthy,
        ttl: Duration::from_secs(10),
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

#[test]
fn a_registration_holds_until_its_time_and_longer_when_it_is_renewed() {
    let services = Services::default();
    let (what, instance) = services.register(service("a", "10.0.0.1"), "ops", at(0)).unwrap();
    assert_eq!((what, instance.expires_at), (Registered::New, at(10)));
    services.register(service("b", "10.0.0.2"), "ops", at(0)).unwrap();
    assert!(services.expire(at(9), false).is_empty());
    let (renewed, before) = services.renew("a", Some(Condition::Warning), at(9)).unwrap();
    assert_eq!((renewed.expires_at, before), (at(19), Condition::Healthy));
    let over = services.expire(at(10), false);
    assert_eq!(over.len(), 1);
    assert_eq!(over[0].service.id, "b");
    assert_eq!(services.next_end(), Some(at(19)));
    assert!(matches!(
        services.renew("b", None, at(10)),
        Err(Refused::Unknown(_))
    ));
    assert!(services.deregister("a").is_ok());
    assert!(services.deregister("a").is_err());
    assert_eq!((services.count(), services.next_end()), (0, None));
}

#[test]
fn the_same_once_more_is_a_heartbeat_and_keeps_what_was_told_of_the_first_time() {
    let services = Services::default();
    services.register(service("a", "10.0.0.1"), "ops", at(0)).unwrap();
    let (what, instance) = services.register(service("a", "10.0.0.1"), "eve", at(5)).unwrap();
    assert_eq!(what, Registered::Renewed);
    assert_eq!(
        (instance.registered_at, instance.registered_by.as_str()),
        (at(0), "ops")
    );
    let (what, _) = services.register(service("a", "10.0.0.9"), "eve", at(6)).unwrap();
    assert_eq!(what, Registered::Changed);
    let mut other = service("a", "10.0.0.1");
    other.name = "web".to_owned();
    assert_eq!(
        services.register(other, "eve", at(7)),
        Err(Refused::Taken("api".to_owned()))
    );
}

#[test]
fn what_says_it_is_critical_is_not_offered() {
    let services = Services::default();
    services.register(service("a", "10.0.0.1"), "ops", at(0)).unwrap();
    services.register(service("b", "10.0.0.2"), "ops", at(0)).unwrap();
    services.renew("b", Some(Condition::Critical), at(1)).unwrap();
    let offers = services.offers().unwrap();
    assert!(services.offers().is_none(), "nothing came since");
    assert_eq!(offers.len(), 1);
    assert_eq!(offers[0].place.address.to_string(), "10.0.0.1:8080");
}

#[test]
fn what_another_gateway_hears_of_ends_with_its_word_but_not_while_it_can_not_be_heard() {
    let services = Services::default();
    let elsewhere = Services::default();
    let (_, instance) = elsewhere
        .register(service("a", "10.0.0.1"), "ops", at(0))
        .unwrap();
    services.heard(instance.clone(), "gw-2", at(3));
    assert_eq!(services.next_end(), Some(at(13)), "counted on our own clock");
    assert!(services.own().is_empty() && services.offers().unwrap().len() == 1);
    assert!(services.expire(at(20), true).is_empty());
    assert_eq!(services.next_end(), Some(at(30)));
    assert_eq!(services.expire(at(30), false).len(), 1);
    services.heard(instance, "gw-2", at(31));
    services.renew("a", None, at(32)).unwrap();
    assert_eq!(services.own().len(), 1, "its last heartbeat was heard here");
    services.deregister("a").unwrap();
    assert!(services.take_removed().contains("a") && services.take_removed().is_empty());
}

#[test]
fn the_table_is_bounded() {
    let services = Services::default();
    for n in 0..MAX_OF_A_SERVICE {
        services
            .register(service(&format!("i{n}"), "10.0.0.1"), "ops", at(0))
            .unwrap();
    }
    assert_eq!(
        services.register(service("more", "10.0.0.1"), "ops", at(0)),
        Err(Refused::Full)
    );
    assert!(
        services.register(service("i0", "10.0.0.1"), "ops", at(0)).is_ok(),
        "one that is there stays"
    );
}

#[test]
fn a_query_finds_by_name_health_tags_and_metadata() {
    let services = Services::default();
    services.register(service("a", "10.0.0.1"), "ops", at(0)).unwrap();
    let mut other = service("b", "10.0.0.2");
    other.tags.push("fast".to_owned());
    other.health = Condition::Warning;
    services.register(other, "ops", at(0)).unwrap();
    let ids = |query: Query| -> Vec<String> {
        services
            .find(&query)
            .into_iter()
            .map(|found| found.service.id)
            .collect()
    };
    let text = |text: &str| text.to_owned();
    assert_eq!(ids(Query::default()), ["a", "b"]);
    assert!(
        ids(Query {
            name: Some(text("web")),
            ..Query::default()
        })
        .is_empty()
    );
    assert_eq!(
        ids(Query {
            tags: vec![text("blue"), text("fast")],
            ..Query::default()
        }),
        ["b"]
    );
    assert_eq!(
        ids(Query {
            health: vec![Condition::Healthy],
            ..Query::default()
        }),
        ["a"]
    );
    assert_eq!(
        ids(Query {
            metadata: vec![(text("region"), text("eu"))],
            ..Query::default()
        }),
        ["a", "b"]
    );
    assert!(
        ids(Query {
            metadata: vec![(text("region"), text("us"))],
            ..Query::default()
        })
        .is_empty()
    );
}

#[test]
fn a_table_goes_on_over_a_restart_but_not_beyond_the_time_to_live() {
    let services = Services::default();
    services.register(service("a", "10.0.0.1"), "ops", at(0)).unwrap();
    services.register(service("b", "10.0.0.2"), "ops", at(8)).unwrap();
    let kept = services.unkept().unwrap();
    assert!(services.unkept().is_none(), "nothing came since");
    let later = Services::new(kept.clone(), at(12));
    assert_eq!(later.find(&Query::default()).len(), 1, "one's time was over");
    let set_back = Services::new(kept, at(-1000));
    assert_eq!(
        set_back.next_end(),
        Some(at(-990)),
        "no longer than was asked for"
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    type Breakage = fn(&mut Service);
    let breakages: [(&str, Breakage); 12] = [
        ("empty id", |s| s.id.clear()),
        ("long id", |s| s.id = "x".repeat(MAX_ID + 1)),
        ("id with a slash", |s| s.id = "a/b".to_owned()),
        ("name", |s| s.name = "{c}".to_owned()),
        ("port", |s| s.port = 0),
        ("address", |s| s.address = "0.0.0.0".parse().unwrap()),
        ("weight", |s| s.weight = u32::MAX),
        ("short ttl", |s| s.ttl = Duration::from_millis(1)),
        ("long ttl", |s| s.ttl = Duration::MAX),
        ("many tags", |s| s.tags = vec!["t".to_owned(); MAX_TAGS + 1]),
        ("newline", |s| s.version = "1\n2".to_owned()),
        ("empty tag", |s| s.tags = vec![String::new()]),
    ];
    for (what, breakage) in breakages {
        let mut broken = service("a", "10.0.0.1");
        breakage(&mut broken);
        assert!(broken.check().is_err(), "{what}");
    }
    assert!(service("a", "::1").check().is_ok());
}

proptest! {
    /// Whatever happens, nobody is there longer than what was last promised, and the next end is the earliest.
    #[test]
    fn ends_are_kept(steps in proptest::collection::vec((0..4u8, 0..5usize, 0..20i64), 1..60)) {
        let services = Services::default();
        let mut now = 0;
        for (what, who, passes) in steps {
            now += passes;
            let id = format!("i{who}");
            match what {
                0 => drop(services.register(service(&id, "10.0.0.1"), "ops", at(now))),
                1 => drop(services.renew(&id, None, at(now))),
                2 => drop(services.deregister(&id)),
                _ => {}
            }
            services.expire(at(now), false);
            let all = services.find(&Query::default());
            prop_assert!(all.iter().all(|one| one.expires_at > at(now) && one.expires_at <= at(now + 10)));
            prop_assert_eq!(services.next_end(), all.iter().map(|one| one.expires_at).min());
        }
    }
}
