//! Whether a gateway lives, asked of itself and not of the store: question and answer as bytes. Pure.
//!
//! Both are JSON, signed by a key that comes from `cluster.key` and signs nothing else. The question carries a number
//! that nobody can guess and the answer is signed over it: so an answer is about now, whoever passes it on, and one that
//! was heard before proves nothing. A question changes nothing where it arrives, so it may come twice.

use super::names::NodeId;
use super::record::Record;
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where it is asked, by POST.
pub const PATH: &str = "/cluster/ping";
/// Longest question, and longest answer.
pub const MAX: usize = 8 << 10;
const VERSION: u8 = 1;
/// Bytes that nobody can guess.
const NONCE: usize = 16;

/// What signs questions and answers.
#[derive(Clone)]
pub struct PingKey(hmac::Key);

impl PingKey {
    /// From `cluster.key`.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let own = hmac::sign(&root, b"tidegate cluster ping v1");
        Self(hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()))
    }

    fn sign(&self, parts: &[&[u8]]) -> String {
        STANDARD.encode(hmac::sign(&self.0, &joined(parts)))
    }

    fn verify(&self, parts: &[&[u8]], tag: &str) -> Result<(), Unbelieved> {
        let tag = STANDARD.decode(tag).map_err(|_| Unbelieved::Garbage)?;
        hmac::verify(&self.0, &joined(parts), &tag).map_err(|_| Unbelieved::Forged)
    }
}

impl fmt::Debug for PingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Each with its length before it, so that no two lists come to the same bytes.
fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Why a question or an answer is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbelieved {
    #[error("not understood")]
    Garbage,
    #[error("not signed by cluster.key, or not for this")]
    Forged,
}

/// "Are you there?"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    version: u8,
    cluster: String,
    from: String,
    to: String,
    nonce: String,
    tag: String,
}

/// "I am, and this is how I am."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    version: u8,
    incarnation: u64,
    /// What it tells of itself, as in the store.
    record: String,
    tag: String,
}

impl Question {
    /// A new one from one node to another; `None` only when there is no randomness.
    #[must_use]
    pub fn new(key: &PingKey, cluster: &str, from: &NodeId, to: &NodeId) -> Option<Self> {
        let mut nonce = [0; NONCE];
        rand::fill(&mut nonce).ok()?;
        let mut question = Self {
            version: VERSION,
            cluster: cluster.to_owned(),
            from: from.to_string(),
            to: to.to_string(),
            nonce: STANDARD.encode(nonce),
            tag: String::new(),
        };
        question.tag = key.sign(&question.parts());
        Some(question)
    }

    fn parts(&self) -> [&[u8]; 5] {
        [
            b"question",
            self.cluster.as_bytes(),
            self.from.as_bytes(),
            self.to.as_bytes(),
            self.nonce.as_bytes(),
        ]
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what arrived at the node `own` of a cluster.
    ///
    /// # Errors
    /// It is not one of this cluster's, or is for another node.
    pub fn decode(bytes: &[u8], key: &PingKey, cluster: &str, own: &NodeId) -> Result<Self, Unbelieved> {
        let question: Self = decode(bytes)?;
        if question.version != VERSION {
            return Err(Unbelieved::Garbage);
        }
        key.verify(&question.parts(), &question.tag)?;
        if question.cluster != cluster || question.to != own.as_str() {
            return Err(Unbelieved::Forged);
        }
        Ok(question)
    }

    /// What the node that is asked says.
    #[must_use]
    pub fn answer(&self, key: &PingKey, incarnation: u64, record: &Record) -> Answer {
        let mut answer = Answer {
            version: VERSION,
            incarnation,
            record: String::from_utf8(record.encode().into()).unwrap_or_default(),
            tag: String::new(),
        };
        answer.tag = key.sign(&answer.parts(self, &incarnation.to_be_bytes()));
        answer
    }
}

impl Answer {
    fn parts<'a>(&'a self, asked: &'a Question, incarnation: &'a [u8]) -> [&'a [u8]; 7] {
        [
            b"answer",
            asked.cluster.as_bytes(),
            asked.to.as_bytes(),
            asked.from.as_bytes(),
            asked.nonce.as_bytes(),
            incarnation,
            self.record.as_bytes(),
        ]
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what came back: the incarnation that lives, and what it tells of itself.
    ///
    /// # Errors
    /// It is no answer to this question.
    pub fn decode(bytes: &[u8], key: &PingKey, asked: &Question) -> Result<(u64, Record), Unbelieved> {
        let answer: Self = decode(bytes)?;
        if answer.version != VERSION {
            return Err(Unbelieved::Garbage);
        }
        let incarnation = answer.incarnation.to_be_bytes();
        key.verify(&answer.parts(asked, &incarnation), &answer.tag)?;
        Ok((answer.incarnation, Record::decode(answer.record.as_bytes())))
    }
}

fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Unbelieved> {
    if bytes.len() > MAX {
        return Err(Unbelieved::Garbage);
    }
    serde_json::from_slice(bytes).map_err(|_| Unbelieved::Garbage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(id: &str) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn key() -> PingKey {
        PingKey::new(b"0123456789abcdef")
    }

    fn question() -> Question {
        Question::new(&key(), "prod", &node("gw-a"), &node("gw-b")).unwrap()
    }

    fn record() -> Record {
        Record {
            version: "1.2.3".into(),
            connections: 7,
            ..Record::default()
        }
    }

    #[test]
    fn who_is_asked_answers_and_is_believed() {
        let asked = question();
        let read = Question::decode(&asked.encode(), &key(), "prod", &node("gw-b")).unwrap();
        assert_eq!(read, asked);
        let answer = read.answer(&key(), 42, &record()).encode();
        assert_eq!(Answer::decode(&answer, &key(), &asked), Ok((42, record())));
    }

    #[test]
    fn an_answer_that_was_heard_before_answers_no_other_question() {
        let (first, second) = (question(), question());
        assert_ne!(first.nonce, second.nonce);
        let answer = first.answer(&key(), 1, &record()).encode();
        assert_eq!(Answer::decode(&answer, &key(), &second), Err(Unbelieved::Forged));
    }

    #[test]
    fn what_another_key_signed_or_is_meant_for_others_is_not_believed() {
        let (asked, other) = (question(), PingKey::new(b"fedcba9876543210"));
        let forged = |cluster: &str, to: &str, key: &PingKey| {
            Question::decode(&asked.encode(), key, cluster, &node(to)).unwrap_err()
        };
        assert_eq!(forged("prod", "gw-b", &other), Unbelieved::Forged);
        assert_eq!(forged("test", "gw-b", &key()), Unbelieved::Forged);
        assert_eq!(forged("prod", "gw-c", &key()), Unbelieved::Forged);
        let answer = asked.answer(&other, 1, &record()).encode();
        assert_eq!(Answer::decode(&answer, &key(), &asked), Err(Unbelieved::Forged));
    }

    #[test]
    fn a_question_sent_back_is_no_answer_and_nothing_of_an_answer_can_be_changed() {
        let asked = question();
        assert_eq!(
            Answer::decode(&asked.encode(), &key(), &asked),
            Err(Unbelieved::Garbage)
        );
        let answer = asked.answer(&key(), 1, &record());
        for changed in [
            Answer {
                incarnation: 2,
                ..answer.clone()
            },
            Answer {
                record: "{}".into(),
                ..answer.clone()
            },
            Answer {
                tag: asked.tag.clone(),
                ..answer.clone()
            },
        ] {
            assert_eq!(
                Answer::decode(&changed.encode(), &key(), &asked),
                Err(Unbelieved::Forged)
            );
        }
        let other = Answer { version: 2, ..answer };
        assert_eq!(
            Answer::decode(&other.encode(), &key(), &asked),
            Err(Unbelieved::Garbage)
        );
    }

    #[test]
    fn what_is_too_long_is_not_read() {
        let long = format!("{{\"record\":\"{}\"}}", "x".repeat(MAX));
        assert_eq!(
            Answer::decode(long.as_bytes(), &key(), &question()),
            Err(Unbelieved::Garbage)
        );
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Question::decode(&bytes, &key(), "prod", &node("gw-b")).is_err());
            prop_assert!(Answer::decode(&bytes, &key(), &question()).is_err());
        }

        #[test]
        fn one_changed_byte_is_enough(place in any::<prop::sample::Index>(), with in 0..255u8) {
            let asked = question();
            let mut bytes = asked.answer(&key(), 1, &record()).encode();
            let place = place.index(bytes.len());
            prop_assume!(bytes[place] != with);
            bytes[place] = with;
            // A change that JSON does not see changes nothing.
            if let Ok(read) = Answer::decode(&bytes, &key(), &asked) {
                prop_assert_eq!(read, (1, record()));
            }
        }
    }
}
