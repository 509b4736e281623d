//! Where frames begin and end, found out by their heads alone (RFC 6455 section 5): payloads are skipped.
//!
//! What arrives may be torn anywhere. The beginning of a head is held until the rest of it has come, 15 bytes at
//! most, so that whoever passes bytes on as he is told here is always either within a payload or between two frames,
//! and knows which.

/// Bytes of the longest head: two, a length of eight, a mask; behind that of a close frame comes its code.
const MOST_HEAD: usize = 2 + 8 + 4 + 2;
/// Bytes that a control frame may carry (section 5.5).
const MOST_CONTROL: u64 = 125;

/// Kinds of frames that are known by name here.
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;

/// Who speaks: clients mask what they send, servers do not (section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    Client,
    Server,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    /// The last of its message.
    pub last: bool,
    /// Bytes of payload.
    pub len: u64,
    /// Bytes of the message with this frame; of a control frame, 0.
    pub message: u64,
    /// What a close frame gives as its reason.
    pub code: Option<u16>,
}

impl Frame {
    #[must_use]
    pub const fn is_control(&self) -> bool {
        self.opcode >= CLOSE
    }
}

/// Why no more is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// What came is no frame.
    Malformed(&'static str),
    /// Whoever looks at frames does not want this one.
    Unwanted,
}

/// What is to be done with the bytes that were shown.
#[derive(Clone, Copy, Debug)]
pub struct Scanned {
    /// Bytes of a head that were held, which go first.
    held: [u8; MOST_HEAD],
    held_len: u8,
    /// So many of the bytes shown follow; the others are held, or not to be passed on.
    pub pass: usize,
    pub stop: Option<Stop>,
}

impl Scanned {
    /// Bytes shown before, and held since, that go first.
    #[must_use]
    pub fn held(&self) -> &[u8] {
        &self.held[..usize::from(self.held_len)]
    }
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Scanner {
    speaker: Speaker,
    /// Bytes of the present frame's payload that are still to come.
    left: u64,
    /// Bytes of the present message; `None` between messages.
    message: Option<u64>,
    head: [u8; MOST_HEAD],
    head_len: u8,
}

impl Scanner {
    #[must_use]
    pub const fn new(speaker: Speaker) -> Self {
        Self {
            speaker,
            left: 0,
            message: None,
            head: [0; MOST_HEAD],
            head_len: 0,
        }
    }

    /// Whether what was passed on ends with a whole frame, so that another may follow.
    #[must_use]
    pub const fn is_between_frames(&self) -> bool {
        self.left == 0
    }

    /// The beginning of a head that never got its end.
    #[must_use]
    pub fn held(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }

    /// Looks at what came. `wanted` sees each head before it is passed on, and may end it all there.
    #[inline]
    pub fn scan(&mut self, bytes: &[u8], mut wanted: impl FnMut(&Frame) -> bool) -> Scanned {
        let mut scanned = Scanned {
            held: [0; MOST_HEAD],
            held_len: 0,
            pass: 0,
            stop: None,
        };
        let mut at = 0;
        if self.head_len > 0 {
            // Rare: a head that came in pieces is put together byte by byte.
            loop {
                let Some(byte) = bytes.get(at) else { return scanned };
                self.head[usize::from(self.head_len)] = *byte;
                self.head_len += 1;
                at += 1;
                if self.step(self.head, usize::from(self.head_len), &mut scanned, &mut wanted) {
                    break;
                }
            }
            if scanned.stop.is_some() {
                return scanned;
            }
            // All but the bytes of this turn were held.
            scanned.held = self.head;
            scanned.held_len = self.head_len - u8::try_from(at).unwrap_or(self.head_len);
            self.head_len = 0;
        }
        loop {
            let rest = &bytes[at..];
            let payload = usize::try_from(self.left).map_or(rest.len(), |left| left.min(rest.len()));
            self.left -= payload as u64;
            at += payload;
            scanned.pass = at;
            let rest = &bytes[at..];
            if rest.is_empty() {
                return scanned;
            }
            match parse(rest, self.speaker) {
                Head::Whole(head, len) => {
                    if let Err(stop) = self.take(head, &mut wanted) {
                        scanned.stop = Some(stop);
                        return scanned;
                    }
                    at += len;
                }
                Head::Partial => {
                    self.head[..rest.len()].copy_from_slice(rest);
                    self.head_len = rest.len() as u8;
                    return scanned;
                }
                Head::Malformed(what) => {
                    scanned.stop = Some(Stop::Malformed(what));
                    return scanned;
                }
            }
        }
    }

    /// One more byte of a head; whether it is whole, or all is over.
    fn step(
        &mut self,
        head: [u8; MOST_HEAD],
        len: usize,
        scanned: &mut Scanned,
        wanted: &mut impl FnMut(&Frame) -> bool,
    ) -> bool {
        match parse(&head[..len], self.speaker) {
            Head::Partial => false,
            Head::Whole(head, _) => {
                scanned.stop = self.take(head, wanted).err();
                true
            }
            Head::Malformed(what) => {
                scanned.stop = Some(Stop::Malformed(what));
                true
            }
        }
    }

    #[inline]
    fn take(&mut self, head: RawHead, wanted: &mut impl FnMut(&Frame) -> bool) -> Result<(), Stop> {
        let mut frame = Frame {
            opcode: head.opcode,
            last: head.last,
            len: head.len,
            message: 0,
            code: head.code,
        };
        let mut message = self.message;
        if !frame.is_control() {
            let before = match (head.opcode, self.message) {
                (0, None) => return Err(Stop::Malformed("a message goes on that did not begin")),
                (0, Some(so_far)) => so_far,
                (_, None) => 0,
                (_, Some(_)) => return Err(Stop::Malformed("a message begins within another")),
            };
            frame.message = before.saturating_add(head.len);
            message = (!head.last).then_some(frame.message);
        }
        if !wanted(&frame) {
            return Err(Stop::Unwanted);
        }
        self.message = message;
        self.left = head.len - head.taken;
        Ok(())
    }
}

/// A head as it stands there.
#[derive(Clone, Copy)]
struct RawHead {
    opcode: u8,
    last: bool,
    len: u64,
    /// Bytes of payload that were looked at with it.
    taken: u64,
    code: Option<u16>,
}

enum Head {
    Whole(RawHead, usize),
    Partial,
    Malformed(&'static str),
}

#[inline]
fn parse(bytes: &[u8], speaker: Speaker) -> Head {
    let [first, second, ..] = *bytes else {
        return Head::Partial;
    };
    let (opcode, last) = (first & 0x0f, first & 0x80 != 0);
    let masked = second & 0x80 != 0;
    if masked != (speaker == Speaker::Client) {
        return Head::Malformed("a frame of a client is masked, one of a server is not");
    }
    let (len, mut at) = match second & 0x7f {
        126 => match bytes.get(2..4) {
            Some(&[a, b]) => (u64::from(u16::from_be_bytes([a, b])), 4),
            _ => return Head::Partial,
        },
        127 => match bytes.get(2..10) {
            Some(&[a, b, c, d, e, f, g, h]) => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10),
            _ => return Head::Partial,
        },
        len => (u64::from(len), 2),
    };
    match opcode {
        0..=2 => {}
        8..=10 if !last || len > MOST_CONTROL => {
            return Head::Malformed("a control frame in pieces, or too long");
        }
        8..=10 => {}
        _ => return Head::Malformed("an unknown kind of frame"),
    }
    if len > i64::MAX as u64 {
        return Head::Malformed("a length beyond 63 bits");
    }
    let mask: [u8; 4] = if masked {
        let Some(&[a, b, c, d]) = bytes.get(at..at + 4) else {
            return Head::Partial;
        };
        at += 4;
        [a, b, c, d]
    } else {
        [0; 4]
    };
    let (mut code, mut taken) = (None, 0);
    if opcode == CLOSE && len == 1 {
        return Head::Malformed("half a close code");
    }
    if opcode == CLOSE && len >= 2 {
        let Some(&[a, b]) = bytes.get(at..at + 2) else {
            return Head::Partial;
        };
        code = Some(u16::from_be_bytes([a ^ mask[0], b ^ mask[1]]));
        (at, taken) = (at + 2, 2);
    }
    let head = RawHead {
        opcode,
        last,
        len,
        taken,
        code,
    };
    Head::Whole(head, at)
}

/// A ping or close frame of ours. What goes to a server is masked, with a mask of the caller's choice.
#[must_use]
pub fn control(opcode: u8, payload: [u8; 2], len: usize, mask: Option<[u8; 4]>) -> ([u8; 8], usize) {
    let len = len.min(2);
    let mut out = [0x80 | opcode, len as u8, 0, 0, 0, 0, 0, 0];
    let at = match mask {
        None => 2,
        Some(mask) => {
            out[1] |= 0x80;
            out[2..6].copy_from_slice(&mask);
            6
        }
    };
    let mask = mask.unwrap_or_default();
    for index in 0..len {
        out[at + index] = payload[index] ^ mask[index];
    }
    (out, at + len)
}

#[cfg(test)]
mod tests;
