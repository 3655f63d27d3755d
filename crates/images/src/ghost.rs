//! The image `ghost`: Ghost, its dependencies, the Node.js that runs it, SQLite.
//!
//! ```text
//!  root/node/bin/node     the executable, nothing else of Node.js
//!  root/app/              Ghost; `node index.js` from a folder that links to it as `current`
//! ```
//!
//! Packages are fetched one after the other while compilers run beside: SQLite takes longest and begins first.

mod choice;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde::Deserialize;

pub use choice::lock_of;

use crate::addon::{self, Addon, Compilers};
use crate::child::run;
use crate::download::Downloads;
use crate::error::At as _;
use crate::installer::{self, Folders};
use crate::lock::{InvalidLock, Lock, Part};
use crate::progress::{Progress, Receipt, Stage, Timed};
use crate::registry::Registries;
use crate::store::{Source, Store, Workshop};
use crate::unpack::{Bounds, unpack};
use crate::{Environment, Image, ImageError, Options};

/// What a build needs at its peak: archives, pnpm's store, the tree before and after trimming.
const DISK_SPACE: u64 = 1_500_000_000;

/// Ghost's own program that removes what its container images do not need.
const PRUNE: &str = "scripts/prune.mts";

/// The lock that comes with this program.
pub fn lock() -> &'static Lock {
    static LOCK: LazyLock<Lock> = LazyLock::new(|| {
        Lock::parse(include_str!("../locks/ghost.json")).expect("the committed lock is read by a test")
    });
    &LOCK
}

/// Reads a lock that was kept: the packages are its own, the steps of a build are this program's.
///
/// # Errors
/// When it is none.
pub fn read_lock(text: &str) -> Result<Lock, InvalidLock> {
    let mut kept = Lock::parse(text)?;
    kept.recipe = lock().recipe;
    Ok(kept)
}

/// The version of the Ghost in an image of that lock.
pub fn version(lock: &Lock) -> &str {
    // The lock is for all platforms, and Ghost is the same on each.
    lock.packages.iter().find(|package| package.part == Part::Application).map_or("", |package| &package.version)
}

/// The image of a lock, if it is in the store.
pub fn find(store: &Store, lock: &Lock) -> Result<Option<Image>, ImageError> {
    store.find(lock.digest())
}

/// Everything about this machine that a build would fail on, before anything is fetched. Empty when it is fit.
pub fn preflight(store: &Store, lock: &Lock, environment: &Environment) -> Vec<ImageError> {
    let compilers = Compilers::find(environment).err().unwrap_or_default();
    let machine = lock.part(Part::Node).err().or_else(|| loader().err());
    machine.into_iter().chain(compilers).chain(room(store.folder(), DISK_SPACE).err()).collect()
}

/// Whether programs built for the GNU C library can start here (System V ABI supplements, "Program Interpreter").
fn loader() -> Result<(), ImageError> {
    let path = Path::new(match std::env::consts::ARCH {
        "aarch64" => "/lib/ld-linux-aarch64.so.1",
        _ => "/lib64/ld-linux-x86-64.so.2",
    });
    if path.exists() { Ok(()) } else { Err(ImageError::Loader { path: path.to_owned() }) }
}

/// Whether a build can write to a folder, and enough.
pub(crate) fn room(folder: &Path, needed: u64) -> Result<(), ImageError> {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).at("write to", folder)?;
    let disk = rustix::fs::statvfs(folder).at("look at", folder)?;
    let available = disk.f_bavail.saturating_mul(disk.f_frsize);
    if available >= needed {
        return Ok(());
    }
    Err(ImageError::DiskSpace { folder: folder.to_owned(), available, needed })
}

/// Gives the image, and builds it first when it is not in the store. One that is there is taken as it is: see
/// [`repair`].
///
/// Two calls at the same time build once: the second waits for the first. A call that was killed is continued by the
/// next with what it fetched.
pub fn prepare(
    store: &Store,
    lock: &Lock,
    options: &Options,
    progress: &dyn Progress,
) -> Result<(Image, Receipt), ImageError> {
    if let Some(image) = find(store, lock)? {
        return Ok((image, Receipt::default()));
    }
    if let Some(problem) = preflight(store, lock, &options.environment).into_iter().next() {
        return Err(problem);
    }
    let workshop = store.lock(progress)?;
    // Somebody else may have built it while this waited.
    if let Some(image) = find(store, lock)? {
        return Ok((image, Receipt::default()));
    }
    build_in(&workshop, lock, options, progress)
}

/// Like [`prepare`], but checks every file of an image that is there, and builds it anew when one is wrong.
pub fn repair(
    store: &Store,
    lock: &Lock,
    options: &Options,
    progress: &dyn Progress,
) -> Result<(Image, Receipt), ImageError> {
    match find(store, lock)? {
        // A list that cannot be read is as bad as a file that differs.
        Some(image) if !store.verify(image.digest).is_ok_and(|faults| faults.is_empty()) => {
            if let Some(problem) = preflight(store, lock, &options.environment).into_iter().next() {
                return Err(problem);
            }
            build_in(&store.lock(progress)?, lock, options, progress)
        }
        _ => prepare(store, lock, options, progress),
    }
}

fn build_in(
    workshop: &Workshop<'_>,
    lock: &Lock,
    options: &Options,
    progress: &dyn Progress,
) -> Result<(Image, Receipt), ImageError> {
    let mut receipt = Receipt { built: true, ..Receipt::default() };
    let image = build(workshop, lock, options, progress, &mut receipt)?;
    Ok((image, receipt))
}

fn build(
    workshop: &Workshop<'_>,
    lock: &Lock,
    options: &Options,
    progress: &dyn Progress,
    receipt: &mut Receipt,
) -> Result<Image, ImageError> {
    let environment = &options.environment;
    let registries = Registries::load(environment)?;
    let total = lock.packages_here().map(|package| package.bytes).sum();
    let network = (!options.offline).then_some(&registries);
    let mut downloads = Downloads::new(workshop.kept("downloads")?, network, total, progress)?;
    let missing = downloads.missing(lock.packages_here());
    if !missing.is_empty() {
        let missing = missing.into_iter().map(ToString::to_string).collect();
        return Err(ImageError::Offline { image: lock.image.clone(), missing });
    }
    let compilers = Compilers::find(environment).map_err(|mut problems| problems.remove(0))?;
    let versions = compilers.versions();

    let folder = workshop.fresh("build")?;
    let (root, addon_folder, installer) = (folder.join("root"), folder.join("addon"), folder.join("installer"));
    let app = root.join("app");
    let image = Image { digest: lock.digest(), root: root.clone() };

    let timed = Timed::start(Stage::Download, progress);
    let mut get = |part: Part, target: &Path, place: &dyn Fn(&Path) -> Option<PathBuf>| {
        let package = lock.part(part)?;
        let archive = downloads.fetch(package, receipt)?;
        unpack(&package.to_string(), archive, target, Bounds::default(), place)
    };
    let everything = |path: &Path| Some(path.to_owned());
    get(Part::DatabaseAddon, &addon_folder, &everything)?;
    let compile = Timed::start(Stage::Compile, progress);
    let mut addon = Addon::start(compilers, addon_folder)?;
    get(Part::Node, &folder, &|path| {
        // Headers for the compiler, the executable and its licence for the image; manuals for nobody.
        match path.to_str()? {
            "bin/node" | "LICENSE" => Some(Path::new("root/node").join(path)),
            header if header.starts_with("include/") => Some(Path::new("addon").join(path)),
            _ => None,
        }
    })?;
    addon.compile_binding()?;
    get(Part::PackageInstaller, &installer, &everything)?;
    get(Part::Application, &app, &everything)?;
    hide_dead_ends(&app)?;
    timed.finish(receipt);

    let timed = Timed::start(Stage::Install, progress);
    let (node, home, packages) = (image.node(), workshop.fresh("home")?, workshop.kept("packages")?);
    let folders = Folders {
        program: &installer.join("pnpm"),
        node: node.parent().expect("the executable is in a folder"),
        app: &app,
        home: &home,
        store: &packages,
    };
    let fetched = installer::install(&folders, &registries, environment, options.offline, progress)?;
    receipt.fetched(fetched);
    timed.finish(receipt);

    let timed = Timed::start(Stage::Trim, progress);
    let addon_package = check_addon_version(&app, lock)?;
    trim(&node, &app)?;
    timed.finish(receipt);

    let built = addon.finish()?;
    let place = addon_package.join("build/Release");
    fs::create_dir_all(&place).at("create", &place)?;
    fs::rename(&built, place.join(addon::FILE)).at("move", &built)?;
    addon::try_out(&node, &app)?;
    compile.finish(receipt);

    let timed = Timed::start(Stage::Seal, progress);
    let source = Source { packages: lock.packages_here().map(ToString::to_string).collect(), compilers: versions };
    let of = (lock.image.clone(), lock.digest());
    let image = workshop.publish(&root, of, source, options.now, progress)?;
    timed.finish(receipt);
    Ok(image)
}

/// The page Ghost's admin interface lives in.
const ADMIN_PAGE: &str = "core/built/admin/index.html";

/// What of the admin interface cannot work where no mail is sent: the link that asks for a new password by mail. Ghost
/// has no setting for it, so a rule of style hides it; one-time links of the operator take its place.
const DEAD_ENDS: &str = "<style>.forgotten-link{display:none!important}</style>";

fn hide_dead_ends(app: &Path) -> Result<(), ImageError> {
    let path = app.join(ADMIN_PAGE);
    let page = fs::read_to_string(&path).at("read", &path)?;
    let Some((head, rest)) = page.split_once("</head>") else { return Err(ImageError::Incomplete { path }) };
    fs::write(&path, format!("{head}{DEAD_ENDS}</head>{rest}")).at("write", &path)
}

/// The folder of the addon's package, which must be of the version whose sources are being compiled.
fn check_addon_version(app: &Path, lock: &Lock) -> Result<PathBuf, ImageError> {
    #[derive(Deserialize)]
    struct Description {
        version: String,
    }
    let locked = lock.part(Part::DatabaseAddon)?;
    let folder = app.join("node_modules").join(&locked.name);
    let path = folder.join("package.json");
    let text = fs::read(&path).at("read", &path)?;
    let Ok(Description { version }) = serde_json::from_slice(&text) else {
        return Err(ImageError::Incomplete { path });
    };
    if version != locked.version {
        let (name, locked) = (locked.name.clone(), locked.version.clone());
        return Err(ImageError::AddonVersion { name, wanted: version, locked });
    }
    Ok(folder)
}

/// Removes what no run needs: by Ghost's own program for its container images, and what the installer wrote for
/// itself, which also differs from build to build.
fn trim(node: &Path, app: &Path) -> Result<(), ImageError> {
    let mut prune = Command::new(node);
    prune.args(["--no-warnings", PRUNE, ".", "--profile=image"]).current_dir(app).env_clear();
    run("removing what the image does not need", &mut prune)?;
    let modules = app.join("node_modules");
    for name in [".modules.yaml", ".pnpm-workspace-state-v1.json", ".pnpm/lock.yaml"] {
        let path = modules.join(name);
        if path.exists() {
            fs::remove_file(&path).at("remove", &path)?;
        }
    }
    remove_command_links(&modules)
}

/// Removes the `.bin` folders: shell scripts to start commands of packages with, none of which a site calls.
fn remove_command_links(folder: &Path) -> Result<(), ImageError> {
    for entry in fs::read_dir(folder).at("list", folder)? {
        let entry = entry.at("list", folder)?;
        if !entry.file_type().at("look at", &entry.path())?.is_dir() {
            continue;
        }
        let path = entry.path();
        if entry.file_name() == ".bin" {
            fs::remove_dir_all(&path).at("remove", &path)?;
        } else {
            remove_command_links(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::Silent;
    use crate::test_registry::{Answer, TestRegistry};

    #[test]
    fn the_committed_lock_has_every_part() {
        for part in [Part::DatabaseAddon, Part::Node, Part::PackageInstaller, Part::Application] {
            assert_eq!(lock().packages_here().filter(|package| package.part == part).count(), 1, "{part}");
        }
    }

    #[test]
    fn offline_everything_that_is_missing_is_named_and_nobody_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let registry = TestRegistry::start(|_, _| Answer::Status(500));
        let options = Options { offline: true, now: SystemTime::UNIX_EPOCH, environment: registry.environment() };
        let error = prepare(&store, lock(), &options, &Silent).unwrap_err();
        let ImageError::Offline { missing, .. } = &error else { panic!("{error:?}") };
        assert_eq!(missing.len(), 4, "{missing:?}");
        assert!(missing.contains(&"ghost 6.65.0".to_owned()));
        assert_eq!(registry.requests(), []);
    }

    #[test]
    fn a_foreign_package_never_becomes_an_image() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let registry = TestRegistry::start(|_, _| Answer::file(b"something else"));
        let options = Options { offline: false, now: SystemTime::UNIX_EPOCH, environment: registry.environment() };
        let error = prepare(&store, lock(), &options, &Silent).unwrap_err();
        assert!(matches!(error, ImageError::Integrity { .. }), "{error:?}");
        assert!(store.list().unwrap().is_empty());
        store.prune(&[].into()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the lock file remains");
    }

    #[test]
    fn an_unfit_machine_is_told_before_anything_is_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let environment = [("CC", "no-such-compiler"), ("CXX", "no-such-compiler")].into_iter().collect();
        assert_eq!(preflight(&store, lock(), &environment).len(), 2);
        let options = Options { offline: false, now: SystemTime::UNIX_EPOCH, environment };
        let error = prepare(&store, lock(), &options, &Silent).unwrap_err();
        assert!(matches!(error, ImageError::CompilerMissing { .. }), "{error:?}");
        assert!(!folder.path().join(".work").exists());
    }
}
