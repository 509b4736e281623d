//! A name server whose answers the test writes: over UDP and TCP on the same port, late, wrong or not at all when
//! told so. It knows only as much of RFC 1035 as a stub resolver sees.

use crate::eventually::pace;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How often the threads look whether they are to end.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes of an answer over UDP to who does not say that it takes more (RFC 1035 section 4.2.1).
const PLAIN_UDP: usize = 512;

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const SOA: u16 = 6;
const SRV: u16 = 33;
const OPT: u16 = 41;

/// How a name is answered instead of with its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// `SERVFAIL`.
    ServFail,
    /// `REFUSED`.
    Refused,
    /// `NXDOMAIN`: there is no such name.
    NoSuchName,
    /// No answer at all.
    Silence,
    /// Bytes that are no message.
    Garbage,
}

/// One service record (RFC 2782).
#[derive(Clone, Debug)]
pub struct Service {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub target: String,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    ttl: u32,
    addresses: Vec<IpAddr>,
    services: Vec<Service>,
    alias: Option<String>,
    failure: Option<Failure>,
    delay: Duration,
}

#[derive(Debug, Default)]
struct Zone {
    entries: HashMap<String, Entry>,
    /// Names of which only these record types fail.
    failing_types: HashMap<(String, u16), Failure>,
    queries: HashMap<String, usize>,
    /// Nobody is answered.
    down: bool,
    /// How long it holds that there is nothing; without it that is not said.
    negative_ttl: Option<u32>,
    /// Answers with services carry the addresses of their hosts.
    encloses: bool,
}

#[derive(Debug, Default)]
struct Shared {
    zone: Mutex<Zone>,
    over_tcp: AtomicUsize,
    ended: AtomicBool,
}

impl Shared {
    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().expect("zone")
    }
}

/// The name server of a test; ends when dropped.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl NameServer {
    /// # Panics
    /// When no port is free on both UDP and TCP.
    #[must_use]
    pub fn start() -> Self {
        Self::serve(sockets())
    }

    /// On this port of 127.0.0.1, for who can't be told another than 53.
    ///
    /// # Panics
    /// When it is taken, or not ours to take.
    #[must_use]
    pub fn start_on(port: u16) -> Self {
        Self::serve(bound(port).expect("the port"))
    }

    fn serve((udp, tcp): (UdpSocket, TcpListener)) -> Self {
        let address = udp.local_addr().expect("address");
        let shared = Arc::new(Shared::default());
        let for_udp = Arc::clone(&shared);
        thread::spawn(move || serve_udp(&udp, &for_udp));
        let for_tcp = Arc::clone(&shared);
        thread::spawn(move || serve_tcp(&tcp, &for_tcp));
        Self { address, shared }
    }

    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The A and AAAA records of a name.
    pub fn addresses(&self, name: &str, ttl: u32, addresses: &[IpAddr]) {
        self.change(name, |entry| {
            entry.ttl = ttl;
            entry.alias = None;
            entry.addresses = addresses.to_vec();
        });
    }

    /// The SRV records of a name.
    pub fn services(&self, name: &str, ttl: u32, services: &[Service]) {
        self.change(name, |entry| {
            entry.ttl = ttl;
            entry.services = services.to_vec();
        });
    }

    /// A CNAME; the answer carries the records of its target too, as resolvers give them.
    pub fn alias(&self, name: &str, ttl: u32, target: &str) {
        self.change(name, |entry| {
            entry.ttl = ttl;
            entry.alias = Some(target.to_owned());
        });
    }

    /// From now on the name is answered like this.
    pub fn fails(&self, name: &str, failure: Failure) {
        self.change(name, |entry| entry.failure = Some(failure));
    }

    /// From now on the name's records are given again.
    pub fn recovers(&self, name: &str) {
        self.change(name, |entry| entry.failure = None);
        let name = canonical(name);
        let failing_types = &mut self.shared.zone().failing_types;
        failing_types.retain(|(failing, _), _| *failing != name);
    }

    /// Questions for IPv6 addresses are answered like this, those for IPv4 as ever.
    pub fn fails_for_ipv6(&self, name: &str, failure: Failure) {
        let mut zone = self.shared.zone();
        zone.failing_types.insert((canonical(name), AAAA), failure);
    }

    /// From now on answers with services carry the addresses of their hosts along.
    pub fn enclose_addresses(&self) {
        self.shared.zone().encloses = true;
    }

    /// Answers for the name take this long.
    pub fn delay(&self, name: &str, delay: Duration) {
        self.change(name, |entry| entry.delay = delay);
    }

    /// From now on it is said how long it holds that there is nothing (RFC 2308): the minimum of the zone's SOA record.
    pub fn nothing_holds_for(&self, seconds: u32) {
        self.shared.zone().negative_ttl = Some(seconds);
    }

    /// Says nothing to anybody.
    pub fn down(&self) {
        self.shared.zone().down = true;
    }

    pub fn up(&self) {
        self.shared.zone().down = false;
    }

    /// Questions for a name so far, those without an answer too.
    #[must_use]
    pub fn queries(&self, name: &str) -> usize {
        let zone = self.shared.zone();
        zone.queries.get(&canonical(name)).copied().unwrap_or(0)
    }

    /// Questions for all names so far.
    #[must_use]
    pub fn all_queries(&self) -> usize {
        self.shared.zone().queries.values().sum()
    }

    /// Questions that came over TCP.
    #[must_use]
    pub fn queries_over_tcp(&self) -> usize {
        self.shared.over_tcp.load(Ordering::SeqCst)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Entry)) {
        change(self.shared.zone().entries.entry(canonical(name)).or_default());
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
    }
}

/// Lower case, without the dot at the end.
fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// A UDP and a TCP socket on the same port.
fn sockets() -> (UdpSocket, TcpListener) {
    (0..64)
        .find_map(|_| bound(0))
        .expect("a port that is free on both UDP and TCP")
}

/// Both on one port; 0 for any.
fn bound(port: u16) -> Option<(UdpSocket, TcpListener)> {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
    let udp = UdpSocket::bind(tcp.local_addr().expect("address")).ok()?;
    udp.set_read_timeout(Some(LOOK)).expect("timeout");
    tcp.set_nonblocking(true).expect("nonblocking");
    Some((udp, tcp))
}

fn serve_udp(socket: &UdpSocket, shared: &Arc<Shared>) {
    let mut buf = [0; 4096];
    while !shared.ended.load(Ordering::SeqCst) {
        let Ok((len, peer)) = socket.recv_from(&mut buf) else {
            continue;
        };
        let Some((delay, answer)) = answer(&buf[..len], shared, false) else {
            continue;
        };
        if delay.is_zero() {
            let _ = socket.send_to(&answer, peer);
        } else if let Ok(socket) = socket.try_clone() {
            thread::spawn(move || {
                pace(delay);
                let _ = socket.send_to(&answer, peer);
            });
        }
    }
}

fn serve_tcp(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.ended.load(Ordering::SeqCst) {
        let Ok((stream, _)) = listener.accept() else {
            pace(LOOK);
            continue;
        };
        let shared = Arc::clone(shared);
        thread::spawn(move || serve_stream(stream, &shared));
    }
}

/// Messages with their length before them (RFC 1035 section 4.2.2).
fn serve_stream(mut stream: TcpStream, shared: &Arc<Shared>) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    loop {
        let mut len = [0; 2];
        if stream.read_exact(&mut len).is_err() {
            return;
        }
        let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
        if stream.read_exact(&mut query).is_err() {
            return;
        }
        shared.over_tcp.fetch_add(1, Ordering::SeqCst);
        let Some((delay, answer)) = answer(&query, shared, true) else {
            continue;
        };
        pace(delay);
        let len = u16::try_from(answer.len())
            .expect("an answer that fits")
            .to_be_bytes();
        if stream.write_all(&[&len[..], &answer].concat()).is_err() {
            return;
        }
    }
}

/// A question as it came.
struct Question {
    id: [u8; 2],
    name: String,
    kind: u16,
    /// The question section, to be sent back.
    raw: Vec<u8>,
    /// Bytes that the asker takes over UDP.
    room: usize,
}

fn parse(query: &[u8]) -> Option<Question> {
    let mut at = 12;
    let mut labels: Vec<String> = Vec::new();
    loop {
        let len = usize::from(*query.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + len)?).into_owned());
        at += len;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    let raw = query.get(12..at + 4)?.to_vec();
    // What may follow is the OPT record (RFC 6891): the root's name, its type, the size as the class.
    let room = match query.get(at + 4..at + 9) {
        Some([0, high, low, size @ ..]) if u16::from_be_bytes([*high, *low]) == OPT => {
            usize::from(u16::from_be_bytes([size[0], size[1]])).max(PLAIN_UDP)
        }
        _ => PLAIN_UDP,
    };
    Some(Question {
        id: [query[0], query[1]],
        name: canonical(&labels.join(".")),
        kind,
        raw,
        room,
    })
}

/// The answer, and how long it takes; `None` for silence.
fn answer(query: &[u8], shared: &Shared, over_tcp: bool) -> Option<(Duration, Vec<u8>)> {
    let question = parse(query)?;
    let mut zone = shared.zone();
    *zone.queries.entry(question.name.clone()).or_default() += 1;
    if zone.down {
        return None;
    }
    let entry = zone.entries.get(&question.name).cloned();
    let type_fails = zone
        .failing_types
        .get(&(question.name.clone(), question.kind))
        .copied();
    let failure = match &entry {
        None => Some(Failure::NoSuchName),
        Some(entry) => type_fails.or(entry.failure),
    };
    let delay = entry.as_ref().map_or(Duration::ZERO, |entry| entry.delay);
    let (code, records) = match failure {
        Some(Failure::Silence) => return None,
        Some(Failure::Garbage) => return Some((delay, [&question.id[..], b"garbage"].concat())),
        Some(Failure::ServFail) => (2, Vec::new()),
        Some(Failure::NoSuchName) => (3, Vec::new()),
        Some(Failure::Refused) => (5, Vec::new()),
        None => (0, records(&zone, &question.name, question.kind)),
    };
    let additional = match entry.filter(|_| zone.encloses && question.kind == SRV && code == 0) {
        Some(entry) => enclosed(&zone, &entry),
        None => Vec::new(),
    };
    let authority = match zone.negative_ttl {
        Some(seconds) if records.is_empty() && matches!(code, 0 | 3) => vec![soa(seconds)],
        _ => Vec::new(),
    };
    let whole = message(&question, code, [&records, &authority, &additional], false);
    if !over_tcp && whole.len() > question.room {
        return Some((delay, message(&question, code, [&[], &[], &[]], true)));
    }
    Some((delay, whole))
}

/// The records for a question, through aliases.
fn records(zone: &Zone, name: &str, kind: u16) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut name = name.to_owned();
    for _ in 0..8 {
        let Some(entry) = zone.entries.get(&name) else {
            break;
        };
        let Some(target) = &entry.alias else {
            found.extend(own_records(entry, &name, kind));
            break;
        };
        found.push(record(&name, CNAME, entry.ttl, &encoded(target)));
        name = canonical(target);
    }
    found
}

/// The addresses of the hosts of services.
fn enclosed(zone: &Zone, entry: &Entry) -> Vec<Vec<u8>> {
    let of = |service: &Service| {
        let v4 = records(zone, &canonical(&service.target), A);
        let v6 = records(zone, &canonical(&service.target), AAAA);
        [v4, v6].concat()
    };
    entry.services.iter().flat_map(of).collect()
}

fn own_records(entry: &Entry, name: &str, kind: u16) -> Vec<Vec<u8>> {
    let of = |data: Vec<u8>| record(name, kind, entry.ttl, &data);
    match kind {
        A | AAAA => entry
            .addresses
            .iter()
            .filter_map(|address| match (kind, address) {
                (A, IpAddr::V4(ip)) => Some(ip.octets().to_vec()),
                (AAAA, IpAddr::V6(ip)) => Some(ip.octets().to_vec()),
                _ => None,
            })
            .map(of)
            .collect(),
        SRV => entry
            .services
            .iter()
            .map(|service| {
                let mut data = Vec::new();
                for number in [service.priority, service.weight, service.port] {
                    data.extend(number.to_be_bytes());
                }
                data.extend(encoded(&service.target));
                data
            })
            .map(of)
            .collect(),
        _ => Vec::new(),
    }
}

fn record(name: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut out = encoded(name);
    out.extend(kind.to_be_bytes());
    out.extend(1_u16.to_be_bytes());
    out.extend(ttl.to_be_bytes());
    out.extend(u16::try_from(data.len()).expect("short data").to_be_bytes());
    out.extend(data);
    out
}

/// The record of the zone `test`, to which all names belong.
fn soa(negative_ttl: u32) -> Vec<u8> {
    let mut data = [encoded("ns.test"), encoded("admin.test")].concat();
    // Serial, refresh, retry and expire mean nothing to a resolver; the last one is the minimum.
    for number in [1, 3600, 600, 86_400, negative_ttl] {
        data.extend(number.to_be_bytes());
    }
    record("test", SOA, negative_ttl, &data)
}

fn encoded(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in canonical(name).split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).expect("a label of at most 63 bytes"));
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

/// A message: recursion available, the question as it came, the records.
fn message(question: &Question, code: u8, sections: [&[Vec<u8>]; 3], truncated: bool) -> Vec<u8> {
    let mut out = question.id.to_vec();
    out.push(0x81 | if truncated { 0x02 } else { 0 });
    out.push(0x80 | code);
    let count = |list: &[Vec<u8>]| u16::try_from(list.len()).expect("a number of records that fits");
    out.extend(1_u16.to_be_bytes());
    for section in sections {
        out.extend(count(section).to_be_bytes());
    }
    out.extend(&question.raw);
    for record in sections.into_iter().flatten() {
        // Names after the first use are a pointer to the question's (RFC 1035 section 4.1.4).
        let own = encoded(&question.name);
        match record.strip_prefix(&own[..]) {
            Some(rest) => out.extend([&[0xc0, 12][..], rest].concat()),
            None => out.extend(record),
        }
    }
    out
}
