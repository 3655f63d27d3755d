//! A real Incus, started for a test in a folder of its own and removed with all that was made in it.
//!
//! A test that is killed leaves all of it behind. So its folder has a file that is locked as long as the test lives, and
//! whoever starts an Incus later removes what nobody holds any more.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use sovereign_incus::instance::Stop;
use sovereign_incus::{Client, IncusError, Patience, UnixSocket};
use sovereign_model::Digest;

/// Where Debian's package `incus-base` has it.
const PROGRAM: &str = "/usr/libexec/incus/incusd";

/// Tools of the machine's keeper, which it calls, are not on everybody's path.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What puts a daemon into a network of its own, and into mounts of its own in which `/sys` shows that network and what
/// is written below `/etc` is gone with it. $1: a folder.
const APART: &str = "\
set -e
mkdir \"$1/cgroup\" \"$1/etc\"
mount --make-rprivate /
mount --rbind /sys/fs/cgroup \"$1/cgroup\"
mount -t sysfs sysfs /sys
mount --move \"$1/cgroup\" /sys/fs/cgroup
mount -t tmpfs tmpfs \"$1/etc\"
mkdir \"$1/etc/upper\" \"$1/etc/work\"
mount -t overlay overlay -o \"lowerdir=/etc,upperdir=$1/etc/upper,workdir=$1/etc/work\" /etc
ip link set lo up
shift
exec \"$@\"
";

/// A first start makes a database and certificates.
const START: Duration = Duration::from_secs(60);

/// How its folders' names begin.
const PREFIX: &str = "incusd-";

/// In its folder: locked while somebody has it, with the number of the daemon's process in it.
const HELD: &str = "held";

/// A daemon of its own. Dropped, it ends with its instances, networks and pools.
#[derive(Debug)]
pub struct Incusd {
    folder: PathBuf,
    child: Child,
    held: File,
}

impl Incusd {
    /// Why none can be started here.
    pub fn missing() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("only root can start an Incus".to_owned());
        }
        (!Path::new(PROGRAM).is_file()).then(|| "there is no Incus here (package incus-base)".to_owned())
    }

    /// Starts one and waits until it answers. What tests left behind that were killed is removed first: their networks
    /// would be in the way.
    ///
    /// # Panics
    /// When it does not: with what it wrote.
    pub fn start() -> Self {
        Self::start_as(|_| Command::new(PROGRAM))
    }

    /// Starts one that has a network to itself, as the Incus of a host has: see [`Incusd::within`].
    ///
    /// # Panics
    /// When it does not: with what it wrote.
    pub fn start_apart() -> Self {
        Self::start_as(|folder| {
            let mut command = Command::new("unshare");
            command.args(["--net", "--mount", "sh", "-c", APART, "sh"]).arg(folder).arg(PROGRAM);
            command
        })
    }

    fn start_as(program: impl FnOnce(&Path) -> Command) -> Self {
        remove_abandoned(&std::env::temp_dir());
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir().expect("a temporary folder").keep();
        // Root of a container is somebody else here, and must be able to pass through.
        fs::set_permissions(&folder, Permissions::from_mode(0o711)).expect("its owner may change it");
        let held = File::create(folder.join(HELD)).expect("a file in it");
        flock(&held, FlockOperation::NonBlockingLockExclusive).expect("nobody else knows of it");
        let program = program(&folder);
        Self::run(program, folder, held)
    }

    fn run(mut command: Command, folder: PathBuf, held: File) -> Self {
        let log = File::create(folder.join("log")).expect("a file in it");
        command.args(["--group", "root"]).env_clear().env("INCUS_DIR", &folder).env("PATH", PATH);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        // Ctrl-C at a terminal is for the test, which then ends the daemon.
        command.process_group(0);
        let child = command.spawn().expect("incusd starts");
        fs::write(folder.join(HELD), child.id().to_string()).expect("a file in it");
        let mut incusd = Self { folder, child, held };
        let runtime = runtime();
        let deadline = Instant::now() + START;
        loop {
            match runtime.block_on(incusd.connect()) {
                Ok(_) => return incusd,
                Err(error) => {
                    let ended = incusd.child.try_wait().expect("it is our child");
                    let is_late = Instant::now() > deadline;
                    assert!(ended.is_none() && !is_late, "no Incus: {error}\n{}", incusd.log());
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Leaves all of it behind, as a test does that is killed.
    pub fn abandon(self) -> PathBuf {
        let left = std::mem::ManuallyDrop::new(self);
        flock(&left.held, FlockOperation::Unlock).expect("it was locked");
        left.folder.clone()
    }

    /// Its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("unix.socket")
    }

    /// A client of it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn connect(&self) -> Result<Client, IncusError> {
        Client::connect(Arc::new(UnixSocket::new(self.socket())), Patience::default(), &[]).await
    }

    /// A program with the daemon's network and mounts.
    pub fn within(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.env("PATH", PATH).arg("--target").arg(self.child.id().to_string());
        command.args(["--net", "--mount", "--", program]);
        command
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// A file for tests in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Incusd {
    fn drop(&mut self) {
        // A runtime may be what drops this, and one cannot wait inside another.
        thread::scope(|scope| {
            let cleaned = scope.spawn(|| runtime().block_on(async { empty(&self.connect().await?).await })).join();
            // What it could not remove is removed below as far as it is ours; the test has failed already.
            drop(cleaned);
        });
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        unmount_below(&self.folder);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes what belongs to no test that lives.
fn remove_abandoned(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let is_one = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if let Some((folder, held)) = Some(entry.path()).filter(|_| is_one).and_then(abandoned) {
            let number = fs::read_to_string(folder.join(HELD)).ok().and_then(|text| text.trim().parse().ok());
            if let Some(daemon) = number.filter(|number| works_in(*number, &folder)).and_then(Pid::from_raw) {
                end(daemon, &folder);
            }
            // As the test that left it would have.
            drop(Incusd::run(Command::new(PROGRAM), folder, held));
        }
    }
}

/// A folder of ours that nobody holds, which from now on we do.
fn abandoned(folder: PathBuf) -> Option<(PathBuf, File)> {
    let is_ours = |metadata: &fs::Metadata| {
        metadata.is_dir() && std::os::unix::fs::MetadataExt::uid(metadata) == rustix::process::geteuid().as_raw()
    };
    fs::symlink_metadata(&folder).ok().filter(is_ours)?;
    let held = File::open(folder.join(HELD)).ok()?;
    flock(&held, FlockOperation::NonBlockingLockExclusive).ok()?;
    // Whoever had it may have removed it in between.
    folder.join(HELD).exists().then_some((folder, held))
}

/// Whether a process is the daemon of a folder: numbers are given again.
fn works_in(process: i32, folder: &Path) -> bool {
    let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
    let ours = format!("INCUS_DIR={}", folder.display());
    environment.split(|byte| *byte == 0).any(|variable| variable == ours.as_bytes())
}

/// Ends a daemon that is nobody's child here. Its instances go on.
fn end(daemon: Pid, folder: &Path) {
    let _ = kill_process(daemon, Signal::TERM);
    let deadline = Instant::now() + Duration::from_secs(20);
    while works_in(daemon.as_raw_nonzero().get(), folder) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let _ = kill_process(daemon, Signal::KILL);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Removes instances, images, volumes, projects, networks and pools.
async fn empty(client: &Client) -> Result<(), IncusError> {
    for project in client.projects().await? {
        let within = client.in_project(project.name.clone());
        for instance in within.instances().await? {
            // It may have stopped by itself.
            let _ = within.stop(&instance.name, Stop::AtOnce).await;
            within.delete_instance(&instance.name).await?;
        }
        let images = within.images().await?;
        for digest in images.iter().filter_map(|image| -> Option<Digest> { image.digest() }) {
            within.delete_image(digest).await?;
        }
        for pool in client.pools().await? {
            for volume in within.volumes(&pool.name).await? {
                within.delete_volume(&pool.name, &volume.name).await?;
            }
        }
        if project.name.as_str() != "default" {
            client.delete_project(&project.name).await?;
        }
    }
    for network in client.networks().await?.into_iter().filter(|network| network.managed) {
        client.delete_network(&network.name).await?;
    }
    let mut default = client.profile(&"default".parse().expect("a name")).await?;
    default.value.devices.clear();
    client.update_profile(&default).await?;
    for pool in client.pools().await? {
        client.delete_pool(&pool.name).await?;
    }
    Ok(())
}

/// Mounts of a daemon outlive it.
fn unmount_below(folder: &Path) {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return };
    let below = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let mut below: Vec<&Path> = below.filter(|path| path.starts_with(folder)).collect();
    below.reverse();
    for path in below {
        let ended: io::Result<_> = Command::new("umount").arg("--lazy").arg(path).env("PATH", PATH).status();
        drop(ended);
    }
}
