//! Version 2: a signature, four bytes that say what follows, two addresses, and more as type, length and value.

use super::tlv::{self, Tlv};
use super::{Addresses, Header, HeaderFault, MAX_HEADER, Origin, Parsed, Version, Violation, crc32c};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What every header begins with; no line of text can.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length of the rest.
const FIXED: usize = 16;

const VERSION: u8 = 0x20;
const LOCAL: u8 = 0;
const PROXY: u8 = 1;

const UNSPEC: u8 = 0x00;
const INET_STREAM: u8 = 0x11;
const INET6_STREAM: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;

/// Bytes of the path of a unix socket.
const UNIX_PATH: usize = 108;

pub(super) fn parse(bytes: &[u8]) -> Parsed {
    match read(bytes) {
        Ok(Some((header, length))) => Parsed::Complete(header, length),
        Ok(None) => Parsed::Partial,
        Err(violation) => Parsed::Refused(violation),
    }
}

fn read(bytes: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
    let malformed = |rule| Err(Violation::malformed(rule));
    let version_command = bytes.get(SIGNATURE.len()).copied();
    if version_command.is_some_and(|byte| byte & 0xf0 != VERSION) {
        return malformed("the version behind the signature is 2");
    }
    if version_command.is_some_and(|byte| byte & 0x0f > PROXY) {
        return malformed("the command is LOCAL or PROXY");
    }
    let Some(fixed) = bytes.first_chunk::<FIXED>() else {
        return Ok(None);
    };
    let [.., version_command, family, high, low] = *fixed;
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_HEADER {
        return Err(Violation::new(
            HeaderFault::TooLarge,
            "a version 2 header has at most 4096 bytes here",
        ));
    }
    let Some(whole) = bytes.get(..length) else {
        return Ok(None);
    };
    let (origin, rest) = if version_command & 0x0f == LOCAL {
        // Nothing in it counts.
        (Origin::Local, &[][..])
    } else {
        origin(family, &whole[FIXED..]).map_err(Violation::malformed)?
    };
    check_tlvs(whole, rest)?;
    let header = Header {
        version: Version::V2,
        origin,
        tlvs: rest.into(),
    };
    Ok(Some((header, length)))
}

/// The addresses at the beginning of what follows the fixed part, and what stands behind them.
fn origin(family: u8, payload: &[u8]) -> Result<(Origin, &[u8]), &'static str> {
    const SHORT: &str = "the length covers the addresses of the family";
    match family {
        INET_STREAM => {
            let (addresses, rest) = payload.split_first_chunk::<12>().ok_or(SHORT)?;
            Ok((Origin::Inet(inet(addresses)), rest))
        }
        INET6_STREAM => {
            let (addresses, rest) = payload.split_first_chunk::<36>().ok_or(SHORT)?;
            Ok((Origin::Inet(inet6(addresses)), rest))
        }
        UNIX_STREAM => {
            let (paths, rest) = payload.split_at_checked(2 * UNIX_PATH).ok_or(SHORT)?;
            let source = &paths[..UNIX_PATH];
            let end = source
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1);
            Ok((Origin::Unix(source[..end].into()), rest))
        }
        // Of datagrams, or of no family: it says nothing of a connection.
        _ if family >> 4 <= 3 && family & 0x0f <= 2 => Ok((Origin::Unknown, &[])),
        _ => Err("the family is UNSPEC, INET, INET6 or UNIX, the transport UNSPEC, STREAM or DGRAM"),
    }
}

fn inet(block: &[u8; 12]) -> Addresses {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *block;
    Addresses {
        source: SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([i, j])),
        destination: SocketAddr::new(Ipv4Addr::new(e, f, g, h).into(), u16::from_be_bytes([k, l])),
    }
}

fn inet6(block: &[u8; 36]) -> Addresses {
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&block[at..at + 16]);
        IpAddr::from(Ipv6Addr::from(octets))
    };
    let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    Addresses {
        source: SocketAddr::new(address(0), port(32)),
        destination: SocketAddr::new(address(16), port(34)),
    }
}

/// Holds what stands behind the addresses, which is the end of `whole`, to its lengths and its checksum.
fn check_tlvs(whole: &[u8], tlvs: &[u8]) -> Result<(), Violation> {
    let mut checked = false;
    for found in tlv::each(tlvs) {
        let (kind, value) = found.map_err(Violation::malformed)?;
        match kind {
            Tlv::CRC32C => {
                let sum: [u8; 4] = value
                    .try_into()
                    .map_err(|_| Violation::malformed("the value of a CRC32C has four bytes"))?;
                if std::mem::replace(&mut checked, true) {
                    return Err(Violation::malformed("there is one CRC32C at most"));
                }
                let at = value.as_ptr() as usize - whole.as_ptr() as usize;
                if crc32c::without(whole, at..at + 4) != u32::from_be_bytes(sum) {
                    let rule = "the CRC32C is that of the header";
                    return Err(Violation::new(HeaderFault::Checksum, rule));
                }
            }
            Tlv::SSL if tlv::Tls::read(value).is_none() => {
                return Err(Violation::malformed("the values within SSL end where it ends"));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn write(client: Option<&Addresses>, out: &mut Vec<u8>) {
    let Some(Addresses { source, destination }) = client else {
        return head(PROXY, UNSPEC, 0, out);
    };
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            head(PROXY, INET_STREAM, 12, out);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
        (source, destination) => {
            head(PROXY, INET6_STREAM, 36, out);
            for address in [source, destination] {
                let v6 = match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                out.extend_from_slice(&v6.octets());
            }
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

pub(super) fn write_local(out: &mut Vec<u8>) {
    head(LOCAL, UNSPEC, 0, out);
}

fn head(command: u8, family: u8, length: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[VERSION | command, family]);
    out.extend_from_slice(&length.to_be_bytes());
}
