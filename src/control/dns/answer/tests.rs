use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

fn records(list: &[&str], ttl: u64) -> Result<Records<IpAddr>, LookupError> {
    Ok(Records {
        list: ips(list),
        ttl: Duration::from_secs(ttl),
    })
}

fn service(priority: u16, weight: u16, port: u16, target: &str) -> Service {
    Service {
        priority,
        weight,
        port,
        target: target.to_owned(),
    }
}

#[test]
fn both_families_are_one_answer_that_holds_as_long_as_the_shorter_one() {
    let all = addresses(records(&["10.0.0.1"], 30), records(&["fd00::1"], 5), &[]).unwrap();
    assert_eq!((all.list, all.ttl), (ips(&["10.0.0.1", "fd00::1"]), 5 * SECOND));
}

#[test]
fn a_family_without_addresses_is_no_failure_and_loses_those_it_had() {
    let before = ips(&["10.0.0.9", "fd00::9"]);
    for no in [LookupError::NoAddress(None), LookupError::NoSuchName(None)] {
        let all = addresses(records(&["10.0.0.1"], 30), Err(no), &before).unwrap();
        assert_eq!(all.list, ips(&["10.0.0.1"]));
    }
}

#[test]
fn a_family_that_nobody_could_tell_keeps_what_it_had() {
    let before = ips(&["10.0.0.9", "fd00::9"]);
    let all = addresses(records(&["10.0.0.1"], 30), Err(LookupError::Timeout), &before).unwrap();
    assert_eq!(all.list, ips(&["10.0.0.1", "fd00::9"]));
    let failed = Err(LookupError::ServerFailed("SERVFAIL".to_owned()));
    let all = addresses(failed, records(&["fd00::1"], 30), &before).unwrap();
    assert_eq!(all.list, ips(&["fd00::1", "10.0.0.9"]));
}

#[test]
fn without_any_answer_the_cause_that_says_nothing_about_the_name_is_told() {
    let none = |v4, v6| addresses(Err(v4), Err(v6), &ips(&["10.0.0.9"])).unwrap_err();
    let (timeout, no) = (LookupError::Timeout, LookupError::NoAddress(None));
    assert_eq!(none(no.clone(), timeout.clone()), timeout);
    assert_eq!(none(timeout.clone(), no), timeout);
    assert_eq!(
        none(LookupError::NoSuchName(None), LookupError::NoSuchName(None)),
        LookupError::NoSuchName(None)
    );
}

#[test]
fn addresses_that_nobody_can_connect_to_are_none() {
    let answer = records(&["0.0.0.0", "255.255.255.255", "224.0.0.1"], 30);
    assert_eq!(
        addresses(answer, records(&["::", "ff02::1"], 30), &[]),
        Err(LookupError::NoAddress(None))
    );
    let answer = records(&["0.0.0.0", "127.0.0.1"], 30);
    let all = addresses(answer, Err(LookupError::NoAddress(None)), &[]).unwrap();
    assert_eq!(all.list, ips(&["127.0.0.1"]), "loopback is a place");
}

#[test]
fn the_same_answer_in_any_order_is_the_same_places() {
    let one = host_places(&ips(&["10.0.0.2", "10.0.0.1", "10.0.0.2"]), 80);
    let other = host_places(&ips(&["10.0.0.1", "10.0.0.2"]), 80);
    assert_eq!(one, other);
    assert_eq!(one.len(), 2);
}

#[test]
fn services_have_their_ports_weights_and_backups() {
    let known = Known::from([
        ("a.".to_owned(), ips(&["10.0.0.1", "10.0.0.2"])),
        ("b.".to_owned(), ips(&["10.0.0.3"])),
    ]);
    let services = [
        service(20, 0, 81, "b."),
        service(10, 7, 80, "a."),
        service(10, 1, 80, "gone."),
    ];
    let places = service_places(&services, &known);
    let shown: Vec<String> = places
        .iter()
        .map(|p| {
            format!(
                "{} {} {}",
                p.address,
                p.weight,
                if p.backup { "backup" } else { "" }
            )
        })
        .collect();
    assert_eq!(
        shown,
        ["10.0.0.1:80 7 ", "10.0.0.2:80 7 ", "10.0.0.3:81 1 backup"]
    );
}

#[test]
fn an_address_that_two_services_name_is_used_once_and_a_port_of_0_not_at_all() {
    let known = Known::from([("a.".to_owned(), ips(&["10.0.0.1"]))]);
    let services = [
        service(20, 5, 80, "a."),
        service(10, 1, 80, "a."),
        service(10, 1, 0, "a."),
    ];
    let places = service_places(&services, &known);
    assert_eq!(places.len(), 1);
    assert!(!places[0].backup, "where it comes first");
}

#[test]
fn answers_are_kept_within_the_limits_and_asked_for_a_little_early() {
    let keep = |ttl, early| keep(Duration::from_secs(ttl), SECOND, 60 * SECOND, early);
    assert_eq!(keep(0, 0.0), SECOND);
    assert_eq!(keep(0, 1.0), SECOND, "never below the least");
    assert_eq!(keep(20, 0.0), 20 * SECOND);
    assert_eq!(keep(20, 1.0), 18 * SECOND);
    assert_eq!(keep(86_400, 0.0), 60 * SECOND);
}
