//! systemd: sockets that it opened for us, and what it wants to be told.

use crate::net::listen::{Address, Socket};
use listenfd::ListenFd;
use sd_notify::NotifyState;
use std::time::Duration;

/// Sockets passed by the service manager, each with the name of its `FileDescriptorName=`.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(String, Socket)>,
}

impl Inherited {
    /// Takes the sockets over. `names` is `LISTEN_FDNAMES`. Must run before any thread starts, because it
    /// takes the variables out of the environment so that no child process believes them.
    ///
    /// What is not a listening stream socket is left alone.
    #[must_use]
    pub fn take(names: Option<&str>) -> Self {
        let mut passed = ListenFd::from_env();
        let names: Vec<&str> = names.map(|names| names.split(':').collect()).unwrap_or_default();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let name = names.get(index).copied().unwrap_or_default().to_owned();
            if let Ok(Some(socket)) = passed.take_tcp_listener(index) {
                sockets.push((name, Socket::Tcp(socket)));
            } else if let Ok(Some(socket)) = passed.take_unix_listener(index) {
                sockets.push((name, Socket::Unix(socket)));
            }
        }
        Self { sockets }
    }

    /// The socket for a listener: one of its name, at best with its address too, else one of its address.
    pub fn claim(&mut self, name: &str, address: &Address) -> Option<Socket> {
        let same_address = |socket: &Socket| socket.address().is_ok_and(|bound| bound == *address);
        let ranks = self
            .sockets
            .iter()
            .map(|(given, socket)| match (given == name, same_address(socket)) {
                (true, true) => 3,
                (true, false) => 2,
                (false, true) => 1,
                (false, false) => 0,
            });
        let (rank, index) = ranks.zip(0..).max()?;
        (rank > 0).then(|| self.sockets.remove(index).1)
    }

    /// Names of the sockets that no listener claimed.
    pub fn unclaimed(&self) -> impl Iterator<Item = &str> {
        self.sockets.iter().map(|(name, _)| name.as_str())
    }
}

/// Tells the service manager; without one this does nothing. That it can't be told changes nothing for us.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "service manager could not be notified");
    }
}

/// The gateway serves (again).
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins; [`ready`] ends it, whatever came of it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock"),
    }
}

/// The gateway drains. `within` is how long that may take, so that it is not killed before.
pub fn stopping(within: Duration) {
    let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(micros),
        NotifyState::Status("draining"),
    ]);
}

/// The gateway is alive.
pub fn watchdog() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] must be called: half of what the unit's `WatchdogSec=` allows.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn inherited(names: &[&str]) -> (Inherited, Vec<Address>) {
        let sockets: Vec<(String, Socket)> = names
            .iter()
            .map(|name| {
                let socket = TcpListener::bind("127.0.0.1:0").unwrap();
                ((*name).to_owned(), Socket::Tcp(socket))
            })
            .collect();
        let addresses = sockets.iter().map(|(_, s)| s.address().unwrap()).collect();
        (Inherited { sockets }, addresses)
    }

    fn elsewhere() -> Address {
        Address::Tcp("127.0.0.1:1".parse().unwrap())
    }

    #[test]
    fn a_socket_goes_to_the_listener_of_its_name() {
        let (mut inherited, addresses) = inherited(&["web", "admin"]);
        let socket = inherited.claim("admin", &elsewhere()).unwrap();
        assert_eq!(socket.address().unwrap(), addresses[1]);
        assert_eq!(inherited.unclaimed().collect::<Vec<_>>(), ["web"]);
    }

    #[test]
    fn among_sockets_of_one_name_the_address_decides() {
        let (mut inherited, addresses) = inherited(&["web", "web"]);
        let socket = inherited.claim("web", &addresses[0]).unwrap();
        assert_eq!(socket.address().unwrap(), addresses[0]);
    }

    #[test]
    fn an_address_alone_is_enough() {
        let (mut inherited, addresses) = inherited(&["a", "b"]);
        let socket = inherited.claim("web", &addresses[1]).unwrap();
        assert_eq!(socket.address().unwrap(), addresses[1]);
    }

    #[test]
    fn a_listener_that_nobody_prepared_gets_nothing() {
        let (mut inherited, _) = inherited(&["a"]);
        assert!(inherited.claim("web", &elsewhere()).is_none());
        assert_eq!(inherited.unclaimed().count(), 1);
    }
}
