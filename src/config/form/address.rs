//! Addresses: what to listen on, where endpoints are, networks, host names.

use super::Complaint;
use crate::config::model::{EndpointAddress, HostHeader, HostPattern, ListenAddress};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Bytes of a unix socket's path that the kernel takes, without the closing zero.
const MAX_SOCKET_PATH: usize = 107;
const DNS_PORT: u16 = 53;

/// Reads `0.0.0.0:80`, `[::]:80`, `unix:/run/x.sock`.
pub fn listen(text: &str, base: &Path) -> Result<ListenAddress, Complaint> {
    if let Some(path) = text.strip_prefix("unix:") {
        return socket_path(path, base).map(ListenAddress::Unix);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(ListenAddress::Tcp(address));
    }
    let host = text.rsplit_once(':').map_or("", |(host, _)| host);
    let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok());
    Err(match (host, port) {
        ("" | "*", Some(port)) => Complaint::new("the IP address is missing").hint(format!(
            "\"0.0.0.0:{port}\" is every IPv4 address, \"[::]:{port}\" every IPv6 address"
        )),
        ("localhost", Some(port)) => {
            Complaint::new("names are not resolved here").instead(&format!("127.0.0.1:{port}"))
        }
        _ if text.parse::<IpAddr>().is_ok() => {
            Complaint::new("the port is missing").instead(&with_port(text, 8080))
        }
        (ip, None) if ip.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => {
            Complaint::new("the port is no number from 0 to 65535")
        }
        _ => Complaint::new("it is not an IP address with a port"),
    })
}

/// Reads `host:port`, `ip:port`, `[v6]:port`, `unix:/path`.
pub fn endpoint(text: &str, base: &Path) -> Result<EndpointAddress, Complaint> {
    if let Some(path) = text.strip_prefix("unix:") {
        return socket_path(path, base).map(EndpointAddress::Unix);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(
            Complaint::new(format!("an address has no scheme, `{scheme}://` is one"))
                .instead(rest.split('/').next().unwrap_or(rest)),
        );
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 {
            Err(Complaint::new("port 0 is no place to connect to"))
        } else {
            Ok(EndpointAddress::Ip(address))
        };
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(Complaint::new("the port is missing").instead(&with_port(text, 80)));
    }
    if text.parse::<u16>().is_ok() {
        return Err(Complaint::new("the host is missing").instead(&format!("127.0.0.1:{text}")));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(Complaint::new("the port is missing").instead(&format!("{text}:80")));
    };
    let port = match port.parse::<u16>() {
        Ok(0) => return Err(Complaint::new("port 0 is no place to connect to")),
        Ok(port) => port,
        Err(_) => return Err(Complaint::new("the port is no number from 1 to 65535")),
    };
    host_name(host)?;
    // The dot at the end stays: it keeps the resolver from trying the name in other domains.
    Ok(EndpointAddress::Name {
        host: host.to_ascii_lowercase(),
        port,
    })
}

fn with_port(ip: &str, port: u16) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

fn socket_path(path: &str, base: &Path) -> Result<PathBuf, Complaint> {
    if path.is_empty() {
        return Err(Complaint::new("the path is missing"));
    }
    if path.contains('\0') {
        return Err(Complaint::new("the path contains a zero byte"));
    }
    let path = base.join(path);
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(Complaint::new(format!(
            "{} is longer than the {MAX_SOCKET_PATH} bytes of a socket's path",
            path.display()
        )));
    }
    Ok(path)
}

/// Reads `host:port`, where the host is a name.
pub fn host_port(text: &str) -> Result<EndpointAddress, Complaint> {
    match endpoint(text, Path::new(""))? {
        name @ EndpointAddress::Name { .. } => Ok(name),
        EndpointAddress::Ip(_) | EndpointAddress::Unix(_) => {
            Err(Complaint::new("there is nothing to look up").hint("write it into `endpoints`"))
        }
    }
}

/// Reads the name of SRV records; the dot at its end stays, as in [`endpoint`].
pub fn service_name(text: &str) -> Result<String, Complaint> {
    if let Some((name, port)) = text.rsplit_once(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(Complaint::new("the records tell the port").instead(name));
    }
    host_name(text)?;
    Ok(text.to_ascii_lowercase())
}

/// Reads `10.0.0.2`, `10.0.0.2:5353`, `fd00::2`, `[fd00::2]:53`. The port is 53 unless given.
pub fn name_server(text: &str) -> Result<SocketAddr, Complaint> {
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, DNS_PORT));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(Complaint::new("port 0 is no place to ask")),
        Ok(address) => Ok(address),
        Err(_) => Err(Complaint::new("it is not an IP address, with or without a port")),
    }
}

/// Reads `10.0.0.0/8`, `::1`.
pub fn cidr(text: &str) -> Result<IpNet, Complaint> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip));
    }
    let net: IpNet = text
        .parse()
        .map_err(|_| Complaint::new("it is not an IP address or network"))?;
    if net.trunc() == net {
        return Ok(net);
    }
    Err(Complaint::new("the address has bits beyond its prefix length").instead(&net.trunc().to_string()))
}

/// Reads `example.com`, `*.example.com`, `~^regex$`.
pub fn host_pattern(text: &str) -> Result<HostPattern, Complaint> {
    if let Some(regex) = text.strip_prefix('~') {
        return super::pattern::regex(regex).map(HostPattern::Regex);
    }
    if text == "*" || text == "_" {
        return Err(Complaint::new("it stands for every host").hint("leave `hosts` out"));
    }
    if let Some(domain) = text.strip_prefix("*.") {
        return host_name(domain).map(HostPattern::Wildcard);
    }
    if let Some(domain) = text.strip_prefix('.') {
        return Err(Complaint::new("it begins with a dot").hint(format!(
            "\"*.{domain}\" for its subdomains, \"{domain}\" for itself"
        )));
    }
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(ip) = bracketed {
        return match ip.parse::<std::net::Ipv6Addr>() {
            Ok(ip) => Ok(HostPattern::Exact(format!("[{ip}]"))),
            Err(_) => Err(Complaint::new("it is not an IPv6 address")),
        };
    }
    if let Some((name, port)) = text.rsplit_once(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(Complaint::new("hosts are matched without their port").instead(name));
    }
    host_name(text).map(HostPattern::Exact)
}

/// Reads `preserve`, `endpoint`, or a name with or without a port.
pub fn host_header(text: &str) -> Result<HostHeader, Complaint> {
    match text {
        "preserve" => return Ok(HostHeader::Preserve),
        "endpoint" => return Ok(HostHeader::Endpoint),
        _ => {}
    }
    authority(text)?;
    Ok(HostHeader::Name(text.to_owned()))
}

/// Checks the origin of a page (RFC 6454 section 6), with `*.` for any name below another, and gives it in lower case.
pub fn origin(text: &str) -> Result<String, Complaint> {
    let lower = text.to_ascii_lowercase();
    if lower == "null" {
        return Ok(lower);
    }
    let host = lower.split_once("://").and_then(|(scheme, host)| {
        let scheme_fits = !scheme.is_empty()
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        scheme_fits.then_some(host)
    });
    let Some(host) = host else {
        return Err(Complaint::new("it has no scheme").hint("write https:// or http:// before the host"));
    };
    authority(host.strip_prefix("*.").unwrap_or(host))?;
    Ok(lower)
}

/// Checks a name, or an IPv6 address in brackets, with or without a port.
pub fn authority(text: &str) -> Result<(), Complaint> {
    let name = match text.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        Some(_) | None => text,
    };
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(ip) if ip.parse::<std::net::Ipv6Addr>().is_ok() => {}
        Some(_) | None => drop(host_name(name)?),
    }
    Ok(())
}

/// Reads the Domain of a cookie. A dot in front, as old browsers wanted it, means nothing (RFC 6265 section 5.2.3).
pub fn cookie_domain(text: &str) -> Result<String, Complaint> {
    host_name(text.strip_prefix('.').unwrap_or(text))
}

/// Checks a host name (RFC 1123, underscores allowed as names in use have them) and gives it in lower case,
/// without the dot at its end.
fn host_name(text: &str) -> Result<String, Complaint> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err(Complaint::new("the host is missing"));
    }
    if !name.is_ascii() {
        return Err(Complaint::new("it is not ASCII").hint("write its xn-- form"));
    }
    if name.len() > 253 {
        return Err(Complaint::new("a host name has at most 253 characters"));
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err(Complaint::new("a label of a host name has 1 to 63 characters"));
        }
        if let Some(c) = label
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'))
        {
            return Err(Complaint::new(format!("{c:?} is no character of a host name")));
        }
    }
    Ok(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> &'static Path {
        Path::new("/etc/tidegate")
    }

    #[test]
    fn listeners_take_ip_addresses_and_sockets() {
        for text in ["0.0.0.0:80", "[::]:80", "127.0.0.1:0"] {
            assert!(
                matches!(listen(text, base()), Ok(ListenAddress::Tcp(_))),
                "{text}"
            );
        }
        assert_eq!(
            listen("unix:/run/x.sock", base()),
            Ok(ListenAddress::Unix("/run/x.sock".into()))
        );
        assert_eq!(
            listen("unix:x.sock", base()),
            Ok(ListenAddress::Unix("/etc/tidegate/x.sock".into()))
        );
        for text in [
            "",
            ":80",
            "80",
            "localhost:80",
            "10.0.0.1",
            "::1",
            "1.2.3.4:99999",
            "unix:",
            "unix:a\0b",
        ] {
            assert!(listen(text, base()).is_err(), "{text}");
        }
        assert!(listen(&format!("unix:/{}", "a".repeat(107)), base()).is_err());
        let hint = |text| listen(text, base()).unwrap_err().hint.unwrap();
        assert!(hint(":8080").contains("0.0.0.0:8080"));
        assert!(hint("localhost:8080").contains("127.0.0.1:8080"));
        assert!(hint("::1").contains("[::1]:8080"));
    }

    #[test]
    fn endpoints_take_names_too() {
        assert!(matches!(
            endpoint("10.0.0.1:3000", base()),
            Ok(EndpointAddress::Ip(_))
        ));
        assert!(matches!(
            endpoint("[::1]:3000", base()),
            Ok(EndpointAddress::Ip(_))
        ));
        let name = EndpointAddress::Name {
            host: "app_1.internal".into(),
            port: 80,
        };
        assert_eq!(endpoint("app_1.internal:80", base()), Ok(name));
        for text in [
            "",
            "app",
            "app:0",
            "app:x",
            "1.2.3.4:0",
            "10.0.0.1",
            "http://app:80",
            "a b:80",
            ":80",
            "::1",
        ] {
            assert!(endpoint(text, base()).is_err(), "{text}");
        }
        assert_eq!(
            endpoint("http://app:80/x", base()).unwrap_err().hint.as_deref(),
            Some("write \"app:80\"")
        );
    }

    #[test]
    fn names_to_look_up_are_names() {
        let name = EndpointAddress::Name {
            host: "api.internal.".into(),
            port: 80,
        };
        assert_eq!(host_port("API.internal.:80"), Ok(name));
        for text in ["10.0.0.1:80", "[::1]:80", "unix:/x", "api", "api:0"] {
            assert!(host_port(text).is_err(), "{text}");
        }
        assert_eq!(service_name("_HTTP._tcp.api"), Ok("_http._tcp.api".into()));
        assert_eq!(
            service_name("_http._tcp.api:80").unwrap_err().hint.as_deref(),
            Some("write \"_http._tcp.api\"")
        );
        assert!(service_name("").is_err() && service_name("a b").is_err());
    }

    #[test]
    fn name_servers_are_addresses_on_port_53_unless_told() {
        for (text, address) in [
            ("10.0.0.2", "10.0.0.2:53"),
            ("10.0.0.2:5353", "10.0.0.2:5353"),
            ("fd00::2", "[fd00::2]:53"),
            ("[fd00::2]", "[fd00::2]:53"),
            ("[fd00::2]:54", "[fd00::2]:54"),
        ] {
            assert_eq!(name_server(text).unwrap().to_string(), address);
        }
        for text in ["", "dns.internal", "10.0.0.2:0", "10.0.0.2:x", "10.0.0"] {
            assert!(name_server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_have_no_bits_beyond_their_prefix() {
        assert_eq!(cidr("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        assert!(cidr("10.0.0.0/8").is_ok() && cidr("fd00::/8").is_ok());
        assert_eq!(
            cidr("10.1.2.3/8").unwrap_err().hint.as_deref(),
            Some("write \"10.0.0.0/8\"")
        );
        assert!(cidr("10.0.0.0/33").is_err() && cidr("ten").is_err());
    }

    #[test]
    fn hosts_are_exact_wildcard_or_regex() {
        assert_eq!(
            host_pattern("Example.COM."),
            Ok(HostPattern::Exact("example.com".into()))
        );
        assert_eq!(
            host_pattern("*.example.com"),
            Ok(HostPattern::Wildcard("example.com".into()))
        );
        assert_eq!(
            host_pattern("~^a[0-9]$"),
            Ok(HostPattern::Regex("^a[0-9]$".into()))
        );
        assert_eq!(host_pattern("[::1]"), Ok(HostPattern::Exact("[::1]".into())));
        for text in [
            "", "*", "_", ".a.com", "a.*.com", "a.com:80", "ä.com", "a..b", "a b", "~(", "[x]",
        ] {
            assert!(host_pattern(text).is_err(), "{text}");
        }
        assert!(host_pattern(&"a.".repeat(127)).is_ok() && host_pattern(&"a.".repeat(128)).is_err());
    }

    #[test]
    fn the_host_header_is_kept_replaced_or_the_endpoints() {
        assert_eq!(host_header("preserve"), Ok(HostHeader::Preserve));
        assert_eq!(host_header("endpoint"), Ok(HostHeader::Endpoint));
        for text in ["app.internal", "app.internal:8080", "[::1]:80", "10.0.0.1"] {
            assert_eq!(host_header(text), Ok(HostHeader::Name(text.into())));
        }
        for text in ["", "a b", "a:b", "http://x", "x\r\ny"] {
            assert!(host_header(text).is_err(), "{text}");
        }
    }
}
