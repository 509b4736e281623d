use super::*;
use proptest::prelude::*;

const HEAD: HeadLimits = HeadLimits {
    head_bytes: 1024,
    fields: 8,
    target_bytes: 100,
};

fn chunked() -> BodyDecoder {
    BodyDecoder::new(BodyKind::Chunked, ChunkLimits::request(&HEAD))
}

/// Pieces of the input, cut where the numbers say.
fn pieces<'a>(input: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(input.len());
    let mut from = 0;
    cuts.into_iter()
        .map(|to| &input[std::mem::replace(&mut from, to)..to])
        .collect()
}

/// What a body was found to be: payload, trailer lines, bytes after it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Body {
    payload: Vec<u8>,
    trailers: Vec<u8>,
    ended: bool,
    rest: usize,
}

fn decode(mut decoder: BodyDecoder, pieces: &[&[u8]]) -> Result<Body, Reject> {
    let mut body = Body::default();
    for piece in pieces {
        let mut at = 0;
        loop {
            let left = &piece[at..];
            let consumed = match decoder.step(left)? {
                Step::Data { data, consumed } => {
                    assert!(!data.is_empty(), "payload is never empty");
                    body.payload.extend_from_slice(&left[data]);
                    consumed
                }
                Step::Framing { consumed } => consumed,
                Step::Trailers { consumed, lines } => {
                    body.trailers = lines;
                    consumed
                }
                Step::NeedMore => break,
                Step::End => {
                    body.rest += left.len();
                    break;
                }
            };
            assert!(consumed > 0, "every step takes something");
            at += consumed;
        }
    }
    assert_eq!(decoder.payload(), body.payload.len() as u64);
    body.ended = decoder.at_eof().is_ok();
    Ok(body)
}

/// What is sent on, and how many bytes came after the body.
fn relay(pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), Reject> {
    let mut decoder = chunked();
    let (mut out, mut rest) = (Vec::new(), 0);
    for piece in pieces {
        let mut at = 0;
        while at < piece.len() && !decoder.is_end() {
            let relayed = decoder.relay_chunked(&piece[at..], &mut out)?;
            assert!(relayed.consumed > 0, "every call takes something");
            assert_eq!(
                relayed.verbatim.end, relayed.consumed,
                "nothing is taken after the run"
            );
            out.extend_from_slice(&piece[at..][relayed.verbatim]);
            at += relayed.consumed;
        }
        rest += piece.len() - at;
    }
    Ok((out, rest, decoder.is_end()))
}

/// Asserts that every size line is as plain as can be, reading it in the dullest way.
fn assert_canonical(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let end = bytes.iter().position(|&b| b == b'\r').unwrap_or(bytes.len());
        let line = std::str::from_utf8(&bytes[..end]).unwrap();
        let size = usize::from_str_radix(line, 16).unwrap_or_else(|_| panic!("size line {line:?}"));
        assert!(line == "0" || !line.starts_with(['0', '+']), "size line {line:?}");
        if size == 0 || bytes.len() < end + 2 + size + 2 {
            return;
        }
        bytes = &bytes[end + 2 + size + 2..];
    }
}

#[test]
fn a_body_with_a_length_ends_there() {
    let mut decoder = BodyDecoder::new(BodyKind::Length(5), ChunkLimits::request(&HEAD));
    assert_eq!((decoder.remaining(), decoder.announced()), (Some(5), 5));
    assert_eq!(
        decoder.step(b"hel"),
        Ok(Step::Data {
            data: 0..3,
            consumed: 3
        })
    );
    assert_eq!(
        (decoder.remaining(), decoder.payload(), decoder.announced()),
        (Some(2), 3, 5)
    );
    assert_eq!(decoder.step(b""), Ok(Step::NeedMore));
    assert_eq!(decoder.at_eof().unwrap_err().token, Token::AbortedClient);
    assert_eq!(
        decoder.step(b"loGET"),
        Ok(Step::Data {
            data: 0..2,
            consumed: 2
        })
    );
    assert!(decoder.is_end());
    assert_eq!(decoder.remaining(), Some(0));
    assert_eq!(decoder.step(b"GET"), Ok(Step::End));
    assert_eq!(decoder.at_eof(), Ok(()));
}

#[test]
fn no_body_is_at_its_end() {
    for kind in [BodyKind::None, BodyKind::Length(0)] {
        let mut decoder = BodyDecoder::new(kind, ChunkLimits::request(&HEAD));
        assert!(decoder.is_end());
        assert_eq!(decoder.step(b"x"), Ok(Step::End));
    }
}

#[test]
fn a_body_until_close_ends_by_that() {
    let mut decoder = BodyDecoder::new(BodyKind::UntilClose, ChunkLimits::response(&HEAD));
    assert_eq!(
        decoder.step(b"abc"),
        Ok(Step::Data {
            data: 0..3,
            consumed: 3
        })
    );
    assert!(!decoder.is_end());
    assert_eq!(decoder.remaining(), None);
    assert_eq!(decoder.at_eof(), Ok(()));
    assert!(decoder.is_end());
    assert_eq!(decoder.payload(), 3);
}

#[test]
fn bytes_that_went_past_are_counted() {
    let mut decoder = BodyDecoder::new(BodyKind::Length(1 << 40), ChunkLimits::response(&HEAD));
    decoder.skip(1 << 39);
    assert_eq!((decoder.payload(), decoder.remaining()), (1 << 39, Some(1 << 39)));
    assert_eq!(decoder.at_eof().unwrap_err().token, Token::AbortedUpstream);
    decoder.skip(1 << 39);
    assert!(decoder.is_end());
}

#[test]
fn a_chunk_is_one_step_when_it_is_all_there() {
    let mut decoder = chunked();
    let input = b"5;x=y\r\nhello\r\n3\r\nfoo\r\n0\r\n\r\nGET";
    assert_eq!(
        decoder.step(input),
        Ok(Step::Data {
            data: 7..12,
            consumed: 14
        })
    );
    assert_eq!(
        decoder.step(&input[14..]),
        Ok(Step::Data {
            data: 3..6,
            consumed: 8
        })
    );
    assert_eq!(decoder.step(&input[22..]), Ok(Step::Framing { consumed: 5 }));
    assert_eq!(decoder.step(&input[27..]), Ok(Step::End));
}

#[test]
fn a_chunk_announces_its_size_before_it_arrives() {
    let mut decoder = chunked();
    decoder.step(b"ffff\r\n").unwrap();
    assert_eq!((decoder.payload(), decoder.announced()), (0, 0xffff));
}

#[test]
fn trailers_that_mean_something_in_a_head_are_left_out() {
    let input = b"0\r\nx-sum: 1\r\nHost: evil\r\nContent-Length: 3\r\nContent_Length: 1\r\nX-Forwarded-For: 1\r\ngrpc-status:0\r\n\r\n";
    let body = decode(chunked(), &[input]).unwrap();
    assert_eq!(
        String::from_utf8(body.trailers).unwrap(),
        "x-sum: 1\r\ngrpc-status:0\r\n"
    );
    let (out, ..) = relay(&[input]).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "0\r\nx-sum: 1\r\ngrpc-status:0\r\n\r\n"
    );
}

#[test]
fn trailers_that_are_all_left_out_leave_a_plain_end() {
    let input = b"0\r\nHost: evil\r\n\r\n";
    assert_eq!(decode(chunked(), &[input]).unwrap().trailers, b"");
    assert_eq!(relay(&[input]).unwrap().0, b"0\r\n\r\n");
}

#[test]
fn trailers_count_even_when_they_are_left_out() {
    let flood = [&b"0\r\n"[..], &b"Host: a\r\n".repeat(9), b"\r\n"].concat();
    let refused = decode(chunked(), &[&flood]).unwrap_err();
    assert_eq!(
        (refused.token, refused.detail),
        (Token::HeadersTooLarge, "too many trailer fields")
    );
    let long = [&b"0\r\nHost: "[..], &[b'a'; 1100], b"\r\n\r\n"].concat();
    assert_eq!(
        decode(chunked(), &[&long]).unwrap_err().detail,
        "trailer section too long"
    );
}

#[test]
fn a_canonical_body_is_relayed_in_one_run() {
    let mut decoder = chunked();
    let mut made = Vec::new();
    let input = b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\nGET";
    let relay = decoder.relay_chunked(input, &mut made).unwrap();
    assert_eq!(
        relay,
        Relay {
            verbatim: 0..30,
            consumed: 30
        }
    );
    assert!(made.is_empty() && decoder.is_end());
}

#[test]
fn framing_that_is_not_canonical_is_made_anew() {
    let cases: [(&[&[u8]], &[u8]); 5] = [
        (&[b"5;ext\r\nhello\r\n0;x\r\n\r\n"], b"5\r\nhello\r\n0\r\n\r\n"),
        (&[b"005\r\nhello\r\n00\r\n\r\n"], b"5\r\nhello\r\n0\r\n\r\n"),
        (
            &[b"1", b"0\r\n0123456789abcdef\r\n0\r\n\r\n"],
            b"10\r\n0123456789abcdef\r\n0\r\n\r\n",
        ),
        (
            &[b"5\r", b"\nhello\r", b"\n0\r\n", b"\r\n"],
            b"5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            &[b"5\r\nhello\r\n5;", b"x\r\nworld\r\n0\r\n\r\n"],
            b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n",
        ),
    ];
    for (pieces, expected) in cases {
        let (out, rest, ended) = relay(pieces).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(expected));
        assert!(rest == 0 && ended);
    }
}

#[test]
fn nothing_of_a_broken_size_line_is_relayed() {
    let mut decoder = chunked();
    let mut made = Vec::new();
    let input = b"5\r\nhello\r\n5\n";
    let relay = decoder.relay_chunked(input, &mut made).unwrap();
    assert_eq!(
        relay,
        Relay {
            verbatim: 0..10,
            consumed: 10
        }
    );
    assert!(decoder.relay_chunked(&input[10..], &mut made).is_err());
    assert!(made.is_empty());
}

#[test]
fn only_chunked_bodies_are_relayed_so() {
    let mut decoder = BodyDecoder::new(BodyKind::Length(3), ChunkLimits::request(&HEAD));
    let relay = decoder.relay_chunked(b"abc", &mut Vec::new()).unwrap();
    assert_eq!(relay.consumed, 0);
}

#[derive(Clone, Debug)]
struct Chunk {
    payload: Vec<u8>,
    zeros: usize,
    upper: bool,
    extension: Option<String>,
}

fn chunk() -> impl Strategy<Value = Chunk> {
    let extension = prop_oneof![4 => Just(None), 1 => "[ -~]{0,20}".prop_map(Some)];
    let zeros = prop_oneof![4 => Just(0), 1 => 1usize..5];
    (
        proptest::collection::vec(any::<u8>(), 1..300),
        zeros,
        any::<bool>(),
        extension,
    )
        .prop_map(|(payload, zeros, upper, extension)| Chunk {
            payload,
            zeros,
            upper,
            extension,
        })
}

fn write_chunk(chunk: &Chunk, out: &mut Vec<u8>) {
    let size = format!("{}{:x}", "0".repeat(chunk.zeros), chunk.payload.len());
    let size = if chunk.upper { size.to_uppercase() } else { size };
    let extension = chunk
        .extension
        .as_ref()
        .map_or_else(String::new, |text| format!(";{text}"));
    out.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
    out.extend_from_slice(&chunk.payload);
    out.extend_from_slice(b"\r\n");
}

/// Bytes that look like chunked framing often enough to get deep.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    const SCRAPS: [&[u8]; 12] = [
        b"\r\n",
        b"0\r\n",
        b"0\r\n\r\n",
        b"3\r\nabc\r\n",
        b"1\r\n",
        b";e",
        b"X: y\r\n",
        b"\r",
        b"\n",
        b"a",
        b"00",
        b" ",
    ];
    let scrap = proptest::sample::select(&SCRAPS[..]);
    proptest::collection::vec(scrap, 0..16).prop_map(|scraps| scraps.concat())
}

proptest! {
    #[test]
    fn payload_and_trailers_come_through_however_the_body_arrives(
        chunks in proptest::collection::vec(chunk(), 0..6),
        trailers in proptest::collection::vec("x-[a-z]{1,8}: [ -~]{0,10}\r\n", 0..4),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let mut input = Vec::new();
        chunks.iter().for_each(|chunk| write_chunk(chunk, &mut input));
        write::last_chunk(trailers.concat().as_bytes(), &mut input);
        input.extend_from_slice(b"NEXT");
        let expected = Body {
            payload: chunks.iter().flat_map(|chunk| chunk.payload.clone()).collect(),
            trailers: trailers.concat().into_bytes(),
            ended: true,
            rest: 4,
        };
        prop_assert_eq!(&decode(chunked(), &pieces(&input, &cuts)).unwrap(), &expected);

        let (out, rest, ended) = relay(&pieces(&input, &cuts)).unwrap();
        prop_assert_eq!((rest, ended), (4, true));
        assert_canonical(&out);
        prop_assert_eq!(decode(chunked(), &[&out]).unwrap(), Body { rest: 0, ..expected });
    }

    #[test]
    fn any_bytes_have_one_meaning_however_they_arrive(
        input in prop_oneof![noise(), proptest::collection::vec(any::<u8>(), 0..80)],
        cuts in proptest::collection::vec(any::<usize>(), 0..6),
    ) {
        let whole = decode(chunked(), &[&input]);
        prop_assert_eq!(&decode(chunked(), &pieces(&input, &cuts)), &whole);
        match (relay(&pieces(&input, &cuts)), whole) {
            (Ok((out, rest, ended)), Ok(body)) => {
                prop_assert_eq!((rest, ended), (body.rest, body.ended));
                assert_canonical(&out);
                let onward = decode(chunked(), &[&out]).unwrap();
                prop_assert_eq!(onward.payload, body.payload);
                prop_assert_eq!(onward.trailers, body.trailers);
            }
            (Err(a), Err(b)) => prop_assert_eq!(a, b),
            (relayed, decoded) => prop_assert!(false, "{relayed:?} is not {decoded:?}"),
        }
    }
}
