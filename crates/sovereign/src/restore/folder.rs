//! A site's data on the disk: where each part is live, staged and kept, and moving it by renames.
//!
//! Promise: nothing is written where the application could have put a link. What is staged and kept lies in a folder of
//! ours; a part is moved whole, by its own name, and never looked into.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sovereign_model::layout::{RestoreFolder, SiteFolder, StateFolder};
use sovereign_model::stack::Site;
use sovereign_model::{EdgeName, SiteName};

use super::swap::{Change, Found, Intent, Missing, Move, Part, Place};
use crate::failure::Reason;

/// Something about the folders of a restore.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// A file or folder cannot be used.
    #[error("cannot {action} {path}", path = .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What says what is being done cannot be understood.
    #[error("cannot understand {path}, which says what a restore that was cut off was doing", path = .path.display())]
    Senseless {
        /// The file.
        path: PathBuf,
    },
    /// A part cannot change its place by a rename.
    #[error("{path} is a link or on a file system of its own, so nothing can take its place in one moment", path = .path.display())]
    Unmovable {
        /// The part.
        path: PathBuf,
        /// Whose.
        site: SiteName,
    },
    /// What is to be renamed is gone.
    #[error("cannot go on with the restore in {path}", path = .path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        source: Missing,
    },
}

impl Reason for FolderError {
    fn help(&self) -> Option<String> {
        match self {
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space and run the command again".to_owned())
            }
            Self::File { .. } => None,
            Self::Senseless { .. } => {
                Some("a newer program may have written it: run the command with that one".to_owned())
            }
            Self::Unmovable { site, .. } => Some(format!(
                "`sovereign restore {site} --to FOLDER` restores beside it; `sovereign down`, put it in place, `sovereign up`"
            )),
            Self::Missing { path, .. } => Some(format!("look into {} before anything else", path.display())),
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::File { action, path, source }
}

/// The folders of a site, as a restore sees them.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    name: SiteName,
    site: SiteFolder,
    set_up: PathBuf,
    restore: RestoreFolder,
}

impl Folder {
    /// Those of a site where it is written, on this machine.
    pub(crate) fn of(state: &StateFolder, site: &Site) -> Self {
        Self::at(state, site, &EdgeName::here(&site.primary))
    }

    /// Those of a site that is at `place`. On a host, what this machine remembers of it is all of its data that lies here.
    pub(crate) fn at(state: &StateFolder, site: &Site, place: &EdgeName) -> Self {
        Self {
            name: site.name.clone(),
            site: state.site(&site.primary, &site.name),
            set_up: state.set_up(place, &site.name),
            restore: state.restore(&site.primary, &site.name),
        }
    }

    /// Where what is to take the place lies.
    pub(crate) fn staged(&self) -> PathBuf {
        self.restore.staged()
    }

    /// Where what a restore replaced lies.
    pub(crate) fn before(&self, number: u32) -> PathBuf {
        self.restore.before(number)
    }

    /// Where a part is used.
    pub(crate) fn live(&self, part: Part) -> PathBuf {
        match part {
            Part::Data | Part::Content => self.site.path().join(part.name()),
            Part::SetUp => self.set_up.clone(),
        }
    }

    fn at_place(&self, part: Part, place: Place, number: u32) -> PathBuf {
        match place {
            Place::Live => self.live(part),
            Place::Staged => self.staged().join(part.name()),
            Place::Before => self.before(number).join(part.name()),
        }
    }

    /// What a run that was cut off was doing.
    ///
    /// # Errors
    /// When there is something and it cannot be understood.
    pub(crate) fn pending(&self) -> Result<Option<Intent>, FolderError> {
        let path = self.restore.intent();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let intent = serde_json::from_slice::<Intent>(&text).ok().filter(Intent::is_known);
        intent.map(Some).ok_or(FolderError::Senseless { path })
    }

    /// Numbers of what restores have replaced, the oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn kept(&self) -> Result<Vec<u32>, FolderError> {
        let entries = match fs::read_dir(self.restore.path()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", self.restore.path())(error)),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("read", self.restore.path()))?.file_name();
            numbers.extend(name.to_str().and_then(RestoreFolder::number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Makes the folder, and removes what is half staged. Nothing is pending.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn begin(&self) -> Result<(), FolderError> {
        let path = self.restore.path();
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make", path))?;
        self.remove_staged()
    }

    /// Whether the site is on its way here: brought up without its data, and no edge leads to it.
    pub(crate) fn is_arriving(&self) -> bool {
        self.restore.arriving().symlink_metadata().is_ok()
    }

    /// Writes down that it is, so that a run that is cut off is gone on with.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn set_arriving(&self) -> Result<(), FolderError> {
        let path = self.restore.path();
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make", path))?;
        let path = self.restore.arriving();
        sovereign_runtime::file::replace(&path, b"", 0o600).map_err(|error| failed("write", &path)(error.source))
    }

    /// Writes down that it has come.
    ///
    /// # Errors
    /// When it cannot be.
    pub(crate) fn set_arrived(&self) -> Result<(), FolderError> {
        let path = self.restore.arriving();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Removes what is staged.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) fn remove_staged(&self) -> Result<(), FolderError> {
        remove(&self.staged())
    }

    /// Removes what a restore replaced.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) fn remove_before(&self, number: u32) -> Result<(), FolderError> {
        remove(&self.before(number))
    }

    /// What happens to each part when what lies in `from` takes its place.
    ///
    /// # Errors
    /// When a part could not be moved by a rename.
    pub(crate) fn changes(&self, from: &Path) -> Result<BTreeMap<Part, Change>, FolderError> {
        let here = fs::metadata(self.restore.path()).map_err(failed("look at", self.restore.path()))?.dev();
        let mut changes = BTreeMap::new();
        for part in Part::ALL {
            let live = self.live(part);
            let had = match live.symlink_metadata() {
                Ok(metadata) if metadata.is_symlink() || metadata.dev() != here => {
                    return Err(FolderError::Unmovable { path: live, site: self.name.clone() });
                }
                Ok(_) => true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(failed("look at", &live)(error)),
            };
            let gets = from.join(part.name()).symlink_metadata().is_ok();
            if had || gets {
                changes.insert(part, Change { had, gets });
            }
        }
        Ok(changes)
    }

    /// Writes down what is being done.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn keep(&self, intent: &Intent) -> Result<(), FolderError> {
        let path = self.restore.intent();
        let text = serde_json::to_vec_pretty(intent).map_err(|error| failed("write", &path)(error.into()))?;
        sovereign_runtime::file::replace(&path, &text, 0o600).map_err(|error| failed("write", &path)(error.source))
    }

    /// The next rename.
    ///
    /// # Errors
    /// When something is missing.
    pub(crate) fn next(&self, intent: &Intent) -> Result<Option<Move>, FolderError> {
        // It is taken away last: nothing goes back without it.
        if intent.back.is_some() && !is_there(&self.staged()) {
            return Ok(None);
        }
        self.missing(intent.next(|part| self.found(intent, part)))
    }

    /// Where a part is.
    pub(crate) fn found(&self, intent: &Intent, part: Part) -> Found {
        Found {
            live: is_there(&self.live(part)),
            staged: is_there(&self.at_place(part, Place::Staged, intent.number)),
            before: is_there(&self.at_place(part, Place::Before, intent.number)),
        }
    }

    /// Says where something is missing.
    ///
    /// # Errors
    /// When it is.
    pub(crate) fn missing<T>(&self, next: Result<T, Missing>) -> Result<T, FolderError> {
        next.map_err(|source| FolderError::Missing { path: self.restore.path().to_owned(), source })
    }

    /// Whether there is something staged.
    pub(crate) fn is_staged(&self) -> bool {
        is_there(&self.staged())
    }

    /// Makes the folder of what is about to be replaced.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn make_before(&self, number: u32) -> Result<(), FolderError> {
        let path = self.before(number);
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed("make", &path))?;
        path.parent().map_or(Ok(()), sync)
    }

    /// Removes the folder of what was about to be replaced, once all of it is back in its place: an empty one would pass
    /// for what a restore has replaced.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) fn remove_empty(&self, number: u32) -> Result<(), FolderError> {
        let path = self.before(number);
        match fs::remove_dir(&path) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                Err(failed("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Renames a part, and makes that last.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub(crate) fn rename(&self, intent: &Intent, step: Move) -> Result<(), FolderError> {
        let (from, to) =
            (self.at_place(step.part, step.from, intent.number), self.at_place(step.part, step.to, intent.number));
        if let Some(folder) = to.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("make", folder))?;
        }
        move_to(&from, &to)
    }

    /// Whether the site has data.
    pub(crate) fn is_live(&self) -> bool {
        is_there(&self.live(Part::Data))
    }

    /// Carries an intent out where nothing runs: what is staged takes its place.
    ///
    /// # Errors
    /// When something is missing, or cannot be renamed.
    pub(crate) fn carry_out(&self, intent: &Intent) -> Result<(), FolderError> {
        while let Some(step) = self.next(intent)? {
            self.rename(intent, step)?;
        }
        self.forget()?;
        self.remove_staged()
    }

    /// Takes a generation that was kept to where it is put in place from.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub(crate) fn take_out(&self, number: u32) -> Result<(), FolderError> {
        let (kept, staged) = (self.before(number), self.staged());
        if is_there(&kept) { move_to(&kept, &staged) } else { Ok(()) }
    }

    /// The same, back.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub(crate) fn put_away(&self, number: u32) -> Result<(), FolderError> {
        let (kept, staged) = (self.before(number), self.staged());
        if is_there(&staged) { move_to(&staged, &kept) } else { Ok(()) }
    }

    /// Nothing is being done any more.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub(crate) fn forget(&self) -> Result<(), FolderError> {
        let path = self.restore.intent();
        fs::remove_file(&path).map_err(failed("remove", &path))?;
        sync(self.restore.path())
    }
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn move_to(from: &Path, to: &Path) -> Result<(), FolderError> {
    fs::rename(from, to).map_err(failed("move", from))?;
    [from, to].into_iter().filter_map(Path::parent).try_for_each(sync)
}

fn sync(folder: &Path) -> Result<(), FolderError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))
}

/// No link in it is followed.
fn remove(folder: &Path) -> Result<(), FolderError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", folder)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use sovereign_model::file;

    use super::*;
    use crate::restore::swap::Origin;

    fn with_folder(test: impl FnOnce(&Path, Folder)) {
        let root = tempfile::tempdir().unwrap();
        let stack = file::parse("stack.toml", file::default_file(), root.path()).unwrap();
        let state = StateFolder::new(root.path().join("state"));
        let site = stack.sites.values().next().unwrap();
        let folder = Folder::of(&state, site);
        for part in [Part::Data, Part::Content] {
            fs::create_dir_all(folder.live(part)).unwrap();
            fs::write(folder.live(part).join("whose"), "old").unwrap();
        }
        folder.begin().unwrap();
        test(root.path(), folder);
    }

    fn stage(folder: &Folder) {
        for part in [Part::Data, Part::Content] {
            fs::create_dir_all(folder.staged().join(part.name())).unwrap();
            fs::write(folder.staged().join(part.name()).join("whose"), "new").unwrap();
        }
        fs::write(folder.staged().join("set-up.json"), "new").unwrap();
    }

    fn whose(folder: &Folder) -> Vec<String> {
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let live = |part| folder.live(part);
        vec![read(live(Part::Data).join("whose")), read(live(Part::Content).join("whose")), read(live(Part::SetUp))]
    }

    fn go(folder: &Folder, intent: &Intent) {
        while let Some(step) = folder.next(intent).unwrap() {
            folder.rename(intent, step).unwrap();
        }
    }

    #[test]
    fn all_goes_in_and_all_comes_back() {
        with_folder(|_, folder| {
            stage(&folder);
            let changes = folder.changes(&folder.staged()).unwrap();
            let origin = Origin::Snapshot { id: "ab".to_owned(), taken_unix: 1 };
            let mut intent = Intent::new(origin, 1, changes);
            folder.keep(&intent).unwrap();
            assert_eq!(folder.pending().unwrap(), Some(intent.clone()));
            go(&folder, &intent);
            assert_eq!(whose(&folder), ["new", "new", "new"]);
            assert_eq!(folder.kept().unwrap(), [1]);
            intent.back = Some("why".to_owned());
            go(&folder, &intent);
            assert_eq!(whose(&folder), ["old", "old", ""]);
            // What is back in its place is not kept as well: undoing that would put nothing in the place of everything.
            folder.remove_empty(1).unwrap();
            assert_eq!(folder.kept().unwrap(), [0_u32; 0]);
            folder.forget().unwrap();
            assert_eq!(folder.pending().unwrap(), None);
        });
    }

    #[test]
    fn a_link_in_a_parts_place_is_not_followed() {
        with_folder(|root, folder| {
            let elsewhere = root.join("elsewhere");
            fs::create_dir(&elsewhere).unwrap();
            fs::write(elsewhere.join("mine"), "mine").unwrap();
            fs::remove_dir_all(folder.live(Part::Content)).unwrap();
            symlink(&elsewhere, folder.live(Part::Content)).unwrap();
            stage(&folder);
            let refused = folder.changes(&folder.staged()).unwrap_err();
            assert!(matches!(refused, FolderError::Unmovable { .. }), "{refused}");
            // A link in what is removed is removed, and what it leads to stays.
            symlink(&elsewhere, folder.staged().join("content/link")).unwrap();
            folder.remove_staged().unwrap();
            assert!(elsewhere.join("mine").exists());
        });
    }

    #[test]
    fn what_nobody_understands_is_not_passed_over() {
        with_folder(|_, folder| {
            for text in ["", "{}", r#"{"version":2,"origin":{"before":{"number":1}},"number":2,"parts":{}}"#] {
                fs::write(folder.restore.intent(), text).unwrap();
                assert!(matches!(folder.pending(), Err(FolderError::Senseless { .. })), "{text}");
            }
        });
    }
}
