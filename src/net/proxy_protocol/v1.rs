//! Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n`.

use super::{Addresses, Header, HeaderFault, Origin, Parsed, Version, Violation};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What every line begins with.
pub(super) const SIGNATURE: &[u8] = b"PROXY ";
/// Longest line, its end included: two IPv6 addresses in full, and two ports of five digits.
pub(super) const MAX_LINE: usize = 107;

pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let line = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = memchr::memmem::find(line, b"\r\n") else {
        if line.len() < MAX_LINE {
            return Parsed::Partial;
        }
        let rule = "a version 1 header has at most 107 bytes";
        return Parsed::Refused(Violation::new(HeaderFault::TooLarge, rule));
    };
    match origin(&line[SIGNATURE.len()..end]) {
        Ok(origin) => {
            let header = Header {
                version: Version::V1,
                origin,
                tlvs: Box::default(),
            };
            Parsed::Complete(header, end + 2)
        }
        Err(rule) => Parsed::Refused(Violation::malformed(rule)),
    }
}

/// What stands between the signature and the end of the line.
fn origin(line: &[u8]) -> Result<Origin, &'static str> {
    let mut words = line.split(|byte| *byte == b' ');
    let family = words.next().unwrap_or_default();
    if family == b"UNKNOWN" {
        // Whatever follows is to be ignored.
        return Ok(Origin::Unknown);
    }
    let mut next = || words.next().and_then(|word| std::str::from_utf8(word).ok());
    let (source, destination) = (next(), next());
    let (source_port, destination_port) = (next(), next());
    if words.next().is_some() {
        return Err(
            "a version 1 header has two addresses and two ports, each after one space, and nothing else",
        );
    }
    let (source, destination) = match family {
        b"TCP4" => {
            addresses::<Ipv4Addr>(source, destination).ok_or("TCP4 is followed by two IPv4 addresses")?
        }
        b"TCP6" => {
            addresses::<Ipv6Addr>(source, destination).ok_or("TCP6 is followed by two IPv6 addresses")?
        }
        _ => return Err("the protocol of a version 1 header is TCP4, TCP6 or UNKNOWN"),
    };
    let ports = port(source_port).zip(port(destination_port));
    let (source_port, destination_port) =
        ports.ok_or("a port is a number from 0 to 65535 without leading zeros")?;
    Ok(Origin::Inet(Addresses {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    }))
}

fn addresses<T: std::str::FromStr + Into<IpAddr>>(
    source: Option<&str>,
    destination: Option<&str>,
) -> Option<(IpAddr, IpAddr)> {
    let read = |text: Option<&str>| text?.parse::<T>().ok().map(Into::into);
    read(source).zip(read(destination))
}

fn port(text: Option<&str>) -> Option<u16> {
    let text = text?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    plain.then(|| text.parse().ok())?
}

pub(super) fn write(client: Option<&Addresses>, out: &mut Vec<u8>) {
    let Some(Addresses { source, destination }) = client else {
        return out.extend_from_slice(b"PROXY UNKNOWN\r\n");
    };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let _infallible = write!(
        out,
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    );
}
