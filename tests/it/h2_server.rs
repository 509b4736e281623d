//! An HTTP/2 server for tests: the `h2` crate in a thread of its own.

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use testkit::{Address, Gate};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::LocalSet;

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub scheme: String,
    pub authority: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    /// Number of the connection, from 0.
    pub connection: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    pub fn of(request: &Request<RecvStream>, connection: usize) -> Self {
        let uri = request.uri();
        Self {
            method: request.method().to_string(),
            scheme: uri.scheme_str().unwrap_or_default().to_owned(),
            authority: uri.authority().map(ToString::to_string).unwrap_or_default(),
            path: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            headers: request.headers().clone(),
            body: Vec::new(),
            trailers: None,
            connection,
        }
    }
}

/// What it answers with.
#[derive(Clone, Debug)]
pub struct Answer {
    pub response: Response<Bytes>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::new(200, body)
    }

    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        let response = Response::builder().status(status).body(body.into());
        Self {
            response: response.expect("a response"),
            trailers: None,
        }
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = value.parse().expect("a value");
        self.response.headers_mut().append(name, value);
        self
    }
}

/// A stream, for servers that do as they like with it.
pub struct Stream {
    pub request: Request<RecvStream>,
    pub respond: SendResponse<Bytes>,
    /// Number of the connection, from 0.
    pub connection: usize,
    shared: Arc<Shared>,
}

impl Stream {
    /// Counts a request as reached.
    pub fn hit(&self, seen: Seen) {
        self.shared.seen.lock().expect("seen").push(seen);
    }

    /// Ready when the client took the stream back.
    pub async fn cancelled(&mut self) -> Option<Reason> {
        std::future::poll_fn(|cx| self.respond.poll_reset(cx)).await.ok()
    }
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
}

type Handler = dyn Fn(Stream) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync;

/// See the module's text. It ends when dropped.
pub struct Server {
    address: Address,
    shared: Arc<Shared>,
    /// How many times connections were told to leave.
    goodbyes: watch::Sender<usize>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Server {
    /// Answers each request by a closure, once its body is there.
    pub fn http(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::http_with(Builder::new(), answer)
    }

    pub fn http_with(builder: Builder, answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::streams_with(builder, move |stream| {
            let answer = Arc::clone(&answer);
            async move {
                // Who takes its stream back is answered no more.
                let _gone = reply(stream, &*answer).await;
            }
        })
    }

    /// Has each stream served by a task.
    pub fn streams<F: Future<Output = ()> + 'static>(
        serve: impl Fn(Stream) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::streams_with(Builder::new(), serve)
    }

    pub fn streams_with<F: Future<Output = ()> + 'static>(
        builder: Builder,
        serve: impl Fn(Stream) -> F + Send + Sync + 'static,
    ) -> Self {
        let handler: Arc<Handler> = Arc::new(move |stream| Box::pin(serve(stream)));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("address").into();
        let shared = Arc::<Shared>::default();
        let (goodbyes, leaving) = watch::channel(0);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let known = Arc::clone(&shared);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            LocalSet::new().block_on(&runtime, async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = accept(listener, builder, known, handler, leaving) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address,
            shared,
            goodbyes,
            stop: Some(stop),
        }
    }

    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// Every connection is told to leave (GOAWAY) when its requests have ended.
    pub fn say_goodbye(&self) {
        self.goodbyes.send_modify(|times| *times += 1);
    }

    /// Closes everything at once.
    pub fn down(&mut self) {
        self.stop = None;
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Streams that are being served now.
    pub fn running(&self) -> usize {
        self.shared.running.load(Ordering::SeqCst)
    }

    /// The most that ever were, on all connections together.
    pub fn most_running(&self) -> usize {
        self.shared.most_running.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("seen").clone()
    }

    pub fn hits(&self) -> usize {
        self.shared.seen.lock().expect("seen").len()
    }

    #[track_caller]
    pub fn last_request(&self) -> Seen {
        self.requests().pop().expect("a request")
    }
}

async fn accept(
    listener: TcpListener,
    builder: Builder,
    shared: Arc<Shared>,
    handler: Arc<Handler>,
    leaving: watch::Receiver<usize>,
) {
    while let Ok((socket, _)) = listener.accept().await {
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        let (shared, handler, builder) = (Arc::clone(&shared), Arc::clone(&handler), builder.clone());
        let mut leaving = leaving.clone();
        leaving.mark_unchanged();
        spawn(async move {
            socket.set_nodelay(true).ok();
            shared.open.fetch_add(1, Ordering::SeqCst);
            if let Ok(mut connection) = builder.handshake::<_, Bytes>(socket).await {
                loop {
                    let next = tokio::select! {
                        next = connection.accept() => next,
                        Ok(()) = leaving.changed() => {
                            connection.graceful_shutdown();
                            continue;
                        }
                    };
                    let Some(Ok((request, respond))) = next else { break };
                    let stream = Stream {
                        request,
                        respond,
                        connection: number,
                        shared: Arc::clone(&shared),
                    };
                    let running = Running::new(&shared);
                    let served = handler(stream);
                    spawn(async move {
                        served.await;
                        drop(running);
                    });
                }
            }
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

struct Running(Arc<Shared>);

impl Running {
    fn new(shared: &Arc<Shared>) -> Self {
        let now = shared.running.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_running.fetch_max(now, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ready when the gate is open.
pub async fn opened(gate: &Gate) {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    while !gate.is_open() {
        looks.tick().await;
    }
}

/// A moment in which what was said before goes out.
pub async fn moment() {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    ticks.tick().await;
    ticks.tick().await;
}

#[expect(clippy::disallowed_methods, reason = "the test's own task")]
fn spawn(task: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(task);
}

async fn reply(mut stream: Stream, answer: &dyn Fn(&Seen) -> Answer) -> Result<(), h2::Error> {
    let mut seen = Seen::of(&stream.request, stream.connection);
    let body = stream.request.body_mut();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        seen.body.extend_from_slice(&piece);
    }
    seen.trailers = body.trailers().await?;
    let Answer { response, trailers } = answer(&seen);
    let head = seen.method == "HEAD";
    stream.hit(seen);
    let (parts, body) = response.into_parts();
    let bodiless = (head || body.is_empty()) && trailers.is_none();
    let mut sending = stream
        .respond
        .send_response(Response::from_parts(parts, ()), bodiless)?;
    if bodiless {
        return Ok(());
    }
    crate::h2_client::send_all(&mut sending, &body, trailers.is_none()).await?;
    if let Some(trailers) = trailers {
        sending.send_trailers(trailers)?;
    }
    Ok(())
}
