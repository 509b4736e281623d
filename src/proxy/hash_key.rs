//! What a request is known by, where that decides which endpoint gets it.

use crate::message::params::{cookie_values, query_values};
use crate::routing::RouteInput;
use crate::upstream::shared::balancer::ring;
use crate::upstream::shared::sticky::By;
use crate::upstream::shared::{HashKey, UpstreamPlan};
use std::net::IpAddr;

/// The hash of the key in this request; `None` if it has none. Of several values the first counts.
pub(super) fn of(key: &HashKey, request: &RouteInput<'_>) -> Option<u64> {
    let buf = &request.head.buf;
    match key {
        HashKey::Header(name) => buf.find(name.as_bytes()).next().map(ring::hash),
        HashKey::Cookie(name) => cookie_values(buf, name.as_bytes()).next().map(ring::hash),
        HashKey::Query(name) => query_values(request.query?, name.as_bytes())
            .next()
            .map(ring::hash),
        HashKey::Uri => {
            let query = request.query.map_or(0, ring::hash);
            Some(ring::hash(request.path) ^ query.rotate_left(1))
        }
        HashKey::ClientIp => Some(of_client(request.client)),
    }
}

/// The hash of the key of a connection that is passed on unopened: nothing is known of it but who connects.
pub(super) fn of_connection(upstream: &UpstreamPlan, client: IpAddr) -> Option<u64> {
    let by_session = match upstream.sticky.as_deref().map(|sticky| &sticky.by) {
        Some(By::Hash(key)) => Some(key),
        _ => None,
    };
    (by_session.or_else(|| upstream.hash_key()) == Some(&HashKey::ClientIp)).then(|| of_client(client))
}

/// The hash of a client's address.
fn of_client(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(address) => ring::hash(&address.octets()),
        IpAddr::V6(address) => ring::hash(&address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::parse::tests::request;

    fn key(key: &HashKey, fields: &str, path: &str, query: Option<&str>, client: &str) -> Option<u64> {
        of(
            key,
            &RouteInput {
                listener: 0,
                host: b"a",
                path: path.as_bytes(),
                query: query.map(str::as_bytes),
                head: &request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")),
                client: client.parse().unwrap(),
            },
        )
    }

    #[test]
    fn the_first_value_of_a_name_is_the_key_and_without_one_there_is_none() {
        let header = HashKey::Header("x-user".to_owned());
        let of_header = |fields: &str| key(&header, fields, "/", None, "::1");
        assert_eq!(of_header("X-User: 7\r\nX-User: 8\r\n"), Some(ring::hash(b"7")));
        assert_eq!(of_header("X-Other: 7\r\n"), None);
        let cookie = HashKey::Cookie("sid".to_owned());
        let of_cookie = |fields: &str| key(&cookie, fields, "/", None, "::1");
        assert_eq!(of_cookie("Cookie: a=1; sid=7\r\n"), Some(ring::hash(b"7")));
        assert_eq!(of_cookie("Cookie: a=1; SID=7\r\n"), None);
        let query = HashKey::Query("user".to_owned());
        let of_query = |query_text: Option<&str>| key(&query, "", "/", query_text, "::1");
        assert_eq!(of_query(Some("a=1&user=7&user=8")), Some(ring::hash(b"7")));
        assert_eq!((of_query(Some("a=1")), of_query(None)), (None, None));
    }

    #[test]
    fn a_uri_is_its_path_with_its_query() {
        let of_uri = |path: &str, query: Option<&str>| key(&HashKey::Uri, "", path, query, "::1").unwrap();
        let all = [
            of_uri("/a", None),
            of_uri("/a", Some("b")),
            of_uri("/b", Some("a")),
            of_uri("/b", None),
        ];
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), 4);
        assert_eq!(of_uri("/a", Some("b")), all[1]);
    }

    #[test]
    fn an_address_is_the_same_in_both_families() {
        let of_client = |client: &str| key(&HashKey::ClientIp, "", "/", None, client);
        assert_eq!(of_client("10.0.0.1"), of_client("::ffff:10.0.0.1"));
        assert_ne!(of_client("10.0.0.1"), of_client("10.0.0.2"));
    }
}
