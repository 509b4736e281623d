//! Making a connection: to whom, with which TLS, as which user, and whether it is a master at all.

use super::fault::Fault;
use super::link::bad;
use super::resp::{self, Inbox, Value};
use super::{Access, Login, Secure};
use crate::cluster::state::Reason;
use crate::config::model::RedisAddress;
use crate::tls::client::server_name;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Longest time until a connection can be used, all of it.
pub(super) const CONNECT: Duration = Duration::from_secs(1);
/// Room for reading.
const READ: usize = 4096;
/// Most addresses of a name that are tried.
const ADDRESSES: usize = 4;

/// Either way of a connection.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(super) type Stream = Box<dyn Duplex>;

/// A connection before it has a purpose: a command at a time.
pub(super) struct Raw {
    pub stream: Stream,
    pub read: Inbox,
}

impl Raw {
    /// Sends a command and waits for its answer; an error is a fault.
    pub(super) async fn ask(&mut self, args: &[&[u8]]) -> Result<Value, Fault> {
        let mut bytes = Vec::new();
        resp::command(&mut bytes, args);
        self.stream
            .write_all(&bytes)
            .await
            .map_err(|error| Fault::io(&error))?;
        loop {
            match self.next().await? {
                Value::Push(_) => {}
                Value::Error(text) => return Err(Fault::said(&text)),
                value => return Ok(value),
            }
        }
    }

    /// The next value that the server sends. May be cancelled without loss.
    pub(super) async fn next(&mut self) -> Result<Value, Fault> {
        loop {
            if let Some(value) = self.read.next().map_err(bad)? {
                return Ok(value);
            }
            match self.read.read_from(&mut self.stream, READ).await {
                Ok(0) => return Err(Fault::new(Reason::Closed, "the server ended the connection")),
                Ok(_) => {}
                Err(error) => return Err(Fault::io(&error)),
            }
        }
    }
}

/// Connects, without saying anything yet.
pub(super) async fn connect(address: &RedisAddress, secure: Option<&Secure>) -> Result<Raw, Fault> {
    let raw = |stream: Stream| Raw {
        stream,
        read: Inbox::default(),
    };
    let connecting = async {
        match address {
            RedisAddress::Unix(path) => {
                let stream = UnixStream::connect(path)
                    .await
                    .map_err(|error| Fault::io(&error).at(address))?;
                Ok(raw(Box::new(stream)))
            }
            RedisAddress::Tcp { host, port } => {
                let stream = tcp(host, *port).await?;
                match secure {
                    None => Ok(raw(Box::new(stream))),
                    Some(secure) => Ok(raw(encrypt(stream, secure, host).await?)),
                }
            }
        }
    };
    match timeout(CONNECT, connecting).await {
        Ok(done) => done,
        Err(_) => Err(Fault::new(Reason::Timeout, format!("{address} does not answer"))),
    }
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, Fault> {
    let mut last = Fault::new(Reason::Resolve, format!("{host} has no address"));
    for address in look_up(host, port).await?.into_iter().take(ADDRESSES) {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY");
                }
                return Ok(stream);
            }
            Err(error) => last = Fault::io(&error).at(&address),
        }
    }
    Err(last)
}

/// One look-up at a time: the system's may hang for long, and each takes a thread.
static LOOKING: Semaphore = Semaphore::const_new(1);

async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let permit: SemaphorePermit<'static> = LOOKING
        .acquire()
        .await
        .map_err(|_| Fault::new(Reason::Resolve, "closed"))?;
    let name = (host.to_owned(), port);
    // It goes on when nobody waits for it any more, and keeps the permit until it ends.
    let looking = tokio::task::spawn_blocking(move || {
        let found = std::net::ToSocketAddrs::to_socket_addrs(&name).map(Iterator::collect::<Vec<_>>);
        drop(permit);
        found
    });
    match looking.await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(Fault::new(Reason::Resolve, format!("{host}: {error}"))),
        Err(error) => Err(Fault::new(Reason::Resolve, format!("{host}: {error}"))),
    }
}

async fn encrypt(stream: TcpStream, secure: &Secure, host: &str) -> Result<Stream, Fault> {
    let name = secure.name.clone().or_else(|| server_name(host));
    let name = name.ok_or_else(|| Fault::new(Reason::Tls, format!("{host} can't be in a certificate")))?;
    let connector = TlsConnector::from(Arc::clone(&secure.config));
    match connector.connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(Fault::new(Reason::Tls, error.to_string())),
    }
}

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    pub role: String,
    pub clustered: bool,
}

/// Says who we are, and hears who it is. Protocol version 3 from here on.
pub(super) async fn greet(raw: &mut Raw, login: &Login, name: &str) -> Result<Greeting, Fault> {
    let mut args: Vec<&[u8]> = vec![b"HELLO", b"3"];
    if let Some(password) = &login.password {
        let user = login.user.as_deref().unwrap_or("default");
        args.extend([b"AUTH", user.as_bytes(), password.as_bytes()]);
    }
    args.extend([&b"SETNAME"[..], name.as_bytes()]);
    let said = raw.ask(&args).await.map_err(|fault| {
        if fault.detail.starts_with("ERR unknown command") {
            Fault::new(Reason::NotRedis, "it is older than Redis 6, or something else")
        } else {
            fault.without(login.password.as_deref())
        }
    })?;
    let text = |key: &str| said.at(key).and_then(Value::text).unwrap_or_default().to_owned();
    let greeting = Greeting {
        role: text("role"),
        clustered: text("mode") == "cluster",
    };
    if greeting.role.is_empty() {
        return Err(Fault::new(
            Reason::NotRedis,
            "it does not say whether it is a master",
        ));
    }
    Ok(greeting)
}

/// A connection to a master that is ready for commands.
pub(super) async fn to_master(access: &Access, address: &RedisAddress, name: &str) -> Result<Raw, Fault> {
    let preparing = async {
        let mut raw = connect(address, access.secure.as_ref()).await?;
        let greeting = greet(&mut raw, &access.login, name).await?;
        if greeting.role != "master" {
            return Err(Fault::new(
                Reason::ReadOnly,
                format!("{address} is a {}", greeting.role),
            ));
        }
        if access.url.database > 0 {
            let number = access.url.database.to_string();
            let chosen = raw.ask(&[b"SELECT", number.as_bytes()]).await;
            chosen
                .map_err(|fault| Fault::new(fault.reason, format!("database {number}: {}", fault.detail)))?;
        }
        Ok(raw)
    };
    match timeout(CONNECT, preparing).await {
        Ok(done) => done,
        Err(_) => Err(Fault::new(Reason::Timeout, format!("{address} does not answer"))),
    }
}
