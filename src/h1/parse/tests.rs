use super::*;
use crate::h1::write::{request_head, response_head};
use crate::message::edits::Edits;
use crate::message::framing::BodyKind;
use proptest::prelude::*;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes: 4096,
    fields: 50,
    target_bytes: 1000,
};

/// The head of a request that is well formed, and all of the text.
pub(crate) fn request(text: &str) -> RequestHead {
    let mut buf = Box::<HeadBuf>::default();
    match parse_request(text.as_bytes(), &LIMITS, &mut 0, &mut buf) {
        Parsed::Complete { head, len } => {
            assert_eq!(len, text.len());
            head.with(buf)
        }
        other => panic!("{text:?}: {other:?}"),
    }
}

/// Everything that a parse of a head tells.
type Told = Result<Option<(String, Vec<(Vec<u8>, Vec<u8>, Name)>, usize)>, Reject>;

fn told<T: std::fmt::Debug>(parsed: Parsed<T>, buf: &HeadBuf) -> Told {
    match parsed {
        Parsed::Complete { head, len } => {
            let fields = (0..buf.fields.len())
                .map(|i| (buf.name(i).to_vec(), buf.value(i).to_vec(), buf.fields[i].id))
                .collect();
            Ok(Some((format!("{head:?}"), fields, len)))
        }
        Parsed::Partial => Ok(None),
        Parsed::Reject(reject) => Err(reject),
    }
}

fn read_request(input: &[u8], scanned: &mut usize) -> Told {
    let mut buf = Box::<HeadBuf>::default();
    let parsed = parse_request(input, &LIMITS, scanned, &mut buf);
    told(parsed, &buf)
}

fn read_response(input: &[u8], scanned: &mut usize) -> Told {
    let mut buf = Box::<HeadBuf>::default();
    let parsed = parse_response(input, &LIMITS, scanned, &mut buf);
    told(parsed, &buf)
}

/// What is told when the input grows step by step: the first word that is not "more".
fn read_growing(read: fn(&[u8], &mut usize) -> Told, input: &[u8], mut step: impl FnMut() -> usize) -> Told {
    let (mut scanned, mut len) = (0, 0);
    while len < input.len() {
        len = input.len().min(len + step().max(1));
        match read(&input[..len], &mut scanned) {
            Ok(None) => {}
            done => return done,
        }
    }
    Ok(None)
}

#[test]
fn offsets_point_at_what_was_sent() {
    let text = b"\r\nPUT /a?b HTTP/1.1\r\nHost: \t example.com \t\r\nX-A:1\r\nempty: \r\n\r\nrest";
    let mut buf = Box::<HeadBuf>::default();
    let Parsed::Complete { head, len } = parse_request(text, &LIMITS, &mut 0, &mut buf) else {
        panic!("refused")
    };
    assert_eq!(len, text.len() - 4);
    assert_eq!(buf.bytes, text[..len]);
    let head = head.with(buf);
    assert_eq!(
        (head.method, head.method_text(), head.target()),
        (Method::Put, &b"PUT"[..], &b"/a?b"[..])
    );
    assert_eq!(head.version, Version::H11);
    assert_eq!(head.buf.get(Name::Host), Some(&b"example.com"[..]));
    assert_eq!((head.buf.name(1), head.buf.value(1)), (&b"X-A"[..], &b"1"[..]));
    assert_eq!(head.buf.value(2), b"");
    assert_eq!(
        &head.buf.bytes[head.buf.line_end(0)..head.buf.line_end(1)],
        b"X-A:1\r\n"
    );
    assert_eq!(head.buf.line_end(2), len - 2);
}

#[test]
fn a_status_line_is_read() {
    let mut buf = Box::<HeadBuf>::default();
    let text = b"HTTP/1.0 418 I'm a teapot\r\na: b\r\n\r\n";
    let Parsed::Complete { head, .. } = parse_response(text, &LIMITS, &mut 0, &mut buf) else {
        panic!("refused")
    };
    let head = head.with(buf);
    assert_eq!(
        (head.version, head.status, head.reason()),
        (Version::H10, 418, &b"I'm a teapot"[..])
    );
}

#[test]
fn a_buffer_is_used_again_without_a_trace_of_the_last_head() {
    let mut buf = Box::<HeadBuf>::default();
    parse_request(
        b"GET /long HTTP/1.1\r\nHost: a\r\nTe: x\r\n\r\n",
        &LIMITS,
        &mut 0,
        &mut buf,
    );
    let done = parse_request(b"GET / HTTP/1.1\r\nA: b\r\n\r\n", &LIMITS, &mut 0, &mut buf);
    assert!(matches!(done, Parsed::Complete { .. }));
    assert!(!buf.has(Name::Host) && !buf.has(Name::Te));
    assert_eq!(buf.fields.len(), 1);
    assert_eq!(buf.bytes, b"GET / HTTP/1.1\r\nA: b\r\n\r\n");
}

#[test]
fn what_is_not_http_is_refused_with_the_first_byte_that_shows_it() {
    let cases: [&[u8]; 8] = [
        b"\x16",
        b"\x00",
        b"\x80",
        b"SSH-2.0-OpenSSH\r",
        b"\n",
        b"{",
        b"GET / HTTX",
        b"GET / HTTP/1.1\r\nHost: a\x01",
    ];
    for input in cases {
        let last = input.len() - 1;
        assert_eq!(
            read_growing(read_request, &input[..last], || 1),
            Ok(None),
            "{input:?} too early"
        );
        assert!(
            read_growing(read_request, input, || 1).is_err(),
            "{input:?} byte by byte"
        );
        assert!(read_request(input, &mut 0).is_err(), "{input:?} at once");
    }
    assert!(read_growing(read_response, b"SSH", || 1).is_err());
    assert!(read_growing(read_response, b"HTTP/1.1 2x", || 1).is_err());
}

#[test]
fn a_bad_start_line_is_refused_when_it_ends() {
    let line = [b"GET /", &[b'a'; 200][..], b" HTTP/1.1 x\r\n"].concat();
    for step in [1, 7, 100] {
        assert!(read_growing(read_request, &line, || step).is_err());
    }
}

#[test]
fn an_endless_target_is_refused_before_the_head_is_full() {
    let line = [b"GET /", &[b'a'; 1100][..]].concat();
    for step in [1, 7, 1100, 2000] {
        let reject = read_growing(read_request, &line, || step).unwrap_err();
        assert_eq!(reject.token, Token::UriTooLong);
    }
}

#[test]
fn a_head_may_be_exactly_as_long_as_the_limit() {
    let frame = b"GET / HTTP/1.1\r\nX: \r\n\r\n".len();
    let head = |len: usize| {
        [
            b"GET / HTTP/1.1\r\nX: ",
            &vec![b'a'; len - frame][..],
            b"\r\n\r\n",
        ]
        .concat()
    };
    for step in [1, 1000, 10_000] {
        assert!(matches!(
            read_growing(read_request, &head(4096), || step),
            Ok(Some(_))
        ));
        let reject = read_growing(read_request, &head(4097), || step).unwrap_err();
        assert_eq!(reject.token, Token::HeadersTooLarge);
    }
}

#[test]
fn fields_are_counted() {
    let head = |fields: usize| [b"GET / HTTP/1.1\r\n", &b"a: b\r\n".repeat(fields)[..], b"\r\n"].concat();
    assert!(matches!(read_request(&head(50), &mut 0), Ok(Some(_))));
    assert_eq!(
        read_request(&head(51), &mut 0).unwrap_err().token,
        Token::HeadersTooLarge
    );
    // Whatever the limit says, the drop bits end somewhere.
    let limits = HeadLimits {
        fields: usize::MAX,
        head_bytes: usize::MAX,
        ..LIMITS
    };
    let mut buf = Box::<HeadBuf>::default();
    let parsed = parse_request(&head(HeadBuf::MAX_FIELDS + 1), &limits, &mut 0, &mut buf);
    assert!(matches!(parsed, Parsed::Reject(_)));
}

#[test]
fn a_head_that_arrives_byte_by_byte_is_read_in_full_only_at_the_ends_of_its_parts() {
    // Counted, not timed: the opening, the end of the request line, the end of the head.
    let head = [
        b"GET /",
        &[b'a'; 900][..],
        b" HTTP/1.1\r\n",
        &b"aaa: b\r\n".repeat(40),
        b"\r\n",
    ]
    .concat();
    let mut full = 0;
    let mut scanned = 0;
    for len in 1..=head.len() {
        if scanned > 0 {
            let line_bytes = METHOD_BYTES + LIMITS.target_bytes + 12;
            full += usize::from(worth_parsing(&head[..len], scanned, line_bytes).unwrap());
        }
        assert!(read_request(&head[..len], &mut scanned).is_ok());
    }
    assert_eq!(full, OPENING_BYTES - 1 + 2);
}

/// What the quick and the careful reading make of field lines.
fn read_both_ways(input: &[u8]) -> [Option<(usize, HeadBuf)>; 2] {
    let (mut quick, mut careful) = (HeadBuf::default(), HeadBuf::default());
    let quick_len = quick::field_lines(input, 0, LIMITS.fields, &mut quick);
    let careful_len = field_lines(input, 0, LIMITS.fields, &mut careful).ok();
    [
        quick_len.map(|len| (len, quick)),
        careful_len.map(|len| (len, careful)),
    ]
}

#[test]
fn ordinary_field_lines_are_read_the_quick_way() {
    let long = "v".repeat(300);
    let lines = format!(
        "Host: a\r\nX-{long}:no-space\r\nEmpty:\r\nAccept: */*;q=0.8\r\nX: {long}\r\nTe:a\r\nTE: b\r\n\r\n"
    );
    let [quick, careful] = read_both_ways(lines.as_bytes());
    assert_eq!(quick.as_ref().map(|(len, _)| *len), Some(lines.len()));
    assert_eq!(format!("{quick:?}"), format!("{careful:?}"));
    let unusual = [
        "A_B: c",
        "A:  b",
        "A: b ",
        "A: ",
        "A:\tb",
        "A: b\tc",
        "A: caf\u{e9}",
    ];
    for line in unusual {
        let [quick, careful] = read_both_ways(format!("{line}\r\n\r\n").as_bytes());
        assert!(quick.is_none() && careful.is_some(), "{line:?}");
    }
}

proptest! {
    #[test]
    fn what_the_quick_way_reads_the_careful_way_reads_alike(
        lines in proptest::collection::vec(
            ("[A-Za-z0-9-]{0,30}", "[:_ ]?:", " {0,2}", "[ -~]{0,70}", "\r\n|\n|\r|\r\r\n|[\0-\x7f\u{80}-\u{ff}]{0,2}\r\n"),
            0..6,
        ),
        ordinary in any::<bool>(),
    ) {
        let mut text = String::new();
        for (name, colon, space, value, end) in &lines {
            let parts: [&str; 5] = if ordinary {
                [name, ":", " ", value, "\r\n"]
            } else {
                [name, colon, space, value, end]
            };
            text.extend(parts);
        }
        text.push_str("\r\n");
        if let [Some(quick), careful] = read_both_ways(text.as_bytes()) {
            prop_assert_eq!(format!("{:?}", Some(quick)), format!("{careful:?}"));
        }
    }

    #[test]
    fn any_bytes_have_one_meaning_however_they_arrive(
        input in noise(),
        steps in proptest::collection::vec(1usize..40, 1..8),
    ) {
        for read in [read_request as fn(&[u8], &mut usize) -> Told, read_response] {
            let whole = read(&input, &mut 0);
            let mut turn = steps.iter().cycle();
            let mut grow = |input: &[u8]| read_growing(read, input, || *turn.next().unwrap());
            if whole.is_ok() {
                prop_assert_eq!(grow(&input), whole);
            } else {
                // Some faults show only when the head is complete, but then they do.
                prop_assert!(!matches!(grow(&input), Ok(Some(_))));
                prop_assert!(grow(&[&input, &b"\r\n\r\n"[..]].concat()).is_err());
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back(
        method in "[A-Z]{1,12}",
        target in "/[a-z0-9/?=&%.]{0,40}",
        fields in proptest::collection::vec(("[a-zA-Z][a-zA-Z0-9-]{0,20}", "([!-~\u{e0}-\u{ff}]([ -~\t]{0,30}[!-~])?)?"), 0..20),
        drops in proptest::collection::vec(any::<bool>(), 20),
    ) {
        let framing = |name: &str| ["content-length", "transfer-encoding"].iter().any(|f| name.eq_ignore_ascii_case(f));
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut buf = Box::<HeadBuf>::default();
        let text = format!("{method} {target} HTTP/1.1\r\n{lines}\r\n");
        let Parsed::Complete { head, len } = parse_request(text.as_bytes(), &LIMITS, &mut 0, &mut buf) else {
            return Err(TestCaseError::fail(format!("refused {text:?}")));
        };
        prop_assert_eq!(len, text.len());
        let head = head.with(buf);
        let mut edits = Edits::default();
        let mut expected = Vec::new();
        for (index, (name, value)) in fields.iter().enumerate() {
            if drops[index] {
                edits.drop_index(index);
            } else if !framing(name) {
                expected.push((name.clone().into_bytes(), value.clone().into_bytes(), Name::recognise(name.as_bytes())));
            }
        }
        edits.add(b"X-Added", target.as_bytes());
        expected.push((b"X-Added".to_vec(), target.clone().into_bytes(), Name::Other));
        let mut out = Vec::new();
        request_head(&head, &edits, BodyKind::None, &mut out);
        let (line, read_back, len) = read_request(&out, &mut 0).unwrap().unwrap();
        prop_assert_eq!(len, out.len());
        prop_assert_eq!(read_back, expected);
        let again = RequestLine { method: head.method, method_text: head.method_text, target: head.target, version: head.version };
        prop_assert_eq!(line, format!("{again:?}"));
    }

    #[test]
    fn what_is_written_of_a_response_is_read_back(status in 100u16..600, reason in "[ -~]{0,20}", value in "[!-~]{0,20}") {
        let text = format!("HTTP/1.1 {status} {reason}\r\nX-A: {value}\r\n\r\n");
        let mut buf = Box::<HeadBuf>::default();
        let Parsed::Complete { head, .. } = parse_response(text.as_bytes(), &LIMITS, &mut 0, &mut buf) else {
            return Err(TestCaseError::fail(format!("refused {text:?}")));
        };
        let mut out = Vec::new();
        response_head(&head.with(buf), &Edits::default(), BodyKind::None, &mut out);
        prop_assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}

/// Bytes that look like a head often enough to get deep.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let scrap = prop_oneof![
        4 => Just(b"GET / HTTP/1.1\r\n".to_vec()),
        4 => Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
        6 => Just(b"Host: a\r\n".to_vec()),
        4 => Just(b"\r\n".to_vec()),
        1 => Just(b"X: a\tb \r\n".to_vec()),
        1 => Just(b"\r".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => Just(b" ".to_vec()),
        1 => Just(b"\t".to_vec()),
        1 => Just(b":".to_vec()),
        1 => Just(vec![b'a'; 70]),
        1 => proptest::collection::vec(any::<u8>(), 0..10),
    ];
    proptest::collection::vec(scrap, 0..10).prop_map(|scraps| scraps.concat())
}
