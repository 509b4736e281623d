//! Bulk over TLS, several records for a wake-up.
//!
//! A sender seals a record after the other, and where it is slower at that than we are, each wakes us, is read,
//! opened, and written by itself. Linux can be asked to wake us for no less than so many bytes (`SO_RCVLOWAT`,
//! socket(7)); an upload of 1 MiB over TLS then costs a sixth less, for us, and for who takes its pieces behind us.
//!
//! What is asked for holds for one wait: who reads next without asking is woken for every byte, so a connection
//! cannot be left deaf. Who asks gives up when the sender pauses, and then for the rest of the body: a sender that is
//! slower than [`LEAST`] in [`PATIENCE`], or that waits for an answer in the midst of its body, is held up once.

use super::alarm::Alarm;
use super::wire::Wire;
use std::io;
use std::os::fd::AsFd;
use std::task::Context;
use std::time::{Duration, Instant};

/// Bytes that are worth waking up for.
pub const LEAST: u32 = 128 * 1024;
/// Bodies with less than this still to come are read as they come. More than what is waited for, which is counted
/// with what sealing adds to it.
pub const WORTHWHILE: u64 = 2 * LEAST as u64;
/// How long they may take.
const PATIENCE: Duration = Duration::from_millis(4);

/// A wait for bytes of a body; belongs to one direction of one exchange.
#[derive(Debug, Default)]
pub struct Gather {
    /// When nothing was left to read.
    since: Option<Instant>,
    alarm: Alarm,
    gave_up: bool,
}

impl Gather {
    /// To be called before a read while so much is still to come.
    pub const fn ask(&mut self, wire: &mut Wire) {
        if !self.gave_up {
            wire.transport.gather(LEAST);
        }
    }

    /// Something was read.
    pub const fn read(&mut self) {
        self.since = None;
    }

    /// To be called when there was nothing to read.
    pub fn wait(&mut self, cx: &mut Context<'_>, wire: &mut Wire) {
        if !wire.transport.is_gathering() {
            return;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.alarm.passed(cx, since + PATIENCE) {
            self.gave_up = true;
            wire.transport.gather_no_more();
        }
    }
}

/// Has the kernel say that a socket can be read once so many bytes are there, or its end; at once, if they are.
pub(super) fn wake_at(socket: &impl AsFd, bytes: u32) -> io::Result<()> {
    use nix::sys::socket::SetSockOpt;
    Ok(option::LowWater.set(socket, &bytes)?)
}

mod option {
    use nix::libc;
    use nix::sys::socket::sockopt::SetStruct;

    #[derive(Clone, Copy, Debug)]
    pub(super) struct LowWater;

    nix::setsockopt_impl!(
        LowWater,
        libc::SOL_SOCKET,
        libc::SO_RCVLOWAT,
        u32,
        SetStruct<'_, u32>
    );
}
