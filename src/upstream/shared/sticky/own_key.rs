//! The secret that a gateway signs cookies with when the configuration names none: made once, and kept.

use arc_swap::ArcSwap;
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

/// Where it is kept, told by who knows the place; asked for no sooner than an upstream needs it.
type Source = Box<dyn Fn() -> io::Result<Vec<u8>> + Send + Sync>;

/// See the module's text. By `Default` nothing is kept, for configurations that are only looked at.
#[derive(Default)]
pub struct OwnKey {
    source: Option<Source>,
    found: OnceLock<Vec<u8>>,
    /// What gateways have in common; the first signs.
    shared: ArcSwap<Vec<Vec<u8>>>,
}

impl OwnKey {
    #[must_use]
    pub fn kept(source: impl Fn() -> io::Result<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self {
            source: Some(Box::new(source)),
            found: OnceLock::new(),
            shared: ArcSwap::default(),
        }
    }

    /// What cookies are signed with, first, and what else is honoured. Blocking.
    ///
    /// # Errors
    /// As [`OwnKey::secret`].
    pub fn secrets(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut secrets = self.shared.load().to_vec();
        // What was signed before there was anything in common stays good.
        let own = self.secret()?;
        if !secrets.iter().any(|secret| secret == own) {
            secrets.push(own.to_vec());
        }
        Ok(secrets)
    }

    /// From now on gateways have these in common. Whether that is different from before.
    pub fn share(&self, secrets: Vec<Vec<u8>>) -> bool {
        let changed = **self.shared.load() != secrets;
        if changed {
            self.shared.store(Arc::new(secrets));
        }
        changed
    }

    /// The secret; the same for as long as the process lives. Blocking.
    ///
    /// # Errors
    /// It can neither be read nor made; it is tried again the next time.
    pub fn secret(&self) -> io::Result<&[u8]> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let secret = match &self.source {
            Some(source) => source()?,
            None => Vec::new(),
        };
        // Who was here first found the same.
        Ok(self.found.get_or_init(|| secret))
    }
}

impl fmt::Debug for OwnKey {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnKey")
            .field("found", &self.found.get().is_some())
            .finish_non_exhaustive()
    }
}
