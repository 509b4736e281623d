//! Sticky cookies: what it costs to believe one, and to make one.

use criterion::Criterion;
use std::hint::black_box;
use tidegate::upstream::shared::sticky::value::{Key, read};

const NOW: u32 = 1_800_000_000;

pub fn sticky(c: &mut Criterion) {
    let keys = ["first", "second", "third"].map(|secret| Key::new(secret.as_bytes(), "app"));
    let endpoint = keys[0].endpoint("10.0.0.1:3000");
    let made = |key: &Key| {
        let mut value = Vec::new();
        key.make(endpoint, NOW, &mut value);
        value
    };
    let (good, older) = (made(&keys[0]), made(&keys[2]));
    let mut tampered = good.clone();
    tampered.reverse();
    tampered.rotate_right(1);
    let mut group = c.benchmark_group("sticky");
    group.bench_function("make", |b| {
        let mut out = Vec::with_capacity(64);
        b.iter(|| {
            out.clear();
            keys[0].make(black_box(endpoint), NOW, &mut out);
            out.len()
        });
    });
    for (name, value) in [
        ("read", &good),
        ("read, older key", &older),
        ("refuse, foreign", &tampered),
    ] {
        group.bench_function(name, |b| b.iter(|| read(&keys, black_box(value), NOW, 86_400)));
    }
    group.bench_function("refuse, malformed", |b| {
        b.iter(|| read(&keys, black_box(b"10.0.0.1:3000"), NOW, 86_400))
    });
    group.finish();
}
