//! An app server as a process of its own, to be killed and stopped like a real one.

use crate::binary;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use testkit::{Address, cli};

/// An app server of the demo.
pub struct Server {
    name: &'static str,
    address: Address,
    child: Child,
}

impl Server {
    #[track_caller]
    pub fn start(name: &'static str) -> Self {
        let (child, address) = spawn(name, 0);
        Self { name, address, child }
    }

    pub fn address(&self) -> Address {
        self.address.clone()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("its end");
    }

    /// On the port it had.
    #[track_caller]
    pub fn restart(&mut self) {
        self.child = spawn(self.name, self.address.port()).0;
    }

    /// Its connections stay, and the kernel goes on accepting for it.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn spawn(name: &str, port: u16) -> (Child, Address) {
    let mut command: Command = cli::command(binary());
    command.args(["demo-app", "--name", name, "--port", &port.to_string()]);
    // It ends with its standard input.
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("an app server");
    let mut line = String::new();
    let out = child.stdout.take().expect("standard output");
    BufReader::new(out).read_line(&mut line).expect("its address");
    (child, Address::parse(line.trim()))
}
