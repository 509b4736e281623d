//! Certificates from an authority: for which names, and what keeps them from being had.

use super::diagnostic::Diagnostic;
use super::form::address::authority;
use super::model::{Acme, AcmeChallenge, Config, HostPattern, ListenAddress, Secret};
use super::path::{index, join};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Names of one listener: what a mistake in a generated configuration may cost at most.
pub const MAX_NAMES: usize = 1000;
/// Names in one certificate that authorities sign.
pub const MAX_NAMES_IN_ONE: usize = 100;
/// Longest name, and longest part of one (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// The names that a listener gets certificates for, in lower case and in order; empty without `acme`.
#[must_use]
pub fn names(config: &Config, listener: &str) -> BTreeSet<String> {
    let Some(acme) = config.listeners.get(listener).and_then(|it| it.acme.as_ref()) else {
        return BTreeSet::new();
    };
    if !acme.names.is_empty() {
        return acme.names.iter().map(|name| name.to_ascii_lowercase()).collect();
    }
    let routes = config
        .routes
        .iter()
        .filter(|route| route.listeners.is_empty() || route.listeners.iter().any(|name| *name == *listener));
    routes
        .flat_map(|route| &route.hosts)
        .filter_map(|host| match host {
            HostPattern::Exact(name) => Some(name.to_ascii_lowercase()),
            HostPattern::Wildcard(_) | HostPattern::Regex(_) => None,
        })
        // Names that mean something only here are nothing that an authority can look at.
        .filter(|name| name.contains('.') && fault(name).is_none())
        .collect()
}

/// Everything that keeps certificates from being had, and what may; `whole`: all routes are there.
#[must_use]
pub fn check(config: &Config, whole: bool) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (name, listener) in &config.listeners {
        let Some(acme) = &listener.acme else { continue };
        let at = join(&join("listeners", name), "acme");
        found.extend(account_faults(&at, acme));
        found.extend(name_faults(&at, config, name, acme, whole));
        found.extend(challenge_faults(&at, config, acme, &listener.address));
    }
    found
}

fn account_faults(at: &str, acme: &Acme) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if let Err(why) = directory(&acme.directory) {
        found.push(Diagnostic::error(join(at, "directory"), why));
    }
    if let Some(email) = &acme.email
        && !is_email(email)
    {
        let text = format!("`{email}` is no address that mail can go to");
        found.push(Diagnostic::error(join(at, "email"), text).hint("write one such as \"ops@example.com\""));
    }
    if let Some(eab) = &acme.eab
        && eab_key(&eab.key).is_none()
    {
        let text = "the key is not in base64url".to_owned();
        let hint = "authorities show it as letters, digits, - and _";
        found.push(Diagnostic::error(join(&join(at, "eab"), "key"), text).hint(hint));
    }
    found
}

fn name_faults(at: &str, config: &Config, listener: &str, acme: &Acme, whole: bool) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let key = join(at, "names");
    for (n, name) in acme.names.iter().enumerate() {
        if let Some((why, hint)) = fault(&name.to_ascii_lowercase()) {
            let mut told = Diagnostic::error(index(&key, n), format!("`{name}` {why}"));
            told.hint = hint.map(str::to_owned);
            found.push(told);
        }
    }
    let all = names(config, listener).len();
    let most = if acme.single_certificate {
        MAX_NAMES_IN_ONE
    } else {
        MAX_NAMES
    };
    if all == 0 && whole {
        let text = "there is no name to get a certificate for: no route of this listener has an exact host";
        found.push(Diagnostic::error(key, text).hint("names = [\"example.com\"]"));
    } else if all > most {
        let what = if acme.single_certificate {
            "one certificate"
        } else {
            "one listener"
        };
        found.push(Diagnostic::error(
            key,
            format!("{all} names are more than the {most} that {what} may have"),
        ));
    }
    found
}

fn challenge_faults(at: &str, config: &Config, acme: &Acme, address: &ListenAddress) -> Vec<Diagnostic> {
    let key = join(at, "challenge");
    let warn = |text: String| {
        vec![
            Diagnostic::warning(key.clone(), text)
                .hint("something before the gateway has to forward that port"),
        ]
    };
    match acme.challenge {
        AcmeChallenge::TlsAlpn01 => match port(address) {
            Some(HTTPS | 0) => Vec::new(),
            _ => warn(format!(
                "the authority comes to port {HTTPS}, and this listener is not there"
            )),
        },
        AcmeChallenge::Http01 => {
            let mut plain = config
                .listeners
                .values()
                .filter(|listener| listener.tls.is_none())
                .map(|listener| port(&listener.address))
                .peekable();
            if plain.peek().is_none() {
                let text = "http-01 needs a listener without TLS, and there is none";
                let hint = "[listeners.plain] with address = \"0.0.0.0:80\"";
                return vec![Diagnostic::error(key, text).hint(hint)];
            }
            if plain.any(|port| matches!(port, Some(HTTP | 0))) {
                return Vec::new();
            }
            warn(format!(
                "the authority comes to port {HTTP}, and no listener without TLS is there"
            ))
        }
    }
}

const fn port(address: &ListenAddress) -> Option<u16> {
    match address {
        ListenAddress::Tcp(address) => Some(address.port()),
        ListenAddress::Unix(_) => None,
    }
}

/// Why an authority will not sign this name, which is in lower case, and what to do instead.
fn fault(name: &str) -> Option<(&'static str, Option<&'static str>)> {
    if name.starts_with("*.") {
        let hint = "name the hosts, or put a certificate that you have into tls.certificates";
        return Some((
            "is a wildcard: those need the dns-01 challenge, which is not offered",
            Some(hint),
        ));
    }
    if name.starts_with('[') || name.parse::<IpAddr>().is_ok() {
        return Some(("is an address; only names are offered", None));
    }
    let label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let sound = name.len() <= MAX_NAME && name.split('.').all(label);
    (!sound).then_some(("is no host name", None))
}

/// Checks the URL of a directory and gives its host, with the port if there is one.
///
/// # Errors
/// Why it is none, in a sentence.
pub fn directory(url: &str) -> Result<&str, String> {
    let (secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => {
            return Err(format!(
                "`{url}` is not the URL of a directory: it begins with https://"
            ));
        }
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority(host).is_err() || url.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err(format!("`{url}` is not a URL with a host"));
    }
    if !secure && !is_own(host) {
        return Err("the directory is asked over TLS only: https://, or http:// on this host".to_owned());
    }
    Ok(host)
}

/// Whether it is this very machine, so that nobody is in between.
fn is_own(authority: &str) -> bool {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => authority,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_email(text: &str) -> bool {
    let sound = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b'@' | b',' | b'?'))
    };
    text.split_once('@')
        .is_some_and(|(user, host)| sound(user) && sound(host))
}

/// The bytes of the key that an external account is bound by.
#[must_use]
pub fn eab_key(key: &Secret) -> Option<Vec<u8>> {
    let text = key.0.trim_end_matches('=');
    URL_SAFE_NO_PAD.decode(text).ok().filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(text: &str) -> (Option<Config>, String) {
        let found = crate::config::load_text("test.toml", text, &crate::config::Environment::default());
        match found {
            Ok(loaded) => {
                let told: Vec<String> = loaded.warnings.iter().map(|d| d.message.clone()).collect();
                (Some(loaded.config), told.join("\n"))
            }
            Err(rejected) => {
                let told: Vec<String> = rejected.diagnostics.iter().map(|d| d.message.clone()).collect();
                (None, told.join("\n"))
            }
        }
    }

    const ROUTES: &str = "
[[routes]]
hosts = ['A.example.com', '*.example.com', 'localhost', '127.0.0.1']
respond = {}
[[routes]]
listeners = ['plain']
hosts = ['plain.example.com']
respond = {}
";

    fn with(acme: &str, rest: &str) -> (Option<Config>, String) {
        configured(&format!(
            "[listeners.web]\naddress = '0.0.0.0:443'\nacme = {{ {acme} }}\n{rest}\n{ROUTES}"
        ))
    }

    const PLAIN: &str = "[listeners.plain]\naddress = '0.0.0.0:80'";

    #[test]
    fn names_come_from_the_exact_hosts_of_the_listeners_routes() {
        let (config, _) = with("", PLAIN);
        let config = config.unwrap();
        let found: Vec<String> = names(&config, "web").into_iter().collect();
        assert_eq!(found, ["a.example.com"]);
        assert!(names(&config, "plain").is_empty());
        let listener = &config.listeners["web"];
        assert!(listener.tls.is_some(), "and there is TLS by its defaults");
    }

    #[test]
    fn names_that_are_written_are_all() {
        let (config, told) = with("names = ['B.example.org', 'gateway']", PLAIN);
        let found: Vec<String> = names(&config.unwrap(), "web").into_iter().collect();
        assert_eq!(found, ["b.example.org", "gateway"]);
        assert_eq!(told, "");
    }

    #[test]
    fn what_no_authority_would_sign_is_told() {
        for (acme, told) in [
            (
                "names = ['*.example.com']",
                "dns-01 challenge, which is not offered",
            ),
            ("names = ['10.0.0.1']", "only names are offered"),
            ("names = ['a_b.example.com']", "is no host name"),
            ("directory = 'http://ca.example.com/dir'", "over TLS only"),
            ("directory = 'ca.example.com'", "begins with https://"),
            ("directory = 'https:///x'", "not a URL with a host"),
            ("email = 'nobody'", "no address that mail can go to"),
            ("eab = { kid = 'k', key = 'a b' }", "not in base64url"),
            ("challenge = 'http-01'", "needs a listener without TLS"),
        ] {
            let rest = if acme.contains("http-01") { "" } else { PLAIN };
            let (config, found) = configured(&format!(
                "[listeners.web]\naddress = '0.0.0.0:443'\nacme = {{ {acme} }}\n{rest}\n[[routes]]\nhosts = ['a.example.com']\nrespond = {{}}\n"
            ));
            assert!(config.is_none() && found.contains(told), "{acme}: {found}");
        }
    }

    #[test]
    fn a_listener_without_names_is_refused() {
        let (config, found) =
            configured("[listeners.web]\naddress = '0.0.0.0:443'\nacme = {}\n[[routes]]\nrespond = {}\n");
        assert!(
            config.is_none() && found.contains("no name to get a certificate for"),
            "{found}"
        );
    }

    #[test]
    fn what_is_shown_means_the_same() {
        let text =
            format!("[listeners.web]\naddress = '0.0.0.0:443'\nacme = {{ retry = '7s' }}\n{PLAIN}{ROUTES}");
        let loaded = crate::config::load_text("some", &text, &crate::config::Environment::default()).unwrap();
        let shown = crate::config::effective::toml(&loaded);
        let (again, told) = configured(&shown);
        assert_eq!(again.as_ref(), Some(&loaded.config), "{shown}\n{told}");
    }

    #[test]
    fn ports_that_the_authority_does_not_come_to_are_warned_of() {
        let text = |port: u16, acme: &str| {
            format!("[listeners.web]\naddress = '0.0.0.0:{port}'\nacme = {{ {acme} }}\n")
        };
        let (_, told) = configured(&format!("{}{ROUTES}{PLAIN}", text(8443, "")));
        assert!(told.contains("comes to port 443"), "{told}");
        let plain = PLAIN.replace(":80", ":8080");
        let (_, told) = configured(&format!("{}{ROUTES}{plain}", text(8443, "challenge = 'http-01'")));
        assert!(told.contains("comes to port 80"), "{told}");
        let (_, told) = configured(&format!("{}{ROUTES}{PLAIN}", text(8443, "challenge = 'http-01'")));
        assert_eq!(told, "");
    }

    #[test]
    fn plain_http_is_for_a_directory_on_this_host() {
        assert_eq!(directory("http://127.0.0.1:14000/dir"), Ok("127.0.0.1:14000"));
        assert_eq!(directory("http://[::1]/dir"), Ok("[::1]"));
        assert_eq!(
            directory("https://ca.example.com/directory?x"),
            Ok("ca.example.com")
        );
        assert!(directory("http://127.0.0.1.example.com/").is_err());
    }

    #[test]
    fn the_eab_key_may_be_padded() {
        assert_eq!(eab_key(&Secret("_-8=".to_owned())), Some(vec![0xff, 0xef]));
        assert_eq!(eab_key(&Secret("=".to_owned())), None);
    }
}
