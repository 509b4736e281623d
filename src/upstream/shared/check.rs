//! What the endpoints of an upstream are asked, as compiled into the snapshot.

use super::health::Cadence;
use super::standing::Health;
use crate::config::form::pattern::REGEX_SIZE_LIMIT;
use crate::config::model::{self, InitialHealth, TextPattern};
use std::time::Duration;

/// How long requests wait for the first verdict on an endpoint; then it is picked without one, if there is no
/// other.
pub const HOLD: Duration = Duration::from_secs(1);

/// The checks of an upstream.
#[derive(Debug)]
pub struct CheckPlan {
    /// As configured: plans of equal checks are the same.
    pub check: model::Health,
    pub cadence: Cadence,
    pub body: Option<BodyMatch>,
}

/// What an answer's body must have.
#[derive(Debug)]
pub enum BodyMatch {
    Contains(Box<[u8]>),
    Regex(regex::bytes::Regex),
}

impl BodyMatch {
    #[must_use]
    pub fn is_met_by(&self, body: &[u8]) -> bool {
        match self {
            Self::Contains(text) => memchr::memmem::find(body, text).is_some(),
            Self::Regex(regex) => regex.is_match(body),
        }
    }
}

impl CheckPlan {
    /// # Errors
    /// The regular expression of the body does not compile.
    pub fn compile(check: &model::Health) -> Result<Self, regex::Error> {
        let body = match &check.body {
            None => None,
            Some(TextPattern::Contains(text)) => Some(BodyMatch::Contains(text.as_bytes().into())),
            Some(TextPattern::Regex(text)) => {
                let mut builder = regex::bytes::RegexBuilder::new(text);
                let limited = builder.unicode(false).size_limit(REGEX_SIZE_LIMIT);
                Some(BodyMatch::Regex(limited.build()?))
            }
        };
        Ok(Self {
            check: check.clone(),
            cadence: Cadence::of(check),
            body,
        })
    }

    /// What is presumed of an endpoint that nothing is known of.
    #[must_use]
    pub const fn initial(&self) -> Health {
        match self.check.initial {
            InitialHealth::Probing => Health::Pending,
            InitialHealth::Healthy => Health::Healthy,
            InitialHealth::Unhealthy => Health::Unhealthy,
        }
    }
}
