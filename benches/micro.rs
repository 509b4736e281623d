//! Small, hot pieces by themselves: `cargo bench --bench micro -- GROUP`. One module per subject.

// A bench that cannot be set up ends here.
#![allow(clippy::expect_used)]

#[path = "micro/compile.rs"]
mod compile;
#[path = "micro/frames.rs"]
mod frames;
#[path = "micro/head.rs"]
mod head;
#[path = "micro/log.rs"]
mod log;
#[path = "micro/pick.rs"]
mod pick;
#[path = "micro/routing.rs"]
mod routing;
#[path = "micro/sticky.rs"]
mod sticky;

criterion::criterion_group!(
    rest,
    routing::route_match,
    pick::pick,
    sticky::sticky,
    frames::frames,
    compile::config_compile
);
criterion::criterion_main!(head::group, rest, log::benches);
