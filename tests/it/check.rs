//! `tidegate check` tells everything that is wrong, each with its place, and what would be right.

use crate::binary;
use std::path::{Path, PathBuf};
use testkit::{Ran, run};

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        for (name, content) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            std::fs::write(path, content).expect("file");
        }
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("tidegate.toml")
    }

    fn check(&self) -> Ran {
        check(&self.path())
    }
}

fn check(path: &Path) -> Ran {
    run(&binary(), &["check", "-c", &path.display().to_string()])
}

/// Everything that was said, wherever.
fn said(ran: &Ran) -> String {
    format!("{}{}", ran.stdout, ran.stderr)
}

const GOOD: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
[upstreams.app]
endpoints = ["127.0.0.1:3000"]
"#;

#[test]
fn a_good_configuration_is_0_and_a_summary() {
    let ran = Files::new(&[("tidegate.toml", GOOD)]).check().expect(0);
    let counts = "1 listener, 1 route, 1 upstream, 1 endpoint, 0 warnings";
    assert!(ran.stdout.contains(counts), "{}", ran.stdout);
}

#[test]
fn endpoints_that_names_will_tell_are_counted_as_such() {
    let discovering = GOOD.replace(
        "endpoints =",
        "discover = { dns = \"app.test.:80\" }\nendpoints =",
    );
    let ran = Files::new(&[("tidegate.toml", &discovering)]).check().expect(0);
    let counts = "1 endpoint and those that 1 upstream discovers";
    assert!(ran.stdout.contains(counts), "{}", ran.stdout);
}

#[test]
fn all_errors_are_told_at_once_each_with_its_place() {
    let config = r#"[listeners.web]
address = "127.0.0.1:0"
limits = { bdoy = "1MB" }

[runtime]
workers = "many"
drain_timeout = "5 parsecs"

[[routes]]
upstream = "ap"

[[routes]]
paths = ["no-slash"]
respond = { status = 99 }

[[routes]]
upstream = "app"
redirect = { to = "/x" }

[upstreams.app]
balance = "round-robin"
endpoints = ["127.0.0.1"]
"#;
    let files = Files::new(&[("tidegate.toml", config)]);
    let ran = files.check().expect(2);
    let said = said(&ran);
    for (line, column, words) in [
        (3, 12, &["listeners.web.limits", "bdoy", "body"][..]),
        (6, 11, &["runtime.workers", "many", "auto"]),
        (7, 17, &["runtime.drain_timeout", "parsecs"]),
        (10, 12, &["routes[0].upstream", "ap", "app"]),
        (13, 10, &["routes[1].paths", "no-slash"]),
        (14, 22, &["routes[1].respond.status", "99"]),
        (18, 12, &["routes[2]", "redirect", "upstream"]),
        (21, 11, &["upstreams.app.balance", "round-robin", "round_robin"]),
        (22, 14, &["upstreams.app.endpoints[0]", "127.0.0.1:80"]),
    ] {
        let place = format!("tidegate.toml:{line}:{column}\n");
        assert!(
            said.contains(&place),
            "no problem on line {line}, column {column}:\n{said}"
        );
        for word in words {
            assert!(said.contains(word), "{word:?} is not told:\n{said}");
        }
    }
}

#[test]
fn places_carry_the_column() {
    let files = Files::new(&[("tidegate.toml", &GOOD.replace("address", "adress"))]);
    let said = said(&files.check().expect(2));
    assert!(said.contains("tidegate.toml:3:1"), "{said}");
    assert!(said.contains("adress") && said.contains("address"), "{said}");
}

#[test]
fn a_syntax_error_is_told_with_its_place() {
    for (config, place) in [
        ("[listeners.web\n", ":1:"),
        ("a = 1\nb = = 2\n", ":2:"),
        ("x = \"open\ny = 1\n", ":1:"),
    ] {
        let said = said(&Files::new(&[("tidegate.toml", config)]).check().expect(2));
        assert!(said.contains(&format!("tidegate.toml{place}")), "{said}");
    }
}

#[test]
fn files_that_cannot_be_read_are_2_and_named() {
    let dir = tempfile::tempdir().expect("directory");
    let missing = check(&dir.path().join("none.toml")).expect(2);
    assert!(said(&missing).contains("none.toml"), "{missing:?}");
    let directory = check(dir.path()).expect(2);
    assert!(!said(&directory).trim().is_empty());
    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe, 0x00]).expect("write");
    assert!(said(&check(&binary).expect(2)).contains("binary.toml"));
}

#[test]
fn an_empty_configuration_is_not_taken_for_a_working_one() {
    let ran = Files::new(&[("tidegate.toml", "")]).check();
    assert!(!said(&ran).trim().is_empty() && ran.code.is_some(), "{ran:?}");
}

#[test]
fn problems_of_included_files_name_the_included_file() {
    let files = Files::new(&[
        ("tidegate.toml", &format!("include = [\"conf.d/*.toml\"]\n{GOOD}")),
        ("conf.d/good.toml", "[[routes]]\npaths = [\"/x\"]\nrespond = {}\n"),
        ("conf.d/bad.toml", "\n[upstreams.other]\nendpoints = 5\n"),
    ]);
    let said = said(&files.check().expect(2));
    assert!(said.contains("bad.toml:3:"), "{said}");
}

#[test]
fn a_name_defined_twice_is_told_with_both_places() {
    let files = Files::new(&[
        ("tidegate.toml", &format!("include = [\"b.toml\"]\n{GOOD}")),
        ("b.toml", "[upstreams.app]\nendpoints = [\"127.0.0.1:1\"]\n"),
    ]);
    let said = said(&files.check().expect(2));
    assert!(
        said.contains("b.toml:") && said.contains("tidegate.toml:"),
        "{said}"
    );
}

#[test]
fn contradictions_are_errors() {
    for (what, config) in [
        ("the same address twice", GOOD.replace("[[routes]]", "[listeners.b]\naddress = \"127.0.0.1:0\"\n[listeners.c]\naddress = \"127.0.0.1:8080\"\n[listeners.d]\naddress = \"127.0.0.1:8080\"\n[[routes]]")),
        ("no action", GOOD.replace("upstream = \"app\"", "hosts = [\"a\"]")),
        ("an upstream without endpoints", GOOD.replace("[\"127.0.0.1:3000\"]", "[]")),
        ("the same endpoint twice", GOOD.replace("[\"127.0.0.1:3000\"]", "[\"127.0.0.1:1\", \"127.0.0.1:1\"]")),
        ("a split without weight", GOOD.replace("upstream = \"app\"", "split = { app = 0 }")),
        ("an unknown listener", GOOD.replace("upstream = \"app\"", "upstream = \"app\"\nlisteners = [\"wbe\"]")),
        ("an unknown variable", GOOD.replace("upstream = \"app\"", "redirect = { to = \"https://${hots}/\" }")),
        ("a bad regex", GOOD.replace("upstream = \"app\"", "upstream = \"app\"\npaths = [\"~^/(\"]")),
        ("an error page that is not there", GOOD.replace("[[routes]]", "error_pages = { 502 = \"none.html\" }\n[[routes]]")),
        ("a header that belongs to the connection", GOOD.replace("upstream = \"app\"", "upstream = \"app\"\nrequest_headers = { set = { \"Content-Length\" = \"1\" } }")),
        ("a header value with a line end", GOOD.replace("upstream = \"app\"", "upstream = \"app\"\nrequest_headers = { set = { \"X\" = \"a\\r\\nb\" } }")),
        ("a secret that is not there", format!("{GOOD}\n[admin]\naddress = \"127.0.0.1:0\"\ntokens = [{{ name = \"a\", token = \"env:NOT_SET\" }}]\n")),
    ] {
        let files = Files::new(&[("tidegate.toml", &config)]);
        let ran = files.check();
        assert_eq!(ran.code, Some(2), "{what} was accepted:\n{config}\n{ran:?}");
        assert!(said(&ran).contains("tidegate.toml:"), "{what}: {ran:?}");
    }
}

#[test]
fn a_secret_in_the_file_itself_is_a_warning_that_does_not_tell_it() {
    let admin =
        "\n[admin]\naddress = \"127.0.0.1:0\"\ntokens = [{ name = \"a\", token = \"plain-text-secret\" }]\n";
    let files = Files::new(&[("tidegate.toml", &format!("{GOOD}{admin}"))]);
    let said = said(&files.check().expect(0));
    assert!(
        said.contains("warning: admin.tokens[0].token") && !said.contains("plain-text-secret"),
        "{said}"
    );
}

#[test]
fn a_route_that_can_never_match_is_a_warning() {
    let config = format!("{GOOD}\n[[routes]]\nname = \"shadowed\"\nrespond = {{ body = \"never\" }}\n");
    let ran = Files::new(&[("tidegate.toml", &config)]).check().expect(0);
    let said = said(&ran);
    assert!(said.contains("shadowed") && said.contains("warning"), "{said}");
}

#[test]
fn a_bad_value_from_the_environment_is_told_by_its_variable() {
    let files = Files::new(&[("tidegate.toml", GOOD)]);
    let mut command = testkit::cli::command(binary());
    command
        .args(["check", "-c"])
        .arg(files.path())
        .env("TIDEGATE_RUNTIME__DRAIN_TIMEOUT", "soon");
    let ran = testkit::cli::finish(command).expect(2);
    assert!(said(&ran).contains("TIDEGATE_RUNTIME__DRAIN_TIMEOUT"), "{ran:?}");
}

#[test]
fn check_binds_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let config = GOOD.replace("127.0.0.1:0", &taken.local_addr().expect("address").to_string());
    let _ = Files::new(&[("tidegate.toml", &config)]).check().expect(0);
}

#[test]
fn run_refuses_what_check_refuses_with_the_same_words() {
    let files = Files::new(&[("tidegate.toml", &GOOD.replace("address", "adress"))]);
    let ran = run(&binary(), &["run", "-c", &files.path().display().to_string()]).expect(2);
    assert!(
        ran.stderr.contains("tidegate.toml:3:1") && ran.stderr.contains("address"),
        "{}",
        ran.stderr
    );
}

#[test]
fn hostile_files_end_in_an_error_not_in_a_crash() {
    let deep = format!("a = {}{}", "[".repeat(5000), "]".repeat(5000));
    let long = format!("[listeners.{}]\naddress = \"127.0.0.1:0\"\n", "x".repeat(100_000));
    let many = "[[routes]]\nnonsense = 1\n".repeat(2000);
    let keys = format!("a{} = 1\n", ".b".repeat(5000));
    for config in [
        deep,
        long,
        many,
        keys,
        "\0".repeat(100),
        "a = \"\\u0000\"".to_owned(),
    ] {
        let ran = Files::new(&[("tidegate.toml", &config)]).check();
        assert_eq!(
            ran.code,
            Some(2),
            "{:?}",
            &said(&ran)[..said(&ran).len().min(300)]
        );
    }
}

#[test]
fn a_file_that_includes_itself_ends() {
    let files = Files::new(&[("tidegate.toml", &format!("include = [\"*.toml\"]\n{GOOD}"))]);
    let ran = files.check();
    assert!(matches!(ran.code, Some(0 | 2)), "{ran:?}");
}

#[test]
fn what_this_host_lacks_for_a_start_is_a_warning() {
    let config = format!(
        "{GOOD}[runtime]\nuser = \"nobody-has-this-name\"\n[log]\naccess = {{ path = \"/nowhere-at-all/access.log\" }}\n"
    );
    let files = Files::new(&[("tidegate.toml", &config)]);
    let ran = files.check().expect(0);
    let said = said(&ran);
    assert!(said.contains("warning: runtime.user"), "{said}");
    assert!(said.contains("nobody-has-this-name"), "{said}");
    assert!(said.contains("/nowhere-at-all"), "{said}");
    assert!(said.contains("2 warnings"), "{said}");
}
