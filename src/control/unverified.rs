//! Tells of upstreams whose endpoints need not prove who they are, at every start and reload: it must not be forgotten.

use super::gateway::Gateway;
use crate::telemetry::events::Severity;

/// One event and one line for each.
pub fn tell(gateway: &Gateway) {
    for plan in &gateway.live.load().upstreams {
        if plan.dial.tls.as_ref().is_some_and(|tls| !tls.is_verified()) {
            gateway.journal.note(
                Severity::Warning,
                "upstream.unverified",
                &plan.name,
                "the certificates of its endpoints are not looked at (tls.verify = false)".to_owned(),
            );
        }
    }
}
