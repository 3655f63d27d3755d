//! From kept packages to an image that Incus takes.
//!
//! ```text
//!  kept packages ─▶ repository ─▶ mmdebstrap ─────────────────────────▶ root/rootfs.tar ─┐
//!                                  ▲ users   ▲ overlay, layers   ▲ trim                  ├─▶ store
//!                                  role      role, ghost         role   root/metadata.tar ┘
//! ```
//!
//! mmdebstrap works as root in a mount, process and network namespace of its own: it sees no network, mounts nothing
//! that outlives it, and when this program is killed so is all that it started. Any other user needs what mmdebstrap
//! calls mode `unshare`. Everything is dated by the lock, so two builds from one lock are the same bytes.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use sovereign_model::Digest;

use super::archive::{self, Archive};
use super::kept::Kept;
use super::lock::Lock;
use super::names::Architecture;
use super::program::{command, is_there};
use super::role::Role;
use super::{DebianError, RootImage, apt, repository};
use crate::child::{check, last_lines, not_started};
use crate::error::At as _;
use crate::progress::{Event, Progress, Receipt, Stage, Timed, Unit};
use crate::store::{Source, Store, Workshop};
use crate::{Environment, Image, ImageError, Options};

/// What is done to a root file system last, as a shell script.
pub(super) const TRIM: &str = include_str!("../../roles/trim.sh");

/// What a build needs at its peak beside its layers: packages, the tree, the archive of it.
const DISK_SPACE: u64 = 2_000_000_000;

/// Settings for dpkg, during the build only. What packages bring for people to read is left out: nobody does in an
/// instance. And no file is written to disk by itself: a build that a power cut ends is begun again.
const DPKG: &[&str] = &[
    "force-unsafe-io",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/lintian/*",
];

/// What an image is made from.
#[derive(Debug, Clone, Copy)]
pub struct Blueprint<'a> {
    /// What it is for.
    pub role: &'a Role,
    /// The packages.
    pub lock: &'a Lock,
    /// The images that the role is built around, in the order in which it names them.
    pub layers: &'a [Image],
}

impl Blueprint<'_> {
    /// What the store finds the image by: the packages, the role with all its files, the layers.
    pub fn digest(&self) -> Digest {
        let layers: Vec<_> = self.layers.iter().map(|image| image.digest).collect();
        Digest::of_value(&(self.role.digest(), self.lock.digest(), layers))
    }

    fn check(&self) -> Result<(), DebianError> {
        let Self { role, lock, layers } = self;
        let here = Architecture::here().ok_or(DebianError::Machine(std::env::consts::ARCH))?;
        if lock.architecture != here {
            return Err(DebianError::Architecture { lock: lock.architecture.clone(), here });
        }
        let lacks = |a: &[String], b: &[String]| a.iter().filter(|name| !b.contains(name)).cloned().collect::<Vec<_>>();
        let mut differs = [lacks(&role.packages, &lock.wanted), lacks(&lock.wanted, &role.packages)].concat();
        if lock.role != role.name {
            differs.push(format!("it is the lock of {}", lock.role));
        }
        if lock.suite != role.base.codename {
            differs.push(format!("it is of {}", lock.suite));
        }
        if !differs.is_empty() {
            return Err(DebianError::Outdated { role: role.name.clone(), differs });
        }
        match role.layers.get(layers.len()) {
            Some(layer) => Err(DebianError::LayerMissing { role: role.name.clone(), layer: layer.image.clone() }),
            None => Ok(()),
        }
    }
}

/// The image, if it is in the store.
///
/// # Errors
/// When the store cannot be read.
pub fn find(store: &Store, blueprint: &Blueprint<'_>) -> Result<Option<RootImage>, ImageError> {
    Ok(store.find(blueprint.digest())?.map(RootImage))
}

/// Everything about this machine that a build would fail on. Empty when it is fit.
pub fn preflight(store: &Store, environment: &Environment) -> Vec<ImageError> {
    let mut wanted = vec![("mmdebstrap", "mmdebstrap"), ("dpkg-deb", "dpkg"), ("setpriv", "util-linux")];
    wanted.push(if is_root() { ("unshare", "util-linux") } else { ("newuidmap", "uidmap") });
    let missing = wanted.into_iter().filter(|(program, _)| !is_there(program, environment));
    let missing = missing.map(|(program, package)| DebianError::ProgramMissing { program, package }.into());
    missing.chain(crate::ghost::room(store.folder(), DISK_SPACE).err()).collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Gives the image, and builds it first when it is not in the store. Nothing is fetched: see [`fetch`](super::fetch()).
///
/// Two calls at the same time build once: the second waits for the first.
///
/// # Errors
/// When the lock is not for this role or machine, a package is not kept or damaged, or a program is missing or fails.
pub fn build(
    store: &Store,
    kept: &Kept,
    blueprint: &Blueprint<'_>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<(RootImage, Receipt), ImageError> {
    blueprint.check()?;
    if let Some(image) = find(store, blueprint)? {
        return Ok((image, Receipt::default()));
    }
    if let Some(problem) = preflight(store, &options.environment).into_iter().next() {
        return Err(problem);
    }
    let workshop = store.lock(progress)?;
    // Somebody else may have built it while this waited.
    if let Some(image) = find(store, blueprint)? {
        return Ok((image, Receipt::default()));
    }
    let mut receipt = Receipt { built: true, ..Receipt::default() };
    let build = Build { kept, blueprint, options, progress };
    let image = build.run(&workshop, &mut receipt)?;
    Ok((RootImage(image), receipt))
}

struct Build<'a> {
    kept: &'a Kept,
    blueprint: &'a Blueprint<'a>,
    options: &'a Options,
    progress: &'a dyn Progress,
}

impl Build<'_> {
    fn run(&self, workshop: &Workshop<'_>, receipt: &mut Receipt) -> Result<Image, ImageError> {
        let (role, lock) = (self.blueprint.role, self.blueprint.lock);
        let folder = workshop.fresh("debian")?;
        let root = folder.join("root");
        fs::create_dir(&root).at("create", &root)?;

        let timed = Timed::start(Stage::Gather, self.progress);
        let repository = Repository::new(&folder)?;
        let (linked, environment) = (is_root(), &self.options.environment);
        repository::write(repository.path(), lock, self.kept, linked, environment, self.progress)?;
        self.write_archives(&folder)?;
        timed.finish(receipt);

        let timed = Timed::start(Stage::Install, self.progress);
        self.install(&folder, repository.path())?;
        compare(lock, &folder.join("status"))?;
        timed.finish(receipt);

        let timed = Timed::start(Stage::Seal, self.progress);
        let metadata = root.join("metadata.tar");
        write_metadata(role, lock, &metadata)?;
        let fingerprint = fingerprint(&[&metadata, &root.join("rootfs.tar")])?;
        let path = root.join("fingerprint");
        fs::write(&path, format!("{fingerprint}\n")).at("write", &path)?;
        let source = Source {
            packages: lock.packages.iter().map(ToString::to_string).collect(),
            compilers: vec![version(environment)?],
        };
        let of = (role.name.clone(), self.blueprint.digest());
        let image = workshop.publish(&root, of, source, self.options.now, self.progress)?;
        timed.finish(receipt);
        Ok(image)
    }

    /// What is put over the packages' own files.
    fn write_archives(&self, folder: &Path) -> Result<(), ImageError> {
        let Blueprint { role, lock, layers } = self.blueprint;
        let path = folder.join("overlay.tar");
        let file = File::create(&path).at("create", &path)?;
        archive::overlay(role, lock.made(), file).at("write", &path)?;
        for (number, image) in layers.iter().enumerate() {
            let path = folder.join(format!("layer-{number}.tar"));
            let file = std::io::BufWriter::new(File::create(&path).at("create", &path)?);
            let file = archive::layer(&image.root, lock.made(), file)?;
            file.into_inner().map_err(std::io::IntoInnerError::into_error).at("write", &path)?;
        }
        Ok(())
    }

    /// Lets mmdebstrap make the root file system, and counts the packages that are ready.
    fn install(&self, folder: &Path, repository: &Path) -> Result<(), ImageError> {
        let mut command = self.mmdebstrap(folder, repository);
        let (words, end) = std::io::pipe().at("open a pipe in", folder)?;
        let other = end.try_clone().at("open a pipe in", folder)?;
        let mut child = command.stdout(end).stderr(other).spawn().map_err(|error| not_started(&command, error))?;
        // It holds the other end, and would keep this from seeing the end.
        drop(command);
        let (mut said, mut done) = (String::new(), 0);
        let total = self.blueprint.lock.packages.len() as u64;
        for line in BufReader::new(words).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if let Some(package) = line.strip_prefix("Setting up ") {
                done = (done + 1).min(total);
                let what = package.split(' ').next().unwrap_or_default();
                let (stage, unit) = (Stage::Install, Unit::Packages);
                self.progress.report(Event::Advanced { stage, done, total: Some(total), unit, what });
            }
            said.push_str(&line);
            said.push('\n');
        }
        let status = child.wait().at("wait for mmdebstrap in", folder)?;
        check("mmdebstrap", status, || last_lines(&said))
    }

    fn mmdebstrap(&self, folder: &Path, repository: &Path) -> Command {
        let Blueprint { role, lock, .. } = self.blueprint;
        // Whoever dies, the rest dies with it.
        let mut command = command("setpriv", &self.options.environment);
        command.args(["--pdeathsig", "KILL"]);
        if is_root() {
            command.args(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
            // Another user's part of the machine is not to be filled, and what is left is removed with this folder.
            command.env("TMPDIR", folder);
        }
        // What apt leaves is removed with the rest, and without calling apt.
        command.args(["mmdebstrap", "--verbose", "--skip=cleanup/apt", "--format=tar", "--variant=essential"]);
        command.arg(if is_root() { "--mode=root" } else { "--mode=unshare" });
        command.arg(format!("--architectures={}", lock.architecture));
        let packages: Vec<_> = lock.packages.iter().map(|package| package.name.as_str()).collect();
        command.arg(format!("--include={}", packages.join(",")));
        command.args(DPKG.iter().map(|option| format!("--dpkgopt={option}")));
        command.arg(format!("--essential-hook={}", users(role)));
        command.arg("--customize-hook=tar-in overlay.tar /");
        for (number, layer) in role.layers.iter().enumerate() {
            command.arg(format!("--customize-hook=tar-in layer-{number}.tar /{}", layer.at));
        }
        command.arg("--customize-hook=download /var/lib/dpkg/status status");
        for path in &role.emptied {
            command.arg(format!("--customize-hook=find \"$1/{path}\" -mindepth 1 -delete"));
        }
        command.arg(format!("--customize-hook={TRIM}"));
        let repository = apt::encoded(&repository.display().to_string());
        command.args([lock.suite.as_str(), "root/rootfs.tar"]);
        command.arg(format!("deb [trusted=yes] copy:{repository} {} main", lock.suite));
        command.env("SOURCE_DATE_EPOCH", lock.made().to_string()).env("TZ", "UTC").env_remove("APT_CONFIG");
        command.current_dir(folder).stdin(Stdio::null());
        command
    }
}

/// Adds a role's users before any package can, so that their numbers are the role's.
fn users(role: &Role) -> String {
    let mut script = "set -eu".to_owned();
    for super::role::User { name, id, home } in &role.users {
        script.push_str(&format!(
            "\necho '{name}:*:{id}:{id}::{home}:/usr/sbin/nologin' >>\"$1/etc/passwd\"\necho '{name}:*:{id}:' >>\"$1/etc/group\""
        ));
    }
    script
}

/// Where the repository of one build lies: where mmdebstrap can read it, and gone with this value.
struct Repository {
    folder: PathBuf,
}

impl Repository {
    fn new(workshop: &Path) -> Result<Self, ImageError> {
        let folder = if is_root() {
            workshop.join("repository")
        } else {
            // In mode `unshare` it is read as another user, who cannot enter a home folder.
            std::env::temp_dir().join(format!("sovereign-repository-{}", std::process::id()))
        };
        fs::create_dir(&folder).at("create", &folder)?;
        Ok(Self { folder })
    }

    fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        // What stays is removed with the workshop, or by whoever empties the folder of temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Compares what dpkg says is installed with the lock.
fn compare(lock: &Lock, status: &Path) -> Result<(), ImageError> {
    let text = fs::read_to_string(status).at("read", status)?;
    let locked: Vec<_> = lock.packages.iter().map(|p| (p.name.to_string(), p.version.to_string())).collect();
    let installed = apt::installed(&text);
    let lacks = |a: &[(String, String)], b: &[(String, String)], sign: &str| {
        let only = a.iter().filter(|package| !b.contains(package));
        only.map(|(name, version)| format!("{sign}{name} {version}")).collect::<Vec<_>>()
    };
    let packages = [lacks(&locked, &installed, "-"), lacks(&installed, &locked, "+")].concat();
    if packages.is_empty() { Ok(()) } else { Err(DebianError::Other { packages }.into()) }
}

/// What Incus is told about the image, and what it writes into each instance.
fn write_metadata(role: &Role, lock: &Lock, path: &Path) -> Result<(), ImageError> {
    let release = &lock.suite;
    let each = |template: &str| json!({ "when": ["create", "copy", "rename"], "template": template });
    let metadata = json!({
        "architecture": lock.architecture.kernel_name(),
        "creation_date": lock.made(),
        "properties": {
            "description": format!("Debian {release}, {}", role.purpose),
            "os": "Debian",
            "release": release,
            "name": role.name,
            "lock": lock.digest(),
        },
        "templates": { "/etc/hostname": each("hostname.tpl"), "/etc/hosts": each("hosts.tpl") },
    });
    let files = [
        // JSON is YAML.
        ("metadata.yaml", format!("{metadata:#}\n")),
        ("templates/hostname.tpl", "{{ container.name }}\n".to_owned()),
        ("templates/hosts.tpl", "127.0.0.1 localhost\n127.0.1.1 {{ container.name }}\n::1 localhost\n".to_owned()),
    ];
    let write = || {
        let mut archive = Archive::new(File::create(path)?, lock.made());
        for (name, text) in &files {
            archive.file(name, 0o644, 0, text.len() as u64, text.as_bytes())?;
        }
        archive.finish().map(drop)
    };
    write().at("write", path)
}

/// The digest by which Incus knows an image: of its files, one after the other.
fn fingerprint(files: &[&Path]) -> Result<Digest, ImageError> {
    let mut hasher = Sha256::new();
    for path in files {
        let mut file = File::open(path).at("read", path)?;
        std::io::copy(&mut file, &mut hasher).at("read", path)?;
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

/// What mmdebstrap calls itself.
fn version(environment: &Environment) -> Result<String, ImageError> {
    let output =
        crate::child::run("asking for mmdebstrap's version", command("mmdebstrap", environment).arg("--version"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
