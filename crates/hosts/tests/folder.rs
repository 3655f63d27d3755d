//! Sets of files on a host, against Debian's sshd.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use sovereign_hosts::folder::Sent;
use sovereign_hosts::{Access, Connection, Keys, Login, SshError};
use sovereign_model::{Digest, FileSeen, FileSet};
use sovereign_testkit::sshd::Sshd;

const PATIENCE: Duration = Duration::from_secs(20);

async fn connect(server: &Sshd) -> Connection {
    let login = Login {
        address: server.address(),
        host_key: server.host_key(),
        keys: Keys { files: vec![server.at("ours")], agent: None },
        known_hosts: server.at("known hosts"),
    };
    Connection::open(login, Path::new("/tmp"), PATIENCE).await.unwrap()
}

struct World {
    server: Sshd,
    host: Connection,
    owner: String,
}

impl World {
    async fn new() -> Self {
        let server = Sshd::start("");
        let host = connect(&server).await;
        // Nobody else's files can be made without rights.
        let owner = format!("{}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { server, host, owner }
    }

    fn below(&self) -> PathBuf {
        self.server.at("files/leaf")
    }

    /// Files as they are written and looked at here.
    fn files(&self, all: &[(&str, &str)]) -> FileSet {
        let _ = fs::remove_dir_all(self.server.at("source")); // of those before
        let seen = all.iter().map(|(path, content)| {
            let from = self.server.at("source").join(path);
            fs::create_dir_all(from.parent().unwrap()).unwrap();
            fs::write(&from, content).unwrap();
            // As builds do that are to give the same bytes twice.
            let file = fs::File::options().write(true).open(&from).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(1)).unwrap();
            let (content, length) = (Digest::of(content), content.len() as u64);
            ((*path).to_owned(), FileSeen { from, content, length, changed: 1 })
        });
        seen.collect()
    }

    async fn put(&self, files: &FileSet) -> Result<Option<Sent>, SshError> {
        let access = Access { mode: 0o640, owner: &self.owner };
        self.host.put_folder(files, &self.below(), access, |_| {}).await
    }

    #[track_caller]
    fn there(&self, files: &FileSet) -> PathBuf {
        let folder = self.below().join(files.digest().hex());
        for (path, file) in files.iter() {
            assert_eq!(Digest::of(fs::read(folder.join(path)).unwrap()), file.content, "{path}");
        }
        folder
    }

    /// What lies there, unfinished things too.
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.below()).into_iter().flatten();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

const ODD: &str = "a folder/-o \\ \"dd\" é.html";

#[tokio::test(flavor = "multi_thread")]
async fn a_set_comes_whole_is_sent_once_and_shares_what_it_has_in_common() {
    let world = World::new().await;
    let first = world.files(&[("index.html", "one"), (ODD, "odd"), ("same.css", "green"), ("file", "a file")]);
    assert_eq!(world.put(&first).await.unwrap(), Some(Sent { files: 4, bytes: 17 }));
    let folder = world.there(&first);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&folder), mode(&folder.join("a folder"))), (0o750, 0o750));
    assert_eq!((mode(&folder.join(ODD)), mode(&world.below())), (0o640, 0o750));
    assert_eq!(world.put(&first).await.unwrap(), None);

    // The same length and the same second, a file where a folder was and a folder where a file was.
    let second = world.files(&[("index.html", "two"), ("a folder", "none"), ("same.css", "green"), ("file/a", "!")]);
    assert_eq!(world.put(&second).await.unwrap(), Some(Sent { files: 3, bytes: 8 }));
    let next = world.there(&second);
    world.there(&first);
    let seen = |folder: &Path, path: &str| fs::metadata(folder.join(path)).unwrap();
    assert_eq!(seen(&folder, "same.css").ino(), seen(&next, "same.css").ino());
    assert_eq!((seen(&next, "index.html").mtime(), seen(&next, "index.html").len()), (1, 3));
    assert_ne!(seen(&folder, "index.html").mtime_nsec(), seen(&next, "index.html").mtime_nsec());

    // Back again nothing is sent; of three the oldest goes.
    let third = world.files(&[("index.html", "three")]);
    world.put(&third).await.unwrap();
    assert_eq!(world.put(&first).await.unwrap(), None);
    world.host.tidy_folder(&world.below(), &first.digest()).await.unwrap();
    let kept = BTreeSet::from([&first, &third].map(|files| files.digest().hex()));
    assert_eq!(world.names().into_iter().collect::<BTreeSet<_>>(), kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_there_is_found_and_made_anew() {
    let world = World::new().await;
    let files = world.files(&[("index.html", "one"), ("b.css", "green")]);
    world.put(&files).await.unwrap();
    let folder = world.there(&files);
    for damage in ["edited", "gone", "added", "link", "list"] {
        match damage {
            "edited" => fs::write(folder.join("index.html"), "0ne").unwrap(),
            "gone" => fs::remove_file(folder.join("b.css")).unwrap(),
            "added" => fs::write(folder.join("c.html"), "mine").unwrap(),
            "link" => std::os::unix::fs::symlink("/etc", folder.join("etc")).unwrap(),
            _ => fs::write(folder.join(".list"), "").unwrap(),
        }
        assert_eq!(world.put(&files).await.unwrap(), Some(Sent { files: 2, bytes: 8 }), "{damage}");
        world.there(&files);
        assert_eq!(world.names(), [files.digest().hex()], "{damage}");
        assert_eq!(world.put(&files).await.unwrap(), None, "{damage}");
    }
    // What the next one would take over from it does not get far.
    fs::write(folder.join("b.css"), "grEEn").unwrap();
    let next = world.files(&[("index.html", "two"), ("b.css", "green")]);
    let told = Mutex::new(Vec::new());
    let access = Access { mode: 0o640, owner: &world.owner };
    let tell = |sent: Sent| told.lock().unwrap().push(sent.files);
    let sent = world.host.put_folder(&next, &world.below(), access, tell).await.unwrap();
    assert_eq!((sent, told.into_inner().unwrap()), (Some(Sent { files: 2, bytes: 8 }), vec![1, 2]));
    world.there(&next);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_off_leaves_what_was_there_and_is_done_again() {
    let world = World::new().await;
    let before = world.files(&[("index.html", "one")]);
    world.put(&before).await.unwrap();

    // Somebody goes on writing.
    let next = world.files(&[("index.html", "two"), ("other.html", "more")]);
    fs::write(world.server.at("source/other.html"), "still more").unwrap();
    let changed = world.put(&next).await.unwrap_err();
    assert!(matches!(changed, SshError::Here { .. }), "{changed:?}");
    assert!(std::error::Error::source(&changed).unwrap().to_string().contains("other.html was changed"), "{changed:?}");
    // And somebody who keeps length and time.
    world.files(&[("index.html", "two"), ("other.html", "m0re")]);
    let changed = world.put(&next).await.unwrap_err();
    assert!(changed.to_string().contains("what arrived is not what was sent"), "{changed}");
    world.there(&before);
    assert_eq!(world.names(), [before.digest().hex()]);

    // The line breaks in the midst of it.
    let large = "x".repeat(64 << 20);
    let next = world.files(&[("index.html", "two"), ("large", &large)]);
    let is_under_way = || {
        world.names().iter().any(|name| {
            name.ends_with(".new") && {
                fs::metadata(world.below().join(name).join("large")).is_ok_and(|file| file.len() > 0)
            }
        })
    };
    let cut = async {
        while !is_under_way() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world.host.cut().await;
    };
    let (put, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(world.put(&next), cut) }).await.unwrap();
    assert!(matches!(put, Err(SshError::Lost { .. })), "{put:?}");
    world.there(&before);
    assert!(!world.below().join(next.digest().hex()).exists());

    // Whatever it left behind.
    fs::create_dir_all(world.below().join(".0123.77.new/a")).unwrap();
    let World { server, host, owner } = world;
    drop(host);
    let again = World { host: connect(&server).await, server, owner };
    again.put(&next).await.unwrap();
    again.there(&next);
    assert_eq!(again.names().len(), 2, "{:?}", again.names());
}
