//! Group `log_line`: one access record formatted, per format. Group `count`: what counting a request costs.

use criterion::{BatchSize, Criterion, criterion_group};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant, SystemTime};
use tidegate::message::head::{Field, HeadBuf, Method, RequestHead, Span, Version};
use tidegate::message::names::Name;
use tidegate::telemetry::access::{AccessRecord, AttemptRecord, EndedBy, Outcome};
use tidegate::telemetry::access_format::{COMBINED, Format, Redact};
use tidegate::telemetry::metrics::WorkerMetrics;

criterion_group!(benches, log_line, count);

const FIELDS: [(&str, &str); 7] = [
    ("Host", "api.example.com"),
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    ),
    (
        "Accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ),
    ("Accept-Language", "en-GB,en;q=0.7,de;q=0.3"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Referer", "https://www.example.com/catalogue/items?page=4"),
    ("Cookie", "session=8d4c2f6e0b1a4e7f9c3d5a6b7c8d9e0f; theme=dark"),
];

fn request() -> RequestHead {
    let mut buf = HeadBuf::default();
    let push = |buf: &mut HeadBuf, text: &str| {
        let start = buf.bytes.len();
        buf.bytes.extend_from_slice(text.as_bytes());
        Span::new(start, buf.bytes.len())
    };
    let method_text = push(&mut buf, "GET");
    let target = push(
        &mut buf,
        "/v1/items/4711?fields=name,price&token=e3b0c44298fc1c149afbf4c8996fb924",
    );
    for (name, value) in FIELDS {
        let id = Name::recognise(name.as_bytes());
        let (name, value) = (push(&mut buf, name), push(&mut buf, value));
        buf.push(Field { name, value, id });
    }
    RequestHead {
        buf: Box::new(buf),
        method: Method::Get,
        method_text,
        target,
        version: Version::H11,
    }
}

fn record<'a>(
    start: Instant,
    request: &'a RequestHead,
    attempts: &'a [AttemptRecord<'a>],
) -> AccessRecord<'a> {
    AccessRecord {
        start,
        head_done: start + Duration::from_micros(56),
        end: start + Duration::from_micros(1_234),
        time: SystemTime::now(),
        client: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77)),
        peer: Some(([10, 0, 0, 9], 50_123).into()),
        server: Some(([10, 0, 0, 1], 443).into()),
        announced: None,
        listener: "web",
        scheme: "http",
        tls: None,
        connection: 123_456,
        connection_requests: 17,
        request: Some(request),
        host: b"api.example.com",
        path: b"/v1/items/4711",
        request_id: b"0192f0c17b8e4a6f9d3c5b7a1e2f4d68",
        route: Some("items"),
        upstream: Some("catalogue"),
        status: 200,
        grpc_status: None,
        token: None,
        detail: None,
        timeout: None,
        ended: EndedBy::Done,
        response: None,
        bytes_received: 612,
        bytes_sent: 4_311,
        body_bytes_sent: 4_096,
        queued: Duration::ZERO,
        sticky: None,
        attempts,
        tunnel: None,
    }
}

#[allow(clippy::expect_used, reason = "a benchmark of a broken format is none")]
fn log_line(criterion: &mut Criterion) {
    let request = request();
    let start = Instant::now();
    let attempts = [AttemptRecord {
        endpoint: "10.0.0.11:3001",
        outcome: Outcome::Answered(200),
        reused: true,
        version: Version::H11,
        started: start + Duration::from_micros(60),
        connected: Some(start + Duration::from_micros(61)),
        head: Some(start + Duration::from_micros(1_100)),
        ended: start + Duration::from_micros(1_230),
    }];
    let record = record(start, &request, &attempts);
    let upstream =
        format!("{COMBINED} $request_time $upstream_addr $upstream_status $upstream_response_time");
    let redact = Redact::new(&["token".to_owned(), "api_key".to_owned()]);
    let formats = [
        ("combined", Format::combined()),
        (
            "combined_with_upstream",
            Format::template(&upstream).expect("a sound format"),
        ),
        ("combined_redacted", Format::combined().redacting(redact.clone())),
        ("json", Format::json()),
        ("json_redacted", Format::json().redacting(redact)),
    ];
    let mut group = criterion.benchmark_group("log_line");
    for (name, format) in formats {
        let mut line = Vec::with_capacity(4_096);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                line.clear();
                format.write(black_box(&record), &mut line);
                line.len()
            });
        });
    }
    group.finish();
}

fn count(criterion: &mut Criterion) {
    let worker = WorkerMetrics::new(0);
    let route = worker.route_to("items", "catalogue");
    let endpoint = worker.endpoint("catalogue", "10.0.0.11:3001");
    let mut group = criterion.benchmark_group("count");
    group.bench_function("request", |bencher| {
        bencher.iter_batched(
            || Duration::from_micros(fastrand::u64(50..50_000)),
            |duration| {
                worker.worker.requests.inc();
                route.requests.inc(200);
                route.duration.record(duration);
                route.bytes_received.add(612);
                route.bytes_sent.add(4_311);
                endpoint.attempts.inc();
                endpoint.responses.inc(200);
                endpoint.response_seconds.record(duration);
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}
