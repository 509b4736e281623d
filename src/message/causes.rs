//! Ways in which an attempt at an endpoint can go wrong, as operators name them: what speaks against an endpoint,
//! and what is worth another attempt.

use super::grpc::Code;
use super::token::Token;

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// No connection: refused, unreachable, too late, not resolved.
    Connect,
    /// The connection ended before the answer did.
    Reset,
    /// No answer in time.
    Timeout,
    /// An answer that makes no sense.
    Invalid,
    /// Any status from 500 to 599, but 501 (Not Implemented) and 505 (HTTP Version Not Supported): those speak of
    /// the request, and a client could make up as many as it likes.
    ServerError,
    Status408,
    Status421,
    Status425,
    Status429,
    Status500,
    Status502,
    Status503,
    Status504,
    /// Of a call of gRPC whose whole answer is its status.
    GrpcCancelled,
    GrpcDeadlineExceeded,
    GrpcResourceExhausted,
    GrpcInternal,
    GrpcUnavailable,
}

impl Cause {
    /// What a failed attempt failed by; `None` where the endpoint had no part in it.
    #[must_use]
    pub const fn of_token(token: Token) -> Option<Self> {
        match token {
            Token::ConnectFailed | Token::ConnectTimeout | Token::DnsFailed | Token::TlsFailed => {
                Some(Self::Connect)
            }
            Token::UpstreamReset | Token::AbortedUpstream => Some(Self::Reset),
            Token::ResponseTimeout => Some(Self::Timeout),
            Token::BadResponse | Token::UpgradeRefused => Some(Self::Invalid),
            _ => None,
        }
    }

    const fn of_status(status: u16) -> Option<Self> {
        Some(match status {
            408 => Self::Status408,
            421 => Self::Status421,
            425 => Self::Status425,
            429 => Self::Status429,
            500 => Self::Status500,
            502 => Self::Status502,
            503 => Self::Status503,
            504 => Self::Status504,
            _ => return None,
        })
    }
}

impl Cause {
    const fn of_grpc(status: Code) -> Option<Self> {
        Some(match status {
            Code::Cancelled => Self::GrpcCancelled,
            Code::DeadlineExceeded => Self::GrpcDeadlineExceeded,
            Code::ResourceExhausted => Self::GrpcResourceExhausted,
            Code::Internal => Self::GrpcInternal,
            Code::Unavailable => Self::GrpcUnavailable,
            _ => return None,
        })
    }
}

/// Some of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Causes(u32);

impl Causes {
    #[must_use]
    pub const fn has(self, cause: Cause) -> bool {
        self.0 & (1 << cause as u16) != 0
    }

    /// Whether an attempt that failed with this token is meant.
    #[must_use]
    pub fn has_token(self, token: Token) -> bool {
        Cause::of_token(token).is_some_and(|cause| self.has(cause))
    }

    /// Whether an answer with this status is meant.
    #[must_use]
    pub fn has_status(self, status: u16) -> bool {
        status >= 408
            && (self.has(Cause::ServerError) && matches!(status, 500..=599) && !matches!(status, 501 | 505)
                || Cause::of_status(status).is_some_and(|cause| self.has(cause)))
    }

    /// Whether a call of gRPC that ended with this status is meant.
    #[must_use]
    pub fn has_grpc(self, status: Code) -> bool {
        Cause::of_grpc(status).is_some_and(|cause| self.has(cause))
    }
}

impl FromIterator<Cause> for Causes {
    fn from_iter<T: IntoIterator<Item = Cause>>(causes: T) -> Self {
        Self(causes.into_iter().fold(0, |all, cause| all | 1 << cause as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_meant_by_its_number_or_its_class() {
        let some = Causes::from_iter([Cause::Status503, Cause::Status429]);
        assert!(some.has_status(503) && some.has_status(429));
        assert!(!some.has_status(502) && !some.has_status(200));
        let class = Causes::from_iter([Cause::ServerError]);
        for status in [500, 502, 507, 599] {
            assert!(class.has_status(status), "{status}");
        }
        for status in [200, 404, 429, 501, 505, 600] {
            assert!(!class.has_status(status), "{status}");
        }
    }

    #[test]
    fn a_status_of_grpc_is_meant_by_its_name_alone() {
        let some = Causes::from_iter([Cause::GrpcUnavailable, Cause::ServerError]);
        assert!(some.has_grpc(Code::Unavailable));
        assert!(!some.has_grpc(Code::Internal) && !some.has_grpc(Code::Ok));
        assert!(
            !Causes(u32::MAX).has_grpc(Code::NotFound),
            "an application's own word"
        );
    }

    #[test]
    fn a_token_is_meant_by_its_kind_and_never_when_it_is_not_the_endpoints() {
        let all = Causes(u32::MAX);
        let of = |token| Cause::of_token(token).filter(|cause| all.has(*cause));
        assert_eq!(of(Token::DnsFailed), Some(Cause::Connect));
        assert_eq!(of(Token::ResponseTimeout), Some(Cause::Timeout));
        assert_eq!(of(Token::ClientClosed), None);
        assert!(!all.has_token(Token::Deadline));
        assert!(!Causes::default().has_token(Token::UpstreamReset));
    }
}
