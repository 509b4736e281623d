//! Names that certificates serve (RFC 9525): whole names, `*.` for one label, and addresses.

use std::net::IpAddr;

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServedName {
    /// Lower case.
    Exact(String),
    /// What follows `*.`; lower case. Stands for one label and no more.
    Wildcard(String),
    Address(IpAddr),
}

impl ServedName {
    /// A DNS name as a certificate has it; `None` when it can match nothing.
    #[must_use]
    pub fn dns(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let (wildcard, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text.as_str()),
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
            return None;
        }
        match wildcard {
            true if name.contains('.') || name == "localhost" => Some(Self::Wildcard(name.to_owned())),
            // `*.com` would be anybody's.
            true => None,
            false => Some(Self::Exact(name.to_owned())),
        }
    }

    /// Whether this is the name of `host`, which is in lower case and has no port; an IPv6 address may stand in
    /// brackets.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Wildcard(parent) => parent_of(host) == Some(parent.as_str()),
            Self::Address(address) => {
                let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                bare.unwrap_or(host).parse() == Ok(*address)
            }
        }
    }
}

impl std::fmt::Display for ServedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(parent) => write!(f, "*.{parent}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// The name without its first label, if both are something.
#[must_use]
pub fn parent_of(name: &str) -> Option<&str> {
    match name.split_once('.') {
        Some((label, parent)) if !label.is_empty() && !parent.is_empty() => Some(parent),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(text: &str) -> ServedName {
        ServedName::dns(text).unwrap()
    }

    #[test]
    fn a_wildcard_is_one_label() {
        let any = dns("*.Example.com");
        assert!(any.covers("www.example.com"));
        assert!(!any.covers("example.com"));
        assert!(!any.covers("a.www.example.com"));
        assert!(!any.covers(".example.com"));
        assert!(!any.covers("wwwexample.com"));
    }

    #[test]
    fn names_are_compared_whole() {
        assert!(dns("Example.com.").covers("example.com"));
        assert!(!dns("example.com").covers("www.example.com"));
    }

    #[test]
    fn nobody_owns_a_top_level() {
        for text in [
            "*.com",
            "*",
            "*.",
            "",
            "a*.example.com",
            "*.*.example.com",
            "a b.com",
        ] {
            assert_eq!(ServedName::dns(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_are_compared_as_addresses() {
        let six = ServedName::Address("::1".parse().unwrap());
        assert!(six.covers("[0:0:0:0:0:0:0:1]"));
        assert!(!six.covers("127.0.0.1"));
        assert!(ServedName::Address("127.0.0.1".parse().unwrap()).covers("127.0.0.1"));
    }
}
