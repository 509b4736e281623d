//! The other commands of the binary.

use crate::{PLAIN, binary, gateway, in_front_of};
use testkit::gateway::{Running, Sig};
use testkit::{Address, Backend, Conn, Ran, cli, eventually, eventually_some, run};

fn tidegate(args: &[&str]) -> Ran {
    run(&binary(), args)
}

#[test]
fn help_and_version_are_told() {
    let help = tidegate(&["--help"]).expect(0).stdout;
    for command in [
        "run", "check", "config", "proxy", "demo", "status", "reload", "drain", "undrain", "balance",
    ] {
        assert!(help.contains(command), "{help}");
    }
    assert!(
        tidegate(&["--version"])
            .expect(0)
            .stdout
            .contains(char::is_numeric)
    );
}

#[test]
fn bad_usage_is_2() {
    for args in [
        &["no-such-command"][..],
        &["run", "--no-such-flag"],
        &["proxy"],
        &[],
    ] {
        let ran = tidegate(args);
        assert!(
            ran.code == Some(2) && !ran.stderr.trim().is_empty(),
            "{args:?}: {ran:?}"
        );
    }
}

/// The first address on 127.0.0.1 that a command prints and that answers like this.
#[track_caller]
fn printed_address(running: &Running, serves: impl Fn(&Address) -> bool) -> Address {
    eventually_some("a printed address serves", || {
        let text = running.stdout() + &running.stderr();
        let places = text.match_indices("127.0.0.1:").map(|(at, _)| &text[at..]);
        let addresses = places.filter_map(|rest| {
            let end = rest
                .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))
                .unwrap_or(rest.len());
            rest[..end]
                .trim_end_matches(['.', ':'])
                .parse()
                .ok()
                .map(Address::Tcp)
        });
        let found: Vec<Address> = addresses.collect();
        found.into_iter().find(|address| serves(address))
    })
}

fn gets(address: &Address, target: &str) -> Option<testkit::Response> {
    let mut conn = Conn::try_connect(address).ok()?;
    conn.try_send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"))
        .ok()?;
    conn.try_response_to("GET").ok()
}

#[test]
fn proxy_needs_no_configuration() {
    let (a, b) = (Backend::text("a"), Backend::text("b"));
    let dir = tempfile::tempdir().expect("directory");
    let mut command = cli::command(binary());
    command
        .args(["proxy", "--listen", "127.0.0.1:0"])
        .current_dir(dir.path());
    command.env("TIDEGATE_RUNTIME__STATE_DIR", dir.path());
    for backend in [&a, &b] {
        command.args(["--to", &backend.address().to_string()]);
    }
    let mut running = Running::start(command);
    let address = printed_address(&running, |address| {
        gets(address, "/").is_some_and(|r| r.status == 200)
    });
    for _ in 0..10 {
        assert_eq!(gets(&address, "/").map(|r| r.status), Some(200));
    }
    assert!(a.hits() > 0 && b.hits() > 0);
    running.signal(Sig::TERM);
    assert_eq!(running.wait(), Some(0));
}

#[test]
fn status_tells_of_a_running_gateway() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    let ran = gateway.cli(&["status"]).expect(0);
    for word in ["web", "app", &backend.address().to_string()] {
        assert!(ran.stdout.contains(word), "{word}: {}", ran.stdout);
    }
}

#[test]
fn commands_without_a_gateway_say_so() {
    let dir = tempfile::tempdir().expect("directory");
    for command in ["status", "reload"] {
        let mut process = cli::command(binary());
        process
            .arg(command)
            .current_dir(dir.path())
            .env("TIDEGATE_RUNTIME__STATE_DIR", dir.path());
        let ran = cli::finish(process);
        assert!(
            ran.code != Some(0) && !ran.stderr.trim().is_empty(),
            "{command}: {ran:?}"
        );
    }
}

#[test]
fn the_admin_token_in_the_environment_does_not_keep_from_the_control_socket() {
    let gateway = gateway(PLAIN).with("app", "127.0.0.1:9").start();
    let control = gateway.ready()["control"]
        .as_str()
        .expect("a control socket")
        .to_owned();
    let mut process = cli::command(binary());
    process
        .args(["status", "--control", &control])
        .env("TIDEGATE_ADMIN_TOKEN", "0123456789abcdef");
    let ran = cli::finish(process);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn a_file_that_is_named_and_not_there_is_told_before_any_gateway_is_asked() {
    let ran = tidegate(&["status", "-c", "/nowhere-at-all/tidegate.toml"]);
    assert_ne!(ran.code, Some(0));
    assert!(
        ran.stderr.contains("/nowhere-at-all/tidegate.toml can't be read"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_effective_configuration_tells_values_and_their_origins() {
    let backend = Backend::text("hi");
    let gateway = gateway(&format!("{PLAIN}\n[runtime]\ndrain_timeout = \"7s\"\n"))
        .with("app", backend.address())
        .start();
    let mut command = cli::command(binary());
    command
        .args(["config", "show", "--effective", "-c"])
        .arg(gateway.path("tidegate.toml"));
    command.env("TIDEGATE_RUNTIME__DRAIN_DELAY", "3s");
    let shown = cli::finish(command).expect(0).stdout;
    for word in [
        "drain_timeout = \"7s\"",
        "drain_delay = \"3s\"",
        "header_timeout = \"10s\"",
        "TIDEGATE_RUNTIME__DRAIN_DELAY",
    ] {
        assert!(shown.contains(word), "{word} is not in:\n{shown}");
    }
    let json = gateway
        .cli(&["config", "show", "--effective", "--format", "json"])
        .expect(0)
        .stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(json.to_string().contains("7s"), "{json}");
}

#[test]
fn what_config_show_prints_is_a_configuration_again() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    let shown = gateway.cli(&["config", "show", "--effective"]).expect(0).stdout;
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("again.toml");
    std::fs::write(&path, shown).expect("write");
    let _ = tidegate(&["check", "-c", &path.display().to_string()]).expect(0);
}

#[test]
fn the_schema_is_json_schema_2020_12() {
    let schema = tidegate(&["config", "schema"]).expect(0).stdout;
    let schema: serde_json::Value = serde_json::from_str(&schema).expect("JSON");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for section in ["runtime", "log", "listeners", "routes", "upstreams", "admin"] {
        assert!(schema["properties"][section].is_object(), "{section}");
    }
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = "[listeners.web]\naddress = \"127.0.0.1:1\"\n[[routes]]\nrespond = { body = \"hi\" }\n";
    let gateway = gateway(config)
        .env("TIDEGATE_LISTENERS__WEB__ADDRESS", "127.0.0.1:0")
        .start();
    assert_ne!(gateway.web().port(), 1);
    assert_eq!(gateway.get("/").text(), "hi");
}

/// Runs the line of the demo's text that has this command.
#[track_caller]
fn try_as_told(running: &Running, command: &str) {
    let text = running.stdout() + &running.stderr();
    let told = text
        .lines()
        .find(|line| line.contains(&format!("tidegate {command} ")));
    let told = told.unwrap_or_else(|| panic!("no {command} in:\n{text}"));
    let mut words = told.split_whitespace();
    let mut process = cli::command(words.next().expect("a program"));
    process.args(words);
    let _ = cli::finish(process).expect(0);
}

#[test]
fn the_demo_starts_serves_and_ends() {
    let dir = tempfile::tempdir().expect("directory");
    let mut command = cli::command(binary());
    command.arg("demo").current_dir(dir.path());
    let mut running = Running::start(command);
    let address = printed_address(&running, |address| {
        gets(address, "/").is_some_and(|r| r.status == 200)
    });
    assert_eq!(gets(&address, "/").map(|r| r.status), Some(200));
    // What the page shows, and what the text says to try, is so.
    let seen = gets(&address, "/gateway/apps")
        .expect("the gateway's view")
        .json();
    assert_eq!(seen["endpoints"].as_array().map(Vec::len), Some(3), "{seen}");
    for command in ["drain", "balance"] {
        try_as_told(&running, command);
    }
    let seen = gets(&address, "/gateway/apps")
        .expect("the gateway's view")
        .json();
    assert_eq!(
        (&seen["balance"], &seen["endpoints"][2]["state"]),
        (&"least_connections".into(), &"draining".into()),
        "{seen}"
    );
    running.signal(Sig::INT);
    assert_eq!(running.wait(), Some(0));
    eventually("nobody listens any more", || Conn::try_connect(&address).is_err());
}

#[test]
fn the_demo_can_bring_its_own_load() {
    let dir = tempfile::tempdir().expect("directory");
    let mut command = cli::command(binary());
    command.args(["demo", "--load", "50"]).current_dir(dir.path());
    let mut running = Running::start(command);
    let _ = printed_address(&running, |address| {
        gets(address, "/").is_some_and(|r| r.status == 200)
    });
    running.signal(Sig::INT);
    assert_eq!(running.wait(), Some(0));
}

#[test]
fn the_pid_file_lives_as_long_as_the_process() {
    let config = "[runtime]\npid_file = \"gw.pid\"\n[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\nrespond = { body = \"hi\" }\n";
    let gateway = gateway(config).start();
    assert_eq!(gateway.read("gw.pid").trim(), gateway.pid().to_string());
    let file = gateway.path("gw.pid");
    gateway.signal(Sig::TERM);
    eventually("the pid file is removed", || !file.exists());
}

#[test]
fn the_log_can_be_json() {
    let config = "[log]\nformat = \"json\"\n[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\nrespond = { body = \"hi\" }\n";
    let gateway = gateway(config).start();
    eventually("something is logged", || gateway.log().contains('\n'));
    for line in gateway.log().lines() {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok(), "{line}");
    }
}

#[test]
fn privileges_are_dropped_after_binding() {
    let root = std::process::Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|out| out.stdout == b"0\n");
    if !root {
        eprintln!("skipped: only root can drop privileges");
        return;
    }
    let config = "[runtime]\nuser = \"nobody\"\nstate_dir = \"@dir@/state\"\n[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\nrespond = { body = \"hi\" }\n";
    let gateway = gateway(config).start();
    assert_eq!(gateway.get("/").text(), "hi");
    for task in std::fs::read_dir(format!("/proc/{}/task", gateway.pid()))
        .expect("tasks")
        .filter_map(Result::ok)
    {
        let status = std::fs::read_to_string(task.path().join("status")).expect("status");
        let uids = status.lines().find(|line| line.starts_with("Uid:")).expect("Uid");
        assert!(
            !uids.split_whitespace().skip(1).any(|uid| uid == "0"),
            "a thread is still root: {uids}"
        );
        let groups = status
            .lines()
            .find(|line| line.starts_with("Groups:"))
            .expect("Groups");
        assert!(
            !groups.split_whitespace().skip(1).any(|gid| gid == "0"),
            "{groups}"
        );
    }
}

#[test]
fn the_service_manager_is_told_when_it_serves_and_when_it_ends() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).expect("bind");
    manager
        .set_read_timeout(Some(testkit::patience()))
        .expect("timeout");
    let told = |word: &str| {
        let mut buf = [0; 4096];
        while let Ok(n) = manager.recv(&mut buf) {
            if String::from_utf8_lossy(&buf[..n]).contains(word) {
                return true;
            }
        }
        false
    };
    let config = "[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\nrespond = { body = \"hi\" }\n";
    let gateway = gateway(config)
        .env("NOTIFY_SOCKET", &path.display().to_string())
        .start();
    assert!(told("READY=1"));
    gateway.signal(Sig::TERM);
    assert!(told("STOPPING=1"));
}
