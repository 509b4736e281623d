//! The way to an authority: HTTPS, one connection a request, with a deadline and bounds on what comes back. It may
//! be down, hang, or send anything.

use super::failure::Kind;
use crate::base::task;
use crate::config::model::Dns;
use crate::control::dns::{self, LookupError};
use crate::tls::provider;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::http::header::{HOST, RETRY_AFTER};
use hyper::http::uri::Scheme;
use hyper::http::{HeaderValue, Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest wait for a connection to one address, session included.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest wait for an answer, all addresses tried.
const REQUEST: Duration = Duration::from_secs(30);
/// Bytes of an answer. Chains have some 10 KiB.
const MAX_ANSWER: usize = 1 << 20;
/// Addresses of an authority that are tried.
const MAX_ADDRESSES: usize = 4;
/// A window for renewal that comes without a time to ask again is asked for again after this (RFC 9773
/// section 4.3.3).
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("21600");

tokio::task_local! {
    /// What the last answer said of when to come again: the client of the protocol does not pass it on.
    static HEARD: Cell<Option<Duration>>;
}

/// Runs what talks to an authority, so that [`heard_retry_after`] knows.
pub async fn listening<T>(work: impl Future<Output = T>) -> T {
    HEARD.scope(Cell::new(None), work).await
}

/// What the last answer of this task's authority said of when to come again.
#[must_use]
pub fn heard_retry_after() -> Option<Duration> {
    HEARD.try_with(Cell::get).ok().flatten()
}

/// Why there was no answer, or none that can be read.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("the URL {0} has no host")]
    Url(String),
    #[error("the URL {0} is not https://")]
    Clear(String),
    #[error("{host} can't be looked up: {source}")]
    Lookup { host: String, source: LookupError },
    #[error("{0} has no address")]
    NoAddress(String),
    #[error("{host} can't be reached: {source}")]
    Connect { host: String, source: io::Error },
    #[error("{host}: {source}")]
    Exchange { host: String, source: hyper::Error },
    #[error("{host}: the answer can't be read: {source}")]
    Body {
        host: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{0} did not answer in time")]
    Timeout(String),
    #[error("{host} answered {status} and no problem document")]
    Status { host: String, status: u16 },
}

impl TransportError {
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Status { status: 429, .. } => Kind::RateLimited,
            Self::Status { .. } | Self::Body { .. } | Self::Url(_) | Self::Clear(_) => Kind::Server,
            Self::Lookup { .. }
            | Self::NoAddress(_)
            | Self::Connect { .. }
            | Self::Exchange { .. }
            | Self::Timeout(_) => Kind::Unreachable,
        }
    }
}

/// Why no authority can be known.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    #[error("{path} can't be read: {source}")]
    Read {
        path: PathBuf,
        source: rustls::pki_types::pem::Error,
    },
    #[error("{0} has no root that can be used")]
    None(String),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// What `[dns]` says now: the way to an authority outlives reloads.
pub type Names = Arc<dyn Fn() -> Dns + Send + Sync>;

/// A way to one authority.
#[derive(Clone)]
pub struct Https {
    tls: Arc<ClientConfig>,
    names: Names,
    /// The directory is on this host, in the clear, and so may be what it names.
    clear: bool,
}

impl Https {
    /// One that knows authorities by these roots; `None`: those of the system. Blocking: files are read.
    ///
    /// # Errors
    /// There are none.
    pub fn new(directory: &str, ca: Option<&Path>, names: Names) -> Result<Self, RootsError> {
        let mut roots = RootCertStore::empty();
        let from = match ca {
            Some(path) => {
                let read = |source| RootsError::Read {
                    path: path.to_path_buf(),
                    source,
                };
                let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(read)?.collect();
                roots.add_parsable_certificates(found.map_err(read)?);
                path.display().to_string()
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                "the system".to_owned()
            }
        };
        let clear = directory.starts_with("http://");
        if roots.is_empty() && !clear {
            return Err(RootsError::None(from));
        }
        let config = ClientConfig::builder_with_provider(provider::plain())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: Arc::new(config),
            names,
            clear,
        })
    }

    async fn ask(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, TransportError> {
        let uri = request.uri().clone();
        let host = uri.authority().map_or_else(String::new, ToString::to_string);
        let is_get = request.method() == Method::GET;
        let late = || TransportError::Timeout(host.clone());
        let exchange = async {
            let response = self.send(&uri, &host, request).await?;
            let (mut parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body
                .map_err(|source| TransportError::Body {
                    host: host.clone(),
                    source,
                })?
                .to_bytes();
            let _outside = HEARD.try_with(|heard| {
                let after = parts.headers.get(RETRY_AFTER).and_then(retry_after);
                heard.set(after);
            });
            let status = parts.status;
            if !status.is_success() && serde_json::from_slice::<instant_acme::Problem>(&body).is_err() {
                return Err(TransportError::Status {
                    host: host.clone(),
                    status: status.as_u16(),
                });
            }
            if is_get {
                parts.headers.entry(RETRY_AFTER).or_insert(ASK_AGAIN);
            }
            Ok(BytesResponse::from(Response::from_parts(parts, Full::new(body))))
        };
        tokio::time::timeout(REQUEST, exchange)
            .await
            .map_err(|_| late())?
    }

    async fn connect(&self, name: &str, port: u16, host: &str) -> Result<TcpStream, TransportError> {
        if let Ok(ip) = name.parse() {
            return connect(&[SocketAddr::new(ip, port)], host).await;
        }
        let found = dns::look_up(&(self.names)(), name, port).await;
        let found = found.map_err(|source| TransportError::Lookup {
            host: host.to_owned(),
            source,
        })?;
        connect(&found, host).await
    }

    async fn send(
        &self,
        uri: &Uri,
        host: &str,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Incoming>, TransportError> {
        let Some(name) = uri.host() else {
            return Err(TransportError::Url(uri.to_string()));
        };
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        if !secure && !self.clear {
            return Err(TransportError::Clear(uri.to_string()));
        }
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().map_err(|_| TransportError::Url(uri.to_string()))?;
        let value = HeaderValue::from_str(host).map_err(|_| TransportError::Url(uri.to_string()))?;
        request.headers_mut().insert(HOST, value);
        let failed = |source| TransportError::Connect {
            host: host.to_owned(),
            source,
        };
        let stream = self.connect(bare, port, host).await?;
        if !secure {
            return exchange(stream, request, host).await;
        }
        let name = server_name(bare).map_err(|_| TransportError::Url(uri.to_string()))?;
        let session = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
        let session = match tokio::time::timeout(CONNECT, session).await {
            Ok(session) => session.map_err(failed)?,
            Err(_) => return Err(TransportError::Timeout(host.to_owned())),
        };
        exchange(session, request, host).await
    }
}

async fn connect(addresses: &[SocketAddr], host: &str) -> Result<TcpStream, TransportError> {
    let mut last = TransportError::NoAddress(host.to_owned());
    for address in addresses.iter().take(MAX_ADDRESSES) {
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(source)) => {
                last = TransportError::Connect {
                    host: host.to_owned(),
                    source,
                }
            }
            Err(_) => last = TransportError::Timeout(host.to_owned()),
        }
    }
    Err(last)
}

fn server_name(bare: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    ServerName::try_from(bare.to_owned())
}

async fn exchange<S>(
    stream: S,
    request: Request<BodyWrapper<Bytes>>,
    host: &str,
) -> Result<Response<Incoming>, TransportError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |source| TransportError::Exchange {
        host: host.to_owned(),
        source,
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // It ends with the answer's body, or when nobody waits for that any more. What it fails by is told there.
    task::spawn(async move { drop(connection.await) });
    sender.send_request(request).await.map_err(failed)
}

/// A number of seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            let left = then.as_second().checked_sub(Timestamp::now().as_second())?;
            u64::try_from(left).ok().map(Duration::from_secs)
        }
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let own = self.clone();
        Box::pin(async move {
            own.ask(request)
                .await
                .map_err(|error| Error::Other(Box::new(error)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_come_again_is_said_in_seconds_or_as_a_date() {
        let of = |text: &'static str| retry_after(&HeaderValue::from_static(text));
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("soon"), None);
        assert_eq!(of("-1"), None);
        let far = of("Tue, 31 Dec 2999 23:59:59 GMT").unwrap();
        assert!(far > Duration::from_secs(1_000_000_000));
        assert_eq!(of("Fri, 31 Dec 1999 23:59:59 GMT"), None, "that has passed");
    }

    #[tokio::test]
    async fn nothing_goes_out_in_the_clear_to_an_authority_that_is_elsewhere() {
        let https = Https {
            clear: false,
            ..Https::new("http://127.0.0.1/", None, Arc::new(|| unreachable!())).unwrap()
        };
        let request = Request::get("http://127.0.0.1:9/x")
            .body(BodyWrapper::default())
            .unwrap();
        let error = https.ask(request).await.err().unwrap();
        assert!(matches!(error, TransportError::Clear(_)), "{error}");
    }
}
