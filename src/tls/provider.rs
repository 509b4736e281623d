//! The one crypto provider, aws-lc-rs, cut down to what a policy or the operator allows.

use crate::config::model::TlsPolicy;
use rustls::SupportedProtocolVersion;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{SupportedCipherSuite, version};
use std::sync::Arc;

/// Key-exchange groups by the names that they have in a configuration, preferred ones first: the hybrid with a
/// post-quantum part costs about 1 KiB more in the handshake and keeps what is recorded today closed tomorrow.
pub const GROUPS: [(&str, &dyn rustls::crypto::SupportedKxGroup); 5] = [
    ("X25519MLKEM768", kx_group::X25519MLKEM768),
    ("X25519", kx_group::X25519),
    ("secp256r1", kx_group::SECP256R1),
    ("secp384r1", kx_group::SECP384R1),
    ("SecP256r1MLKEM768", kx_group::SECP256R1MLKEM768),
];

/// How many of [`GROUPS`] are offered where nobody chose.
const DEFAULT_GROUPS: usize = 4;

/// Makes the provider: `suites` and `groups` by name, empty for all that the policy allows.
#[must_use]
pub fn provider(suites: &[String], groups: &[String]) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = if groups.is_empty() {
        GROUPS
            .iter()
            .take(DEFAULT_GROUPS)
            .map(|(_, group)| *group)
            .collect()
    } else {
        let named = |name: &String| GROUPS.iter().find(|(known, _)| known == name);
        groups.iter().filter_map(named).map(|(_, group)| *group).collect()
    };
    if !suites.is_empty() {
        let named = |name: &String| {
            aws_lc_rs::ALL_CIPHER_SUITES
                .iter()
                .find(|suite| suite_name(suite) == *name)
                .copied()
        };
        provider.cipher_suites = suites.iter().filter_map(named).collect();
    }
    provider
}

/// The provider as it comes, for what has no policy of its own.
#[must_use]
pub fn plain() -> Arc<CryptoProvider> {
    Arc::new(provider(&[], &[]))
}

/// The protocol versions of a policy.
#[must_use]
pub const fn versions(policy: TlsPolicy) -> &'static [&'static SupportedProtocolVersion] {
    static MODERN: [&SupportedProtocolVersion; 1] = [&version::TLS13];
    static INTERMEDIATE: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    match policy {
        TlsPolicy::Modern => &MODERN,
        TlsPolicy::Intermediate => &INTERMEDIATE,
    }
}

/// The registered name of a suite (IANA), which for TLS 1.3 has no `13`.
#[must_use]
pub fn suite_name(suite: &SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    name.replacen("TLS13_", "TLS_", 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{TLS_GROUPS, TLS_SUITES};

    #[test]
    fn every_name_that_the_configuration_knows_is_there() {
        let ours: Vec<String> = aws_lc_rs::ALL_CIPHER_SUITES.iter().map(suite_name).collect();
        assert_eq!(ours, TLS_SUITES);
        let groups: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
        assert_eq!(groups, TLS_GROUPS);
    }

    #[test]
    fn the_post_quantum_hybrid_is_preferred() {
        let names: Vec<_> = plain().kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(names[0], rustls::NamedGroup::X25519MLKEM768);
        assert_eq!(names.len(), DEFAULT_GROUPS);
    }

    #[test]
    fn chosen_suites_and_groups_are_all_there_is() {
        let suites = ["TLS_AES_128_GCM_SHA256".to_owned()];
        let chosen = provider(&suites, &["secp384r1".to_owned()]);
        assert_eq!(chosen.cipher_suites.len(), 1);
        assert_eq!(chosen.kx_groups[0].name(), rustls::NamedGroup::secp384r1);
    }
}
