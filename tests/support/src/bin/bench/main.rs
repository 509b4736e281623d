//! The parts of `benches/peers` that no public tool gives: an origin with fixed answers, a bare TCP relay as the
//! limit that no proxy can pass, and a load that reads the proxy's CPU over exactly the measured window.
//!
//! One thread, one epoll, no runtime: what stands around the proxy must cost as little as it can.

mod args;
mod exchange;
mod idle;
mod load;
mod origin;
mod poll;
mod procfs;
mod relay;
mod requests;
mod slots;
mod storm;

use std::process::ExitCode;

const USAGE: &str = "\
usage: bench-tool origin --port P [--port P2]
       bench-tool relay  --port P --to P [--buffer BYTES]
       bench-tool load   --port P [--kind small|down|up|echo|upgrade] [--connections 64] [--seconds 1] [--warm 0.3]
                         [--rate R] [--requests N] [--new-connections] [--pids 1,2]
       bench-tool request --kind small|down|up   (writes the request's bytes)
       bench-tool idle   --port P --kind websocket|keep-alive --connections N [--settle 1] [--pids 1,2]
       bench-tool storm  --port P --connections N [--opening-rate 1000] [--seconds 20] [--at-once]";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let outcome = args::Args::parse(words).and_then(|args| match command.as_str() {
        "origin" => origin::run(&args),
        "relay" => relay::run(&args),
        "load" => load::run(&args),
        "idle" => idle::run(&args),
        "storm" => storm::run(&args),
        "request" => load::write_request(&args),
        _ => Err(USAGE.into()),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
