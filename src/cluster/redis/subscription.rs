//! The connection that hears what others announce. It is proved by what this node tells itself on it: a server that
//! answers, or a connection that stands, says nothing about whether anything is delivered.

use super::dial::Raw;
use super::fault::Fault;
use super::health::Connection;
use super::resp::Value;
use super::{Outgoing, Plane};
use crate::cluster::bus::Topic;
use crate::cluster::envelope::{Envelope, Unreadable};
use crate::cluster::listener::{Cause, Message};
use crate::cluster::names::NodeId;
use crate::cluster::state::Reason;
use crate::cluster::window::{Verdict, Windows};
use crate::config::model::RedisAddress;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// After so long without a sound it asks itself.
const SILENT: Duration = Duration::from_secs(1);
/// After so long it does not hear.
const DEAF: Duration = Duration::from_secs(2);
/// Between looks at the two.
const LOOK: Duration = Duration::from_millis(100);
/// How long subscribing may take.
const SUBSCRIBE: Duration = Duration::from_secs(1);

/// Uses the connection until it ends.
pub(super) async fn run(plane: &Arc<Plane>, mut raw: Raw, address: &RedisAddress) -> Fault {
    let channels = plane.channels();
    let probe = plane.probe_channel();
    match timeout(SUBSCRIBE, subscribe(plane, &mut raw, &channels, &probe)).await {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => return fault,
        Err(_) => return Fault::new(Reason::Timeout, "subscribing takes too long"),
    }
    let mut ear = Ear {
        plane,
        channels,
        probe,
        windows: Windows::new(plane.key.is_some()),
    };
    let mut heard = Instant::now();
    let mut live = false;
    let mut asked: Option<Instant> = None;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            value = raw.next() => {
                match value.and_then(|value| ear.hear(value)) {
                    Ok(()) => {}
                    Err(fault) => return fault,
                }
                heard = Instant::now();
                asked = None;
                if !live {
                    live = true;
                    plane.up(Connection::Subscription, &address.to_string());
                    plane.shared.ears.reset(Cause::Reconnected);
                }
            }
            _ = looks.tick() => {
                let silent = heard.elapsed();
                // While it is not known to hear at all it asks at once, and again when what it asked may be lost.
                let ask = (!live || silent >= SILENT) && asked.is_none_or(|asked| asked.elapsed() >= SILENT / 2);
                if ask && ear.ask() {
                    asked = Some(Instant::now());
                }
                if silent >= DEAF {
                    if asked.is_some() {
                        plane.shared.counters.probe_failures.inc();
                        return Fault::new(Reason::Deaf, "what this node tells itself does not arrive");
                    }
                    // Nothing can be asked while the other connection is away. Whether this one works is not known.
                    return Fault::new(Reason::Deaf, "nothing is heard, and nothing can be asked");
                }
            }
        }
    }
}

async fn subscribe(
    plane: &Plane,
    raw: &mut Raw,
    channels: &BTreeMap<String, Topic>,
    probe: &str,
) -> Result<(), Fault> {
    let names = &plane.names;
    let full: Vec<String> = channels.keys().map(|name| names.channel(name)).collect();
    let mut args: Vec<&[u8]> = vec![b"SUBSCRIBE", probe.as_bytes()];
    args.extend(full.iter().map(String::as_bytes));
    let mut bytes = Vec::new();
    super::resp::command(&mut bytes, &args);
    raw.stream
        .write_all(&bytes)
        .await
        .map_err(|error| Fault::io(&error))?;
    let mut missing = args.len() - 1;
    while missing > 0 {
        match raw.next().await? {
            Value::Error(text) => return Err(Fault::said(&text)),
            Value::Push(parts) => match parts.first().and_then(Value::text) {
                Some("subscribe") => missing -= 1,
                Some("message") => {}
                _ => return Err(Fault::new(Reason::Protocol, "another answer than to SUBSCRIBE")),
            },
            _ => return Err(Fault::new(Reason::Protocol, "another answer than to SUBSCRIBE")),
        }
    }
    Ok(())
}

struct Ear<'a> {
    plane: &'a Arc<Plane>,
    channels: BTreeMap<String, Topic>,
    probe: String,
    windows: Windows,
}

impl Ear<'_> {
    /// Tells this node something; whether it is on its way.
    fn ask(&self) -> bool {
        let outgoing = Outgoing {
            channel: self.probe.clone(),
            bytes: b"probe".to_vec(),
        };
        self.plane.commands.load().is_some() && self.plane.outgoing.try_send(outgoing).is_ok()
    }

    /// Takes what the server sent.
    fn hear(&mut self, value: Value) -> Result<(), Fault> {
        let Value::Push(parts) = value else {
            return Err(match value {
                Value::Error(text) => Fault::said(&text),
                _ => Fault::new(Reason::Protocol, "an answer where nothing was asked"),
            });
        };
        match parts.first().and_then(Value::text) {
            Some("message") => {
                let channel = parts.get(1).and_then(Value::text);
                match (channel, parts.get(2)) {
                    (Some(channel), Some(Value::Text(bytes))) => self.message(channel, bytes),
                    // It was so long that it was not even kept.
                    (Some(channel), Some(Value::Error(_))) => {
                        self.passed_over(channel, None, Unreadable::TooLarge)
                    }
                    _ => {}
                }
                Ok(())
            }
            Some("subscribe") => Ok(()),
            // Whatever took the subscription away, what comes after is not what it was.
            Some("unsubscribe" | "sunsubscribe" | "punsubscribe") => Err(Fault::new(
                Reason::Unsubscribed,
                "the server took a subscription away",
            )),
            _ => Ok(()),
        }
    }

    /// Counts what could not be read, and tells of it.
    fn passed_over(&mut self, channel: &str, bytes: Option<usize>, why: Unreadable) {
        let counters = &self.plane.shared.counters;
        let (count, cause) = match why {
            Unreadable::TooLarge => (&counters.too_large, "too large"),
            Unreadable::Garbage => (&counters.garbage, "garbage"),
            Unreadable::Version(_) => (&counters.unknown, "unknown version"),
            Unreadable::Forged => (&counters.forged, "forged"),
        };
        count.inc();
        let mut told = self
            .plane
            .unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if told.is_news(cause, std::time::Instant::now()) {
            tracing::warn!(channel, bytes, error = %why, "an announcement was passed over");
        }
    }

    fn message(&mut self, channel: &str, bytes: &[u8]) {
        let name = channel.strip_prefix(self.plane.names.prefix());
        let Some((name, topic)) = name.and_then(|name| Some((name, *self.channels.get(name)?))) else {
            return;
        };
        let counters = &self.plane.shared.counters;
        let envelope = match Envelope::decode(bytes, self.plane.versions, name, self.plane.key.as_ref()) {
            Ok(envelope) => envelope,
            Err(error) => return self.passed_over(channel, Some(bytes.len()), error),
        };
        let shared = &self.plane.shared;
        let known_as = shared.known_as.load();
        let own = envelope.incarnation == shared.incarnation
            && envelope.source.split('~').next() == Some(known_as.configured());
        let elsewhere =
            topic == Topic::Node && name.split_once(':').map(|(_, node)| node) != Some(known_as.as_str());
        if own || elsewhere {
            return;
        }
        if NodeId::known_as(&envelope.source).is_err() {
            counters.garbage.inc();
            return;
        }
        match self
            .windows
            .hear(&envelope.source, envelope.incarnation, topic, envelope.seq)
        {
            Verdict::Again => {
                counters.duplicates.inc();
                return;
            }
            // What a node says to others in particular has the same numbers.
            Verdict::After(_) if topic != Topic::Node => {
                counters.gaps.inc();
                shared.ears.gap(topic);
            }
            Verdict::After(_) | Verdict::New => {}
        }
        counters.received.inc();
        shared.ears.tell(&Message {
            topic,
            source: envelope.source.as_ref().into(),
            incarnation: envelope.incarnation,
            seq: envelope.seq,
            kind: envelope.kind.as_ref().into(),
            payload: envelope.own_payload(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::bus::Shared;
    use crate::cluster::redis::{Client, Options};
    use crate::config::model::RedisKind;

    fn client() -> Client {
        let options = Options::plain(RedisKind::Cluster, 1);
        let node = NodeId::new("gw").unwrap();
        Client::new(options, Shared::new(node, 1, crate::cluster::redis::starting()))
    }

    fn push(words: &[&str]) -> Value {
        let text = |word: &&str| Value::Text(bytes::Bytes::copy_from_slice(word.as_bytes()));
        Value::Push(words.iter().map(text).collect())
    }

    /// The second of the two bugs of another client: a subscription that the server takes away unasked, as it does
    /// when a slot moves, was given to the command that waited, and moved every later answer.
    #[test]
    fn a_subscription_that_is_taken_away_ends_the_connection() {
        let client = client();
        let plane = &client.plane;
        let mut ear = Ear {
            plane,
            channels: plane.channels(),
            probe: plane.probe_channel(),
            windows: Windows::new(false),
        };
        assert_eq!(ear.hear(push(&["subscribe", "x"])), Ok(()));
        assert_eq!(
            ear.hear(push(&["message", "tidegate:1:test:hlt", "garbage"])),
            Ok(())
        );
        assert_eq!(ear.hear(push(&["message", "elsewhere", "garbage"])), Ok(()));
        assert_eq!(plane.shared.counters.garbage.get(), 1);
        assert_eq!(ear.hear(push(&["something", "later"])), Ok(()));
        for taken in ["sunsubscribe", "unsubscribe", "punsubscribe"] {
            let fault = ear.hear(push(&[taken, "tidegate:1:test:hlt"])).unwrap_err();
            assert_eq!(fault.reason, Reason::Unsubscribed, "{taken}");
        }
        assert_eq!(ear.hear(Value::Nil).unwrap_err().reason, Reason::Protocol);
    }
}
