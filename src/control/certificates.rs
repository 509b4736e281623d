//! Tells when certificates from files run out: weeks before, days before, and when they have. Those that the gateway
//! gets itself tell of their renewals.

use super::gateway::Gateway;
use crate::config::diagnostic::{self, Diagnostic};
use crate::telemetry::events::Severity;
use crate::tls::certificate::{Certificate, day};
use jiff::Timestamp;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often they are looked at; a swap is looked at at once.
const LOOK: Duration = Duration::from_secs(3600);
const DAY: i64 = 24 * 3600;
/// Days before the end at which it is told, once each.
const TOLD_BEFORE: [i64; 4] = [21, 7, 3, 1];

/// Looks at the certificates in use until the runtime ends.
pub async fn run(gateway: Arc<Gateway>) {
    let mut swaps = gateway.live.swaps();
    let mut told = Told::default();
    loop {
        tell(&gateway, &mut told, Timestamp::now().as_second());
        // After one hour, or when others serve.
        if let Ok(Err(_)) = tokio::time::timeout(LOOK, swaps.changed()).await {
            return;
        }
    }
}

/// The last thing told of each certificate, by file and end: a new one in the same file begins anew.
type Told = HashMap<(PathBuf, i64), Stage>;

/// How near the end is; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// So many of [`TOLD_BEFORE`] have passed.
    Near(usize),
    Over,
}

/// `None`: there is time.
fn stage(not_after: i64, now: i64) -> Option<Stage> {
    if not_after <= now {
        return Some(Stage::Over);
    }
    let passed = TOLD_BEFORE
        .iter()
        .filter(|days| not_after - now <= *days * DAY)
        .count();
    (passed > 0).then_some(Stage::Near(passed))
}

fn tell(gateway: &Gateway, told: &mut Told, now: i64) {
    let live = gateway.live.load();
    let mut known = Told::default();
    for listener in &live.listeners {
        for certificate in listener.tls.iter().flat_map(|tls| tls.from_files()) {
            let Some(stage) = stage(certificate.not_after, now) else {
                continue;
            };
            let key = (certificate.path.clone(), certificate.not_after);
            let before = told.get(&key).or_else(|| known.get(&key)).copied();
            known.insert(key, stage);
            if before.is_none_or(|before| before < stage) {
                note(gateway, certificate, stage);
            }
        }
    }
    *told = known;
}

/// How many pairs of certificate and key a configuration was refused for.
#[must_use]
pub fn refused_pairs(problems: &[Diagnostic]) -> u64 {
    let errors = problems
        .iter()
        .filter(|problem| problem.severity == diagnostic::Severity::Error);
    let pairs: HashSet<&str> = errors.filter_map(|problem| pair(&problem.key)).collect();
    pairs.len() as u64
}

/// The key of a pair that a key lies in, such as `listeners.web.tls.certificates[0]`.
fn pair(key: &str) -> Option<&str> {
    let (pair, part) = key.rsplit_once("].")?;
    (pair.contains(".tls.certificates[") && matches!(part, "cert" | "key")).then_some(pair)
}

fn note(gateway: &Gateway, certificate: &Certificate, stage: Stage) {
    let (file, end) = (certificate.path.display().to_string(), day(certificate.not_after));
    let (severity, kind, text) = match stage {
        Stage::Over => (
            Severity::Error,
            "certificate.expired",
            format!("the certificate in {file} expired on {end}: clients refuse it"),
        ),
        Stage::Near(_) => (
            Severity::Warning,
            "certificate.expiring",
            format!("the certificate in {file} expires on {end}"),
        ),
    };
    gateway.journal.note(severity, kind, &file, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_refused_once_for_whichever_of_its_halves() {
        let of = |keys: &[&str]| {
            let error = |key: &&str| Diagnostic::error((*key).to_owned(), "no");
            refused_pairs(&keys.iter().map(error).collect::<Vec<_>>())
        };
        let (one, other) = (
            "listeners.a.tls.certificates[0]",
            "listeners.\"b.c\".tls.certificates[7]",
        );
        let pairs = [one, other].map(|pair| [format!("{pair}.cert"), format!("{pair}.key")]);
        let keys: Vec<&str> = pairs.iter().flatten().map(String::as_str).collect();
        assert_eq!(of(&keys), 2);
        assert_eq!(
            of(&["listeners.a.tls.client_auth.ca", "upstreams.a.tls.key", one]),
            0
        );
        let doubt = Diagnostic::warning(keys[0].to_owned(), "hm");
        assert_eq!(refused_pairs(&[doubt]), 0);
    }

    #[test]
    fn stages_follow_one_another() {
        let at = |days: i64| stage(1000 * DAY, (1000 - days) * DAY);
        assert_eq!(at(22), None);
        assert_eq!(at(21), Some(Stage::Near(1)));
        assert_eq!(at(8), Some(Stage::Near(1)));
        assert_eq!(at(7), Some(Stage::Near(2)));
        assert_eq!(at(1), Some(Stage::Near(4)));
        assert_eq!(at(0), Some(Stage::Over));
        assert!(Stage::Near(4) < Stage::Over);
    }
}
