//! Tells when an upstream fails open: probes and traffic speak against every endpoint, and requests are sent all
//! the same, because a wrong verdict must not make an outage. It is decided at each pick, from the endpoints as
//! they are; here it is only noticed, so that operators know.

use crate::base::clock::Millis;
use crate::control::gateway::Gateway;
use crate::telemetry::events::Severity;
use crate::upstream::shared::{Fallback, UpstreamPlan};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

/// Watches until the runtime ends.
pub async fn run(gateway: Arc<Gateway>) {
    let mut told: BTreeSet<Arc<str>> = BTreeSet::new();
    loop {
        look(&gateway, &mut told);
        tokio::time::sleep(LOOK).await;
    }
}

fn look(gateway: &Gateway, told: &mut BTreeSet<Arc<str>>) {
    let snapshot = gateway.live.load();
    let now = Millis::now();
    let open: BTreeSet<Arc<str>> = snapshot
        .upstreams
        .iter()
        .filter(|upstream| upstream.fails_open(now))
        .map(|upstream| Arc::clone(&upstream.name))
        .collect();
    if open == *told {
        return;
    }
    for upstream in &snapshot.upstreams {
        match (told.contains(&upstream.name), open.contains(&upstream.name)) {
            (false, true) => tell(gateway, upstream, true, now),
            (true, false) => tell(gateway, upstream, false, now),
            _ => {}
        }
    }
    *told = open;
}

fn tell(gateway: &Gateway, upstream: &UpstreamPlan, begins: bool, now: Millis) {
    let open = upstream.endpoints.iter().filter(|endpoint| endpoint.is_open());
    let fallback = upstream.fallback(now);
    let (mut all, mut good) = (0, 0);
    for endpoint in open {
        all += 1;
        good += u32::from(fallback.admits(&endpoint.state.standing, now));
    }
    let journal = &gateway.journal;
    if begins {
        let text = format!("none of {all} endpoints is well: requests are sent to them all the same");
        journal.note(Severity::Error, "upstream.fail_open", &upstream.name, text);
    } else {
        let what = match fallback {
            Fallback::Held => "endpoints pass again, and are held because they came and went",
            Fallback::None | Fallback::All => "endpoints well",
        };
        let text = format!("{good} of {all} {what}: only those get requests");
        journal.note(Severity::Info, "upstream.fail_open_ended", &upstream.name, text);
    }
}
