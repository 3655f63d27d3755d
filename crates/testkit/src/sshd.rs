//! A host that speaks SSH: Debian's sshd with a configuration of its own, on a port of its own, as whoever runs the test.

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use sovereign_model::ssh::{HostKey, SshAddress};

use crate::wait::LONG;

/// An SSH server, which ends with this value. Its folder has the keys `host` and `ours`, each with its `.pub`, the file
/// `authorized`, and the folder `home`.
#[derive(Debug)]
pub struct Sshd {
    folder: tempfile::TempDir,
    port: u16,
    sshd: Child,
}

/// Makes a key pair at `path`, and gives the public one.
///
/// # Panics
/// When that fails.
pub fn key(path: &Path) -> String {
    let mut keygen = Command::new("ssh-keygen");
    let made = keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(made.is_ok_and(|status| status.success()), "ssh-keygen (openssh-client)");
    fs::read_to_string(path.with_extension("pub")).expect("it was just made").trim().to_owned()
}

impl Sshd {
    /// Starts one that lets in the key `ours`, restricted as `how` says (`restrict` for SFTP, say).
    ///
    /// # Panics
    /// When there is no sshd, or it does not listen.
    pub fn start(how: &str) -> Self {
        let made = tempfile::tempdir().and_then(|folder| {
            let at = |name: &str| folder.path().join(name);
            key(&at("host"));
            let ours = key(&at("ours"));
            fs::write(at("authorized"), format!("{how} {ours}\n"))?;
            fs::create_dir(at("home"))?;
            if rustix::process::geteuid().is_root() {
                // Debian's unit makes it otherwise; sshd asks for it as root.
                fs::create_dir_all("/run/sshd")?;
            }
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let config = format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
                 StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\nLogLevel ERROR\n",
                at("host").display(),
                at("authorized").display()
            );
            fs::write(at("sshd_config"), config)?;
            Ok((folder, port))
        });
        let (folder, port) = made.expect("a temporary folder");
        let sshd = run(&folder.path().join("sshd_config"), port);
        Self { folder, port, sshd }
    }

    /// Something in its folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How to get to it.
    ///
    /// # Panics
    /// When this user has a name that no user can have.
    pub fn address(&self) -> SshAddress {
        let output = Command::new("id").arg("-un").output().expect("coreutils");
        let user = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        format!("{user}@127.0.0.1:{}", self.port).parse().expect("a user and a port")
    }

    /// Its key.
    ///
    /// # Panics
    /// When it is not there any more.
    pub fn host_key(&self) -> HostKey {
        let key = fs::read_to_string(self.at("host.pub")).expect("its key");
        key.trim().parse().expect("a key of ssh-keygen's")
    }

    /// The process that listens.
    pub fn pid(&self) -> i32 {
        self.sshd.id().try_into().unwrap_or(i32::MAX)
    }

    /// Kills everything that serves, in the midst of what it does.
    pub fn kill(&mut self) {
        kill_with_children(self.pid());
        let _ = self.sshd.wait();
    }

    /// Starts it again after [`Sshd::kill`], on the same port.
    ///
    /// # Panics
    /// When it does not listen.
    pub fn restart(&mut self) {
        self.sshd = run(&self.at("sshd_config"), self.port);
    }

    /// Gives it another key, and starts it again.
    ///
    /// # Panics
    /// When that fails.
    pub fn change_host_key(&mut self) {
        self.kill();
        let removed = ["host", "host.pub"].map(|name| fs::remove_file(self.at(name)));
        assert!(removed.iter().all(io::Result::is_ok), "its key is there");
        key(&self.at("host"));
        self.restart();
    }
}

fn run(config: &Path, port: u16) -> Child {
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f"]).arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut sshd = command.spawn().expect("openssh-server");
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(matches!(sshd.try_wait(), Ok(None)), "sshd ended");
        assert!(began.elapsed() < LONG, "sshd does not listen");
        std::thread::yield_now();
    }
    sshd
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The children of a process, in order.
pub fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Sends a signal to a process and all below it.
pub fn signal_with_children(pid: i32, signal: Signal) {
    let below = children(pid);
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal); // it may be gone
    }
    below.into_iter().for_each(|child| signal_with_children(child, signal));
}

/// Kills a process and all below it.
pub fn kill_with_children(pid: i32) {
    signal_with_children(pid, Signal::KILL);
}
