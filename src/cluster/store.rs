//! What operations on shared things take, give, and fail with.

use super::configs::ConfigMark;
use super::names::{NodeId, is_part};
use super::state::Reason;
use bytes::Bytes;
use jiff::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

/// Longest key in a shared table.
pub const MAX_KEY: usize = 256;
/// Longest value in a shared table.
pub const MAX_VALUE: usize = 16 << 10;
/// Most keys in a shared table, what was removed counted.
pub const MAX_ENTRIES: usize = 4096;
/// How long what was removed is remembered when a table is full: later than this no old value comes back.
pub const REMEMBERED: Duration = Duration::from_secs(3600);
/// Largest version of a shared configuration: scripts count in doubles.
pub const MAX_REVISION: u64 = (1 << 53) - 1;
/// Greatest revision of a table's entry: revisions are moments, in milliseconds since 1970, and this one is in the year
/// 3000. What is later is nobody's: nothing of ours could ever take its place.
pub const LAST_REVISION: u64 = 32_503_680_000_000;
/// Most chores that leases are held for.
pub const MAX_LEASES: usize = 64;
/// Longest payload of an announcement.
pub const MAX_PAYLOAD: usize = 64 << 10;
/// Events that the cluster's log keeps, about.
pub const MAX_EVENTS: usize = 10_000;
/// Longest event.
pub const MAX_EVENT: usize = 16 << 10;
/// Most events that are read at once.
pub const EVENTS_AT_ONCE: usize = 256;
/// Longest record of a member.
pub const MAX_RECORD: usize = 4 << 10;
/// Most buckets of limits that a cluster of one keeps; a Redis lets them expire.
pub const MAX_BUCKETS: usize = 65_536;
/// Most members of a cluster.
pub const MAX_MEMBERS: usize = 256;

/// Why an operation on something shared did not happen, or may not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no connection to the store, and this is why.
    #[error("the cluster's store is away: {}", .0.name())]
    Away(Reason),
    /// The connection went, or the answer did not come in time: it may have happened or not.
    #[error("no answer from the cluster's store: {}", .0.name())]
    Unknown(Reason),
    /// Too many operations wait already.
    #[error("too many operations wait for the cluster's store")]
    Busy,
    /// The store said no.
    #[error("the cluster's store refused: {1}")]
    Refused(Reason, String),
    #[error("{what} is longer than {max} bytes")]
    TooLong { what: &'static str, max: usize },
    #[error("{0:?} can't be a name here")]
    Name(String),
    /// The table has [`MAX_ENTRIES`], or the leases [`MAX_LEASES`].
    #[error("there is no room for more in the cluster's store")]
    Full,
    /// The lease that was shown is not in force any more: another may have it.
    #[error("the lease is not held any more")]
    Fenced,
    /// What the store holds can't be read.
    #[error("what the cluster's store holds can't be read: {0}")]
    Malformed(&'static str),
}

impl StoreError {
    /// Whether trying later may help, without anybody doing anything.
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Unknown(_) | Self::Busy)
    }
}

/// A small table that all gateways of a cluster see. The last writer of a key wins: by revision, then by node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Table(&'static str);

impl Table {
    pub const OVERRIDES: Self = Self("overrides");
    pub const HEALTH: Self = Self("health");
    pub const KEYS: Self = Self("keys");
    pub const SERVICES: Self = Self("services");

    /// A table of one's own. The name is `[A-Za-z0-9_.-]{1,64}`.
    #[must_use]
    pub const fn named(name: &'static str) -> Self {
        Self(name)
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// One key of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    /// `None`: it was removed, and this is remembered so that no older value comes back.
    pub value: Option<Bytes>,
    pub revision: u64,
    /// Who wrote it.
    pub node: String,
}

impl Entry {
    /// Whether it takes the place of `other`.
    #[must_use]
    pub fn beats(&self, other: &Self) -> bool {
        (self.revision, self.node.as_str()) > (other.revision, other.node.as_str())
    }

    /// Whether a gateway can have written it. What others put into the store or say may be anything.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        check_key(&self.key).is_ok()
            && check_length("a value", self.value.as_ref().map_or(0, Bytes::len), MAX_VALUE).is_ok()
            && self.revision <= LAST_REVISION
            && NodeId::new(&self.node).is_ok()
    }
}

/// What came of a write to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Stored,
    /// A later value is there already; it stays.
    Older,
}

/// The right to do a chore that only one gateway does at a time. Until `until`, which is earlier than the store lets
/// it lapse; whoever holds it stops by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub task: String,
    pub holder: String,
    /// Higher with every new holder: what writes with a lower one is refused.
    pub token: u64,
    pub until: Instant,
}

impl Lease {
    #[must_use]
    pub fn held(&self, now: Instant) -> bool {
        now < self.until
    }
}

/// A lease as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    pub task: String,
    pub holder: String,
    pub token: u64,
    /// How long it goes on if it is not renewed.
    pub remaining: Duration,
}

/// What a node sends with each beat.
#[derive(Clone, Debug)]
pub struct Beating {
    /// The id that it wants to be known by.
    pub node: NodeId,
    pub incarnation: u64,
    /// Counts the beats of the incarnation.
    pub beat: u64,
    /// When a record that is not renewed stands for nobody any more.
    pub gone_after: Duration,
    /// It goes: the record stays for a while to say so.
    pub leaving: bool,
    /// What it tells of itself; nobody but [`super::record`] looks into it.
    pub record: Bytes,
}

/// What the store had of a node that is to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// It lives: its record stays.
    Alive,
    /// Its record is gone, or would be.
    Gone,
    /// There is no record of it.
    Unknown,
}

/// A member as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub node: NodeId,
    pub incarnation: u64,
    pub beat: u64,
    /// Time since its last beat, on the store's clock.
    pub age: Duration,
    pub left: bool,
    pub record: Bytes,
}

/// What a node hears with each beat.
#[derive(Clone, Debug)]
pub struct Beat {
    /// Another incarnation has the id and is alive: the record was not taken.
    pub duplicate: Option<u64>,
    /// All that have a record, this node too.
    pub members: Vec<Seen>,
    /// Names the content of the store: another one means that what was there is gone.
    pub generation: String,
    /// The store's clock.
    pub now: Timestamp,
    /// The shared configuration, if there is one that can be read.
    pub config: ConfigMark,
    pub leases: Vec<LeaseView>,
}

/// An event of the cluster's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Greater for later ones; begin after it to go on reading.
    pub id: String,
    pub payload: Bytes,
}

pub(super) fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() || key.chars().any(char::is_control) {
        return Err(StoreError::Name(shortened(key)));
    }
    check_length("a key", key.len(), MAX_KEY)
}

pub(super) fn check_part(name: &str) -> Result<(), StoreError> {
    if is_part(name) {
        Ok(())
    } else {
        Err(StoreError::Name(shortened(name)))
    }
}

pub(super) fn check_revision(revision: u64) -> Result<(), StoreError> {
    if revision > LAST_REVISION {
        return Err(StoreError::Name(format!("revision {revision}")));
    }
    Ok(())
}

pub(super) fn check_version(version: u64) -> Result<(), StoreError> {
    if version > MAX_REVISION {
        return Err(StoreError::Name(format!("version {version}")));
    }
    Ok(())
}

pub(super) const fn check_length(what: &'static str, length: usize, max: usize) -> Result<(), StoreError> {
    if length > max {
        return Err(StoreError::TooLong { what, max });
    }
    Ok(())
}

/// Enough of a text to know it by.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}
