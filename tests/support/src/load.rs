//! A steady keep-alive load that knows of every request whether it worked, and of every connection whether
//! somebody else ended it.

use crate::address::Address;
use crate::raw::{Broken, Conn};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// What a load saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub ok: u64,
    /// Requests without the expected answer, by cause.
    pub failed: BTreeMap<String, u64>,
    /// Connections that the other side ended, whether a request failed by it or not.
    pub closed: u64,
}

impl Report {
    fn fail(&mut self, cause: String) {
        *self.failed.entry(cause).or_default() += 1;
    }

    fn join(mut self, other: Self) -> Self {
        self.ok += other.ok;
        self.closed += other.closed;
        for (cause, n) in other.failed {
            *self.failed.entry(cause).or_default() += n;
        }
        self
    }

    /// # Panics
    /// When a request failed or a connection was ended.
    #[track_caller]
    pub fn expect_flawless(&self) {
        assert!(
            self.failed.is_empty() && self.closed == 0 && self.ok > 0,
            "{self:?}"
        );
    }
}

/// Clients in threads, one connection each, one request after another.
#[derive(Debug)]
pub struct Load {
    stopping: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    clients: Vec<thread::JoinHandle<Report>>,
}

impl Load {
    /// Starts clients that send `request` again and again and expect this status.
    pub fn start(
        address: impl Into<Address>,
        clients: usize,
        request: impl Into<String>,
        status: u16,
    ) -> Self {
        let address = address.into();
        let request = request.into();
        let stopping = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let spawn = |_| {
            let (address, request) = (address.clone(), request.clone());
            let (stopping, done) = (Arc::clone(&stopping), Arc::clone(&done));
            thread::spawn(move || client(&address, &request, status, &stopping, &done))
        };
        let clients = (0..clients).map(spawn).collect();
        Self {
            stopping,
            done,
            clients,
        }
    }

    /// Starts clients that GET a path and expect `200`.
    pub fn get(address: impl Into<Address>, clients: usize, path: &str) -> Self {
        Self::start(
            address,
            clients,
            format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"),
            200,
        )
    }

    /// Answers received so far, right or wrong.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends the load after the requests under way.
    ///
    /// # Panics
    /// When a client panicked.
    #[must_use]
    pub fn stop(mut self) -> Report {
        self.stopping.store(true, Ordering::SeqCst);
        let reports = self
            .clients
            .drain(..)
            .map(|c| c.join().expect("a client of the load panicked"));
        reports.fold(Report::default(), Report::join)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
    }
}

fn client(address: &Address, request: &str, status: u16, stopping: &AtomicBool, done: &AtomicU64) -> Report {
    let mut report = Report::default();
    let method = request.split(' ').next().unwrap_or_default();
    while !stopping.load(Ordering::SeqCst) {
        let mut conn = match Conn::try_connect(address) {
            Ok(conn) => conn,
            Err(e) => {
                report.fail(format!("connect: {}", e.kind()));
                continue;
            }
        };
        while !stopping.load(Ordering::SeqCst) {
            let sent = conn
                .try_send(request)
                .map_err(|e| Broken::Malformed(format!("send: {}", e.kind())));
            let answer = sent.and_then(|()| conn.try_response_to(method));
            done.fetch_add(1, Ordering::Relaxed);
            match answer {
                Ok(r) if r.cut.is_some() => report.fail(format!("cut: {:?}", r.cut)),
                Ok(r) if r.status != status => report.fail(format!("{} {:?}", r.status, r.token())),
                Ok(r) if !r.keeps_alive() => {
                    report.ok += 1;
                    report.closed += 1;
                    break;
                }
                Ok(_) => {
                    report.ok += 1;
                    continue;
                }
                Err(e) => report.fail(format!("{e:?}")),
            }
            report.closed += 1;
            break;
        }
    }
    report
}
