use super::super::catalogue::{ALL, Origin};
use super::super::{Closed, CookieSet, HeaderFault, RESET_CODES, Refusal, Sticky, TlsFault};
use super::*;
use crate::message::grpc::Code;
use crate::message::token::Token;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Two workers on which everything was counted at least once.
fn busy() -> Arc<Metrics> {
    let metrics = Metrics::new();
    for worker in 0..2 {
        let block = metrics.add_worker(worker);
        let listener = block.listener("web");
        listener.connections_accepted.add(3);
        listener.connections_refused.inc(Refusal::Client);
        listener.proxy_headers_refused.inc(HeaderFault::Missing);
        listener.heads_refused.inc(Token::BadHost);
        listener.h2_resets_received.add(&[1; RESET_CODES.len()]);
        listener.h2_errors_sent.add(&[1; RESET_CODES.len()]);
        let route = block.route_to("api", "app");
        route.requests.inc(200);
        route.errors.inc(Token::ConnectFailed);
        route.duration.record(Duration::from_millis(4));
        route.tunnels_open.inc();
        route.tunnels_closed.inc(Closed::Idle);
        route.close_codes.inc(1001);
        route.sessions.inc(Sticky::Kept);
        route.cookies_set.inc(CookieSet::New);
        let endpoint = block.endpoint("app", "10.0.0.1:80");
        endpoint.failures.inc(Token::ConnectFailed);
        endpoint.grpc.inc(Some(Code::Unavailable));
        endpoint.tls_full.inc();
        endpoint.tls_failed.inc(TlsFault::Expired);
        endpoint.connections_idle.set(2);
        block.worker.cpu_us.set(1_500_000);
    }
    metrics
}

fn sample(text: &str, name: &str) -> Option<String> {
    let line = text
        .lines()
        .find(|l| l.strip_prefix(name).is_some_and(|r| r.starts_with(' ')))?;
    line.rsplit(' ').next().map(str::to_owned)
}

#[test]
fn a_scrape_sums_over_the_workers() {
    let text = busy().render(Exposition::Prometheus, |_| {});
    let value = |name| sample(&text, name);
    assert_eq!(
        value(r#"tidegate_connections_total{listener="web"}"#).unwrap(),
        "6"
    );
    assert_eq!(
        value(r#"tidegate_requests_total{route="api",upstream="app",code_class="2xx"}"#).unwrap(),
        "2"
    );
    assert_eq!(
        value(r#"tidegate_ws_open{route="api",upstream="app"}"#).unwrap(),
        "2"
    );
    assert_eq!(
        value(r#"tidegate_upstream_connections{upstream="app",endpoint="10.0.0.1:80",state="idle"}"#)
            .unwrap(),
        "4"
    );
    assert_eq!(
        value(r#"tidegate_worker_cpu_seconds_total{worker="1"}"#).unwrap(),
        "1.5"
    );
    assert_eq!(value("tidegate_config_last_reload_success").unwrap(), "1");
}

#[test]
fn a_scrape_has_each_catalogued_family_once_and_no_other() {
    let text = busy().render(Exposition::Prometheus, |e| {
        for family in ALL.iter().filter(|f| f.origin == Origin::Live) {
            e.family(family, |s| s.add(&vec!["x"; family.labels.len()], 1u64));
        }
    });
    let typed: Vec<_> = text
        .lines()
        .filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let unique: BTreeSet<_> = typed.iter().copied().collect();
    assert_eq!(typed.len(), unique.len(), "a family is written twice");
    assert_eq!(unique, ALL.iter().map(|f| f.name).collect());
    for family in ALL {
        let sampled = text.lines().any(|l| {
            l.strip_prefix(family.name)
                .is_some_and(|rest| rest.starts_with([' ', '{', '_']) && !l.starts_with('#'))
        });
        assert!(sampled, "{} has no sample", family.name);
    }
}

#[test]
fn every_line_of_a_scrape_is_well_formed() {
    let text = busy().render(Exposition::OpenMetrics, |_| {});
    assert!(text.ends_with("# EOF\n"));
    let pattern = regex::Regex::new(
        r#"^(# (HELP|TYPE) tidegate_\w+ .+|# EOF|tidegate_\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? -?[0-9.e-]+)$"#,
    )
    .unwrap();
    for line in text.lines() {
        assert!(pattern.is_match(line), "{line}");
    }
}
