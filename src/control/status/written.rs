//! What the configuration says of the upstreams and endpoints that are shown, and how they came to be.

use super::{DiscoveryStatus, UpstreamStatus};
use crate::config::model::{DiscoverFrom, Upstream};
use crate::control::gateway::Gateway;
use crate::upstream::shared::names::Answer;

/// Adds it to the live state of an upstream.
pub(super) fn describe(gateway: &Gateway, status: &mut UpstreamStatus) {
    let running = gateway.running.load();
    let Some(written) = running.config.upstreams.get(&status.name) else {
        return;
    };
    let discover = written.discover.as_ref();
    let directory = &gateway.names.directory;
    let answer = discover.map(|discover| match &discover.from {
        DiscoverFrom::Dns(name) => directory.answer(name).unwrap_or_default(),
        DiscoverFrom::Registry(_) => Answer {
            places: Some(directory.discovered(&discover.from)),
            error: None,
        },
    });
    tell(written, answer, status);
}

fn tell(written: &Upstream, answer: Option<Answer>, status: &mut UpstreamStatus) {
    for endpoint in &mut status.endpoints {
        let own = written.endpoints.iter().find(|own| own.text == endpoint.address);
        endpoint.zone = own.and_then(|own| own.zone.clone());
        endpoint.discovered = own.is_none();
    }
    let (Some(discover), Some(answer)) = (&written.discover, answer) else {
        return;
    };
    let found = answer.places.map_or(0, |places| places.len());
    let used = status
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.discovered)
        .count();
    status.discovery = Some(DiscoveryStatus {
        name: discover.from.to_string(),
        found,
        left_out: found.saturating_sub(used),
        error: answer.error.as_deref().map(str::to_owned),
    });
}
