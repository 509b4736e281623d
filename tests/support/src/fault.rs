//! A TCP relay that misbehaves on request, put between the gateway and a backend, or a client and the gateway.

use crate::address::Address;
use crate::eventually::pace;
use crate::net::{local_address, reserve};
use socket2::Socket;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Bytes that what a client began with is told by.
const BEGINNING: usize = 1024;

/// What the relay does to bytes and connections, from the moment it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Accepts, carries nothing, ends nothing.
    Blackhole,
    /// Carries nothing more towards the client on connections on which the client began by saying this.
    Mute(&'static str),
    /// Takes nothing more from the server on connections on which the client began by saying this.
    Stall(&'static str),
    /// Keeps back whatever of the client has these words in it, and all that it says after that on the connection,
    /// until another fault is set.
    HoldBack(&'static str),
    /// Each piece waits this long.
    Delay(Duration),
    /// Bytes per second, each direction.
    Throttle(u32),
    /// Resets both sides after this many bytes towards the client side.
    ResetAfter(usize),
    /// Ends both sides after this many bytes towards the client side.
    CutAfter(usize),
    /// Ends only the direction towards the client side, after this many bytes.
    HalfCloseAfter(usize),
}

#[derive(Debug)]
struct Shared {
    target: Address,
    fault: Mutex<Fault>,
    stopping: AtomicBool,
    /// Copies of what is open, by pair.
    sockets: Mutex<Vec<(u64, Socket)>>,
    pairs: AtomicU64,
    /// Pieces that are kept back.
    held: AtomicU64,
    /// What servers said to clients of which a piece was kept back, after that.
    answers: Mutex<Vec<u8>>,
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().expect("fault")
    }

    /// Waits for as long as this is so, and the relay is there.
    fn wait_while(&self, so: impl Fn(Fault) -> bool) {
        while so(self.fault()) && !self.stopping.load(Ordering::SeqCst) {
            pace(Duration::from_millis(2));
        }
    }
}

/// What is known of a connection that is carried.
#[derive(Debug, Default)]
struct Said {
    /// What the client began with.
    beginning: Mutex<Vec<u8>>,
    /// A piece of the client was kept back.
    held: AtomicBool,
}

/// A relay on a port of its own.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Keeps the port while the relay refuses.
    _reserve: Socket,
    listener: Mutex<Option<Socket>>,
}

impl Relay {
    #[must_use]
    pub fn to(target: impl Into<Address>) -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), target)
    }

    /// One at an address of one's own choice.
    #[must_use]
    pub fn at(address: SocketAddr, target: impl Into<Address>) -> Self {
        let reserve = reserve(address);
        let shared = Shared {
            target: target.into(),
            fault: Mutex::new(Fault::None),
            stopping: AtomicBool::new(false),
            sockets: Mutex::default(),
            pairs: AtomicU64::new(0),
            held: AtomicU64::new(0),
            answers: Mutex::default(),
        };
        let relay = Self {
            address: local_address(&reserve),
            shared: Arc::new(shared),
            _reserve: reserve,
            listener: Mutex::new(None),
        };
        relay.accept();
        relay
    }

    #[must_use]
    pub fn address(&self) -> Address {
        self.address.into()
    }

    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().expect("fault") = fault;
    }

    /// Pieces of clients that are kept back by [`Fault::HoldBack`].
    #[must_use]
    pub fn held(&self) -> u64 {
        self.shared.held.load(Ordering::SeqCst)
    }

    /// What servers answered once pieces were no longer kept back.
    #[must_use]
    pub fn answers(&self) -> String {
        String::from_utf8_lossy(&self.shared.answers.lock().expect("answers")).into_owned()
    }

    /// Connecting is refused from now on; what is open stays.
    pub fn refuse(&self) {
        if let Some(listener) = self.listener.lock().expect("listener").take() {
            let _ = listener.shutdown(Shutdown::Both);
        }
    }

    /// Connecting works again after [`Relay::refuse`].
    pub fn accept(&self) {
        let socket = reserve(self.address);
        socket.listen(1024).expect("listen");
        let copy = socket.try_clone().expect("dup");
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            while let Ok((client, _)) = copy.accept() {
                if shared.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                thread::spawn(move || relay(&client, &shared));
            }
        });
        *self.listener.lock().expect("listener") = Some(socket);
    }

    /// Resets everything that is open.
    pub fn reset_connections(&self) {
        for (_, socket) in self.shared.sockets.lock().expect("sockets").drain(..) {
            let _ = socket.set_linger(Some(Duration::ZERO));
            let _ = socket.shutdown(Shutdown::Read);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.refuse();
        self.reset_connections();
    }
}

fn relay(client: &Socket, shared: &Arc<Shared>) {
    let Ok((server, target)) = shared.target.socket() else {
        return;
    };
    if server.connect(&target).is_err() {
        let _ = client.set_linger(Some(Duration::ZERO));
        return;
    }
    let pair = shared.pairs.fetch_add(1, Ordering::Relaxed);
    {
        let mut sockets = shared.sockets.lock().expect("sockets");
        sockets.extend(
            [client.try_clone(), server.try_clone()]
                .into_iter()
                .flatten()
                .map(|s| (pair, s)),
        );
    }
    let said = Said::default();
    thread::scope(|scope| {
        scope.spawn(|| carry(client, &server, shared, false, &said));
        carry(&server, client, shared, true, &said);
    });
    // The copies first: only the last descriptor's close ends a connection.
    shared
        .sockets
        .lock()
        .expect("sockets")
        .retain(|(n, _)| *n != pair);
}

/// Carries one direction to its end. Counting faults watch the direction towards the client side.
fn carry(mut from: &Socket, mut to: &Socket, shared: &Shared, counted: bool, said: &Said) {
    let mut buf = vec![0; 16 << 10];
    let mut passed = 0;
    let began_with = |words: &str| has(&said.beginning.lock().expect("said"), words.as_bytes());
    loop {
        shared.wait_while(|fault| matches!(fault, Fault::Stall(words) if counted && began_with(words)));
        let Ok(n) = from.read(&mut buf) else { break };
        if n == 0 {
            break;
        }
        if counted {
            if said.held.load(Ordering::SeqCst) && shared.held.load(Ordering::SeqCst) == 0 {
                shared.answers.lock().expect("answers").extend(&buf[..n]);
            }
        } else {
            let mut beginning = said.beginning.lock().expect("said");
            let room = BEGINNING.saturating_sub(beginning.len());
            beginning.extend(&buf[..n.min(room)]);
            drop(beginning);
            hold_back(&buf[..n], shared, said);
        }
        let keep = match shared.fault() {
            Fault::Mute(words) if counted && began_with(words) => 0,
            Fault::None | Fault::Mute(_) | Fault::Stall(_) | Fault::HoldBack(_) => n,
            Fault::Blackhole => 0,
            Fault::Delay(time) => {
                pace(time);
                n
            }
            Fault::Throttle(rate) => {
                pace(Duration::from_secs_f64(n as f64 / f64::from(rate)));
                n
            }
            Fault::ResetAfter(limit) | Fault::CutAfter(limit) | Fault::HalfCloseAfter(limit) if counted => {
                n.min(limit.saturating_sub(passed))
            }
            Fault::ResetAfter(_) | Fault::CutAfter(_) | Fault::HalfCloseAfter(_) => n,
        };
        if to.write_all(&buf[..keep]).is_err() {
            break;
        }
        passed += keep;
        if counted && end_by_fault(from, to, shared.fault(), passed) {
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Waits with a piece of the client's that is to be kept back.
fn hold_back(piece: &[u8], shared: &Shared, said: &Said) {
    let is_held = |fault| matches!(fault, Fault::HoldBack(words) if has(piece, words.as_bytes()));
    if is_held(shared.fault()) {
        said.held.store(true, Ordering::SeqCst);
        shared.held.fetch_add(1, Ordering::SeqCst);
        shared.wait_while(is_held);
        shared.held.fetch_sub(1, Ordering::SeqCst);
    }
}

fn has(said: &[u8], words: &[u8]) -> bool {
    said.windows(words.len()).any(|window| window == words)
}

fn end_by_fault(from: &Socket, to: &Socket, fault: Fault, passed: usize) -> bool {
    match fault {
        Fault::ResetAfter(limit) if passed >= limit => {
            for socket in [from, to] {
                let _ = socket.set_linger(Some(Duration::ZERO));
                let _ = socket.shutdown(Shutdown::Read);
            }
        }
        Fault::CutAfter(limit) if passed >= limit => {
            for socket in [from, to] {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
        Fault::HalfCloseAfter(limit) if passed >= limit => {
            let _ = to.shutdown(Shutdown::Write);
        }
        _ => return false,
    }
    true
}
