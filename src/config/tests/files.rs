//! Files: includes, pages, secrets, and everything that can be wrong with a file.

use super::*;
use std::fs;
use std::path::{Path, PathBuf};

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn load(&self, name: &str) -> Result<Loaded, Rejected> {
        load(&self.path(name), &Environment::default())
    }

    fn good(&self, name: &str) -> Loaded {
        self.load(name)
            .unwrap_or_else(|rejected| panic!("{}", render::text(&rejected.diagnostics, false)))
    }

    fn bad(&self, name: &str) -> Rejected {
        self.load(name).unwrap_err()
    }
}

#[test]
fn every_example_is_right_and_says_what_it_shows() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let env = environment(&[
        ("REGISTER_TOKEN", "register-register"),
        ("TIDEGATE_CLUSTER_KEY", "a secret of thirty-two characters"),
        ("TIDEGATE_ADMIN_TOKEN", "one"),
        ("TIDEGATE_VIEWER_TOKEN", "two"),
        ("STICKY_KEY", "a secret of thirty-two characters"),
        ("STICKY_KEY_BEFORE", "another of thirty-two characters"),
    ]);
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap();
        assert!(
            first.starts_with("# ") && first.ends_with('.'),
            "{}: {first}",
            path.display()
        );
        let loaded = match load(&path, &env) {
            Ok(loaded) => loaded,
            Err(rejected) => panic!("{}", render::text(&rejected.diagnostics, false)),
        };
        assert!(
            loaded.warnings.is_empty(),
            "{}",
            render::text(&loaded.warnings, false)
        );
        let again = load_text("again", &effective::toml(&loaded), &env).unwrap();
        assert_eq!(again.config, loaded.config, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 15, "{seen} examples");
}

#[test]
fn a_file_that_cannot_be_used_says_why() {
    let dir = Dir::new();
    dir.write("latin.toml", b"# caf\xe9\n");
    dir.write("utf16.toml", b"\xff\xfea\0");
    dir.write("large.toml", vec![b'#'; 16 * 1024 * 1024 + 1]);
    fs::create_dir(dir.path("folder.toml")).unwrap();
    for (name, expected) in [
        ("none.toml", "can't be read: No such file"),
        ("latin.toml", "is not UTF-8: the byte at offset 5 is invalid"),
        ("utf16.toml", "is UTF-16; save it as UTF-8"),
        ("large.toml", "is larger than the 16 MiB allowed"),
        ("folder.toml", "is a directory; a file is expected"),
    ] {
        let rejected = dir.bad(name);
        let told = &rejected.diagnostics;
        assert_eq!(told.len(), 1, "{:?}", shorts(told));
        assert!(told[0].message.contains(expected), "{}", told[0].message);
        assert!(told[0].message.contains(name), "{}", told[0].message);
        assert_eq!(rejected.files, [dir.path(name)], "so that mending it is seen");
    }
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    let dir = Dir::new();
    dir.write("a.toml", format!("\u{feff}{GOOD}"));
    dir.good("a.toml");
    dir.write("b.toml", format!("\u{feff}x = 1\n{GOOD}"));
    let told = dir.bad("b.toml").diagnostics;
    assert_eq!(
        told[0].location.as_ref().map(|at| (at.line, at.column)),
        Some((1, 1))
    );
}

#[test]
fn lines_may_end_in_crlf() {
    let dir = Dir::new();
    dir.write("a.toml", GOOD.replace('\n', "\r\n"));
    dir.good("a.toml");
}

#[test]
fn includes_are_laid_together_in_order() {
    let dir = Dir::new();
    dir.write(
        "a.toml",
        format!("include = ['conf.d/*.toml', 'log.toml']\n{GOOD}"),
    );
    dir.write(
        "conf.d/20.toml",
        "[[routes]]\nname = 'c'\npaths = ['/c']\nupstream = 'app'\n",
    );
    dir.write(
        "conf.d/10.toml",
        "[[routes]]\nname = 'b'\npaths = ['/b']\nupstream = 'b'\n[upstreams.b]\nendpoints = ['b:1']\n",
    );
    dir.write("conf.d/.hidden.toml", "garbage");
    dir.write("conf.d/readme", "garbage");
    dir.write("log.toml", "[log]\nlevel = 'debug'\n");
    let loaded = dir.good("a.toml");
    let names: Vec<&str> = loaded
        .config
        .routes
        .iter()
        .map(|route| route.name.as_str())
        .collect();
    assert_eq!(names, ["route-1", "b", "c"]);
    assert_eq!(loaded.config.log.level, model::LogLevel::Debug);
    let files = ["a.toml", "conf.d/10.toml", "conf.d/20.toml", "log.toml"].map(|name| dir.path(name));
    assert_eq!(loaded.files, files);
    assert_eq!(loaded.directories, [dir.0.path().to_owned(), dir.path("conf.d")]);
    assert!(
        loaded
            .origins
            .describe("routes[1].name")
            .ends_with("conf.d/10.toml:2")
    );
}

#[test]
fn a_directory_of_includes_is_watched_before_it_has_any() {
    let dir = Dir::new();
    dir.write("a.toml", format!("include = ['later/*.toml']\n{GOOD}"));
    assert!(dir.good("a.toml").directories.contains(&dir.path("later")));
}

#[test]
fn a_problem_in_an_include_is_placed_there() {
    let dir = Dir::new();
    dir.write("a.toml", format!("include = ['b.toml']\n{GOOD}"));
    let b = dir.write("b.toml", "[log]\nlevel = 'loud'\n");
    let rejected = dir.bad("a.toml");
    let at = rejected.diagnostics[0].location.as_ref().unwrap();
    assert_eq!((at.file.as_path(), at.line), (b.as_path(), 2));
    assert_eq!(rejected.files, [dir.path("a.toml"), b]);
}

#[test]
fn a_key_in_two_files_is_an_error_that_names_both() {
    let dir = Dir::new();
    dir.write(
        "a.toml",
        format!("include = ['b.toml']\n[log]\nlevel = 'info'\n{GOOD}"),
    );
    dir.write(
        "b.toml",
        "[log]\nlevel = 'warn'\nformat = 'json'\n[upstreams.app]\nendpoints = []\n",
    );
    let told = shorts(&dir.bad("a.toml").diagnostics);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(
        told[0].starts_with("2:1 log.level: `log.level` is written here and at "),
        "{told:#?}"
    );
    assert!(told[0].contains("a.toml:3;"), "{told:#?}");
    assert!(
        told[1].starts_with("4:12 upstreams.app: `upstreams.app` is written here and at "),
        "{told:#?}"
    );
    dir.write("c.toml", format!("include = ['d.toml']\nlog = {{}}\n{GOOD}"));
    dir.write("d.toml", "log = 5\n");
    assert!(
        dir.bad("c.toml").diagnostics[0]
            .message
            .starts_with("`log` is written here and at ")
    );
}

#[test]
fn includes_that_lead_nowhere_or_in_circles_are_refused() {
    let dir = Dir::new();
    dir.write("a.toml", format!("include = ['none.toml']\n{GOOD}"));
    let rejected = dir.bad("a.toml");
    assert!(
        short(&rejected.diagnostics[0]).starts_with("1:12 include: "),
        "{:?}",
        rejected.diagnostics
    );
    assert!(
        rejected.files.contains(&dir.path("none.toml")),
        "so that its coming is seen"
    );
    dir.write("b.toml", format!("include = ['b2.toml']\n{GOOD}"));
    dir.write("b2.toml", "include = ['b.toml']\n");
    assert!(
        dir.bad("b.toml").diagnostics[0]
            .message
            .contains("is included twice; before: as the first file")
    );
    for depth in 0..=gather::MAX_INCLUDE_DEPTH {
        dir.write(
            &format!("deep{depth}.toml"),
            format!("include = ['deep{}.toml']\n", depth + 1),
        );
    }
    dir.write("deep.toml", format!("include = ['deep0.toml']\n{GOOD}"));
    let rejected = dir.bad("deep.toml");
    assert!(
        rejected.files.ends_with(&[dir.path("deep7.toml")]),
        "{:?}",
        rejected.files
    );
    let told = rejected.diagnostics;
    assert!(
        told[0].message.contains("nested deeper than 8"),
        "{:?}",
        shorts(&told)
    );
    for n in 0..gather::MAX_INCLUDED_FILES {
        dir.write(&format!("many/{n:04}.toml"), "");
    }
    dir.write("many.toml", format!("include = ['many/*.toml']\n{GOOD}"));
    let told = dir.bad("many.toml").diagnostics;
    assert_eq!(shorts(&told), ["1:12 include: more than 1024 files"]);
}

#[test]
fn a_missing_include_does_not_make_its_objects_unknown() {
    let dir = Dir::new();
    dir.write(
        "a.toml",
        format!(
            "include = ['none.toml']\n{}",
            GOOD.replace("[upstreams.app]", "[upstreams.other]")
        ),
    );
    assert_eq!(dir.bad("a.toml").diagnostics.len(), 1);
}

#[test]
fn relative_paths_start_from_the_file_that_names_them() {
    let dir = Dir::new();
    dir.write(
        "a.toml",
        format!("include = ['sub/b.toml']\n{GOOD}[runtime]\npid_file = 'x.pid'\n"),
    );
    dir.write(
        "sub/b.toml",
        "[log]\naccess = { path = 'access.log' }\n[listeners.b]\naddress = 'unix:b.sock'\n",
    );
    let config = dir.good("a.toml").config;
    assert_eq!(config.runtime.pid_file, Some(dir.path("x.pid")));
    assert_eq!(config.log.access.unwrap().path, dir.path("sub/access.log"));
    assert_eq!(
        config.listeners["b"].address,
        model::ListenAddress::Unix(dir.path("sub/b.sock"))
    );
}

#[test]
fn error_pages_must_be_there_and_small() {
    let dir = Dir::new();
    let with = |page: &str| {
        GOOD.replace(
            "[[routes]]",
            &format!("error_pages = {{ 502 = '{page}' }}\n[[routes]]"),
        )
    };
    dir.write("a.toml", with("page.html"));
    let rejected = dir.bad("a.toml");
    assert!(short(&rejected.diagnostics[0]).starts_with("3:23 listeners.web.error_pages.502: "));
    assert!(
        rejected.diagnostics[0]
            .message
            .contains("page.html can't be read: No such file")
    );
    assert!(rejected.files.contains(&dir.path("page.html")));
    let page = dir.write("page.html", "sorry");
    let before = dir.good("a.toml");
    assert!(before.files.contains(&page));
    dir.write("page.html", "very sorry");
    assert_ne!(
        dir.good("a.toml").fingerprint,
        before.fingerprint,
        "a changed page is a change"
    );
    dir.write("page.html", vec![b'x'; (1 << 20) + 1]);
    assert!(
        dir.bad("a.toml").diagnostics[0]
            .message
            .contains("is larger than the 1 MiB allowed")
    );
    dir.write("b.toml", with("."));
    assert!(
        dir.bad("b.toml").diagnostics[0]
            .message
            .contains("is a directory")
    );
}

#[test]
fn secrets_are_read_from_where_they_are_kept() {
    let dir = Dir::new();
    let with = |token: &str| {
        format!("{GOOD}[admin]\naddress = '127.0.0.1:9900'\ntokens = [{{ name = 'a', token = '{token}' }}]\n")
    };
    let token = |loaded: Loaded| loaded.config.admin.unwrap().tokens[0].token.0.clone();
    dir.write("a.toml", with("file:secret"));
    let rejected = dir.bad("a.toml");
    assert!(short(&rejected.diagnostics[0]).contains("admin.tokens[0].token: found a string: "));
    assert!(
        rejected.diagnostics[0]
            .message
            .contains("secret can't be read: No such file")
    );
    assert!(rejected.files.contains(&dir.path("secret")));
    dir.write("secret", "hunter2\n");
    let before = dir.good("a.toml");
    assert!(before.warnings.is_empty() && before.files.contains(&dir.path("secret")));
    let fingerprint = before.fingerprint;
    assert_eq!(token(before), "hunter2");
    dir.write("secret", "hunter3\n");
    assert_ne!(dir.good("a.toml").fingerprint, fingerprint);
    dir.write("secret", "\n");
    assert!(
        dir.bad("a.toml").diagnostics[0]
            .message
            .contains("the secret is empty")
    );

    let path = dir.write("b.toml", with("env:A_TOKEN"));
    assert!(
        dir.bad("b.toml").diagnostics[0]
            .message
            .contains("the environment has no variable A_TOKEN")
    );
    let loaded = load(&path, &environment(&[("A_TOKEN", "hunter2")])).unwrap();
    assert!(loaded.warnings.is_empty());
    assert_eq!(token(loaded), "hunter2");
    assert!(load(&path, &environment(&[("A_TOKEN", "")])).is_err());
}

#[test]
fn pipes_are_not_waited_for() {
    let dir = Dir::new();
    let pipe = dir.path("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    dir.write("a.toml", format!("include = ['pipe']\n{GOOD}"));
    assert!(
        dir.bad("a.toml").diagnostics[0]
            .message
            .contains("is not a regular file")
    );
}
