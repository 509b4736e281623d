//! Machines that are none: network namespaces of this one, joined by bridges, whose cables can be pulled without a word
//! to anybody. A process in one of them is cut off as by a broken switch: nothing is refused, nothing ends.
//!
//! A test that wants them runs once more in a network of its own ([`run_again`]), so that nothing of it is left behind,
//! whatever happens. That takes root, or a system that gives users namespaces of their own.

use crate::redis::Place;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Set in the network of the test's own.
const INSIDE: &str = "TIDEGATE_TEST_NETWORK";

/// Whether this is the run in a network of its own.
#[must_use]
pub fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs this test, by its whole name, again in a network of its own. `false` where that can't be had.
///
/// # Panics
/// When it fails there.
#[track_caller]
#[must_use]
pub fn run_again(name: &str) -> bool {
    let tried = ["-n", "-rn"].into_iter().find(|flags| {
        let script = "ip link set lo up && ip link add tried type bridge && nsenter -t $$ -n true";
        let output = Command::new("unshare").args([flags, "sh", "-c", script]).output();
        output.is_ok_and(|output| output.status.success())
    });
    let Some(flags) = tried else {
        return false;
    };
    let status = Command::new("unshare")
        .args([flags, "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().expect("this program"))
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(
        status.expect("unshare").success(),
        "{name} in a network of its own"
    );
    true
}

#[track_caller]
fn ip(args: &str) {
    run("ip", args);
}

#[track_caller]
fn run(program: &str, args: &str) {
    let output = Command::new(program)
        .args(args.split_whitespace())
        .output()
        .expect(program);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args}: {said}");
}

/// A wire that machines are connected to; the test itself is on all of them, as `.1`.
#[derive(Debug)]
pub struct Wire {
    number: u8,
}

impl Wire {
    /// The wire `10.NUMBER.0.0/24`.
    #[must_use]
    pub fn new(number: u8) -> Self {
        ip(&format!("link add wire{number} type bridge"));
        // Of its own: otherwise it has the least of its cables', and others would look for it in vain for a while when
        // that one is pulled.
        ip(&format!(
            "link set wire{number} address 02:00:00:00:{number:02x}:01"
        ));
        ip(&format!("addr add 10.{number}.0.1/24 dev wire{number}"));
        ip(&format!("link set wire{number} up"));
        Self { number }
    }

    /// The test's own address on it.
    #[must_use]
    pub fn here(&self) -> String {
        format!("10.{}.0.1", self.number)
    }
}

/// A machine; gone with the value.
#[derive(Debug)]
pub struct Host {
    number: u8,
    holder: Child,
}

impl Host {
    /// A machine that is `.NUMBER` on these wires.
    ///
    /// # Panics
    /// When it can't be had.
    #[must_use]
    pub fn new(number: u8, wires: &[&Wire]) -> Self {
        let mut holder = Command::new("unshare")
            .args(["-n", "sh", "-c", "ip link set lo up && echo up && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut up = String::new();
        let out = holder.stdout.take().expect("standard output");
        BufReader::new(out).read_line(&mut up).expect("a machine");
        assert_eq!(up.trim(), "up");
        let host = Self { number, holder };
        for wire in wires {
            let (cable, plug, net) = (host.cable(wire), format!("eth{}", wire.number), wire.number);
            ip(&format!("link add {cable} type veth peer name {plug}"));
            ip(&format!("link set {plug} netns {}", host.holder.id()));
            host.plug_in(wire);
            ip(&format!("link set {cable} up"));
            let inside = |args: &str| run("nsenter", &format!("-t {} -n ip {args}", host.holder.id()));
            inside(&format!("addr add 10.{net}.0.{number}/24 dev {plug}"));
            inside(&format!("link set {plug} up"));
        }
        host
    }

    fn cable(&self, wire: &Wire) -> String {
        format!("w{}h{}", wire.number, self.number)
    }

    /// Its address on a wire.
    #[must_use]
    pub fn on(&self, wire: &Wire) -> String {
        format!("10.{}.0.{}", wire.number, self.number)
    }

    /// Pulls its cable: what it says, and what is said to it, is lost from now on.
    pub fn pull(&self, wire: &Wire) {
        ip(&format!("link set {} nomaster", self.cable(wire)));
    }

    pub fn plug_in(&self, wire: &Wire) {
        ip(&format!(
            "link set {} master wire{}",
            self.cable(wire),
            wire.number
        ));
    }

    /// The words before a command that is to run on it.
    #[must_use]
    pub fn runner(&self) -> Vec<String> {
        let pid = self.holder.id().to_string();
        ["nsenter", "-t", &pid, "-n"].map(str::to_owned).to_vec()
    }

    /// A server on it that others know by its address on one wire, and the test by that on another.
    #[must_use]
    pub fn place(&self, known: &Wire, asked: &Wire) -> Place {
        Place {
            runner: self.runner(),
            bind: "0.0.0.0",
            known_as: self.on(known),
            asked_at: self.on(asked),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
