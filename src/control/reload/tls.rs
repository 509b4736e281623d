//! A reload of certificates alone: what TLS is made of is read anew, and the rest stays as it is.

use super::{Reloader, placed};
use crate::config::diagnostic::Diagnostic;
use crate::control::change::{Change, ChangeKind};
use crate::control::command::Outcome;
use crate::control::gateway::Phase;
use crate::snapshot::{self, Parts};
use std::sync::Arc;

impl Reloader {
    /// Reads what TLS of the configuration in force is made of anew, and serves it if it is sound.
    pub async fn reload_tls(&self, dry_run: bool) -> Outcome {
        let (gateway, access) = (Arc::clone(&self.gateway), self.access.clone());
        let (running, live) = (gateway.running.load_full(), gateway.live.load());
        let (config, before) = (running.clone(), live.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let parts = Parts {
                registry: &gateway.registry,
                access: &access,
                directory: &gateway.names.directory,
                overrides: &gateway.overrides.load_full(),
                tickets: &gateway.tickets,
                acme: &gateway.acme,
            };
            snapshot::certificates(&before, &config.config, parts)
        });
        let (listeners, warnings) = match reading.await {
            Ok(Ok(Some(read))) => read,
            Ok(Ok(None)) => {
                return Outcome::Unchanged {
                    generation: live.generation,
                };
            }
            Ok(Err(diagnostics)) => return Outcome::Rejected(placed(diagnostics, &running)),
            Err(panic) => {
                return Outcome::Rejected(vec![Diagnostic::error("", format!("internal error: {panic}"))]);
            }
        };
        let generation = live.generation + 1;
        let changed = live
            .listeners
            .iter()
            .zip(&listeners)
            .filter(|(old, new)| !Arc::ptr_eq(old, new));
        let changes = changed
            .map(|(_, new)| Change {
                object: "certificates",
                name: new.name.to_string(),
                change: ChangeKind::Changed,
            })
            .collect();
        if !dry_run {
            if self.gateway.phase() == Phase::Draining {
                return Outcome::Rejected(vec![Diagnostic::error("", "the gateway is ending")]);
            }
            self.gateway.live.swap(live.with_listeners(generation, listeners));
            self.gateway.plane().workers.snapshot_moved();
        }
        Outcome::Applied {
            generation,
            changes,
            warnings: placed(warnings, &running),
        }
    }
}
