//! A reload with what was published to the cluster in the place of the file's own.

use super::{Reloaded, Reloader, Tried};
use crate::config::diagnostic::Diagnostic;
use crate::config::{Loaded, SharedText};
use crate::control::command::Outcome;
use crate::control::sharing::config::document::Document;
use std::sync::Arc;

impl Reloader {
    /// The same with what was published to the cluster, which is what later reloads go by if it comes into force.
    pub async fn follow(&mut self, document: &Arc<Document>, dry_run: bool) -> Reloaded {
        let news = document
            .shared_text()
            .map(|text| SharedText { news: true, ..text });
        let mut reloaded = match self.load(news).await {
            Ok((loaded, watched)) => {
                let outcome = match self.laid_open(&loaded) {
                    Some(refused) => Outcome::Rejected(refused),
                    None => self.go_by(loaded, dry_run).await,
                };
                Reloaded {
                    outcome,
                    watched,
                    repeated: false,
                }
            }
            Err(reloaded) => reloaded,
        };
        if dry_run {
            return reloaded;
        }
        match &reloaded.outcome {
            Outcome::Rejected(problems) => {
                let refused = Some((Arc::clone(document), problems.clone()));
                reloaded.repeated = self.refused == refused;
                self.refused = refused;
            }
            _ => {
                self.refused = None;
                self.tried = Tried::Loaded(self.gateway.running.load().fingerprint);
                self.gateway.following.take(Arc::clone(document));
            }
        }
        reloaded
    }

    /// Secrets that everybody who may read the store would see.
    fn laid_open(&self, loaded: &Loaded) -> Option<Vec<Diagnostic>> {
        let alone = self.gateway.cluster.bus.is_embedded();
        if alone || loaded.config.cluster.key.is_some() || loaded.shared_secrets.is_empty() {
            return None;
        }
        let refused = loaded.shared_secrets.iter().map(|place| {
            Diagnostic::error("", format!("{place}: a secret itself stands in what is published, and without cluster.key it would lie open in the Redis"))
                .hint("name where it is kept on every gateway: \"env:NAME\" or \"file:/PATH\"")
        });
        Some(refused.collect())
    }
}
