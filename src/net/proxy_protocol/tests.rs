use super::*;
use proptest::prelude::*;

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

/// A version 2 header with this payload.
fn v2(version_command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [V2, &[version_command, family], &length, payload].concat()
}

/// A version 2 header for TCP over IPv4 with these values behind the addresses.
fn with_tlvs(tlvs: &[u8]) -> Vec<u8> {
    v2(
        0x21,
        0x11,
        &[&[192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 0x01, 0xbb][..], tlvs].concat(),
    )
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], value].concat()
}

/// The same with the checksum filled in, where a CRC32C with zeros is.
fn summed(mut header: Vec<u8>, at: usize) -> Vec<u8> {
    let sum = crc32c::without(&header, 0..0);
    header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    header
}

#[track_caller]
fn complete(bytes: &[u8]) -> Header {
    match parse(bytes) {
        Parsed::Complete(header, length) => {
            assert_eq!(length, bytes.len());
            header
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn fault(bytes: &[u8]) -> HeaderFault {
    match parse(bytes) {
        Parsed::Refused(violation) => violation.kind,
        other => panic!("{other:?}: {}", bytes.escape_ascii()),
    }
}

#[test]
fn the_lines_of_version_1_are_read() {
    let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
    let header = complete(line);
    assert_eq!(header.version, Version::V1);
    assert_eq!(
        header.addresses(),
        Some(&addresses("192.0.2.1:56324", "192.0.2.2:443"))
    );
    let header = complete(b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 0 65535\r\n");
    assert_eq!(
        header.addresses(),
        Some(&addresses("[2001:db8::1]:0", "[::ffff:192.0.2.2]:65535"))
    );
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 whatever 1 2 3\r\n"] {
        assert_eq!(complete(line.as_bytes()).origin, Origin::Unknown);
    }
}

#[test]
fn the_longest_line_has_107_bytes() {
    let full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let longest = format!("PROXY UNKNOWN {full} {full} 65535 65535\r\n");
    assert_eq!(longest.len(), v1::MAX_LINE);
    assert_eq!(complete(longest.as_bytes()).origin, Origin::Unknown);
    let longer = format!("PROXY UNKNOWN  {full} {full} 65535 65535\r\n");
    assert_eq!(fault(longer.as_bytes()), HeaderFault::TooLarge);
    assert_eq!(fault(&longer.as_bytes()[..107]), HeaderFault::TooLarge);
    assert_eq!(parse(&longer.as_bytes()[..106]), Parsed::Partial);
}

#[test]
fn lines_that_break_a_rule_are_refused() {
    for line in [
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 \r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 56324 443\r\n",
        "PROXY  TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
        "PROXY TCP4\t192.0.2.1 192.0.2.2 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324 65536\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324 +443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324 -1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 056324 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324 00\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324 \r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 56324 443\r\n",
        "PROXY TCP4 192.0.2.256 192.0.2.2 56324 443\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 56324 443\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 56324 443\r\n",
        "PROXY TCP6 [2001:db8::1] 2001:db8::2 56324 443\r\n",
        "PROXY TCP6 fe80::1%eth0 2001:db8::2 56324 443\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 56324 443\r\n",
        "PROXY tcp4 192.0.2.1 192.0.2.2 56324 443\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
        // A bare line feed ends nothing.
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\nGET / HTTP/1.1\r\n",
        "PROXY TCP4 192.0.2.1\0 192.0.2.2 56324 443\r\n",
    ] {
        assert_eq!(fault(line.as_bytes()), HeaderFault::Malformed, "{line:?}");
    }
}

#[test]
fn what_is_no_header_is_known_by_its_first_byte_that_differs() {
    for text in [
        "GET / HTTP/1.1\r\n",
        "P ",
        "PROXX",
        "PROXY\t",
        "\u{16}\u{3}\u{1}",
        "\r\n\r\n\0\r\nQUIT\r\n",
        "\n",
    ] {
        assert_eq!(fault(text.as_bytes()), HeaderFault::Missing, "{text:?}");
    }
    assert_eq!(parse(b""), Parsed::Partial);
}

#[test]
fn the_headers_of_version_2_are_read() {
    let header = complete(&with_tlvs(b""));
    assert_eq!(header.version, Version::V2);
    assert_eq!(
        header.addresses(),
        Some(&addresses("192.0.2.1:56324", "192.0.2.2:443"))
    );
    let mut v6 = vec![0x20, 0x01, 0x0d, 0xb8];
    v6.resize(15, 0);
    let payload = [&v6[..], &[1], &v6, &[2], &[0, 80, 1, 187]].concat();
    let header = complete(&v2(0x21, 0x21, &payload));
    assert_eq!(
        header.addresses(),
        Some(&addresses("[2001:db8::1]:80", "[2001:db8::2]:443"))
    );
    let mut paths = b"/run/app.sock".to_vec();
    paths.resize(216, 0);
    assert_eq!(
        complete(&v2(0x21, 0x31, &paths)).origin,
        Origin::Unix(b"/run/app.sock"[..].into())
    );
}

#[test]
fn local_unknown_and_datagram_connections_tell_no_address() {
    // Whatever a LOCAL header carries is left alone.
    for header in [
        v2(0x20, 0x00, b""),
        v2(0x20, 0x11, b"\xff\xff\xff"),
        v2(0x20, 0xff, &[7; 300]),
    ] {
        assert_eq!(complete(&header).origin, Origin::Local);
    }
    for family in [0x00, 0x01, 0x02, 0x10, 0x12, 0x22, 0x32] {
        let header = complete(&v2(0x21, family, &[9; 20]));
        assert_eq!(
            (header.origin, header.tlvs.len()),
            (Origin::Unknown, 0),
            "{family:#x}"
        );
    }
}

#[test]
fn version_2_headers_that_break_a_rule_are_refused() {
    for header in [
        v2(0x11, 0x11, &[0; 12]),
        v2(0x31, 0x11, &[0; 12]),
        v2(0x22, 0x11, &[0; 12]),
        v2(0x2f, 0x11, &[0; 12]),
        v2(0x21, 0x11, &[0; 11]),
        v2(0x21, 0x21, &[0; 35]),
        v2(0x21, 0x31, &[0; 215]),
        v2(0x21, 0x13, &[0; 216]),
        v2(0x21, 0x41, &[0; 216]),
        with_tlvs(&[0x01]),
        with_tlvs(&[0x01, 0x00]),
        with_tlvs(&[0x01, 0x00, 0x02, b'h']),
        with_tlvs(&[&tlv(0x04, b"\0\0"), &[0x01, 0xff, 0xff, 0x00][..]].concat()),
        // Within SSL: too short, and a value that goes beyond it.
        with_tlvs(&tlv(0x20, &[1, 0, 0, 0])),
        with_tlvs(&tlv(0x20, &[1, 0, 0, 0, 0, 0x21, 0, 9, b'T'])),
        with_tlvs(&tlv(0x03, &[1, 2, 3])),
    ] {
        assert_eq!(
            fault(&header),
            HeaderFault::Malformed,
            "{}",
            header.escape_ascii()
        );
    }
    let longest = with_tlvs(&tlv(0xee, &vec![0; MAX_HEADER - 16 - 12 - 3]));
    assert_eq!(
        (longest.len(), complete(&longest).version),
        (MAX_HEADER, Version::V2)
    );
    // Known by its length alone, before the rest has come.
    let longer = with_tlvs(&tlv(0xee, &vec![0; MAX_HEADER - 16 - 12 - 2]));
    assert_eq!(fault(&longer[..16]), HeaderFault::TooLarge);
}

#[test]
fn a_checksum_is_held_to_where_there_is_one() {
    let header = summed(
        with_tlvs(&[tlv(0x01, b"h2"), tlv(0x03, &[0; 4])].concat()),
        16 + 12 + 5 + 3,
    );
    assert_eq!(complete(&header).tlv(Tlv::ALPN), Some(&b"h2"[..]));
    // All but the type, without which there is none.
    let kind = 16 + 12 + 5;
    for at in (16..header.len()).filter(|at| *at != kind) {
        let mut broken = header.clone();
        broken[at] ^= 0x40;
        assert!(matches!(parse(&broken), Parsed::Refused(_)), "{at}");
    }
    let mut broken = header;
    broken[16] ^= 1;
    assert_eq!(fault(&broken), HeaderFault::Checksum);
    // A second one cannot be filled in: each would have to hold the other as zeros.
    let twice = with_tlvs(&[tlv(0x03, &[0; 4]), tlv(0x03, &[0; 4])].concat());
    assert!(matches!(
        fault(&summed(twice, 16 + 12 + 3)),
        HeaderFault::Malformed | HeaderFault::Checksum
    ));
}

#[test]
fn values_are_found_by_their_kind() {
    let ssl = [
        &[0x07, 0, 0, 0, 0][..],
        &tlv(0x21, b"TLSv1.3"),
        &tlv(0x22, b"ann"),
        &tlv(0x23, b"AES"),
    ]
    .concat();
    let header = complete(&with_tlvs(
        &[
            tlv(0x04, &[0; 7]),
            tlv(0x02, b"example.com"),
            tlv(0x02, b"other.test"),
            tlv(0x05, b"id-1"),
            tlv(0x20, &ssl),
            tlv(0xe0, b""),
        ]
        .concat(),
    ));
    assert_eq!(header.tlv(Tlv::AUTHORITY), Some(&b"example.com"[..]));
    assert_eq!(header.tlv(Tlv::UNIQUE_ID), Some(&b"id-1"[..]));
    assert_eq!((header.tlv(Tlv::ALPN), header.tlv(0xe0)), (None, Some(&b""[..])));
    let tls = header.tls().unwrap();
    assert_eq!(
        (tls.version(), tls.common_name()),
        (Some(&b"TLSv1.3"[..]), Some(&b"ann"[..]))
    );
    assert_eq!((tls.cipher(), tls.is_verified()), (Some(&b"AES"[..]), true));
    for (client, verify, verified) in [(0x01, 0, false), (0x03, 1, false), (0x05, 0, true)] {
        let header = complete(&with_tlvs(&tlv(0x20, &[client, 0, 0, 0, verify])));
        assert_eq!(header.tls().unwrap().is_verified(), verified);
    }
    let plain = complete(&with_tlvs(&tlv(0x20, &[0, 0, 0, 0, 1])));
    assert_eq!(plain.tls(), None);
}

#[test]
fn what_we_write_is_what_the_protocol_says() {
    let written = |version, client: Option<&Addresses>| {
        let mut out = Vec::new();
        write(version, client, &mut out);
        out
    };
    let v4 = addresses("192.0.2.1:56324", "192.0.2.2:443");
    assert_eq!(
        written(Version::V1, Some(&v4)),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"
    );
    assert_eq!(written(Version::V2, Some(&v4)), with_tlvs(b""));
    assert_eq!(written(Version::V1, None), b"PROXY UNKNOWN\r\n");
    assert_eq!(written(Version::V2, None), v2(0x21, 0x00, b""));
    let mut local = Vec::new();
    write_local(Version::V2, &mut local);
    assert_eq!(local, v2(0x20, 0x00, b""));
    let mut local = Vec::new();
    write_local(Version::V1, &mut local);
    assert_eq!(local, b"PROXY UNKNOWN\r\n");
}

#[test]
fn addresses_of_two_families_are_told_in_one() {
    let mixed = addresses("192.0.2.1:1", "[2001:db8::2]:2");
    let mapped = addresses("[::ffff:192.0.2.1]:1", "[2001:db8::2]:2");
    let both_mapped = addresses("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2");
    for version in [Version::V1, Version::V2] {
        for (client, told) in [
            (mixed, mapped),
            (both_mapped, addresses("192.0.2.1:1", "192.0.2.2:2")),
        ] {
            let mut out = Vec::new();
            write(version, Some(&client), &mut out);
            assert_eq!(complete(&out).addresses(), Some(&told));
        }
    }
}

fn any_addresses() -> impl Strategy<Value = Addresses> {
    let v4 = any::<([u8; 4], u16)>().prop_map(|(ip, port)| SocketAddr::from((ip, port)));
    let v6 = any::<([u8; 16], u16)>()
        .prop_map(|(ip, port)| SocketAddr::new(IpAddr::from(ip).to_canonical(), port));
    prop_oneof![(v4.clone(), v4), (v6.clone(), v6)]
        .prop_map(|(source, destination)| Addresses { source, destination })
}

/// Bytes that are nearly a header.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let line = "PROXY (TCP4|TCP6|UNKNOWN|)[ 0-9a-f:.\r\n]{0,120}(\r\n)?";
    let any_v2 = (
        0x20_u8..0x23,
        any::<u8>(),
        prop::collection::vec(any::<u8>(), 0..300),
        any::<u16>(),
        any::<bool>(),
    );
    let any_v2 = any_v2.prop_map(|(command, family, payload, length, honest)| {
        let mut header = v2(command, family, &payload);
        if !honest {
            header[14..16].copy_from_slice(&length.to_be_bytes());
        }
        header
    });
    prop_oneof![
        line.prop_map(String::into_bytes),
        any_v2,
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|tlvs| with_tlvs(&tlvs)),
        prop::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(client in any_addresses(), v1 in any::<bool>(), behind in ".{0,20}") {
        let mut bytes = Vec::new();
        write(if v1 { Version::V1 } else { Version::V2 }, Some(&client), &mut bytes);
        let length = bytes.len();
        bytes.extend_from_slice(behind.as_bytes());
        let Parsed::Complete(header, read) = parse(&bytes) else { panic!("{}", bytes.escape_ascii()) };
        prop_assert_eq!(read, length);
        prop_assert_eq!(header.addresses(), Some(&client.in_one_family()));
        // Wherever it is split, what is there is known to be its beginning.
        for split in 0..length {
            prop_assert_eq!(parse(&bytes[..split]), Parsed::Partial);
        }
    }

    #[test]
    fn a_verdict_does_not_change_with_what_follows(bytes in nearly(), behind in prop::collection::vec(any::<u8>(), 0..60)) {
        let longer = [&bytes[..], &behind].concat();
        match parse(&bytes) {
            Parsed::Partial => prop_assert!(bytes.len() < MAX_HEADER),
            Parsed::Complete(header, length) => {
                prop_assert!(length <= bytes.len().min(MAX_HEADER));
                prop_assert!(header.tlvs.len() < length);
                let _values = (header.tls().map(|tls| tls.version().is_some()), header.tlv(0x02).is_some());
                prop_assert_eq!(parse(&longer), Parsed::Complete(header, length));
            }
            refused @ Parsed::Refused(_) => prop_assert_eq!(parse(&longer), refused),
        }
    }
}
