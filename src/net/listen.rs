//! Listening sockets: how an address is bound so that nobody shares it by accident, and nothing is lost.
//!
//! A TCP address gets one socket per worker, so that the kernel spreads connections over the workers. The first
//! socket is bound *without* `SO_REUSEPORT`: with the flag a second gateway would join the port silently and
//! take half of the connections. Once it listens, the port is ours; the flag is set and the others follow.
//!
//! `[::]:80` means IPv6 alone (`IPV6_V6ONLY`), as nginx has it, so `0.0.0.0:80` and `[::]:80` may stand side by
//! side and behave the same on every host.

use socket2::{Domain, Protocol, SockAddr, Type};
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A dead client is looked for after this silence.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// How long bytes sent to a client may stay unacknowledged before the kernel gives the connection up.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Connections that the kernel keeps before they are accepted; capped by `net.core.somaxconn`.
    pub backlog: u32,
    /// Permission bits of a unix socket; `None` leaves them to the umask.
    pub mode: Option<u32>,
}

/// A listening, non-blocking socket.
#[derive(Debug)]
pub enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Socket {
    /// A second descriptor of the same socket. The accept queue is shared and lives until the last one closes.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Unix(socket) => Self::Unix(socket.try_clone()?),
        })
    }

    /// The address really bound.
    ///
    /// # Errors
    /// An adopted unix socket without a path has none.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(socket) => Ok(Address::Tcp(socket.local_addr()?)),
            Self::Unix(socket) => socket
                .local_addr()?
                .as_pathname()
                .map(|path| Address::Unix(path.to_path_buf()))
                .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "unix socket without a path")),
        }
    }

    /// Changes the length of the accept queue of a socket that listens already.
    ///
    /// # Errors
    /// As `listen(2)`.
    pub fn set_backlog(&self, backlog: u32) -> io::Result<()> {
        Ok(rustix::net::listen(self.as_fd(), queue_length(backlog))?)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

/// The file of a unix socket that we made. Remembered by inode: if somebody else listens there by now, the file
/// is theirs and stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_path_buf(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes its permission bits.
    ///
    /// # Errors
    /// As `chmod(2)`.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode))
    }

    /// Removes the file when it is still ours.
    ///
    /// # Errors
    /// The file is ours and the directory does not let us remove it.
    pub fn remove(&self) -> io::Result<()> {
        match Self::of(&self.path) {
            Ok(now) if now == *self => fs::remove_file(&self.path),
            _ => Ok(()),
        }
    }
}

/// An address with all its sockets.
#[derive(Debug)]
pub struct Bound {
    /// The address really bound: the kernel's choice where port 0 was asked for.
    pub address: Address,
    /// As many as asked for on TCP; one on a unix path, which the workers share as duplicates.
    pub sockets: Vec<Socket>,
    /// The file to remove when the listener goes.
    pub file: Option<SocketFile>,
}

/// Binds an address and listens on it with `count` sockets (one on a unix path).
///
/// # Errors
/// `AddrInUse` when somebody else listens there, whoever it is; otherwise what the kernel says. Nothing stays
/// bound.
pub fn bind(address: &Address, count: usize, options: Options) -> io::Result<Bound> {
    match address {
        Address::Tcp(address) => bind_tcp(*address, count, options),
        Address::Unix(path) => bind_unix(path, options),
    }
}

/// Takes a socket that was bound by somebody else, such as systemd, as the only one of its address.
///
/// # Errors
/// The descriptor is not a listening stream socket with an address.
pub fn adopt(socket: Socket) -> io::Result<Bound> {
    match &socket {
        Socket::Tcp(socket) => {
            socket.set_nonblocking(true)?;
            bequeath(&socket2::SockRef::from(socket))?;
        }
        Socket::Unix(socket) => socket.set_nonblocking(true)?,
    }
    if !rustix::net::sockopt::socket_acceptconn(&socket)? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the socket does not listen",
        ));
    }
    Ok(Bound {
        address: socket.address()?,
        sockets: vec![socket],
        file: None,
    })
}

fn bind_tcp(address: SocketAddr, count: usize, options: Options) -> io::Result<Bound> {
    let first = tcp_socket(address)?;
    first.bind(&address.into())?;
    first.listen(queue_length(options.backlog))?;
    first.set_reuse_port(true)?;
    let first: std::net::TcpListener = first.into();
    let bound = first.local_addr()?;

    let mut sockets = vec![Socket::Tcp(first)];
    for _ in 1..count {
        let next = tcp_socket(bound)?;
        next.set_reuse_port(true)?;
        next.bind(&bound.into())?;
        next.listen(queue_length(options.backlog))?;
        sockets.push(Socket::Tcp(next.into()));
    }
    Ok(Bound {
        address: Address::Tcp(bound),
        sockets,
        file: None,
    })
}

fn tcp_socket(address: SocketAddr) -> io::Result<socket2::Socket> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Connections of a former process may linger in TIME_WAIT; a listening socket still conflicts.
    socket.set_reuse_address(true)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    bequeath(&socket)?;
    Ok(socket)
}

/// Sets the options of clients' connections. On Linux an accepted socket begins with what the listening one has, so
/// they cost a connection no system call.
fn bequeath(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE_AFTER))?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

fn bind_unix(path: &Path, options: Options) -> io::Result<Bound> {
    let address = SockAddr::unix(path)?;
    remove_stale(path, &address)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&address)?;
    let file = SocketFile::of(path)?;
    // Until it listens nobody can connect, so no client slips in under the umask's permissions.
    let listening = options
        .mode
        .map_or(Ok(()), |mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        })
        .and_then(|()| socket.listen(queue_length(options.backlog)));
    if let Err(error) = listening {
        file.remove()?;
        return Err(error);
    }
    Ok(Bound {
        address: Address::Unix(path.to_path_buf()),
        sockets: vec![Socket::Unix(socket.into())],
        file: Some(file),
    })
}

/// Makes room at `path`: a socket file that nobody listens on is what a killed process left behind.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket has this name",
        ));
    }
    let probe = socket2::Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    match probe.connect(address) {
        // Only a refusal proves that nobody is there: a full accept queue answers "would block".
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens on it",
        )),
    }
}

/// The kernel takes a signed number and caps it itself.
fn queue_length(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
