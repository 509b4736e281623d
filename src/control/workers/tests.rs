use super::*;
use crate::config::{Environment, load_text};
use crate::control::systemd::Inherited;
use crate::net::listen::Address;
use crate::proxy::board::Board;
use crate::snapshot::{self, Live, Parts};
use crate::telemetry::access_log::AccessWriter;
use crate::telemetry::metrics::Metrics;
use crate::upstream::shared::names::Directory;
use crate::upstream::shared::{Overrides, Registry};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// Longest wait for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn silence_is_late_after_one_second_and_stalled_after_ten() {
    let ms = Duration::from_millis;
    assert_eq!(pulse(ms(1000)), Pulse::Turning);
    assert_eq!(pulse(ms(1001)), Pulse::Late);
    assert_eq!(pulse(ms(10_000)), Pulse::Late);
    assert_eq!(pulse(ms(10_001)), Pulse::Stalled);
}

#[test]
fn time_that_the_watcher_slept_through_is_nobodys_silence() {
    assert_eq!(silence(60_000, 1_000, 0), Duration::from_secs(59));
    assert_eq!(silence(60_000, 1_000, 60_000), Duration::ZERO);
    assert_eq!(silence(61_500, 1_000, 60_000), Duration::from_millis(1500));
    assert_eq!(silence(5, 10, 0), Duration::ZERO, "a tick just after the look");
}

/// Running workers with one listener.
struct Running {
    workers: Workers,
    listeners: Listeners,
    web: SocketAddr,
}

fn running(count: usize) -> Running {
    let text = "[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\nrespond = { body = \"hi\" }\n";
    let config = load_text("test", text, &Environment::default()).unwrap().config;
    let metrics = Metrics::new();
    let access = AccessWriter::start(Arc::clone(&metrics.access_log)).unwrap();
    let registry = Registry::default();
    let parts = Parts {
        registry: &registry,
        access: &access,
        directory: &Directory::default(),
        overrides: &Overrides::default(),
        tickets: &Arc::default(),
        acme: &crate::tls::acme::Acme::default(),
    };
    let (snapshot, _) = snapshot::compile(&config, 1, parts).unwrap();
    let context = WorkerContext {
        live: Arc::new(Live::new(snapshot)),
        metrics,
        access,
        board: Arc::new(Board::default()),
        reports: tokio::sync::mpsc::channel(64).0,
    };
    let mut listeners = Listeners::new(count, Inherited::default());
    let prepared = listeners.prepare(&config.listeners).unwrap();
    let moves = listeners.apply(prepared);
    let mut workers = Workers::start(count, context).unwrap();
    workers.apply(moves);
    let web = match &listeners.bound()[0].address {
        Address::Tcp(address) => *address,
        Address::Unix(path) => panic!("unix:{}", path.display()),
    };
    Running {
        workers,
        listeners,
        web,
    }
}

impl Running {
    fn answers(&self) -> bool {
        let mut stream = TcpStream::connect(self.web).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.starts_with("HTTP/1.1 200")
    }

    /// Looks until something is seen.
    fn sights(&mut self) -> Vec<Sight> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let sights = self.workers.look(&self.listeners);
            if !sights.is_empty() {
                return sights;
            }
            std::thread::yield_now();
        }
        panic!("nothing was seen");
    }

    /// Ends a worker's thread behind the back of its keeper.
    fn kill(&mut self, worker: usize) {
        self.workers.slots[worker]
            .handle
            .commands
            .blocking_send(Command::Stop)
            .unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.workers.stop();
    }
}

#[test]
fn a_worker_that_died_is_replaced_and_its_sockets_are_served_on() {
    let mut running = running(1);
    assert!(running.answers());
    running.kill(0);
    assert_eq!(
        running.sights(),
        [Sight::Replaced {
            worker: 0,
            why: Cause::Died
        }]
    );
    assert!(running.answers());
    let view = running.workers.view();
    assert_eq!((view.len(), view[0].replacements), (1, 1));
}

#[test]
fn after_too_many_replacements_it_gives_up() {
    let mut running = running(1);
    for _ in 0..MAX_REPLACEMENTS {
        running.kill(0);
        assert_eq!(
            running.sights(),
            [Sight::Replaced {
                worker: 0,
                why: Cause::Died
            }]
        );
    }
    running.kill(0);
    assert_eq!(running.sights(), [Sight::GiveUp]);
}

#[test]
fn workers_that_were_told_to_end_are_not_replaced() {
    let mut running = running(2);
    running.workers.stop();
    let deadline = Instant::now() + PATIENCE;
    while !running.workers.ended() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(running.workers.ended());
    assert!(running.workers.look(&running.listeners).is_empty());
}
