//! Before a configuration is published all gateways that are there and follow say whether they could take it: loaded
//! and compiled on each, with its own file, files and variables. One that says no stops it. Who says nothing in time
//! counts as away, and looks at it when it is back.

use super::document::Document;
use super::{FAILED, keys};
use crate::cluster::bus::Topic;
use crate::cluster::listener::{Heard, Listener, Message};
use crate::cluster::membership::Liveness;
use crate::cluster::names::NodeId;
use crate::cluster::store::{MAX_PAYLOAD, StoreError};
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::render;
use crate::control::command::{Action, Actor, Command, Commands, Outcome};
use crate::control::gateway::Gateway;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What a gateway is asked, and what it says.
const CHECK: &str = "config.check";
const VERDICT: &str = "config.verdict";
/// How long the others have.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often those who said nothing are asked again: what is announced may be lost.
const AGAIN: Duration = Duration::from_millis(500);
/// Problems that a gateway tells.
const TOLD: usize = 20;

#[derive(Debug, Serialize, Deserialize)]
struct Question {
    id: String,
    version: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    id: String,
    accepted: bool,
    #[serde(default)]
    diagnostics: Vec<Value>,
}

/// What a gateway says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    pub node: String,
    /// `accepted`, `refused`, `silent`.
    pub verdict: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Value>,
}

/// Asks all that are there.
///
/// # Errors
/// It could not be laid out for them.
pub async fn everybody(gateway: &Gateway, document: &Document) -> Result<Vec<Verdict>, StoreError> {
    let mut waiting = asked(gateway);
    let mut verdicts = BTreeMap::new();
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let bus = &gateway.cluster.bus;
    let id = format!("{:016x}", fastrand::u64(..));
    let seal = keys::seal(gateway);
    let content = document.content(seal.as_ref()).ok_or(FAILED)?;
    let mut ears = bus.listen(&[Topic::Node]);
    bus.lay_out_config(&id, content).await?;
    let question = Question {
        id: id.clone(),
        version: document.about.version,
    };
    let question: Bytes = serde_json::to_vec(&question).unwrap_or_default().into();
    let end = Instant::now() + PATIENCE;
    while !waiting.is_empty() && Instant::now() < end {
        for node in &waiting {
            bus.tell(node, CHECK, &question);
        }
        let again = end.min(Instant::now() + AGAIN);
        while !waiting.is_empty()
            && let Ok(Some((node, answer))) = timeout_at(again, answer(&mut ears, &id)).await
        {
            if let Some(at) = waiting.iter().position(|waiting| waiting.as_str() == node) {
                waiting.remove(at);
                verdicts.insert(node, answer);
            }
        }
    }
    let silent = waiting.into_iter().map(|node| Verdict {
        node: node.to_string(),
        verdict: "silent",
        diagnostics: Vec::new(),
    });
    let said = verdicts.into_iter().map(|(node, answer)| Verdict {
        node,
        verdict: if answer.accepted { "accepted" } else { "refused" },
        diagnostics: answer.diagnostics,
    });
    Ok(said.chain(silent).collect())
}

/// The others that are there and follow.
fn asked(gateway: &Gateway) -> Vec<NodeId> {
    let view = gateway.cluster.view();
    let there = view.members.iter().filter(|member| {
        member.liveness == Liveness::Alive && member.record.follows && !member.record.draining
    });
    there.map(|member| member.node.clone()).collect()
}

/// The next answer to this question, and whose; `None` when the bus has ended.
async fn answer(ears: &mut Listener, id: &str) -> Option<(String, Answer)> {
    loop {
        let Heard::Message(message) = ears.next().await? else {
            continue;
        };
        if &*message.kind != VERDICT {
            continue;
        }
        if let Ok(answer) = serde_json::from_slice::<Answer>(&message.payload)
            && answer.id == id
        {
            return Some((message.source.to_string(), answer));
        }
    }
}

/// Says for this gateway what others ask.
pub(super) struct Answerer<'a> {
    gateway: &'a Gateway,
    commands: &'a Commands,
    /// What was said last, in case it was lost.
    last: Option<(String, Bytes)>,
}

impl<'a> Answerer<'a> {
    pub(super) const fn new(gateway: &'a Gateway, commands: &'a Commands) -> Self {
        Self {
            gateway,
            commands,
            last: None,
        }
    }

    pub(super) async fn hear(&mut self, message: &Message) {
        let node = NodeId::known_as(&message.source);
        let question = serde_json::from_slice::<Question>(&message.payload);
        let (CHECK, Ok(node), Ok(question)) = (&*message.kind, node, question) else {
            return;
        };
        let bus = &self.gateway.cluster.bus;
        let known = self.last.as_ref().filter(|(id, _)| *id == question.id);
        let said = match known {
            Some((_, said)) => said.clone(),
            None => {
                let Some(said) = self.look(&question, &node).await else {
                    return;
                };
                self.last = Some((question.id, said.clone()));
                said
            }
        };
        bus.tell(&node, VERDICT, &said);
    }

    /// What there is to say; nothing where the store can't be asked.
    async fn look(&self, question: &Question, node: &NodeId) -> Option<Bytes> {
        let found = self.gateway.cluster.bus.laid_out_config(&question.id).await;
        let content = found.ok().flatten()?;
        let cluster = &self.gateway.cluster.name;
        let seal = keys::seal(self.gateway);
        let document = Document::read(question.version, &content, cluster, seal.as_ref());
        let problems = match document {
            Err(error) => vec![Diagnostic::error("", error.to_string())],
            Ok(document) => {
                let command = Command {
                    actor: Actor::Cluster {
                        node: node.to_string(),
                    },
                    dry_run: true,
                    action: Action::FollowConfig(Arc::new(document)),
                };
                match self.commands.submit(command).await.ok()? {
                    Outcome::Rejected(problems) => problems,
                    _ => Vec::new(),
                }
            }
        };
        Some(said(&question.id, &problems))
    }
}

/// As many problems as fit, errors first.
fn said(id: &str, problems: &[Diagnostic]) -> Bytes {
    let mut problems: Vec<Diagnostic> = problems.to_vec();
    let accepted = problems.is_empty();
    problems.sort_by_key(|problem| problem.severity != Severity::Error);
    problems.truncate(TOLD);
    loop {
        let Value::Array(diagnostics) = render::json(&problems) else {
            return Bytes::new();
        };
        let answer = Answer {
            id: id.to_owned(),
            accepted,
            diagnostics,
        };
        let bytes = serde_json::to_vec(&answer).unwrap_or_default();
        if bytes.len() <= MAX_PAYLOAD || problems.pop().is_none() {
            return bytes.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_fits_however_much_there_is_to_say() {
        let long = "x".repeat(MAX_PAYLOAD / 4);
        let mut problems = vec![Diagnostic::warning("a", "doubt")];
        problems.extend((0..50).map(|n| Diagnostic::error(format!("e{n}"), long.clone())));
        let said = said("7", &problems);
        assert!(said.len() <= MAX_PAYLOAD);
        let read: Answer = serde_json::from_slice(&said).unwrap();
        assert!(!read.accepted && read.id == "7");
        assert_eq!(read.diagnostics[0]["key"], "e0", "errors come first");
        assert_eq!(read.diagnostics.len(), 3);
    }

    #[test]
    fn nothing_to_say_is_a_yes() {
        let read: Answer = serde_json::from_slice(&said("7", &[])).unwrap();
        assert!(read.accepted && read.diagnostics.is_empty());
    }
}
