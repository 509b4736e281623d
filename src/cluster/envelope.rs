//! An announcement as bytes.
//!
//! ```text
//! "TG"  major u8  flags u8  header length u16  header (CBOR map)  payload  [HMAC-SHA256]
//! ```
//!
//! The header says who speaks, how often it has, and about what. Keys that this version does not know are passed
//! over; a major version that it does not know is counted and dropped. With a cluster key everything before the tag
//! is signed, the channel's name included, so that nothing said on one channel can be said again on another.

use super::store::MAX_PAYLOAD;
use aws_lc_rs::hmac;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Major versions, from the least to the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub least: u8,
    pub greatest: u8,
}

/// What this gateway understands. Of two that differ the one that came before stays understood, so that gateways
/// of both are a cluster while one after another is replaced.
pub const UNDERSTOOD: Versions = Versions {
    least: 1,
    greatest: 1,
};

impl Versions {
    const fn have(self, version: u8) -> bool {
        self.least <= version && version <= self.greatest
    }
}

const MAGIC: &[u8; 2] = b"TG";
const FIXED: usize = 6;
const SIGNED: u8 = 1;
const TAG: usize = 32;
/// Bytes by which keys are told apart.
const FINGERPRINT: usize = 6;
/// Longest header that is read. Ours are a tenth of it.
const MAX_HEADER: usize = 2048;
/// Longest envelope.
pub const MAX_ENVELOPE: usize = FIXED + MAX_HEADER + MAX_PAYLOAD + TAG;

/// What signs announcements.
#[derive(Clone)]
pub struct Key(hmac::Key);

impl Key {
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        // The secret may seal other things too: what signs envelopes is derived from it and signs nothing else.
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let own = hmac::sign(&root, b"tidegate cluster envelope v1");
        Self(hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()))
    }
}

/// Tells keys apart, and nothing else of them: what a node says of its own, for others to compare.
#[must_use]
pub fn fingerprint(secret: &[u8], cluster: &str) -> String {
    let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(
        &root,
        format!("tidegate cluster fingerprint v1\n{cluster}").as_bytes(),
    );
    let shown = tag.as_ref().iter().take(FINGERPRINT);
    shown.map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub source: Cow<'a, str>,
    pub incarnation: u64,
    pub seq: u64,
    pub kind: Cow<'a, str>,
    pub payload: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    src: Cow<'a, str>,
    inc: u64,
    seq: u64,
    typ: Cow<'a, str>,
    /// The channel.
    top: Cow<'a, str>,
}

/// Why bytes are no announcement that is listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("longer than an announcement can be")]
    TooLarge,
    #[error("not an announcement")]
    Garbage,
    #[error("version {0} is not understood")]
    Version(u8),
    #[error("not signed by our key, or for another channel: is cluster.key the same on all gateways?")]
    Forged,
}

impl Envelope<'_> {
    /// The bytes in this version; nothing for what [`Envelope::decode`] would not take.
    #[must_use]
    pub fn encode(&self, version: u8, channel: &str, key: Option<&Key>) -> Option<Vec<u8>> {
        let header = Header {
            src: Cow::Borrowed(&self.source),
            inc: self.incarnation,
            seq: self.seq,
            typ: Cow::Borrowed(&self.kind),
            top: Cow::Borrowed(channel),
        };
        let mut bytes = Vec::with_capacity(FIXED + 128 + self.payload.len() + TAG);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[version, if key.is_some() { SIGNED } else { 0 }, 0, 0]);
        ciborium::into_writer(&header, &mut bytes).ok()?;
        let length = bytes.len() - FIXED;
        if length > MAX_HEADER || self.payload.len() > MAX_PAYLOAD {
            return None;
        }
        let length = u16::try_from(length).ok()?;
        bytes.get_mut(4..FIXED)?.copy_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(self.payload);
        if let Some(Key(key)) = key {
            let tag = hmac::sign(key, &bytes);
            bytes.extend_from_slice(tag.as_ref());
        }
        Some(bytes)
    }

    /// Reads what came on this channel, in one of these versions. With a key only what is signed by it is believed.
    ///
    /// # Errors
    /// It is not believed, or not understood.
    pub fn decode<'b>(
        bytes: &'b [u8],
        versions: Versions,
        channel: &str,
        key: Option<&Key>,
    ) -> Result<Envelope<'b>, Unreadable> {
        if bytes.len() > MAX_ENVELOPE {
            return Err(Unreadable::TooLarge);
        }
        let Some(([m0, m1, major, flags, high, low], _)) = bytes.split_first_chunk::<FIXED>() else {
            return Err(Unreadable::Garbage);
        };
        if [*m0, *m1] != *MAGIC {
            return Err(Unreadable::Garbage);
        }
        if !versions.have(*major) {
            return Err(Unreadable::Version(*major));
        }
        let signed = flags & SIGNED != 0;
        let (content, tag) = if signed {
            let end = bytes.len().checked_sub(TAG).ok_or(Unreadable::Garbage)?;
            bytes.split_at(end)
        } else {
            (bytes, [].as_slice())
        };
        if let Some(Key(key)) = key {
            hmac::verify(key, content, tag).map_err(|_| Unreadable::Forged)?;
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let end = FIXED + length;
        let (Some(header), Some(payload)) = (content.get(FIXED..end), content.get(end..)) else {
            return Err(Unreadable::Garbage);
        };
        if length > MAX_HEADER || payload.len() > MAX_PAYLOAD {
            return Err(Unreadable::TooLarge);
        }
        let mut rest = header;
        let header: Header<'static> = ciborium::from_reader(&mut rest).map_err(|_| Unreadable::Garbage)?;
        if !rest.is_empty() {
            return Err(Unreadable::Garbage);
        }
        if header.top != channel {
            return Err(Unreadable::Forged);
        }
        Ok(Envelope {
            source: header.src,
            incarnation: header.inc,
            seq: header.seq,
            kind: header.typ,
            payload,
        })
    }

    /// The payload on its own, so that what is kept of it does not keep what it came in.
    #[must_use]
    pub fn own_payload(&self) -> Bytes {
        Bytes::copy_from_slice(self.payload)
    }
}

#[cfg(test)]
mod tests;
