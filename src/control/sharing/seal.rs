//! Secrets on their way between gateways: authenticated encryption under a key that comes from `cluster.key`. What a
//! secret is for, and for which cluster, is authenticated with it, so that none serves in another's place.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What the key is made for; another use of `cluster.key` comes to another key.
const PURPOSE: &[u8] = b"tidegate seal 1";
/// What a sealed text begins with.
const VERSION: &str = "1:";
/// Longest sealed text that is opened.
const MAX: usize = 2 << 20;

/// Why a text can't be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("it is of another version")]
    Version,
    #[error("it is damaged, or sealed under another cluster.key")]
    Key,
}

/// Seals and opens for one cluster.
pub struct Seal {
    key: LessSafeKey,
    cluster: String,
}

impl std::fmt::Debug for Seal {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Seal {
    /// `None` only when the provider fails.
    #[must_use]
    pub fn new(cluster_key: &[u8], cluster: &str) -> Option<Self> {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, cluster_key), PURPOSE);
        let key = UnboundKey::new(&AES_256_GCM, derived.as_ref()).ok()?;
        Some(Self {
            key: LessSafeKey::new(key),
            cluster: cluster.to_owned(),
        })
    }

    fn bound_to(&self, what: &str) -> Vec<u8> {
        // Neither has a line end.
        format!("{}\n{what}", self.cluster).into_bytes()
    }

    /// Seals a secret that is for `what`; `None` only when the provider fails.
    #[must_use]
    pub fn seal(&self, what: &str, secret: &[u8]) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = secret.to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(self.bound_to(what)),
                &mut sealed,
            )
            .ok()?;
        let mut bytes = nonce.to_vec();
        bytes.append(&mut sealed);
        Some(format!("{VERSION}{}", STANDARD.encode(bytes)))
    }

    /// Opens what was sealed for `what`.
    ///
    /// # Errors
    /// It was not, or not under this key.
    pub fn open(&self, what: &str, sealed: &str) -> Result<Vec<u8>, OpenError> {
        let text = sealed.strip_prefix(VERSION).ok_or(OpenError::Version)?;
        if text.len() > MAX {
            return Err(OpenError::Key);
        }
        let bytes = STANDARD.decode(text).map_err(|_| OpenError::Key)?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(OpenError::Key)?;
        let mut opened = rest.to_vec();
        let length = self
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(self.bound_to(what)),
                &mut opened,
            )
            .map_err(|_| OpenError::Key)?
            .len();
        opened.truncate(length);
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seal(key: &str, cluster: &str) -> Seal {
        Seal::new(key.as_bytes(), cluster).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose_cluster_and_key_alone() {
        let ours = seal("key", "prod");
        let sealed = ours.seal("sticky", b"secret").unwrap();
        assert!(!sealed.contains("secret"));
        assert_eq!(ours.open("sticky", &sealed).unwrap(), b"secret");
        assert_eq!(seal("key", "prod").open("sticky", &sealed).unwrap(), b"secret");
        assert_eq!(ours.open("tickets", &sealed), Err(OpenError::Key));
        assert_eq!(seal("key", "test").open("sticky", &sealed), Err(OpenError::Key));
        assert_eq!(seal("other", "prod").open("sticky", &sealed), Err(OpenError::Key));
        assert_eq!(ours.open("sticky", "2:AAAA"), Err(OpenError::Version));
        assert_ne!(
            sealed,
            ours.seal("sticky", b"secret").unwrap(),
            "each has a nonce of its own"
        );
    }

    proptest! {
        #[test]
        fn what_was_tampered_with_does_not_open(secret in proptest::collection::vec(any::<u8>(), 0..64), at in any::<proptest::sample::Index>(), flip in 1..=255u8) {
            let ours = seal("key", "prod");
            let sealed = ours.seal("x", &secret).unwrap();
            prop_assert_eq!(ours.open("x", &sealed).unwrap(), secret);
            let mut bytes = STANDARD.decode(sealed.strip_prefix(VERSION).unwrap()).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let broken = format!("1:{}", STANDARD.encode(bytes));
            prop_assert_eq!(ours.open("x", &broken), Err(OpenError::Key));
        }

        #[test]
        fn no_text_panics(text in ".{0,200}") {
            prop_assert!(seal("key", "prod").open("x", &text).is_err());
            prop_assert!(seal("key", "prod").open("x", &["1:", &text].concat()).is_err());
        }
    }
}
