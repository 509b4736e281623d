//! One order, from asking for it to a certificate that serves (RFC 8555 section 7.4).

use super::account::Shared;
use super::client::{Names, heard_retry_after};
use super::failure::{Failure, Kind, Stage, said};
use super::place::Window;
use super::store;
use crate::config::model::{Acme as Settings, AcmeChallenge, AcmeKey};
use crate::tls::acme::challenge::{Challenges, Offer};
use crate::tls::acme::{self, Slot};
use crate::tls::certificate::Certificate;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Identifier,
    NewOrder, Order, OrderStatus,
};
use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_RSA_SHA256, RsaKeySize,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Longest time for all of it.
pub const DEADLINE: Duration = Duration::from_secs(300);
/// First wait between two looks at an order, and the longest.
const LOOK: Duration = Duration::from_millis(250);
const MAX_LOOK: Duration = Duration::from_secs(15);
/// Longest wait that an authority may ask for between two looks.
const MAX_ASKED: Duration = Duration::from_secs(60);

/// What an order needs.
#[derive(Clone)]
pub struct Job {
    pub slot: Arc<Slot>,
    pub settings: Settings,
    pub account: Shared,
    pub challenges: Arc<Challenges>,
    pub home: PathBuf,
    /// As what the authority's names are looked up.
    pub names: Names,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

impl Job {
    async fn account(&self) -> Result<Account, Failure> {
        self.account.get(&self.settings, &self.home, &self.names).await
    }
}

/// Gets a certificate, keeps it, and serves it.
///
/// # Errors
/// Why there is none.
pub async fn obtain(job: &Job) -> Result<(), Failure> {
    let account = job.account().await?;
    let mut order = place(job, &account).await?;
    let offers = answer(job, &mut order).await?;
    settle(&mut order, Stage::Challenge).await?;
    drop(offers);
    let (key, request) = request(job.slot.subject.names.clone(), job.settings.key_type).await?;
    // An order that was paid for by an earlier one may have its certificate already, for another key.
    if order.state().status != OrderStatus::Ready {
        return Err(Failure::new(
            Kind::Server,
            "the order is not ready for a certificate to be asked for",
        ));
    }
    let finalized = order.finalize_csr(&request).await;
    finalized.map_err(|error| Failure::of(&error, Stage::Issue))?;
    settle(&mut order, Stage::Issue).await?;
    let chain = order
        .certificate()
        .await
        .map_err(|error| Failure::of(&error, Stage::Issue))?;
    let chain = chain.ok_or_else(|| Failure::new(Kind::Server, "the order has no certificate"))?;
    install(job, format!("{chain}\n{key}")).await
}

/// Asks for it; as the successor of the one that serves, where the authority knows what that is (RFC 9773 section 5).
async fn place(job: &Job, account: &Account) -> Result<Order, Failure> {
    let names = job.slot.subject.names.iter();
    let identifiers: Vec<Identifier> = names.map(|name| Identifier::Dns(name.clone())).collect();
    let mut wanted = NewOrder::new(&identifiers);
    if let Some(profile) = &job.settings.profile {
        wanted = wanted.profile(profile);
    }
    if let Some(former) = former(&job.slot) {
        let mut succeeding = NewOrder::new(&identifiers).replaces(former);
        if let Some(profile) = &job.settings.profile {
            succeeding = succeeding.profile(profile);
        }
        match account.new_order(&succeeding).await {
            Ok(order) => return Ok(order),
            // It knows no succession, or not this one: it was replaced already, or is another authority's.
            Err(error) => {
                let failure = Failure::of(&error, Stage::Order);
                if failure.account_gone || matches!(failure.kind, Kind::Unreachable | Kind::RateLimited) {
                    return Err(failure);
                }
                tracing::debug!(
                    names = job.slot.subject.shown(),
                    "ordered without succession: {failure}"
                );
            }
        }
    }
    let placed = account.new_order(&wanted).await;
    placed.map_err(|error| Failure::of(&error, Stage::Order))
}

/// How an authority knows the certificate that serves; `None` when it has nothing to be known by.
#[must_use]
pub fn former(slot: &Slot) -> Option<CertificateIdentifier<'static>> {
    let held = slot.held()?;
    let leaf = held.certificate.key.cert.first()?;
    CertificateIdentifier::try_from(leaf)
        .ok()
        .map(CertificateIdentifier::into_owned)
}

/// Asks when to renew (RFC 9773 section 4), and when to ask again.
///
/// # Errors
/// The authority does not say.
pub async fn ask(job: &Job) -> Result<(Window, Duration), Failure> {
    let Some(former) = former(&job.slot) else {
        return Err(Failure::new(
            Kind::Internal,
            "the certificate does not say who signed it",
        ));
    };
    let account = job.account().await?;
    let asked = account.renewal_info(&former).await;
    let (info, again) = asked.map_err(|error| Failure::of(&error, Stage::Order))?;
    let window = Window {
        start: info.suggested_window.start.unix_timestamp(),
        end: info.suggested_window.end.unix_timestamp(),
    };
    Ok((window, again))
}

/// Gives the answers that the authority is to find, and tells it to look.
async fn answer(job: &Job, order: &mut Order) -> Result<Vec<Offer>, Failure> {
    let wanted = match job.settings.challenge {
        AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        AcmeChallenge::Http01 => ChallengeType::Http01,
    };
    let failed = |error: &_| Failure::of(error, Stage::Challenge);
    let mut offers = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(|error| failed(&error))?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            other => {
                let text = format!("an authorization of the order is {other:?} from the start");
                return Err(Failure::new(Kind::Challenge, text));
            }
        }
        let name = authorization.identifier().to_string();
        let offered: Vec<String> = authorization
            .challenges
            .iter()
            .map(|it| shown(&it.r#type))
            .collect();
        let Some(mut challenge) = authorization.challenge(wanted.clone()) else {
            let text = format!(
                "the authority does not offer {} for {name}, but {}",
                shown(&wanted),
                offered.join(", ")
            );
            return Err(Failure::new(Kind::Challenge, text));
        };
        let proof = challenge.key_authorization();
        offers.push(match job.settings.challenge {
            AcmeChallenge::Http01 => job.challenges.offer_http(&challenge.token, proof.as_str()),
            AcmeChallenge::TlsAlpn01 => job
                .challenges
                .offer_tls(&name.to_ascii_lowercase(), proof.digest().as_ref())?,
        });
        // One that was looked at before the order was interrupted is not asked for again.
        if challenge.status == ChallengeStatus::Pending {
            challenge.set_ready().await.map_err(|error| failed(&error))?;
        }
    }
    Ok(offers)
}

fn shown(kind: &ChallengeType) -> String {
    match kind {
        ChallengeType::Http01 => "http-01".to_owned(),
        ChallengeType::Dns01 => "dns-01".to_owned(),
        ChallengeType::TlsAlpn01 => "tls-alpn-01".to_owned(),
        ChallengeType::DeviceAttest01 => "device-attest-01".to_owned(),
        ChallengeType::Unknown(name) => name.clone(),
        _ => "another".to_owned(),
    }
}

/// Waits until the authority is done with what it was told. The caller bounds how long.
async fn settle(order: &mut Order, stage: Stage) -> Result<(), Failure> {
    let mut wait = LOOK;
    let mut looked = stage == Stage::Issue;
    loop {
        if !looked {
            order
                .refresh()
                .await
                .map_err(|error| Failure::of(&error, stage))?;
        }
        looked = false;
        match (order.state().status, stage) {
            (OrderStatus::Valid, _) | (OrderStatus::Ready, Stage::Challenge) => return Ok(()),
            (OrderStatus::Invalid, _) => return Err(invalid(order, stage).await),
            (OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Processing, _) => {}
        }
        let asked = heard_retry_after().unwrap_or_default().min(MAX_ASKED);
        tokio::time::sleep_until(Instant::now() + wait.max(asked)).await;
        wait = (wait * 3 / 2).min(MAX_LOOK);
    }
}

/// Why an order came to nothing: what the authority says of the order, and of each name that it could not see.
async fn invalid(order: &mut Order, stage: Stage) -> Failure {
    let mut told: Vec<String> = order.state().error.iter().map(said).collect();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            continue;
        }
        let name = authorization.identifier().to_string();
        let problems = authorization
            .challenges
            .iter()
            .filter_map(|challenge| challenge.error.as_ref());
        told.extend(problems.map(|problem| format!("{name}: {}", said(problem))));
    }
    if told.is_empty() {
        told.push("the authority says that the order is invalid, and not why".to_owned());
    }
    let kind = if stage == Stage::Challenge {
        Kind::Challenge
    } else {
        Kind::Refused
    };
    Failure::new(kind, told.join("; "))
}

/// A new key, in PEM, and the request for a certificate with it, in DER.
async fn request(names: Vec<String>, kind: AcmeKey) -> Result<(String, Vec<u8>), Failure> {
    // A large RSA key takes seconds.
    let made = tokio::task::spawn_blocking(move || {
        let key = match kind {
            AcmeKey::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            AcmeKey::P384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
            AcmeKey::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
            AcmeKey::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
        }?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key)?;
        Ok::<_, rcgen::Error>((key.serialize_pem(), request.der().to_vec()))
    });
    let failed = |text: String| Failure::new(Kind::Internal, text);
    made.await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))
}

/// Checks what was issued, keeps it in place of the former one, and serves it.
async fn install(job: &Job, pem: String) -> Result<(), Failure> {
    let (slot, path) = (Arc::clone(&job.slot), job.slot.file(&job.home));
    let kept = tokio::task::spawn_blocking(move || keep(&slot, &path, &pem));
    kept.await
        .map_err(|error| Failure::new(Kind::Internal, error.to_string()))?
}

fn keep(slot: &Slot, path: &Path, pem: &str) -> Result<(), Failure> {
    let unkept = |error: std::io::Error| Failure::new(Kind::Storage, format!("{}: {error}", path.display()));
    let beside = store::write_beside(path, pem.as_bytes()).map_err(unkept)?;
    let now = jiff::Timestamp::now().as_second();
    let certificate = match acme::load(&beside, &slot.subject.names) {
        Ok(certificate) if certificate.not_after > now => Certificate {
            path: path.to_path_buf(),
            ..certificate
        },
        Ok(_) => {
            store::discard(&beside);
            return Err(Failure::new(
                Kind::Certificate,
                "what the authority issued has expired already",
            ));
        }
        Err(error) => {
            store::discard(&beside);
            return Err(error.into());
        }
    };
    store::take_over(&beside, path).map_err(unkept)?;
    slot.put(certificate, now);
    Ok(())
}
