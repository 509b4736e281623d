//! The protocol of Redis, version 3, as far as a client needs it: pure, bytes in and values out.
//!
//! Every length is checked before anything is kept for it, and what a server pushes on its own is a value of its own
//! kind, so that it can never be taken for an answer.

use bytes::Bytes;

/// Longest text in a reply.
const MAX_TEXT: usize = 2 << 20;
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
pub fn parse(bytes: &[u8]) -> Result<Option<(Value, usize)>, Bad> {
    let mut reader = Reader {
        bytes,
        at: 0,
        values: 0,
    };
    match reader.value(0) {
        Ok(value) => Ok(Some((value, reader.at))),
        Err(Stop::Partial) if bytes.len() >= MAX_REPLY => Err(Bad::TooLarge),
        Err(Stop::Partial) => Ok(None),
        Err(Stop::Bad(bad)) => Err(bad),
    }
}

enum Stop {
    Partial,
    Bad(Bad),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values: usize,
}

const NOT_REDIS: Stop = Stop::Bad(Bad::NotRedis);

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        self.values += 1;
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            return Err(Stop::Bad(Bad::TooLarge));
        }
        let kind = *self.bytes.get(self.at).ok_or(Stop::Partial)?;
        if !b"+-:$*_#,(!=%~>|".contains(&kind) {
            return Err(NOT_REDIS);
        }
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
            b'$' | b'=' | b'!' => self.text(line, kind),
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

    fn text(&mut self, line: &[u8], kind: u8) -> Result<Value, Stop> {
        let Some(length) = length(line, MAX_TEXT)? else {
            return Ok(Value::Nil);
        };
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
