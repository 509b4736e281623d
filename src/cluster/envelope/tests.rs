use super::*;
use proptest::prelude::*;

fn sample(payload: &[u8]) -> Envelope<'_> {
    Envelope {
        source: "gw-1".into(),
        incarnation: 7,
        seq: 42,
        kind: "health.down".into(),
        payload,
    }
}

/// An envelope with this header, well made otherwise.
fn with_header(header: &ciborium::Value, major: u8) -> Vec<u8> {
    let mut cbor = Vec::new();
    ciborium::into_writer(header, &mut cbor).unwrap();
    let mut bytes = b"TG".to_vec();
    bytes.extend_from_slice(&[major, 0]);
    bytes.extend_from_slice(&u16::try_from(cbor.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&cbor);
    bytes.extend_from_slice(b"payload");
    bytes
}

fn header() -> Vec<(ciborium::Value, ciborium::Value)> {
    vec![
        ("src".into(), "gw-2".into()),
        ("inc".into(), 1.into()),
        ("seq".into(), 2.into()),
        ("typ".into(), "x".into()),
        ("top".into(), "ctl".into()),
    ]
}

#[test]
fn keys_of_a_later_minor_version_are_passed_over() {
    let mut fields = header();
    fields.insert(
        2,
        (
            "trace".into(),
            ciborium::Value::Array(vec![1.into(), "deep".into()]),
        ),
    );
    fields.push((99.to_string().into(), ciborium::Value::Null));
    let bytes = with_header(&ciborium::Value::Map(fields), 1);
    let read = Envelope::decode(&bytes, UNDERSTOOD, "ctl", None).unwrap();
    assert_eq!((&*read.source, read.incarnation, read.seq), ("gw-2", 1, 2));
    assert_eq!(read.payload, b"payload");
}

#[test]
fn another_major_version_is_told_from_garbage() {
    let bytes = with_header(&ciborium::Value::Map(header()), 2);
    assert_eq!(
        Envelope::decode(&bytes, UNDERSTOOD, "ctl", None),
        Err(Unreadable::Version(2))
    );
    let mut fields = header();
    fields.pop();
    let bytes = with_header(&ciborium::Value::Map(fields), 1);
    assert_eq!(
        Envelope::decode(&bytes, UNDERSTOOD, "ctl", None),
        Err(Unreadable::Garbage)
    );
    for garbage in [&b""[..], b"TG", b"hello, world", b"{\"json\":1}", &[0; 64]] {
        assert_eq!(
            Envelope::decode(garbage, UNDERSTOOD, "ctl", None),
            Err(Unreadable::Garbage),
            "{garbage:?}"
        );
    }
}

/// While one gateway after another is replaced by its next version.
#[test]
fn those_who_understand_two_versions_hear_both_and_who_understands_one_hears_that() {
    let (old, new) = (
        UNDERSTOOD,
        Versions {
            least: 1,
            greatest: 2,
        },
    );
    let key = Key::new(b"k");
    for key in [None, Some(&key)] {
        for version in 1..=3 {
            let bytes = sample(b"x").encode(version, "ctl", key).unwrap();
            let heard = |versions| Envelope::decode(&bytes, versions, "ctl", key).map(drop);
            let unknown = Err(Unreadable::Version(version));
            assert_eq!(heard(old), if version == 1 { Ok(()) } else { unknown });
            assert_eq!(heard(new), if version <= 2 { Ok(()) } else { unknown });
        }
    }
}

#[test]
fn what_is_too_large_is_not_looked_into_and_not_made() {
    let large = vec![0; MAX_ENVELOPE + 1];
    assert_eq!(
        Envelope::decode(&large, UNDERSTOOD, "ctl", None),
        Err(Unreadable::TooLarge)
    );
    assert!(sample(&vec![0; MAX_PAYLOAD + 1]).encode(1, "ctl", None).is_none());
    assert!(sample(&vec![0; MAX_PAYLOAD]).encode(1, "ctl", None).is_some());
}

#[test]
fn with_a_key_only_what_it_signed_is_believed_and_only_where_it_was_said() {
    let (key, other) = (Key::new(b"one"), Key::new(b"two"));
    let signed = sample(b"x").encode(1, "ctl", Some(&key)).unwrap();
    assert!(Envelope::decode(&signed, UNDERSTOOD, "ctl", Some(&key)).is_ok());
    assert_eq!(
        Envelope::decode(&signed, UNDERSTOOD, "ctl", Some(&other)),
        Err(Unreadable::Forged)
    );
    assert_eq!(
        Envelope::decode(&signed, UNDERSTOOD, "hlt", Some(&key)),
        Err(Unreadable::Forged)
    );
    let unsigned = sample(b"x").encode(1, "ctl", None).unwrap();
    assert_eq!(
        Envelope::decode(&unsigned, UNDERSTOOD, "ctl", Some(&key)),
        Err(Unreadable::Forged)
    );
    for at in 0..signed.len() {
        let mut changed = signed.clone();
        changed[at] ^= 1;
        assert!(
            Envelope::decode(&changed, UNDERSTOOD, "ctl", Some(&key)).is_err(),
            "byte {at}"
        );
    }
    // Who has no key reads what others sign.
    assert_eq!(
        Envelope::decode(&signed, UNDERSTOOD, "ctl", None).unwrap(),
        sample(b"x")
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512), keyed: bool) {
        let key = Key::new(b"k");
        let key = keyed.then_some(&key);
        drop(Envelope::decode(&bytes, UNDERSTOOD, "ctl", key));
        // Past the first checks, too.
        let mut framed = b"TG\x01\x00".to_vec();
        framed.extend_from_slice(&bytes);
        drop(Envelope::decode(&framed, UNDERSTOOD, "ctl", key));
        let length = u16::try_from(bytes.len()).unwrap();
        let mut header = b"TG\x01\x00".to_vec();
        header.extend_from_slice(&length.to_be_bytes());
        header.extend_from_slice(&bytes);
        drop(Envelope::decode(&header, UNDERSTOOD, "ctl", None));
    }

    #[test]
    fn what_was_encoded_is_decoded(
        source in "[a-z0-9~.-]{1,80}", incarnation: u64, seq: u64, kind in "[a-z.]{0,64}",
        payload in proptest::collection::vec(any::<u8>(), 0..300), keyed: bool,
    ) {
        let key = Key::new(b"k");
        let key = keyed.then_some(&key);
        let sent = Envelope { source: source.into(), incarnation, seq, kind: kind.into(), payload: &payload };
        let bytes = sent.encode(1, "n:gw", key).unwrap();
        prop_assert_eq!(Envelope::decode(&bytes, UNDERSTOOD, "n:gw", key).unwrap(), sent);
    }
}
