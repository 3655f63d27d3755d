//! A lock for another Ghost than the one that comes with this program: an operator's choice.
//!
//! Node.js, the installer and the database addon stay the program's own. Whether the other Ghost can be built and run
//! with them is looked up in its archive, before anybody relies on the lock. What the registry says of the archive's
//! digest is believed once, now.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::{PRUNE, lock};
use crate::download::{Downloads, ask};
use crate::error::At as _;
use crate::lock::{Integrity, Lock, Package, Part};
use crate::progress::{Progress, Receipt, Stage, Timed};
use crate::registry::Registries;
use crate::store::Store;
use crate::unpack::{Bounds, unpack};
use crate::{ImageError, Options};

/// An archive of Ghost has a tenth of that.
const LARGEST: u64 = 256 << 20;

/// What a registry says of a version; the fields that are of interest.
#[derive(Deserialize)]
struct Said {
    dist: Distributed,
}

#[derive(Deserialize)]
struct Distributed {
    integrity: Integrity,
}

/// The lock with that version of Ghost. Its archive is fetched, and is where a build looks for it.
///
/// # Errors
/// When there is no such version, it cannot be fetched, or this program cannot build it.
pub fn lock_of(
    version: &str,
    store: &Store,
    options: &Options,
    progress: &dyn Progress,
) -> Result<(Lock, Receipt), ImageError> {
    let ours = lock().part(Part::Application)?;
    if ours.version == version {
        return Ok((lock().clone(), Receipt::default()));
    }
    if version.is_empty() || !version.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')) {
        return Err(ImageError::NoVersion { version: version.to_owned() });
    }
    let mut receipt = Receipt::default();
    let workshop = store.lock(progress)?;
    let timed = Timed::start(Stage::Download, progress);
    let registries = Registries::load(&options.environment)?;
    let mut package = Package { version: version.to_owned(), bytes: LARGEST, ..ours.clone() };
    let said = ask(&registries, &package).map_err(|error| match error {
        ImageError::Download { status: Some(404), .. } => ImageError::NoVersion { version: version.to_owned() },
        other => other,
    })?;
    let strange = |error: serde_json::Error| ImageError::Registry { reason: format!("{package} is told as: {error}") };
    package.integrity = serde_json::from_slice::<Said>(&said).map_err(strange)?.dist.integrity;
    let mut downloads = Downloads::new(workshop.kept("downloads")?, Some(&registries), 0, progress)?;
    let archive = downloads.fetch(&package, &mut receipt)?;
    package.bytes = archive.metadata().at("look at", workshop.kept("downloads")?.as_path())?.len();
    let folder = workshop.fresh("look")?;
    let wanted = ["package.json", "pnpm-lock.yaml", PRUNE];
    unpack(&package.to_string(), archive, &folder, Bounds::default(), |path: &Path| {
        wanted.iter().any(|wanted| path == Path::new(wanted)).then(|| path.to_owned())
    })?;
    let fits = fits(&folder);
    fs::remove_dir_all(&folder).at("remove", &folder)?;
    fits.map_err(|why| ImageError::Unbuildable { version: version.to_owned(), why })?;
    timed.finish(&mut receipt);
    let mut chosen = lock().clone();
    for part in &mut chosen.packages {
        if part.part == Part::Application {
            *part = package.clone();
        }
    }
    Ok((chosen, receipt))
}

/// Whether what of a Ghost lies in this folder can be built by this program; else why not.
fn fits(folder: &Path) -> Result<(), String> {
    if !folder.join(PRUNE).exists() {
        return Err(format!("it has no {PRUNE}"));
    }
    let installed = fs::read_to_string(folder.join("pnpm-lock.yaml")).map_err(|_| "it has no pnpm-lock.yaml")?;
    let addon = lock().part(Part::DatabaseAddon).map_err(|error| error.to_string())?;
    let wants = format!("{}@{}:", addon.name, addon.version);
    if installed.lines().any(|line| line.trim().trim_matches('\'').starts_with(&wants)) {
        return Ok(());
    }
    Err(format!("it does not want {addon}, which this program compiles"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::SystemTime;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use sha2::{Digest as _, Sha512};

    use super::*;
    use crate::Silent;
    use crate::test_registry::{Answer, TestRegistry};

    /// An archive with these files.
    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append_data(&mut header, format!("package/{path}"), text.as_bytes()).unwrap();
        }
        let mut bytes = tar.into_inner().unwrap();
        bytes.flush().unwrap();
        bytes.finish().unwrap()
    }

    fn locked(version: &str, files: &[(&str, &str)], told: Option<&str>) -> Result<Lock, ImageError> {
        let archive = archive(files);
        let integrity = Integrity::of(Sha512::new().chain_update(told.map_or(&archive[..], str::as_bytes)));
        let said = format!(r#"{{"name":"ghost","dist":{{"integrity":"{integrity}"}}}}"#);
        let registry = TestRegistry::start(move |_, request| match request.path.as_str() {
            "/npm/ghost/6.64.0" => Answer::file(said.as_bytes()),
            "/npm/ghost/-/ghost-6.64.0.tgz" => Answer::file(&archive),
            _ => Answer::Status(404),
        });
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let options = Options { offline: false, now: SystemTime::UNIX_EPOCH, environment: registry.environment() };
        lock_of(version, &store, &options, &Silent).map(|(lock, _)| lock)
    }

    const PNPM_LOCK: (&str, &str) = ("pnpm-lock.yaml", "packages:\n\n  better-sqlite3@12.11.1:\n    engines: {}\n");

    #[test]
    fn another_ghost_is_locked_as_the_registry_has_it_and_the_rest_stays() {
        let files = [("package.json", "{}"), PNPM_LOCK, (PRUNE, "")];
        let chosen = locked("6.64.0", &files, None).unwrap();
        assert_ne!(chosen.digest(), lock().digest());
        assert_eq!(super::super::version(&chosen), "6.64.0");
        let rest = |lock: &Lock| -> Vec<Package> {
            lock.packages.iter().filter(|package| package.part != Part::Application).cloned().collect()
        };
        assert_eq!(rest(&chosen), rest(lock()));
        assert_eq!(Lock::parse(&chosen.to_text()).unwrap(), chosen);
        let application = chosen.part(Part::Application).unwrap();
        assert_eq!(application.bytes, archive(&files).len() as u64);
    }

    #[test]
    fn what_this_program_cannot_build_is_never_locked() {
        let error = locked("6.64.0", &[("package.json", "{}"), PNPM_LOCK], None).unwrap_err();
        assert!(matches!(error, ImageError::Unbuildable { .. }), "{error:?}");
        let other = ("pnpm-lock.yaml", "packages:\n  better-sqlite3@12.11.10:\n");
        let error = locked("6.64.0", &[("package.json", "{}"), other, (PRUNE, "")], None).unwrap_err();
        assert!(error.to_string().contains("better-sqlite3 12.11.1"), "{error}");
        for version in ["9.9.9", "", "../6.64.0", "6.64.0/x"] {
            let error = locked(version, &[], None).unwrap_err();
            assert!(matches!(error, ImageError::NoVersion { .. }), "{version}: {error:?}");
        }
    }

    #[test]
    fn an_archive_that_is_not_what_the_registry_says_is_refused() {
        let files = [("package.json", "{}"), PNPM_LOCK, (PRUNE, "")];
        let error = locked("6.64.0", &files, Some("something else")).unwrap_err();
        assert!(matches!(error, ImageError::Integrity { .. }), "{error:?}");
    }
}
