//! A copy over SFTP, against Debian's sshd with a configuration of its own.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Place, contents, noise, password, quiet, subject};
use rustix::process::{Pid, Signal, kill_process};
use sovereign_archive::copy::{Before, CopyError, FileKind, FileName, Login, Place as _, Sftp, check};
use sovereign_archive::{Archive, Seen, Watch};
use sovereign_model::archive_copy::SftpPlace;

/// An SSH server of this user's, which ends with it.
struct Server {
    folder: tempfile::TempDir,
    port: u16,
    sshd: Child,
}

fn key(path: &Path) -> String {
    let mut keygen = Command::new("ssh-keygen");
    let made = keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(made.success());
    fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_owned()
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        key(&at("host"));
        let ours = key(&at("ours"));
        fs::write(at("authorized"), format!("restrict {ours}\n")).unwrap();
        fs::create_dir(at("home")).unwrap();
        if rustix::process::geteuid().is_root() {
            // Debian's unit makes it otherwise; sshd asks for it as root.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\nLogLevel ERROR\n",
            at("host").display(),
            at("authorized").display()
        );
        fs::write(at("sshd_config"), config).unwrap();
        let sshd = Self::run(&at("sshd_config"), port);
        Self { folder, port, sshd }
    }

    fn run(config: &Path, port: u16) -> Child {
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut sshd = command.spawn().expect("openssh-server");
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(sshd.try_wait().unwrap().is_none(), "sshd ended");
            assert!(began.elapsed() < Duration::from_secs(20), "sshd does not listen");
            std::thread::yield_now();
        }
        sshd
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// To a folder in the user's home on the host, so to say.
    fn login(&self) -> Login {
        let text = format!("{}@127.0.0.1:{}{}", user(), self.port, self.at("home/archive").display());
        let host_key = fs::read_to_string(self.at("host.pub")).unwrap().trim().parse().unwrap();
        Login {
            place: SftpPlace { address: text.parse().unwrap(), key: self.at("ours"), host_key },
            known_hosts: self.at("known \"hosts%h"),
        }
    }

    fn there(&self) -> PathBuf {
        self.at("home/archive")
    }

    /// Kills everything that serves, in the midst of what it does.
    fn kill(&mut self) {
        kill_with_children(self.sshd.id().try_into().unwrap());
        self.sshd.wait().unwrap();
    }

    fn restart(&mut self) {
        self.sshd = Self::run(&self.at("sshd_config"), self.port);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        kill_with_children(self.sshd.id().try_into().unwrap());
        let _ = self.sshd.wait();
    }
}

fn kill_with_children(pid: i32) {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    children.split_whitespace().for_each(|child| kill_with_children(child.parse().unwrap()));
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
    let there = Sftp::connect(Login { known_hosts: server.at("known"), ..server.login() }).unwrap();
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
        let victim = i32::try_from(server.sshd.id()).unwrap();
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
        server.kill();
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
        server.restart();
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
    let other = key(&server.at("other"));
    let mut login = server.login();
    login.place.host_key = other.parse().unwrap();
    assert!(help(login).contains("host-key"), "another host");
    let mut login = server.login();
    login.place.key = server.at("other");
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
