use super::*;
use proptest::prelude::*;

fn vector16(content: &[u8]) -> Vec<u8> {
    let mut out = (content.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(content);
    out
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut out = kind.to_be_bytes().to_vec();
    out.extend(vector16(content));
    out
}

fn sni(name: &[u8]) -> Vec<u8> {
    let mut entry = vec![0];
    entry.extend(vector16(name));
    extension(0, &vector16(&entry))
}

/// The handshake message with these extensions.
fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(vector16(&[0x13, 1]));
    body.extend([1, 0]);
    body.extend(vector16(&extensions.concat()));
    let length = body.len() as u32;
    let mut out = vec![1];
    out.extend(&length.to_be_bytes()[1..]);
    out.extend(body);
    out
}

/// In records of so many bytes each.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|part| {
            let mut record = vec![22, 3, 1];
            record.extend(vector16(part));
            record
        })
        .collect()
}

fn named(name: &[u8]) -> Greeting {
    read(&records(&message(&[sni(name)]), 16_000))
}

fn hello_of(greeting: Greeting) -> Hello {
    match greeting {
        Greeting::Hello(hello) => hello,
        other => panic!("{other:?}"),
    }
}

#[test]
fn name_and_protocols_are_read() {
    let alpn = extension(16, &vector16(b"\x02h2\x08http/1.1"));
    let bytes = records(&message(&[extension(99, b"?"), sni(b"A.Example."), alpn]), 16_000);
    let hello = hello_of(read(&bytes));
    assert_eq!(hello.server_name.as_deref(), Some("a.example"));
    assert_eq!(hello.protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
}

#[test]
fn a_hello_is_the_same_however_it_is_cut() {
    let message = message(&[sni(b"a.test")]);
    let whole = hello_of(read(&records(&message, 16_000)));
    for size in [1, 2, 3, 10, 50] {
        let bytes = records(&message, size);
        assert_eq!(hello_of(read(&bytes)), whole, "{size}");
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Greeting::Partial, "{size} {end}");
        }
    }
}

#[test]
fn a_literal_address_is_no_name() {
    assert_eq!(hello_of(named(b"127.0.0.1")).server_name, None);
}

#[test]
fn names_that_are_none_are_malformed() {
    for name in [&b""[..], b"a b", b"\xff", b"a\0.test", &[b'a'; 300]] {
        assert_eq!(named(name), Greeting::Refused(NoHello::Malformed), "{name:?}");
    }
}

#[test]
fn a_name_given_twice_is_malformed() {
    let bytes = records(&message(&[sni(b"a.test"), sni(b"b.test")]), 16_000);
    assert_eq!(read(&bytes), Greeting::Refused(NoHello::Malformed));
}

#[test]
fn plain_http_is_told_from_noise() {
    for text in ["GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM", "DELETE /"] {
        assert_eq!(
            read(text.as_bytes()),
            Greeting::Refused(NoHello::PlainHttp),
            "{text}"
        );
    }
    for noise in [
        &b"\0\0\0"[..],
        b"get /",
        b"SSH-2.0-x",
        b"\x80\x2e\x01\x03\x01",
        b"G /",
    ] {
        assert_eq!(read(noise), Greeting::Refused(NoHello::NotTls), "{noise:?}");
    }
    assert_eq!(read(b"GET"), Greeting::Partial);
    assert_eq!(read(b""), Greeting::Partial);
    assert_eq!(read(&[b'A'; 40]), Greeting::Refused(NoHello::NotTls));
}

#[test]
fn what_can_never_become_a_hello_is_refused_at_once() {
    assert_eq!(read(&[22, 9]), Greeting::Refused(NoHello::NotTls));
    assert_eq!(
        read(&[22, 3, 1, 0xff, 0xff]),
        Greeting::Refused(NoHello::TooLarge)
    );
    assert_eq!(read(&[22, 3, 1, 0, 0]), Greeting::Refused(NoHello::Malformed));
    assert_eq!(
        read(&[22, 3, 1, 0, 9, 2]),
        Greeting::Refused(NoHello::Malformed),
        "another message"
    );
    assert_eq!(
        read(&[22, 3, 1, 0, 9, 1, 0, 0xff, 0]),
        Greeting::Refused(NoHello::TooLarge)
    );
    // A hello announced as the largest there is, in records of one byte each.
    let mut endless = records(&[1, 0, 0x40, 0], 1);
    endless.extend(records(&[0; MAX_HELLO], 1));
    assert_eq!(
        read(&endless[..MAX_RECORDS + 1]),
        Greeting::Refused(NoHello::TooLarge)
    );
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _any = read(&bytes);
        let mut tls = vec![22, 3, 1];
        tls.extend(&bytes);
        let _any = read(&tls);
    }

    #[test]
    fn a_damaged_hello_is_refused_or_read(at in 0usize..80, to in any::<u8>()) {
        let mut bytes = records(&message(&[sni(b"a.test")]), 16_000);
        let at = at % bytes.len();
        bytes[at] = to;
        let _any = read(&bytes);
    }
}
