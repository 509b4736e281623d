use super::*;
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
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
});

/// A client on a thread of its own, whose `play` gets the session and the socket.
fn client<T: Send + 'static>(
    socket: Blocking,
    play: impl FnOnce(&mut ClientConnection, &mut Blocking) -> T + Send + 'static,
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
