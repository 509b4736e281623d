//! Why a certificate was not had, sorted by whose fault it is: that decides who has to wait, and how long.

use super::client::TransportError;
pub use crate::telemetry::metrics::AcmeFailure as Kind;
use crate::tls::acme::LoadError;
use crate::tls::acme::challenge::ChallengeError;
use instant_acme::{Error, Problem};
use std::fmt::Write as _;
use std::time::Duration;

/// Longest text of an authority's that is told; it may say anything.
const MAX_TOLD: usize = 600;
/// How problems are named (RFC 8555 section 6.7).
const PREFIX: &str = "urn:ietf:params:acme:error:";

/// A failure, ready to be told.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    pub kind: Kind,
    pub text: String,
    /// How long the authority wants to be left alone.
    pub retry_after: Option<Duration>,
    /// The authority knows of no such account: ours is to be made anew.
    pub account_gone: bool,
}

/// How far an order has come: the same problem means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Account,
    Order,
    Challenge,
    Issue,
}

impl Stage {
    const fn text(self) -> &'static str {
        match self {
            Self::Account => "the account",
            Self::Order => "the order",
            Self::Challenge => "the challenge",
            Self::Issue => "issuing",
        }
    }
}

impl Failure {
    #[must_use]
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: bounded(text.into()),
            retry_after: None,
            account_gone: false,
        }
    }

    /// What the client of the protocol says.
    #[must_use]
    pub fn of(error: &Error, stage: Stage) -> Self {
        let mut failure = match error {
            Error::Api(problem) => Self::of_problem(problem, stage),
            Error::Other(source) => match source.downcast_ref::<TransportError>() {
                Some(transport) => Self::new(transport.kind(), transport.to_string()),
                None => Self::new(Kind::Server, format!("{}: {source}", stage.text())),
            },
            Error::Json(error) => {
                let text = format!(
                    "{}: what the authority answered makes no sense: {error}",
                    stage.text()
                );
                Self::new(Kind::Server, text)
            }
            Error::Crypto | Error::KeyRejected => Self::new(Kind::Internal, error.to_string()),
            error => Self::new(Kind::Server, format!("{}: {error}", stage.text())),
        };
        failure.retry_after = super::client::heard_retry_after();
        failure
    }

    fn of_problem(problem: &Problem, stage: Stage) -> Self {
        let name = problem
            .r#type
            .as_deref()
            .map_or("", |it| it.strip_prefix(PREFIX).unwrap_or(it));
        let kind = match (name, stage) {
            ("rateLimited", _) => Kind::RateLimited,
            ("serverInternal", _) => Kind::Server,
            ("accountDoesNotExist" | "externalAccountRequired", _) => Kind::Account,
            _ if problem.status == Some(429) => Kind::RateLimited,
            _ if problem.status.is_some_and(|status| status >= 500) => Kind::Server,
            (_, Stage::Account) => Kind::Account,
            (_, Stage::Challenge) => Kind::Challenge,
            (_, Stage::Order | Stage::Issue) => Kind::Refused,
        };
        let mut failure = Self::new(kind, format!("{}: {}", stage.text(), said(problem)));
        failure.account_gone = name == "accountDoesNotExist";
        failure
    }
}

impl From<ChallengeError> for Failure {
    fn from(error: ChallengeError) -> Self {
        Self::new(Kind::Internal, error.to_string())
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::new(
            Kind::Certificate,
            format!("what the authority issued can't be used: {error}"),
        )
    }
}

/// What the authority says, in its own words.
#[must_use]
pub fn said(problem: &Problem) -> String {
    let mut text = String::from("the authority says: ");
    let name = problem
        .r#type
        .as_deref()
        .map(|it| it.strip_prefix(PREFIX).unwrap_or(it));
    match (problem.detail.as_deref(), name) {
        (Some(detail), Some(name)) => drop(write!(text, "{detail} ({name})")),
        (Some(one), None) | (None, Some(one)) => text.push_str(one),
        (None, None) => text.push_str("no reason"),
    }
    for sub in &problem.subproblems {
        let detail = sub.detail.as_deref().unwrap_or("no reason");
        match &sub.identifier {
            Some(identifier) => drop(write!(text, "; for {}: {detail}", identifier.authorized(false))),
            None => drop(write!(text, "; {detail}")),
        }
    }
    text
}

fn bounded(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(MAX_TOLD) {
        text.truncate(at);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &str) -> Problem {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn who_is_at_fault_follows_from_the_problem_and_the_stage() {
        for (json, stage, kind) in [
            (
                r#"{"type":"urn:ietf:params:acme:error:rateLimited","status":429}"#,
                Stage::Order,
                Kind::RateLimited,
            ),
            (r#"{"status":429}"#, Stage::Account, Kind::RateLimited),
            (
                r#"{"type":"urn:ietf:params:acme:error:serverInternal"}"#,
                Stage::Issue,
                Kind::Server,
            ),
            (r#"{"status":503}"#, Stage::Challenge, Kind::Server),
            (
                r#"{"type":"urn:ietf:params:acme:error:externalAccountRequired"}"#,
                Stage::Account,
                Kind::Account,
            ),
            (
                r#"{"type":"urn:ietf:params:acme:error:unauthorized"}"#,
                Stage::Account,
                Kind::Account,
            ),
            (
                r#"{"type":"urn:ietf:params:acme:error:unauthorized"}"#,
                Stage::Challenge,
                Kind::Challenge,
            ),
            (
                r#"{"type":"urn:ietf:params:acme:error:rejectedIdentifier"}"#,
                Stage::Order,
                Kind::Refused,
            ),
            ("{}", Stage::Issue, Kind::Refused),
        ] {
            let failure = Failure::of(&Error::Api(problem(json)), stage);
            assert_eq!(failure.kind, kind, "{json} at {stage:?}");
        }
        let gone = problem(r#"{"type":"urn:ietf:params:acme:error:accountDoesNotExist"}"#);
        assert!(Failure::of(&Error::Api(gone), Stage::Order).account_gone);
    }

    #[test]
    fn it_is_told_in_the_words_of_the_authority_and_not_at_any_length() {
        let told = said(&problem(
            r#"{"type":"urn:ietf:params:acme:error:malformed","detail":"no","subproblems":[
                {"type":"x","detail":"not this one","identifier":{"type":"dns","value":"a.test"}}]}"#,
        ));
        assert_eq!(
            told,
            "the authority says: no (malformed); for a.test: not this one"
        );
        let long = Failure::new(Kind::Server, "é".repeat(10_000));
        assert_eq!(long.text.chars().count(), MAX_TOLD + 1);
    }
}
