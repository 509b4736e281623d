//! The task that changes the gateway. It takes one command at a time, so no two changes ever meet.
//!
//! Reloads that wait together are one: each reads the files as they are when it starts, so the first of them
//! does what all of them ask for.

use super::certificates;
use super::command::{Action, Actor, Command, Commands, Outcome, Submitted};
use super::discovery;
use super::gateway::Gateway;
use super::overrides::expiry::Ends;
use super::overriding;
use super::reload::{self, Reloaded, Reloader, Watched};
use super::sharing::config::document::Document;
use super::systemd;
use super::tunnels;
use crate::base::clock::calendar;
use crate::config::model::{LogFormat, LogLevel};
use crate::telemetry::access_log::AccessWriter;
use crate::telemetry::log::{LogControl, Style};
use crate::telemetry::metrics::ReloadResult;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;

/// Time in which workers take up a new snapshot.
const LETTING_GO: Duration = Duration::from_secs(1);

/// What the mutator works with.
#[derive(Debug)]
pub struct Mutator {
    gateway: Arc<Gateway>,
    reloader: Reloader,
    access: Arc<AccessWriter>,
    log: LogControl,
    watched: watch::Sender<Watched>,
    inbox: mpsc::Receiver<Submitted>,
    /// Taken from the inbox, not carried out yet.
    waiting: VecDeque<Submitted>,
    /// When the log's level goes back to the configured one.
    revert_level_at: Option<Instant>,
    /// When which overrides end.
    ends: Ends,
    /// When the workers have let go of what a change removed.
    forget_at: Option<Instant>,
}

impl Mutator {
    /// The mutator, the way to it, and what its reloads say must be watched.
    #[must_use]
    pub fn new(
        gateway: Arc<Gateway>,
        reloader: Reloader,
        access: Arc<AccessWriter>,
        log: LogControl,
    ) -> (Self, Commands, watch::Receiver<Watched>) {
        let (commands, inbox) = Commands::channel();
        let running = gateway.running.load_full();
        let watched = watch::Sender::new(Watched {
            files: running.files.clone(),
            directories: running.directories.clone(),
        });
        let changes = watched.subscribe();
        let mutator = Self {
            gateway,
            reloader,
            access,
            log,
            watched,
            inbox,
            waiting: VecDeque::new(),
            revert_level_at: None,
            ends: Ends::default(),
            forget_at: None,
        };
        (mutator, commands, changes)
    }

    /// Carries out commands until nobody can send any.
    pub async fn run(mut self) {
        self.follow_ends();
        loop {
            if let Some(next) = self.waiting.pop_front() {
                self.carry_out(next).await;
                continue;
            }
            let (revert_at, forget_at) = (self.revert_level_at, self.forget_at);
            tokio::select! {
                next = self.inbox.recv() => match next {
                    Some(next) => self.waiting.push_back(next),
                    None => return,
                },
                () = self.gateway.upstreams_changed.notified() => {
                    if discovery::refresh(&self.gateway) {
                        self.forget_soon();
                    }
                }
                () = sleep_until(forget_at) => {
                    self.forget_at = None;
                    reload::forget_removed_series(&self.gateway);
                }
                () = sleep_until(revert_at) => self.revert_level(),
                () = sleep_until(self.ends.next()) => self.expire().await,
            }
        }
    }

    fn follow_ends(&mut self) {
        let overrides = self.gateway.overrides.load();
        self.ends.follow(&overrides, calendar(), Instant::now());
    }

    /// Takes back the overrides whose time is over.
    async fn expire(&mut self) {
        let command = Command {
            actor: Actor::Expiry,
            dry_run: false,
            action: Action::Expire(self.ends.over(Instant::now())),
        };
        let outcome = overriding::carry_out(&self.gateway, &command).await;
        self.gateway.journal.record(&command, &outcome);
        if let Outcome::Rejected(_) = outcome {
            // The gateway is ending: what is kept is taken back at the next start.
            self.ends = Ends::default();
        } else {
            self.follow_ends();
        }
    }

    /// Series of what is gone are still held by the workers when it goes.
    fn forget_soon(&mut self) {
        self.forget_at.get_or_insert_with(|| Instant::now() + LETTING_GO);
    }

    async fn carry_out(&mut self, next: Submitted) {
        let outcome = match &next.command.action {
            Action::Reload => return self.reload(next).await,
            Action::FollowConfig(document) => {
                let document = Arc::clone(document);
                return self.follow(next, &document).await;
            }
            Action::ReloadTls => {
                let outcome = self.reloader.reload_tls(next.command.dry_run).await;
                if !next.command.dry_run {
                    self.after_reload(&outcome);
                }
                outcome
            }
            Action::ChangeEndpoint { .. }
            | Action::ChangeBalance(_)
            | Action::ChangeThresholds(_)
            | Action::ShareOverrides(_)
            | Action::ForgetNode { .. } => {
                let outcome = overriding::carry_out(&self.gateway, &next.command).await;
                self.follow_ends();
                outcome
            }
            Action::CloseTunnels { which, code, .. } => Outcome::Closed {
                tunnels: tunnels::close(&self.gateway, which, *code, next.command.dry_run).await,
            },
            // Nobody asks for them here: the mutator does the one by itself, the others are done already.
            Action::Expire(_)
            | Action::RegisterService { .. }
            | Action::DeregisterService { .. }
            | Action::PublishConfig { .. }
            | Action::Drill(_) => Outcome::Done,
            Action::SetLogLevel { level, revert_after } => {
                if !next.command.dry_run {
                    self.set_level(*level, *revert_after);
                }
                Outcome::Done
            }
            Action::ReopenLogs => {
                if !next.command.dry_run {
                    self.access.reopen();
                }
                Outcome::Done
            }
        };
        self.finish(next, &outcome);
    }

    async fn reload(&mut self, first: Submitted) {
        let mut together = vec![first];
        while let Ok(next) = self.inbox.try_recv() {
            self.waiting.push_back(next);
        }
        let dry_run = together[0].command.dry_run;
        let same =
            |next: &Submitted| next.command.action == Action::Reload && next.command.dry_run == dry_run;
        let (more, others) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(same);
        together.extend(more);
        self.waiting = others.into();

        // The watch looks often and mostly in vain, and nobody waits for it.
        let asked_for = together
            .iter()
            .any(|asked| asked.command.actor != Actor::FileWatch);
        let told = asked_for && !dry_run;
        if told {
            systemd::reloading();
        }
        let reloaded = self.reloader.reload(dry_run).await;
        let repeated = reloaded.repeated;
        let outcome = self.settle(reloaded, dry_run).await;
        if !dry_run {
            self.gateway.following.look.notify_one();
        }
        if told {
            systemd::ready("serving");
        }
        // The watch rings for every touch; the same bytes with the same outcome are no news.
        let news = match outcome {
            Outcome::Applied { .. } | Outcome::Done | Outcome::Closed { .. } => true,
            Outcome::Unchanged { .. } => false,
            Outcome::Rejected(_) => !repeated,
        };
        if !dry_run && (news || asked_for) {
            self.after_reload(&outcome);
        }
        for asked in together {
            if asked.command.actor == Actor::FileWatch && !news {
                drop(asked.answer.send(outcome.clone()));
            } else {
                self.finish(asked, &outcome);
            }
        }
    }

    /// What was published to the cluster. Tried again with the same end it is no news.
    async fn follow(&mut self, asked: Submitted, document: &Arc<Document>) {
        let dry_run = asked.command.dry_run;
        let reloaded = self.reloader.follow(document, dry_run).await;
        let repeated = reloaded.repeated;
        let outcome = self.settle(reloaded, dry_run).await;
        if repeated {
            drop(asked.answer.send(outcome));
            return;
        }
        if !dry_run {
            self.after_reload(&outcome);
        }
        self.finish(asked, &outcome);
    }

    /// What follows on a reload, however it ended.
    async fn settle(&self, reloaded: Reloaded, dry_run: bool) -> Outcome {
        let Reloaded { outcome, watched, .. } = reloaded;
        self.gateway.names.settled();
        if !dry_run {
            // A reload right after this one may want an address that this one gave up.
            self.gateway.sockets_closed().await;
            if !watched.files.is_empty() {
                self.watched.send_if_modified(|before| {
                    let differs = *before != watched;
                    *before = watched;
                    differs
                });
            }
        }
        outcome
    }

    fn after_reload(&mut self, outcome: &Outcome) {
        if let Outcome::Rejected(problems) = outcome {
            let refused = certificates::refused_pairs(problems);
            self.gateway.metrics.control.certificates_refused.add(refused);
        }
        let result = match outcome {
            Outcome::Applied { .. } => ReloadResult::Applied,
            Outcome::Unchanged { .. } | Outcome::Done | Outcome::Closed { .. } => ReloadResult::Unchanged,
            Outcome::Rejected(_) => ReloadResult::Rejected,
        };
        self.gateway
            .metrics
            .control
            .reloaded(result, self.gateway.live.generation());
        if result == ReloadResult::Applied {
            self.forget_soon();
        }
        if result == ReloadResult::Applied && self.revert_level_at.is_none() {
            self.revert_level();
        }
    }

    fn finish(&self, asked: Submitted, outcome: &Outcome) {
        self.gateway.journal.record(&asked.command, outcome);
        // Whoever asked may have left; what was done is done.
        drop(asked.answer.send(outcome.clone()));
    }

    fn set_level(&mut self, level: LogLevel, revert_after: Option<Duration>) {
        let format = self.gateway.running.load().config.log.format;
        set_log(&self.log, level, format);
        self.revert_level_at = revert_after.map(|after| Instant::now() + after);
    }

    fn revert_level(&mut self) {
        self.revert_level_at = None;
        let running = self.gateway.running.load();
        set_log(&self.log, running.config.log.level, running.config.log.format);
    }
}

fn set_log(log: &LogControl, level: LogLevel, format: LogFormat) {
    log.set(level_filter(level), style(format));
}

/// The configured level, as the log knows it.
#[must_use]
pub fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// The configured format, as the log knows it.
#[must_use]
pub fn style(format: LogFormat) -> Style {
    match format {
        LogFormat::Text => Style::Text,
        LogFormat::Json => Style::Json,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
