//! Opens connections, leaves them alone, and reports what they cost the proxy in memory.

use crate::args::Args;
use crate::exchange::{Kind, Plan, exchange_once, open};
use crate::procfs::{rss_kib, sockets_kib};
use serde_json::json;
use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let port = args.require("port")?;
    let wanted: usize = args.require("connections")?;
    let as_websocket = match args.require::<String>("kind")?.as_str() {
        "websocket" => true,
        "keep-alive" => false,
        other => return Err(format!("--kind {other}: websocket or keep-alive").into()),
    };
    let pids = args.list("pids")?;
    let settle = Duration::from_secs_f64(args.get_or("settle", 1.0)?);
    let plan = Plan::new(if as_websocket { Kind::Echo } else { Kind::Small });

    // One exchange first: what is set up once is not the price of a connection.
    exchange_once(&mut open(port, as_websocket)?, &plan)?;
    sleep(settle);
    let (before, kernel_before) = (rss_kib(&pids), sockets_kib());
    let mut streams = Vec::with_capacity(wanted);
    for _ in 0..wanted {
        let mut stream = open(port, as_websocket)?;
        exchange_once(&mut stream, &plan)?;
        streams.push(stream);
    }
    sleep(settle);
    let (after, kernel_after) = (rss_kib(&pids), sockets_kib());
    // Idle means alive: every connection must still answer.
    let dead = streams
        .iter_mut()
        .filter_map(|stream| exchange_once(stream, &plan).err())
        .count();
    let per_connection = |after: u64, before: u64| (after as f64 - before as f64) / wanted as f64;
    let sample = json!({
        "connections": wanted, "errors": dead, "rss_before_kib": before, "rss_after_kib": after,
        "kib_per_connection": per_connection(after, before),
        "kernel_kib_per_connection": per_connection(kernel_after, kernel_before),
    });
    println!("{sample}");
    Ok(())
}
