//! Who asks: the client's address through proxies that are trusted, and through no others.
//!
//! X-Forwarded-For is walked from right to left: the rightmost address was added by the peer, each further one by
//! the proxy before it. The first that is not itself a trusted proxy is the client; what stands left of it was
//! written by the client and proves nothing. `Forwarded` (RFC 7239) is read the same way when there is no
//! X-Forwarded-For.

use super::client::Client;
use super::context::RequestContext;
use crate::message::head::RequestHead;
use crate::message::names::Name;
use ipnet::IpNet;
use std::net::IpAddr;

/// Hops looked at; a longer chain is a loop or an attack.
const MOST_HOPS: usize = 32;

/// Notes the client's address, and whether the peer is trusted.
pub(super) fn resolve(client: &Client, context: &mut RequestContext) {
    let listener = context.listener.clone();
    if let Some(head) = &context.request {
        let asker = asker(head, client.ip, &listener.plan.trusted_proxies);
        (context.client_ip, context.trusted) = asker;
    }
}

/// The client's address, and whether the peer is trusted.
pub(super) fn asker(head: &RequestHead, peer: IpAddr, trusted: &[IpNet]) -> (IpAddr, bool) {
    if is_trusted(trusted, peer) {
        (walk(head, peer, trusted), true)
    } else {
        (peer, false)
    }
}

/// Whether an address is in one of these networks.
pub(super) fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|net| net.contains(&address))
}

fn walk(head: &RequestHead, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer;
    let lines: Vec<&[u8]> = if head.buf.has(Name::XForwardedFor) {
        head.buf.all(Name::XForwardedFor).collect()
    } else {
        head.buf.all(Name::Forwarded).collect()
    };
    let forwarded = !head.buf.has(Name::XForwardedFor);
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(|b| *b == b','));
    for hop in hops.take(MOST_HOPS) {
        let address = if forwarded {
            forwarded_for(hop)
        } else {
            address(hop)
        };
        // What cannot be read hides whatever is left of it.
        let Some(address) = address else { break };
        client = address;
        if !is_trusted(trusted, address) {
            break;
        }
    }
    client
}

/// The address of `for=` in one element of Forwarded.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let pair = element
        .split(|b| *b == b';')
        .map(<[u8]>::trim_ascii)
        .find(|pair| pair.len() > 4 && pair[..4].eq_ignore_ascii_case(b"for="))?;
    let value = &pair[4..];
    let unquoted = value
        .strip_prefix(b"\"")
        .and_then(|v| v.strip_suffix(b"\""))
        .unwrap_or(value);
    address(unquoted)
}

/// An address as proxies write it: bare, with a port, IPv6 with or without brackets.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        return Some(address.ip().to_canonical());
    }
    let bracketed = text.strip_prefix('[')?.strip_suffix(']')?;
    bracketed
        .parse::<std::net::Ipv6Addr>()
        .ok()
        .map(|v6| IpAddr::V6(v6).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::parse::tests::request;

    fn client_of(fields: &str) -> String {
        let head = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        walk(&head, "10.0.0.1".parse().unwrap(), &trusted).to_string()
    }

    #[test]
    fn the_first_untrusted_address_from_the_right_is_the_client() {
        assert_eq!(
            client_of("X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.0.0.9\r\n"),
            "1.2.3.4"
        );
        assert_eq!(
            client_of("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n"),
            "1.2.3.4"
        );
        assert_eq!(client_of("X-Forwarded-For: 10.0.0.7, 10.0.0.8\r\n"), "10.0.0.7");
        assert_eq!(client_of(""), "10.0.0.1");
    }

    #[test]
    fn what_cannot_be_read_hides_what_is_left_of_it() {
        assert_eq!(
            client_of("X-Forwarded-For: 1.2.3.4, unknown, 10.0.0.9\r\n"),
            "10.0.0.9"
        );
        assert_eq!(client_of("X-Forwarded-For: garbage\r\n"), "10.0.0.1");
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_understood() {
        assert_eq!(client_of("X-Forwarded-For: 1.2.3.4:5678\r\n"), "1.2.3.4");
        assert_eq!(client_of("X-Forwarded-For: [2606::1]:443\r\n"), "2606::1");
        assert_eq!(client_of("X-Forwarded-For: [2606::1]\r\n"), "2606::1");
        assert_eq!(client_of("X-Forwarded-For: ::ffff:1.2.3.4\r\n"), "1.2.3.4");
    }

    #[test]
    fn forwarded_is_read_when_there_is_no_x_forwarded_for() {
        assert_eq!(
            client_of("Forwarded: for=6.6.6.6, for=1.2.3.4;proto=http, For=\"[2001:db8::1]:80\"\r\n"),
            "1.2.3.4"
        );
        assert_eq!(
            client_of("Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n"),
            "1.2.3.4"
        );
        assert_eq!(client_of("Forwarded: for=_hidden\r\n"), "10.0.0.1");
    }
}
