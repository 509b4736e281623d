//! URLs of a Redis.

use super::Complaint;
use crate::config::model::{RedisAddress, RedisKind, RedisUrl, Secret};
use percent_encoding::percent_decode_str;
use std::path::PathBuf;

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// Most addresses in one URL.
const MAX_ADDRESSES: usize = 16;
const MAX_DATABASE: u32 = 1 << 20;

/// Reads `redis://`, `rediss://`, `redis+unix:///path`, `redis+sentinel://`, `redis+cluster://` and the latter two with
/// `rediss`. What is wrong is told without the credentials.
pub fn url(text: &str) -> Result<RedisUrl, Complaint> {
    let Some((scheme, rest)) = text.split_once("://") else {
        let hint = if text.contains('@') || text.contains('/') {
            None
        } else {
            Some(format!("write \"redis://{text}\""))
        };
        let mut complaint = Complaint::new("it has no scheme such as redis://");
        complaint.hint = hint;
        return Err(complaint);
    };
    unescaped(rest)?;
    if rest.contains('#') {
        return Err(Complaint::new("nothing is set by `#…` in it"));
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !query.is_empty() {
        return Err(Complaint::new("nothing is set by `?…` in it")
            .hint("user, password and terms of TLS are keys of [cluster]"));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (Some(credentials), hosts),
        None => (None, authority),
    };
    let (user, password) = credentials.map_or(Ok((None, None)), credentials_of)?;
    let made = |kind, tls, addresses, database| RedisUrl {
        kind,
        tls,
        addresses,
        database,
        user,
        password,
    };
    match scheme {
        "redis" | "rediss" => {
            let addresses = addresses(hosts, REDIS_PORT)?;
            Ok(made(
                RedisKind::Single,
                scheme == "rediss",
                addresses,
                database(path)?,
            ))
        }
        "redis+unix" | "unix" => {
            if !hosts.is_empty() || path.is_empty() {
                return Err(Complaint::new("it names no socket").hint("write redis+unix:///run/redis.sock"));
            }
            let path = PathBuf::from(format!("/{path}"));
            Ok(made(RedisKind::Single, false, vec![RedisAddress::Unix(path)], 0))
        }
        "redis+sentinel" | "rediss+sentinel" => {
            let addresses = addresses(hosts, SENTINEL_PORT)?;
            let (master, path) = path.split_once('/').unwrap_or((path, ""));
            if master.is_empty() || master.chars().any(|c| c.is_control() || c == ' ') {
                return Err(
                    Complaint::new("it does not say which master the sentinels are to be asked for")
                        .hint("write redis+sentinel://HOST,HOST/MASTER"),
                );
            }
            let kind = RedisKind::Sentinel {
                master: master.to_owned(),
            };
            Ok(made(
                kind,
                scheme == "rediss+sentinel",
                addresses,
                database(path)?,
            ))
        }
        "redis+cluster" | "rediss+cluster" => {
            if !path.is_empty() && path != "0" {
                return Err(Complaint::new("a Redis Cluster has database 0 only"));
            }
            let addresses = addresses(hosts, REDIS_PORT)?;
            Ok(made(RedisKind::Cluster, scheme == "rediss+cluster", addresses, 0))
        }
        other => Err(Complaint::new("its scheme is not known").hint(format!("write {}", near(other)))),
    }
}

/// A part of the credentials that ends them too early. What is told names no character of them.
fn unescaped(rest: &str) -> Result<(), Complaint> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(end);
    if authority.is_empty() || !behind.contains('@') {
        return Ok(());
    }
    Err(
        Complaint::new("its user or password has a `/`, `?` or `#`, which ends it there")
            .hint("write %2F, %3F or %23 for it, or keep the password apart: redis_password = \"env:NAME\""),
    )
}

/// Which of our schemes another one is nearest to.
fn near(scheme: &str) -> &'static str {
    let scheme = scheme.to_ascii_lowercase();
    let secure = ["https", "tls", "ssl", "rediss", "valkeys"].contains(&scheme.as_str());
    match scheme {
        _ if scheme.contains("sentinel") => "redis+sentinel://HOST,HOST/MASTER",
        _ if scheme.contains("cluster") => "redis+cluster://HOST,HOST",
        _ if scheme.contains("unix") || scheme.contains("socket") => "redis+unix:///PATH",
        _ if secure => "rediss://HOST",
        _ => "redis://HOST",
    }
}

/// What may be shown of a URL.
#[must_use]
pub fn without_password(url: &RedisUrl) -> String {
    let tls = if url.tls { "rediss" } else { "redis" };
    let scheme = match &url.kind {
        RedisKind::Single if matches!(url.addresses.first(), Some(RedisAddress::Unix(_))) => {
            "redis+unix".to_owned()
        }
        RedisKind::Single => tls.to_owned(),
        RedisKind::Sentinel { .. } => format!("{tls}+sentinel"),
        RedisKind::Cluster => format!("{tls}+cluster"),
    };
    let credentials = match (&url.user, &url.password) {
        (None, None) => String::new(),
        (user, None) => format!("{}@", user.as_deref().unwrap_or_default()),
        (user, Some(_)) => format!("{}:***@", user.as_deref().unwrap_or_default()),
    };
    let addresses: Vec<String> = url
        .addresses
        .iter()
        .map(|address| match address {
            RedisAddress::Unix(path) => path.display().to_string(),
            RedisAddress::Tcp { .. } => address.to_string(),
        })
        .collect();
    let mut text = format!("{scheme}://{credentials}{}", addresses.join(","));
    if let RedisKind::Sentinel { master } = &url.kind {
        text.push_str(&format!("/{master}"));
    }
    if url.database > 0 {
        text.push_str(&format!("/{}", url.database));
    }
    text
}

fn credentials_of(text: &str) -> Result<(Option<String>, Option<Secret>), Complaint> {
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(|text| text.into_owned())
            .map_err(|_| Complaint::new("its user or password is not UTF-8"))
    };
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (text, None),
    };
    let user = Some(decoded(user)?).filter(|user| !user.is_empty());
    let password = password
        .map(decoded)
        .transpose()?
        .filter(|password| !password.is_empty());
    Ok((user, password.map(Secret)))
}

fn database(path: &str) -> Result<u32, Complaint> {
    if path.is_empty() {
        return Ok(0);
    }
    let number = path.parse().ok().filter(|number| *number <= MAX_DATABASE);
    number.ok_or_else(|| Complaint::new("its path is not the number of a database"))
}

fn addresses(text: &str, port: u16) -> Result<Vec<RedisAddress>, Complaint> {
    let mut found = Vec::new();
    for part in text.split(',').map(str::trim) {
        let address = address(part, port)?;
        if !found.contains(&address) {
            found.push(address);
        }
    }
    if found.len() > MAX_ADDRESSES {
        return Err(Complaint::new(format!(
            "it has more than {MAX_ADDRESSES} addresses"
        )));
    }
    Ok(found)
}

fn address(text: &str, default: u16) -> Result<RedisAddress, Complaint> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| Complaint::new("a bracket in it is not closed"))?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(Complaint::new("what is in brackets is no IPv6 address"));
        }
        (
            host,
            rest.strip_prefix(':')
                .or(if rest.is_empty() { None } else { Some("?") }),
        )
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let well = host
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'));
    if host.is_empty() || host.len() > 253 || !well {
        return Err(Complaint::new("it names no host"));
    }
    let port = match port {
        None => default,
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return Err(Complaint::new("its port is not a number from 1 to 65535")),
        },
    };
    Ok(RedisAddress::Tcp {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        without_password(&url(text).unwrap_or_else(|complaint| panic!("{text}: {}", complaint.reason)))
    }

    #[test]
    fn urls_of_every_kind_are_read() {
        for (text, shows) in [
            ("redis://localhost", "redis://localhost:6379"),
            ("redis://10.0.0.1:6380/2", "redis://10.0.0.1:6380/2"),
            (
                "rediss://u:p@redis.internal",
                "rediss://u:***@redis.internal:6379",
            ),
            ("redis://:p%40ss@[::1]:7000", "redis://:***@[::1]:7000"),
            ("redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
            (
                "redis+sentinel://a,b:26380/prod",
                "redis+sentinel://a:26379,b:26380/prod",
            ),
            ("redis+sentinel://a/prod/1", "redis+sentinel://a:26379/prod/1"),
            ("rediss+cluster://a,b,a", "rediss+cluster://a:6379,b:6379"),
        ] {
            assert_eq!(shown(text), shows);
        }
        let password = url("redis://:p%40ss@h").unwrap().password;
        assert_eq!(password, Some(Secret("p@ss".into())));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, says) in [
            ("localhost:6379", "scheme"),
            ("http://localhost", "scheme"),
            ("redis://u:hun/ter2@a", "ends it there"),
            ("redis://u:hunter#2@a:1", "ends it there"),
            ("redis://u:h?unter2@a", "ends it there"),
            ("redis://a#1", "set by"),
            ("redis://", "host"),
            ("redis://a:0", "port"),
            ("redis://a:99999", "port"),
            ("redis://a/x", "database"),
            ("redis://u:hunter2@a b", "host"),
            ("redis://[::1", "bracket"),
            ("redis://[x]", "IPv6"),
            ("redis+sentinel://a", "master"),
            ("redis+cluster://a/1", "database 0"),
            ("redis://a?db=1", "set by"),
            ("redis+unix://", "socket"),
        ] {
            let complaint = url(text).expect_err(text);
            assert!(complaint.reason.contains(says), "{text}: {}", complaint.reason);
            assert!(!complaint.reason.contains("hunter2"));
        }
    }

    #[test]
    fn schemes_of_others_are_told_with_ours() {
        for (text, ours) in [
            ("http://h", "redis://HOST"),
            ("tls://h", "rediss://HOST"),
            ("sentinel://h/m", "redis+sentinel://"),
            ("redis-cluster://h", "redis+cluster://"),
            ("redis-socket:///run/x", "redis+unix://"),
        ] {
            let hint = url(text).expect_err(text).hint.unwrap_or_default();
            assert!(hint.contains(&format!("write {ours}")), "{text}: {hint}");
        }
        // A socket's path may have what is none of credentials.
        assert_eq!(shown("redis+unix:///run/a@b"), "redis+unix:///run/a@b");
    }
}
