//! The overrides in pieces, each under a key of its own, as gateways of a cluster share them: what one of them says of
//! an endpoint's state is later or earlier than what another says of it, whatever is said of its weight. A piece is
//! written like the file on disk, so that versions are told apart in the same way.

use super::expiry::times;
use super::file::{self, FileError};
use crate::upstream::shared::EndpointKey;
use crate::upstream::shared::overrides::{EndpointOverride, MAX_OVERRIDES, Overrides};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a piece can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum PieceError {
    #[error("{0:?} is the key of nothing")]
    Key(String),
    #[error(transparent)]
    Content(#[from] FileError),
    #[error("it says something else than its key")]
    Other,
    #[error("{MAX_OVERRIDES} overrides are in force")]
    TooMany,
}

/// What a piece is about.
enum About {
    State(EndpointKey),
    Weight(EndpointKey),
    Balance(Arc<str>),
    Thresholds(Arc<str>),
}

impl About {
    fn of(key: &str) -> Result<Self, PieceError> {
        let wrong = || PieceError::Key(key.chars().take(60).collect());
        let (kind, rest) = key.split_once('|').ok_or_else(wrong)?;
        let endpoint = || {
            let (upstream, address) = rest.split_once('|').ok_or_else(wrong)?;
            Ok::<_, PieceError>(EndpointKey {
                upstream: upstream.into(),
                address: address.into(),
            })
        };
        Ok(match kind {
            "state" => Self::State(endpoint()?),
            "weight" => Self::Weight(endpoint()?),
            "balance" => Self::Balance(rest.into()),
            "thresholds" => Self::Thresholds(rest.into()),
            _ => return Err(wrong()),
        })
    }
}

/// Every piece by its key.
#[must_use]
pub fn pieces(overrides: &Overrides) -> BTreeMap<String, String> {
    let mut pieces = BTreeMap::new();
    let mut put = |key: String, alone: &Overrides| {
        if let Ok(text) = file::text(alone) {
            pieces.insert(key, text);
        }
    };
    for (key, told) in overrides.endpoints() {
        let (leave, weight) = (told.leave.clone(), told.weight.clone());
        let parts = [
            ("state", EndpointOverride { leave, weight: None }),
            ("weight", EndpointOverride { leave: None, weight }),
        ];
        for (kind, part) in parts.into_iter().filter(|(_, part)| !part.is_empty()) {
            let mut alone = Overrides::default();
            alone.set_endpoint(key.clone(), part);
            put(format!("{kind}|{}|{}", key.upstream, key.address), &alone);
        }
    }
    for (upstream, told) in overrides.balances() {
        let mut alone = Overrides::default();
        alone.set_balance(upstream.clone(), Some(told.clone()));
        put(format!("balance|{upstream}"), &alone);
    }
    for (upstream, told) in overrides.all_thresholds() {
        let mut alone = Overrides::default();
        alone.set_thresholds(upstream.clone(), told.clone());
        put(format!("thresholds|{upstream}"), &alone);
    }
    pieces
}

/// The overrides with another piece under this key, or without it.
///
/// # Errors
/// The piece is none, or there is no room.
pub fn with_piece(overrides: &Overrides, key: &str, piece: Option<&str>) -> Result<Overrides, PieceError> {
    let about = About::of(key)?;
    let alone = match piece {
        Some(text) => file::read(text.as_bytes())?,
        None => Overrides::default(),
    };
    let mut after = overrides.clone();
    let said = match &about {
        About::State(endpoint) | About::Weight(endpoint) => {
            let told = alone.endpoint(endpoint).cloned().unwrap_or_default();
            let mut part = overrides.endpoint(endpoint).cloned().unwrap_or_default();
            let said = if matches!(about, About::State(_)) {
                part.leave = told.leave;
                part.leave.is_some()
            } else {
                part.weight = told.weight;
                part.weight.is_some()
            };
            after.set_endpoint(endpoint.clone(), part);
            said
        }
        About::Balance(upstream) => {
            let told = alone.balance(upstream).cloned();
            let said = told.is_some();
            after.set_balance(upstream.clone(), told);
            said
        }
        About::Thresholds(upstream) => match alone.thresholds(upstream) {
            Some(told) => {
                after.set_thresholds(upstream.clone(), told.clone());
                true
            }
            None => {
                after.remove_thresholds(upstream);
                false
            }
        },
    };
    if piece.is_some() && (!said || alone.len() != 1) {
        return Err(PieceError::Other);
    }
    if after.len() > MAX_OVERRIDES {
        return Err(PieceError::TooMany);
    }
    Ok(after)
}

/// When the piece ends by itself.
#[must_use]
pub fn until(piece: &str) -> Option<Timestamp> {
    let alone = file::read(piece.as_bytes()).ok()?;
    times(&alone).find_map(|(_, until)| until)
}

/// Since when the piece holds.
#[must_use]
pub fn since(piece: &str) -> Option<Timestamp> {
    let alone = file::read(piece.as_bytes()).ok()?;
    times(&alone).next().map(|(since, _)| since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Balance;
    use crate::upstream::shared::AdminState;
    use crate::upstream::shared::overrides::{Algorithm, Leave, Override, Thresholds};

    fn said<T>(value: T) -> Override<T> {
        Override {
            value,
            by: "token ops".to_owned(),
            node: Some("gw-1".to_owned()),
            since: "2026-11-21T03:00:00Z".parse().unwrap(),
            reason: Some("why".to_owned()),
            until: Some("2026-11-22T03:00:00Z".parse().unwrap()),
        }
    }

    fn all() -> Overrides {
        let mut overrides = Overrides::default();
        for address in ["10.0.0.1:80", "unix:/run/a|b.sock"] {
            let key = EndpointKey {
                upstream: "app".into(),
                address: address.into(),
            };
            let leave = Leave {
                state: AdminState::Draining,
                deadline: None,
            };
            let told = EndpointOverride {
                leave: Some(said(leave)),
                weight: Some(said(7)),
            };
            overrides.set_endpoint(key, told);
        }
        let algorithm = Algorithm {
            balance: Balance::First,
            key: None,
        };
        overrides.set_balance("app".into(), Some(said(algorithm)));
        let thresholds = Thresholds {
            fall: Some(3),
            ..Thresholds::default()
        };
        overrides.set_thresholds("app".into(), said(thresholds));
        overrides
    }

    #[test]
    fn pieces_together_are_the_whole_and_each_can_be_taken_away() {
        let all = all();
        let pieces = pieces(&all);
        assert_eq!(pieces.len(), 6);
        let mut put_together = Overrides::default();
        for (key, piece) in &pieces {
            put_together = with_piece(&put_together, key, Some(piece)).unwrap();
        }
        assert_eq!(put_together, all);
        for key in pieces.keys() {
            put_together = with_piece(&put_together, key, None).unwrap();
        }
        assert!(put_together.is_empty());
    }

    #[test]
    fn a_piece_knows_when_it_began_and_ends() {
        for piece in pieces(&all()).values() {
            assert_eq!(since(piece), Some("2026-11-21T03:00:00Z".parse().unwrap()));
            assert_eq!(until(piece), Some("2026-11-22T03:00:00Z".parse().unwrap()));
        }
    }

    #[test]
    fn what_is_no_piece_is_refused_and_changes_nothing() {
        let pieces = pieces(&all());
        let weight = &pieces["weight|app|10.0.0.1:80"];
        let later = weight
            .replace("\"version\":1", "\"version\":9")
            .replace("\"version\": 1", "\"version\": 9");
        for (key, piece) in [
            ("", "{}"),
            ("weight|app", weight.as_str()),
            ("colour|app|10.0.0.1:80", weight),
            ("state|app|10.0.0.1:80", weight),
            ("weight|app|10.0.0.2:80", weight),
            ("weight|app|10.0.0.1:80", "{"),
            ("weight|app|10.0.0.1:80", &later),
        ] {
            assert!(
                with_piece(&Overrides::default(), key, Some(piece)).is_err(),
                "{key}"
            );
        }
        assert!(
            with_piece(&Overrides::default(), "weight|app|x", None).is_ok(),
            "nothing is taken away"
        );
    }
}
