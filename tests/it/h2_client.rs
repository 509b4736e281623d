//! An HTTP/2 client for tests: the `h2` crate with a runtime of its own, asked from ordinary functions.

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use testkit::{Address, patience};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// See the module's text. One connection.
pub struct Client {
    runtime: Runtime,
    tasks: LocalSet,
    send: SendRequest<Bytes>,
    ended: RefCell<oneshot::Receiver<Result<(), h2::Error>>>,
}

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    pub fn token(&self) -> Option<&str> {
        self.header("x-tidegate-error")
    }
}

impl Client {
    #[track_caller]
    pub fn connect(address: &Address) -> Self {
        Self::with(address, h2::client::Builder::new())
    }

    #[track_caller]
    pub fn with(address: &Address, builder: h2::client::Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let tasks = LocalSet::new();
        let (end, ended) = oneshot::channel();
        let address = address.to_string();
        let send = tasks.block_on(&runtime, async move {
            let stream = TcpStream::connect(address).await.expect("a connection");
            let (send, connection) = builder.handshake(stream).await.expect("a handshake");
            #[expect(clippy::disallowed_methods, reason = "the test's own task")]
            tokio::task::spawn_local(async move {
                end.send(connection.await).ok();
            });
            send
        });
        Self {
            runtime,
            tasks,
            send,
            ended: RefCell::new(ended),
        }
    }

    /// Runs this and the connection until it is done; patience has an end.
    #[track_caller]
    pub fn run<T>(&self, what: impl Future<Output = T>) -> T {
        self.tasks.block_on(&self.runtime, async {
            tokio::time::timeout(patience(), what)
                .await
                .expect("an end in time")
        })
    }

    /// Lets the connection do what it can do now.
    #[track_caller]
    pub fn turn(&self) {
        self.run(tokio::task::yield_now());
    }

    /// Begins a request; its body follows on the stream.
    pub async fn begin(
        &self,
        request: Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut send = self.send.clone().ready().await?;
        send.send_request(request, end)
    }

    /// Sends messages to an endpoint that echoes, each once the one before came back, and ends the request. What is left
    /// of the answer is its end.
    pub async fn converse(&self) -> RecvStream {
        let (answer, mut stream) = self.begin(post("/"), false).await.unwrap();
        let mut echo = answer.await.unwrap().into_body();
        for n in 0..5 {
            let said = format!("message {n}");
            send_all(&mut stream, said.as_bytes(), false).await.unwrap();
            assert_eq!(echo.data().await.unwrap().unwrap(), said.as_bytes());
        }
        stream.send_data(Bytes::new(), true).unwrap();
        echo
    }

    #[track_caller]
    pub fn try_ask(&self, request: Request<()>, body: &[u8]) -> Result<Answer, h2::Error> {
        self.run(async {
            let (answer, mut stream) = self.begin(request, body.is_empty()).await?;
            if !body.is_empty() {
                send_all(&mut stream, body, true).await?;
            }
            whole(answer.await?).await
        })
    }

    #[track_caller]
    pub fn ask(&self, request: Request<()>, body: &[u8]) -> Answer {
        self.try_ask(request, body).expect("an answer")
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.ask(get(path), b"")
    }

    /// How the connection ended, once it has.
    #[track_caller]
    pub fn end(self) -> Result<(), h2::Error> {
        drop(self.send);
        let mut ended = self.ended.into_inner();
        self.tasks.block_on(&self.runtime, async {
            tokio::time::timeout(patience(), &mut ended)
                .await
                .expect("an end in time")
                .expect("the connection's task")
        })
    }
}

pub fn get(path: &str) -> Request<()> {
    Request::get(format!("http://test{path}"))
        .body(())
        .expect("a request")
}

pub fn post(path: &str) -> Request<()> {
    Request::post(format!("http://test{path}"))
        .body(())
        .expect("a request")
}

/// Sends this within the window.
pub async fn send_all(stream: &mut SendStream<Bytes>, mut body: &[u8], end: bool) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let Some(room) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
            // The stream was closed; its answer may be there.
            return Ok(());
        };
        let (piece, rest) = body.split_at(room?.min(body.len()));
        body = rest;
        stream.send_data(Bytes::copy_from_slice(piece), end && rest.is_empty())?;
    }
    Ok(())
}

/// The whole of an answer.
pub async fn whole(answer: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut stream) = answer.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        stream.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
    }
    let trailers = stream.trailers().await?;
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
        trailers,
    })
}
