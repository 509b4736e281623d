//! What became of sessions that are to stay at their endpoints.

use super::series::Cells;

/// Whether a request's session was at its endpoint, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// It was.
    Kept,
    /// The request came with none.
    New,
    /// What it came with has not the form of our cookie.
    Malformed,
    /// It was made with another key, or for another upstream.
    Foreign,
    /// It was changed, or made up.
    Tampered,
    Expired,
    /// The application's name for it was not learned here.
    Unknown,
    /// Its endpoint left, is in maintenance, or its drain is over.
    Gone,
    /// Its endpoint's checks fail, or it was ejected.
    Unwell,
    /// Its endpoint has its `max_connections`.
    Full,
    /// Its endpoint was tried, and failed.
    Failed,
}

impl Sticky {
    pub const ALL: [Self; 11] = [
        Self::Kept,
        Self::New,
        Self::Malformed,
        Self::Foreign,
        Self::Tampered,
        Self::Expired,
        Self::Unknown,
        Self::Gone,
        Self::Unwell,
        Self::Full,
        Self::Failed,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::New => "new",
            Self::Malformed => "malformed",
            Self::Foreign => "foreign",
            Self::Tampered => "tampered",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::Gone => "gone",
            Self::Unwell => "unwell",
            Self::Full => "full",
            Self::Failed => "failed",
        }
    }
}

/// Counts by [`Sticky`].
#[derive(Debug, Default)]
pub struct PerSticky(pub(super) Cells<{ Sticky::ALL.len() }>);

impl PerSticky {
    #[inline]
    pub fn inc(&self, what: Sticky) {
        self.0.0[what as usize].inc();
    }

    /// Label and count of each that was counted at all.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = Sticky::ALL.into_iter().map(Sticky::name).zip(self.0.values());
        all.filter(|(_, n)| *n > 0)
    }
}

/// Why a client was given a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieSet {
    /// It had none.
    New,
    /// Its session is at another endpoint now.
    Moved,
    /// The one it had was of no use.
    Replaced,
    /// The one it had is good still, and is old or signed with an older key.
    Renewed,
}

impl CookieSet {
    pub const ALL: [Self; 4] = [Self::New, Self::Moved, Self::Replaced, Self::Renewed];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Moved => "moved",
            Self::Replaced => "replaced",
            Self::Renewed => "renewed",
        }
    }
}

/// Counts by [`CookieSet`].
#[derive(Debug, Default)]
pub struct PerCookieSet(pub(super) Cells<{ CookieSet::ALL.len() }>);

impl PerCookieSet {
    pub fn inc(&self, why: CookieSet) {
        self.0.0[why as usize].inc();
    }

    /// Label and count of each that was counted at all.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = CookieSet::ALL
            .into_iter()
            .map(CookieSet::name)
            .zip(self.0.values());
        all.filter(|(_, n)| *n > 0)
    }
}
