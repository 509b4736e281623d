//! Heads in and out: a browser's request and an application server's answer, with the edits of an ordinary
//! route.

#![allow(clippy::expect_used, reason = "a bench that cannot go on says so and ends")]

use criterion::{Criterion, Throughput, criterion_group};
use std::hint::black_box;
use tidegate::h1::body::{BodyDecoder, ChunkLimits};
use tidegate::h1::parse::{HeadLimits, Parsed, parse_request, parse_response};
use tidegate::h1::write;
use tidegate::message::edits::Edits;
use tidegate::message::framing::{BodyKind, check_request, request_body, response_body};
use tidegate::message::head::{HeadBuf, Method, RequestHead, ResponseHead};
use tidegate::message::hop::{drop_hop_by_hop, drop_underscored};
use tidegate::message::names::Name;

/// 830 bytes, 13 fields.
const REQUEST: &str = "GET /api/v2/projects/4711/documents?sort=modified&limit=50&fields=title,owner HTTP/1.1\r\n\
    Host: app.example.com\r\n\
    Connection: keep-alive\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36\r\n\
    Accept: application/json, text/plain, */*\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://app.example.com/projects/4711/overview\r\n\
    Cookie: session=9f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a3928; theme=dark; consent=1; tracking=0d9c8b7a6f5e4d3c2b1a0f9e8d7c6b5a49382716; _ga=GA1.2.1234567890.1700000000\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: cors\r\n\
    Sec-Fetch-Dest: empty\r\n\
    X-Requested-With: XMLHttpRequest\r\n\
    If-None-Match: W/\"5f3c-1932a7b6e40-9f8e7d6c5b4a39281706f5e4d3c2b1a0-9f8e7d6c5b4a39281706f5e4d3c2b1a0\"\r\n\
    \r\n";

/// About 430 bytes.
const RESPONSE: &str = "HTTP/1.1 200 OK\r\n\
    Server: gunicorn\r\n\
    Date: Fri, 20 Nov 2026 12:00:00 GMT\r\n\
    Connection: keep-alive\r\n\
    Content-Type: application/json; charset=utf-8\r\n\
    Content-Length: 128\r\n\
    Cache-Control: private, max-age=0, must-revalidate\r\n\
    ETag: W/\"5f3c-1932a7b6e40\"\r\n\
    Vary: Accept-Encoding, Cookie\r\n\
    X-Frame-Options: SAMEORIGIN\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Set-Cookie: session=9f8e7d6c5b4a39281706f5e4d3c2b1a0; Path=/; HttpOnly; Secure\r\n\
    \r\n";

const LIMITS: HeadLimits = HeadLimits {
    head_bytes: 32 * 1024,
    fields: 100,
    target_bytes: 8 * 1024,
};

fn request(mut buf: Box<HeadBuf>) -> RequestHead {
    match parse_request(black_box(REQUEST.as_bytes()), &LIMITS, &mut 0, &mut buf) {
        Parsed::Complete { head, .. } => head.with(buf),
        other => panic!("{other:?}"),
    }
}

fn response(mut buf: Box<HeadBuf>) -> ResponseHead {
    match parse_response(black_box(RESPONSE.as_bytes()), &LIMITS, &mut 0, &mut buf) {
        Parsed::Complete { head, .. } => head.with(buf),
        other => panic!("{other:?}"),
    }
}

fn write_request(head: &RequestHead, edits: &mut Edits, out: &mut Vec<u8>) {
    check_request(head).expect("a good request");
    let framing = request_body(head).expect("a good request");
    edits.clear();
    drop_hop_by_hop(&head.buf, edits);
    drop_underscored(&head.buf, edits);
    for id in [
        Name::XForwardedFor,
        Name::XForwardedProto,
        Name::XForwardedHost,
        Name::XRealIp,
    ] {
        edits.drop_known(&head.buf, id);
    }
    edits.add(b"X-Forwarded-For", b"203.0.113.7");
    edits.add(b"X-Forwarded-Proto", b"https");
    edits.add(b"X-Forwarded-Host", b"app.example.com");
    edits.add(b"X-Real-IP", b"203.0.113.7");
    edits.add(b"X-Request-Id", b"0192f0c1a2b37c4d8e9f0a1b2c3d4e5f");
    write::request_head(head, edits, framing, out);
}

fn write_response(head: &ResponseHead, edits: &mut Edits, out: &mut Vec<u8>) {
    let framing = response_body(head, Method::Get).expect("a good response");
    edits.clear();
    drop_hop_by_hop(&head.buf, edits);
    write::response_head(head, edits, framing, out);
}

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    let mut edits = Edits::default();
    let mut out = Vec::with_capacity(4096);

    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    let mut spare = Some(Box::<HeadBuf>::default());
    group.bench_function("request in", |bencher| {
        bencher.iter(|| spare = Some(request(spare.take().unwrap_or_default()).buf));
    });
    let head = request(Box::default());
    group.bench_function("request out", |bencher| {
        bencher.iter(|| {
            out.clear();
            write_request(black_box(&head), &mut edits, &mut out);
        });
    });

    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("response in", |bencher| {
        bencher.iter(|| spare = Some(response(spare.take().unwrap_or_default()).buf));
    });
    let head = response(Box::default());
    group.bench_function("response out", |bencher| {
        bencher.iter(|| {
            out.clear();
            write_response(black_box(&head), &mut edits, &mut out);
        });
    });
    group.finish();
}

fn chunks(criterion: &mut Criterion) {
    let mut body = Vec::new();
    for _ in 0..16 {
        write::chunk_size(4096, &mut body);
        body.extend_from_slice(&[b'x'; 4096]);
        body.extend_from_slice(b"\r\n");
    }
    write::last_chunk(b"", &mut body);
    let mut made = Vec::new();
    criterion.bench_function("head/16 chunks relayed", |bencher| {
        bencher.iter(|| {
            let mut decoder = BodyDecoder::new(BodyKind::Chunked, ChunkLimits::response(&LIMITS));
            let relay = decoder
                .relay_chunked(black_box(&body), &mut made)
                .expect("a good body");
            assert!(decoder.is_end() && relay.consumed == body.len());
        });
    });
}

criterion_group!(group, heads, chunks);
