//! A connection of commands and answers. Answers come in the order of the commands; what the server sends unasked is
//! never one. When an answer is late the connection ends, so that it can't be taken for that of a later command.

use super::dial::Stream;
use super::fault::Fault;
use super::resp::{self, Bad, Inbox, Value};
use crate::base::task;
use crate::cluster::state::Reason;
use bytes::BytesMut;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

/// Commands that wait to be written.
const QUEUE: usize = 256;
/// Commands that wait for answers.
const WAITING: usize = 1024;
/// Bytes that wait to be written before no more are taken.
const UNSENT: usize = 1 << 20;
/// Room for reading.
const READ: usize = 16 << 10;

/// One or more commands that go out together.
struct Call {
    bytes: Vec<u8>,
    answers: usize,
    deadline: Instant,
    reply: oneshot::Sender<Result<Vec<Value>, Fault>>,
}

struct Waiting {
    missing: usize,
    values: Vec<Value>,
    deadline: Instant,
    reply: oneshot::Sender<Result<Vec<Value>, Fault>>,
}

/// Commands on their way out.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    count: usize,
}

impl Batch {
    pub(super) fn add(&mut self, args: &[&[u8]]) {
        resp::command(&mut self.bytes, args);
        self.count += 1;
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The way into a connection. The connection ends with its last handle.
#[derive(Debug)]
pub(super) struct Link {
    calls: mpsc::Sender<Call>,
    ended: watch::Receiver<Option<Fault>>,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It was never sent.
    Busy,
    Ended(Fault),
}

impl Link {
    /// Takes over a connection on which nothing waits.
    pub(super) fn over(stream: Stream, read: Inbox) -> Self {
        let (calls, queue) = mpsc::channel(QUEUE);
        let (end, ended) = watch::channel(None);
        task::spawn(async move {
            let mut wire = Wire {
                stream,
                read,
                unsent: BytesMut::new(),
                waiting: VecDeque::new(),
            };
            let mut queue = queue;
            let fault = wire.run(&mut queue).await;
            // Whoever asks from now on is told by what is stored first.
            end.send_replace(Some(fault.clone()));
            queue.close();
            for waiting in wire.waiting.drain(..) {
                drop(waiting.reply.send(Err(fault.clone())));
            }
            while let Ok(call) = queue.try_recv() {
                drop(call.reply.send(Err(fault.clone())));
            }
        });
        Self { calls, ended }
    }

    /// Why it ended; waits until it does.
    pub(super) async fn ended(&self) -> Fault {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(fault) => fault.clone().unwrap_or_else(|| Fault::new(Reason::Closed, "")),
            Err(_) => Fault::new(Reason::Closed, "the connection's task is gone"),
        }
    }

    /// Sends one command and gives its answer, which may be an error.
    pub(super) async fn call(&self, args: &[&[u8]], within: Duration) -> Result<Value, NoAnswer> {
        let mut batch = Batch::default();
        batch.add(args);
        let mut values = self.batch(batch, within).await?;
        values
            .pop()
            .ok_or_else(|| NoAnswer::Ended(Fault::new(Reason::Protocol, "no answer")))
    }

    /// Sends commands in a row and gives their answers.
    pub(super) async fn batch(&self, batch: Batch, within: Duration) -> Result<Vec<Value>, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        let call = Call {
            bytes: batch.bytes,
            answers: batch.count,
            deadline: Instant::now() + within,
            reply,
        };
        match self.calls.try_send(call) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(NoAnswer::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(NoAnswer::Ended(self.ended().await)),
        }
        match answer.await {
            Ok(answer) => answer.map_err(NoAnswer::Ended),
            Err(_) => Err(NoAnswer::Ended(self.ended().await)),
        }
    }
}

struct Wire {
    stream: Stream,
    read: Inbox,
    unsent: BytesMut,
    waiting: VecDeque<Waiting>,
}

impl Wire {
    async fn run(&mut self, queue: &mut mpsc::Receiver<Call>) -> Fault {
        let far = Duration::from_secs(3600);
        loop {
            let deadline = self.waiting.iter().map(|waiting| waiting.deadline).min();
            let room = self.waiting.len() < WAITING && self.unsent.len() < UNSENT;
            let (mut reading, mut writing) = tokio::io::split(&mut self.stream);
            tokio::select! {
                call = queue.recv(), if room => match call {
                    Some(call) => {
                        self.unsent.extend_from_slice(&call.bytes);
                        self.waiting.push_back(Waiting {
                            missing: call.answers,
                            values: Vec::with_capacity(call.answers),
                            deadline: call.deadline,
                            reply: call.reply,
                        });
                    }
                    None => return Fault::new(Reason::Ended, "nobody needs it any more"),
                },
                read = self.read.read_from(&mut reading, READ) => match read {
                    Ok(0) => return Fault::new(Reason::Closed, "the server ended the connection"),
                    Ok(_) => if let Err(fault) = self.take_answers() {
                        return fault;
                    },
                    Err(error) => return Fault::io(&error),
                },
                written = writing.write_buf(&mut self.unsent), if !self.unsent.is_empty() => match written {
                    Ok(0) => return Fault::new(Reason::Closed, "the connection takes no more"),
                    Ok(_) => {}
                    Err(error) => return Fault::io(&error),
                },
                () = sleep_until(deadline.unwrap_or_else(|| Instant::now() + far)), if deadline.is_some() => {
                    return Fault::new(Reason::Timeout, "no answer in time");
                }
            }
        }
    }

    fn take_answers(&mut self) -> Result<(), Fault> {
        loop {
            let Some(value) = self.read.next().map_err(bad)? else {
                return Ok(());
            };
            if matches!(value, Value::Push(_)) {
                continue;
            }
            let Some(first) = self.waiting.front_mut() else {
                return Err(Fault::new(Reason::Protocol, "an answer that nobody asked for"));
            };
            first.values.push(value);
            first.missing = first.missing.saturating_sub(1);
            if first.missing == 0
                && let Some(done) = self.waiting.pop_front()
            {
                // Who asked may have gone.
                drop(done.reply.send(Ok(done.values)));
            }
        }
    }
}

pub(super) fn bad(bad: Bad) -> Fault {
    match bad {
        Bad::NotRedis => Fault::new(Reason::NotRedis, "it answers with something that is not Redis"),
        Bad::TooLarge => Fault::new(Reason::TooLarge, "it answers with more than can be an answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, DuplexStream};

    const LONG: Duration = Duration::from_secs(10);

    fn pair() -> (Link, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        (Link::over(Box::new(ours), Inbox::default()), theirs)
    }

    async fn sent(server: &mut DuplexStream, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        server.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    /// The first of the two bugs of another client that this one is tested against: what subscribing and being told
    /// pushes between answers moved every later answer to the command before its own.
    #[tokio::test]
    async fn pushes_between_answers_move_no_answer() {
        let (link, mut server) = pair();
        let mut batch = Batch::default();
        for n in 0..40 {
            batch.add(&[b"GET", format!("k{n:02}").as_bytes()]);
        }
        let answering = async {
            sent(&mut server, 40 * 22).await;
            for n in 0..40 {
                let push = ">3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n>3\r\n$12\r\nsunsubscribe\r\n$1\r\nx\r\n:0\r\n";
                let text = format!("{push}$3\r\nv{n:02}\r\n{push}");
                server.write_all(text.as_bytes()).await.unwrap();
            }
            server
        };
        let (answers, _server) = tokio::join!(link.batch(batch, LONG), answering);
        for (n, value) in answers.unwrap().iter().enumerate() {
            assert_eq!(value.text(), Some(format!("v{n:02}").as_str()));
        }
    }

    #[tokio::test]
    async fn after_a_late_answer_the_connection_is_not_used_again() {
        let (link, mut server) = pair();
        let late = link.call(&[b"GET", b"a"], Duration::from_millis(20)).await;
        let Err(NoAnswer::Ended(fault)) = late else {
            panic!("{late:?}")
        };
        assert_eq!(fault.reason, Reason::Timeout);
        drop(server.write_all(b"$1\r\na\r\n").await);
        let next = link.call(&[b"GET", b"b"], LONG).await;
        assert_eq!(next, Err(NoAnswer::Ended(fault)));
    }

    #[tokio::test]
    async fn an_answer_too_many_ends_it() {
        let (link, mut server) = pair();
        server.write_all(b"+OK\r\n").await.unwrap();
        assert_eq!(link.ended().await.reason, Reason::Protocol);
    }

    #[tokio::test]
    async fn something_else_than_redis_is_called_that() {
        let (link, mut server) = pair();
        let answering = async {
            server
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
            server
        };
        let (answer, _server) = tokio::join!(link.call(&[b"PING"], LONG), answering);
        let Err(NoAnswer::Ended(fault)) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(fault.reason, Reason::NotRedis);
    }
}
