//! How a connection to an endpoint begins, before the first request on it.

use super::Conn;
use crate::net::proxy_protocol::{self, Addresses, Version};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

/// What all connections of an upstream have in common. Pools tell connections apart by the allocation of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dial {
    /// The PROXY protocol header that comes first.
    pub announce: Option<Version>,
}

/// A client's connection, for whose requests alone a connection to an endpoint is announced. It lives as long as the
/// client's does.
#[derive(Debug)]
pub struct Behalf {
    /// `None` where nobody knows them, as on unix sockets.
    pub addresses: Option<Addresses>,
}

/// Who wants a connection.
#[derive(Clone, Copy, Debug)]
pub enum Caller<'a> {
    /// A client; without a behalf, any.
    Client(Option<&'a Arc<Behalf>>),
    /// Nobody but us, as for a probe.
    Gateway,
}

impl Conn {
    /// Says what comes before the first request. Bounded by the caller's deadline.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn begin(&mut self, caller: Caller<'_>) -> io::Result<()> {
        if let Some(version) = self.dial.announce {
            let mut header = Vec::with_capacity(64);
            match caller {
                Caller::Client(behalf) => {
                    let addresses = behalf.and_then(|behalf| behalf.addresses.as_ref());
                    proxy_protocol::write(version, addresses, &mut header);
                    self.client = behalf.map(Arc::downgrade);
                }
                Caller::Gateway => proxy_protocol::write_local(version, &mut header),
            }
            self.say(&header).await?;
        }
        Ok(())
    }

    async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut first = true;
        poll_fn(|cx| {
            if std::mem::take(&mut first)
                && let Err(error) = self.wire.send(cx, &[bytes])
            {
                return Poll::Ready(Err(error));
            }
            self.wire.poll_flush(cx)
        })
        .await
    }
}
