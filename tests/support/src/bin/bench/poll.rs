//! Epoll with plain numbers as tokens.

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

pub use epoll::EventFlags as Flags;

/// Events taken from the kernel at once.
const BATCH: usize = 512;

pub struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(BATCH),
        })
    }

    pub fn add(&self, source: impl AsFd, token: usize, flags: Flags) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            source,
            epoll::EventData::new_u64(token as u64),
            flags,
        )?)
    }

    pub fn modify(&self, source: impl AsFd, token: usize, flags: Flags) -> io::Result<()> {
        Ok(epoll::modify(
            &self.epoll,
            source,
            epoll::EventData::new_u64(token as u64),
            flags,
        )?)
    }

    /// Waits for events, for ever without a timeout, and replaces what `ready` holds with them.
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<(usize, Flags)>) -> io::Result<()> {
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.clear();
        ready.extend(
            self.events
                .iter()
                .map(|event| (event.data.u64() as usize, event.flags)),
        );
        Ok(())
    }
}

/// What a non-blocking read or write says: bytes moved, or that it would block.
pub enum Moved {
    Bytes(usize),
    Blocked,
}

/// Separates "would block" from real errors.
pub fn moved(result: rustix::io::Result<usize>) -> io::Result<Moved> {
    match result {
        Ok(count) => Ok(Moved::Bytes(count)),
        Err(Errno::AGAIN) => Ok(Moved::Blocked),
        Err(error) => Err(error.into()),
    }
}
