//! What makes a bare host ready, step by step, and what undoes it.
//!
//! ```text
//!  mark ─▶ keys ─▶ packages ─▶ kernel ─▶ firewall ─▶ cluster ─▶ storage ─▶ project
//!  whose   who     Incus, Knot limits    what may    with the    a pool     a fenced
//!  it is   may in  and tools             come in     others      of btrfs   project
//! ```
//!
//! Promise: each step looks first and does only what is left to do, so that any of them can be killed anywhere and done
//! again; what is done stands in the marker on the host. Nothing is written to a disk that has data unless that was
//! asked for. Rules for packets undo themselves when nobody can come in any more. [`undo`] removes what the steps
//! made, and nothing else.

mod cluster;
mod packages;
mod rules;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use cluster::{ClusterError, Leaving, Neighbour, PORT, leave};
pub(crate) use packages::{Apt, NO_MIRROR, send as send_packages};
pub use packages::{NEEDED, OF_NAME_SERVERS, PackagesError};
pub(crate) use rules::{FILE as RULES_FILE, wanted as wanted_rules};
pub use rules::{FROM_INSTANCE, open_before};

use crate::connection::Connection;
use crate::error::SshError;
use crate::facts::{Facts, Listener};
use crate::files::Access;
use crate::findings::Requirements;
use crate::marker::{Found, MARKER, Marker, PROTOCOL};
use crate::run::Run;
use crate::systemd::{GuardError, Guarded};

/// No marker is so long.
const LONGEST_MARKER: usize = 64 << 10;
/// Packages are unpacked, Incus starts, a disk is formatted: on a slow disk each takes its minutes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// What stays free beside a loop file, for packages and logs.
const BESIDE_LOOP: u64 = 4 << 30;
/// The rules for packets, until somebody has come in with them in effect.
const RULES: Guarded<'static> = Guarded {
    name: "firewall",
    change: "nft -f /etc/sovereign/nftables.new",
    undo: "nft delete table inet sovereign 2>/dev/null; test ! -e /etc/sovereign/nftables.conf || nft -f /etc/sovereign/nftables.conf",
    within: Duration::from_secs(60),
};
/// What puts the rules into effect at every start: its name and its text.
pub const FILTER_UNIT: (&str, &str) = ("sovereign-nftables.service", include_str!("sovereign-nftables.service"));
/// The exit code of what stops because there is data.
const HAS_DATA: i32 = 3;

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Say on the host whose it is.
    Mark,
    /// Let the stack's keys in.
    Keys,
    /// Install Incus and its tools, and what a name server is made of.
    Packages,
    /// Raise what a kernel gives to containers.
    Kernel,
    /// Filter packets.
    Firewall,
    /// Join the other hosts of the data center.
    Cluster,
    /// Make the storage pool.
    Storage,
    /// Make the project.
    Project,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Mark,
        Self::Keys,
        Self::Packages,
        Self::Kernel,
        Self::Firewall,
        Self::Cluster,
        Self::Storage,
        Self::Project,
    ];

    /// Its name in the marker.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Keys => "keys",
            Self::Packages => "packages",
            Self::Kernel => "kernel",
            Self::Firewall => "firewall",
            Self::Cluster => "cluster",
            Self::Storage => "storage",
            Self::Project => "project",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mark => "say on the host whose it is",
            Self::Keys => "let the stack's keys in",
            Self::Packages => "install Incus, a name server and their tools",
            Self::Kernel => "raise what the kernel gives to containers",
            Self::Firewall => "filter what comes in",
            Self::Cluster => "join the other hosts of the data center",
            Self::Storage => "make the storage pool",
            Self::Project => "make the restricted project",
        })
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There was something to do.
    Done,
    /// All was as it should be.
    Nothing,
}

/// A host could not be made ready, or undone.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// The host, or the way to it.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// Packages could not be brought along.
    #[error(transparent)]
    Packages(#[from] PackagesError),
    /// Rules for packets were not changed, or are not any more.
    #[error(transparent)]
    Guard(#[from] GuardError<SshError>),
    /// The cluster of its data center.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Somebody else marked the host meanwhile.
    #[error("{host} has another stack's mark by now")]
    Taken {
        /// Its data center and name.
        host: String,
    },
    /// There is data, and nobody said that it may go.
    #[error("{host} keeps data: {said}")]
    HasData {
        /// Its data center and name.
        host: String,
        /// What is there.
        said: String,
    },
}

impl ReadyError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Ssh(error) => error.help(),
            Self::Packages(error) => error.help(),
            Self::Guard(error) => error.help(),
            Self::Cluster(error) => error.help(),
            Self::Taken { host } => Some(format!("`sovereign host check {host}` says whose it is")),
            Self::HasData { host, .. } => {
                Some(format!("move it away first; or `sovereign host remove {host} --purge` removes it for good"))
            }
        }
    }
}

/// Lines of `authorized_keys`, their comments included.
#[derive(Debug, Clone)]
pub struct Authorized {
    /// The key for daily work.
    pub management: String,
    /// The key of whoever has nothing but the words.
    pub recovery: String,
}

/// How the comments of the stack's keys begin.
pub fn comments(required: &Requirements) -> String {
    format!("sovereign:{}:", required.stack)
}

/// What is needed to make a host ready.
#[derive(Debug)]
pub struct Ready<'a> {
    /// The connection.
    pub host: &'a Connection,
    /// What was found there.
    pub facts: &'a Facts,
    /// What it is to be.
    pub required: &'a Requirements,
    /// Who may come in.
    pub keys: &'a Authorized,
    /// Whether what is on the named disk may go: somebody typed yes.
    pub wipe: bool,
    /// Where the other hosts of the data center are.
    pub peers: &'a BTreeSet<IpAddr>,
    /// And what they say.
    pub neighbours: &'a [Neighbour],
    /// A folder of this machine for packages that are brought along.
    pub work: &'a Path,
}

impl Ready<'_> {
    /// Performs a step, and writes down on the host that it is done.
    ///
    /// # Errors
    /// When it fails: what it did stays, and doing it again goes on from there.
    pub async fn perform(&self, step: Step) -> Result<Change, ReadyError> {
        let change = match step {
            Step::Mark => return self.mark(step).await,
            Step::Keys => {
                let Authorized { management, recovery } = self.keys;
                let lines = format!("{management}\n{recovery}\n");
                self.script(step, include_str!("keys.sh"), &[&comments(self.required)], lines).await?
            }
            Step::Packages => self.packages().await?,
            Step::Kernel => self.script(step, include_str!("kernel.sh"), &[], "").await?,
            Step::Storage => {
                let disk = self.required.disk.as_deref().unwrap_or_default();
                let (may, size) = self.place();
                let script = concat!(include_str!("place.sh"), include_str!("storage.sh"));
                self.script(step, script, &[disk, may, &size], "").await?
            }
            Step::Project => self.script(step, include_str!("project.sh"), &[self.required.stack.as_str()], "").await?,
            Step::Cluster => self.cluster().await?,
            Step::Firewall => {
                let rules = rules::rules(self.facts, self.peers);
                let change = self.script(step, include_str!("firewall.sh"), &[], rules).await?;
                if change == Change::Done {
                    RULES.make(self.host).await?;
                    return Ok(change);
                }
                change
            }
        };
        self.mark(step).await?;
        Ok(change)
    }

    /// Somebody came in after the rules for packets changed: they stay, and take effect at every start.
    ///
    /// # Errors
    /// When it is too late, or the host cannot.
    pub async fn keep_firewall(&self, newcomer: &Connection) -> Result<(), ReadyError> {
        keep_rules(newcomer).await?;
        self.mark(Step::Firewall).await?;
        Ok(())
    }

    /// Whether a named disk may be wiped, and how large a file instead of it may become.
    fn place(&self) -> (&'static str, String) {
        let size = self.facts.disk_free.unwrap_or_default().saturating_sub(BESIDE_LOOP);
        (if self.wipe { "wipe" } else { "keep" }, size.to_string())
    }

    /// Writes the marker, a step added to it.
    async fn mark(&self, done: Step) -> Result<Change, ReadyError> {
        let Requirements { stack, seed, datacenter, host, disk: _, others: _ } = self.required;
        let there = self.host.get_file(Path::new(MARKER), LONGEST_MARKER).await?;
        let there = there.map(|text| Found::parse(&String::from_utf8_lossy(&text)));
        let mut marker = match &there {
            None => Marker {
                protocol: PROTOCOL,
                stack: stack.clone(),
                seed: seed.clone(),
                datacenter: datacenter.clone(),
                host: host.clone(),
                done: Vec::new(),
            },
            Some(Found::Marker(marker)) if self.required.is_ours(marker) => marker.clone(),
            Some(_) => return Err(ReadyError::Taken { host: format!("{datacenter}/{host}") }),
        };
        marker.protocol = PROTOCOL;
        if !marker.done.iter().any(|there| there == done.name()) {
            marker.done.push(done.name().to_owned());
        }
        if there == Some(Found::Marker(marker.clone())) {
            return Ok(Change::Nothing);
        }
        let folder = Run::new("make a folder", "mkdir").args(["-p", "/etc/sovereign"]);
        self.host.succeed(&folder).await?;
        let mut text = serde_json::to_vec_pretty(&marker).unwrap_or_default();
        text.push(b'\n');
        self.host.put_bytes(Path::new(MARKER), &text, Access::PUBLIC).await?;
        Ok(Change::Done)
    }

    async fn script(
        &self,
        step: Step,
        script: &str,
        arguments: &[&str],
        input: impl Into<Vec<u8>>,
    ) -> Result<Change, ReadyError> {
        let said = self.host.succeed(&one_at_a_time(&step.to_string(), script).args(arguments).input(input)).await?;
        Ok(change(&said))
    }
}

/// A script that waits for one of ours that is still at work there, because a run before this one was killed here.
pub(crate) fn one_at_a_time(action: &str, script: &str) -> Run {
    let waiting = ["-o", "-w", "600", "/run/sovereign-host.lock", "sh", "-c", script, "sovereign"];
    Run::new(action, "flock").args(waiting).within(PATIENCE)
}

/// A script says `changed` when it did something.
fn change(said: &[u8]) -> Change {
    let did = said.split(|byte| *byte == b'\n').any(|line| line == b"changed");
    if did { Change::Done } else { Change::Nothing }
}

/// Has a host that is ready let in these other hosts of its data center, and no others; what else may come in stays as it
/// is. When something changed it undoes itself unless it is [kept](keep_rules).
///
/// # Errors
/// When the host cannot.
pub async fn let_in(host: &Connection, peers: &BTreeSet<IpAddr>) -> Result<Change, ReadyError> {
    let Some(text) = host.get_file(Path::new(rules::FILE), rules::LONGEST).await? else { return Ok(Change::Nothing) };
    let text = String::from_utf8_lossy(&text);
    let wanted = rules::with_peers(&text, peers);
    if text == wanted {
        return Ok(Change::Nothing);
    }
    let script = one_at_a_time("change the rules for packets", include_str!("firewall.sh"));
    let change = change(&host.succeed(&script.input(wanted)).await?);
    if change == Change::Done {
        RULES.make(host).await?;
    }
    Ok(change)
}

/// What may come in on a host that was made ready: from what was written down then, and who its neighbours are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Openings {
    /// What listened before, and stays open.
    pub before: Vec<Listener>,
    /// Where the other hosts of its data center are.
    pub peers: BTreeSet<IpAddr>,
}

impl Openings {
    /// The rules for packets that say so; SSH listens at this port.
    pub fn rules(&self, ssh_port: u16) -> String {
        rules::wanted(Some(ssh_port), &self.before, &self.peers)
    }
}

/// Has the rules for packets of a host be these again, those that are in effect as well. When those for the next start were
/// others it undoes itself unless it is [kept](keep_rules).
///
/// # Errors
/// When the host cannot.
pub async fn filter_again(host: &Connection, rules: &str) -> Result<Change, ReadyError> {
    let script = one_at_a_time("put the rules for packets right", include_str!("firewall.sh"));
    let change = change(&host.succeed(&script.input(rules)).await?);
    if change == Change::Done {
        RULES.make(host).await?;
        return Ok(change);
    }
    // What lies there was kept once: nobody is shut out by it.
    let run = one_at_a_time("load the rules for packets", include_str!("firewall_again.sh"));
    host.succeed(&run.input(FILTER_UNIT.1)).await?;
    Ok(change)
}

/// Somebody came in after the rules for packets changed: they stay, and take effect at every start.
///
/// # Errors
/// When it is too late, or the host cannot.
pub async fn keep_rules(newcomer: &Connection) -> Result<(), ReadyError> {
    RULES.confirm(newcomer).await?;
    let keep = Run::script("keep the rules for packets", include_str!("firewall_kept.sh"));
    newcomer.succeed(&keep.input(FILTER_UNIT.1)).await?;
    Ok(())
}

/// Undoes all steps. Data goes only with `purge`; where there is some, nothing is undone without it.
///
/// # Errors
/// When the host keeps data, is another stack's, or cannot.
pub async fn undo(host: &Connection, required: &Requirements, purge: bool) -> Result<String, ReadyError> {
    let name = format!("{}/{}", required.datacenter, required.host);
    let there = host.get_file(Path::new(MARKER), LONGEST_MARKER).await?;
    match there.map(|text| Found::parse(&String::from_utf8_lossy(&text))) {
        Some(Found::Marker(marker)) if !required.is_ours(&marker) => {
            return Err(ReadyError::Taken { host: name });
        }
        // Without one, a run before this one was killed at its very end.
        _ => {}
    }
    let may = if purge { "purge" } else { "keep" };
    let script = one_at_a_time("undo what was made there", include_str!("remove.sh"));
    let ended = host.run(&script.arg(comments(required)).arg(may)).await?;
    match ended.code {
        0 => Ok(String::from_utf8_lossy(&ended.stderr)
            .lines()
            .filter(|line| line.starts_with("packages stay"))
            .collect()),
        HAS_DATA => Err(ReadyError::HasData { host: name, said: ended.said() }),
        code => {
            let (host, action) = (host.address().clone(), "undo what was made there".to_owned());
            Err(SshError::Failed { host, action, code, said: ended.said() }.into())
        }
    }
}

/// Where packages that are brought along lie for a moment on the host.
fn on_the_host() -> PathBuf {
    PathBuf::from("/var/cache/sovereign-packages")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// Runs a script at home, in a folder that is one.
    fn at(home: &Path, script: &str, arguments: &[&str], input: &str) -> (i32, String) {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sovereign"]).args(arguments).env("HOME", home);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn keys_are_let_in_once_and_everybody_else_stays() {
        let home = tempfile::tempdir().unwrap();
        let script = include_str!("keys.sh");
        let file = home.path().join(".ssh/authorized_keys");
        let ours = "ssh-ed25519 AAAA sovereign:shop:management\nssh-ed25519 BBBB sovereign:shop:recovery\n";
        assert_eq!(at(home.path(), script, &["sovereign:shop:"], ours), (0, "changed\n".to_owned()));
        assert_eq!(fs::read_to_string(&file).unwrap(), ours);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        // Without a line end at its end, as editors leave files; and another stack's.
        let theirs = "# me\nssh-rsa CCCC ann@laptop\nssh-ed25519 DDDD sovereign:other:management\n\nssh-rsa EEEE";
        fs::write(&file, theirs).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        for expected in ["changed\n", ""] {
            assert_eq!(at(home.path(), script, &["sovereign:shop:"], ours), (0, expected.to_owned()));
            assert_eq!(fs::read_to_string(&file).unwrap(), format!("{theirs}\n{ours}"));
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        }
        // A rotated key takes the place of the one before.
        let rotated = ours.replace("AAAA", "FFFF");
        assert_eq!(at(home.path(), script, &["sovereign:shop:"], &rotated).1, "changed\n");
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{theirs}\n{rotated}"));
        assert_eq!(at(home.path(), script, &["sovereign:shop:"], "").1, "changed\n");
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{theirs}\n"));
        assert_eq!(fs::read_dir(home.path().join(".ssh")).unwrap().count(), 1);
    }
}
