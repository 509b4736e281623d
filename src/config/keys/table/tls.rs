//! Keys of TLS: towards clients, and towards endpoints.

use crate::config::choices::Choice;
use crate::config::form::Form;
use crate::config::keys::{Key, Presence, Shape};
use crate::config::model::{Alpn, ClientAuthMode, TLS_GROUPS, TLS_SUITES, TlsPolicy, UnknownName};

pub(super) const TLS: &[Key] = &[
    Key {
        shape: Shape::Tables(CERTIFICATE, None),
        ..Key::table(
            "certificates",
            CERTIFICATE,
            "Certificates with their keys, chosen by the name that a client asks for (SNI): the exact name first, then `*.` for one label. Of several for one name a client gets ECDSA before RSA, as far as it can. The files are watched, and new ones served without a break.",
        )
    },
    Key::new(
        "default",
        Form::Choice(UnknownName::NAMES),
        "reject",
        "Clients that ask for no name, or for one of no certificate: refuse them, or serve them with the first certificate.",
    ),
    Key::new(
        "policy",
        Form::Choice(TlsPolicy::NAMES),
        "intermediate",
        "`modern` speaks TLS 1.3 only, `intermediate` TLS 1.2 as well.",
    ),
    Key::list(
        "ciphers",
        Form::Choice(&TLS_SUITES),
        "",
        "Cipher suites by their registered names. Empty: all of the policy, none of which is weak.",
    )
    .example("[\"TLS_AES_128_GCM_SHA256\"]"),
    Key::list(
        "groups",
        Form::Choice(&TLS_GROUPS),
        "",
        "Key-exchange groups, preferred ones first. Empty: X25519MLKEM768 (safe from later quantum computers), X25519, secp256r1, secp384r1.",
    )
    .example("[\"X25519\", \"secp256r1\"]"),
    Key::list(
        "alpn",
        Form::Choice(Alpn::NAMES),
        "h2,http/1.1",
        "Protocols that clients may agree on, preferred ones first; clients that offer none speak HTTP/1.1. `protocols` is for listeners without TLS.",
    ),
    Key::optional_table("client_auth", CLIENT_AUTH, "Certificates of clients. Absent: none is asked for. A session is resumed no longer than what was shown for it is good: the client's chain, and the lists."),
    Key {
        shape: Shape::Tables(NAMED_CLIENT_AUTH, None),
        ..Key::table(
            "client_auth_by_name",
            NAMED_CLIENT_AUTH,
            "Certificates of clients, for certain names in place of `client_auth`. A connection serves requests only for hosts with the terms that it was made under (else 421), so neither Host nor a resumed session leads around them.",
        )
    },
    Key::new(
        "session_tickets",
        Form::Bool,
        "true",
        "Let clients resume sessions, at any worker and over reloads. The keys change every 6 hours.",
    ),
];

const CERTIFICATE: &[Key] = &[
    Key::required(
        "cert",
        Form::Path,
        "\"certs/site.pem\"",
        "The certificate and those that lead to its issuer, in PEM, its own first.",
    ),
    Key::required(
        "key",
        Form::Path,
        "\"certs/site.key\"",
        "Its private key, in PEM: PKCS#8, PKCS#1 or SEC1, not encrypted.",
    ),
];

const CLIENT_AUTH: &[Key] = &[CLIENT_AUTH_MODE, CLIENT_AUTH_CA, CLIENT_AUTH_CRL];

const NAMED_CLIENT_AUTH: &[Key] = &[
    Key {
        presence: Presence::Required,
        ..Key::list(
            "names",
            Form::Word,
            "",
            "Names that clients ask for: `admin.example.com`, or `*.example.com` for one label.",
        )
        .example("[\"admin.example.com\"]")
    },
    CLIENT_AUTH_MODE,
    CLIENT_AUTH_CA,
    CLIENT_AUTH_CRL,
];

const CLIENT_AUTH_MODE: Key = Key::new(
    "mode",
    Form::Choice(ClientAuthMode::NAMES),
    "required",
    "Whether a client must show a certificate, may, or is not asked. One that is shown must be good.",
);

const CLIENT_AUTH_CA: Key = Key::optional(
    "ca",
    Form::Path,
    "\"certs/clients.pem\"",
    "The authorities that issue certificates to clients, in PEM.",
);

const CLIENT_AUTH_CRL: Key = Key::list(
    "crl",
    Form::Path,
    "",
    "Lists of certificates that were revoked, in PEM. With any, each client's issuer must have one that has not run out.",
)
.example("[\"certs/clients.crl\"]");

/// What a client of TLS trusts and shows.
pub(super) const CA: Key = Key::optional(
    "ca",
    Form::Path,
    "\"ca.pem\"",
    "Certificates to trust, in PEM; a server's own may be among them. Default: those that the system trusts.",
);
pub(super) const CERT: Key = Key::optional(
    "cert",
    Form::Path,
    "\"client.pem\"",
    "Certificate chain that the gateway shows, in PEM. With `key`.",
);
pub(super) const KEY: Key = Key::optional("key", Form::Path, "\"client.key\"", "Its private key.");

pub(super) const UPSTREAM_TLS: &[Key] = &[
    Key::optional(
        "server_name",
        Form::Word,
        "\"api.internal\"",
        "Name, or IP address, that certificates must have; a name is also asked for (SNI). Default: the host in the endpoint's address, or in `discover.dns`.",
    ),
    CA,
    CERT,
    KEY,
    Key::new(
        "verify",
        Form::Bool,
        "true",
        "Look at certificates. false: whoever answers is believed to be the endpoint, which is told at every start and reload.",
    ),
];
