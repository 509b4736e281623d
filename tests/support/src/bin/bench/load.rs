//! Load: a closed loop (each connection sends when its answer is complete) or a fixed rate, where latency counts
//! from the moment a request was due, so that a stalled proxy cannot hide its stall.

use crate::args::Args;
use crate::exchange::{Kind, Plan, Progress, open};
use crate::poll::{Flags, Moved, Poll, moved};
use crate::procfs::cpu_ns;
use rustix::net::{SendFlags, send};
use serde_json::json;
use std::error::Error;
use std::io::{self, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const SCRATCH: usize = 256 * 1024;
/// More failures than this end the run: the sample is void anyway.
const MAX_ERRORS: u64 = 1000;
/// Latencies kept; the rest counts but is not in the quantiles.
const MAX_LATENCIES: usize = 8 << 20;

struct Settings {
    port: u16,
    kind: Kind,
    connections: usize,
    warm: Duration,
    window: Duration,
    /// Time between requests at a fixed rate.
    gap: Option<Duration>,
    /// Ends the run after this many exchanges instead of by time.
    requests: Option<u64>,
    new_connections: bool,
    pids: Vec<u32>,
}

enum State {
    Idle,
    Sending(usize),
    Receiving(Progress),
}

struct Connection {
    stream: TcpStream,
    state: State,
    /// When the exchange under way should have begun.
    due: Instant,
    waits_for_room: bool,
}

#[derive(Default)]
struct Tally {
    done: u64,
    errors: u64,
    latencies: Vec<u32>,
}

struct Load {
    settings: Settings,
    plan: Plan,
    poll: Poll,
    connections: Vec<Connection>,
    idle: Vec<usize>,
    tally: Tally,
    scratch: Vec<u8>,
}

pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let seconds = |key, default| args.get_or(key, default).map(Duration::from_secs_f64);
    let requests = args.get("requests")?;
    let settings = Settings {
        port: args.require("port")?,
        kind: args.get_or("kind", Kind::Small)?,
        connections: args.get_or("connections", 64)?,
        warm: if requests.is_some() {
            Duration::ZERO
        } else {
            seconds("warm", 0.3)?
        },
        window: seconds("seconds", 1.0)?,
        gap: args
            .get::<f64>("rate")?
            .map(|rate| Duration::from_secs_f64(1.0 / rate)),
        requests,
        new_connections: args.switch("new-connections"),
        pids: args.list("pids")?,
    };
    let mut load = Load::open(settings)?;
    load.measure()
}

/// Writes the bytes of a request, for a load that is not ours to send the same.
pub fn write_request(args: &Args) -> Result<(), Box<dyn Error>> {
    let plan = Plan::new(args.require("kind")?);
    Ok(io::stdout().write_all(&plan.request)?)
}

impl Load {
    fn open(settings: Settings) -> Result<Self, Box<dyn Error>> {
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(settings.connections);
        for index in 0..settings.connections {
            let stream = open(settings.port, settings.kind == Kind::Echo)?;
            stream.set_nonblocking(true)?;
            poll.add(&stream, index, Flags::IN)?;
            let due = Instant::now();
            connections.push(Connection {
                stream,
                state: State::Idle,
                due,
                waits_for_room: false,
            });
        }
        let idle = (0..connections.len()).collect();
        let plan = Plan::new(settings.kind);
        let scratch = vec![0; SCRATCH];
        Ok(Self {
            settings,
            plan,
            poll,
            connections,
            idle,
            tally: Tally::default(),
            scratch,
        })
    }

    fn measure(&mut self) -> Result<(), Box<dyn Error>> {
        let begun = Instant::now();
        self.drive(begun, Some(begun + self.settings.warm))?;
        let warm_errors = self.tally.errors;
        self.tally = Tally {
            errors: warm_errors,
            ..Tally::default()
        };
        let (cpu, start) = (cpu_ns(&self.settings.pids), Instant::now());
        let end = self
            .settings
            .requests
            .is_none()
            .then(|| start + self.settings.window);
        self.drive(begun, end)?;
        let (cpu, elapsed) = (cpu_ns(&self.settings.pids) - cpu, start.elapsed().as_secs_f64());
        self.report(cpu, elapsed);
        Ok(())
    }

    /// Keeps the load going until `end`, or until enough exchanges are done.
    fn drive(&mut self, begun: Instant, end: Option<Instant>) -> io::Result<()> {
        let mut ready = Vec::new();
        // A fixed rate's schedule starts anew with each phase: what the warm-up could not serve is not owed.
        let schedule = Instant::now().max(begun);
        let mut started = 0u32;
        loop {
            let now = Instant::now();
            let enough = self
                .settings
                .requests
                .is_some_and(|wanted| self.tally.done >= wanted);
            if end.is_some_and(|end| now >= end) || enough || self.tally.errors > MAX_ERRORS {
                return Ok(());
            }
            let mut timeout = end.map(|end| end - now);
            while let Some(index) = self.idle.last().copied() {
                let due = self.settings.gap.map_or(now, |gap| schedule + gap * started);
                if due > now {
                    timeout = Some(timeout.map_or(due - now, |t| t.min(due - now)));
                    break;
                }
                started += 1;
                self.idle.pop();
                self.begin(index, due)?;
            }
            self.poll.wait(timeout, &mut ready)?;
            for (index, _) in &ready {
                self.turn(*index)?;
            }
        }
    }

    fn begin(&mut self, index: usize, due: Instant) -> io::Result<()> {
        let connection = &mut self.connections[index];
        (connection.state, connection.due) = (State::Sending(0), due);
        self.turn(index)
    }

    fn turn(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        match connection.turn(&self.plan, &mut self.scratch) {
            Ok(true) => self.finished(index),
            Ok(false) => connection.follow(&self.poll, index),
            Err(_) => {
                self.tally.errors += 1;
                self.reopen(index)
            }
        }
    }

    fn finished(&mut self, index: usize) -> io::Result<()> {
        self.tally.done += 1;
        if self.tally.latencies.len() < MAX_LATENCIES {
            let latency = self.connections[index].due.elapsed().as_nanos();
            self.tally
                .latencies
                .push(u32::try_from(latency).unwrap_or(u32::MAX));
        }
        if self.settings.new_connections {
            return self.reopen(index);
        }
        self.next(index)
    }

    /// In a closed loop the next exchange begins at once, at a fixed rate when it is due.
    fn next(&mut self, index: usize) -> io::Result<()> {
        self.connections[index].state = State::Idle;
        self.idle.push(index);
        Ok(())
    }

    fn reopen(&mut self, index: usize) -> io::Result<()> {
        let stream = open(self.settings.port, self.settings.kind == Kind::Echo)?;
        stream.set_nonblocking(true)?;
        self.poll.add(&stream, index, Flags::IN)?;
        let connection = &mut self.connections[index];
        (connection.stream, connection.waits_for_room) = (stream, false);
        self.next(index)
    }

    fn report(&mut self, cpu_ns: u64, elapsed: f64) {
        let Tally {
            done,
            errors,
            latencies,
        } = &mut self.tally;
        latencies.sort_unstable();
        let quantile = |share: f64| {
            let at = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
            latencies.get(at).map(|ns| f64::from(*ns) / 1000.0)
        };
        let sample = json!({
            "requests": *done, "errors": *errors, "seconds": elapsed, "cpu_seconds": cpu_ns as f64 / 1e9,
            "p50_us": quantile(0.5), "p90_us": quantile(0.9), "p99_us": quantile(0.99), "max_us": quantile(1.0),
        });
        println!("{sample}");
    }
}

impl Connection {
    /// Sends and receives what it can. True: the exchange is complete.
    fn turn(&mut self, plan: &Plan, scratch: &mut [u8]) -> io::Result<bool> {
        if let State::Sending(done) = &mut self.state {
            match moved(send(&self.stream, &plan.request[*done..], SendFlags::NOSIGNAL))? {
                Moved::Bytes(count) => *done += count,
                Moved::Blocked => return Ok(false),
            }
            if *done == plan.request.len() {
                self.state = State::Receiving(Progress::default());
            }
            // The answer cannot have come yet, and a partial write waits for room.
            return Ok(false);
        }
        loop {
            let count = match moved(rustix::io::read(&self.stream, &mut *scratch))? {
                Moved::Blocked => return Ok(false),
                Moved::Bytes(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Moved::Bytes(count) => count,
            };
            let State::Receiving(progress) = &mut self.state else {
                return Err(io::Error::other("bytes that nobody asked for"));
            };
            match plan.take(progress, &scratch[..count]) {
                Some(true) => return Ok(true),
                Some(false) if count == scratch.len() => {}
                Some(false) => return Ok(false),
                None => return Err(io::Error::other("a wrong answer")),
            }
        }
    }

    fn follow(&mut self, poll: &Poll, token: usize) -> io::Result<()> {
        let stuck = matches!(self.state, State::Sending(_));
        if stuck != self.waits_for_room {
            self.waits_for_room = stuck;
            poll.modify(
                &self.stream,
                token,
                if stuck { Flags::IN | Flags::OUT } else { Flags::IN },
            )?;
        }
        Ok(())
    }
}
