//! A real Incus for a test's labs.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use sovereign_images::debian::{self, Blueprint, Kept, Lock, Role, RootImage};
use sovereign_images::{Environment, Options, Store};
use sovereign_incus::Client;
use sovereign_incus::image::Source;
use sovereign_lab::{Lab, LabError, Made, Shape, Silent, Watcher};
use sovereign_testkit::incusd::Incusd;
use tokio::runtime::Runtime;

/// The names of the tests' labs.
const LABS: [&str; 3] = ["small", "six", "theirs"];

/// Why no lab can be made here.
pub(crate) fn missing() -> Option<String> {
    let programs = ["mmdebstrap", "ssh-keygen", "ssh", "/usr/sbin/nft"];
    let lacking = programs.into_iter().find(|program| Command::new(program).arg("--version").output().is_err());
    // So that a lab does not have to say it in the midst of a test.
    let watchers = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap_or_default();
    if watchers.trim().parse().is_ok_and(|most: u32| most < 1024) {
        return Some(format!("fs.inotify.max_user_instances is {}, hosts need 1024", watchers.trim()));
    }
    Incusd::missing().or_else(|| lacking.map(|program| format!("there is no {program} here")))
}

/// An Incus for labs, and what there was before them.
pub(crate) struct World {
    runtime: Runtime,
    incusd: Incusd,
    pub(crate) client: Client,
    source: Source,
    folder: tempfile::TempDir,
    pub(crate) before: BTreeSet<String>,
}

impl World {
    pub(crate) fn begin() -> Self {
        let runtime = Runtime::new().unwrap();
        let incusd = Incusd::start();
        forget_dead_labs();
        let (client, source) = runtime.block_on(async {
            let image = host_image();
            let digest = image.fingerprint().unwrap();
            let source = Source::described(&image.metadata(), &image.rootfs(), digest).await.unwrap();
            (incusd.connect().await.unwrap(), source)
        });
        let folder = tempfile::tempdir().unwrap();
        let mut world = Self { runtime, incusd, client, source, folder, before: BTreeSet::new() };
        world.before = world.run(world.things());
        world
    }

    pub(crate) fn run<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) async fn up(&self, shape: &Shape, watcher: &dyn Watcher) -> Result<Made, LabError> {
        let folder = self.folder(shape.name.as_str());
        sovereign_lab::up(&self.client, &self.incusd.socket(), shape, &folder, &self.source, watcher).await
    }

    pub(crate) async fn down(&self, name: &str) {
        let folder = self.folder(name);
        let lab = Lab::read(&folder).unwrap().unwrap();
        sovereign_lab::down(&self.client, &lab, &folder, &Silent).await.unwrap();
    }

    pub(crate) fn lab(&self) -> Lab {
        Lab::read(&self.folder("small")).unwrap().unwrap()
    }

    /// Everything that a lab could leave behind.
    pub(crate) async fn things(&self) -> BTreeSet<String> {
        let mut things = BTreeSet::new();
        things.extend(self.client.projects().await.unwrap().iter().map(|one| format!("project {}", one.name)));
        things.extend(self.client.pools().await.unwrap().iter().map(|one| format!("pool {}", one.name)));
        let interfaces = std::fs::read_dir("/sys/class/net").unwrap().flatten();
        let names = interfaces.map(|one| one.file_name().to_string_lossy().into_owned());
        // What others do on this machine meanwhile is not looked at.
        let ours = names.filter(|name| LABS.iter().any(|lab| name.starts_with(lab)));
        things.extend(ours.map(|name| format!("interface {name}")));
        let tables = Command::new("/usr/sbin/nft").args(["list", "tables"]).output().unwrap();
        // Those of Incus itself stay.
        let tables = String::from_utf8(tables.stdout).unwrap();
        things.extend(tables.lines().filter(|line| line.contains("lab_")).map(str::to_owned));
        things.extend(std::fs::read_dir(self.folder.path()).unwrap().flatten().map(|one| format!("{:?}", one.path())));
        things
    }

    /// A host runs a line of shell; what it printed, when it succeeded.
    pub(crate) fn ssh(&self, host: &str, line: &str) -> Option<String> {
        let config = self.folder("small").join("ssh_config");
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(config).args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=30", host, line]);
        let ended = ssh.output().unwrap();
        ended.status.success().then(|| String::from_utf8(ended.stdout).unwrap())
    }
}

/// Rules for packets of labs whose bridges are gone with the Incus of a run that was killed: of no use to anybody.
fn forget_dead_labs() {
    for lab in LABS.iter().filter(|lab| !Path::new(&format!("/sys/class/net/{lab}br1")).exists()) {
        for family in ["inet", "bridge"] {
            let mut nft = Command::new("/usr/sbin/nft");
            // Mostly there are none.
            let _ = nft.args(["delete", "table", family, &format!("lab_{lab}")]).output().unwrap();
        }
    }
}

/// What hosts start from: locked and built once, below the build's output.
fn host_image() -> RootImage {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let (store, kept) =
        (Store::open(cache.join("sovereign/images")), Kept::open(cache.join("data/sovereign/.packages")));
    let (store, kept, role) = (store.unwrap(), kept.unwrap(), Role::host());
    let options = Options { offline: false, now: SystemTime::now(), environment: Environment::of_this_process() };
    let file = cache.join("data/sovereign/labs/.host.json");
    let lock = std::fs::read_to_string(&file).ok().and_then(|text| Lock::parse(&text).ok()).unwrap_or_else(|| {
        let lock = debian::resolve(&role, &kept, &options, &sovereign_images::Silent).unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, lock.to_text()).unwrap();
        lock
    });
    let blueprint = Blueprint { role: &role, lock: &lock, layers: &[] };
    if let Some(image) = debian::find(&store, &blueprint).unwrap() {
        return image;
    }
    debian::fetch(&lock, &role, &kept, &options, &sovereign_images::Silent).unwrap();
    debian::build(&store, &kept, &blueprint, &options, &sovereign_images::Silent).unwrap().0
}
