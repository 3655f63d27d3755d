//! A copy over SFTP, against Debian's sshd with a configuration of its own.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Place, contents, noise, password, quiet, subject};
use sovereign_archive::copy::{Before, CopyError, FileKind, FileName, Login, Place as _, Sftp, check};
use sovereign_archive::{Archive, Seen, Watch};
use sovereign_model::archive_copy::SftpPlace;
use sovereign_testkit::sshd::{Sshd, key, kill_with_children};

/// A host with room for a copy.
struct Server(Sshd);

impl Server {
    fn start() -> Self {
        Self(Sshd::start("restrict"))
    }

    /// To a folder in the user's home on the host, so to say.
    fn login(&self) -> Login {
        let text = format!("{}{}", self.0.address(), self.there().display());
        Login {
            place: SftpPlace { address: text.parse().unwrap(), key: self.0.at("ours"), host_key: self.0.host_key() },
            known_hosts: self.0.at("known \"hosts%h"),
        }
    }

    fn there(&self) -> PathBuf {
        self.0.at("home/archive")
    }
}

/// Whether a part of a pack is there.
fn is_under_way(folder: &Path) -> bool {
    let folders = fs::read_dir(folder.join("data")).into_iter().flatten().flatten();
    let mut files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
    files.any(|file| {
        file.file_name().to_string_lossy().ends_with("-tmp-") && file.metadata().is_ok_and(|part| part.len() > 100_000)
    })
}

fn repository(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    contents(folder).into_iter().filter(|(name, _)| !name.to_string_lossy().starts_with("sovereign.")).collect()
}

#[test]
fn a_copy_over_sftp_is_kept_in_step_and_restored_from() {
    let server = Server::start();
    let site = Place::new();
    site.write("content/large", &noise(60, 20_000_000));
    let archive = site.archive();
    let first = site.take(&archive).snapshot;
    let there = Sftp::connect(Login { known_hosts: server.0.at("known"), ..server.login() }).unwrap();
    let missing = check(&there, false, &quiet()).unwrap_err();
    assert!(matches!(missing, CopyError::Missing { .. }), "{missing:?}");

    let copied = archive.for_copies().unwrap().copy_to(&there, Before::Unknown, &quiet()).unwrap();
    assert!(copied.is_in_step() && copied.bytes_sent > 20_000_000, "{copied:?}");
    assert_eq!(repository(&server.there()), repository(archive.folder()));
    assert!(there.room().unwrap().is_some_and(|room| room.all >= room.free && room.free > 0));
    let again = archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap();
    assert_eq!((again.files_sent, again.snapshots), (0, vec![first.id.clone()]));

    // A prune here goes there too.
    site.write("content/large", &noise(61, 3_000_000));
    site.take(&archive);
    for forget in [std::slice::from_ref(&first), &[]] {
        archive.plan_prune(forget, Duration::ZERO).unwrap().run(&quiet()).unwrap();
    }
    let copied = archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap();
    assert!(copied.is_in_step() && copied.files_removed > 2, "{copied:?}");
    assert_eq!(repository(&server.there()), repository(archive.folder()));

    // Restored from as from the archive, and looked at without writing there.
    let before = contents(&server.there());
    let known = site.known();
    let copy = Archive::open_copy(Arc::new(Sftp::connect(server.login()).unwrap()), &known, &password()).unwrap();
    assert_eq!(copy.check(true).unwrap().errors, Vec::<String>::new());
    let to = tempfile::tempdir().unwrap();
    copy.contents(&copy.newest(&subject()).unwrap().unwrap()).unwrap().restore(None, to.path(), &|_| {}).unwrap();
    assert_eq!(contents(to.path()), contents(&site.site()));
    copy.plan_prune(&[], Duration::ZERO).and_then(|plan| plan.run(&quiet())).unwrap_err();
    assert_eq!(contents(&server.there()), before);

    // Damage there is found and put right.
    let (name, bytes) = repository(&server.there()).into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let mut bad = bytes.clone();
    bad[7] ^= 1;
    fs::write(server.there().join(&name), bad).unwrap();
    let found = archive.check_copy(&there, true, &quiet()).unwrap();
    assert!(matches!(found.damaged[..], [FileName::Named(FileKind::Pack, _)]), "{found:?}");
    assert_eq!(archive.mend_copy(&there, &found.damaged).unwrap(), 1);
    assert_eq!(fs::read(server.there().join(&name)).unwrap(), bytes);
}

#[test]
fn a_host_that_dies_at_any_time_leaves_whole_snapshots() {
    let mut server = Server::start();
    let site = Place::new();
    site.write("content/large", &noise(62, 24_000_000));
    let archive = site.archive();
    site.take(&archive);
    // Before anything is sent, between two files, and in the midst of one.
    for round in ["begun", "between", "midst", "between", "midst"] {
        let there = Sftp::connect(server.login()).unwrap();
        let victim = server.0.pid();
        let over = Arc::new(AtomicBool::new(false));
        let (folder, stop) = (server.there(), Arc::clone(&over));
        let killer = std::thread::spawn(move || {
            while round == "midst" && !stop.load(Ordering::Relaxed) {
                if is_under_way(&folder) {
                    return kill_with_children(victim);
                }
            }
        });
        let watch: Watch = Arc::new(move |seen| match (seen, round) {
            (Seen::Total(_), "begun") | (Seen::Stored(1_000_000..), "between") => kill_with_children(victim),
            _ => {}
        });
        let failed = archive.for_copies().unwrap().copy_to(&there, Before::Unknown, &watch);
        over.store(true, Ordering::Relaxed);
        killer.join().unwrap();
        server.0.kill();
        match failed {
            Err(CopyError::Place { source, .. }) => assert_ne!(source.kind(), io::ErrorKind::NotFound, "{source:?}"),
            Err(other) => panic!("round {round}: {other:?}"),
            Ok(copied) => panic!("round {round}: nothing was killed: {copied:?}"),
        }
        // Whatever is there of a snapshot is whole.
        if server.there().join("config").exists() && fs::read_dir(server.there().join("snapshots")).unwrap().count() > 0
        {
            let place = Arc::new(sovereign_archive::copy::Folder::new(server.there()));
            let copy = Archive::open_copy(place, &site.known(), &password()).unwrap();
            assert_eq!(copy.check(true).unwrap().errors, Vec::<String>::new(), "round {round}");
        }
        server.0.restart();
    }
    // It goes on, and does not begin again.
    let there = Sftp::connect(server.login()).unwrap();
    let copied = archive.for_copies().unwrap().copy_to(&there, Before::Unknown, &quiet()).unwrap();
    assert!(copied.is_in_step() && copied.bytes_sent < 16_000_000, "{copied:?}");
    assert_eq!(repository(&server.there()), repository(archive.folder()));
}

#[test]
fn only_the_host_with_the_key_is_talked_to_and_lets_in_who_has_the_key() {
    let server = Server::start();
    let help = |login: Login| {
        let source = Sftp::connect(login).unwrap_err();
        assert_eq!(source.kind(), io::ErrorKind::PermissionDenied, "{source}");
        let (what, place) = ("nas".to_owned(), "there".to_owned());
        CopyError::Place { action: "get to", what, place, source }.help().unwrap()
    };
    let other = key(&server.0.at("other"));
    let mut login = server.login();
    login.place.host_key = other.parse().unwrap();
    assert!(help(login).contains("host-key"), "another host");
    let mut login = server.login();
    login.place.key = server.0.at("other");
    assert!(help(login).contains("authorized_keys"), "another key");

    // Nobody listens there.
    let mut login = server.login();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    login.place.address = format!("me@127.0.0.1:{port}/archive").parse().unwrap();
    let error = Sftp::connect(login).unwrap_err().to_string();
    assert!(error.contains("Connection refused"), "{error}");

    // What cannot be written there is told as that, and nothing of it is left.
    let there = Sftp::connect(server.login()).unwrap();
    there.prepare().unwrap();
    fs::remove_dir(server.there().join("keys")).unwrap();
    fs::write(server.there().join("keys"), "in the way").unwrap();
    there.write(&FileName::Named(FileKind::Key, [7; 32]), b"key").unwrap_err();
    assert!(there.prepare().unwrap_err().to_string().contains("the host says"));
    there.read(&FileName::Named(FileKind::Pack, [7; 32])).unwrap_err();
    there.remove(&FileName::Named(FileKind::Pack, [7; 32])).unwrap();
}
