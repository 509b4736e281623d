//! Verdicts and waits, step by step.

use super::*;
use proptest::prelude::*;

mod flapping;

const SECOND: Duration = Duration::from_secs(1);

fn cadence(rise: u32, fall: u32) -> Cadence {
    Cadence {
        rise,
        fall,
        interval: SECOND,
        fast_interval: Duration::from_millis(250),
        timeout: Duration::from_millis(100),
        jitter: 0.1,
        max_hold: Duration::ZERO,
    }
}

fn probe(at: u64, outcome: Result<(), Failure>) -> Probe {
    Probe {
        began: Millis(at),
        took: Duration::from_millis(3),
        status: None,
        outcome,
    }
}

/// Feeds results, one each 10 ms: `+` passes, `-` fails. What turned, as letters.
fn turns(record: &mut Record, cadence: &Cadence, results: &str) -> String {
    let mut told = String::new();
    for (at, result) in (10..).step_by(10).zip(results.chars()) {
        let outcome = if result == '+' {
            Ok(())
        } else {
            Err(Failure::Closed)
        };
        told.push(match record.note(probe(at, outcome), cadence, Millis(at + 3)) {
            None => '.',
            Some(Turn::FoundWell) => 'W',
            Some(Turn::Recovered { .. }) => 'R',
            Some(Turn::Failed { .. }) => 'F',
        });
    }
    told
}

#[test]
fn the_first_probe_decides_where_nothing_is_known() {
    for (result, told) in [("+", "W"), ("-", "F")] {
        let mut record = Record::new(Health::Pending, Millis(1));
        assert_eq!(turns(&mut record, &cadence(3, 3), result), told);
    }
}

#[test]
fn it_takes_failures_and_passes_in_a_row_to_turn_a_verdict() {
    let mut record = Record::new(Health::Healthy, Millis(1));
    let results = "--+--+---+-++-+++";
    assert_eq!(turns(&mut record, &cadence(2, 3), results), "........F...R....");
    assert_eq!(record.verdict(), Health::Healthy);
    assert_eq!(record.streaks(), (3, 0));
}

#[test]
fn pauses_shorter_than_the_fall_do_no_harm() {
    // A runtime that stops the world now and then: never three in a row.
    let mut record = Record::new(Health::Healthy, Millis(1));
    assert!(!turns(&mut record, &cadence(2, 3), &"+--".repeat(50)).contains('F'));
}

#[test]
fn a_verdict_says_why_since_when_and_how_long_it_took() {
    let mut record = Record::new(Health::Healthy, Millis(1));
    let limits = cadence(1, 2);
    let refused = Failure::Connect("connection refused".to_owned());
    assert_eq!(
        record.note(probe(100, Err(Failure::Closed)), &limits, Millis(110)),
        None
    );
    let turn = record.note(probe(200, Err(refused.clone())), &limits, Millis(250));
    let failed = Turn::Failed {
        reason: refused.clone(),
        detection: Duration::from_millis(150),
        hold: None,
    };
    assert_eq!(turn, Some(failed));
    assert_eq!((record.since(), record.reason()), (Millis(250), Some(&refused)));
    // While it is down the latest reason is the one to know.
    assert_eq!(
        record.note(probe(300, Err(Failure::Body)), &limits, Millis(310)),
        None
    );
    assert_eq!(
        (record.since(), record.reason()),
        (Millis(250), Some(&Failure::Body))
    );
    let turn = record.note(probe(400, Ok(())), &limits, Millis(450));
    let after = Duration::from_millis(200);
    assert_eq!(turn, Some(Turn::Recovered { after }));
    assert_eq!((record.since(), record.reason()), (Millis(450), None));
}

#[test]
fn only_the_last_probes_are_kept_and_all_are_counted() {
    let mut record = Record::new(Health::Pending, Millis(1));
    turns(&mut record, &cadence(1, 1), &"+-".repeat(RESULTS_KEPT));
    assert_eq!(record.results().count(), RESULTS_KEPT);
    assert_eq!(record.results().next_back().map(|p| p.began), Some(Millis(200)));
    let counts: Vec<_> = record.counts().filter(|(_, n)| *n > 0).collect();
    assert_eq!(counts, [("passed", 10), ("closed", 10)]);
    assert_eq!(record.latency.counts().count(), 10);
}

#[test]
fn every_failure_has_a_word_of_its_own() {
    let all = [
        Failure::Connect(String::new()),
        Failure::ConnectTimeout(SECOND),
        Failure::Timeout {
            within: SECOND,
            bytes: 1,
        },
        Failure::Closed,
        Failure::Malformed(""),
        Failure::Status {
            found: 503,
            accepted: "200".to_owned(),
        },
        Failure::Body,
        Failure::TooLarge(1),
        Failure::Handshake(""),
        Failure::Tls {
            fault: TlsFault::Expired,
            reason: String::new(),
        },
        Failure::Grpc(String::new()),
    ];
    let mut words: Vec<&str> = all.iter().map(Failure::token).collect();
    words.dedup();
    assert_eq!(words, RESULTS[1..]);
    assert_eq!(all[1].to_string(), "no connection within 1000 ms");
}

#[test]
fn a_failure_is_confirmed_faster_than_a_probe_may_take() {
    let limits = cadence(2, 3);
    let mut record = Record::new(Health::Healthy, Millis(1));
    turns(&mut record, &limits, "+");
    assert_eq!(record.wait(&limits, 0.0), SECOND);
    turns(&mut record, &limits, "+");
    assert_eq!(
        record.wait(&limits, 1.0),
        SECOND.mul_f64(0.9),
        "jitter only shortens"
    );
    turns(&mut record, &limits, "-");
    assert_eq!(record.wait(&limits, 0.0), limits.timeout);
    turns(&mut record, &limits, "--");
    assert_eq!(record.verdict(), Health::Unhealthy);
    assert_eq!(
        record.wait(&limits, 0.0),
        limits.fast_interval,
        "while it is down"
    );
    turns(&mut record, &limits, "+");
    assert_eq!(record.wait(&limits, 0.0), limits.fast_interval, "while it rises");
    turns(&mut record, &limits, "+");
    assert_eq!(record.wait(&limits, 0.0), limits.interval);
}

#[test]
fn after_the_first_probe_endpoints_spread_over_the_interval() {
    let limits = cadence(1, 1);
    let mut record = Record::new(Health::Pending, Millis(1));
    turns(&mut record, &limits, "+");
    assert_eq!(record.wait(&limits, 0.25), SECOND.mul_f64(0.75));
    assert_eq!(record.wait(&limits, 1.0), LEAST_WAIT);
}

#[test]
fn an_endpoint_that_hung_up_is_made_sure_of_at_once() {
    let limits = Cadence {
        timeout: SECOND,
        ..cadence(1, 3)
    };
    let mut record = Record::new(Health::Healthy, Millis(1));
    record.line_ended();
    turns(&mut record, &limits, "-");
    assert_eq!(record.wait(&limits, 0.0), HURRIED_WAIT);
    // Somebody else answers there now: no hurry any more.
    turns(&mut record, &limits, "+-");
    assert_eq!(record.wait(&limits, 0.0), limits.fast_interval);
}

#[test]
fn no_configuration_makes_probes_a_flood() {
    let tiny = Duration::from_nanos(1);
    let limits = Cadence {
        interval: tiny,
        fast_interval: tiny,
        timeout: tiny,
        ..cadence(1, 1)
    };
    let mut record = Record::new(Health::Pending, Millis(1));
    for result in ["+", "-", "-"] {
        turns(&mut record, &limits, result);
        assert_eq!(record.wait(&limits, 0.5), LEAST_WAIT);
    }
}

proptest! {
    /// An endpoint that hangs from any moment on is found within `interval + fall × timeout`.
    #[test]
    fn a_hanging_endpoint_is_found_in_time(
        fall in 1..6_u32,
        interval in 20..3_000_u64,
        fast in 10..5_000_u64,
        timeout in 10..2_000_u64,
        jitter in 0.0..1.0_f64,
        randoms in prop::collection::vec(0.0..1.0_f64, 16),
        well in 2..6_usize,
    ) {
        let limits = Cadence {
            rise: 2,
            fall,
            interval: Duration::from_millis(interval),
            fast_interval: Duration::from_millis(fast),
            timeout: Duration::from_millis(timeout),
            jitter,
            max_hold: Duration::ZERO,
        };
        let mut record = Record::new(Health::Pending, Millis(1));
        let mut random = randoms.into_iter().cycle();
        let mut now = 1;
        for _ in 0..well {
            record.note(probe(now, Ok(())), &limits, Millis(now));
            let wait = record.wait(&limits, random.next().unwrap_or(0.0));
            prop_assert!(wait <= limits.interval.max(LEAST_WAIT));
            now += wait.as_millis() as u64;
        }
        // It hung just after its last pass, so a whole wait has gone by.
        let hung = now.saturating_sub(interval);
        loop {
            let within = limits.timeout;
            let failure = Failure::Timeout { within, bytes: 0 };
            let ended = now + timeout;
            if record.note(probe(now, Err(failure)), &limits, Millis(ended)).is_some() {
                now = ended;
                break;
            }
            let next = now + record.wait(&limits, random.next().unwrap_or(0.0)).as_millis() as u64;
            now = next.max(ended);
        }
        prop_assert_eq!(record.verdict(), Health::Unhealthy);
        prop_assert!(now - hung <= interval + u64::from(fall) * timeout, "{}", now - hung);
    }

    /// Whatever comes, a verdict turns only from one to the other, and only after enough in a row.
    #[test]
    fn verdicts_follow_the_streaks(rise in 1..4_u32, fall in 1..4_u32, results in "[+-]{0,60}") {
        let limits = cadence(rise, fall);
        let mut record = Record::new(Health::Pending, Millis(1));
        let mut up = None;
        let (mut passes, mut failures) = (0, 0);
        for result in results.chars() {
            let told = turns(&mut record, &limits, &result.to_string());
            (passes, failures) = if result == '+' { (passes + 1, 0) } else { (0, failures + 1) };
            let expected = match (up, result) {
                (None, '+') => "W",
                (None, _) => "F",
                (Some(false), '+') if passes >= rise => "R",
                (Some(true), '-') if failures >= fall => "F",
                _ => ".",
            };
            prop_assert_eq!(&told, expected);
            match expected {
                "." => {}
                "F" => up = Some(false),
                _ => up = Some(true),
            }
        }
    }
}
