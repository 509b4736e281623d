use super::*;
use crate::config::model::Learn;
use crate::upstream::shared::balancer::tests::endpoint;
use crate::upstream::shared::standing::Health;

const NOW: u32 = 1_800_000_000;

fn cookie() -> StickyCookie {
    StickyCookie {
        name: "tg".to_owned(),
        ttl: Duration::from_secs(1000),
        keys: Vec::new(),
        path: "/".to_owned(),
        domain: None,
        secure: Secure::Auto,
        http_only: true,
        same_site: SameSite::Lax,
        partitioned: false,
        private: true,
    }
}

fn endpoints(addresses: &[&str]) -> Vec<EndpointPlan> {
    addresses
        .iter()
        .map(|address| endpoint((*address).to_owned(), 1, false))
        .collect()
}

fn plan(written: &StickyCookie, secrets: &[&str], addresses: &[&str]) -> CookiePlan {
    let keys = secrets
        .iter()
        .map(|secret| Key::new(secret.as_bytes(), "u"))
        .collect();
    CookiePlan::new(written, keys, &endpoints(addresses))
}

fn set_cookie(plan: &CookiePlan, endpoint: usize) -> String {
    let mut out = Vec::new();
    plan.write(endpoint, false, NOW, &mut out);
    String::from_utf8(out).unwrap()
}

fn value(set_cookie: &str) -> &str {
    let pair = set_cookie.split(';').next().unwrap();
    pair.strip_prefix("tg=").unwrap()
}

#[test]
fn a_cookie_finds_its_endpoint_wherever_it_stands_in_the_file() {
    let before = plan(&cookie(), &["k"], &["a:1", "b:1", "c:1"]);
    let text = set_cookie(&before, 1);
    let after = plan(&cookie(), &["k"], &["c:1", "d:1", "b:1"]);
    let held = after.read(value(&text).as_bytes(), NOW).unwrap();
    assert_eq!(
        held,
        Held {
            endpoint: Some(2),
            stale: false
        }
    );
    let gone = plan(&cookie(), &["k"], &["a:1"]);
    assert_eq!(gone.read(value(&text).as_bytes(), NOW).unwrap().endpoint, None);
}

#[test]
fn what_an_older_key_signed_is_good_and_made_anew() {
    let old = plan(&cookie(), &["old"], &["a:1", "b:1"]);
    let text = set_cookie(&old, 1);
    let rotated = plan(&cookie(), &["new", "old"], &["a:1", "b:1"]);
    let held = rotated.read(value(&text).as_bytes(), NOW).unwrap();
    assert_eq!(
        held,
        Held {
            endpoint: Some(1),
            stale: true
        }
    );
    let fresh = set_cookie(&rotated, 1);
    let only_new = plan(&cookie(), &["new"], &["a:1", "b:1"]);
    assert_eq!(
        only_new.read(value(&fresh).as_bytes(), NOW).unwrap(),
        Held {
            endpoint: Some(1),
            stale: false
        }
    );
}

#[test]
fn a_cookie_is_made_anew_when_half_of_its_time_is_over() {
    let made = plan(&cookie(), &["k"], &["a:1"]);
    let text = set_cookie(&made, 0);
    let stale = |age| {
        made.read(value(&text).as_bytes(), NOW + age)
            .map(|held| held.stale)
    };
    assert_eq!(stale(499), Ok(false));
    assert_eq!(stale(500), Ok(true));
    assert_eq!(stale(1000), Err(Unfit::Expired));
    let endless = StickyCookie {
        ttl: Duration::ZERO,
        ..cookie()
    };
    let plan = plan(&endless, &["k"], &["a:1"]);
    let text = set_cookie(&plan, 0);
    assert_eq!(
        plan.read(value(&text).as_bytes(), u32::MAX)
            .map(|held| held.stale),
        Ok(false)
    );
}

#[test]
fn attributes_are_those_that_were_asked_for() {
    let text = |written: &StickyCookie, https| attributes(written, https);
    assert_eq!(
        text(&cookie(), false),
        "; Path=/; Max-Age=1000; HttpOnly; SameSite=Lax"
    );
    assert_eq!(
        text(&cookie(), true),
        "; Path=/; Max-Age=1000; HttpOnly; Secure; SameSite=Lax"
    );
    let bare = StickyCookie {
        ttl: Duration::ZERO,
        http_only: false,
        same_site: SameSite::Off,
        secure: Secure::Never,
        path: "/app".to_owned(),
        domain: Some("example.com".to_owned()),
        ..cookie()
    };
    assert_eq!(text(&bare, true), "; Path=/app; Domain=example.com");
    let always = StickyCookie {
        secure: Secure::Always,
        ..cookie()
    };
    assert!(text(&always, false).contains("; Secure"));
}

#[test]
fn what_is_to_go_to_other_sites_is_always_secure() {
    let none = StickyCookie {
        same_site: SameSite::None,
        ..cookie()
    };
    assert!(attributes(&none, false).ends_with("; Secure; SameSite=None"));
    let partitioned = StickyCookie {
        partitioned: true,
        ..cookie()
    };
    assert!(attributes(&partitioned, false).ends_with("; Secure; SameSite=Lax; Partitioned"));
}

#[test]
fn a_set_cookie_field_of_the_same_name_is_recognised() {
    let plan = plan(&cookie(), &["k"], &["a:1"]);
    for ours in ["tg=1", " tg = 1; Path=/", "tg", "tg; x=y"] {
        assert!(plan.is_named_by(ours.as_bytes()), "{ours}");
    }
    for other in ["TG=1", "tgx=1", "a=tg=1", "", "a=1; tg=2"] {
        assert!(!plan.is_named_by(other.as_bytes()), "{other}");
    }
}

#[test]
fn sessions_stay_at_an_endpoint_until_it_is_out() {
    let now = Millis(10);
    let kept = |endpoint: &EndpointPlan| keeps(endpoint, || Fallback::None, now);
    let mut endpoint = endpoint("a:1".to_owned(), 1, false);
    assert_eq!(kept(&endpoint), Ok(()));
    endpoint.weight = 0;
    assert_eq!(kept(&endpoint), Ok(()), "no new ones, and these stay");
    endpoint.admin = AdminState::Draining;
    assert_eq!(kept(&endpoint), Ok(()));
    endpoint.state.standing.set_cut(true);
    assert_eq!(kept(&endpoint), Err(Missing::Gone), "the deadline passed");
    endpoint.state.standing.set_cut(false);
    endpoint.admin = AdminState::Maintenance;
    assert_eq!(kept(&endpoint), Err(Missing::Gone));
    endpoint.admin = AdminState::Active;
    endpoint.state.standing.eject(now, Millis(20));
    assert_eq!(kept(&endpoint), Err(Missing::Unwell));
    assert_eq!(
        keeps(&endpoint, || Fallback::All, now),
        Ok(()),
        "nobody is well: it is as good as any"
    );
    let held = |endpoint: &EndpointPlan| keeps(endpoint, || Fallback::Held, Millis(20));
    endpoint.state.standing.set_health(Health::Unhealthy);
    assert_eq!(held(&endpoint), Err(Missing::Unwell), "others are better");
    endpoint.state.standing.set_health(Health::Held);
    assert_eq!(held(&endpoint), Ok(()));
}

#[test]
fn a_learned_session_finds_its_endpoint_over_reloads() {
    let written = Written {
        by: StickyBy::Learn(Learn {
            name: SessionName::Cookie("sid".to_owned()),
            max_sessions: 1000,
            idle: Duration::from_secs(60),
        }),
        on_missing: OnMissing::Rebalance,
    };
    let table = Arc::new(Sessions::new(1000));
    let learned = |addresses: &[&str]| {
        let endpoints = endpoints(addresses);
        let plan = StickyPlan::new(&written, Vec::new(), |_| Arc::clone(&table), &endpoints);
        match plan.by {
            By::Learn(learn) => (learn, endpoints),
            By::Cookie(_) | By::Hash(_) => panic!(),
        }
    };
    let (plan, endpoints) = learned(&["a:1", "b:1"]);
    let session = plan.sessions.named(b"abc");
    let at = |second: u64| Millis(second * 1000);
    assert_eq!(plan.find(session, at(1), true), None);
    plan.learn(session, &endpoints[1], at(1));
    assert_eq!(plan.find(session, at(2), true), Some(Some(1)));
    let (after, _) = learned(&["b:1", "c:1"]);
    assert_eq!(after.find(session, at(3), true), Some(Some(0)));
    let (gone, _) = learned(&["c:1"]);
    assert_eq!(gone.find(session, at(4), false), Some(None));
    assert_eq!(after.find(session, at(64), true), None, "not used for a minute");
}
