//! One configuration for all gateways of the cluster that follow it. Whoever publishes asks all that are there whether
//! they could take it, before any does; then each loads it as it would load its own file, keeps it, and tells its
//! version with its beats.
//!
//! | file | does |
//! |---|---|
//! | [`document`] | one version, as it is stored |
//! | [`decide`] | what is to be done about what the store has, pure |
//! | [`file`] | the version in force, kept for a start without Redis |
//! | [`ask`] | could this gateway take it, could the others |
//! | [`publish`] | a new version, and what was before it |
//!
//! An announcement says that there is something new; every beat says so too, so a lost one costs no more than the
//! time between two. Without a cluster.key the store is believed: whoever may write there may publish.

pub mod ask;
pub mod decide;
pub mod document;
pub mod file;
pub mod publish;

use super::keys;
use super::seal::Seal;
use crate::cluster::bus::Topic;
use crate::cluster::configs::{ConfigMark, Publication, Published, SharedConfig};
use crate::cluster::listener::{Heard, Message};
use crate::cluster::store::{Lease, StoreError};
use crate::config::diagnostic::{Diagnostic, Severity as Weight};
use crate::control::command::{Action, Actor, Command, Commands, Outcome};
use crate::control::gateway::{Gateway, Phase};
use crate::control::journal::one_line;
use crate::telemetry::events::Severity;
use ask::Answerer;
use bytes::Bytes;
use decide::{Step, Watch};
use document::Document;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Announced when there is a new version.
const PUBLISHED: &str = "config.published";
/// The chore of writing the shared configuration.
const TASK: &str = "config";
/// Sealing failed.
const FAILED: StoreError = StoreError::Malformed("the provider of cryptography failed");
/// How long it is held: for all gateways to be asked, and a slow store.
const LEASE: Duration = Duration::from_secs(20);

/// Follows until the bus ends.
pub async fn run(gateway: Arc<Gateway>, commands: Commands) {
    if !gateway.following.on {
        return;
    }
    let mut ears = gateway.cluster.bus.listen(&[Topic::Control, Topic::Node]);
    let mut stored = gateway.cluster.stored();
    let mut follower = Follower {
        seal: keys::seal(&gateway),
        gateway: &gateway,
        commands: &commands,
        watch: Watch::default(),
        told: String::new(),
    };
    let mut answerer = Answerer::new(&gateway, &commands);
    loop {
        tokio::select! {
            heard = ears.next() => match heard {
                None => return,
                Some(Heard::Message(message)) if message.topic == Topic::Node => answerer.hear(&message).await,
                Some(Heard::Message(message)) => follower.hear(&message).await,
                Some(Heard::Gap | Heard::Reset(_)) => follower.look().await,
            },
            changed = stored.changed() => {
                if changed.is_err() {
                    return;
                }
                let mark = stored.borrow_and_update().clone();
                if let Some(mark) = mark {
                    follower.beat(&mark).await;
                }
            }
            () = gateway.following.look.notified() => {
                follower.watch.hurry(Instant::now());
                follower.look().await;
            }
        }
    }
}

struct Follower<'a> {
    gateway: &'a Gateway,
    commands: &'a Commands,
    seal: Option<Seal>,
    watch: Watch,
    /// What was told of a store that can't be read.
    told: String,
}

impl Follower<'_> {
    async fn hear(&mut self, message: &Message) {
        if &*message.kind == PUBLISHED {
            self.look().await;
        }
    }

    /// A beat found this in the store.
    async fn beat(&mut self, mark: &ConfigMark) {
        let own = self.gateway.following.version();
        match self.watch.step(mark, own, Instant::now()) {
            Step::Nothing => {}
            Step::Read => self.look().await,
            Step::Publish => self.publish_again(mark.version).await,
        }
        let following = &self.gateway.following;
        following.note_behind(self.watch.behind(mark, following.version()));
    }

    /// Looks at what is in the store, and takes it where it is new.
    async fn look(&mut self) {
        if self.gateway.phase() == Phase::Draining {
            return;
        }
        match self.gateway.cluster.bus.config().await {
            Ok(Some(shared)) => self.found(shared).await,
            // What is missing was lost, or there never was one.
            Ok(None) => {}
            Err(error) if error.passes() => {}
            Err(error) => self.cannot_read(0, &error.to_string()),
        }
    }

    async fn found(&mut self, shared: SharedConfig) {
        let own = self.gateway.following.version();
        if self.watch.step(&shared.mark, own, Instant::now()) != Step::Read {
            return;
        }
        let SharedConfig { mark, content } = shared;
        let cluster = &self.gateway.cluster.name;
        match Document::read(mark.version, &content, cluster, self.seal.as_ref()) {
            Ok(document) => {
                self.told.clear();
                if let Some(taken) = self.take(Arc::new(document)).await {
                    self.watch.looked_at(mark, taken, Instant::now());
                }
            }
            Err(error) => {
                self.cannot_read(mark.version, &error.to_string());
                self.watch.looked_at(mark, false, Instant::now());
            }
        }
    }

    /// Gives whether it is in force now; nothing where that could not be tried.
    async fn take(&self, document: Arc<Document>) -> Option<bool> {
        let following = &self.gateway.following;
        if following.now().is_some_and(|now| now.is(&document)) {
            following.note_refused(None);
            return Some(true);
        }
        let command = Command {
            actor: Actor::Cluster {
                node: document.about.node.clone(),
            },
            dry_run: false,
            action: Action::FollowConfig(Arc::clone(&document)),
        };
        match self.commands.submit(command).await {
            Ok(Outcome::Rejected(problems)) => {
                following.note_refused(Some((document.about.version, first(&problems))));
                Some(false)
            }
            Ok(_) => {
                following.note_refused(None);
                self.keep(document).await;
                Some(true)
            }
            Err(error) => {
                tracing::debug!(%error, "the cluster's configuration waits");
                None
            }
        }
    }

    /// Writes down what is in force.
    async fn keep(&self, document: Arc<Document>) {
        let Some(directory) = self.gateway.node.state_dir.clone() else {
            return;
        };
        let kept = tokio::task::spawn_blocking(move || file::save(&directory, &document)).await;
        let error = match kept {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        let text =
            format!("the cluster's configuration is in force, and is not kept for the next start: {error}");
        self.note(Severity::Error, "config.not_kept", text);
    }

    fn cannot_read(&mut self, version: u64, why: &str) {
        self.gateway
            .following
            .note_refused(Some((version, why.to_owned())));
        if self.told != why {
            let text =
                format!("what is in the store is no configuration to follow: {why}; what is in force stays");
            self.note(Severity::Error, "config.unreadable", text);
            why.clone_into(&mut self.told);
        }
    }

    /// Gives the store what this gateway has in force, as it has a lower version, or none.
    async fn publish_again(&self, lower: u64) {
        let gateway = self.gateway;
        let (bus, Some(document)) = (&gateway.cluster.bus, gateway.following.now()) else {
            return;
        };
        let Ok(Some(lease)) = bus.acquire(TASK, LEASE).await else {
            return;
        };
        match put(gateway, self.seal.as_ref(), lower, &document).await {
            Ok(Published::Version(version)) => {
                let text = match lower {
                    0 => format!("the store had no configuration any more: version {version} is there again"),
                    _ => format!("the store was back at version {lower}: version {version} is there again"),
                };
                self.note(Severity::Warning, "config.restored", text);
            }
            // Others were quicker.
            Ok(Published::Conflict(_)) => {}
            Err(error) => tracing::debug!(%error, "the configuration is not in the store again"),
        }
        release(gateway, &lease).await;
    }

    fn note(&self, severity: Severity, kind: &'static str, text: String) {
        self.gateway
            .journal
            .note(severity, kind, &self.gateway.cluster.name, text);
    }
}

/// Brings a version to the store, and says so.
async fn put(
    gateway: &Gateway,
    seal: Option<&Seal>,
    expected: u64,
    document: &Document,
) -> Result<Published, StoreError> {
    let publication = Publication {
        expected,
        version: document.about.version,
        content: document.content(seal).ok_or(FAILED)?,
        about: document.summary(seal).ok_or(FAILED)?,
    };
    let bus = &gateway.cluster.bus;
    let published = bus.publish_config(publication).await?;
    if let Published::Version(version) = published {
        let payload = json!({ "version": version }).to_string();
        let _beats_say_so_too = bus.announce(Topic::Control, PUBLISHED, &Bytes::from(payload));
    }
    Ok(published)
}

async fn release(gateway: &Gateway, lease: &Lease) {
    let _lapses_otherwise = gateway.cluster.bus.release(lease).await;
}

/// The first of these that is an error, on one line.
fn first(problems: &[Diagnostic]) -> String {
    let error = problems.iter().find(|problem| problem.severity == Weight::Error);
    error
        .or_else(|| problems.first())
        .map(one_line)
        .unwrap_or_default()
}
