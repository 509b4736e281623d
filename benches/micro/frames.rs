//! Heads of WebSocket frames: what looking at them costs, per read.

use criterion::{Criterion, Throughput};
use std::hint::black_box;
use tidegate::ws::frames::{Scanner, Speaker};

/// A message of a client, in one frame.
fn message(len: usize) -> Vec<u8> {
    let mut bytes = vec![0x82];
    match len {
        0..=125 => bytes.push(0x80 | len as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend([1, 2, 3, 4]);
    bytes.resize(bytes.len() + len, 7);
    bytes
}

pub fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frames");
    let many: Vec<u8> = (0..32).flat_map(|_| message(500)).collect();
    for (name, bytes) in [
        ("64 B", message(64)),
        ("15 KiB", message(15 * 1024)),
        ("32 of 500 B", many),
    ] {
        let mut scanner = Scanner::new(Speaker::Client);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| scanner.scan(black_box(&bytes), |_| true).pass)
        });
    }
    let torn = message(64);
    let mut scanner = Scanner::new(Speaker::Client);
    group.bench_function("64 B with a torn head", |b| {
        b.iter(|| {
            let first = scanner.scan(black_box(&torn[..3]), |_| true).pass;
            first + scanner.scan(black_box(&torn[3..]), |_| true).pass
        });
    });
    group.finish();
}
