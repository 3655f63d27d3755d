//! A site's data out of an archive of duplicity, into ours: restored into a folder, looked at, and backed up from there
//! like any other data, by a source that sees nothing else, compared and proven.
//!
//! Left out: turning a MySQL dump into a SQLite database.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use sovereign_archive::{Offer, Subject, room_for};
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::{App, Site};
use zeroize::Zeroizing;

use super::ghost::{DATABASE, Ghost};
use super::{Backed, BackupError, DUMP, Has, Run, Scratch, offer, remove};
use crate::duplicity::{Address, Duplicity, Moment};
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::printable;

/// Below the folder of the archive; holds what is restored.
const SCRATCH: &str = "import";
/// Where a Ghost's content folder may be in what was restored: it, or what it lies in.
const PLACES: [&str; 5] = ["", "content", "ghost", "ghost/content", "var/lib/ghost/content"];
/// The name of Ghost's database in its content folder.
const GHOST_DATABASE: &str = "ghost.db";
/// What SQLite keeps beside a database while it is written.
const BESIDE: [&str; 3] = ["-journal", "-wal", "-shm"];
/// How deep dumps are looked for.
const DEPTH: usize = 3;

/// The data is not what this site could have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// Not a kind of site whose data is files.
    #[error("site {0} is an upstream service, whose data a program of its own loads")]
    Upstream(String),
    /// The data of a Ghost on MySQL.
    #[error("the archive has a dump of MySQL ({0}), and a Ghost here keeps its data in SQLite")]
    Dump(String),
    /// The same, as MySQL keeps it.
    #[error("the archive has a folder of MySQL ({0}), and a Ghost here keeps its data in SQLite")]
    MySql(String),
    /// The site has a database of another kind.
    #[error(
        "site {0} is on a host, where its database is MariaDB: only what was backed up from there can be taken over"
    )]
    OnHost(String),
    /// Several databases.
    #[error("the archive has several databases: {}", .0.join(", "))]
    Several(Vec<String>),
    /// No Ghost.
    #[error("there is no data of a Ghost in the archive{}", found(.0))]
    NoGhost(Vec<String>),
}

fn found(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(", only {}", names.join(", ")) }
}

impl Reason for ImportError {
    fn exit(&self) -> Exit {
        match self {
            Self::Upstream(_) | Self::OnHost(_) => Exit::Usage,
            _ => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Upstream(_) => "restore it with duplicity, and `sovereign site load` reads it in".to_owned(),
            Self::Dump(_) | Self::MySql(_) => {
                "restore it with duplicity, start the old Ghost on it once more, and take its export (Settings, Import/\
                 Export) and its content/images to the new site: docs/import.md"
                    .to_owned()
            }
            Self::OnHost(_) => "import it for a site on this machine, with another name".to_owned(),
            Self::Several(_) => {
                "which of them is the site\'s cannot be told; it would have to be data/ghost.db".to_owned()
            }
            Self::NoGhost(_) => {
                "a Ghost\'s content folder is expected, with data/ghost.db in it: is this another site\'s archive?"
                    .to_owned()
            }
        })
    }
}

/// What is to be imported.
pub(crate) struct Wanted<'a> {
    pub(crate) address: &'a Address,
    pub(crate) keyring: Option<&'a Path>,
    pub(crate) time: Option<&'a Moment>,
    /// The passphrase, asked for when it turns out that one is needed.
    pub(crate) passphrase: &'a dyn Fn() -> Result<Option<Zeroizing<String>>, Failure>,
}

/// What was imported.
pub(crate) struct Imported {
    pub(crate) backed: Backed,
    /// Sets and volumes of the archive.
    pub(crate) full: usize,
    pub(crate) increments: usize,
    pub(crate) volumes: usize,
    pub(crate) is_encrypted: bool,
    /// The moment it is the state of.
    pub(crate) state: Moment,
    pub(crate) remarks: Vec<String>,
}

/// Removes what an import that was killed has left. The archive is open.
pub(super) fn sweep(state: &StateFolder) {
    // What cannot be removed is in the way of the next one, which says so.
    for name in [SCRATCH, super::copies::CHAIN_SCRATCH] {
        let _ = remove(&state.archive().join(name));
    }
}

impl Run<'_> {
    /// Takes the data of a site over.
    ///
    /// # Errors
    /// When it cannot be had whole, or is not what the site could have: then there is no snapshot.
    pub(crate) fn import(&self, site: &Site, wanted: &Wanted<'_>) -> Result<Imported, Failure> {
        if matches!(site.app, App::Upstream { .. }) {
            return Err(ImportError::Upstream(site.name.to_string()).into());
        }
        let Self { context, declared, progress, .. } = self;
        // Without the image there is nothing to look at a database with: said before much is done.
        let is_on_host = site.host(&declared.stack).is_some();
        let is_here = matches!(site.app, App::Ghost) && !is_on_host;
        let ghost = is_here.then(|| Ghost::of(context, declared, site)).transpose()?;
        let scratch = Scratch::named(&declared.state, SCRATCH)?;
        let Wanted { address, keyring, time, passphrase } = wanted;
        let mut duplicity = Duplicity::new(&declared.state, address, &scratch.folder, *keyring, *time, self.stop)?;
        let stage = progress.stage(format!("look at {address}"));
        let status = duplicity.status()?;
        let needed = if status.is_encrypted { passphrase()? } else { None };
        needed.into_iter().for_each(|passphrase| duplicity.unlock(passphrase));
        duplicity.lists()?;
        stage.finish();
        let stage = progress.stage("compare every volume with its manifest");
        let checked = duplicity.check(&|done, all| {
            stage.expect_bytes(all);
            stage.reach(done);
        })?;
        stage.finish();
        // Compressed; what it comes to nobody knows yet.
        room_for(&scratch.folder, checked.bytes)?;
        let stage = progress.stage("restore with duplicity");
        let restored = scratch.folder.join("files");
        let warnings = duplicity.restore(&restored)?;
        open_up(&restored).map_err(|source| BackupError::File { path: restored.clone(), source })?;
        stage.finish();

        let subject = Subject::Site(site.name.clone());
        let backed = match &ghost {
            None if matches!(site.app, App::Ghost) => {
                let is_file = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
                let ours = ours(&restored, DUMP, is_file);
                let offer = ours.ok_or_else(|| ImportError::OnHost(site.name.to_string()))?;
                self.one(&subject, &mut || Ok(Has::Here(offer.clone())), &|scratch| self.look(site, scratch))?
            }
            Some(ghost) => {
                let offer = ghost_data(ghost, &restored, &scratch.folder)?;
                let examine = |scratch: &Path| ghost.examine(&scratch.join(DATABASE)).map(Some);
                self.one(&subject, &mut || Ok(Has::Here(offer.clone())), &examine)?
            }
            None => {
                // From a snapshot of ours.
                let inner = restored.join("files");
                let is_ours = names(&restored) == ["files"] && is_folder_below(&restored, &inner);
                let offer = offer([("files", if is_ours { inner } else { restored })]);
                self.one(&subject, &mut || Ok(Has::Here(offer.clone())), &|_| Ok(None))?
            }
        };
        let damaged = checked.damaged.iter().map(|what| format!("not needed for this, but damaged: {what}"));
        Ok(Imported {
            backed,
            full: status.full,
            increments: status.increments,
            volumes: checked.volumes,
            is_encrypted: status.is_encrypted,
            state: checked.state,
            remarks: damaged.chain(warnings.iter().map(|warning| printable(warning))).collect(),
        })
    }
}

/// Puts the data of a Ghost where it lies in our snapshots.
fn ghost_data(ghost: &Ghost<'_>, restored: &Path, scratch: &Path) -> Result<Offer, Failure> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::File { path, source }
    };
    if let Some(offer) = ours(restored, DATABASE, is_sqlite) {
        return Ok(offer);
    }
    let (content, database) = find(restored)?;
    let to = scratch.join(DATABASE);
    let folder = to.parent().unwrap_or(scratch).to_owned();
    fs::DirBuilder::new().mode(0o700).create(&folder).map_err(at(&folder))?;
    let beside: Vec<_> = BESIDE.iter().map(|end| with_end(&database, end)).filter(|path| is_there(path)).collect();
    if beside.is_empty() {
        fs::rename(&database, &to).map_err(at(&database))?;
    } else {
        ghost.copy(&database, &to)?;
        for path in beside.iter().chain([&database]).filter(|path| is_there(path)) {
            fs::remove_file(path).map_err(at(path))?;
        }
    }
    Ok(offer([("content", content), ("database", folder)]))
}

/// What was put into the archive from a snapshot of ours.
fn ours(restored: &Path, database: &str, is_one: impl FnOnce(&Path) -> bool) -> Option<Offer> {
    let (content, database) = (restored.join("content"), restored.join(database));
    let folder = database.parent()?.to_owned();
    let is_ours = [&content, &folder].into_iter().all(|part| is_folder_below(restored, part)) && is_one(&database);
    let set_up = Some(("set-up.json", restored.join("set-up.json")));
    let set_up = set_up.filter(|(_, path)| path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()));
    is_ours.then(|| offer([("content", content), ("database", folder)].into_iter().chain(set_up)))
}

/// The content folder and the database in what was restored. No link in it is followed.
fn find(restored: &Path) -> Result<(PathBuf, PathBuf), ImportError> {
    let shown = |path: &Path| printable(&path.strip_prefix(restored).unwrap_or(path).display().to_string());
    for place in PLACES {
        let content = restored.join(place);
        if !is_folder_below(restored, &content) || !is_folder_below(restored, &content.join("data")) {
            continue;
        }
        let data = content.join("data");
        let mut databases: Vec<_> = names(&data).into_iter().map(|name| data.join(name)).collect();
        databases.retain(|path| path.extension().is_some_and(|end| end == "db") && is_sqlite(path));
        if let Some(named) = databases.iter().find(|path| path.file_name().is_some_and(|name| name == GHOST_DATABASE)) {
            return Ok((content, named.clone()));
        }
        match &databases[..] {
            [] => {}
            [only] => return Ok((content, only.clone())),
            several => return Err(ImportError::Several(several.iter().map(|path| shown(path)).collect())),
        }
    }
    let is_dump = |name: &str| [".sql", ".sql.gz", ".sql.xz", ".sql.zst"].iter().any(|end| name.ends_with(end));
    if let Some(dump) = search(restored, DEPTH, &is_dump) {
        return Err(ImportError::Dump(shown(&dump)));
    }
    if let Some(file) = search(restored, DEPTH, &|name| name == "ibdata1") {
        return Err(ImportError::MySql(shown(file.parent().unwrap_or(restored))));
    }
    Err(ImportError::NoGhost(names(restored).iter().take(10).map(|name| printable(&name.to_string_lossy())).collect()))
}

fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

/// A plain file whose name is of that kind.
fn search(folder: &Path, depth: usize, is_it: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let entries: Vec<_> = names(folder).into_iter().map(|name| folder.join(name)).collect();
    let kind = |path: &Path| path.symlink_metadata().map(|metadata| metadata.file_type());
    let named = |path: &Path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_it);
    let here = entries.iter().find(|path| named(path) && kind(path).is_ok_and(|kind| kind.is_file()));
    let deeper = depth.checked_sub(1)?;
    let folders = || entries.iter().filter(|path| kind(path).is_ok_and(|kind| kind.is_dir()));
    here.cloned().or_else(|| folders().find_map(|inner| search(inner, deeper, is_it)))
}

/// Whether every step to it from the folder is a folder.
fn is_folder_below(folder: &Path, path: &Path) -> bool {
    let is_folder = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    path.ancestors().take_while(|step| *step != folder).all(is_folder)
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn is_sqlite(path: &Path) -> bool {
    let head = sovereign_runtime::file::read_foreign(path, 16);
    head.is_ok_and(|head| head.starts_with(b"SQLite format 3\0"))
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Lets us read everything, and remove it: whose it was may have kept himself from it.
fn open_up(path: &Path) -> io::Result<()> {
    let metadata = path.symlink_metadata()?;
    let mode = metadata.permissions().mode();
    let open = if metadata.is_dir() { 0o700 } else { 0o400 };
    if !metadata.is_symlink() && mode & open != open {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777 | open))?;
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            open_up(&entry?.path())?;
        }
    }
    Ok(())
}
