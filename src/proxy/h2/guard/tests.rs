use super::*;
use proptest::prelude::*;
use std::time::Duration;

const ALLOWED: Allowed = Allowed {
    streams: 128,
    continuations: 5,
};

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
    bytes.extend_from_slice(payload);
    bytes
}

fn guard(now: Instant) -> Guard {
    let mut guard = Guard::new(ALLOWED, now);
    guard.received(PREFACE, now);
    guard
}

/// How many of a frame are taken before they are too many.
fn most(bytes: &[u8]) -> usize {
    let now = Instant::now();
    let mut guard = guard(now);
    for n in 0..1_000_000 {
        guard.received(bytes, now);
        if guard.found().is_some() {
            return n;
        }
    }
    usize::MAX
}

fn abuse(bytes: &[u8]) -> Option<Abuse> {
    let now = Instant::now();
    let mut guard = guard(now);
    for _ in 0..10_000 {
        guard.received(bytes, now);
    }
    guard.found()
}

#[test]
fn each_flood_is_found_and_told_apart() {
    let headers = frame(1, END_HEADERS | END_STREAM, b"h");
    let reset = frame(3, 0, &[0, 0, 0, 8]);
    assert_eq!(abuse(&[headers, reset].concat()), Some(Abuse::RapidReset));
    assert_eq!(abuse(&frame(4, 0, &[])), Some(Abuse::Settings));
    assert_eq!(abuse(&frame(6, 0, &[0; 8])), Some(Abuse::Ping));
    assert_eq!(abuse(&frame(0, 0, &[])), Some(Abuse::Empty));
    assert_eq!(abuse(&frame(1, END_HEADERS, &[])), Some(Abuse::Empty));
    assert_eq!(abuse(&frame(9, 0, b"h")), Some(Abuse::Continuation));
    assert_eq!(abuse(&frame(2, 0, &[0; 5])), Some(Abuse::Control));
    assert_eq!(abuse(&frame(8, 0, &[0, 0, 0, 1])), Some(Abuse::Control));
    assert_eq!(abuse(&frame(6, ACK, &[0; 8])), Some(Abuse::Control));
    assert_eq!(abuse(&frame(77, 0, b"?")), Some(Abuse::Control));
}

#[test]
fn what_clients_do_in_earnest_is_none() {
    let data = frame(0, 0, b"payload");
    let update = frame(8, 0, &[0, 0, 0, 7]);
    let ping = frame(6, 0, &[0; 8]);
    assert_eq!(abuse(&[&data[..], &update, &update, &ping].concat()), None);
    assert_eq!(abuse(&frame(0, END_STREAM, &[])), None, "the end of a body");
    assert_eq!(abuse(&frame(4, ACK, &[])), None);
    assert!(
        most(&frame(3, 0, &[0, 0, 0, 8])) >= 2 * 128,
        "a page that is left"
    );
}

#[test]
fn answered_requests_pay_for_resets() {
    let now = Instant::now();
    let mut guard = guard(now);
    for _ in 0..10_000 {
        guard.received(&frame(3, 0, &[0, 0, 0, 8]), now);
        guard.sent(&frame(1, END_HEADERS | END_STREAM, b"h"));
    }
    assert_eq!(guard.found(), None);
    assert_eq!(guard.take_codes().unwrap().resets_received[8], 10_000);
    assert!(guard.take_codes().is_none());
}

#[test]
fn what_was_spent_comes_back_with_time() {
    let start = Instant::now();
    let mut guard = guard(start);
    for second in 0..1000 {
        guard.received(
            &frame(6, 0, &[0; 8]).repeat(10),
            start + Duration::from_secs(second),
        );
    }
    assert_eq!(guard.found(), None);
}

#[test]
fn resets_that_the_client_provokes_are_told_from_our_own() {
    let reset = |code: u8| frame(3, 0, &[0, 0, 0, code]);
    let now = Instant::now();
    let mut ours = guard(now);
    let mut provoked = guard(now);
    for _ in 0..1000 {
        for code in [0, 2, 8] {
            ours.sent(&reset(code));
        }
        provoked.sent(&reset(1));
    }
    assert_eq!(ours.found(), None);
    assert_eq!(provoked.found(), Some(Abuse::MadeYouReset));
    assert_eq!(provoked.take_codes().unwrap().resets_sent[1], 1000);
}

#[test]
fn the_engines_words_for_what_it_had_enough_of_are_understood() {
    let now = Instant::now();
    for (text, found) in [
        ("header_list_way_too_large", Some(Abuse::HeaderBomb)),
        ("too_many_continuations", Some(Abuse::Continuation)),
        ("too_many_data_frames", Some(Abuse::SmallFrames)),
        ("too_many_internal_resets", Some(Abuse::MadeYouReset)),
        ("too_many_resets", Some(Abuse::RapidReset)),
        ("too_little", None),
        ("", None),
    ] {
        let mut guard = guard(now);
        guard.sent(&frame(7, 0, &[&[0; 8], text.as_bytes()].concat()));
        guard.sent(&frame(0, 0, b"behind it"));
        assert_eq!(guard.found(), found, "{text}");
    }
}

#[test]
fn requests_that_ran_for_long_pay_for_being_taken_back() {
    let now = Instant::now();
    let mut guard = guard(now);
    for _ in 0..10_000 {
        guard.received(&frame(3, 0, &[0, 0, 0, 8]), now);
        guard.excuse_reset();
    }
    assert_eq!(guard.found(), None);
}

#[test]
fn an_end_is_counted_by_its_code_and_by_who_said_it_unless_it_is_in_order() {
    let now = Instant::now();
    let mut guard = guard(now);
    let end = |code: u8, text: &[u8]| frame(7, 0, &[&[0, 0, 0, 9, 0, 0, 0, code], text].concat());
    guard.received(&end(2, b"short"), now);
    guard.sent(&end(11, b"quite a long text"));
    guard.sent(&end(1, b""));
    let codes = guard.take_codes().unwrap();
    assert_eq!(
        (codes.ends_received[2], codes.ends_sent[11], codes.ends_sent[1]),
        (1, 1, 1)
    );
    guard.sent(&end(0, b""));
    guard.received(&frame(7, 0, &[0; 7]), now);
    assert_eq!(guard.take_codes(), None);
}

#[test]
fn a_head_is_incomplete_until_its_end() {
    let now = Instant::now();
    let mut guard = guard(now);
    assert_eq!(guard.head_since(), None);
    guard.received(&frame(1, 0, b"h"), now);
    guard.received(&frame(9, 0, b"h"), now + Duration::from_secs(1));
    assert_eq!(guard.head_since(), Some(now));
    guard.received(&frame(9, END_HEADERS, b"h"), now + Duration::from_secs(2));
    assert_eq!(guard.head_since(), None);
}

#[test]
fn an_unknown_code_is_counted_among_the_last() {
    let now = Instant::now();
    let mut guard = guard(now);
    guard.received(&frame(3, 0, &[0xff; 4]), now);
    assert_eq!(
        guard.take_codes().unwrap().resets_received[RESET_CODES.len() - 1],
        1
    );
}

proptest! {
    #[test]
    fn frames_are_seen_the_same_however_they_are_cut(
        frames in proptest::collection::vec((0u8..12, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..30),
        cuts in proptest::collection::vec(1usize..50, 1..60),
    ) {
        let all: Vec<u8> = frames.iter().flat_map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect();
        let whole = {
            let mut seen = Vec::new();
            Scanner::behind(0).scan(&all, |frame| seen.push(frame));
            seen
        };
        prop_assert_eq!(whole.len(), frames.len());
        for (seen, (kind, flags, payload)) in whole.iter().zip(&frames) {
            prop_assert_eq!(seen.kind, Kind::of(*kind));
            prop_assert_eq!(seen.flags, *flags);
            prop_assert_eq!(seen.length as usize, payload.len());
        }
        let (mut seen, mut scanner, mut rest) = (Vec::new(), Scanner::behind(0), &all[..]);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            scanner.scan(piece, |frame| seen.push(frame));
            rest = after;
        }
        prop_assert_eq!(seen, whole);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let now = Instant::now();
        let mut guard = Guard::new(ALLOWED, now);
        guard.received(&bytes, now);
        guard.sent(&bytes);
    }
}
