//! Many WebSockets whose clients come back as soon as they are closed, without any wait: what a drain or a reload does
//! to everybody when nobody is polite.
//!
//! Opens them at a steady rate, prints `open`, waits for a line on its input, and then watches; with `--at-once` it
//! watches from the beginning.

use crate::args::Args;
use crate::exchange::{Kind, Plan, Progress};
use crate::poll::{Flags, Moved, Poll, moved};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, connect, send, socket_with, sockopt};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// A turn of the loop at least this often.
const TURN: Duration = Duration::from_millis(5);
/// Who was refused tries again after this long.
const AGAIN: Duration = Duration::from_millis(100);
/// A rate is counted over windows of one second that begin this often.
const STEP: Duration = Duration::from_millis(100);
/// First byte of a close frame (RFC 6455 section 5.5.1).
const CLOSE: u8 = 0x88;

enum State {
    Away,
    /// The connection is being made, or the request is on its way, or its answer is.
    Shaking(Progress),
    Open,
}

struct Client {
    socket: Option<OwnedFd>,
    state: State,
    asked: Instant,
    sent: bool,
}

#[derive(Default)]
struct Tally {
    closed: u64,
    close_codes: BTreeMap<String, u64>,
    failed: BTreeMap<String, u64>,
    /// When each handshake was done, and how long it took.
    done: Vec<(Duration, Duration)>,
}

struct Storm {
    address: SocketAddrV4,
    plan: Plan,
    poll: Poll,
    clients: Vec<Client>,
    /// Who wants to come, and from when on.
    coming: VecDeque<(Instant, usize)>,
    begun: Instant,
    tally: Tally,
    open: usize,
    scratch: Vec<u8>,
}

pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let port = args.require("port")?;
    let wanted: usize = args.require("connections")?;
    let opening_rate: f64 = args.get_or("opening-rate", 1000.0)?;
    let window = Duration::from_secs_f64(args.get_or("seconds", 20.0)?);
    let mut storm = Storm::new(port, wanted, opening_rate)?;
    if args.switch("at-once") {
        storm.drive(|storm| storm.begun.elapsed() > window)?;
        storm.report();
        return Ok(());
    }
    let patience = Instant::now() + Duration::from_secs_f64(wanted as f64 / opening_rate) + window;
    storm.drive(|storm| storm.open == wanted || Instant::now() > patience)?;
    if storm.open < wanted {
        return Err(format!("{} of {wanted} opened; {:?}", storm.open, storm.tally.failed).into());
    }
    println!("open");
    io::stdin().read_line(&mut String::new())?;
    (storm.tally, storm.begun) = (Tally::default(), Instant::now());
    storm.drive(|storm| storm.begun.elapsed() > window)?;
    storm.report();
    Ok(())
}

impl Storm {
    fn new(port: u16, wanted: usize, opening_rate: f64) -> io::Result<Self> {
        let begun = Instant::now();
        let clients = (0..wanted).map(|_| Client {
            socket: None,
            state: State::Away,
            asked: begun,
            sent: false,
        });
        let gap = Duration::from_secs_f64(1.0 / opening_rate);
        Ok(Self {
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            plan: Plan::new(Kind::Upgrade),
            poll: Poll::new()?,
            clients: clients.collect(),
            coming: (0..wanted).map(|n| (begun + gap * n as u32, n)).collect(),
            begun,
            tally: Tally::default(),
            open: 0,
            scratch: vec![0; 16 * 1024],
        })
    }

    fn drive(&mut self, over: impl Fn(&Self) -> bool) -> io::Result<()> {
        let mut ready = Vec::new();
        while !over(self) {
            let now = Instant::now();
            while let Some(&(due, index)) = self.coming.front() {
                if due > now {
                    break;
                }
                self.coming.pop_front();
                self.come(index)?;
            }
            self.poll.wait(Some(TURN), &mut ready)?;
            for (index, _) in &ready {
                self.turn(*index);
            }
        }
        Ok(())
    }

    /// Begins a connection, which does not wait for the other side.
    fn come(&mut self, index: usize) -> io::Result<()> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        self.poll.add(&socket, index, Flags::IN | Flags::OUT)?;
        let client = &mut self.clients[index];
        (client.asked, client.sent, client.state) =
            (Instant::now(), false, State::Shaking(Progress::default()));
        let connecting = connect(&socket, &self.address);
        client.socket = Some(socket);
        match connecting {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => self.refused(index, io::Error::from(error).kind().to_string()),
        }
        Ok(())
    }

    fn turn(&mut self, index: usize) {
        match self.clients[index].state {
            State::Away => {}
            State::Shaking(_) => match self.shake(index) {
                Ok(true) => {
                    let asked = self.clients[index].asked;
                    self.clients[index].state = State::Open;
                    self.open += 1;
                    self.tally.done.push((self.begun.elapsed(), asked.elapsed()));
                }
                Ok(false) => {}
                Err(why) => self.refused(index, why),
            },
            State::Open => self.listen(index),
        }
    }

    /// Goes on with a handshake; true when it is done.
    fn shake(&mut self, index: usize) -> Result<bool, String> {
        let client = &mut self.clients[index];
        let Some(socket) = &client.socket else {
            return Ok(false);
        };
        let told = |error: io::Error| error.kind().to_string();
        if !client.sent {
            return match moved(send(socket, &self.plan.request, SendFlags::NOSIGNAL)).map_err(told)? {
                Moved::Blocked => Ok(false),
                Moved::Bytes(count) if count == self.plan.request.len() => {
                    client.sent = true;
                    self.poll.modify(socket, index, Flags::IN).map_err(told)?;
                    Ok(false)
                }
                Moved::Bytes(_) => Err("a handshake that does not fit".to_owned()),
            };
        }
        let State::Shaking(progress) = &mut client.state else {
            return Ok(false);
        };
        match moved(rustix::io::read(socket, &mut self.scratch)).map_err(told)? {
            Moved::Blocked => Ok(false),
            Moved::Bytes(0) => Err("closed".to_owned()),
            Moved::Bytes(count) => {
                let bytes = &self.scratch[..count];
                let status = || String::from_utf8_lossy(bytes.get(9..12).unwrap_or_default()).into_owned();
                self.plan.take(progress, bytes).ok_or_else(status)
            }
        }
    }

    /// Nothing but the end is expected from an open one.
    fn listen(&mut self, index: usize) {
        let Some(socket) = &self.clients[index].socket else {
            return;
        };
        let code = match moved(rustix::io::read(socket, &mut self.scratch)) {
            Ok(Moved::Blocked) => return,
            Ok(Moved::Bytes(count)) if count >= 4 && self.scratch[0] == CLOSE => {
                u16::from_be_bytes([self.scratch[2], self.scratch[3]]).to_string()
            }
            Ok(Moved::Bytes(_)) => "end".to_owned(),
            Err(_) => "reset".to_owned(),
        };
        self.tally.closed += 1;
        *self.tally.close_codes.entry(code).or_default() += 1;
        self.open -= 1;
        self.leave(index, Duration::ZERO);
    }

    fn refused(&mut self, index: usize, why: String) {
        *self.tally.failed.entry(why).or_default() += 1;
        self.leave(index, AGAIN);
    }

    /// Comes back after `wait`.
    fn leave(&mut self, index: usize, wait: Duration) {
        let client = &mut self.clients[index];
        (client.socket, client.state) = (None, State::Away);
        let due = Instant::now() + wait;
        let at = self.coming.partition_point(|(other, _)| *other <= due);
        self.coming.insert(at, (due, index));
    }

    fn report(&self) {
        let Tally {
            closed,
            close_codes,
            failed,
            done,
        } = &self.tally;
        let mut took: Vec<Duration> = done.iter().map(|(_, took)| *took).collect();
        took.sort_unstable();
        let millis = |time: Duration| (time.as_secs_f64() * 1e5).round() / 100.0;
        let quantile = |share: f64| {
            let at = ((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1));
            took.get(at).copied().map(millis)
        };
        let sample = json!({
            "closed": closed, "close_codes": close_codes, "handshakes": done.len(), "failed": failed,
            "open": self.open, "not_back": self.clients.len() - self.open, "most_in_a_second": most_in_a_second(done),
            "last_seconds": done.last().map(|(at, _)| at.as_secs_f64()),
            "p50_ms": quantile(0.5), "p99_ms": quantile(0.99), "max_ms": quantile(1.0),
        });
        println!("{sample}");
    }
}

/// The most handshakes that any second had.
fn most_in_a_second(done: &[(Duration, Duration)]) -> usize {
    let last = done.last().map_or(Duration::ZERO, |(at, _)| *at);
    let mut most = 0;
    let mut from = Duration::ZERO;
    while from <= last {
        let until = from + Duration::from_secs(1);
        let begin = done.partition_point(|(at, _)| *at < from);
        let end = done.partition_point(|(at, _)| *at < until);
        most = most.max(end - begin);
        from += STEP;
    }
    most
}
