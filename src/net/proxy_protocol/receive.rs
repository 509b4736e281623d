//! Reading a header off a connection, and nothing beyond it.
//!
//! What has arrived is looked at in the kernel's queue first, and only what belongs to the header is then taken out
//! of it.

use super::{Header, HeaderFault, MAX_HEADER, Parsed, Violation, parse};
use crate::net::transport::Transport;
use rustix::net::RecvFlags;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;

/// What is looked at first: enough for nearly every header.
const FIRST_LOOK: usize = 256;

/// Reads the header with which a connection begins.
///
/// # Errors
/// The rule that was broken; the connection can only be closed then.
pub async fn receive(transport: &Transport, within: Duration) -> Result<Header, Violation> {
    let mut reading = Reading::default();
    let header = poll_fn(|cx| reading.poll(cx, transport));
    match tokio::time::timeout(within, header).await {
        Ok(read) => read,
        Err(_) => Err(Violation::new(
            HeaderFault::Timeout,
            "the header comes within proxy_protocol.timeout",
        )),
    }
}

/// A header as far as it has come.
#[derive(Default)]
struct Reading {
    taken: Vec<u8>,
}

impl Reading {
    fn poll(&mut self, cx: &mut Context<'_>, transport: &Transport) -> Poll<Result<Header, Violation>> {
        loop {
            let before = self.taken.len();
            let room = if before < FIRST_LOOK {
                FIRST_LOOK
            } else {
                MAX_HEADER
            };
            let mut seen = [0; MAX_HEADER];
            let seen = &mut seen[..room - before];
            let arrived = match ready!(poll_peek(cx, transport, seen)) {
                Ok(arrived) if arrived > 0 => arrived,
                Ok(_) | Err(_) => return Poll::Ready(Err(ended(before))),
            };
            self.taken.extend_from_slice(&seen[..arrived]);
            let (end, done) = match parse(&self.taken) {
                Parsed::Complete(header, length) => (length, Some(header)),
                Parsed::Partial => (self.taken.len(), None),
                Parsed::Refused(violation) => return Poll::Ready(Err(violation)),
            };
            self.taken.truncate(end);
            // What was seen in the queue is still there: nobody else reads.
            match receive_now(transport, &mut seen[..end - before], RecvFlags::empty()) {
                Ok(n) if n == end - before => {}
                Ok(_) | Err(_) => return Poll::Ready(Err(ended(end))),
            }
            if let Some(header) = done {
                return Poll::Ready(Ok(header));
            }
        }
    }
}

/// The connection ended, or broke, after so many bytes.
const fn ended(bytes: usize) -> Violation {
    if bytes == 0 {
        Violation::new(HeaderFault::Empty, "a connection says something before it ends")
    } else {
        Violation::new(HeaderFault::Ended, "a connection does not end within its header")
    }
}

/// Looks at what has arrived, as soon as something has.
fn poll_peek(cx: &mut Context<'_>, transport: &Transport, into: &mut [u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(transport.poll_readable(cx))?;
        match receive_now(transport, into, RecvFlags::PEEK) {
            // The readiness was of the past, and is forgotten now.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}

/// One `recv(2)`.
fn receive_now(transport: &Transport, into: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    match transport {
        Transport::Tcp(stream) => stream.try_io(Interest::READABLE, || receive_from(stream, into, flags)),
        Transport::Unix(stream) => stream.try_io(Interest::READABLE, || receive_from(stream, into, flags)),
        // The header comes before the handshake.
        Transport::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn receive_from(socket: impl AsFd, into: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    let (received, _) = rustix::io::retry_on_intr(|| rustix::net::recv(&socket, &mut *into, flags))?;
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::super::{Addresses, Origin, Version, write};
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    const LONG: Duration = Duration::from_secs(20);

    fn header(version: Version) -> Vec<u8> {
        let addresses = Addresses {
            source: "192.0.2.1:56324".parse().unwrap(),
            destination: "192.0.2.2:443".parse().unwrap(),
        };
        let mut header = Vec::new();
        write(version, Some(&addresses), &mut header);
        header
    }

    #[tokio::test]
    async fn the_header_is_taken_and_nothing_behind_it() {
        for version in [Version::V1, Version::V2] {
            let bytes = [&header(version), &b"GET / HTTP/1.1"[..]].concat();
            for split in 0..bytes.len() {
                let (near, mut far) = UnixStream::pair().unwrap();
                let (first, second) = bytes.split_at(split);
                far.write_all(first).await.unwrap();
                let transport = Transport::Unix(near);
                let sending = async {
                    tokio::task::yield_now().await;
                    far.write_all(second).await.unwrap();
                };
                let (received, ()) = tokio::join!(receive(&transport, LONG), sending);
                assert!(matches!(received.unwrap().origin, Origin::Inet(_)), "{split}");
                let Transport::Unix(mut near) = transport else {
                    unreachable!()
                };
                drop(far);
                let mut rest = Vec::new();
                near.read_to_end(&mut rest).await.unwrap();
                assert_eq!(rest, b"GET / HTTP/1.1", "{split}");
            }
        }
    }

    #[tokio::test]
    async fn a_long_header_comes_byte_by_byte() {
        let mut bytes = header(Version::V2);
        let more = 1000_u16;
        bytes[14..16].copy_from_slice(&(12 + more).to_be_bytes());
        bytes.extend_from_slice(&[0x04]);
        bytes.extend_from_slice(&(more - 3).to_be_bytes());
        bytes.resize(16 + 12 + usize::from(more), 0);
        let (near, mut far) = UnixStream::pair().unwrap();
        let transport = Transport::Unix(near);
        let sending = async {
            for byte in &bytes {
                far.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (received, ()) = tokio::join!(receive(&transport, LONG), sending);
        assert_eq!(received.unwrap().tlv(0x04).map(<[u8]>::len), Some(997));
    }

    #[tokio::test]
    async fn an_end_a_silence_and_something_else_are_told_apart() {
        let half = &header(Version::V2)[..20];
        for (bytes, ends, kind) in [
            (&b""[..], true, HeaderFault::Empty),
            (half, true, HeaderFault::Ended),
            (half, false, HeaderFault::Timeout),
            (b"GET /", false, HeaderFault::Missing),
        ] {
            let (near, mut far) = UnixStream::pair().unwrap();
            far.write_all(bytes).await.unwrap();
            if ends {
                far.shutdown().await.unwrap();
            }
            let within = if kind == HeaderFault::Timeout {
                Duration::from_millis(20)
            } else {
                LONG
            };
            assert_eq!(
                receive(&Transport::Unix(near), within).await.unwrap_err().kind,
                kind
            );
        }
    }
}
