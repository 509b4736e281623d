//! What single steps of the request path cost: `cargo bench --bench micro`.

#[path = "micro/head.rs"]
mod head;

criterion::criterion_main!(head::group);
