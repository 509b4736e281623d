//! TLS in front of a server that speaks none: what backends behind TLS look like to the gateway.

use crate::address::Address;
use crate::tls::{Ca, Leaf};
use rustix::event::{PollFd, PollFlags, poll};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a client of the front agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub server_name: Option<String>,
    pub alpn: Option<String>,
    /// The client's own certificate.
    pub certificate: Option<Vec<u8>>,
    pub resumed: bool,
}

/// See the module's text. It ends with the test's process.
#[derive(Debug)]
pub struct TlsFront {
    address: Address,
    sessions: Arc<Mutex<Vec<Session>>>,
}

/// How to make a [`TlsFront`].
#[derive(Debug)]
pub struct TlsFrontBuilder {
    leaf: Leaf,
    client_ca: Option<String>,
    tls12: bool,
    alpn: Vec<Vec<u8>>,
    http2: Option<Address>,
}

impl TlsFront {
    /// One that shows this certificate.
    #[must_use]
    pub fn showing(leaf: &Leaf) -> TlsFrontBuilder {
        TlsFrontBuilder {
            leaf: leaf.clone(),
            client_ca: None,
            tls12: false,
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            http2: None,
        }
    }

    #[must_use]
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// Every session so far.
    ///
    /// # Panics
    /// When a thread panicked.
    #[must_use]
    pub fn sessions(&self) -> Vec<Session> {
        self.sessions.lock().expect("sessions").clone()
    }
}

impl TlsFrontBuilder {
    /// Wants a certificate that this authority issued.
    #[must_use]
    pub fn wanting(mut self, ca: &Ca) -> Self {
        self.client_ca = Some(ca.pem().to_owned());
        self
    }

    /// Agrees by ALPN on these alone.
    #[must_use]
    pub fn speaking(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Connections that agree on HTTP/2 go to this server, and to no other.
    #[must_use]
    pub fn with_http2_at(mut self, server: impl Into<Address>) -> Self {
        self.http2 = Some(server.into());
        self
    }

    /// Speaks TLS 1.2 only.
    #[must_use]
    pub const fn tls12(mut self) -> Self {
        self.tls12 = true;
        self
    }

    /// Stands before a server at this address.
    ///
    /// # Panics
    /// When something given is not usable.
    #[must_use]
    pub fn before(self, server: impl Into<Address>) -> TlsFront {
        let config = Arc::new(self.config());
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address").into();
        let sessions = Arc::<Mutex<Vec<Session>>>::default();
        let (server, seen) = (server.into(), Arc::clone(&sessions));
        let http2 = self.http2.unwrap_or_else(|| server.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (config, seen) = (Arc::clone(&config), Arc::clone(&seen));
                let servers = [server.clone(), http2.clone()];
                // Whatever goes wrong with it, its other side sees.
                thread::spawn(move || serve(client, config, &servers, &seen));
            }
        });
        TlsFront { address, sessions }
    }

    fn config(&self) -> ServerConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions: &[&rustls::SupportedProtocolVersion] = if self.tls12 {
            &[&rustls::version::TLS12]
        } else {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("versions");
        let builder = match &self.client_ca {
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                let root = CertificateDer::from_pem_slice(pem.as_bytes()).expect("authority");
                roots.add(root).expect("authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("verifier"))
            }
            None => builder.with_no_client_auth(),
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.leaf.chain.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(self.leaf.key.as_bytes()).expect("key");
        let mut config = builder
            .with_single_cert(chain.expect("chain"), key)
            .expect("certificate");
        config.alpn_protocols.clone_from(&self.alpn);
        config.ticketer = aws_lc_rs::Ticketer::new().expect("ticketer");
        config
    }
}

fn serve(
    mut client: TcpStream,
    config: Arc<ServerConfig>,
    [server, http2]: &[Address; 2],
    seen: &Mutex<Vec<Session>>,
) -> io::Result<()> {
    let _ = client.set_nodelay(true);
    let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut client)?;
    }
    // The tickets that come with the end of it.
    while session.wants_write() {
        session.write_tls(&mut client)?;
    }
    seen.lock().map_err(|_| io::ErrorKind::Other)?.push(Session {
        server_name: session.server_name().map(str::to_owned),
        alpn: session
            .alpn_protocol()
            .map(|name| String::from_utf8_lossy(name).into_owned()),
        certificate: session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|leaf| leaf.to_vec()),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
    });
    let server = match session.alpn_protocol() {
        Some(b"h2") => http2,
        _ => server,
    };
    let mut plain = TcpStream::connect(server.to_string())?;
    relay(&mut client, &mut session, &mut plain)
}

/// Carries bytes both ways until one side ends.
fn relay(client: &mut TcpStream, session: &mut ServerConnection, plain: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        // Also what came together with the end of the handshake.
        let state = session.process_new_packets().map_err(io::Error::other)?;
        let mut data = vec![0; state.plaintext_bytes_to_read()];
        session.reader().read_exact(&mut data)?;
        plain.write_all(&data)?;
        if state.peer_has_closed() {
            return plain.shutdown(Shutdown::Both);
        }
        let mut ready = [
            PollFd::new(client, PollFlags::IN),
            PollFd::new(plain, PollFlags::IN),
        ];
        poll(&mut ready, None)?;
        let [from_client, from_server] = ready.map(|fd| !fd.revents().is_empty());
        if from_client && session.read_tls(client)? == 0 {
            return plain.shutdown(Shutdown::Both);
        }
        if from_server {
            let n = plain.read(&mut buffer)?;
            if n == 0 {
                session.send_close_notify();
            }
            session.writer().write_all(&buffer[..n])?;
            while session.wants_write() {
                session.write_tls(client)?;
            }
            if n == 0 {
                return client.shutdown(Shutdown::Both);
            }
        }
    }
}
