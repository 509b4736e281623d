//! What a cluster that is no more left in a Redis: counted, and taken away.
//!
//! Only names that begin as the cluster's do are touched. The server is asked piece by piece, so that others who use it
//! notice nothing; and nothing is taken from a cluster that somebody lives in.

use super::dial::{self, Raw};
use super::fault::Fault;
use super::resolve::Resolver;
use super::resp::Value;
use super::{Access, channel_name};
use crate::cluster::bus::Topic;
use crate::cluster::names::Names;
use crate::cluster::state::Reason;
use crate::config::model::{RedisAddress, RedisKind};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// How long each step may take.
const STEP: Duration = Duration::from_secs(5);
/// Names that the server looks at in a step.
const PAGE: &str = "1000";
/// Keys that are removed at once.
const TOGETHER: usize = 128;
/// Names of nodes that are told.
const TOLD: usize = 16;

/// Why nothing could be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    #[error("the store can not be asked: {} ({detail})", .reason.name())]
    Store { reason: Reason, detail: String },
    /// These gave signs of life.
    #[error("gateways live in it: {}", .0.join(", "))]
    Lives(Vec<String>),
    /// So many listen on its channels.
    #[error("{0} connections listen to what is announced in it")]
    Listened(u64),
}

impl From<Fault> for PurgeError {
    fn from(fault: Fault) -> Self {
        Self::Store {
            reason: fault.reason,
            detail: fault.detail,
        }
    }
}

/// Keys by what they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub keys: BTreeMap<&'static str, u64>,
    /// Servers that were asked.
    pub servers: usize,
}

impl Found {
    #[must_use]
    pub fn total(&self) -> u64 {
        self.keys.values().sum()
    }
}

/// Counts what is there; `remove`: takes it away, and counts what went.
///
/// # Errors
/// Somebody lives there, or the store can't be asked. Some of it may be gone then: it can be done again.
pub async fn purge(access: &Access, names: &Names, remove: bool) -> Result<Found, PurgeError> {
    let servers = Resolver::new(access).masters(access).await?;
    let mut connections = Vec::new();
    for address in &servers {
        connections.push(open(access, address).await?);
    }
    // All before any: in a Redis Cluster the one with the members is one of several.
    for raw in &mut connections {
        nobody_lives(raw, names, access.url.kind == RedisKind::Cluster).await?;
    }
    let mut sweep = Sweep {
        prefix: names.prefix(),
        remove,
        // Keys of one command are of one slot there.
        together: if access.url.kind == RedisKind::Cluster {
            1
        } else {
            TOGETHER
        },
        found: Found {
            servers: servers.len(),
            ..Found::default()
        },
    };
    for raw in &mut connections {
        sweep.run(raw).await?;
    }
    Ok(sweep.found)
}

async fn open(access: &Access, address: &RedisAddress) -> Result<Raw, Fault> {
    dial::to_master(access, address, "tidegate-purge").await
}

/// In time, or not at all.
async fn ask(raw: &mut Raw, args: &[&[u8]]) -> Result<Value, Fault> {
    match timeout(STEP, raw.ask(args)).await {
        Ok(answer) => answer,
        Err(_) => Err(Fault::new(Reason::Timeout, "no answer in time")),
    }
}

async fn nobody_lives(raw: &mut Raw, names: &Names, clustered: bool) -> Result<(), PurgeError> {
    let key = names.key("mi");
    match ask(raw, &[b"HGETALL", key.as_bytes()]).await {
        Ok(members) => {
            let alive = alive(&members, now(raw).await?);
            if !alive.is_empty() {
                return Err(PurgeError::Lives(alive));
            }
        }
        // Another one has it.
        Err(fault) if clustered && fault.reason == Reason::Moved => {}
        Err(fault) if fault.reason == Reason::WrongType => {}
        Err(fault) => return Err(fault.into()),
    }
    // One that stands still beats no more, and would write everything again.
    let channel = names.channel(&channel_name(Topic::Members, None));
    let counted = ask(raw, &[b"PUBSUB", b"NUMSUB", channel.as_bytes()]).await?;
    match counted.at(&channel).and_then(Value::count) {
        Some(0) | None => Ok(()),
        Some(listeners) => Err(PurgeError::Listened(listeners)),
    }
}

/// Milliseconds on the server's clock.
async fn now(raw: &mut Raw) -> Result<i64, Fault> {
    let time = ask(raw, &[b"TIME"]).await?;
    let part = |at: usize| time.list()?.get(at)?.number();
    match (part(0), part(1)) {
        (Some(seconds), Some(micros)) => Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000)),
        _ => Err(Fault::new(Reason::Protocol, "it does not tell the time")),
    }
}

/// Who gave a sign of life in its time, and did not say that it goes: `incarnation beat at left gone record`.
fn alive(members: &Value, now: i64) -> Vec<String> {
    let Value::Map(members) = members else {
        return Vec::new();
    };
    let alive = members.iter().filter_map(|(node, record)| {
        let record = record.bytes()?;
        let words: Vec<&[u8]> = record.splitn(6, |byte| *byte == b' ').collect();
        let number = |at: usize| std::str::from_utf8(words.get(at)?).ok()?.parse::<i64>().ok();
        let (at, left, gone) = (number(2)?, number(3)?, number(4)?);
        let shown: String = node
            .text()?
            .chars()
            .filter(|c| !c.is_control())
            .take(100)
            .collect();
        (left == 0 && now.abs_diff(at) < gone.unsigned_abs()).then_some(shown)
    });
    alive.take(TOLD).collect()
}

struct Sweep<'a> {
    prefix: &'a str,
    remove: bool,
    together: usize,
    found: Found,
}

impl Sweep<'_> {
    async fn run(&mut self, raw: &mut Raw) -> Result<(), Fault> {
        let pattern = format!("{}*", literal(self.prefix));
        let mut cursor = "0".to_owned();
        loop {
            let args: [&[u8]; 6] = [
                b"SCAN",
                cursor.as_bytes(),
                b"MATCH",
                pattern.as_bytes(),
                b"COUNT",
                PAGE.as_bytes(),
            ];
            let answer = ask(raw, &args).await?;
            let odd = || Fault::new(Reason::Protocol, "an answer of another shape");
            let Some([next, page]) = answer.list() else {
                return Err(odd());
            };
            let keys = page.list().ok_or_else(odd)?.iter().filter_map(Value::bytes);
            // Whatever the server takes for a match.
            let ours = keys.filter(|key| key.starts_with(self.prefix.as_bytes()));
            for keys in ours.collect::<Vec<_>>().chunks(self.together) {
                for key in keys {
                    let rest = key.get(self.prefix.len()..).unwrap_or_default();
                    *self.found.keys.entry(role(rest)).or_default() += 1;
                }
                if self.remove {
                    let mut args: Vec<&[u8]> = vec![b"UNLINK"];
                    args.extend(keys.iter().map(AsRef::as_ref));
                    ask(raw, &args).await?;
                }
            }
            next.text().ok_or_else(odd)?.clone_into(&mut cursor);
            if cursor == "0" {
                return Ok(());
            }
        }
    }
}

/// What a key holds, by its name without the cluster's part.
fn role(rest: &[u8]) -> &'static str {
    let Some(rest) = rest.strip_prefix(b"{c}") else {
        return "others";
    };
    match rest {
        b"gen" => "generation",
        b"mi" => "members",
        b"l" | b"lt" => "leases",
        b"ev" => "events",
        rest if rest.starts_with(b"t:") => "tables",
        rest if rest.starts_with(b"cfg") => "configuration",
        rest if rest.starts_with(b"rl:") => "limits",
        _ => "others",
    }
}

/// As a pattern that matches nothing else.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '^' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn who_beat_in_time_lives_and_who_said_goodbye_does_not() {
        let text = |text: &str| Value::Text(Bytes::copy_from_slice(text.as_bytes()));
        let members = [
            ("late", "1 9 96000 0 3000 {}"),
            ("here", "1 9 99000 0 3000 {\"a\": 1}"),
            ("left", "1 9 99000 1 3000 {}"),
            ("ahead", "1 9 101000 0 3000 {}"),
            ("garbage", "hello"),
        ];
        let members = members.map(|(node, record)| (text(node), text(record)));
        assert_eq!(alive(&Value::Map(members.to_vec()), 100_000), ["here", "ahead"]);
    }

    #[test]
    fn keys_are_known_by_their_names_and_names_are_no_patterns() {
        for (rest, expected) in [
            ("{c}gen", "generation"),
            ("{c}lt", "leases"),
            ("{c}t:keys", "tables"),
            ("{c}cfg", "configuration"),
            ("{c}rl:00ff", "limits"),
            ("{c}new", "others"),
            ("else", "others"),
        ] {
            assert_eq!(role(rest.as_bytes()), expected, "{rest}");
        }
        assert_eq!(literal("a*[b]?\\"), "a\\*\\[b\\]\\?\\\\");
    }
}
