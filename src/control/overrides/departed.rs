//! Overrides that were made on a gateway that is to be forgotten. Pure.

use super::expiry::those_left;
use crate::upstream::shared::overrides::Overrides;

/// The overrides without those that were made on this gateway.
#[must_use]
pub fn without(before: &Overrides, node: &str) -> Overrides {
    those_left(before, |remark| remark.node == Some(node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Balance;
    use crate::upstream::shared::overrides::{Algorithm, EndpointOverride, Leave, Override, Thresholds};
    use crate::upstream::shared::{AdminState, EndpointKey};
    use jiff::Timestamp;

    fn said<T>(value: T, node: Option<&str>) -> Override<T> {
        Override {
            value,
            by: "ann".to_owned(),
            node: node.map(str::to_owned),
            since: Timestamp::UNIX_EPOCH,
            reason: None,
            until: None,
        }
    }

    fn all(state: Option<&str>, weight: Option<&str>, rest: Option<&str>) -> Overrides {
        let mut overrides = Overrides::default();
        let key = EndpointKey {
            upstream: "app".into(),
            address: "a:1".into(),
        };
        let leave = Leave {
            state: AdminState::Draining,
            deadline: None,
        };
        let told = EndpointOverride {
            leave: Some(said(leave, state)),
            weight: Some(said(7, weight)),
        };
        overrides.set_endpoint(key, told);
        let algorithm = Algorithm {
            balance: Balance::First,
            key: None,
        };
        overrides.set_balance("app".into(), Some(said(algorithm, rest)));
        let thresholds = Thresholds {
            fall: Some(3),
            ..Thresholds::default()
        };
        overrides.set_thresholds("app".into(), said(thresholds, rest));
        overrides
    }

    #[test]
    fn what_was_made_on_a_gateway_goes_and_nothing_else() {
        let others = all(Some("gw-2"), None, Some("gw-11"));
        assert_eq!(without(&others, "gw-1"), others);
        assert!(without(&all(Some("gw-1"), Some("gw-1"), Some("gw-1")), "gw-1").is_empty());
        let left = without(&all(Some("gw-1"), Some("gw-2"), Some("gw-1")), "gw-1");
        let (_, told) = left.endpoints().next().unwrap();
        assert!(told.leave.is_none() && told.weight.is_some());
        assert_eq!(left.len(), 1);
    }
}
