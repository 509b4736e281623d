//! What a node tells of itself with every beat.

use super::envelope::Versions;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Longest text of another node that is shown.
const MAX_TEXT: usize = 128;

/// See the module's text. What another version does not know it passes over, what it leaves out is as by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Of the gateway.
    pub version: String,
    /// What it is called in the form of other systems; empty before it has such an id.
    pub id: String,
    pub role: String,
    pub region: String,
    pub zone: String,
    /// Where its admin API is; empty when it has none.
    pub admin: String,
    /// Where it answers other gateways that ask whether it lives; empty when it does not.
    pub ping: String,
    /// Milliseconds since 1970.
    pub started: i64,
    /// Versions of envelopes that it understands.
    pub envelope_min: u8,
    pub envelope_max: u8,
    /// Version of the shared configuration that it runs; 0 for none.
    pub config: u64,
    /// It takes what is published to the cluster.
    pub follows: bool,
    pub workers: u64,
    pub connections: u64,
    /// Share of its workers' time that is used, 0–1.
    pub load: f64,
    /// It takes no more work.
    pub draining: bool,
    /// By which its `cluster.key` is told from another; empty where it has none.
    pub key: String,
    /// Its opinions count: it is not itself too slow to be believed.
    pub voting: bool,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            version: String::new(),
            id: String::new(),
            role: String::new(),
            region: String::new(),
            zone: String::new(),
            admin: String::new(),
            ping: String::new(),
            started: 0,
            // Who tells of none understands what there was first.
            envelope_min: 1,
            envelope_max: 1,
            config: 0,
            follows: false,
            workers: 0,
            connections: 0,
            load: 0.0,
            draining: false,
            key: String::new(),
            voting: true,
        }
    }
}

impl Record {
    #[must_use]
    pub const fn understands(&self) -> Versions {
        Versions {
            least: self.envelope_min,
            greatest: self.envelope_max,
        }
    }

    #[must_use]
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// What another node wrote. Nothing of it is believed to be short, or fit for a terminal; what can't be read at
    /// all is a node that tells nothing and has no say.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let mut record: Self = serde_json::from_slice(bytes).unwrap_or_else(|_| Self {
            voting: false,
            ..Self::default()
        });
        let texts = [
            &mut record.version,
            &mut record.id,
            &mut record.role,
            &mut record.region,
            &mut record.zone,
            &mut record.admin,
            &mut record.ping,
            &mut record.key,
        ];
        for text in texts {
            *text = text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
        }
        if !record.load.is_finite() {
            record.load = 0.0;
        }
        record.load = record.load.clamp(0.0, 1.0);
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_by_other_versions() {
        let record = Record {
            version: "1.2.3".into(),
            role: "main".into(),
            load: 0.25,
            ..Record::default()
        };
        assert_eq!(Record::decode(&record.encode()), record);
        let later = br#"{"version":"9","new":{"deep":[1]},"load":7.5}"#;
        let read = Record::decode(later);
        assert_eq!((read.version.as_str(), read.load, read.voting), ("9", 1.0, true));
    }

    #[test]
    fn what_is_no_record_has_no_say_and_breaks_no_line() {
        assert!(!Record::decode(b"\xff{").voting);
        let long = format!("{{\"role\":\"a\\n{}\"}}", "x".repeat(4000));
        let read = Record::decode(long.as_bytes());
        assert!(read.role.len() <= MAX_TEXT && !read.role.contains('\n'));
    }
}
