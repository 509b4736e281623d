use super::*;
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};

const OPTIONS: Options = Options {
    backlog: 128,
    mode: None,
};

fn any_port() -> Address {
    Address::Tcp("127.0.0.1:0".parse().unwrap())
}

fn tcp(address: &Address) -> SocketAddr {
    match address {
        Address::Tcp(address) => *address,
        Address::Unix(path) => panic!("unix:{}", path.display()),
    }
}

fn waiting(socket: &Socket) -> usize {
    let accept = || match socket {
        Socket::Tcp(socket) => socket.accept().is_ok(),
        Socket::Unix(socket) => socket.accept().is_ok(),
    };
    std::iter::repeat_with(accept)
        .take_while(|accepted| *accepted)
        .count()
}

#[test]
fn every_socket_of_an_address_gets_connections() {
    let bound = bind(&any_port(), 3, OPTIONS).unwrap();
    assert_eq!(bound.sockets.len(), 3);
    let _clients: Vec<_> = (0..90)
        .map(|_| TcpStream::connect(tcp(&bound.address)).unwrap())
        .collect();
    let counts: Vec<_> = bound.sockets.iter().map(waiting).collect();
    assert_eq!(counts.iter().sum::<usize>(), 90, "{counts:?}");
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

#[test]
fn a_taken_port_is_refused_and_never_shared() {
    let first = bind(&any_port(), 2, OPTIONS).unwrap();
    let second = bind(&first.address, 2, OPTIONS);
    assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_freed_port_can_be_bound_again_at_once() {
    let first = bind(&any_port(), 2, OPTIONS).unwrap();
    let client = TcpStream::connect(tcp(&first.address)).unwrap();
    let address = first.address.clone();
    drop((first, client));
    bind(&address, 2, OPTIONS).unwrap();
}

#[test]
fn the_wildcards_of_both_families_do_not_conflict() {
    let v4 = bind(&Address::Tcp("0.0.0.0:0".parse().unwrap()), 1, OPTIONS).unwrap();
    let port = tcp(&v4.address).port();
    let v6 = Address::Tcp(SocketAddr::new("::".parse().unwrap(), port));
    match bind(&v6, 1, OPTIONS) {
        Ok(_) => {}
        // A host without IPv6 has nothing to conflict with.
        Err(error) => assert_ne!(error.kind(), io::ErrorKind::AddrInUse, "{error}"),
    }
}

#[test]
fn a_duplicate_keeps_the_accept_queue_alive() {
    let mut bound = bind(&any_port(), 1, OPTIONS).unwrap();
    let original = bound.sockets.remove(0);
    let duplicate = original.try_clone().unwrap();
    let _client = TcpStream::connect(tcp(&bound.address)).unwrap();
    drop(original);
    assert_eq!(waiting(&duplicate), 1);
}

#[test]
fn a_unix_socket_has_the_mode_asked_for_and_its_file_goes_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.sock");
    let options = Options {
        mode: Some(0o600),
        ..OPTIONS
    };
    let bound = bind(&Address::Unix(path.clone()), 4, options).unwrap();
    assert_eq!(bound.sockets.len(), 1);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let _client = UnixStream::connect(&path).unwrap();
    assert_eq!(waiting(&bound.sockets[0]), 1);
    bound.file.unwrap().remove().unwrap();
    assert!(!path.exists());
}

#[test]
fn a_stale_unix_socket_file_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    bind(&Address::Unix(path), 1, OPTIONS).unwrap();
}

#[test]
fn a_unix_socket_that_somebody_listens_on_is_refused_even_with_a_full_queue() {
    let directory = tempfile::tempdir().unwrap();
    let path = Address::Unix(directory.path().join("web.sock"));
    let first = bind(
        &path,
        1,
        Options {
            backlog: 0,
            mode: None,
        },
    )
    .unwrap();
    for _ in 0..4 {
        let second = bind(&path, 1, OPTIONS);
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
    drop(first);
}

#[test]
fn a_file_that_is_no_socket_is_never_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    fs::write(&path, "mine").unwrap();
    assert!(bind(&Address::Unix(path.clone()), 1, OPTIONS).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn a_socket_file_that_somebody_else_made_since_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.sock");
    let bound = bind(&Address::Unix(path.clone()), 1, OPTIONS).unwrap();
    let file = bound.file.unwrap();
    // Keep the old inode in use, so that the new file cannot get the same number.
    fs::rename(&path, directory.path().join("old.sock")).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    file.remove().unwrap();
    assert!(path.exists());
}

#[test]
fn accepted_connections_have_their_options_from_the_listening_socket() {
    let ours = bind(&any_port(), 2, OPTIONS).unwrap();
    let given = adopt(Socket::Tcp(std::net::TcpListener::bind("127.0.0.1:0").unwrap())).unwrap();
    for bound in [ours, given] {
        let clients: Vec<_> = (0..20)
            .map(|_| TcpStream::connect(tcp(&bound.address)).unwrap())
            .collect();
        let mut accepted = 0;
        for socket in &bound.sockets {
            let Socket::Tcp(socket) = socket else {
                panic!("tcp")
            };
            while let Ok((stream, _)) = socket.accept() {
                let stream = socket2::SockRef::from(&stream);
                assert!(stream.tcp_nodelay().unwrap());
                assert!(stream.keepalive().unwrap());
                assert_eq!(stream.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
                assert_eq!(stream.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
                accepted += 1;
            }
        }
        assert_eq!(accepted, clients.len());
    }
}

#[test]
fn an_adopted_socket_must_listen() {
    let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let expected = listening.local_addr().unwrap();
    assert_eq!(
        adopt(Socket::Tcp(listening)).unwrap().address,
        Address::Tcp(expected)
    );

    let silent = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    assert!(adopt(Socket::Tcp(silent.into())).is_err());
}

#[test]
fn the_accept_queue_can_be_resized_while_it_listens() {
    let bound = bind(&any_port(), 1, OPTIONS).unwrap();
    bound.sockets[0].set_backlog(1).unwrap();
    let _client = TcpStream::connect(tcp(&bound.address)).unwrap();
    assert_eq!(waiting(&bound.sockets[0]), 1);
}
