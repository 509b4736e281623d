//! Node ids, and the names of keys and channels in a store that others may use too.

use std::fmt;
use std::sync::Arc;

/// Longest id that a node is given.
pub const MAX_NODE_ID: usize = 64;
/// Longest id that one is known by: a second node of one id carries its incarnation behind it.
const MAX_KNOWN_AS: usize = MAX_NODE_ID + 16;
/// Longest part of a key that comes from outside of this module.
const MAX_PART: usize = 64;

/// The name of a node in its cluster: `[A-Za-z0-9_.-]`, at most [`MAX_NODE_ID`] bytes. It goes into keys, so it has
/// no braces, and into lines, so it has no line ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

/// A text that is no node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node id has 1 to {MAX_NODE_ID} characters A-Z a-z 0-9 _ . -")]
pub struct NotANodeId;

fn plain(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl NodeId {
    /// # Errors
    /// It is no node id.
    pub fn new(text: &str) -> Result<Self, NotANodeId> {
        if plain(text, MAX_NODE_ID) {
            Ok(Self(text.into()))
        } else {
            Err(NotANodeId)
        }
    }

    /// An id as others are known by: also one with an incarnation behind it.
    ///
    /// # Errors
    /// Nobody can be known by it.
    pub fn known_as(text: &str) -> Result<Self, NotANodeId> {
        let good = match text.split_once('~') {
            Some((id, incarnation)) => {
                plain(id, MAX_NODE_ID) && plain(incarnation, MAX_KNOWN_AS - MAX_NODE_ID - 1)
            }
            None => plain(text, MAX_NODE_ID),
        };
        if good {
            Ok(Self(text.into()))
        } else {
            Err(NotANodeId)
        }
    }

    /// What this node is known by while another has its id.
    #[must_use]
    pub fn second(&self, incarnation: u64) -> Self {
        Self(format!("{}~{}", self.configured(), base36(incarnation)).into())
    }

    /// The id without an incarnation behind it.
    #[must_use]
    pub fn configured(&self) -> &str {
        self.0.split_once('~').map_or(&self.0, |(id, _)| id)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(number % 36).unwrap_or(0);
        digits.push(char::from_digit(digit, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

/// Where a cluster keeps its things: `tidegate:1:<cluster>:`, with another first part where one is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    prefix: Arc<str>,
}

impl Names {
    /// `prefix` and `cluster` have no braces and no colons, as their configuration sees to.
    #[must_use]
    pub fn new(prefix: &str, cluster: &str) -> Self {
        Self {
            prefix: format!("{prefix}:1:{cluster}:").into(),
        }
    }

    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A key of control. All of them have one tag, so that one script may see several in a Redis Cluster.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}{{c}}{name}", self.prefix)
    }

    /// The key of a shared table.
    #[must_use]
    pub fn table(&self, table: &str) -> String {
        self.key(&format!("t:{table}"))
    }

    #[must_use]
    pub fn channel(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What only this node hears.
    #[must_use]
    pub fn node_channel(&self, node: &str) -> String {
        format!("{}n:{node}", self.prefix)
    }

    /// What this incarnation of a node tells itself, to know that it hears.
    #[must_use]
    pub fn probe_channel(&self, node: &NodeId, incarnation: u64) -> String {
        format!(
            "{}probe:{}:{}",
            self.prefix,
            node.configured(),
            base36(incarnation)
        )
    }
}

/// Whether a text may name a task or a table: it goes into a key.
#[must_use]
pub fn is_part(text: &str) -> bool {
    plain(text, MAX_PART)
}

/// Whether a text can be the holder of a lease: a node and its incarnation.
#[must_use]
pub fn is_holder(text: &str) -> bool {
    let parts = text.split_once('/');
    parts.is_some_and(|(node, incarnation)| NodeId::known_as(node).is_ok() && plain(incarnation, 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_would_get_out_of_their_key_or_line_are_none() {
        let long = "x".repeat(10_240);
        for bad in [
            "",
            "a{b}",
            "a\nb",
            "a b",
            "a:b",
            "ä",
            "a~1",
            "a*",
            long.as_str(),
            &"x".repeat(65),
        ] {
            assert!(NodeId::new(bad).is_err(), "{bad:?}");
        }
        for good in ["gw-1", "a", "A_b.c-9", &"x".repeat(64)] {
            assert!(NodeId::new(good).is_ok(), "{good:?}");
        }
        for bad in ["a~", "~1", "a~1~2", "a~{", long.as_str()] {
            assert!(NodeId::known_as(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_second_of_an_id_is_known_by_its_incarnation_and_by_no_other() {
        let id = NodeId::new(&"x".repeat(64)).unwrap();
        let second = id.second(u64::MAX);
        assert_eq!(second.configured(), id.as_str());
        assert_eq!(NodeId::known_as(second.as_str()).unwrap(), second);
        assert_eq!(second.second(7), id.second(7));
        assert_eq!(NodeId::new("gw").unwrap().second(36).as_str(), "gw~10");
        assert_ne!(id.second(1), id.second(2));
    }

    #[test]
    fn two_clusters_in_one_store_share_no_name() {
        let (a, b) = (Names::new("tidegate", "a"), Names::new("tidegate", "b"));
        assert_eq!(a.key("gen"), "tidegate:1:a:{c}gen");
        assert_eq!(a.channel("ctl"), "tidegate:1:a:ctl");
        assert_eq!(a.table("services"), "tidegate:1:a:{c}t:services");
        assert!(!b.key("gen").starts_with(a.prefix()) && !a.key("gen").starts_with(b.prefix()));
    }
}
