//! Which records are written, when not all are.

use crate::message::token::Token;

/// Keeps a share of the records, and every one that tells of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// A record is kept when a random number is below this; `None`: all are.
    below: Option<u32>,
}

impl Sampler {
    /// Keeps `share` of the records, 0 to 1. What is no number keeps all.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn new(share: f64) -> Self {
        Self {
            below: (share < 1.0).then_some((share.max(0.0) * f64::from(u32::MAX)) as u32),
        }
    }

    /// Decides before anything is formatted. A status from 500 on, or an error token, is always kept.
    #[inline]
    #[must_use]
    pub fn keeps(self, status: u16, token: Option<Token>) -> bool {
        match self.below {
            None => true,
            Some(_) if status >= 500 || token.is_some() => true,
            Some(below) => fastrand::u32(..) < below,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(share: f64, status: u16, token: Option<Token>) -> usize {
        let sampler = Sampler::new(share);
        fastrand::seed(7);
        (0..10_000).filter(|_| sampler.keeps(status, token)).count()
    }

    #[test]
    fn the_share_is_kept() {
        assert_eq!(kept(1.0, 200, None), 10_000);
        assert_eq!(kept(f64::NAN, 200, None), 10_000);
        assert_eq!(kept(0.0, 200, None), 0);
        assert_eq!(kept(-1.0, 200, None), 0);
        let tenth = kept(0.1, 200, None);
        assert!((900..1_100).contains(&tenth), "{tenth}");
    }

    #[test]
    fn trouble_is_always_kept() {
        assert_eq!(kept(0.0, 502, None), 10_000);
        assert_eq!(kept(0.0, 404, Some(Token::NoRoute)), 10_000);
    }
}
