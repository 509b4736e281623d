//! Every listening socket of the process. Control keeps a descriptor of each, so that a worker can be replaced
//! without closing one; workers accept on duplicates.
//!
//! A reload binds what is new first ([`Listeners::prepare`]); only when all of it stands does anything change
//! ([`Listeners::apply`]). Listeners are told apart by name and address *as written*, so one on port 0 keeps its
//! port, and a renamed one keeps its socket with all who wait in its queue.

use super::systemd::Inherited;
use crate::config::model::{ListenAddress, Listener, Name};
use crate::net::listen::{self, Address, Bound, Options, Socket, SocketFile};
use crate::proxy::worker::{ListenSocket, SocketId};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("listener {listener} cannot listen on {address}: {}", explain(.source))]
pub struct BindError {
    pub listener: String,
    pub address: Address,
    #[source]
    pub source: io::Error,
}

/// The kernel's error in the operator's words.
fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse if error.raw_os_error().is_some() => {
            "the address is already in use by another process or listener".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "no network interface has this address".to_owned(),
        io::ErrorKind::PermissionDenied => {
            format!("{error} (ports below 1024 need CAP_NET_BIND_SERVICE or a start as root)")
        }
        _ => error.to_string(),
    }
}

/// The address of a configuration, as sockets know it.
#[must_use]
pub fn socket_address(address: &ListenAddress) -> Address {
    match address {
        ListenAddress::Tcp(address) => Address::Tcp(*address),
        ListenAddress::Unix(path) => Address::Unix(path.clone()),
    }
}

/// An open listener.
#[derive(Debug)]
struct Open {
    name: Arc<str>,
    written: Address,
    options: Options,
    bound: Address,
    /// One per worker, in their order; duplicates of one socket where there is only one.
    sockets: Vec<(SocketId, Socket)>,
    file: Option<SocketFile>,
}

/// A listener as others may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundListener {
    pub name: Arc<str>,
    /// The address really bound.
    pub address: Address,
}

/// All open listeners.
#[derive(Debug)]
pub struct Listeners {
    open: Vec<Open>,
    inherited: Inherited,
    workers: usize,
    next_id: u64,
}

/// What a configuration needs, bound and ready. Dropped unapplied, everything new in it is closed again.
#[derive(Debug)]
pub struct Prepared {
    fresh: Vec<Fresh>,
    /// Names and addresses of the listeners that stay, with their options.
    kept: Vec<(Arc<str>, Address, Options)>,
}

#[derive(Debug)]
struct Fresh {
    open: Open,
    /// For the workers, in their order.
    duplicates: Vec<ListenSocket>,
    /// The sockets are those of a listener that has another name so far.
    taken_over: bool,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        for fresh in self.fresh.iter().filter(|fresh| !fresh.taken_over) {
            remove_file(fresh.open.file.as_ref());
        }
    }
}

/// What each worker must do about a change, by worker.
#[derive(Debug, Default)]
pub struct Moves {
    pub listen: Vec<(usize, ListenSocket)>,
    pub unlisten: Vec<(usize, SocketId)>,
}

impl Listeners {
    /// For `workers` workers; `inherited` are sockets that somebody else opened for us.
    #[must_use]
    pub fn new(workers: usize, inherited: Inherited) -> Self {
        Self {
            open: Vec::new(),
            inherited,
            workers,
            next_id: 1,
        }
    }

    /// Binds what `wanted` has and we don't. Nothing that is open changes.
    ///
    /// # Errors
    /// Every listener that could not be bound; nothing new stays open then.
    pub fn prepare(&mut self, wanted: &BTreeMap<Name, Listener>) -> Result<Prepared, Vec<BindError>> {
        let mut prepared = Prepared {
            fresh: Vec::new(),
            kept: Vec::new(),
        };
        let mut errors = Vec::new();
        for (name, listener) in wanted {
            let address = socket_address(&listener.address);
            let options = Options {
                backlog: listener.backlog,
                mode: listener.mode,
            };
            if let Some(open) = self.find(name, &address) {
                prepared.kept.push((open.name.clone(), address, options));
                continue;
            }
            match self.fresh(name, &address, options, wanted) {
                Ok(fresh) => prepared.fresh.push(fresh),
                Err(source) => errors.push(BindError {
                    listener: name.clone(),
                    address,
                    source,
                }),
            }
        }
        if errors.is_empty() {
            Ok(prepared)
        } else {
            Err(errors)
        }
    }

    fn find(&self, name: &str, address: &Address) -> Option<&Open> {
        self.open
            .iter()
            .find(|open| &*open.name == name && open.written == *address)
    }

    fn fresh(
        &mut self,
        name: &str,
        address: &Address,
        options: Options,
        wanted: &BTreeMap<Name, Listener>,
    ) -> io::Result<Fresh> {
        let (bound, taken_over) = match self.left_by_another(address, wanted)? {
            Some(bound) => (bound, true),
            None => match self.inherited.claim(name, address) {
                Some(socket) => (listen::adopt(socket)?, false),
                None => (listen::bind(address, self.workers, options)?, false),
            },
        };
        let mut fresh = Fresh {
            open: Open {
                name: name.into(),
                written: address.clone(),
                options,
                bound: bound.address,
                sockets: Vec::new(),
                file: bound.file,
            },
            duplicates: Vec::new(),
            taken_over,
        };
        self.share_out(&mut fresh, bound.sockets).inspect_err(|_| {
            if !taken_over {
                remove_file(fresh.open.file.as_ref());
            }
        })?;
        Ok(fresh)
    }

    /// Duplicates of the sockets of a listener that goes and whose address another one gets. Port 0 is nobody's
    /// address.
    fn left_by_another(
        &self,
        address: &Address,
        wanted: &BTreeMap<Name, Listener>,
    ) -> io::Result<Option<Bound>> {
        if matches!(address, Address::Tcp(address) if address.port() == 0) {
            return Ok(None);
        }
        let stays = |open: &Open| {
            wanted
                .get(&*open.name)
                .is_some_and(|listener| socket_address(&listener.address) == open.written)
        };
        let Some(left) = self
            .open
            .iter()
            .find(|open| open.written == *address && !stays(open))
        else {
            return Ok(None);
        };
        let sockets = left.sockets.iter().map(|(_, socket)| socket.try_clone());
        Ok(Some(Bound {
            address: left.bound.clone(),
            sockets: sockets.collect::<io::Result<_>>()?,
            file: left.file.clone(),
        }))
    }

    /// Gives every worker a socket: its own, or a duplicate where there are fewer.
    fn share_out(&mut self, fresh: &mut Fresh, mut sockets: Vec<Socket>) -> io::Result<()> {
        let own = sockets.len();
        for worker in own..self.workers {
            sockets.push(sockets[worker % own].try_clone()?);
        }
        for socket in sockets {
            let id = SocketId(self.next_id);
            self.next_id += 1;
            fresh.duplicates.push(ListenSocket {
                id,
                listener: fresh.open.name.clone(),
                socket: socket.try_clone()?,
            });
            fresh.open.sockets.push((id, socket));
        }
        Ok(())
    }

    /// Makes the prepared listeners the open ones. Our descriptors of those that go are closed here, so that a
    /// worker's is the last: it empties the queue before it closes.
    pub fn apply(&mut self, mut prepared: Prepared) -> Moves {
        let fresh = std::mem::take(&mut prepared.fresh);
        let kept = std::mem::take(&mut prepared.kept);
        let mut moves = Moves::default();
        let (staying, going) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|open: &Open| {
                kept.iter()
                    .any(|(name, address, _)| *name == open.name && *address == open.written)
            });
        self.open = staying;
        for (name, address, options) in kept {
            self.retune(&name, &address, options);
        }
        for open in going {
            if !fresh
                .iter()
                .any(|new| new.taken_over && new.open.written == open.written)
            {
                remove_file(open.file.as_ref());
            }
            moves.unlisten.extend(open.ids());
        }
        for new in fresh {
            moves.listen.extend(new.duplicates.into_iter().enumerate());
            self.open.push(new.open);
        }
        self.open.sort_by(|a, b| a.name.cmp(&b.name));
        moves
    }

    /// Changes what a listening socket lets us change.
    fn retune(&mut self, name: &str, address: &Address, options: Options) {
        let found = self
            .open
            .iter_mut()
            .find(|open| &*open.name == name && open.written == *address);
        let Some(open) = found.filter(|open| open.options != options) else {
            return;
        };
        open.options = options;
        let resized = open
            .sockets
            .iter()
            .try_for_each(|(_, socket)| socket.set_backlog(options.backlog));
        let mode = match (&open.file, options.mode) {
            (Some(file), Some(mode)) => file.set_mode(mode),
            _ => Ok(()),
        };
        if let Err(error) = resized.and(mode) {
            tracing::warn!(listener = name, %error, "listener keeps its former backlog or mode");
        }
    }

    /// New duplicates of one worker's sockets, for the worker that takes its place.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn sockets_of(&self, worker: usize) -> io::Result<Vec<ListenSocket>> {
        self.open
            .iter()
            .filter_map(|open| Some((open, open.sockets.get(worker)?)))
            .map(|(open, (id, socket))| {
                Ok(ListenSocket {
                    id: *id,
                    listener: open.name.clone(),
                    socket: socket.try_clone()?,
                })
            })
            .collect()
    }

    /// Closes all listeners.
    pub fn close(&mut self) -> Moves {
        let prepared = Prepared {
            fresh: Vec::new(),
            kept: Vec::new(),
        };
        self.apply(prepared)
    }

    /// The open listeners by name.
    #[must_use]
    pub fn bound(&self) -> Vec<BoundListener> {
        let listener = |open: &Open| BoundListener {
            name: open.name.clone(),
            address: open.bound.clone(),
        };
        self.open.iter().map(listener).collect()
    }

    /// A socket of this name or address that was opened for us, such as the admin listener's.
    pub fn claim_inherited(&mut self, name: &str, address: &Address) -> Option<Socket> {
        self.inherited.claim(name, address)
    }

    /// Names of sockets that were passed to us and that nothing uses.
    #[must_use]
    pub fn unclaimed(&self) -> Vec<String> {
        self.inherited.unclaimed().map(str::to_owned).collect()
    }
}

impl Open {
    fn ids(&self) -> impl Iterator<Item = (usize, SocketId)> {
        self.sockets.iter().map(|(id, _)| *id).enumerate()
    }
}

fn remove_file(file: Option<&SocketFile>) {
    if let Some(file) = file
        && let Err(error) = file.remove()
    {
        tracing::warn!(file = %file.path().display(), %error, "socket file could not be removed");
    }
}

#[cfg(test)]
mod tests;
