//! Who asks, and whether they may.
//!
//! On the control socket the kernel tells the peer's user: ours or root is admin. On the admin listener a token
//! does. Without any token configured the listener is read-only and for this host alone, and only under a name
//! that no foreign web page can have (a page could otherwise point its own name at 127.0.0.1 and read us).

use super::problem::Problem;
use crate::config::model::{Admin, AdminToken, Grant, Role};
use crate::control::Actor;
use axum::http::{HeaderMap, StatusCode, header};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use subtle::ConstantTimeEq;

/// Where a connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    /// The admin listener on a unix path: who may open it may read.
    UnixListener,
    /// Checked already: our user, or root.
    ControlSocket {
        uid: u32,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::UnixListener => f.write_str("unix listener"),
            Self::ControlSocket { uid } => write!(f, "control socket uid {uid}"),
        }
    }
}

/// What an endpoint asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing: probes of orchestrators carry no token, and learn only whether we live.
    Nothing,
    /// The role or a higher one.
    Role(Role),
    /// An operator, or the grant to register services: which ones is looked at by the answer.
    Register,
    /// The key of the cluster, which signs what is said: the answer looks at that.
    Cluster,
}

/// Finds out who asks, and refuses those who may not.
///
/// # Errors
/// 401 without or with an unknown token, 403 with one whose role is too low.
pub fn authorize(
    peer: Peer,
    headers: &HeaderMap,
    admin: Option<&Admin>,
    need: Need,
) -> Result<Actor, Problem> {
    let needed = match need {
        Need::Nothing | Need::Cluster => return Ok(Actor::Anonymous),
        Need::Role(role) => role,
        Need::Register => Role::Operator,
    };
    if let Peer::ControlSocket { uid } = peer {
        return Ok(Actor::ControlSocket { uid });
    }
    let tokens = admin.map(|admin| admin.tokens.as_slice()).unwrap_or_default();
    if tokens.is_empty() {
        return local_reader(peer, headers, needed);
    }
    let given = bearer(headers).ok_or_else(|| {
        unauthorized("a token is required").hint("send the header Authorization: Bearer <token>")
    })?;
    let token = find(tokens, given).ok_or_else(|| unauthorized("the token is not known"))?;
    let enough = match &token.role {
        Grant::Role(role) => *role >= needed,
        Grant::Register(_) => need == Need::Register,
    };
    if !enough {
        return Err(forbidden(format!(
            "this needs the role {}, the token {} has {}",
            role_name(needed),
            token.name,
            token.role
        )));
    }
    Ok(Actor::Token {
        name: token.name.clone(),
        role: token.role.clone(),
    })
}

fn local_reader(peer: Peer, headers: &HeaderMap, needed: Role) -> Result<Actor, Problem> {
    let local = match peer {
        Peer::Tcp(address) => address.ip().to_canonical().is_loopback() && names_this_host(headers),
        Peer::UnixListener | Peer::ControlSocket { .. } => true,
    };
    if !local {
        return Err(
            forbidden("without admin.tokens only this host may ask, by its address or as localhost")
                .hint("configure admin.tokens"),
        );
    }
    if needed > Role::Viewer {
        return Err(forbidden("without admin.tokens the admin listener is read-only")
            .hint("configure admin.tokens, or use the control socket (tidegate reload)"));
    }
    Ok(Actor::Anonymous)
}

/// Whether the Host header is an address, or a name without a dot, such as `localhost`: a foreign page's name has
/// one.
fn names_this_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
        // HTTP/1.0 without Host: no browser.
        return true;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    !name.contains('.') || name.parse::<IpAddr>().is_ok()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares with every token, in a time that depends on lengths alone.
fn find<'a>(tokens: &'a [AdminToken], given: &str) -> Option<&'a AdminToken> {
    let mut found = None;
    for token in tokens {
        if bool::from(token.token.0.as_bytes().ct_eq(given.as_bytes())) {
            found = Some(token);
        }
    }
    found
}

fn unauthorized(message: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
}

fn forbidden(message: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", message)
}

/// The word for a role.
#[must_use]
pub const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{ListenAddress, Secret};
    use axum::http::HeaderValue;
    use axum::response::IntoResponse;

    const LOCAL: Peer = Peer::Tcp(SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5000));

    fn remote() -> Peer {
        Peer::Tcp("192.0.2.1:5000".parse().unwrap())
    }

    fn admin(tokens: &[(&str, Role)]) -> Admin {
        let token = |(name, role): &(&str, Role)| AdminToken {
            name: (*name).to_owned(),
            role: Grant::Role(*role),
            token: Secret(format!("secret-of-{name}")),
        };
        Admin {
            address: ListenAddress::Tcp("127.0.0.1:9900".parse().unwrap()),
            tokens: tokens.iter().map(token).collect(),
        }
    }

    fn headers(authorization: Option<&str>, host: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn ask(peer: Peer, authorization: Option<&str>, admin: &Admin, role: Role) -> Result<Actor, StatusCode> {
        let headers = headers(authorization, "127.0.0.1:9900");
        authorize(peer, &headers, Some(admin), Need::Role(role)).map_err(|p| p.into_response().status())
    }

    #[test]
    fn a_token_opens_what_its_role_covers_and_no_more() {
        let admin = admin(&[
            ("eve", Role::Viewer),
            ("ops", Role::Operator),
            ("root", Role::Admin),
        ]);
        let as_ops = Some("Bearer secret-of-ops");
        let ops = Actor::Token {
            name: "ops".to_owned(),
            role: Grant::Role(Role::Operator),
        };
        assert_eq!(ask(remote(), as_ops, &admin, Role::Viewer), Ok(ops.clone()));
        assert_eq!(ask(remote(), as_ops, &admin, Role::Operator), Ok(ops));
        assert_eq!(
            ask(remote(), as_ops, &admin, Role::Admin),
            Err(StatusCode::FORBIDDEN)
        );
    }

    #[test]
    fn a_token_to_register_opens_that_and_nothing_else() {
        let mut admin = admin(&[("app", Role::Viewer)]);
        admin.tokens[0].role = Grant::Register("chat".to_owned());
        let headers = headers(Some("Bearer secret-of-app"), "127.0.0.1:9900");
        let ask = |need| authorize(remote(), &headers, Some(&admin), need).is_ok();
        assert!(ask(Need::Register) && ask(Need::Nothing));
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            assert!(!ask(Need::Role(role)), "{role:?}");
        }
    }

    #[test]
    fn with_tokens_configured_even_this_host_needs_one() {
        let admin = admin(&[("ops", Role::Admin)]);
        for wrong in [
            None,
            Some("Bearer x"),
            Some("Basic secret-of-ops"),
            Some("Bearer"),
            Some("secret-of-ops"),
        ] {
            assert_eq!(
                ask(LOCAL, wrong, &admin, Role::Viewer),
                Err(StatusCode::UNAUTHORIZED),
                "{wrong:?}"
            );
        }
        assert!(ask(LOCAL, Some("bearer secret-of-ops"), &admin, Role::Viewer).is_ok());
    }

    #[test]
    fn without_tokens_this_host_reads_and_nobody_writes() {
        let admin = admin(&[]);
        assert_eq!(ask(LOCAL, None, &admin, Role::Viewer), Ok(Actor::Anonymous));
        assert_eq!(
            ask(LOCAL, None, &admin, Role::Operator),
            Err(StatusCode::FORBIDDEN)
        );
        assert_eq!(
            ask(remote(), None, &admin, Role::Viewer),
            Err(StatusCode::FORBIDDEN)
        );
    }

    #[test]
    fn without_tokens_a_foreign_host_name_is_refused() {
        let admin = admin(&[]);
        let ask = |host| {
            let need = Need::Role(Role::Viewer);
            authorize(LOCAL, &headers(None, host), Some(&admin), need).is_ok()
        };
        for good in [
            "localhost",
            "localhost:9900",
            "127.0.0.1",
            "[::1]:9900",
            "::1",
            "gateway",
        ] {
            assert!(ask(good), "{good}");
        }
        for bad in ["evil.example", "evil.example:9900", "localhost.evil.example"] {
            assert!(!ask(bad), "{bad}");
        }
    }

    #[test]
    fn the_control_socket_is_admin_whatever_is_configured() {
        let admin = admin(&[("ops", Role::Admin)]);
        let peer = Peer::ControlSocket { uid: 0 };
        assert_eq!(
            ask(peer, None, &admin, Role::Admin),
            Ok(Actor::ControlSocket { uid: 0 })
        );
    }

    #[test]
    fn probes_need_nothing() {
        let admin = admin(&[("ops", Role::Admin)]);
        assert!(authorize(remote(), &HeaderMap::new(), Some(&admin), Need::Nothing).is_ok());
    }
}
