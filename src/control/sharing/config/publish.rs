//! Publishing: looked at here, then by all that are there, then written in place of the version that was in force when
//! that began. One gateway at a time does it, by a lease; should two do it at once all the same, the later finds that
//! what it would replace is gone.

use super::ask::{self, Verdict};
use super::document::{About, Document, MAX_TEXT, read_summary, words};
use super::{LEASE, TASK, keys, put, release};
use crate::cluster::configs::{Published, sha256};
use crate::cluster::store::{Lease, MAX_REVISION, StoreError};
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::control::change::Change;
use crate::control::command::{Action, Actor, Command, Commands, Outcome, SubmitError};
use crate::control::gateway::Gateway;
use jiff::Timestamp;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long the answer waits for this gateway to have it in force.
const IN_FORCE: Duration = Duration::from_secs(5);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What is to be published.
#[derive(Clone, Debug)]
pub struct Wish {
    pub what: What,
    /// The version that is in force, as far as whoever asks knows; 0 for none.
    pub expected: Option<u64>,
    pub reason: Option<String>,
}

#[derive(Clone, Debug)]
pub enum What {
    Text(Arc<str>),
    /// The text of a version that was in force before.
    Again(u64),
    /// None: each gateway goes by its own file again.
    Nothing,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    pub about: About,
    /// The same is in force already.
    pub unchanged: bool,
    pub changes: Vec<Change>,
    pub warnings: Vec<Diagnostic>,
    pub verdicts: Vec<Verdict>,
    /// Whether this gateway serves by it now.
    pub in_force: bool,
}

/// Why nothing was published.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused {
    #[error("this gateway does not follow the cluster's configuration")]
    NotFollowing,
    #[error("the text has {0} bytes, more than the {MAX_TEXT} that can be published")]
    TooLong(usize),
    #[error("there is no text")]
    Empty,
    #[error("there is no version {0}, or it is no longer kept")]
    NoVersion(u64),
    #[error("version {0} took the configuration back: there is no text to return to")]
    NoText(u64),
    #[error("version {found} is in force, not {expected}: somebody else published meanwhile")]
    Conflict { expected: u64, found: u64 },
    #[error("{0} is publishing right now")]
    Busy(String),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Submit(#[from] SubmitError),
    #[error("the configuration is refused; what is in force stays so everywhere")]
    Rejected(Vec<Diagnostic>),
    #[error("{}; what is in force stays so everywhere", refusers(.0))]
    Members(Vec<Verdict>),
}

/// Who refuses, and the first reason of the first.
fn refusers(verdicts: &[Verdict]) -> String {
    let refused = || verdicts.iter().filter(|verdict| verdict.verdict == "refused");
    let names: Vec<&str> = refused().map(|verdict| verdict.node.as_str()).collect();
    let first = refused().find_map(|verdict| {
        let told = verdict.diagnostics.first()?;
        let text = |key: &str| told.get(key).and_then(Value::as_str).unwrap_or_default();
        Some(format!(": {}: {}", text("key"), text("message")))
    });
    let verb = if names.len() == 1 { "refuses" } else { "refuse" };
    words(&format!(
        "{} {verb} it{}",
        names.join(", "),
        first.unwrap_or_default()
    ))
}

/// Publishes, or with `dry_run` does all that goes before. Written down as what `actor` asked for.
///
/// # Errors
/// Nothing was published, except where the store did not answer in time: then nobody knows.
pub async fn publish(
    gateway: &Gateway,
    commands: &Commands,
    actor: &Actor,
    wish: &Wish,
    dry_run: bool,
) -> Result<Report, Refused> {
    let publishing = Publishing {
        gateway,
        commands,
        actor,
        wish,
        dry_run,
    };
    let done = publishing.run().await;
    let version = done.as_ref().map_or(0, |report| report.about.version);
    let command = Command {
        actor: actor.clone(),
        dry_run,
        action: Action::PublishConfig {
            version,
            what: told(&wish.what, done.as_ref().ok()),
            reason: wish.reason.clone(),
        },
    };
    let generation = gateway.live.generation();
    let outcome = match &done {
        Ok(report) if report.unchanged => Outcome::Unchanged { generation },
        Ok(report) => Outcome::Applied {
            generation,
            changes: report.changes.clone(),
            warnings: Vec::new(),
        },
        Err(Refused::Rejected(problems)) => Outcome::Rejected(problems.clone()),
        Err(refused) => Outcome::Rejected(vec![Diagnostic::error("", refused.to_string())]),
    };
    gateway.journal.record(&command, &outcome);
    done
}

/// What was asked for, in words.
fn told(what: &What, report: Option<&Report>) -> String {
    let version = report.map_or_else(String::new, |report| {
        format!(" as version {}", report.about.version)
    });
    match what {
        What::Text(text) => format!(
            "publication of {} bytes (sha256 {}){version}",
            text.len(),
            sha256(text.as_bytes()).get(..12).unwrap_or_default()
        ),
        What::Again(before) => format!("publication of version {before} again{version}"),
        What::Nothing => format!("withdrawal of what was published{version}"),
    }
}

struct Publishing<'a> {
    gateway: &'a Gateway,
    commands: &'a Commands,
    actor: &'a Actor,
    wish: &'a Wish,
    dry_run: bool,
}

impl Publishing<'_> {
    async fn run(&self) -> Result<Report, Refused> {
        if !self.gateway.following.on {
            return Err(Refused::NotFollowing);
        }
        if let What::Text(text) = &self.wish.what {
            if text.len() > MAX_TEXT {
                return Err(Refused::TooLong(text.len()));
            }
            if text.trim().is_empty() {
                return Err(Refused::Empty);
            }
        }
        let Ok(_alone) = self.gateway.following.publishing.try_lock() else {
            return Err(Refused::Busy("another request to this gateway".to_owned()));
        };
        let lease = self.hold().await?;
        let done = self.with(&lease).await;
        release(self.gateway, &lease).await;
        let mut report = done?;
        if !self.dry_run && !report.unchanged {
            report.in_force = self.taken(report.about.version).await;
        }
        Ok(report)
    }

    async fn hold(&self) -> Result<Lease, Refused> {
        match self.gateway.cluster.bus.acquire(TASK, LEASE).await? {
            Some(lease) => Ok(lease),
            None => {
                let view = self.gateway.cluster.view();
                let holder = view.leases.iter().find(|lease| lease.task == TASK);
                let holder = holder.map_or("another gateway", |lease| &lease.holder);
                Err(Refused::Busy(holder.to_owned()))
            }
        }
    }

    async fn with(&self, lease: &Lease) -> Result<Report, Refused> {
        let gateway = self.gateway;
        let seal = keys::seal(gateway);
        let stored = gateway.cluster.bus.config().await?;
        let expected = stored.as_ref().map_or(0, |stored| stored.mark.version);
        let now = stored.and_then(|stored| {
            Document::read(expected, &stored.content, &gateway.cluster.name, seal.as_ref()).ok()
        });
        if let Some(wanted) = self.wish.expected
            && wanted != expected
        {
            return Err(Refused::Conflict {
                expected: wanted,
                found: expected,
            });
        }
        let document = Arc::new(self.document(expected).await?);
        let same = match &now {
            Some(now) => now.text == document.text,
            None => expected == 0 && document.text.is_none(),
        };
        if same {
            let about = now.map_or_else(|| document.about.clone(), |now| now.about);
            return Ok(Report {
                unchanged: true,
                in_force: gateway.following.version() == about.version,
                changes: Vec::new(),
                warnings: Vec::new(),
                verdicts: Vec::new(),
                about,
            });
        }
        let (changes, warnings) = self.look(&document).await?;
        let verdicts = ask::everybody(gateway, &document).await?;
        if verdicts.iter().any(|verdict| verdict.verdict == "refused") {
            return Err(Refused::Members(verdicts));
        }
        if !self.dry_run {
            if !lease.held(Instant::now()) {
                return Err(Refused::Store(StoreError::Fenced));
            }
            let published = put(gateway, seal.as_ref(), expected, &document).await?;
            if let Published::Conflict(found) = published {
                return Err(Refused::Conflict { expected, found });
            }
        }
        Ok(Report {
            about: document.about.clone(),
            unchanged: false,
            changes,
            warnings,
            verdicts,
            in_force: false,
        })
    }

    async fn document(&self, stored: u64) -> Result<Document, Refused> {
        let gateway = self.gateway;
        let (text, again) = match &self.wish.what {
            What::Text(text) => (Some(Arc::clone(text)), None),
            What::Nothing => (None, None),
            What::Again(version) => {
                let document = version_of(gateway, *version).await?;
                let document = document.ok_or(Refused::NoVersion(*version))?;
                (
                    Some(document.text.ok_or(Refused::NoText(*version))?),
                    Some(*version),
                )
            }
        };
        let plain = text.as_deref().unwrap_or_default();
        let about = About {
            version: next_version(gateway, stored),
            cluster: gateway.cluster.name.clone(),
            sha256: sha256(plain.as_bytes()),
            bytes: plain.len(),
            there: text.is_some(),
            author: words(&self.actor.to_string()),
            node: gateway.cluster.bus.node().configured().to_owned(),
            at: Timestamp::now().to_string(),
            reason: self.wish.reason.as_deref().map(words),
            again,
        };
        Ok(Document { about, text })
    }

    /// Whether this gateway could take it, and what that would change.
    async fn look(&self, document: &Arc<Document>) -> Result<(Vec<Change>, Vec<Diagnostic>), Refused> {
        let command = Command {
            actor: self.actor.clone(),
            dry_run: true,
            action: Action::FollowConfig(Arc::clone(document)),
        };
        match self.commands.submit(command).await? {
            Outcome::Rejected(mut problems) => {
                problems.sort_by_key(|problem| problem.severity != Severity::Error);
                Err(Refused::Rejected(problems))
            }
            Outcome::Applied {
                changes, warnings, ..
            } => Ok((changes, warnings)),
            Outcome::Unchanged { .. } | Outcome::Done | Outcome::Closed { .. } => {
                Ok((Vec::new(), Vec::new()))
            }
        }
    }

    /// Waits until this gateway has it in force; `false` where it could not take it after all.
    async fn taken(&self, version: u64) -> bool {
        let following = &self.gateway.following;
        following.look.notify_one();
        let end = Instant::now() + IN_FORCE;
        while Instant::now() < end {
            if following.version() >= version {
                return true;
            }
            if following
                .refused()
                .is_some_and(|refused| refused.version == version)
            {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }
}

/// Above all that anybody is known to have: a store may have lost the last ones.
fn next_version(gateway: &Gateway, stored: u64) -> u64 {
    let view = gateway.cluster.view();
    let others = view.members.iter().map(|member| member.record.config);
    let known = others.chain([stored, gateway.following.version()]);
    // A number that nobody counted to is not believed.
    let highest = known.filter(|version| *version < MAX_REVISION).max();
    highest.unwrap_or(0) + 1
}

/// One version that is kept.
///
/// # Errors
/// It can't be read now, or is none of ours.
pub async fn version_of(gateway: &Gateway, version: u64) -> Result<Option<Document>, Refused> {
    let Some(content) = gateway.cluster.bus.config_version(version).await? else {
        return Ok(None);
    };
    let seal = keys::seal(gateway);
    let document = Document::read(version, &content, &gateway.cluster.name, seal.as_ref());
    Ok(document.ok())
}

/// Versions that are kept, the latest first; those that can't be read are left out.
///
/// # Errors
/// They can't be read now.
pub async fn versions(gateway: &Gateway) -> Result<Vec<About>, Refused> {
    let seal = keys::seal(gateway);
    let kept = gateway.cluster.bus.config_versions().await?;
    let read = kept.iter().filter_map(|(version, summary)| {
        read_summary(*version, summary, &gateway.cluster.name, seal.as_ref()).ok()
    });
    let mut versions: Vec<About> = read.collect();
    versions.sort_by_key(|about| std::cmp::Reverse(about.version));
    Ok(versions)
}
