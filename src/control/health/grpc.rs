//! Asks a gRPC server how it is: the call Check of its service `grpc.health.v1.Health`, which most libraries have ready
//! (gRPC's `health-checking.md`). Question and answer are messages of one field each, so they are written and read
//! here by hand.

use super::http2::{Answered, request as http2_request};
use crate::config::model;
use crate::message::grpc::{self, Code};
use crate::upstream::shared::health::Failure;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use std::time::Duration;

const CHECK: &str = "/grpc.health.v1.Health/Check";
/// A flag, whether what follows is compressed, and its length.
const MESSAGE_HEADER: usize = 5;
/// What a service can be: the values of the answer's one field.
const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: u64 = 1;

/// The call, which may take so long.
pub(super) fn request(
    check: &model::Health,
    authority: &str,
    secure: bool,
    left: Duration,
) -> Result<Request<Bytes>, Failure> {
    let check = model::Health {
        method: Method::POST.as_str().to_owned(),
        path: CHECK.to_owned(),
        ..check.clone()
    };
    let mut request = http2_request(&check, authority, secure)?;
    let mut timeout = Vec::new();
    grpc::write_timeout(left, &mut timeout);
    let fields = request.headers_mut();
    fields.remove(header::ACCEPT);
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    fields.insert(header::TE, HeaderValue::from_static("trailers"));
    if let Ok(timeout) = HeaderValue::from_bytes(&timeout) {
        fields.insert(grpc::TIMEOUT, timeout);
    }
    *request.body_mut() = question(&check.service).into();
    Ok(request)
}

/// The question for a service, as a message.
fn question(service: &str) -> Vec<u8> {
    /// Field 1, which has a length.
    const SERVICE: u8 = 1 << 3 | 2;
    let mut text = Vec::with_capacity(service.len() + 8);
    if !service.is_empty() {
        text.push(SERVICE);
        write_varint(service.len() as u64, &mut text);
        text.extend_from_slice(service.as_bytes());
    }
    let mut message = Vec::with_capacity(MESSAGE_HEADER + text.len());
    message.push(0);
    message.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    message.extend_from_slice(&text);
    message
}

/// Holds an answer to what it should be.
pub(super) fn judge(service: &str, answered: Answered) -> Result<(), Failure> {
    if answered.status != 200 {
        return Err(Failure::Status {
            found: answered.status,
            accepted: "200, as every answer of gRPC has".to_owned(),
        });
    }
    let kind = answered.headers.get(header::CONTENT_TYPE);
    if !kind.is_some_and(|kind| grpc::is_grpc(kind.as_bytes())) {
        return Err(Failure::Malformed("it is no answer of gRPC"));
    }
    let body = answered.body?;
    let end = answered.trailers.as_ref().unwrap_or(&answered.headers);
    match grpc::status_in(end) {
        Some(Code::Ok) => {}
        Some(code) => return Err(Failure::Grpc(refusal(service, code, end))),
        None => return Err(Failure::Malformed("it has no grpc-status")),
    }
    match state(&body) {
        Some(SERVING) => Ok(()),
        Some(other) => {
            let word = usize::try_from(other).ok().and_then(|place| STATES.get(place));
            let word = word.map_or_else(|| other.to_string(), |word| (*word).to_owned());
            Err(Failure::Grpc(format!("{} says {word}", named(service))))
        }
        None => Err(Failure::Malformed("it is no HealthCheckResponse")),
    }
}

/// Why a server did not answer the question.
fn refusal(service: &str, code: Code, end: &HeaderMap) -> String {
    let said = match code {
        Code::Unimplemented => "there is no grpc.health.v1.Health: register it in the server".to_owned(),
        Code::NotFound => format!("the server does not know {}", named(service)),
        _ => "Check failed".to_owned(),
    };
    let text = end
        .get(grpc::MESSAGE)
        .map(|text| grpc::read_message(text.as_bytes()));
    match text.filter(|text| !text.is_empty()) {
        Some(text) => format!("{}: {said} ({text})", code.name()),
        None => format!("{}: {said}", code.name()),
    }
}

fn named(service: &str) -> String {
    match service {
        "" => "the server".to_owned(),
        service => format!("the service {service}"),
    }
}

/// What the one message of an answer says; `None` for what is not just that. Fields that nobody knows yet are passed
/// over.
fn state(body: &[u8]) -> Option<u64> {
    let (header, mut rest) = body.split_at_checked(MESSAGE_HEADER)?;
    let length = u32::from_be_bytes(*header.last_chunk()?);
    if header.first() != Some(&0) || usize::try_from(length).ok()? != rest.len() {
        return None;
    }
    let mut state = 0;
    while !rest.is_empty() {
        let tag = read_varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => state = read_varint(&mut rest)?,
            (_, 0) => {
                read_varint(&mut rest)?;
            }
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(read_varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(state)
}

fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answered(fields: &[(&'static str, &str)], body: &[u8], trailers: &[(&'static str, &str)]) -> Answered {
        let map = |fields: &[(&'static str, &str)]| {
            fields
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect::<HeaderMap>()
        };
        Answered {
            status: 200,
            headers: map(fields),
            body: Ok(body.to_vec()),
            trailers: (!trailers.is_empty()).then(|| map(trailers)),
        }
    }

    fn says(body: &[u8]) -> Result<(), Failure> {
        judge(
            "shop",
            answered(
                &[("content-type", "application/grpc")],
                body,
                &[("grpc-status", "0")],
            ),
        )
    }

    fn text(judged: Result<(), Failure>) -> String {
        judged.unwrap_err().to_string()
    }

    #[test]
    fn the_question_is_the_service_as_its_one_field() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("a.B"), *b"\0\0\0\0\x05\x0a\x03a.B");
        let long = question(&"x".repeat(200));
        assert_eq!((&long[..8], long.len()), (&b"\0\0\0\0\xcb\x0a\xc8\x01"[..], 208));
    }

    #[test]
    fn only_serving_passes() {
        assert_eq!(says(b"\0\0\0\0\x02\x08\x01"), Ok(()));
        for (body, said) in [
            (&b"\0\0\0\0\0"[..], "the service shop says UNKNOWN"),
            (b"\0\0\0\0\x02\x08\x02", "the service shop says NOT_SERVING"),
            (b"\0\0\0\0\x02\x08\x03", "the service shop says SERVICE_UNKNOWN"),
            (b"\0\0\0\0\x02\x08\x07", "the service shop says 7"),
        ] {
            assert_eq!(text(says(body)), said);
        }
        // Of fields that come to be.
        assert_eq!(
            says(b"\0\0\0\0\x09\x12\x01x\x08\x01\x1d\0\0\0"),
            Err(Failure::Malformed("it is no HealthCheckResponse"))
        );
        assert_eq!(says(b"\0\0\0\0\x0a\x12\x01x\x08\x01\x1d\0\0\0\0"), Ok(()));
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        for body in [
            &b""[..],
            b"\0\0\0\0",
            b"\x01\0\0\0\x02\x08\x01",
            b"\0\0\0\0\x03\x08\x01",
            b"\0\0\0\0\x01\x08",
        ] {
            assert_eq!(
                text(says(body)),
                "the answer is not understood: it is no HealthCheckResponse"
            );
        }
        let page = answered(&[("content-type", "text/html")], b"<p>", &[]);
        assert_eq!(
            text(judge("", page)),
            "the answer is not understood: it is no answer of gRPC"
        );
        let endless = answered(
            &[("content-type", "application/grpc")],
            b"\0\0\0\0\x02\x08\x01",
            &[],
        );
        assert_eq!(
            text(judge("", endless)),
            "the answer is not understood: it has no grpc-status"
        );
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let told = |service, status: &str, message: &str| {
            let fields = [
                ("content-type", "application/grpc"),
                ("grpc-status", status),
                ("grpc-message", message),
            ];
            text(judge(service, answered(&fields, b"", &[])))
        };
        assert_eq!(
            told("", "12", ""),
            "UNIMPLEMENTED: there is no grpc.health.v1.Health: register it in the server"
        );
        assert_eq!(
            told("a.B", "5", "unknown%20service"),
            "NOT_FOUND: the server does not know the service a.B (unknown service)"
        );
        assert_eq!(told("", "16", "who%3f"), "UNAUTHENTICATED: Check failed (who?)");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_none(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _either = state(&body);
        }

        #[test]
        fn a_number_is_read_as_written(number in any::<u64>()) {
            let mut bytes = Vec::new();
            write_varint(number, &mut bytes);
            let mut rest = &bytes[..];
            prop_assert_eq!(read_varint(&mut rest), Some(number));
            prop_assert!(rest.is_empty());
        }
    }
}
