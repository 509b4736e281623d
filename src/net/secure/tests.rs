use super::*;
use low_water::LowWater;
use nix::sys::socket::GetSockOpt;
use proptest::prelude::*;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::future::poll_fn;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream as Blocking;
use std::sync::LazyLock;
use tokio::net::UnixStream;

static CONFIGS: LazyLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    (Arc::new(server), Arc::new(client))
});

/// A client on a thread of its own, whose `play` gets the session and the socket.
fn client<S: Read + Write + Send + 'static, T: Send + 'static>(
    socket: S,
    play: impl FnOnce(&mut ClientConnection, &mut S) -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(move || {
        let mut socket = socket;
        let name = ServerName::try_from("a.test").unwrap();
        let mut session = ClientConnection::new(CONFIGS.1.clone(), name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket).unwrap();
        }
        play(&mut session, &mut socket)
    })
}

fn pair() -> (Transport, Blocking) {
    let (near, far) = Blocking::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    (Transport::Unix(UnixStream::from_std(near).unwrap()), far)
}

async fn accepted(socket: Transport) -> Secure {
    let mut secure = Secure::accept(socket, CONFIGS.0.clone(), Vec::new()).unwrap();
    poll_fn(|cx| secure.poll_handshake(cx)).await.unwrap();
    secure
}

async fn read_all(secure: &mut Secure, step: usize) -> io::Result<Vec<u8>> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; step]);
    loop {
        match poll_fn(|cx| secure.poll_read(cx, &mut buffer)).await? {
            0 => return Ok(all),
            n => all.extend_from_slice(&buffer[..n]),
        }
    }
}

async fn write_all(secure: &mut Secure, bytes: &[u8]) {
    let mut written = 0;
    while written < bytes.len() {
        written += poll_fn(|cx| secure.poll_write(cx, &bytes[written..]))
            .await
            .unwrap();
    }
    poll_fn(|cx| secure.poll_drain(cx)).await.unwrap();
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 + n / 251) as u8).collect()
}

#[tokio::test]
async fn reads_of_every_size_give_the_same_bytes() {
    for step in [1, 7, 1000, RECORD - 1, RECORD, RECORD + 1, LARGEST_READ] {
        let (near, far) = pair();
        let sent = pattern(if step == 1 { 3000 } else { 200_000 });
        let expected = sent.clone();
        let peer = client(far, move |session, socket| {
            rustls::Stream::new(session, socket).write_all(&sent).unwrap();
            session.send_close_notify();
            session.complete_io(socket).unwrap();
        });
        let mut secure = accepted(near).await;
        assert!(read_all(&mut secure, step).await.unwrap() == expected, "{step}");
        peer.join().unwrap();
    }
}

/// The session tickets that wait for the first response can't be sent to a client that takes nothing more, which
/// is no reason to lose what it says.
#[tokio::test]
async fn a_client_that_takes_nothing_more_is_still_heard() {
    let (near, far) = pair();
    let (speak, may_speak) = std::sync::mpsc::sync_channel(1);
    let (deaf, is_deaf) = std::sync::mpsc::sync_channel(1);
    let peer = client(far, move |session, socket| {
        socket.shutdown(std::net::Shutdown::Read).unwrap();
        deaf.send(()).unwrap();
        may_speak.recv().unwrap();
        session.writer().write_all(b"last words").unwrap();
        session.send_close_notify();
        session.write_tls(socket).unwrap();
    });
    let mut secure = accepted(near).await;
    is_deaf.recv().unwrap();
    let mut first = [0; 4];
    let early = poll_fn(|cx| Poll::Ready(secure.poll_read(cx, &mut first))).await;
    assert!(early.is_pending(), "{early:?}");
    speak.send(()).unwrap();
    assert!(read_all(&mut secure, 100).await.unwrap() == b"last words");
    let late = poll_fn(|cx| secure.poll_write(cx, b"too late")).await;
    assert_eq!(late.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    peer.join().unwrap();
}

#[tokio::test]
async fn an_idle_session_owns_no_buffer() {
    let (near, far) = pair();
    let peer = client(far, |session, socket| {
        let mut stream = rustls::Stream::new(session, socket);
        stream.write_all(b"ping").unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).unwrap();
        stream.read(&mut back).unwrap_or(0)
    });
    let mut secure = accepted(near).await;
    let mut buffer = [0; 100];
    assert_eq!(poll_fn(|cx| secure.poll_read(cx, &mut buffer)).await.unwrap(), 4);
    write_all(&mut secure, b"pong").await;
    let owned = [&secure.incoming, &secure.plain, &secure.outgoing].map(Vec::capacity);
    assert_eq!(owned, [0, 0, 0]);
    assert!(!secure.stirs());
    drop(secure);
    peer.join().unwrap();
}

#[tokio::test]
async fn a_wait_for_many_bytes_is_over_with_the_next_for_any() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let near = listener.accept().unwrap().0;
    near.set_nonblocking(true).unwrap();
    let watched = near.try_clone().unwrap();
    let wakes_at = || LowWater.get(&watched).unwrap();
    let near = Transport::Tcp(tokio::net::TcpStream::from_std(near).unwrap());
    let peer = client(far, |session, socket| {
        rustls::Stream::new(session, socket).read(&mut [0]).unwrap_or(0)
    });
    let mut secure = accepted(near).await;
    assert!(finds_nothing(&mut secure).await);
    assert_eq!(wakes_at(), ANY);
    for as_told in [true, false] {
        secure.gather(gather::LEAST);
        assert!(finds_nothing(&mut secure).await);
        assert_eq!(wakes_at(), gather::LEAST);
        assert!(secure.is_gathering());
        if as_told {
            assert!(finds_nothing(&mut secure).await);
        } else {
            poll_fn(|cx| Poll::Ready(secure.poll_readable(cx).is_pending())).await;
        }
        assert_eq!(wakes_at(), ANY);
        assert!(!secure.is_gathering());
    }
    drop(secure);
    peer.join().unwrap();
}

async fn finds_nothing(secure: &mut Secure) -> bool {
    poll_fn(|cx| Poll::Ready(secure.poll_read(cx, &mut [0; 100]).is_pending())).await
}

mod low_water {
    use nix::libc;
    use nix::sys::socket::sockopt::GetStruct;

    #[derive(Clone, Copy)]
    pub(super) struct LowWater;

    nix::getsockopt_impl!(LowWater, libc::SOL_SOCKET, libc::SO_RCVLOWAT, u32, GetStruct<u32>);
}

#[tokio::test]
async fn what_a_slow_reader_leaves_is_bounded_and_arrives() {
    let (near, mut far) = pair();
    let mut handshake_done = client(far.try_clone().unwrap(), |session, _| session.wants_read());
    let _ = &mut handshake_done;
    let mut secure = accepted(near).await;
    handshake_done.join().unwrap();
    let bytes = pattern(4 << 20);
    let mut taken = 0;
    poll_fn(|cx| {
        while let Poll::Ready(n) = secure.poll_write(cx, &bytes[taken..]) {
            taken += n.unwrap();
        }
        Poll::Ready(())
    })
    .await;
    assert!(taken < bytes.len(), "a socket takes no 4 MiB");
    assert!(secure.unsent() > 0);
    assert!(
        secure.outgoing.capacity() <= 2 * SEALED,
        "{}",
        secure.outgoing.capacity()
    );
    let reader = std::thread::spawn(move || {
        let mut sink = Vec::new();
        far.read_to_end(&mut sink).map(|_| sink.len())
    });
    poll_fn(|cx| secure.poll_drain(cx)).await.unwrap();
    assert_eq!(secure.unsent(), 0);
    drop(secure);
    assert!(reader.join().unwrap().unwrap() > taken);
}

#[tokio::test]
async fn dropping_says_goodbye_unless_it_is_a_cut() {
    for cut in [false, true] {
        let (near, far) = pair();
        let peer = client(far, |session, socket| {
            let mut rest = Vec::new();
            rustls::Stream::new(session, socket)
                .read_to_end(&mut rest)
                .map(|_| rest)
        });
        let mut secure = accepted(near).await;
        write_all(&mut secure, b"half").await;
        if cut {
            secure.reset_on_drop();
        }
        drop(secure);
        assert_eq!(peer.join().unwrap().is_err(), cut);
    }
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let (near, far) = pair();
    let peer = client(far, |session, socket| {
        let mut all = Vec::new();
        rustls::Stream::new(session, socket)
            .read_to_end(&mut all)
            .unwrap();
        rustls::Stream::new(session, socket)
            .write_all(b"still here")
            .unwrap();
        session.send_close_notify();
        session.complete_io(socket).unwrap();
        all
    });
    let mut secure = accepted(near).await;
    write_all(&mut secure, b"done").await;
    poll_fn(|cx| secure.poll_shutdown(cx)).await.unwrap();
    assert_eq!(read_all(&mut secure, 64).await.unwrap(), b"still here");
    assert_eq!(peer.join().unwrap(), b"done");
}

#[tokio::test]
async fn a_head_and_a_short_body_are_one_record() {
    let (near, mut far) = pair();
    let shaking = client(far.try_clone().unwrap(), |_, _| ());
    let mut secure = accepted(near).await;
    shaking.join().unwrap();
    poll_fn(|cx| secure.poll_drain(cx)).await.unwrap();
    let mut tickets = vec![0; 64 << 10];
    far.set_nonblocking(true).unwrap();
    let _drained = far.read(&mut tickets);
    let parts = [IoSlice::new(b"head"), IoSlice::new(b"body")];
    let n = poll_fn(|cx| secure.poll_write_vectored(cx, &parts))
        .await
        .unwrap();
    assert_eq!(n, 8);
    let mut record = [0; 100];
    // Header, 8 bytes, content type, tag.
    assert_eq!(far.read(&mut record).unwrap(), 5 + 8 + 1 + 16);
}

#[tokio::test]
async fn a_change_of_keys_in_the_middle_is_followed() {
    let (near, far) = pair();
    let peer = client(far, |session, socket| {
        for _ in 0..3 {
            session.refresh_traffic_keys().unwrap();
            let mut stream = rustls::Stream::new(&mut *session, socket);
            stream.write_all(b"ping").unwrap();
            let mut back = [0; 4];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(&back, b"pong");
        }
    });
    let mut secure = accepted(near).await;
    for _ in 0..3 {
        let mut buffer = [0; 100];
        assert_eq!(poll_fn(|cx| secure.poll_read(cx, &mut buffer)).await.unwrap(), 4);
        write_all(&mut secure, b"pong").await;
    }
    peer.join().unwrap();
}

#[tokio::test]
async fn damaged_ciphertext_is_an_error_and_stays_one() {
    let (near, mut far) = pair();
    let shaking = client(far.try_clone().unwrap(), |_, _| ());
    let mut secure = accepted(near).await;
    shaking.join().unwrap();
    let mut noise = vec![23, 3, 3, 0, 40];
    noise.extend([9; 40]);
    far.write_all(&noise).unwrap();
    for _ in 0..2 {
        let error = read_all(&mut secure, 100).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
    assert!(poll_fn(|cx| secure.poll_write(cx, b"x")).await.is_err());
}

/// Seals records as no decent client would, behind a handshake that a decent one made.
struct Rogue {
    key: aws_lc_rs::aead::LessSafeKey,
    iv: Vec<u8>,
    sequence: u64,
}

impl Rogue {
    fn of(session: ClientConnection) -> Self {
        use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
        let (sequence, secrets) = session.dangerous_extract_secrets().unwrap().tx;
        let rustls::ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
            panic!("another suite")
        };
        Self {
            key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap()),
            iv: iv.as_ref().to_vec(),
            sequence,
        }
    }

    /// A record of TLS 1.3 with this type within.
    fn record(&mut self, kind: u8, payload: &[u8]) -> Vec<u8> {
        use aws_lc_rs::aead::{Aad, Nonce};
        let mut nonce: [u8; 12] = self.iv.clone().try_into().unwrap();
        for (byte, sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        self.sequence += 1;
        let mut sealed = [payload, &[kind]].concat();
        let length = u16::try_from(sealed.len() + 16).unwrap().to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(header),
                &mut sealed,
            )
            .unwrap();
        [&header[..], &sealed].concat()
    }
}

/// A session with a client that is a rogue from now on, and its socket.
async fn with_rogue() -> (Secure, Rogue, Blocking) {
    let (near, far) = pair();
    let mut socket = far.try_clone().unwrap();
    let shaking = std::thread::spawn(move || {
        let name = ServerName::try_from("a.test").unwrap();
        let mut session = ClientConnection::new(CONFIGS.1.clone(), name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket).unwrap();
        }
        session
    });
    let mut secure = accepted(near).await;
    poll_fn(|cx| secure.poll_drain(cx)).await.unwrap();
    (secure, Rogue::of(shaking.join().unwrap()), far)
}

#[tokio::test]
async fn who_sends_nothing_in_many_records_is_cut() {
    let (mut secure, mut rogue, mut far) = with_rogue().await;
    let empty: Vec<u8> = (0..2000).flat_map(|_| rogue.record(23, b"")).collect();
    far.write_all(&empty).unwrap();
    let error = read_all(&mut secure, 1000).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_message_that_never_ends_is_not_waited_for() {
    let (mut secure, mut rogue, mut far) = with_rogue().await;
    // A change of keys that says it is 60,000 bytes long, byte by byte.
    let mut bytes = rogue.record(22, &[24, 0, 0xea, 0x60]);
    bytes.extend((0..60_000).flat_map(|_| rogue.record(22, &[0])));
    let sending = std::thread::spawn(move || far.write_all(&bytes));
    let mut buffer = [0; 1000];
    let mut most = 0;
    let error = poll_fn(|cx| {
        let read = secure.poll_read(cx, &mut buffer);
        most = most.max(secure.incoming.len());
        read
    });
    assert_eq!(error.await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert!(most <= MAX_WAITING + 2 * RECORD, "{most}");
    drop(secure);
    assert!(sending.join().unwrap().is_err());
}

#[tokio::test]
async fn what_the_socket_does_not_take_is_counted_until_it_is_gone() {
    use crate::net::unsent::held;
    let (mut secure, _rogue, mut far) = with_rogue().await;
    let bytes = pattern(4 << 20);
    assert_eq!(held(), 0);
    let _taken = poll_fn(|cx| secure.poll_write(cx, &bytes)).await.unwrap();
    assert_eq!(held(), secure.outgoing.capacity() as isize);
    assert!(held() > 0);
    let reading = std::thread::spawn(move || {
        let mut sink = Vec::new();
        far.read_to_end(&mut sink)
    });
    poll_fn(|cx| secure.poll_drain(cx)).await.unwrap();
    assert_eq!(held(), 0);
    drop(secure);
    reading.join().unwrap().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_after_a_hello_panic_or_hang(bytes in proptest::collection::vec(any::<u8>(), 1..400)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (near, mut far) = pair();
            far.write_all(&bytes).unwrap();
            drop(far);
            let mut secure = Secure::accept(near, CONFIGS.0.clone(), Vec::new()).unwrap();
            assert!(poll_fn(|cx| secure.poll_handshake(cx)).await.is_err());
        });
    }
}

#[test]
fn a_session_is_small() {
    // Ten thousand of them wait at a time.
    assert!(size_of::<Secure>() <= 2048, "{}", size_of::<Secure>());
    // And those in the clear must not pay for them.
    assert!(size_of::<Transport>() <= 48, "{}", size_of::<Transport>());
}
