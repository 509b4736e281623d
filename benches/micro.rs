//! Small, hot pieces by themselves: `cargo bench --bench micro -- GROUP`. One module per subject.

#![allow(clippy::expect_used)]

#[path = "micro/head.rs"]
mod head;
#[path = "micro/log.rs"]
mod log;
#[path = "micro/routing.rs"]
mod routing;

criterion::criterion_group!(route_match, routing::route_match);
criterion::criterion_main!(route_match, head::group, log::benches);
