<<<<<<< HEAD
//! Micro-benchmarks of the request path, one module per subject.

#[path = "micro/log.rs"]
mod log;

criterion::criterion_main!(log::benches);
=======
//! Small, hot pieces by themselves: `cargo bench --bench micro -- GROUP`.

#[path = "micro/routing.rs"]
mod routing;

criterion::criterion_group!(benches, routing::route_match);
criterion::criterion_main!(benches);
>>>>>>> routing
