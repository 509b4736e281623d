//! A real client and server of gRPC for tests: tonic, with messages that are bytes, so that no code is generated. Each
//! has a runtime of its own and is asked from ordinary functions.

use crate::h2_server::Answer;
use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, StreamExt, stream};
use http::uri::PathAndQuery;
use std::convert::Infallible;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use testkit::{Address, Ca, Leaf, patience};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc as queue, oneshot};
use tonic::body::Body;
use tonic::client::Grpc as ClientGrpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::server::Grpc as ServerGrpc;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Identity, Server as Transport, ServerTlsConfig,
};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::{Service, service_fn};

/// Largest message either side takes.
const LARGEST: usize = 64 << 20;

/// Messages as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}

/// What a server saw.
#[derive(Debug, Default)]
pub struct Seen {
    calls: AtomicUsize,
    running: AtomicUsize,
    connections: Mutex<Vec<SocketAddr>>,
    metadata: Mutex<Vec<MetadataMap>>,
}

/// A call that runs, until dropped.
struct Running(Arc<Seen>);

impl Running {
    fn new(seen: &Arc<Seen>) -> Self {
        seen.running.fetch_add(1, Ordering::SeqCst);
        Self(seen.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A server with the service `test.Echo`; the methods are in [`answer`].
pub struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
    end: Option<oneshot::Sender<End>>,
    thread: Option<JoinHandle<()>>,
}

/// How a server ends.
enum End {
    /// Takes no more, and waits for what runs.
    Graceful,
    /// Drops everything.
    Abrupt,
}

impl Server {
    pub fn start() -> Self {
        Self::with("127.0.0.1:0".parse().unwrap(), Transport::builder())
    }

    pub fn start_tls(leaf: &Leaf) -> Self {
        let identity = Identity::from_pem(&leaf.chain, &leaf.key);
        let tls = ServerTlsConfig::new().identity(identity);
        let transport = Transport::builder().tls_config(tls).expect("a certificate");
        Self::with("127.0.0.1:0".parse().unwrap(), transport)
    }

    pub fn with(at: SocketAddr, transport: Transport) -> Self {
        let seen = Arc::new(Seen::default());
        let (end, ended) = oneshot::channel();
        let (bound, address) = mpsc::sync_channel(1);
        let service = Echo(seen.clone());
        let thread = std::thread::spawn(move || {
            let runtime = runtime();
            runtime.block_on(async move {
                let incoming = TcpIncoming::bind(at).expect("a port").with_nodelay(Some(true));
                bound.send(incoming.local_addr().expect("an address")).ok();
                let mut transport = transport;
                let (graceful, shutdown) = oneshot::channel::<()>();
                let serving = transport_serve(&mut transport, service, incoming, shutdown);
                let mut serving = std::pin::pin!(serving);
                tokio::select! {
                    served = &mut serving => served,
                    end = ended => if let Ok(End::Graceful) = end {
                        graceful.send(()).ok();
                        serving.await;
                    },
                }
            });
        });
        Self {
            address: address.recv().expect("an address"),
            seen,
            end: Some(end),
            thread: Some(thread),
        }
    }

    pub fn address(&self) -> Address {
        Address::from(self.address)
    }

    pub fn calls(&self) -> usize {
        self.seen.calls.load(Ordering::SeqCst)
    }

    /// Calls that run now.
    pub fn running(&self) -> usize {
        self.seen.running.load(Ordering::SeqCst)
    }

    /// Connections that calls came on.
    pub fn connections(&self) -> usize {
        let mut all = self.seen.connections.lock().unwrap().clone();
        all.sort_unstable();
        all.dedup();
        all.len()
    }

    /// Metadata of the last call.
    pub fn metadata(&self) -> MetadataMap {
        self.seen.metadata.lock().unwrap().last().expect("a call").clone()
    }

    /// Says GOAWAY, finishes what runs, and then ends.
    pub fn shut_down(&mut self) {
        self.end.take().map(|end| end.send(End::Graceful).ok());
    }

    /// Ends now, with everything that runs; returns the port, which is free again.
    pub fn kill(mut self) -> SocketAddr {
        self.stop();
        self.address
    }

    fn stop(&mut self) {
        if let Some(end) = self.end.take() {
            end.send(End::Abrupt).ok();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.end.is_some() {
            self.stop();
        }
    }
}

async fn transport_serve(
    transport: &mut Transport,
    service: Echo,
    incoming: TcpIncoming,
    shutdown: oneshot::Receiver<()>,
) {
    let told = async {
        if shutdown.await.is_err() {
            pending::<()>().await;
        }
    };
    transport
        .clone()
        .serve_with_incoming_shutdown(service, incoming, told)
        .await
        .ok();
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

#[derive(Clone)]
struct Echo(Arc<Seen>);

type Answered = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;
type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answered;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answered {
        let seen = self.0.clone();
        Box::pin(async move { Ok(answer(&seen, request).await) })
    }
}

/// The methods.
async fn answer(seen: &Arc<Seen>, request: http::Request<Body>) -> http::Response<Body> {
    seen.calls.fetch_add(1, Ordering::SeqCst);
    let metadata = MetadataMap::from_headers(request.headers().clone());
    seen.metadata.lock().unwrap().push(metadata);
    let peer = request
        .extensions()
        .get::<tonic::transport::server::TcpConnectInfo>()
        .and_then(|info| info.remote_addr());
    seen.connections.lock().unwrap().extend(peer);
    let running = Running::new(seen);
    let mut grpc = ServerGrpc::new(Raw)
        .max_decoding_message_size(LARGEST)
        .max_encoding_message_size(LARGEST);
    match request.uri().path() {
        // One message for one, with the metadata that begins with `x-`.
        "/test.Echo/Unary" => grpc.unary(service_fn(|r| async { unary(r) }), request).await,
        // Never answers.
        "/test.Echo/Hang" => {
            let hang = move |_: Request<Bytes>| {
                let running = Running::new(&running.0);
                async move {
                    let _running = running;
                    pending::<Result<Response<Bytes>, Status>>().await
                }
            };
            grpc.unary(service_fn(hang), request).await
        }
        // Fails with the code whose number the message is, and a metadata field.
        "/test.Echo/Fail" => {
            grpc.unary(
                service_fn(
                    |r: Request<Bytes>| async move { Err::<Response<Bytes>, _>(failure(r.get_ref())) },
                ),
                request,
            )
            .await
        }
        // So many messages as the message says; then it fails if a code follows: "3" or "3 14".
        "/test.Echo/Count" => {
            let count = |r: Request<Bytes>| async move { Ok::<_, Status>(Response::new(count(r.get_ref()))) };
            grpc.server_streaming(service_fn(count), request).await
        }
        // How many messages, and how many bytes.
        "/test.Echo/Sum" => grpc.client_streaming(service_fn(sum), request).await,
        // Each message as it comes; runs until its stream is dropped.
        "/test.Echo/Chat" => {
            let chat = move |r: Request<Streaming<Bytes>>| {
                let running = Running::new(&running.0);
                async move {
                    let messages = r.into_inner().map(move |message| {
                        let _running = &running;
                        message
                    });
                    Ok::<_, Status>(Response::new(Box::pin(messages) as Messages))
                }
            };
            grpc.streaming(service_fn(chat), request).await
        }
        _ => Status::unimplemented("no such method").into_http(),
    }
}

fn unary(request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    let (metadata, _, message) = request.into_parts();
    let mut response = Response::new(message);
    let headers = metadata.into_headers();
    let mut echoed = http::HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with("x-")) {
        echoed.append(name.clone(), value.clone());
    }
    *response.metadata_mut() = MetadataMap::from_headers(echoed);
    Ok(response)
}

fn failure(message: &[u8]) -> Status {
    let number = std::str::from_utf8(message).unwrap().trim().parse().unwrap();
    let mut status = Status::new(Code::from_i32(number), "told so: 100%\n\u{e9}");
    status.metadata_mut().insert("x-why", "because".parse().unwrap());
    status
}

fn count(message: &[u8]) -> Messages {
    let text = String::from_utf8(message.to_vec()).unwrap();
    let (n, code) = text.split_once(' ').unwrap_or((&text, ""));
    let n: usize = n.parse().unwrap();
    let messages = stream::iter((0..n).map(|i| Ok(Bytes::from(i.to_string()))));
    match code {
        "" => Box::pin(messages),
        code => Box::pin(messages.chain(stream::iter([Err(failure(code.as_bytes()))]))),
    }
}

async fn sum(request: Request<Streaming<Bytes>>) -> Result<Response<Bytes>, Status> {
    let mut stream = request.into_inner();
    let (mut messages, mut bytes) = (0, 0);
    while let Some(message) = stream.message().await? {
        messages += 1;
        bytes += message.len();
    }
    Ok(Response::new(format!("{messages} {bytes}").into()))
}

/// See the module's text. One connection, as long as it holds.
pub struct Client {
    runtime: Runtime,
    channel: Channel,
}

impl Client {
    #[track_caller]
    pub fn connect(address: &Address) -> Self {
        Self::to(&Channel::from_shared(format!("http://{address}")).expect("a URI"))
    }

    #[track_caller]
    pub fn connect_tls(address: &Address, ca: &Ca, name: &str) -> Self {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca.pem()))
            .domain_name(name);
        let origin = format!("https://{name}").parse().expect("a URI");
        let endpoint = Channel::from_shared(format!("https://{address}"))
            .expect("a URI")
            .origin(origin);
        Self::to(&endpoint.tls_config(tls).expect("a certificate"))
    }

    fn to(endpoint: &tonic::transport::Endpoint) -> Self {
        let runtime = runtime();
        let channel = {
            let _in = runtime.enter();
            endpoint.connect_lazy()
        };
        Self { runtime, channel }
    }

    /// Runs this and the connection until it is done; patience has an end.
    #[track_caller]
    pub fn run<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            tokio::time::timeout(patience(), what)
                .await
                .expect("an end in time")
        })
    }

    /// Lets the connection do what it can do now.
    pub fn turn(&self) {
        self.run(tokio::task::yield_now());
    }

    pub async fn grpc(&self) -> ClientGrpc<Channel> {
        let mut grpc = ClientGrpc::new(self.channel.clone()).max_decoding_message_size(LARGEST);
        grpc.ready().await.expect("a connection");
        grpc
    }

    #[track_caller]
    pub fn unary(&self, method: &str, message: impl Into<Bytes>) -> Result<Response<Bytes>, Status> {
        self.unary_with(method, Request::new(message.into()))
    }

    #[track_caller]
    pub fn unary_with(&self, method: &str, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        self.run(async { self.grpc().await.unary(request, path(method), Raw).await })
    }

    /// Messages and end of an answer to one message.
    #[track_caller]
    pub fn count(&self, message: &str) -> (Vec<String>, Option<Status>) {
        self.run(async {
            let request = Request::new(Bytes::from(message.to_owned()));
            let mut grpc = self.grpc().await;
            match grpc.server_streaming(request, path("Count"), Raw).await {
                Ok(answer) => all(answer.into_inner()).await,
                Err(status) => (Vec::new(), Some(status)),
            }
        })
    }

    /// Begins a call in which both sides speak.
    #[track_caller]
    pub fn chat(&self) -> Result<Chat, Status> {
        self.run(self.begin_chat())
    }

    pub async fn begin_chat(&self) -> Result<Chat, Status> {
        let (say, said) = queue::channel::<Bytes>(16);
        let said = stream::unfold(said, |mut said| async { Some((said.recv().await?, said)) });
        let answer = self
            .grpc()
            .await
            .streaming(Request::new(said), path("Chat"), Raw)
            .await?;
        Ok(Chat {
            say: Some(say),
            hear: answer.into_inner(),
        })
    }
}

pub fn path(method: &str) -> PathAndQuery {
    format!("/test.Echo/{method}").parse().expect("a path")
}

/// All messages of a stream, and how it failed if it did.
pub async fn all(mut stream: Streaming<Bytes>) -> (Vec<String>, Option<Status>) {
    let mut messages = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(message)) => messages.push(String::from_utf8_lossy(&message).into_owned()),
            Ok(None) => return (messages, None),
            Err(status) => return (messages, Some(status)),
        }
    }
}

/// An answer of a scripted server with these fields behind it.
pub fn ending(mut answer: Answer, trailers: &[(&'static str, &str)]) -> Answer {
    let fields = trailers.iter().map(|(name, value)| {
        let name: http::HeaderName = name.parse().expect("a name");
        (name, value.parse().expect("a value"))
    });
    answer.trailers = Some(fields.collect());
    answer
}

/// A call in which both sides speak.
pub struct Chat {
    say: Option<queue::Sender<Bytes>>,
    hear: Streaming<Bytes>,
}

impl Chat {
    pub async fn say(&self, message: impl Into<Bytes>) {
        let say = self.say.as_ref().expect("our direction is open");
        say.send(message.into()).await.expect("the call runs");
    }

    /// Ends our direction.
    pub fn done(&mut self) {
        self.say = None;
    }

    pub async fn hear(&mut self) -> Result<Option<Bytes>, Status> {
        self.hear.message().await
    }

    /// Says this and hears it.
    pub async fn echo(&mut self, message: &str) {
        self.say(message.to_owned()).await;
        let heard = self.hear().await.expect("no failure").expect("a message");
        assert_eq!(heard, message.as_bytes());
    }
}
