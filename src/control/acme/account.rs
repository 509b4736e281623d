//! Accounts with authorities: made once, kept, used by all orders of the same terms.

use super::client::{Https, Names};
use super::failure::{Failure, Kind, Stage};
use super::store;
use crate::config::acme::eab_key;
use crate::config::model::Acme;
use crate::tls::acme::{digest, directory_name};
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;

/// What makes two accounts different.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountKey {
    pub directory: String,
    email: Option<String>,
    kid: Option<String>,
    ca: Option<PathBuf>,
}

impl AccountKey {
    #[must_use]
    pub fn of(settings: &Acme) -> Self {
        Self {
            directory: settings.directory.clone(),
            email: settings.email.clone(),
            kid: settings.eab.as_ref().map(|eab| eab.kid.clone()),
            ca: settings.ca.clone(),
        }
    }

    fn file(&self, home: &Path) -> PathBuf {
        let of = |text: &Option<String>| text.clone().unwrap_or_default();
        let name = digest(&format!("{}\n{}", of(&self.email), of(&self.kid)));
        home.join(directory_name(&self.directory))
            .join(format!("account-{name}.json"))
    }
}

/// An account, once it is known. Orders that begin together wait for the one that makes it.
#[derive(Default)]
pub struct Cell(Mutex<Option<Account>>);

impl std::fmt::Debug for Cell {
    /// Without the account, which holds a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cell").finish_non_exhaustive()
    }
}

impl Cell {
    /// The account: the one in memory, the one that was kept, or a new one.
    ///
    /// # Errors
    /// The authority can't be reached, or wants none of it; what was made could not be kept.
    pub async fn get(&self, settings: &Acme, home: &Path, names: &Names) -> Result<Account, Failure> {
        let mut known = self.0.lock().await;
        if let Some(account) = &*known {
            return Ok(account.clone());
        }
        let account = open(settings, &AccountKey::of(settings).file(home), names).await?;
        *known = Some(account.clone());
        Ok(account)
    }

    /// Asks for it anew next time, and for where the authority's services are.
    pub async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

/// The authority does not know the account that was kept: the next order makes another.
pub fn put_aside(settings: &Acme, home: &Path) {
    let path = AccountKey::of(settings).file(home);
    match store::put_aside(&path) {
        Ok(aside) => tracing::warn!(
            directory = settings.directory,
            "the authority does not know our account: another will be made, and the old one is now {}",
            aside.display()
        ),
        Err(error) => tracing::warn!(file = %path.display(), %error, "an account could not be put aside"),
    }
}

async fn open(settings: &Acme, path: &Path, names: &Names) -> Result<Account, Failure> {
    let https = https(settings, Arc::clone(names)).await?;
    let kept = store::read(path).map_err(|error| unkept(path, &error))?;
    let builder = Account::builder_with_http(Box::new(https));
    let failed = |error| Failure::of(&error, Stage::Account);
    if let Some(kept) = kept {
        match serde_json::from_slice::<AccountCredentials>(&kept) {
            Ok(credentials) => return builder.from_credentials(credentials).await.map_err(failed),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a kept account can't be used: another will be made");
            }
        }
    }
    let external = external(settings)?;
    let contact: Vec<String> = settings
        .email
        .iter()
        .map(|email| format!("mailto:{email}"))
        .collect();
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let wanted = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let created = builder
        .create(&wanted, settings.directory.clone(), external.as_ref())
        .await;
    let (account, credentials) = created.map_err(failed)?;
    let content =
        serde_json::to_vec(&credentials).map_err(|error| Failure::new(Kind::Internal, error.to_string()))?;
    store::write(path, &content).map_err(|error| unkept(path, &error))?;
    tracing::info!(
        directory = settings.directory,
        account = account.id(),
        "an account was made"
    );
    Ok(account)
}

async fn https(settings: &Acme, names: Names) -> Result<Https, Failure> {
    let (directory, ca) = (settings.directory.clone(), settings.ca.clone());
    let made = tokio::task::spawn_blocking(move || Https::new(&directory, ca.as_deref(), names)).await;
    match made {
        Ok(Ok(https)) => Ok(https),
        Ok(Err(error)) => Err(Failure::new(
            Kind::Unreachable,
            format!("no authority can be known: {error}"),
        )),
        Err(error) => Err(Failure::new(Kind::Internal, error.to_string())),
    }
}

fn external(settings: &Acme) -> Result<Option<ExternalAccountKey>, Failure> {
    let Some(eab) = &settings.eab else {
        return Ok(None);
    };
    let key = eab_key(&eab.key).ok_or_else(|| Failure::new(Kind::Account, "eab.key is not in base64url"))?;
    Ok(Some(ExternalAccountKey::new(eab.kid.clone(), &key)))
}

fn unkept(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Storage, format!("{}: {error}", path.display()))
}

/// What orders of the same terms share.
pub type Shared = Arc<Cell>;
