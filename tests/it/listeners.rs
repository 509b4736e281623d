//! Sockets: taken ports are refused, unix sockets are tidy, every family serves.

use crate::gateway;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use testkit::net::free_port;
use testkit::{Address, Conn, eventually};

fn at(address: &str) -> String {
    format!("[listeners.web]\naddress = \"{address}\"\n[[routes]]\nrespond = {{ body = \"hi\" }}\n")
}

#[test]
fn a_taken_port_is_refused_with_its_name() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("address").to_string();
    let ran = gateway(&at(&address)).try_start().expect_err("it must not start");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stderr.contains(&address) && ran.stderr.contains("web"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_second_instance_never_shares_a_port_silently() {
    let first = gateway(&at(&format!("127.0.0.1:{}", free_port()))).start();
    let address = first.web().to_string();
    for _ in 0..3 {
        let ran = gateway(&at(&address)).try_start().expect_err("it must not start");
        assert_eq!(ran.code, Some(1), "{ran:?}");
    }
    for _ in 0..20 {
        assert_eq!(first.get("/").text(), "hi");
    }
}

#[test]
fn a_port_is_free_again_after_the_end() {
    let address = format!("127.0.0.1:{}", free_port());
    for _ in 0..3 {
        let gateway = gateway(&at(&address)).start();
        assert_eq!(gateway.get("/").text(), "hi");
        assert_eq!(gateway.stop(), Some(0));
    }
}

#[test]
fn a_unix_socket_has_its_mode_and_goes_with_the_process() {
    let config = "[listeners.web]\naddress = \"unix:@dir@/web.sock\"\nmode = \"0660\"\n[[routes]]\nrespond = { body = \"hi\" }\n";
    let gateway = gateway(config).start();
    let path = gateway.path("web.sock");
    assert_eq!(gateway.web(), Address::Unix(path.clone()));
    let metadata = std::fs::metadata(&path).expect("the socket");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
    assert_eq!(gateway.get("/").text(), "hi");
    let dir = gateway.dir().to_owned();
    gateway.signal(testkit::gateway::Sig::TERM);
    eventually("the socket file is removed", || !dir.join("web.sock").exists());
}

#[test]
fn a_stale_unix_socket_is_replaced_a_live_one_is_not() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("web.sock");
    let config = at(&format!("unix:{}", path.display()));
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bind"));
    assert!(path.exists(), "a stale socket file is left behind");
    let first = gateway(&config).start();
    assert_eq!(first.get("/").text(), "hi");
    let ran = gateway(&config).try_start().expect_err("it must not start");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(first.get("/").text(), "hi");
}

#[test]
fn a_file_that_is_no_socket_is_never_removed() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("precious");
    std::fs::write(&path, "data").expect("write");
    let ran = gateway(&at(&format!("unix:{}", path.display())))
        .try_start()
        .expect_err("it must not start");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "data");
}

#[test]
fn ipv6_is_served() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    }
    let gateway = gateway(&at("[::1]:0")).start();
    assert_eq!(gateway.get("/").text(), "hi");
}

#[test]
fn many_listeners_serve_side_by_side() {
    let mut config = "[[routes]]\nrespond = { body = \"hi\" }\n".to_owned();
    for n in 0..20 {
        config += &format!("[listeners.l{n}]\naddress = \"127.0.0.1:0\"\n");
    }
    let gateway = gateway(&config).start();
    for n in 0..20 {
        assert_eq!(
            Conn::connect(gateway.addr(&format!("l{n}"))).get("/").text(),
            "hi"
        );
    }
}

#[test]
fn an_address_that_this_machine_does_not_have_is_refused() {
    let ran = gateway(&at("192.0.2.1:8080"))
        .try_start()
        .expect_err("it must not start");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("192.0.2.1:8080"), "{}", ran.stderr);
}

#[test]
fn the_ready_line_and_file_tell_the_bound_addresses() {
    let gateway = gateway(&at("127.0.0.1:0")).start();
    let Address::Tcp(web) = gateway.web() else {
        panic!("{}", gateway.web())
    };
    assert_ne!(web.port(), 0);
    assert_eq!(gateway.ready()["pid"], gateway.pid());
    eventually("the ready line", || gateway.stdout().contains("ready"));
    assert!(
        gateway.stdout().contains(&web.to_string()),
        "{}",
        gateway.stdout()
    );
}
