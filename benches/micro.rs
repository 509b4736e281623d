//! Micro-benchmarks of the request path, one module per subject.

#[path = "micro/log.rs"]
mod log;

criterion::criterion_main!(log::benches);
