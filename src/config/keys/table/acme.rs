//! Keys of certificates that the gateway gets itself.

use super::DEADLINE;
use crate::config::choices::Choice;
use crate::config::form::Form;
use crate::config::keys::Key;
use crate::config::model::{AcmeChallenge, AcmeKey};

pub(super) const ACME: &[Key] = &[
    Key::new(
        "directory",
        Form::Word,
        "https://acme-v02.api.letsencrypt.org/directory",
        "URL of the authority's directory. By using it you agree to its terms of service.",
    ),
    Key::optional(
        "email",
        Form::Word,
        "\"ops@example.com\"",
        "Where the authority may write to. Another address is another account.",
    ),
    Key::new(
        "challenge",
        Form::Choice(AcmeChallenge::NAMES),
        "tls-alpn-01",
        "How the authority sees that the names are ours: it comes to port 443 of each name (`tls-alpn-01`, answered by every TLS listener), or to port 80 (`http-01`, answered by every listener before its routes and redirects).",
    ),
    Key::list(
        "names",
        Form::Word,
        "",
        "Names to get certificates for. Empty: the exact `hosts` of the routes of this listener, but for those that its own `tls.certificates` serve.",
    )
    .example("[\"example.com\", \"www.example.com\"]"),
    Key::new(
        "single_certificate",
        Form::Bool,
        "false",
        "One certificate for all names, at most 100. Otherwise each name has its own, so that one that the authority can't reach does not hold up the others.",
    ),
    Key::optional_table(
        "eab",
        EAB,
        "Binds the account to one that you have with the authority, where it asks for that (external account binding).",
    ),
    Key::optional(
        "profile",
        Form::Word,
        "\"shortlived\"",
        "Kind of certificate to ask for, where the authority has several.",
    ),
    Key::optional(
        "ca",
        Form::Path,
        "\"certs/acme-root.pem\"",
        "Roots by which to know the authority's own server, in PEM. Absent: those of the system.",
    ),
    Key::new(
        "key_type",
        Form::Choice(AcmeKey::NAMES),
        "p256",
        "Kind of key; a change counts from the next certificate on.",
    ),
    Key::optional(
        "renew_before",
        DEADLINE,
        "\"30d\"",
        "Renew when no more than this is left. Absent: when the authority suggests it (RFC 9773), else when a third of the lifetime is left; both at a random moment of some span.",
    ),
    Key::new(
        "retry",
        DEADLINE,
        "1m",
        "First wait after a failure; it triples with each further one, up to 6 hours. What the authority says of when to come again is heeded.",
    ),
];

const EAB: &[Key] = &[
    Key::required(
        "kid",
        Form::Word,
        "\"kid-1\"",
        "Key identifier that the authority gave you.",
    ),
    Key::required(
        "key",
        Form::Secret,
        "\"env:ACME_EAB_KEY\"",
        "HMAC key that it gave you, in base64url.",
    ),
];
