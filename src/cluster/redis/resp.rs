//! The protocol of Redis, version 3, as far as a client needs it: pure, bytes in and values out.
//!
//! Every length is checked before anything is kept for it, and what a server pushes on its own is a value of its own
//! kind, so that it can never be taken for an answer.
//!
//! A text that is longer than any of ours is passed over as it comes, and an error stands in its place: whatever
//! somebody puts into a key or says on a channel, the connection and all else that is said on it go on.

use bytes::{Bytes, BytesMut};
use tokio::io::{self, AsyncRead, AsyncReadExt};

/// Longest text in a reply that is kept.
const MAX_TEXT: usize = 2 << 20;
/// Longest text that is passed over: no Redis says longer ones.
const LONGEST_TEXT: usize = 512 << 20;
/// What stands in place of one that was.
const PASSED_OVER: &[u8] = b"-TOOLARGE a text that is longer than any of ours\r\n";
/// Longest line: numbers, statuses, errors.
const MAX_LINE: usize = 8 << 10;
/// Longest reply in all.
pub const MAX_REPLY: usize = 8 << 20;
/// Most values in one reply.
const MAX_VALUES: usize = 64 << 10;
const MAX_DEPTH: usize = 8;

/// A value that a server sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Nil,
    Int(i64),
    Bool(bool),
    Double(f64),
    /// Of either kind.
    Text(Bytes),
    Error(String),
    /// Sets are lists here.
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
    /// Sent without having been asked for.
    Push(Vec<Self>),
}

/// Why bytes are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Nothing that Redis would say.
    NotRedis,
    TooLarge,
}

impl Value {
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    #[must_use]
    pub fn bytes(&self) -> Option<Bytes> {
        match self {
            Self::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// A number, also one that is written out.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Text(_) => self.text()?.parse().ok(),
            _ => None,
        }
    }

    /// A number that is never below zero.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        u64::try_from(self.number()?).ok()
    }

    #[must_use]
    pub fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(values) => Some(values),
            _ => None,
        }
    }

    /// What stands at a key, in a map or in a list of pairs.
    #[must_use]
    pub fn at(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(pairs) => pairs
                .iter()
                .find(|(name, _)| name.text() == Some(key))
                .map(|(_, value)| value),
            Self::List(values) => values
                .chunks_exact(2)
                .find(|pair| pair.first().and_then(Self::text) == Some(key))
                .and_then(|pair| pair.get(1)),
            _ => None,
        }
    }
}

/// Writes a command behind what is there.
pub fn command(out: &mut Vec<u8>, args: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads the first reply in `bytes`, and how long it is; `None` while it is not whole.
///
/// # Errors
/// It will never be a reply that is accepted.
#[cfg(test)]
fn parse(bytes: &[u8]) -> Result<Option<(Value, usize)>, Bad> {
    let mut reader = Reader::of(bytes);
    match reader.value(0) {
        Ok(value) => Ok(Some((value, reader.at))),
        Err(Stop::Partial) if bytes.len() >= MAX_REPLY => Err(Bad::TooLarge),
        Err(Stop::Partial) => Ok(None),
        Err(Stop::Long(_)) => Err(Bad::TooLarge),
        Err(Stop::Bad(bad)) => Err(bad),
    }
}

/// What a server sent and nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: BytesMut,
    /// So many of the bytes that come next belong to a text that is passed over.
    skip: usize,
}

impl Inbox {
    /// Reads what comes, as [`AsyncReadExt::read`] does. May be cancelled without loss.
    ///
    /// # Errors
    /// As reading has them.
    pub async fn read_from(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        room: usize,
    ) -> io::Result<usize> {
        self.bytes.reserve(room);
        let read = stream.read_buf(&mut self.bytes).await?;
        let kept = self.bytes.len() - read;
        let skipped = read.min(self.skip);
        if skipped > 0 {
            let after = self.bytes.split_off(kept + skipped);
            self.bytes.truncate(kept);
            self.bytes.unsplit(after);
            self.skip -= skipped;
        }
        Ok(read)
    }

    /// The next reply; `None` while it is not whole.
    ///
    /// # Errors
    /// It will never be one that is accepted.
    pub fn next(&mut self) -> Result<Option<Value>, Bad> {
        loop {
            let mut reader = Reader::of(&self.bytes);
            match reader.value(0) {
                Ok(value) => {
                    let length = reader.at;
                    bytes::Buf::advance(&mut self.bytes, length);
                    return Ok(Some(value));
                }
                Err(Stop::Long(long)) => self.pass_over(&long),
                Err(Stop::Partial) if self.bytes.len() >= MAX_REPLY => return Err(Bad::TooLarge),
                Err(Stop::Partial) => return Ok(None),
                Err(Stop::Bad(bad)) => return Err(bad),
            }
        }
    }

    fn pass_over(&mut self, long: &Long) {
        let mut after = self.bytes.split_off(long.text);
        let all = long.length + 2;
        let here = all.min(after.len());
        bytes::Buf::advance(&mut after, here);
        self.skip = all - here;
        self.bytes.truncate(long.begin);
        self.bytes.extend_from_slice(PASSED_OVER);
        self.bytes.extend_from_slice(&after);
    }
}

/// A text that is longer than any of ours.
struct Long {
    /// Where its length begins, and where itself.
    begin: usize,
    text: usize,
    length: usize,
}

enum Stop {
    Partial,
    Long(Long),
    Bad(Bad),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values: usize,
}

const NOT_REDIS: Stop = Stop::Bad(Bad::NotRedis);

impl<'a> Reader<'a> {
    const fn of(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            values: 0,
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        self.values += 1;
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            return Err(Stop::Bad(Bad::TooLarge));
        }
        let kind = *self.bytes.get(self.at).ok_or(Stop::Partial)?;
        if !b"+-:$*_#,(!=%~>|".contains(&kind) {
            return Err(NOT_REDIS);
        }
        let begin = self.at;
        self.at += 1;
        let line = self.line()?;
        match kind {
            b'+' => Ok(Value::Text(Bytes::copy_from_slice(line))),
            b'-' => Ok(Value::Error(String::from_utf8_lossy(line).into_owned())),
            b':' => Ok(Value::Int(number(line)?)),
            b'_' => Ok(Value::Nil),
            b'#' => Ok(Value::Bool(line == b"t")),
            b',' => Ok(Value::Double(double(line)?)),
            // A number that no number of ours holds.
            b'(' => Ok(Value::Text(Bytes::copy_from_slice(line))),
            b'$' | b'=' | b'!' => self.text(begin, line, kind),
            b'*' | b'~' | b'>' => {
                let Some(count) = length(line, MAX_VALUES)? else {
                    return Ok(Value::Nil);
                };
                let values = self.values(count, depth)?;
                Ok(if kind == b'>' {
                    Value::Push(values)
                } else {
                    Value::List(values)
                })
            }
            b'%' => Ok(Value::Map(self.pairs(line, depth)?)),
            // Something about the value that follows.
            _ => {
                self.pairs(line, depth)?;
                self.value(depth + 1)
            }
        }
    }

    fn values(&mut self, count: usize, depth: usize) -> Result<Vec<Value>, Stop> {
        // What is claimed is not what comes.
        let mut values = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            values.push(self.value(depth + 1)?);
        }
        Ok(values)
    }

    fn pairs(&mut self, line: &[u8], depth: usize) -> Result<Vec<(Value, Value)>, Stop> {
        let count = length(line, MAX_VALUES)?.unwrap_or(0);
        let mut pairs = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            let key = self.value(depth + 1)?;
            pairs.push((key, self.value(depth + 1)?));
        }
        Ok(pairs)
    }

    fn text(&mut self, begin: usize, line: &[u8], kind: u8) -> Result<Value, Stop> {
        let Some(length) = length(line, LONGEST_TEXT)? else {
            return Ok(Value::Nil);
        };
        // Or one too many in a reply that would be too long with it.
        if length > MAX_TEXT || self.at + length > MAX_REPLY - MAX_TEXT {
            return Err(Stop::Long(Long {
                begin,
                text: self.at,
                length,
            }));
        }
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some((text, end)) = rest.split_at_checked(length) else {
            return Err(Stop::Partial);
        };
        match end {
            [b'\r', b'\n', ..] => {}
            [] | [b'\r'] => return Err(Stop::Partial),
            _ => return Err(NOT_REDIS),
        }
        self.at += length + 2;
        Ok(match kind {
            b'!' => Value::Error(String::from_utf8_lossy(text).into_owned()),
            // "txt:" stands before a text that says of which kind it is.
            b'=' => Value::Text(Bytes::copy_from_slice(text.get(4..).unwrap_or_default())),
            _ => Value::Text(Bytes::copy_from_slice(text)),
        })
    }

    /// To the end of the line.
    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', rest.get(..MAX_LINE).unwrap_or(rest)) else {
            return Err(if rest.len() >= MAX_LINE {
                Stop::Bad(Bad::TooLarge)
            } else {
                Stop::Partial
            });
        };
        let line = rest.get(..end).and_then(|line| line.strip_suffix(b"\r"));
        self.at += end + 1;
        line.ok_or(NOT_REDIS)
    }
}

fn number(line: &[u8]) -> Result<i64, Stop> {
    let text = std::str::from_utf8(line).map_err(|_| NOT_REDIS)?;
    text.parse().map_err(|_| NOT_REDIS)
}

fn double(line: &[u8]) -> Result<f64, Stop> {
    let text = std::str::from_utf8(line).map_err(|_| NOT_REDIS)?;
    text.parse().map_err(|_| NOT_REDIS)
}

/// A length; none where it is -1, which was once how nothing was written.
fn length(line: &[u8], max: usize) -> Result<Option<usize>, Stop> {
    let length = number(line)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| NOT_REDIS)?;
    if length > max {
        return Err(Stop::Bad(Bad::TooLarge));
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(bytes: &[u8]) -> Value {
        let (value, length) = parse(bytes).unwrap().expect("a whole reply");
        assert_eq!(length, bytes.len());
        value
    }

    fn text(text: &str) -> Value {
        Value::Text(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn every_kind_of_value_is_read() {
        assert_eq!(whole(b"+OK\r\n"), text("OK"));
        assert_eq!(whole(b"-ERR no\r\n"), Value::Error("ERR no".into()));
        assert_eq!(whole(b":-7\r\n"), Value::Int(-7));
        assert_eq!(whole(b"$3\r\na\nb\r\n"), text("a\nb"));
        assert_eq!(whole(b"$-1\r\n"), Value::Nil);
        assert_eq!(whole(b"_\r\n"), Value::Nil);
        assert_eq!(whole(b"#t\r\n"), Value::Bool(true));
        assert_eq!(whole(b",1.5\r\n"), Value::Double(1.5));
        assert_eq!(whole(b"=6\r\ntxt:hi\r\n"), text("hi"));
        assert_eq!(whole(b"!4\r\nOOM \r\n"), Value::Error("OOM ".into()));
        assert_eq!(
            whole(b"*2\r\n:1\r\n*0\r\n"),
            Value::List(vec![Value::Int(1), Value::List(vec![])])
        );
        assert_eq!(whole(b"~1\r\n:1\r\n"), Value::List(vec![Value::Int(1)]));
        assert_eq!(
            whole(b"%1\r\n+role\r\n+master\r\n").at("role"),
            Some(&text("master"))
        );
        assert_eq!(
            whole(b"*2\r\n+role\r\n+master\r\n").at("role"),
            Some(&text("master"))
        );
        assert_eq!(whole(b">1\r\n+x\r\n"), Value::Push(vec![text("x")]));
        assert_eq!(whole(b"|1\r\n+ttl\r\n:1\r\n:5\r\n"), Value::Int(5));
    }

    #[test]
    fn what_redis_would_not_say_is_known_at_once() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"SSH-2.0-x\r\n",
            b"\x15\x03\x01",
            b":x\r\n",
            b"+x\n",
            b"$2\r\nabcd",
        ] {
            assert_eq!(parse(bytes), Err(Bad::NotRedis), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_claimed_is_bounded_before_it_comes() {
        for bytes in [&b"$99999999999\r\n"[..], b"*999999999\r\n", b"%70000\r\n"] {
            assert_eq!(parse(bytes), Err(Bad::TooLarge), "{bytes:?}");
        }
        assert_eq!(parse(&b"*1\r\n".repeat(1000)), Err(Bad::TooLarge));
        assert_eq!(parse(&[b'+'; MAX_LINE + 2]), Err(Bad::TooLarge));
        let inner = [&b"*1000\r\n"[..], &b"+\r\n".repeat(1000)].concat();
        let nested = [&b"*100\r\n"[..], &inner.repeat(100)].concat();
        assert_eq!(parse(&nested), Err(Bad::TooLarge));
    }

    #[test]
    fn a_command_is_a_list_of_texts() {
        let mut out = Vec::new();
        command(&mut out, &[b"GET", b"a\r\nb"]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n");
        assert_eq!(whole(&out), Value::List(vec![text("GET"), text("a\r\nb")]));
    }

    /// Gives everything that a server says, which comes in pieces of such a size.
    fn said(bytes: &[u8], piece: usize) -> Vec<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut inbox, mut rest, mut values) = (Inbox::default(), bytes, Vec::new());
            while !rest.is_empty() {
                let (mut now, later) = rest.split_at(piece.min(rest.len()));
                while !now.is_empty() {
                    inbox.read_from(&mut now, 1 << 10).await.unwrap();
                }
                rest = later;
                while let Some(value) = inbox.next().unwrap() {
                    values.push(value);
                }
                assert!(inbox.bytes.len() <= MAX_REPLY + (1 << 10));
            }
            assert_eq!((inbox.skip, inbox.bytes.len()), (0, 0));
            values
        })
    }

    #[test]
    fn a_text_that_is_too_long_is_passed_over_and_nothing_else() {
        let long = [&b"$3000000\r\n"[..], &vec![b'\n'; 3_000_000], b"\r\n"].concat();
        let all = [
            &b"+a\r\n*3\r\n:1\r\n"[..],
            &long,
            b"$2\r\nhi\r\n",
            &long,
            b":7\r\n",
        ]
        .concat();
        let gone = Value::Error("TOOLARGE a text that is longer than any of ours".into());
        for piece in [977, 65_536, all.len()] {
            let list = Value::List(vec![Value::Int(1), gone.clone(), text("hi")]);
            assert_eq!(
                said(&all, piece),
                [text("a"), list, gone.clone(), Value::Int(7)],
                "{piece}"
            );
        }
    }

    #[test]
    fn of_texts_that_are_too_many_for_one_reply_the_last_ones_are_passed_over() {
        let one = [&b"$1900000\r\n"[..], &vec![b'x'; 1_900_000], b"\r\n"].concat();
        let all = [&b"*9\r\n"[..], &one.repeat(9), b"+after\r\n"].concat();
        let values = said(&all, 50_000);
        let list = values[0].list().unwrap();
        let kept = list.iter().filter(|value| value.bytes().is_some()).count();
        assert_eq!((list.len(), kept), (9, 3));
        assert_eq!(values[1], text("after"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in "[-+:$*_#,(!=%~>|0-9a\r\n]{0,200}") {
            drop(parse(bytes.as_bytes()));
        }

        #[test]
        fn a_reply_in_pieces_is_the_same_reply(cut in 0_usize..58) {
            let bytes = b"%2\r\n$6\r\nserver\r\n+redis\r\n+id\r\n*3\r\n:1\r\n$0\r\n\r\n-ERR x\r\n";
            let whole = parse(bytes).unwrap();
            prop_assert!(whole.is_some());
            if cut < bytes.len() {
                prop_assert_eq!(parse(&bytes[..cut]).unwrap(), None);
            }
        }
    }
}
