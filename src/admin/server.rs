//! Sockets and connections of the admin side, each with a bound: how many, how long a head may take, how long
//! one may stay.

use super::auth::Peer;
use super::{Api, endpoints};
use crate::base::task;
use crate::control::gateway::{AdminListener, AdminSocket};
use axum::Extension;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Connections to the admin listener, and to the control socket, at the same time; others wait to be accepted.
const MAX_CONNECTIONS: usize = 128;
/// From the first wait for a request to the end of its head; also how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that a head may have.
const MAX_HEAD: usize = 32 * 1024;
/// Age at which a connection is asked to end, so that a reader who stopped reading holds no place for ever.
const MAX_AGE: Duration = Duration::from_secs(600);
/// How long a connection that was asked to end may still take.
const GRACE: Duration = Duration::from_secs(5);
/// Accepting rests so long when descriptors run out.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves whatever admin listener the configuration has, until `ending`.
pub async fn serve_listener(
    api: Api,
    mut sockets: watch::Receiver<Option<Arc<AdminSocket>>>,
    ending: watch::Receiver<bool>,
) {
    let server = Server::new(&api, ending);
    loop {
        let socket = sockets.borrow_and_update().clone();
        tokio::select! {
            changed = sockets.changed() => if changed.is_err() { return },
            () = server.clone().ended() => return,
            served = serve_one(&server, socket.as_deref()) => if let Err(error) = served {
                tracing::error!(%error, "the admin listener failed");
                tokio::time::sleep(PAUSE).await;
            },
        }
    }
}

async fn serve_one(server: &Server, socket: Option<&AdminSocket>) -> io::Result<()> {
    let Some(socket) = socket else {
        return std::future::pending().await;
    };
    match socket.listener()? {
        AdminListener::Tcp(listener) => loop {
            let place = server.place().await;
            match listener.accept().await {
                Ok((stream, peer)) => server.serve(stream, Peer::Tcp(peer), place),
                Err(error) => rest(&error).await,
            }
        },
        AdminListener::Unix(listener) => loop {
            let place = server.place().await;
            match listener.accept().await {
                Ok((stream, _)) => server.serve(stream, Peer::UnixListener, place),
                Err(error) => rest(&error).await,
            }
        },
    }
}

/// Serves the control socket, until `ending`. Who is neither our user nor root is not answered at all.
pub async fn serve_control(api: Api, listener: UnixListener, ending: watch::Receiver<bool>) {
    let server = Server::new(&api, ending);
    loop {
        let place = server.place().await;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = server.clone().ended() => return,
        };
        match accepted {
            Ok((stream, _)) => match peer_of(&stream) {
                Some(peer) => server.serve(stream, peer, place),
                None => tracing::warn!("somebody else's process was refused at the control socket"),
            },
            Err(error) => rest(&error).await,
        }
    }
}

fn peer_of(stream: &UnixStream) -> Option<Peer> {
    let uid = stream.peer_cred().ok()?.uid();
    let ours = rustix::process::geteuid().as_raw();
    (uid == 0 || uid == ours).then_some(Peer::ControlSocket { uid })
}

async fn rest(error: &io::Error) {
    tracing::warn!(%error, "admin connection could not be accepted");
    tokio::time::sleep(PAUSE).await;
}

#[derive(Clone)]
struct Server {
    router: Router,
    places: Arc<Semaphore>,
    ending: watch::Receiver<bool>,
}

impl Server {
    fn new(api: &Api, ending: watch::Receiver<bool>) -> Self {
        Self {
            router: endpoints::router(api),
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            ending,
        }
    }

    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().acquire_owned().await.ok()
    }

    async fn ended(mut self) {
        // An error: whoever could end us is gone.
        drop(self.ending.wait_for(|ending| *ending).await);
    }

    fn serve<S>(&self, stream: S, peer: Peer, place: Option<OwnedSemaphorePermit>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = self.router.clone().layer(Extension(peer));
        let ended = self.clone().ended();
        task::spawn(async move {
            let _place = place;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                // Errors are the client's: it left, or spoke no HTTP.
                _ = &mut connection => return,
                () = tokio::time::sleep(MAX_AGE) => {}
                () = ended => {}
            }
            connection.as_mut().graceful_shutdown();
            drop(tokio::time::timeout(GRACE, connection).await);
        });
    }
}
