//! TLS of listeners: the files that it is made of, whom it asks for certificates, and suites.

use super::Checker;
use crate::config::acme;
use crate::config::diagnostic::Diagnostic;
use crate::config::files::{Files, MAX_CRL_BYTES, MAX_PEM_BYTES};
use crate::config::model::{ClientAuth, ClientAuthMode, TLS_SUITES, TLS13_SUITES, Tls, TlsPolicy};
use crate::config::path::{index, join};

impl Checker<'_> {
    /// What TLS reads is read by whoever compiles it; here it is counted, so that a change is seen.
    pub(super) fn tls(&mut self, files: &mut Files) {
        let config = self.config;
        for (name, listener) in &config.listeners {
            let Some(tls) = &listener.tls else { continue };
            let at = join(&join("listeners", name), "tls");
            if tls.certificates.is_empty() && listener.acme.is_none() {
                let told = Diagnostic::error(join(&at, "certificates"), "there is no certificate");
                self.problems
                    .add(told.hint("certificates = [{ cert = \"site.pem\", key = \"site.key\" }]"));
            }
            for (n, pair) in tls.certificates.iter().enumerate() {
                let at = index(&join(&at, "certificates"), n);
                self.readable(files, &pair.cert, MAX_PEM_BYTES, join(&at, "cert"));
                self.readable(files, &pair.key, MAX_PEM_BYTES, join(&at, "key"));
            }
            if let Some(auth) = &tls.client_auth {
                self.client_auth(&join(&at, "client_auth"), auth, files);
            }
            for (n, rule) in tls.client_auth_by_name.iter().enumerate() {
                let at = index(&join(&at, "client_auth_by_name"), n);
                if rule.names.is_empty() {
                    self.error(
                        join(&at, "names"),
                        "there is no name: it would hold for nobody".to_owned(),
                    );
                }
                self.client_auth(&at, &rule.auth, files);
            }
            self.suites(&at, tls);
        }
    }

    pub(super) fn acme(&mut self, files: &mut Files) {
        // A route that was misread may have had a name.
        let whole = self.root.tables("routes").len() == self.config.routes.len();
        for found in acme::check(self.config, whole) {
            self.problems.add(found);
        }
        for (name, listener) in &self.config.listeners {
            if let Some(ca) = listener.acme.as_ref().and_then(|acme| acme.ca.as_deref()) {
                let at = join(&join("listeners", name), "acme");
                self.readable(files, ca, MAX_PEM_BYTES, join(&at, "ca"));
            }
        }
    }

    fn client_auth(&mut self, at: &str, auth: &ClientAuth, files: &mut Files) {
        if auth.ca.is_none() && auth.mode != ClientAuthMode::None {
            let message =
                "without authorities to vouch for them, certificates of clients mean nothing".to_owned();
            self.error(join(at, "ca"), message);
        }
        if let Some(ca) = &auth.ca {
            self.readable(files, ca, MAX_PEM_BYTES, join(at, "ca"));
        }
        for crl in &auth.crl {
            self.readable(files, crl, MAX_CRL_BYTES, join(at, "crl"));
        }
    }

    /// TLS 1.3 and 1.2 have suites of their own; a policy needs some of each version that it speaks.
    fn suites(&mut self, at: &str, tls: &Tls) {
        if tls.ciphers.is_empty() {
            return;
        }
        let of_13 = |name: &String| TLS_SUITES[..TLS13_SUITES].contains(&name.as_str());
        let missing = match tls.policy {
            _ if !tls.ciphers.iter().any(of_13) => "1.3",
            TlsPolicy::Intermediate if tls.ciphers.iter().all(of_13) => "1.2",
            TlsPolicy::Modern | TlsPolicy::Intermediate => return,
        };
        let message = format!("none of these suites is for TLS {missing}, which the policy speaks");
        self.error(join(at, "ciphers"), message);
    }
}
