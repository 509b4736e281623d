//! The corpora of hostile messages, run through head, framing and body as a connection would.

use super::body::{BodyDecoder, ChunkLimits, Step};
use super::parse::{HeadLimits, Parsed, parse_request, parse_response};
use crate::message::framing::{
    BodyKind, check_request, check_response, expects_continue, request_body, response_body,
};
use crate::message::head::{HeadBuf, Method};
use crate::message::token::Reject;

const REQUESTS: &str = include_str!("../../tests/corpus/requests.txt");
const RESPONSES: &str = include_str!("../../tests/corpus/responses.txt");

const LIMITS: HeadLimits = HeadLimits {
    head_bytes: 32 * 1024,
    fields: 100,
    target_bytes: 8 * 1024,
};

/// Longest message that is tried with a cut at every place.
const CUT_EVERYWHERE: usize = 600;

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (&escape, after) = rest.split_first().expect("an escape at the end");
        rest = after;
        match escape {
            b'r' => out.push(b'\r'),
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'0' => out.push(0),
            b'\\' => out.push(b'\\'),
            b'x' => {
                let digits = std::str::from_utf8(&rest[..2]).unwrap();
                out.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &rest[2..];
            }
            b'{' => {
                let end = rest.iter().position(|&b| b == b'}').unwrap();
                let inner = std::str::from_utf8(&rest[..end]).unwrap();
                let (what, times) = inner.rsplit_once('*').unwrap();
                out.extend(unescape(what).repeat(times.parse().unwrap()));
                rest = &rest[end + 1..];
            }
            other => panic!("unknown escape {:?} in {text:?}", other as char),
        }
    }
    out
}

fn cases(corpus: &'static str, columns: usize) -> impl Iterator<Item = Vec<&'static str>> {
    corpus
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(move |line| {
            let mut cells: Vec<&str> = line.splitn(columns, '|').collect();
            assert_eq!(cells.len(), columns, "{line}");
            for cell in &mut cells[..columns - 1] {
                *cell = cell.trim();
            }
            let bytes = cells[columns - 1];
            cells[columns - 1] = bytes.strip_prefix(' ').unwrap_or(bytes);
            cells
        })
}

/// What a gateway sees of a connection: complete messages as start line and payload, and how it ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    messages: Vec<(Vec<u8>, Vec<u8>)>,
    verdict: String,
}

/// A reader that is given bytes piece by piece.
struct Connection {
    /// The method that the responses answer; `None` reads requests.
    answers: Option<Method>,
    held: Vec<u8>,
    scanned: usize,
    buf: Box<HeadBuf>,
    body: Option<(BodyKind, BodyDecoder)>,
    messages: Vec<(Vec<u8>, Vec<u8>)>,
    done: bool,
}

impl Connection {
    fn new(answers: Option<Method>) -> Self {
        Self {
            answers,
            held: Vec::new(),
            scanned: 0,
            buf: Box::default(),
            body: None,
            messages: Vec::new(),
            done: false,
        }
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Reject> {
        self.held.extend_from_slice(bytes);
        while !self.done && self.turn()? {}
        Ok(())
    }

    /// Whether there was something to do.
    fn turn(&mut self) -> Result<bool, Reject> {
        let Some((_, body)) = &mut self.body else {
            return self.head();
        };
        match body.step(&self.held)? {
            Step::Data { data, consumed } => {
                let payload = &mut self.messages.last_mut().unwrap().1;
                payload.extend_from_slice(&self.held[data]);
                self.held.drain(..consumed);
            }
            Step::Framing { consumed } => drop(self.held.drain(..consumed)),
            Step::Trailers { consumed, lines } => {
                assert!(lines.ends_with(b"\r\n"));
                self.held.drain(..consumed);
            }
            Step::NeedMore => return Ok(false),
            Step::End => {
                if self.answers.is_some() {
                    self.done = true;
                } else {
                    self.body = None;
                }
            }
        }
        Ok(true)
    }

    fn head(&mut self) -> Result<bool, Reject> {
        if self.answers.is_some() {
            self.response()
        } else {
            self.request()
        }
    }

    fn request(&mut self) -> Result<bool, Reject> {
        let mut buf = std::mem::take(&mut self.buf);
        let (line, len) = match parse_request(&self.held, &LIMITS, &mut self.scanned, &mut buf) {
            Parsed::Complete { head, len } => (head, len),
            Parsed::Partial => return Ok(false),
            Parsed::Reject(reject) => return Err(reject),
        };
        assert_eq!(buf.bytes, self.held[..len], "the buffer holds the head");
        let head = line.with(buf);
        check_request(&head)?;
        let kind = request_body(&head)?;
        expects_continue(&head)?;
        self.begin(head.buf.bytes.clone(), kind, ChunkLimits::request(&LIMITS), len);
        Ok(true)
    }

    fn response(&mut self) -> Result<bool, Reject> {
        let mut buf = std::mem::take(&mut self.buf);
        let (line, len) = match parse_response(&self.held, &LIMITS, &mut self.scanned, &mut buf) {
            Parsed::Complete { head, len } => (head, len),
            Parsed::Partial => return Ok(false),
            Parsed::Reject(reject) => return Err(reject),
        };
        let head = line.with(buf);
        check_response(&head)?;
        let kind = response_body(&head, self.answers.unwrap())?;
        self.begin(head.buf.bytes.clone(), kind, ChunkLimits::response(&LIMITS), len);
        Ok(true)
    }

    fn begin(&mut self, head: Vec<u8>, kind: BodyKind, limits: ChunkLimits, len: usize) {
        self.held.drain(..len);
        self.messages.push((head, Vec::new()));
        self.body = Some((kind, BodyDecoder::new(kind, limits)));
    }

    /// The verdict once no more bytes come.
    fn verdict(&mut self) -> &'static str {
        let Some((kind, body)) = &mut self.body else {
            let between = self.answers.is_none() && self.held.is_empty() && !self.messages.is_empty();
            return if between { "accept" } else { "incomplete" };
        };
        if body.at_eof().is_err() {
            return "incomplete";
        }
        match kind {
            _ if !self.held.is_empty() => "excess",
            BodyKind::None => "none",
            BodyKind::Length(_) => "length",
            BodyKind::Chunked => "chunked",
            BodyKind::UntilClose => "close",
        }
    }
}

fn see<'a>(answers: Option<Method>, pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    let mut connection = Connection::new(answers);
    for piece in pieces {
        if let Err(reject) = connection.receive(piece) {
            assert!(!reject.detail.is_empty());
            // What had been taken of a message that turns out to be broken depends on the cuts.
            return Seen {
                messages: Vec::new(),
                verdict: reject.token.name().to_owned(),
            };
        }
    }
    let verdict = connection.verdict().to_owned();
    Seen {
        messages: connection.messages,
        verdict,
    }
}

/// The same bytes at once, one by one, and in two pieces cut at every place.
fn see_all_ways(name: &str, answers: Option<Method>, bytes: &[u8]) -> Seen {
    let whole = see(answers, std::iter::once(bytes));
    assert_eq!(whole, see(answers, bytes.chunks(1)), "{name}: byte by byte");
    if bytes.len() <= CUT_EVERYWHERE {
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(whole, see(answers, [a, b].into_iter()), "{name}: cut at {at}");
        }
    }
    whole
}

#[test]
fn every_request_of_the_corpus_gets_its_verdict_however_it_arrives() {
    let mut count = 0;
    for case in cases(REQUESTS, 3) {
        let (verdict, name) = (case[0], case[1]);
        let expected = if verdict.ends_with('*') { "accept" } else { verdict };
        assert_eq!(
            see_all_ways(name, None, &unescape(case[2])).verdict,
            expected,
            "{name}"
        );
        count += 1;
    }
    assert!(count > 150, "the corpus has shrunk to {count}");
}

#[test]
fn every_response_of_the_corpus_gets_its_verdict_however_it_arrives() {
    let mut count = 0;
    for case in cases(RESPONSES, 4) {
        let method = Method::recognise(case[1].as_bytes());
        let seen = see_all_ways(case[2], Some(method), &unescape(case[3]));
        assert_eq!(seen.verdict, case[0], "{}", case[2]);
        count += 1;
    }
    assert!(count > 60, "the corpus has shrunk to {count}");
}
