//! The hosts file: names that are answered before any name server is asked (hosts(5)).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Names of the file with their addresses, in its order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hosts {
    names: HashMap<String, Vec<IpAddr>>,
}

impl Hosts {
    /// Lines that mean nothing are passed over, as every resolver does.
    pub(super) fn parse(text: &str) -> Self {
        let mut names: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
                continue;
            };
            for name in words {
                let addresses = names.entry(canonical(name)).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Self { names }
    }

    /// The addresses of a name that no name server is asked for: one of the file, or of this host itself
    /// (`localhost` and everything below it, RFC 6761 section 6.3).
    pub(super) fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = canonical(name);
        if let Some(addresses) = self.names.get(&name) {
            return Some(addresses.clone());
        }
        (name == "localhost" || name.ends_with(".localhost"))
            .then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
    }
}

fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str, name: &str) -> Option<Vec<String>> {
        let found = Hosts::parse(text).addresses(name)?;
        Some(found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn names_and_their_aliases_are_found_whatever_their_case() {
        let text = "# hosts\n10.0.0.1\tDB.internal db # the old one\n\n10.0.0.2 db.internal\n::1 db.internal";
        let all = ["10.0.0.1", "10.0.0.2", "::1"].map(str::to_owned).to_vec();
        assert_eq!(addresses(text, "db.Internal."), Some(all));
        assert_eq!(addresses(text, "DB"), Some(vec!["10.0.0.1".to_owned()]));
        assert_eq!(addresses(text, "old"), None);
    }

    #[test]
    fn this_host_is_known_without_a_file_and_the_file_says_more_exactly() {
        let both = vec!["127.0.0.1".to_owned(), "::1".to_owned()];
        assert_eq!(addresses("", "localhost"), Some(both.clone()));
        assert_eq!(addresses("", "app.localhost"), Some(both));
        assert_eq!(addresses("", "notlocalhost"), None);
        let file = "127.0.0.1 localhost";
        assert_eq!(addresses(file, "localhost"), Some(vec!["127.0.0.1".to_owned()]));
    }

    #[test]
    fn lines_that_mean_nothing_are_passed_over() {
        for text in [
            "",
            "10.0.0.1",
            "db 10.0.0.1",
            "10.0.0.300 db",
            "\0\0 db",
            "# 10.0.0.1 db",
        ] {
            assert_eq!(addresses(text, "db"), None, "{text:?}");
        }
    }
}
