use super::*;
use crate::control::command::Outcome;
use notify::event::{CreateKind, ModifyKind, RenameMode};
use std::fs;
use std::os::unix::fs::symlink;

fn watched(files: &[&Path]) -> Watched {
    Watched {
        files: files.iter().map(|path| path.to_path_buf()).collect(),
        directories: Vec::new(),
    }
}

#[test]
fn a_linked_file_is_watched_at_every_station() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    fs::create_dir(root.join("..2026")).unwrap();
    fs::write(root.join("..2026/gate.toml"), "").unwrap();
    symlink("..2026", root.join("..data")).unwrap();
    symlink("..data/gate.toml", root.join("gate.toml")).unwrap();

    let scope = Scope::of(&watched(&[&root.join("gate.toml")]));
    assert!(scope.directories.contains(&root), "{scope:?}");
    assert!(scope.directories.contains(&root.join("..2026")), "{scope:?}");
    for name in ["gate.toml", "..data"] {
        assert!(
            scope.names.contains(OsStr::new(name)),
            "{name} is not in {scope:?}"
        );
    }
}

#[test]
fn links_in_a_circle_end() {
    let root = tempfile::tempdir().unwrap();
    symlink("b", root.path().join("a")).unwrap();
    symlink("a", root.path().join("b")).unwrap();
    let scope = Scope::of(&watched(&[&root.path().join("a")]));
    assert!(scope.directories.len() <= MAX_LINKS);
}

#[test]
fn a_file_without_a_directory_is_in_the_current_one() {
    let scope = Scope::of(&watched(&[Path::new("tidegate.toml")]));
    assert!(scope.directories.contains(Path::new(".")));
}

#[test]
fn reads_and_logs_beside_the_configuration_ring_no_bell() {
    let scope = Scope::of(&watched(&[Path::new("/etc/gate/gate.toml")]));
    let event = |kind, path: &str| Event::new(kind).add_path(path.into());
    let modify = EventKind::Modify(ModifyKind::Any);
    assert!(!scope.concerns(&event(modify, "/etc/gate/access.log")));
    let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
    assert!(!scope.concerns(&event(open, "/etc/gate/gate.toml")));

    assert!(scope.concerns(&event(modify, "/etc/gate/gate.toml")));
    let rename = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    assert!(scope.concerns(&event(rename, "/etc/gate/gate.toml")));
    let create = EventKind::Create(CreateKind::File);
    assert!(scope.concerns(&event(create, "/etc/gate/new.toml")));
}

/// Runs the watch on a file and counts the reloads that it asks for.
struct Watching {
    commands: mpsc::Receiver<super::super::command::Submitted>,
    _watched: watch::Sender<Watched>,
}

impl Watching {
    async fn on(file: &Path) -> Self {
        let (commands, inbox) = Commands::channel();
        let watched = watch::Sender::new(watched(&[file]));
        crate::base::task::spawn(run(watched.subscribe(), commands));
        let mut watching = Self {
            commands: inbox,
            _watched: watched,
        };
        watching.reload().await;
        watching
    }

    /// The next reload, which must come before the poll would ask for it.
    async fn reload(&mut self) {
        let next = tokio::time::timeout(POLL / 4, self.commands.recv()).await;
        let asked = next.expect("nothing rang").expect("the watch ended");
        assert_eq!(asked.command.actor, Actor::FileWatch);
        asked.answer.send(Outcome::Done).unwrap();
    }
}

#[tokio::test]
async fn a_written_file_leads_to_a_reload() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("gate.toml");
    fs::write(&file, "1").unwrap();
    let mut watching = Watching::on(&file).await;
    fs::write(&file, "2").unwrap();
    watching.reload().await;
}

#[tokio::test]
async fn an_editors_rename_leads_to_a_reload_each_time() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("gate.toml");
    fs::write(&file, "1").unwrap();
    let mut watching = Watching::on(&file).await;
    for text in ["2", "3"] {
        let draft = root.path().join(".gate.swp");
        fs::write(&draft, text).unwrap();
        fs::rename(&draft, &file).unwrap();
        watching.reload().await;
    }
}

#[tokio::test]
async fn a_swapped_link_leads_to_a_reload_each_time() {
    let root = tempfile::tempdir().unwrap();
    let link = root.path().join("..data");
    let version = |n: u32| {
        let directory = root.path().join(format!("..v{n}"));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("gate.toml"), n.to_string()).unwrap();
        directory
    };
    symlink(version(1), &link).unwrap();
    let file = root.path().join("gate.toml");
    symlink("..data/gate.toml", &file).unwrap();
    let mut watching = Watching::on(&file).await;
    for n in [2, 3] {
        let draft = root.path().join("..data_tmp");
        symlink(version(n), &draft).unwrap();
        fs::rename(&draft, &link).unwrap();
        watching.reload().await;
    }
}
