use super::*;
use crate::config::{Environment, load_text};
use std::net::{SocketAddr, TcpListener, TcpStream};

const WORKERS: usize = 2;

fn wanted(listeners: &[(&str, &str)]) -> BTreeMap<Name, Listener> {
    if listeners.is_empty() {
        return BTreeMap::new();
    }
    let mut text = String::new();
    for (name, address) in listeners {
        text += &format!("[listeners.{name}]\naddress = \"{address}\"\n");
    }
    load_text("test", &text, &Environment::default())
        .unwrap()
        .config
        .listeners
}

fn open(listeners: &[(&str, &str)]) -> Listeners {
    let mut all = Listeners::new(WORKERS, Inherited::default());
    change(&mut all, listeners);
    all
}

fn change(all: &mut Listeners, listeners: &[(&str, &str)]) -> Moves {
    let prepared = all.prepare(&wanted(listeners)).unwrap();
    all.apply(prepared)
}

fn port(all: &Listeners, name: &str) -> SocketAddr {
    match all
        .bound()
        .into_iter()
        .find(|listener| &*listener.name == name)
        .unwrap()
        .address
    {
        Address::Tcp(address) => address,
        Address::Unix(path) => panic!("unix:{}", path.display()),
    }
}

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

/// Connections that wait for any of these sockets.
fn waiting(sockets: &[(usize, ListenSocket)]) -> usize {
    let accepts = |socket: &ListenSocket| match &socket.socket {
        Socket::Tcp(socket) => std::iter::repeat_with(|| socket.accept())
            .take_while(Result::is_ok)
            .count(),
        Socket::Unix(socket) => std::iter::repeat_with(|| socket.accept())
            .take_while(Result::is_ok)
            .count(),
    };
    sockets.iter().map(|(_, socket)| accepts(socket)).sum()
}

#[test]
fn each_worker_gets_a_socket_of_each_listener() {
    let mut all = Listeners::new(WORKERS, Inherited::default());
    let moves = change(&mut all, &[("a", "127.0.0.1:0"), ("b", "127.0.0.1:0")]);
    let mut got: Vec<(usize, String)> = moves
        .listen
        .iter()
        .map(|(worker, socket)| (*worker, socket.listener.to_string()))
        .collect();
    got.sort();
    let expected = [(0, "a"), (0, "b"), (1, "a"), (1, "b")].map(|(worker, name)| (worker, name.to_owned()));
    assert_eq!(got, expected);
}

#[test]
fn a_listener_that_stays_keeps_its_port_and_its_sockets() {
    let mut all = open(&[("web", "127.0.0.1:0")]);
    let before = port(&all, "web");
    let moves = change(&mut all, &[("web", "127.0.0.1:0"), ("more", "127.0.0.1:0")]);
    assert_eq!(port(&all, "web"), before);
    assert!(moves.unlisten.is_empty());
    assert!(moves.listen.iter().all(|(_, socket)| &*socket.listener == "more"));
}

#[test]
fn a_listener_that_goes_is_closed_by_the_workers_and_not_before() {
    let mut all = Listeners::new(WORKERS, Inherited::default());
    let held = change(&mut all, &[("web", "127.0.0.1:0")]).listen;
    let address = port(&all, "web");
    let _client = TcpStream::connect(address).unwrap();
    let moves = change(&mut all, &[]);
    assert_eq!(moves.unlisten.len(), WORKERS);
    assert!(all.bound().is_empty());
    // Who waited in the queue is still there for the worker to take.
    assert_eq!(waiting(&held), 1);
    drop(held);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_renamed_listener_keeps_who_waits_in_its_queue() {
    let address = free_port();
    let mut all = Listeners::new(WORKERS, Inherited::default());
    let old = change(&mut all, &[("old", &address)]);
    let _client = TcpStream::connect(&address).unwrap();
    let moves = change(&mut all, &[("new", &address)]);
    drop(old);
    assert_eq!(moves.unlisten.len(), WORKERS);
    assert_eq!(waiting(&moves.listen), 1);
}

#[test]
fn two_listeners_may_exchange_their_addresses() {
    let (one, two) = (free_port(), free_port());
    let mut all = open(&[("a", &one), ("b", &two)]);
    change(&mut all, &[("a", &two), ("b", &one)]);
    assert_eq!(port(&all, "a").to_string(), two);
    assert_eq!(port(&all, "b").to_string(), one);
}

#[test]
fn what_can_not_be_bound_is_named_and_nothing_else_stays() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let free = free_port();
    let mut all = open(&[("web", "127.0.0.1:0")]);
    let before = all.bound();
    let wanted = wanted(&[("web", "127.0.0.1:0"), ("good", &free), ("bad", &taken)]);
    let errors = all.prepare(&wanted).unwrap_err();
    let text = errors[0].to_string();
    assert!(
        errors.len() == 1 && text.contains("bad") && text.contains(&taken) && text.contains("in use"),
        "{text}"
    );
    assert_eq!(all.bound(), before);
    TcpListener::bind(free).unwrap();
}

#[test]
fn the_file_of_a_unix_listener_goes_with_it_and_with_a_refused_reload() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.sock");
    let address = format!("unix:{}", path.display());
    let mut all = Listeners::new(WORKERS, Inherited::default());
    drop(all.prepare(&wanted(&[("web", &address)])).unwrap());
    assert!(!path.exists(), "prepared and not applied");

    let held = change(&mut all, &[("web", &address)]).listen;
    assert_eq!(held.len(), WORKERS, "each worker has a duplicate");
    assert!(path.exists());
    change(&mut all, &[("renamed", &address)]);
    assert!(path.exists(), "it has a new owner");
    change(&mut all, &[]);
    assert!(!path.exists());
}

#[test]
fn a_worker_that_takes_over_gets_the_same_sockets() {
    let mut all = Listeners::new(WORKERS, Inherited::default());
    let first = change(&mut all, &[("web", "127.0.0.1:0")]).listen;
    let _clients: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(port(&all, "web")).unwrap())
        .collect();
    let again = (0..WORKERS).flat_map(|worker| {
        let sockets = all.sockets_of(worker).unwrap();
        sockets
            .into_iter()
            .map(move |socket| (worker, socket))
            .collect::<Vec<_>>()
    });
    let again: Vec<_> = again.collect();
    drop(first);
    assert_eq!(waiting(&again), 20);
}
