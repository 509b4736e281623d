//! The idle connection to an endpoint that tells of its end: a process that dies closes it, and that is known within
//! a millisecond, long before the next probe.
//!
//! It is the connection of the last probe, where the endpoint kept it open. None is opened for this alone: a server
//! that handles one connection at a time would wait on it for ever.

use super::http2::Asked;
use crate::upstream::conn::Conn;
use std::future::{pending, poll_fn};
use std::task::{Poll, ready};

/// Bytes that an endpoint may send unasked before the line counts as ended.
const MAX_UNASKED: u64 = 4096;

/// What the last probe left open.
#[derive(Debug)]
pub(super) enum Kept {
    Http1(Box<Conn>),
    Http2(Box<Asked>),
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Line(Option<Kept>);

impl Line {
    pub fn replace(&mut self, conn: Option<Kept>) {
        self.0 = conn;
    }

    /// Completes when the endpoint ends the connection; never where there is none. May be cancelled.
    pub async fn ended(&mut self) {
        let conn = match &mut self.0 {
            Some(Kept::Http1(conn)) => conn,
            Some(Kept::Http2(asked)) => {
                asked.ended().await;
                self.0 = None;
                return;
            }
            None => return pending().await,
        };
        let mut unasked = 0;
        poll_fn(|cx| {
            let mut bytes = [0; 512];
            loop {
                match ready!(conn.wire.transport.poll_read(cx, &mut bytes)) {
                    Ok(n) if n > 0 && unasked < MAX_UNASKED => unasked += n as u64,
                    Ok(_) | Err(_) => return Poll::Ready(()),
                }
            }
        })
        .await;
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::conn::Target;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(5);

    async fn connected() -> (Line, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dial = Default::default();
        let target = Target::Tcp(listener.local_addr().unwrap());
        let (conn, accepted) = tokio::join!(Conn::open(&target, &dial), listener.accept());
        (
            Line(Some(Kept::Http1(Box::new(conn.unwrap())))),
            accepted.unwrap().0,
        )
    }

    #[tokio::test]
    async fn the_end_of_the_connection_is_noticed_once() {
        let (mut line, server) = connected().await;
        assert!(timeout(Duration::from_millis(20), line.ended()).await.is_err());
        drop(server);
        timeout(SOON, line.ended()).await.unwrap();
        assert!(timeout(Duration::from_millis(20), line.ended()).await.is_err());
    }

    #[tokio::test]
    async fn a_word_unasked_is_no_end_and_a_flood_is() {
        let (mut line, mut server) = connected().await;
        server.write_all(b"hello").await.unwrap();
        assert!(timeout(Duration::from_millis(20), line.ended()).await.is_err());
        let flood = async {
            // Ends with an error once the other side is gone.
            while server.write_all(&[b'x'; 1024]).await.is_ok() {}
        };
        tokio::select! {
            ended = timeout(SOON, line.ended()) => ended.unwrap(),
            () = flood => {}
        }
    }

    #[tokio::test]
    async fn without_a_connection_nothing_ends() {
        let mut line = Line::default();
        assert!(timeout(Duration::from_millis(20), line.ended()).await.is_err());
    }
}
