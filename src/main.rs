//! The binary: the allocator, and the way into [`tidegate::cli`].

use std::process::ExitCode;

/// Thousands of connections come and go for weeks: jemalloc gives their memory back, where glibc keeps it.
/// Tuned in `.cargo/config.toml`.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    tidegate::cli::main()
}
