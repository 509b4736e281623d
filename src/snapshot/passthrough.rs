//! Which connections of a listener go on with their TLS unopened, by the name that clients ask for.

use crate::config::model::{self, HostPattern, Timeouts, TunnelBounds};
use crate::tls::names::parent_of;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Where the connections for a name go.
#[derive(Debug)]
pub struct PassthroughPlan {
    /// Index in the snapshot.
    pub upstream: usize,
    /// Only `connect` is bounded.
    pub timeouts: Timeouts,
    pub tunnel: TunnelBounds,
}

/// All names of a listener.
#[derive(Clone, Debug, Default)]
pub struct Passthrough {
    rules: Vec<Arc<PassthroughPlan>>,
    exact: HashMap<Box<str>, usize>,
    /// By what follows `*.`.
    wildcards: HashMap<Box<str>, usize>,
}

impl Passthrough {
    /// `upstreams` are the indices in the snapshot by name.
    pub(super) fn compile(rules: &[model::Passthrough], upstreams: &HashMap<&str, usize>) -> Self {
        let mut compiled = Self::default();
        for rule in rules {
            let names = match &rule.sni {
                HostPattern::Exact(_) => &mut compiled.exact,
                HostPattern::Wildcard(_) => &mut compiled.wildcards,
                // Checked before.
                HostPattern::Regex(_) => continue,
            };
            let (HostPattern::Exact(name) | HostPattern::Wildcard(name), Some(upstream)) =
                (&rule.sni, upstreams.get(rule.upstream.as_str()))
            else {
                continue;
            };
            names.insert(name.as_str().into(), compiled.rules.len());
            compiled.rules.push(Arc::new(PassthroughPlan {
                upstream: *upstream,
                timeouts: Timeouts {
                    connect: rule.connect,
                    response: Duration::ZERO,
                    idle: Duration::ZERO,
                    total: Duration::ZERO,
                },
                tunnel: rule.tunnel,
            }));
        }
        compiled
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    #[must_use]
    pub fn rules(&self) -> &[Arc<PassthroughPlan>] {
        &self.rules
    }

    /// The index of the rule for a name in lower case: the exact one, or that of the longest wildcard.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        if let Some(rule) = self.exact.get(name) {
            return Some(*rule);
        }
        let mut parents = std::iter::successors(parent_of(name), |name| parent_of(name));
        parents.find_map(|parent| self.wildcards.get(parent).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_name_wins_and_then_the_longest_wildcard() {
        let upstreams = HashMap::from([("a", 0), ("b", 1), ("c", 2)]);
        let rule = |sni: HostPattern, upstream: &str| model::Passthrough {
            sni,
            upstream: upstream.to_owned(),
            connect: Duration::ZERO,
            tunnel: TunnelBounds {
                idle: Duration::ZERO,
                max_age: Duration::ZERO,
            },
        };
        let wildcard = |name: &str| HostPattern::Wildcard(name.to_owned());
        let rules = [
            rule(wildcard("test"), "a"),
            rule(wildcard("db.test"), "b"),
            rule(HostPattern::Exact("one.db.test".to_owned()), "c"),
        ];
        let compiled = Passthrough::compile(&rules, &upstreams);
        let found = |name: &str| compiled.find(name).map(|rule| compiled.rules()[rule].upstream);
        assert_eq!(found("one.db.test"), Some(2));
        assert_eq!(found("two.db.test"), Some(1));
        assert_eq!(found("x.y.db.test"), Some(1));
        assert_eq!(found("db.test"), Some(0));
        assert_eq!(found("test"), None, "a wildcard stands for something");
        assert_eq!(found("db.example"), None);
        assert_eq!(found("..test"), None);
    }
}
