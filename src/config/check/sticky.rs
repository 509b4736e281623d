//! Sessions that stay at their endpoints: contradictions.

use super::Checker;
use crate::config::diagnostic::Diagnostic;
use crate::config::model::{Balance, SameSite, Secure, Sticky, StickyBy, StickyCookie, Upstream};
use crate::config::path::{index, join};
use crate::config::settings::Table;

/// The keys of `sticky` of which exactly one is written.
const KNOWN_BY: [&str; 3] = ["cookie", "learn", "hash"];
/// The keys of `learn` of which exactly one is written.
const NAMED_IN: [&str; 2] = ["cookie", "header"];
/// The keys that are about the gateway's own cookie.
const OF_THE_COOKIE: [&str; 8] = [
    "keys",
    "path",
    "domain",
    "secure",
    "http_only",
    "same_site",
    "partitioned",
    "private",
];
/// Characters below which a secret can be guessed from the cookies that it signs.
const SHORT_KEY: usize = 32;

impl Checker<'_> {
    /// What of `sticky` is written where.
    pub(super) fn sticky_keys(&mut self, at: &str, table: &Table) {
        let Some(sticky) = table.table("sticky") else {
            return;
        };
        let at = join(at, "sticky");
        self.one_of(&at, sticky, &KNOWN_BY);
        if let Some(learn) = sticky.table("learn") {
            self.one_of(&join(&at, "learn"), learn, &NAMED_IN);
        }
        if !sticky.given("cookie") {
            for name in OF_THE_COOKIE.into_iter().filter(|name| sticky.given(name)) {
                let message = format!("`{name}` is about `cookie` and has no effect without it");
                self.warning(join(&at, name), message, None);
            }
        }
        if sticky.given("hash") {
            for name in ["ttl", "on_missing"]
                .into_iter()
                .filter(|name| sticky.given(name))
            {
                let message = format!("`{name}` has no effect with `hash`: nothing is remembered");
                self.warning(join(&at, name), message, None);
            }
        }
    }

    /// `at`: where an upstream stands.
    pub(super) fn rebalance(&mut self, at: &str, upstream: &Upstream) {
        let why = match (upstream.balance, &upstream.sticky) {
            _ if upstream.rebalance.is_none() => return,
            (_, Some(_)) => "`sticky` brings them back to where they were",
            (Balance::Hash | Balance::IpHash, None) => "their key brings them back to where they were",
            (Balance::First, None) => "`balance = \"first\"` brings them back to the first endpoint",
            _ => return,
        };
        let message = format!("tunnels are not asked to go where that moves nobody: {why}");
        self.warning(join(at, "rebalance"), message, None);
    }

    fn one_of(&mut self, at: &str, table: &Table, names: &[&str]) {
        let given: Vec<&str> = names.iter().copied().filter(|name| table.given(name)).collect();
        if given.len() == 1 || self.problems.any_under(at) {
            return;
        }
        let found = if given.is_empty() {
            "none".to_owned()
        } else {
            given.join(" and ")
        };
        let message = format!("found {found}; accepted: one of {}", names.join(", "));
        self.error(at.to_owned(), message);
    }

    pub(super) fn sticky(&mut self, at: &str, upstream: &Upstream, sticky: &Sticky) {
        let at = join(at, "sticky");
        match &sticky.by {
            StickyBy::Cookie(cookie) => self.sticky_cookie(&at, cookie),
            StickyBy::Learn(_) => {}
            StickyBy::Hash(_) => {
                if matches!(upstream.balance, Balance::Hash | Balance::IpHash) {
                    let message = "`balance` goes by a hash already; two can't both decide".to_owned();
                    self.error(join(&at, "hash"), message);
                }
            }
        }
    }

    fn sticky_cookie(&mut self, at: &str, cookie: &StickyCookie) {
        let other_sites = match cookie.same_site {
            SameSite::None => Some("same_site = \"none\""),
            SameSite::Lax | SameSite::Strict | SameSite::Off if cookie.partitioned => {
                Some("partitioned = true")
            }
            SameSite::Lax | SameSite::Strict | SameSite::Off => None,
        };
        if let (Some(what), Secure::Never) = (other_sites, cookie.secure) {
            let told = Diagnostic::error(
                join(at, "secure"),
                format!("browsers drop a cookie with {what} that is not Secure"),
            );
            self.problems.add(told.hint("secure = \"auto\""));
        }
        self.cookie_prefix(at, cookie);
        for (position, key) in cookie.keys.iter().enumerate() {
            if key.0.len() < SHORT_KEY {
                let message = format!("a key of less than {SHORT_KEY} characters can be guessed");
                let hint = "openssl rand -hex 32".to_owned();
                self.warning(index(&join(at, "keys"), position), message, Some(hint));
            }
        }
    }

    /// What browsers hold a cookie to by its name (RFC 6265bis section 4.1.3).
    fn cookie_prefix(&mut self, at: &str, cookie: &StickyCookie) {
        let begins = |prefix: &str| {
            let start = cookie.name.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let (host, secure) = (begins("__Host-"), begins("__Secure-"));
        let fault = if (host || secure) && cookie.secure != Secure::Always {
            Some(("secure", "unless `secure` is \"always\""))
        } else if host && cookie.domain.is_some() {
            Some(("domain", "with a domain"))
        } else if host && cookie.path != "/" {
            Some(("path", "unless `path` is \"/\""))
        } else {
            None
        };
        if let Some((key, when)) = fault {
            let message = format!("browsers drop a cookie called {} {when}", cookie.name);
            self.error(join(at, key), message);
        }
    }
}
