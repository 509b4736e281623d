use super::*;
use crate::message::head::{Field, Span};
use crate::message::names::Name;
use proptest::prelude::*;

fn head(fields: &[(&str, &str)]) -> HeadBuf {
    let mut buf = HeadBuf::default();
    for (name, value) in fields {
        let start = buf.bytes.len();
        buf.bytes
            .extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        buf.push(Field {
            name: Span::new(start, start + name.len()),
            value: Span::new(start + name.len() + 2, start + name.len() + 2 + value.len()),
            id: Name::recognise(name.as_bytes()),
        });
    }
    buf
}

fn allowed(value: &str) -> Result<Option<Duration>, Reject> {
    timeout(&head(&[("grpc-timeout", value)]))
}

#[test]
fn only_grpc_itself_is_grpc() {
    for kind in [
        "application/grpc",
        "Application/GRPC",
        "application/grpc+proto",
        "application/grpc+json",
        "application/grpc; charset=utf-8",
        "application/grpc ;x=y",
    ] {
        assert!(is_grpc(kind.as_bytes()), "{kind}");
    }
    for kind in [
        "",
        "application/grp",
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpcx",
        "application/json",
        "text/application/grpc",
    ] {
        assert!(!is_grpc(kind.as_bytes()), "{kind}");
    }
}

#[test]
fn a_time_is_up_to_eight_digits_and_a_unit() {
    for (value, time) in [
        ("1H", Duration::from_secs(3600)),
        ("2M", Duration::from_secs(120)),
        ("3S", Duration::from_secs(3)),
        ("4m", Duration::from_millis(4)),
        ("5u", Duration::from_micros(5)),
        ("6n", Duration::from_nanos(6)),
        ("0S", Duration::ZERO),
        ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ("00000001S", Duration::from_secs(1)),
    ] {
        assert_eq!(allowed(value), Ok(Some(time)), "{value}");
    }
    assert_eq!(timeout(&head(&[("x", "1S")])), Ok(None));
}

#[test]
fn what_is_no_time_is_refused() {
    for value in [
        "",
        "S",
        "1",
        "1s",
        "1h",
        "-1S",
        "+1S",
        "1.5S",
        "1 S",
        "123456789S",
        "1SS",
        "S1",
        "\u{661}S",
    ] {
        assert_eq!(allowed(value).unwrap_err().token, Token::BadRequest, "{value:?}");
    }
    let twice = head(&[("grpc-timeout", "1S"), ("Grpc-Timeout", "1S")]);
    assert_eq!(timeout(&twice).unwrap_err().token, Token::BadRequest);
}

#[test]
fn a_text_keeps_to_printable_ascii() {
    assert_eq!(message("no route: 100%\n\u{e9}"), "no route: 100%25%0A%C3%A9");
    assert_eq!(
        read_message(b"no route: 100%25%0A%C3%A9"),
        "no route: 100%\n\u{e9}"
    );
    assert_eq!(read_message(b"%zz %ff"), "%zz \u{fffd}");
}

#[test]
fn codes_are_known_by_number_and_name() {
    for (number, name) in [
        (0, "OK"),
        (1, "CANCELLED"),
        (4, "DEADLINE_EXCEEDED"),
        (14, "UNAVAILABLE"),
        (16, "UNAUTHENTICATED"),
    ] {
        let code = Code::of_number(number);
        assert_eq!((u32::from(code.number()), code.name()), (number, name));
        assert_eq!(Code::of_text(number.to_string().as_bytes()), code);
    }
    for nonsense in [&b"17"[..], b"", b"-1", b"x", b"99999999999"] {
        assert_eq!(Code::of_text(nonsense), Code::Unknown);
    }
    assert_eq!(Code::ALL.len(), 17);
}

#[test]
fn no_error_of_ours_is_told_as_success_or_as_the_callers_own_word() {
    // What an application says of its own data: not a gateway's to say.
    let of_applications = [
        Code::Ok,
        Code::InvalidArgument,
        Code::NotFound,
        Code::AlreadyExists,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::DataLoss,
    ];
    for token in Token::ALL {
        assert!(!of_applications.contains(&Code::of_token(*token)), "{token:?}");
    }
}

#[test]
fn the_page_has_a_row_for_every_error() {
    let page = include_str!("../../../config/GRPC.md");
    for token in Token::ALL {
        let code = Code::of_token(*token);
        let row = format!(
            "| `{}` | {} | {} `{}` |",
            token.name(),
            token.status(),
            code.number(),
            code.name()
        );
        assert!(
            page.contains(&row),
            "config/GRPC.md has no row that begins with: {row}"
        );
    }
}

proptest! {
    #[test]
    fn a_written_time_is_read_again_and_is_never_longer(nanos in any::<u64>(), scale in 1_u32..1000) {
        let left = Duration::from_nanos(nanos).saturating_mul(scale);
        let mut text = Vec::new();
        write_timeout(left, &mut text);
        let read = parse_timeout(&text);
        prop_assert!(read.is_some_and(|read| read <= left), "{left:?} as {}", String::from_utf8_lossy(&text));
        // At most a thousandth is lost, which is more than eight digits cost.
        prop_assert!(read.is_some_and(|read| left - read <= left / 1000 + Duration::from_nanos(1)) || left.as_secs() > 99_999_999);
    }

    #[test]
    fn any_value_is_a_time_or_a_refusal(value in proptest::collection::vec(any::<u8>(), 0..12)) {
        let _either = parse_timeout(&value);
        let _text = read_message(&value);
    }

    #[test]
    fn a_text_comes_back(text in ".{0,64}") {
        let encoded = message(&text);
        prop_assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        prop_assert_eq!(read_message(encoded.as_bytes()), text);
    }
}
