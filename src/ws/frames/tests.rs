//! The scanner against whole conversations, torn anywhere.

use super::*;
use proptest::prelude::*;

fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = vec![first];
    let bit = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        len @ 0..=125 => out.push(bit | len as u8),
        len @ 126..=0xffff => {
            out.push(bit | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(bit | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    let key = mask.unwrap_or_default();
    if mask.is_some() {
        out.extend(key);
    }
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(b, m)| b ^ m));
    out
}

/// Shows the pieces one after another; what was passed on, the heads seen, and what ended it.
fn run(scanner: &mut Scanner, pieces: &[&[u8]]) -> (Vec<u8>, Vec<Frame>, Option<Stop>) {
    let (mut passed, mut seen) = (Vec::new(), Vec::new());
    for piece in pieces {
        let scanned = scanner.scan(piece, |frame| {
            seen.push(*frame);
            true
        });
        passed.extend_from_slice(scanned.held());
        passed.extend_from_slice(&piece[..scanned.pass]);
        if scanned.stop.is_some() {
            return (passed, seen, scanned.stop);
        }
    }
    (passed, seen, None)
}

fn torn<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let (mut pieces, mut at) = (Vec::new(), 0);
    for cut in cuts {
        pieces.push(&bytes[at..cut]);
        at = cut;
    }
    pieces.push(&bytes[at..]);
    pieces
}

fn frames() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let data = (prop_oneof![Just(0x81_u8), Just(0x82)], 0..400_usize);
    let long = (Just(0x82_u8), 65_500..66_000_usize);
    let ping = (prop_oneof![Just(0x89_u8), Just(0x8a)], 0..126_usize);
    let one = prop_oneof![6 => data, 1 => long, 3 => ping].prop_map(|(first, len)| (first, vec![7; len]));
    prop::collection::vec(one, 0..6)
}

proptest! {
    #[test]
    fn however_it_is_torn_everything_passes_and_every_frame_is_seen(
        frames in frames(),
        cuts in prop::collection::vec(any::<usize>(), 0..40),
        client in any::<bool>(),
    ) {
        let mask = client.then_some([1, 2, 3, 4]);
        let speaker = if client { Speaker::Client } else { Speaker::Server };
        let bytes: Vec<u8> = frames.iter().flat_map(|(first, payload)| frame(*first, payload, mask)).collect();
        let mut scanner = Scanner::new(speaker);
        let (passed, seen, stop) = run(&mut scanner, &torn(&bytes, &cuts));
        prop_assert_eq!(stop, None);
        prop_assert_eq!(passed, bytes);
        prop_assert!(scanner.is_between_frames() && scanner.held().is_empty());
        let lengths: Vec<u64> = frames.iter().map(|(_, payload)| payload.len() as u64).collect();
        prop_assert_eq!(seen.iter().map(|frame| frame.len).collect::<Vec<_>>(), lengths);
    }

    #[test]
    fn no_bytes_whatever_make_it_panic_or_pass_more_than_came(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let whole = run(&mut Scanner::new(Speaker::Client), &[&bytes]);
        let pieces = run(&mut Scanner::new(Speaker::Client), &torn(&bytes, &cuts));
        prop_assert!(bytes.starts_with(&whole.0));
        prop_assert_eq!(&whole.0, &pieces.0);
        prop_assert_eq!(whole.1, pieces.1);
        prop_assert_eq!(whole.2, pieces.2);
    }
}

#[test]
fn between_frames_is_known_at_every_byte() {
    let bytes = [frame(0x81, b"hello", None), frame(0x89, b"", None)].concat();
    let mut scanner = Scanner::new(Speaker::Server);
    let mut between = Vec::new();
    let mut passed = 0;
    for byte in &bytes {
        let scanned = scanner.scan(std::slice::from_ref(byte), |_| true);
        passed += scanned.held().len() + scanned.pass;
        between.push((passed, scanner.is_between_frames()));
    }
    // The head's first byte is held: nothing of it went out, so a frame of ours still may.
    assert_eq!(between[0], (0, true));
    assert_eq!(between[1], (2, false));
    assert_eq!(between[5], (6, false));
    assert_eq!(between[6], (7, true));
    assert_eq!(between[7], (7, true));
    assert_eq!(between[8], (9, true));
}

#[test]
fn a_message_in_pieces_is_one_message_with_control_frames_in_between() {
    let bytes = [
        frame(0x01, b"abc", None),
        frame(0x89, b"ping", None),
        frame(0x00, b"de", None),
        frame(0x80, b"f", None),
    ]
    .concat();
    let (_, seen, stop) = run(&mut Scanner::new(Speaker::Server), &[&bytes]);
    assert_eq!(stop, None);
    let sizes: Vec<_> = seen.iter().map(|frame| (frame.message, frame.last)).collect();
    assert_eq!(sizes, [(3, false), (0, true), (5, false), (6, true)]);
}

#[test]
fn a_close_code_is_read_through_the_mask() {
    let bytes = frame(0x88, &[0x03, 0xe9, b'x'], Some([9, 8, 7, 6]));
    for cut in 0..bytes.len() {
        let (passed, seen, stop) = run(
            &mut Scanner::new(Speaker::Client),
            &[&bytes[..cut], &bytes[cut..]],
        );
        assert_eq!((stop, seen[0].code), (None, Some(1001)), "cut at {cut}");
        assert_eq!(passed, bytes, "cut at {cut}");
    }
    let (_, seen, _) = run(&mut Scanner::new(Speaker::Server), &[&frame(0x88, b"", None)]);
    assert_eq!(seen[0].code, None);
}

#[test]
fn what_is_no_frame_ends_it_before_it_is_passed_on() {
    let good = frame(0x81, b"x", None);
    for bad in [
        frame(0x81, b"x", Some([1; 4])),
        frame(0x83, b"x", None),
        frame(0x09, b"x", None),
        frame(0x89, &[0; 126], None),
        frame(0x80, b"x", None),
        [frame(0x01, b"x", None), frame(0x01, b"y", None)].concat(),
        vec![0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0],
        vec![0x88, 1, 3],
    ] {
        let bytes = [good.clone(), bad.clone()].concat();
        let (passed, _, stop) = run(&mut Scanner::new(Speaker::Server), &[&bytes]);
        assert!(matches!(stop, Some(Stop::Malformed(_))), "{bad:x?}");
        assert!(
            passed.len() < bytes.len() && passed.starts_with(&good),
            "{bad:x?}"
        );
    }
}

#[test]
fn an_unwanted_frame_is_not_passed_on_even_if_its_head_was_torn() {
    let bytes = [frame(0x81, b"ok", None), frame(0x82, &[0; 300], None)].concat();
    for cut in 0..bytes.len() {
        let mut scanner = Scanner::new(Speaker::Server);
        let mut passed = Vec::new();
        for piece in [&bytes[..cut], &bytes[cut..]] {
            let scanned = scanner.scan(piece, |frame| frame.message < 300);
            passed.extend_from_slice(scanned.held());
            passed.extend_from_slice(&piece[..scanned.pass]);
            if scanned.stop.is_some() {
                assert_eq!(scanned.stop, Some(Stop::Unwanted));
                break;
            }
        }
        assert_eq!(passed, frame(0x81, b"ok", None), "cut at {cut}");
    }
}

#[test]
fn our_own_frames_are_frames() {
    for (speaker, mask) in [(Speaker::Server, None), (Speaker::Client, Some([5, 6, 7, 8]))] {
        let (close, len) = control(CLOSE, 1012_u16.to_be_bytes(), 2, mask);
        let (ping, ping_len) = control(PING, [0; 2], 0, mask);
        let bytes = [&ping[..ping_len], &close[..len]].concat();
        let (_, seen, stop) = run(&mut Scanner::new(speaker), &[&bytes]);
        assert_eq!(stop, None);
        assert_eq!((seen[0].opcode, seen[0].len), (PING, 0));
        assert_eq!((seen[1].opcode, seen[1].code), (CLOSE, Some(1012)));
    }
}
