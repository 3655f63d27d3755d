//! One connection to a host, over which any number of commands go.
//!
//! ```text
//!  this process ── stdin ──▶ ssh, the master ═══ TCP, pinned key ═══▶ sshd ── sh: a word, then waits for its input's end
//!       │                        ▲  a socket in a folder that is ours
//!       └── ssh per command ─────┘  (milliseconds: no handshake)
//! ```
//!
//! The master ends when its standard input does: so it ends with this process, however that ends.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sovereign_model::ssh::SshAddress;
use sovereign_ssh::{Complaint, Login, Why};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::error::SshError;
use crate::socket_folder::SocketFolder;
use crate::{lease, scan};

/// What the host says when it is reached. What its shell prints before is passed over.
const READY: &str = "sovereign-is-here";
/// No greeting is so long.
const LONGEST_GREETING: u64 = 64 << 10;
/// What is kept of complaints.
pub(crate) const LONGEST_COMPLAINT: usize = 8 << 10;
/// sshd takes ten sessions on a connection unless it is told otherwise; the master's own is one, and what keeps a lease
/// has one to itself.
const SESSIONS: usize = 8;
/// What a command's ssh says when the master is not there any more, instead of connecting on its own.
pub(crate) const NO_MASTER: &str = "sovereign-has-no-connection";
/// The master is asked for something on this machine only.
const FOR_THE_MASTER: Duration = Duration::from_secs(20);

/// A connection to a host, whose key was compared with the pinned one. It ends when it is dropped.
#[derive(Debug)]
pub struct Connection {
    login: Login,
    folder: SocketFolder,
    master: Child,
    /// Held open: the master lives as long.
    hold: Option<ChildStdin>,
    complaints: Arc<Mutex<Vec<u8>>>,
    pub(crate) sessions: Arc<Semaphore>,
    forwarded: AtomicU32,
    /// How many were begun.
    pub(crate) commands: AtomicU64,
    /// Until when commands are sent, in milliseconds of [`lease::here`].
    until: AtomicU64,
}

impl Connection {
    /// Connects. The sockets lie in a folder of their own below `sockets`, which should have a short name: `/tmp`.
    ///
    /// # Errors
    /// When the host is not reached within `patience`, is another one, or does not let us in.
    pub async fn open(login: Login, sockets: &Path, patience: Duration) -> Result<Self, SshError> {
        let here = |action: &str| {
            let action = action.to_owned();
            move |source| SshError::Here { action, source }
        };
        login.write_known_hosts().map_err(here("write down the host's key"))?;
        let folder = SocketFolder::make(sockets).map_err(here("make a folder for the connection's socket"))?;
        let options = [OsString::from("-M"), "-S".into(), folder.master(), "-o".into(), "ControlPersist=no".into()];
        let command = login.ssh(options, [format!("echo {READY} && exec cat > /dev/null")]);
        let mut master = spawn(command, Stdio::piped()).map_err(here("start ssh"))?;
        let hold = master.stdin.take();
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let stderr = master.stderr.take();
        let kept = Arc::clone(&complaints);
        let listening = tokio::spawn(async move {
            if let Some(stderr) = stderr {
                keep_last(stderr, &kept).await;
            }
        });
        let greeting = master.stdout.take();
        let mut connection = Self {
            login,
            folder,
            master,
            hold,
            complaints,
            sessions: Arc::new(Semaphore::new(SESSIONS)),
            forwarded: AtomicU32::new(0),
            commands: AtomicU64::new(0),
            until: AtomicU64::new(u64::MAX),
        };
        match timeout(patience, greeted(greeting)).await {
            Ok(true) => Ok(connection),
            Ok(false) => {
                // What it complains of is complete when it has ended, and all of it was read.
                let _ = timeout(FOR_THE_MASTER, async { (connection.master.wait().await, listening.await) }).await;
                Err(connection.refused(patience).await)
            }
            Err(_) => Err(SshError::TimedOut {
                host: connection.login.address.clone(),
                action: "let us in".to_owned(),
                waited: patience,
            }),
        }
    }

    /// Where it leads.
    pub fn address(&self) -> &SshAddress {
        &self.login.address
    }

    /// How many commands were begun over it so far.
    pub fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    /// A command's ssh, which goes through the master or nowhere.
    pub(crate) fn ssh<R: Into<OsString>>(&self, run: impl IntoIterator<Item = R>) -> Command {
        self.ssh_with([], run)
    }

    /// The same with options of its own.
    pub(crate) fn ssh_with<R: Into<OsString>>(
        &self,
        more: impl IntoIterator<Item = OsString>,
        run: impl IntoIterator<Item = R>,
    ) -> Command {
        let nowhere = format!("ProxyCommand=echo {NO_MASTER} >&2; exit 1");
        let options = [OsString::from("-S"), self.folder.master(), "-o".into(), "ControlMaster=no".into()];
        self.login.ssh(options.into_iter().chain(["-o".into(), nowhere.into()]).chain(more), run)
    }

    /// Makes a unix socket of the host reachable on this machine, for as long as the connection lasts. The path of the
    /// socket here is given back; only this user can connect to it.
    ///
    /// # Errors
    /// When the connection has ended, or the path cannot be said to ssh.
    pub async fn forward(&self, remote: &Path) -> Result<PathBuf, SshError> {
        let action = format!("forward {}", remote.display());
        let is_sayable = remote.is_absolute()
            && !remote.as_os_str().as_encoded_bytes().iter().any(|byte| b":\\[]%\0".contains(byte));
        if !is_sayable {
            return Err(SshError::Here { action, source: io::Error::from(io::ErrorKind::InvalidFilename) });
        }
        self.forward_to(&action, remote.as_os_str()).await
    }

    /// Brings a port that the host can connect to here, as a unix socket. It is there as long as the connection.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn forward_port(&self, remote: SocketAddr) -> Result<PathBuf, SshError> {
        let remote = remote.to_string();
        self.forward_to(&format!("forward {remote}"), OsStr::new(&remote)).await
    }

    async fn forward_to(&self, action: &str, remote: &OsStr) -> Result<PathBuf, SshError> {
        let number = self.forwarded.fetch_add(1, Ordering::Relaxed);
        let local = self.folder.path().join(format!("f{number}"));
        let mut both = local.clone().into_os_string();
        both.push(":");
        both.push(remote);
        self.ask_master("forward", [OsStr::new("-L"), &both]).await.map_err(|said| self.lost(action, said))?;
        Ok(local)
    }

    /// Whether the connection still stands, as far as this machine can tell.
    pub async fn is_alive(&self) -> bool {
        self.ask_master("check", []).await.is_ok()
    }

    /// From `until` on, by [`lease::here`], no command is sent any more. Can be put off again and again.
    pub fn work_until(&self, until: Duration) {
        self.until.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether commands are sent.
    pub(crate) fn may_work(&self) -> bool {
        match self.until.load(Ordering::Relaxed) {
            u64::MAX => true,
            until => lease::here().as_millis() < u128::from(until),
        }
    }

    /// Ends it at once, with all that goes on over it.
    pub async fn cut(&self) {
        self.work_until(Duration::ZERO);
        let _ = self.ask_master("exit", []).await; // it may have ended
    }

    /// Ends it, and waits until it has ended.
    pub async fn close(mut self) {
        self.hold = None;
        // Otherwise it would wait for commands that were given up.
        let _ = self.ask_master("exit", []).await;
        let _ = timeout(FOR_THE_MASTER, self.master.wait()).await; // dropped, it is killed
    }

    async fn ask_master<'a>(&self, what: &str, more: impl IntoIterator<Item = &'a OsStr>) -> Result<(), String> {
        let options = [OsString::from("-S"), self.folder.master(), "-O".into(), what.into()];
        let options = options.into_iter().chain(more.into_iter().map(OsStr::to_owned));
        let command = self.login.ssh(options, [""; 0]);
        let asked = async {
            let child = spawn(command, Stdio::null()).map_err(|error| error.to_string())?;
            let output = child.wait_with_output().await.map_err(|error| error.to_string())?;
            if output.status.success() {
                return Ok(());
            }
            Err(Complaint::of(&output.stderr).map_or_else(|| "ssh says nothing".to_owned(), |complaint| complaint.line))
        };
        timeout(FOR_THE_MASTER, asked).await.unwrap_or_else(|_| Err("ssh does not answer".to_owned()))
    }

    /// The error of a connection that has ended.
    pub(crate) fn lost(&self, action: &str, said: String) -> SshError {
        let complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let said = Complaint::of(&complaints).map_or(said, |complaint| complaint.line);
        SshError::Lost { host: self.login.address.clone(), action: action.to_owned(), said }
    }

    /// The error of a connection that never stood.
    async fn refused(&self, patience: Duration) -> SshError {
        let host = self.login.address.clone();
        let complaint = {
            let complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
            Complaint::of(&complaints)
        };
        let Some(Complaint { line: said, why }) = complaint else {
            return SshError::Unreachable { host, said: "the connection ended without a word".to_owned() };
        };
        match why {
            Why::Other => SshError::Unreachable { host, said },
            Why::KeyRefused => SshError::KeyRefused { host, keys: self.login.keys.files.clone(), said },
            Why::OtherHost => {
                let pinned = &self.login.host_key;
                let shown = scan::scan(&host, patience).await.unwrap_or_default();
                let same_kind = shown.iter().find(|key| key.kind() == pinned.kind()).or(shown.first());
                let found = same_kind.map(sovereign_model::ssh::HostKey::fingerprint);
                SshError::HostKeyChanged { host, pinned: pinned.fingerprint(), found }
            }
        }
    }
}

/// Starts an ssh that ends when it is dropped.
pub(crate) fn spawn(command: Command, stdin: Stdio) -> io::Result<Child> {
    let mut command = tokio::process::Command::from(command);
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // Ctrl-C on the terminal is for this process, which ends what is to end.
    command.process_group(0);
    command.spawn().map_err(sovereign_ssh::not_started)
}

/// Waits for the host's word.
async fn greeted(stdout: Option<ChildStdout>) -> bool {
    let Some(stdout) = stdout else { return false };
    let mut stdout = stdout.take(LONGEST_GREETING);
    let mut said = Vec::new();
    let mut some = [0; 1024];
    while let Ok(count @ 1..) = stdout.read(&mut some).await {
        said.extend(&some[..count]);
        if said.split(|byte| *byte == b'\n').any(|line| line.trim_ascii() == READY.as_bytes()) {
            return true;
        }
    }
    false
}

/// Reads to the end and keeps what came last.
pub(crate) async fn keep_last(mut from: impl AsyncRead + Unpin, kept: &Mutex<Vec<u8>>) {
    let mut some = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut some).await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(&some[..count]);
        let surplus = kept.len().saturating_sub(LONGEST_COMPLAINT);
        kept.drain(..surplus);
    }
}
