//! Peers that vanish without a word: the kernel asks both sides of every tunnel whether they are still there.

use crate::in_front_of;
use testkit::ws::{self, Client};
use testkit::{Address, eventually_some};

/// What the kernel says of a connection of this machine: its timer, and in how many seconds that is due.
struct Timer {
    kind: u8,
    seconds: u64,
}

/// Keep-alive, where nothing else is under way.
const KEEPALIVE: u8 = 2;

/// The timer of the socket that is bound to the one port and connected to the other.
fn timer(local: u16, remote: u16) -> Option<Timer> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = |field: &str| u16::from_str_radix(field.split_once(':')?.1, 16).ok();
        if port(fields[1]) != Some(local) || port(fields[2]) != Some(remote) {
            return None;
        }
        let (kind, ticks) = fields[5].split_once(':')?;
        Some(Timer {
            kind: u8::from_str_radix(kind, 16).ok()?,
            // There are a hundred a second, whatever the kernel counts in.
            seconds: u64::from_str_radix(ticks, 16).ok()? / 100,
        })
    })
}

fn port(address: &Address) -> u16 {
    let text = address.to_string();
    text.rsplit_once(':').expect("a port").1.parse().expect("a port")
}

/// Waits until a socket is asked for signs of life, within so many seconds.
#[track_caller]
fn asked_within(seconds: u64, local: u16, remote: u16) {
    let due = eventually_some("its keep-alive timer", || {
        timer(local, remote).filter(|timer| timer.kind == KEEPALIVE)
    });
    assert!(due.seconds <= seconds, "{} s", due.seconds);
}

#[test]
fn both_sides_of_a_tunnel_are_asked_for_signs_of_life_without_a_key() {
    let backend = ws::echo_backend();
    let gateway = in_front_of(&backend);
    let mut client = Client::connect(gateway.connect(), "/");
    client.echo("hello");
    let own = client.conn.local();
    let own = own.rsplit_once(':').expect("a port").1.parse().expect("a port");
    asked_within(60, port(&gateway.web()), own);
    // Of the two ends of the connection to the endpoint, the gateway's is the one whose port is not the endpoint's.
    let endpoint = port(&backend.address());
    let local = eventually_some("the connection to the endpoint", || {
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = |field: &str| u16::from_str_radix(field.split_once(':')?.1, 16).ok();
            // Established.
            (port(fields[2]) == Some(endpoint) && fields[3] == "01").then(|| port(fields[1]))?
        })
    });
    asked_within(30, local, endpoint);
}
