//! A message head as bytes plus offsets.

use super::names::Name;

/// A range of bytes inside a [`HeadBuf`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    #[must_use]
    pub const fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
    #[must_use]
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// One field line. The value is without surrounding white space; the line itself ends where the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Span,
    pub value: Span,
    pub id: Name,
}

/// The bytes of one head and the places of its fields. Reused through a free list, so that in the steady
/// state reading a head allocates nothing.
#[derive(Debug)]
pub struct HeadBuf {
    /// The head as received, from the first byte of the start line to the empty line's last byte.
    pub bytes: Vec<u8>,
    /// Field lines in the order received.
    pub fields: Vec<Field>,
    /// Per known name, one more than the index of its first field; 0 when absent.
    first: [u16; Name::COUNT],
    /// A bit per known name that is there more than once.
    repeated: u64,
}

const _: () = assert!(Name::COUNT <= u64::BITS as usize, "a bit for each name");

impl Default for HeadBuf {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            fields: Vec::new(),
            first: [0; Name::COUNT],
            repeated: 0,
        }
    }
}

impl HeadBuf {
    /// Most fields a head can hold, whatever the limits say: the drop bits and the index count to here.
    pub const MAX_FIELDS: usize = 1024;

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.first = [0; Name::COUNT];
        self.repeated = 0;
    }

    /// Appends a field; the caller keeps offsets in step with `bytes`.
    #[inline]
    pub fn push(&mut self, field: Field) {
        self.fields.push(field);
        if field.id != Name::Other {
            let first = &mut self.first[field.id as usize];
            if *first == 0 {
                *first = self.fields.len() as u16;
            } else {
                self.repeated |= 1 << (field.id as u8);
            }
        }
    }

    /// Appends field lines as the parser would.
    #[cfg(test)]
    pub(crate) fn push_lines(&mut self, lines: &[(&str, &str)]) {
        for (name, value) in lines {
            let start = self.bytes.len();
            self.bytes
                .extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            let value_start = start + name.len() + 2;
            self.push(Field {
                name: Span::new(start, start + name.len()),
                value: Span::new(value_start, value_start + value.len()),
                id: Name::recognise(name.as_bytes()),
            });
        }
    }

    #[must_use]
    pub fn has(&self, id: Name) -> bool {
        self.first[id as usize] != 0
    }

    /// Index of the first field with this known name.
    #[must_use]
    pub fn index_of(&self, id: Name) -> Option<usize> {
        (self.first[id as usize] as usize).checked_sub(1)
    }

    /// Value of the first field with this known name.
    #[must_use]
    pub fn get(&self, id: Name) -> Option<&[u8]> {
        self.index_of(id).map(|i| self.value(i))
    }

    /// Whether there is more than one field with this known name.
    #[must_use]
    pub fn repeats(&self, id: Name) -> bool {
        self.repeated & (1 << (id as u8)) != 0
    }

    /// The indexes among which all fields with this known name are.
    pub(super) fn places(&self, id: Name) -> std::ops::Range<usize> {
        match self.index_of(id) {
            None => 0..0,
            Some(first) if self.repeats(id) => first..self.fields.len(),
            Some(first) => first..first + 1,
        }
    }

    /// Values of all fields with this known name.
    pub fn all(&self, id: Name) -> impl Iterator<Item = &[u8]> {
        self.fields[self.places(id)]
            .iter()
            .filter(move |f| f.id == id)
            .map(|f| f.value.of(&self.bytes))
    }

    /// Values of all fields with this name, any case; for names from configuration.
    pub fn find<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |f| f.name.len() == name.len() && f.name.of(&self.bytes).eq_ignore_ascii_case(name))
            .map(|f| f.value.of(&self.bytes))
    }

    #[must_use]
    pub fn name(&self, index: usize) -> &[u8] {
        self.fields[index].name.of(&self.bytes)
    }
    #[must_use]
    pub fn value(&self, index: usize) -> &[u8] {
        self.fields[index].value.of(&self.bytes)
    }

    /// Where the line of this field ends, its CRLF included. The last line ends before the empty line.
    #[must_use]
    pub fn line_end(&self, index: usize) -> usize {
        match self.fields.get(index + 1) {
            Some(next) => next.name.start as usize,
            None => self.bytes.len() - 2,
        }
    }
}

/// Request methods the gateway treats specially; others are forwarded by their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    Connect,
    Other,
}

impl Method {
    /// Methods are case-sensitive (RFC 9110 section 9.1).
    #[must_use]
    pub fn recognise(text: &[u8]) -> Self {
        match text {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// RFC 9110 section 9.2.2.
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        matches!(
            self,
            Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace
        )
    }
}

/// HTTP version of a message as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    H10,
    H11,
    H2,
}

impl Version {
    /// As it stands in a log line.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::H10 => "HTTP/1.0",
            Self::H11 => "HTTP/1.1",
            Self::H2 => "HTTP/2.0",
        }
    }
}

/// The head of a request.
#[derive(Debug)]
pub struct RequestHead {
    pub buf: Box<HeadBuf>,
    pub method: Method,
    pub method_text: Span,
    /// The request target as received: origin-form, absolute-form, authority-form or `*`. Whoever makes a head has
    /// checked that all its bytes may stand in one (`bytes::is_target`).
    pub target: Span,
    pub version: Version,
}

impl RequestHead {
    #[must_use]
    pub fn target(&self) -> &[u8] {
        self.target.of(&self.buf.bytes)
    }
    #[must_use]
    pub fn method_text(&self) -> &[u8] {
        self.method_text.of(&self.buf.bytes)
    }
}

/// The head of a response.
#[derive(Debug)]
pub struct ResponseHead {
    pub buf: Box<HeadBuf>,
    pub version: Version,
    pub status: u16,
    pub reason: Span,
}

impl ResponseHead {
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        self.reason.of(&self.buf.bytes)
    }
}
