//! The corpus of hostile messages, sent for real: what an endpoint saw of them reads the same to another parser.

use crate::gateway;
use std::io::Write;
use std::process::{Command, Stdio};
use testkit::{Backend, Broken, Conn, Gateway, Reply, eventually, patience};

/// A line of a corpus: what the gateway should make of it, further columns, the bytes.
struct Case {
    verdict: &'static str,
    columns: Vec<&'static str>,
    bytes: Vec<u8>,
}

fn cases(corpus: &'static str, columns: usize) -> Vec<Case> {
    let lines = corpus
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let case = |line: &'static str| {
        let mut parts: Vec<&str> = line.splitn(columns + 2, '|').collect();
        let bytes = parts.pop().unwrap_or_default();
        let bytes = unescape(bytes.strip_prefix(' ').unwrap_or(bytes).trim_end());
        let parts: Vec<&str> = parts.into_iter().map(str::trim).collect();
        Case {
            verdict: parts[0],
            columns: parts[1..].to_vec(),
            bytes,
        }
    };
    lines.map(case).collect()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = rest.as_bytes()[at + 1];
        let after = &rest[at + 2..];
        rest = match escape {
            b'r' | b'n' | b't' | b'0' | b'\\' => {
                out.push(match escape {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'0' => 0,
                    _ => b'\\',
                });
                after
            }
            b'x' => {
                out.push(u8::from_str_radix(&after[..2], 16).expect("two digits"));
                &after[2..]
            }
            b'{' => {
                let (inner, after) = after.split_once('}').expect("a closing brace");
                let (what, times) = inner.rsplit_once('*').expect("a factor");
                out.extend(unescape(what).repeat(times.parse().expect("a number")));
                after
            }
            other => panic!("unknown escape {:?} in {text:?}", char::from(other)),
        };
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)])
        .escape_debug()
        .to_string()
}

fn in_front(backend: &Backend) -> Gateway {
    let config = crate::PLAIN.replace(
        "[[routes]]",
        "limits = { header_timeout = \"300ms\", body_idle = \"300ms\", keep_alive = \"300ms\" }\n[[routes]]",
    );
    gateway(&config).with("app", backend.address()).start()
}

/// Sends everything, ends our direction, and reads all answers.
fn answers(gateway: &Gateway, bytes: &[u8]) -> Vec<(u16, Option<String>)> {
    let mut conn = Conn::connect(gateway.web()).with_timeout(patience());
    let _ = conn.try_send(bytes);
    conn.half_close();
    let mut all = Vec::new();
    loop {
        match conn.try_response_to("GET") {
            Ok(answer) => all.push((answer.status, answer.token().map(ToOwned::to_owned))),
            Err(Broken::Malformed(why)) => panic!("a malformed answer to {}: {why}", shown(bytes)),
            Err(_) => return all,
        }
    }
}

#[test]
fn every_request_of_the_corpus_gets_its_verdict() {
    let backend = Backend::text("hi");
    let gateway = in_front(&backend);
    let mut wrong = Vec::new();
    for case in cases(include_str!("../corpus/requests.txt"), 1) {
        if case.columns[0].contains("HEAD") {
            continue;
        }
        let answers = answers(&gateway, &case.bytes);
        let last = answers.last();
        let token = last.and_then(|(_, token)| token.as_deref());
        let verdict = case.verdict.trim_end_matches('*');
        let right = match verdict {
            "accept" => last.is_some_and(|(status, _)| *status < 300) || case.verdict.ends_with('*'),
            // The client has ended its direction in the middle of a request: no answer, or a refusal.
            "incomplete" => last.is_none_or(|(status, _)| *status >= 400),
            refused => token == Some(refused) || (case.verdict.ends_with('*') && token.is_some()),
        };
        if !right {
            wrong.push(format!(
                "{} | {} | {} => {answers:?}",
                case.verdict,
                case.columns[0],
                shown(&case.bytes)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of the corpus:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

const H11: &str = r#"
import sys, h11
stream = sys.stdin.buffer.read()
conn = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
conn.receive_data(stream)
out = []
while True:
    event = conn.next_event()
    if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
        break
    if event is h11.PAUSED:
        conn.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
        conn.send(h11.EndOfMessage())
        conn.start_next_cycle()
        continue
    if isinstance(event, h11.Request):
        out.append([event.method.decode(), event.target.decode("latin-1"), 0])
    elif isinstance(event, h11.Data):
        out[-1][2] += len(event.data)
for row in out:
    print(*row)
"#;

/// The interpreter with h11; `None` when this machine has none.
fn h11() -> Option<String> {
    let given = std::env::var("TIDEGATE_TEST_PYTHON").unwrap_or_default();
    let candidates = [given, "python3".to_owned(), "/usr/bin/python3".to_owned()];
    candidates
        .into_iter()
        .filter(|python| !python.is_empty())
        .find(|python| {
            let tried = Command::new(python)
                .args(["-c", "import h11"])
                .stderr(Stdio::null())
                .status();
            tried.is_ok_and(|status| status.success())
        })
}

fn read_by_h11(python: &str, bytes: &[u8]) -> Result<String, String> {
    let mut child = Command::new(python)
        .args(["-c", H11])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let fed = child.stdin.take().map(|mut stdin| stdin.write_all(bytes));
    assert!(fed.is_some_and(|fed| fed.is_ok()), "the parser does not read");
    let out = child.wait_with_output().map_err(|e| e.to_string())?;
    if out.status.success() {
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&out.stderr).into_owned())
    }
}

#[test]
fn what_reaches_the_endpoint_reads_the_same_to_another_parser() {
    let Some(python) = h11() else {
        eprintln!("skipped: no python3 with h11 (tests/run installs it)");
        return;
    };
    let mut stream = Vec::new();
    let mut ours = String::new();
    for case in cases(include_str!("../corpus/requests.txt"), 1) {
        if case.verdict.trim_end_matches('*') != "accept" {
            continue;
        }
        let backend = Backend::text("hi");
        let gateway = in_front(&backend);
        let _ = answers(&gateway, &case.bytes);
        for request in backend.requests() {
            ours += &format!("{} {} {}\n", request.method, request.target, request.body.len());
        }
        stream.extend(backend.received().concat());
    }
    assert!(!ours.is_empty());
    match read_by_h11(&python, &stream) {
        Ok(theirs) => assert_eq!(theirs, ours),
        Err(error) => panic!("another parser refuses what we forwarded: {error}"),
    }
}

#[test]
fn every_response_of_the_corpus_gets_its_verdict() {
    let mut wrong = Vec::new();
    let all = cases(include_str!("../corpus/responses.txt"), 2);
    let by_number: Vec<Vec<u8>> = all.iter().map(|case| case.bytes.clone()).collect();
    let backend = Backend::http(move |r| {
        let number: usize = r.target.trim_start_matches('/').parse().unwrap_or(0);
        Reply::raw(&by_number[number]).then_close()
    });
    let gateway = in_front(&backend);
    for (number, case) in all.iter().enumerate() {
        let method = case.columns[0];
        let mut conn = gateway.connect();
        conn.send(format!("{method} /{number} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let mut answer = conn.try_response_to(method);
        while answer.as_ref().is_ok_and(|a| a.status < 200 && a.status != 101) {
            answer = conn.try_response_to(method);
        }
        let text = match &answer {
            Ok(a) => format!("{} {:?} cut {:?}", a.status, a.token(), a.cut),
            Err(e) => format!("{e:?}"),
        };
        let refused = answer
            .as_ref()
            .is_ok_and(|a| a.status == 502 && a.token().is_some());
        let cut = answer.as_ref().map_or(true, |a| a.cut.is_some());
        let interim = case.bytes.starts_with(b"HTTP/1.1 1");
        let right = match case.verdict {
            // Bounds that the corpus sets for the codec; endpoints are allowed more.
            "bad_response" if case.columns[1].starts_with("too ") => true,
            // An interim response and then nothing, or a switch that nobody asked for.
            _ if interim => refused || cut,
            "none" | "length" | "chunked" | "close" | "excess" => !refused && !cut,
            "incomplete" => refused || cut,
            // After the head is out a bad body can only be cut.
            "bad_response" => refused || cut,
            other => panic!("verdict {other}"),
        };
        if !right {
            wrong.push(format!(
                "{} | {} | {} => {text}",
                case.verdict,
                case.columns.join(" | "),
                shown(&case.bytes)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of the corpus:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    eventually("the gateway is unharmed", || {
        gateway.metric("tidegate_panics_total", &[]) == 0.0
    });
}
