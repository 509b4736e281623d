//! Where control writes down what happened: an event, which is also a line in the log, and for commands an audit
//! entry. One call each, so that they never tell different stories.

use super::change::Change;
use super::command::{Action, Actor, Command, Outcome};
use crate::config::diagnostic::{self, Diagnostic};
use crate::telemetry::events::{Events, Severity};
use crate::upstream::shared::AdminState;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Audit entries kept in memory; older ones are in the log.
pub const AUDIT_KEPT: usize = 1000;
/// Changes and problems of one entry that are kept.
const DETAILS_KEPT: usize = 100;
/// Changes named in the sentence of an event.
const CHANGES_TOLD: usize = 8;

/// One command, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct AuditEntry {
    /// Number in this process, from 1.
    pub id: u64,
    /// RFC 3339; `ts` is the same, as events name it.
    pub time: String,
    pub ts: String,
    pub actor: String,
    /// The gateway that it was made on, where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    pub action: &'static str,
    /// What it is about, such as `upstream/address`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// What was asked for, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wish: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub dry_run: bool,
    /// `applied`, `unchanged`, `rejected`, `done`.
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

#[derive(Debug, Default)]
struct Audit {
    entries: VecDeque<AuditEntry>,
    next: u64,
}

/// The one place that writes events, log lines and audit entries of control.
#[derive(Debug)]
pub struct Journal {
    pub events: Arc<Events>,
    audit: Mutex<Audit>,
}

impl Journal {
    #[must_use]
    pub fn new(events: Arc<Events>) -> Self {
        Self {
            events,
            audit: Mutex::default(),
        }
    }

    /// Something happened that nobody asked for.
    pub fn note(&self, severity: Severity, kind: &'static str, target: &str, reason: String) {
        self.events.post(kind, severity, target, reason, Value::Null);
    }

    /// Somebody asked for something, and this came of it.
    pub fn record(&self, command: &Command, outcome: &Outcome) {
        let entry = entry(command, outcome);
        let (severity, reason) = sentence(&entry);
        match outcome {
            // The event tells the first.
            Outcome::Rejected(problems) if entry.wish.is_none() => {
                errors_first(problems).skip(1).for_each(log_problem);
            }
            Outcome::Applied { warnings, .. } => warnings.iter().for_each(log_problem),
            // It tells it all.
            Outcome::Rejected(_) | Outcome::Unchanged { .. } | Outcome::Done | Outcome::Closed { .. } => {}
        }
        self.events.post(
            event_kind(command, outcome),
            severity,
            entry.target.clone(),
            reason,
            event_data(&entry),
        );
        self.keep(entry);
    }

    fn keep(&self, mut entry: AuditEntry) {
        let mut audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        audit.next += 1;
        entry.id = audit.next;
        if audit.entries.len() == AUDIT_KEPT {
            audit.entries.pop_front();
        }
        audit.entries.push_back(entry);
    }

    /// Entries with a number above `since`, oldest first, at most `limit`.
    #[must_use]
    pub fn audit(&self, since: u64, limit: usize) -> Vec<AuditEntry> {
        let audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = audit.entries.iter().filter(|entry| entry.id > since);
        newer.take(limit).cloned().collect()
    }

    /// The last command of this kind.
    #[must_use]
    pub fn last(&self, action: &str) -> Option<AuditEntry> {
        let audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        audit
            .entries
            .iter()
            .rev()
            .find(|entry| entry.action == action && !entry.dry_run)
            .cloned()
    }
}

fn entry(command: &Command, outcome: &Outcome) -> AuditEntry {
    let (generation, changes, errors) = match outcome {
        Outcome::Applied {
            generation, changes, ..
        } => (Some(*generation), changes.as_slice(), &[][..]),
        Outcome::Unchanged { generation } => (Some(*generation), &[][..], &[][..]),
        Outcome::Rejected(errors) => (None, &[][..], errors.as_slice()),
        Outcome::Done | Outcome::Closed { .. } => (None, &[][..], &[][..]),
    };
    let (mut wish, reason) = command.action.wish().unzip();
    if let (Outcome::Closed { tunnels }, Some(wish)) = (outcome, &mut wish) {
        *wish = format!("{tunnels} {wish}");
    }
    let now = Timestamp::now().to_string();
    let node = match &command.actor {
        Actor::Cluster { node } => Some(node.clone()),
        _ => None,
    };
    AuditEntry {
        id: 0,
        time: now.clone(),
        ts: now,
        actor: command.actor.to_string(),
        node,
        action: command.action.name(),
        target: command.action.target(),
        wish,
        reason: reason.flatten().map(str::to_owned),
        dry_run: command.dry_run,
        outcome: outcome.name(),
        generation,
        changes: changes.iter().take(DETAILS_KEPT).cloned().collect(),
        errors: errors_first(errors).take(DETAILS_KEPT).map(one_line).collect(),
    }
}

/// The event's name: subject and verb.
fn event_kind(command: &Command, outcome: &Outcome) -> &'static str {
    match (&command.action, outcome) {
        (Action::Reload, _) if command.dry_run => "config.checked",
        (Action::Reload, Outcome::Applied { .. }) => "config.applied",
        (Action::Reload, Outcome::Unchanged { .. } | Outcome::Done | Outcome::Closed { .. }) => {
            "config.unchanged"
        }
        (Action::Reload, Outcome::Rejected(_)) => "config.rejected",
        (Action::FollowConfig(_), _) if command.dry_run => "config.checked",
        (Action::FollowConfig(_), Outcome::Rejected(_)) => "config.rejected",
        (Action::FollowConfig(_), Outcome::Unchanged { .. }) => "config.unchanged",
        (Action::FollowConfig(_), _) => "config.applied",
        (Action::ReloadTls, _) if command.dry_run => "tls.checked",
        (Action::ReloadTls, Outcome::Applied { .. }) => "tls.applied",
        (Action::ReloadTls, Outcome::Unchanged { .. } | Outcome::Done | Outcome::Closed { .. }) => {
            "tls.unchanged"
        }
        (Action::ReloadTls, Outcome::Rejected(_)) => "tls.rejected",
        (Action::SetLogLevel { .. }, _) => "log.level_changed",
        (Action::ReopenLogs, _) => "log.reopened",
        (_, Outcome::Rejected(_)) => "change.rejected",
        _ if command.dry_run => "change.checked",
        (Action::ChangeEndpoint { wish, .. }, _) => match wish.state {
            Some(AdminState::Draining) => "endpoint.draining",
            Some(AdminState::Maintenance) => "endpoint.maintenance",
            Some(AdminState::Active) => "endpoint.active",
            None => "endpoint.weighed",
        },
        (Action::PublishConfig { .. }, Outcome::Unchanged { .. }) => "config.unchanged",
        (Action::PublishConfig { .. }, _) => "config.published",
        (Action::ChangeBalance(_), _) => "balance.changed",
        (Action::ChangeThresholds(_), _) => "thresholds.changed",
        (Action::CloseTunnels { .. }, _) => "tunnels.closed",
        (Action::RegisterService { anew: true, .. }, _) => "service.registered",
        (Action::RegisterService { anew: false, .. }, _) => "service.changed",
        (Action::DeregisterService { .. }, _) => "service.deregistered",
        (Action::ShareOverrides(_), _) => "overrides.shared",
        (Action::Drill(_), _) => "failover.test",
        (Action::ForgetNode { .. }, _) => "cluster.forgotten",
        (Action::Expire(_), _) => "overrides.expired",
    }
}

/// One entry in words.
fn sentence(entry: &AuditEntry) -> (Severity, String) {
    let trial = if entry.dry_run { " (dry run)" } else { "" };
    let mut what = format!("{}{trial} by {}", entry.action, entry.actor);
    if let Some(wish) = entry.wish.as_ref().filter(|wish| !wish.is_empty()) {
        what = format!("{wish}{trial} by {}", entry.actor);
    }
    if let Some(reason) = &entry.reason {
        what = format!("{what} ({reason})");
    }
    match entry.outcome {
        "rejected" => {
            let first = entry.errors.first().map_or("", String::as_str);
            let others = match entry.errors.len() {
                0 | 1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            // What an operator mistyped is answered to whoever typed it.
            let severity = match entry.wish {
                Some(_) => Severity::Warning,
                None => Severity::Error,
            };
            (
                severity,
                format!("{what} rejected, nothing changed: {first}{others}"),
            )
        }
        "applied" => {
            let generation = entry.generation.unwrap_or_default();
            let changes: Vec<String> = entry
                .changes
                .iter()
                .take(CHANGES_TOLD)
                .map(Change::to_string)
                .collect();
            let rest = match entry.changes.len().saturating_sub(CHANGES_TOLD) {
                0 => String::new(),
                n => format!(" and {n} more"),
            };
            (
                Severity::Info,
                format!("{what}: generation {generation}: {}{rest}", changes.join(", ")),
            )
        }
        other => (Severity::Info, format!("{what}: {other}")),
    }
}

fn event_data(entry: &AuditEntry) -> Value {
    json!({
        "actor": entry.actor,
        "node": entry.node,
        "dry_run": entry.dry_run,
        "generation": entry.generation,
        "changes": entry.changes.len(),
        "errors": entry.errors.len(),
    })
}

/// What keeps a configuration from being used, and then what is only doubtful about it.
fn errors_first(problems: &[Diagnostic]) -> impl Iterator<Item = &Diagnostic> {
    let of = move |severity| {
        problems
            .iter()
            .filter(move |problem| problem.severity == severity)
    };
    of(diagnostic::Severity::Error).chain(of(diagnostic::Severity::Warning))
}

fn log_problem(problem: &Diagnostic) {
    let line = one_line(problem);
    match problem.severity {
        diagnostic::Severity::Error => tracing::error!("{line}"),
        diagnostic::Severity::Warning => tracing::warn!("{line}"),
    }
}

/// A problem as one line: place, key, what is wrong, what to do.
#[must_use]
pub fn one_line(problem: &Diagnostic) -> String {
    let mut line = String::new();
    if let Some(location) = &problem.location {
        line = format!(
            "{}:{}:{}: ",
            location.file.display(),
            location.line,
            location.column
        );
    }
    if !problem.key.is_empty() {
        line.push_str(&problem.key);
        line.push_str(": ");
    }
    line.push_str(&problem.message);
    if let Some(hint) = &problem.hint {
        line.push_str(" (");
        line.push_str(hint);
        line.push(')');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::change::ChangeKind;
    use crate::telemetry::metrics::Metrics;

    fn journal() -> Journal {
        Journal::new(Events::new(Metrics::new()))
    }

    fn reload(dry_run: bool) -> Command {
        Command {
            actor: Actor::Signal("HUP"),
            dry_run,
            action: Action::Reload,
        }
    }

    #[test]
    fn a_command_leaves_one_audit_entry_and_one_event() {
        let journal = journal();
        let change = Change {
            object: "route",
            name: "api".to_owned(),
            change: ChangeKind::Added,
        };
        let applied = Outcome::Applied {
            generation: 7,
            changes: vec![change.clone()],
            warnings: Vec::new(),
        };
        journal.record(&reload(false), &applied);

        let entry = journal.audit(0, 10).remove(0);
        assert_eq!(
            (entry.id, entry.actor.as_str(), entry.outcome),
            (1, "signal HUP", "applied")
        );
        assert_eq!((entry.generation, entry.changes), (Some(7), vec![change]));
        let event = &journal.events.latest(10)[0];
        assert_eq!(event.kind, "config.applied");
        assert!(event.reason.contains("+ route api"), "{}", event.reason);
    }

    #[test]
    fn a_rejected_command_names_what_was_wrong() {
        let journal = journal();
        let problem =
            Diagnostic::error("routes[0].upstream", "no upstream \"ap\"").hint("did you mean \"api\"?");
        let doubt = Diagnostic::warning("routes[0]", "nobody gets here");
        journal.record(&reload(false), &Outcome::Rejected(vec![doubt, problem]));
        let entry = journal.last("config.reload").unwrap();
        assert_eq!(
            entry.errors[..1],
            ["routes[0].upstream: no upstream \"ap\" (did you mean \"api\"?)"]
        );
        let event = &journal.events.latest(1)[0];
        assert_eq!(event.severity, Severity::Error);
        assert!(event.reason.contains("did you mean"), "{}", event.reason);
    }

    #[test]
    fn a_dry_run_is_written_down_and_is_not_the_last_reload() {
        let journal = journal();
        journal.record(&reload(true), &Outcome::Unchanged { generation: 1 });
        assert!(journal.audit(0, 10)[0].dry_run);
        assert!(journal.last("config.reload").is_none());
    }

    #[test]
    fn the_audit_list_is_bounded_and_read_page_by_page() {
        let journal = journal();
        for _ in 0..AUDIT_KEPT + 5 {
            journal.record(&reload(false), &Outcome::Unchanged { generation: 1 });
        }
        let first = journal.audit(0, 10);
        assert_eq!((first.len(), first[0].id), (10, 6));
        assert_eq!(journal.audit(AUDIT_KEPT as u64 + 4, 10).len(), 1);
    }
}
