//! A Ghost's data: a copy of its database that holds still, its content folder, the keys it made for us.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sovereign_archive::entry::TreePath;
use sovereign_archive::{Contents, Offer, room_for};
use sovereign_engine::embedded::once::{self, Once};
use sovereign_images::Store;
use sovereign_model::EdgeName;
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::Site;
use sovereign_services::ghost::data::{self, Compared, Examined, Table};
use sovereign_services::ghost::pack_script;

use super::{BackupError, Scratch, offer};
use crate::context::Context;
use crate::declared::Declared;
use crate::failure::Failure;
use crate::output::Progress;

/// Where the database lies in a snapshot.
pub(crate) const DATABASE: &str = "database/ghost.db";

/// A gigabyte takes some ten seconds.
const PATIENCE: Duration = Duration::from_secs(600);

/// A Ghost, as its data is seen.
pub(crate) struct Ghost<'a> {
    state: &'a StateFolder,
    folder: PathBuf,
    dumps: PathBuf,
    /// What is known of the dump; where Ghost does not write.
    stamp: PathBuf,
    set_up: PathBuf,
    image: PathBuf,
}

impl<'a> Ghost<'a> {
    /// The Ghost of a site, where it is written.
    ///
    /// # Errors
    /// When there is no image to work on its data with.
    pub(crate) fn of(context: &Context, declared: &'a Declared, site: &Site) -> Result<Self, Failure> {
        let folder = declared.state.site(&site.primary, &site.name);
        // Before an upgrade this program's own image is not built yet, and a backup is wanted most.
        let image = match data::image(folder.path()) {
            Some(running) => running,
            None => {
                let built =
                    sovereign_images::ghost::find(&Store::open(context.places()?.images())?, &declared.ghost_lock()?)?;
                built.ok_or(BackupError::NoImage)?.root
            }
        };
        Ok(Self {
            state: &declared.state,
            dumps: folder.ghost_dump(),
            stamp: declared.state.archive().join(format!("dump-{}.json", site.name)),
            set_up: declared.state.set_up(&EdgeName::here(&site.primary), &site.name),
            folder: folder.path().to_owned(),
            image,
        })
    }

    /// Makes the copy agree with the database. Nothing is done when it did not change since the last copy, so that the
    /// copy is not read again either.
    pub(super) fn dump(&self, progress: &Progress) -> Result<(), Failure> {
        let database = data::database(&self.folder);
        let to = self.dumps.join(data::DUMP_FILE);
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| BackupError::File { path, source }
        };
        let now = data::stamp(&database).map_err(at(&database))?;
        let before = fs::read(&self.stamp).ok().and_then(|text| serde_json::from_slice(&text).ok());
        if now.is_some() && now == before && to.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Ok(());
        }
        let stage = progress.stage("copy the database");
        // Ghost's own user makes the copy, in a folder of its own: nobody mightier reads or writes where Ghost may have
        // put links.
        let data = self.folder.join("data");
        let user = data.metadata().map_err(at(&data))?.uid();
        remove_file(&self.stamp).map_err(at(&self.stamp))?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dumps).map_err(at(&self.dumps))?;
        make_sure_of_room(&database, &self.dumps)?;
        let once = Once {
            program: self.image.join("node/bin/node"),
            args: data::dump_arguments(&self.image, &database, &to),
            working_dir: self.dumps.clone(),
            read: vec![self.image.clone()],
            // SQLite may have to undo there what a killed Ghost left half written.
            write: vec![data, self.dumps.clone()],
            user: Some(user).filter(|user| *user != 0),
            patience: PATIENCE,
        };
        once::run(self.state, &once)?;
        if let Some(stamp) = now {
            let text = serde_json::to_vec(&stamp).map_err(io::Error::other).map_err(at(&self.stamp))?;
            sovereign_runtime::file::replace(&self.stamp, &text, 0o600)
                .map_err(|error| at(&self.stamp)(error.source))?;
        }
        stage.finish();
        Ok(())
    }

    /// The same for a database that nobody uses, into a folder of ours: what whoever used it left half written is undone.
    pub(super) fn copy(&self, database: &Path, to: &Path) -> Result<(), Failure> {
        let write = [database, to].into_iter().filter_map(Path::parent).map(Path::to_owned).collect::<Vec<_>>();
        let once = Once {
            program: self.image.join("node/bin/node"),
            args: data::dump_arguments(&self.image, database, to),
            working_dir: write.first().cloned().unwrap_or_default(),
            read: vec![self.image.clone()],
            write,
            user: None,
            patience: PATIENCE,
        };
        Ok(once::run(self.state, &once).map(drop)?)
    }

    pub(super) fn offer(&self) -> Offer {
        let set_up = Some(("set-up.json", self.set_up.clone())).filter(|(_, path)| path.is_file());
        let folders = [("content", data::content(&self.folder)), ("database", self.dumps.clone())];
        offer(folders.into_iter().chain(set_up))
    }

    /// Has a database that came from the archive looked at, by a process that sees nothing but it and the image. Its
    /// folder has nothing else in it, and is handed to Ghost's user.
    pub(crate) fn examine(&self, database: &Path) -> Result<String, Failure> {
        let folder = database.parent().unwrap_or(Path::new("/")).to_owned();
        let said = once::run(self.state, &self.once(folder, data::examine_arguments(&self.image, database)))?;
        let Examined { sound, posts, users, found } = serde_json::from_str(&said).map_err(BackupError::Senseless)?;
        if !sound {
            return Err(BackupError::Broken(found.join("; ").chars().filter(|c| !c.is_control()).collect()).into());
        }
        Ok(format!("integrity ok, {posts} posts and pages, {users} on the staff"))
    }

    /// Writes one table of a database that came from the archive into the database's folder, as SQL. As
    /// [`Ghost::examine`].
    pub(crate) fn write_table(&self, database: &Path, table: &str, to: &Path) -> Result<Table, Failure> {
        let folder = database.parent().unwrap_or(Path::new("/")).to_owned();
        let args = data::table_arguments(&self.image, database, table, to);
        let said = once::run(self.state, &self.once(folder, args))?;
        Ok(serde_json::from_str(&said).map_err(BackupError::Senseless)?)
    }

    /// A look at what came from the archive: nothing but its folder and the image is seen.
    fn once(&self, folder: PathBuf, args: Vec<String>) -> Once {
        Once {
            program: self.image.join("node/bin/node"),
            args,
            working_dir: folder.clone(),
            read: vec![self.image.clone()],
            write: vec![folder],
            user: self.user(),
            patience: PATIENCE,
        }
    }

    /// Whom its data belongs to; `None` when that is us, or there is none.
    pub(crate) fn user(&self) -> Option<u32> {
        let user = self.folder.join("data").metadata().map(|metadata| metadata.uid()).ok();
        user.filter(|user| *user != 0)
    }
}

/// How long packing may take: some hundred gigabytes.
const PACKING: Duration = Duration::from_secs(60 * 60);

/// What Ghost's user is given to write into, below a folder of ours.
const OF_GHOST: &str = "of-ghost";

impl Ghost<'_> {
    /// Copies the database, as it is at one moment, into a file of ours.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub(crate) fn copy_out(&self, scratch: &Scratch) -> Result<PathBuf, Failure> {
        let data = self.folder.join("data");
        let to = scratch.folder.join(OF_GHOST).join(data::DUMP_FILE);
        let args = data::dump_arguments(&self.image, &data::database(&self.folder), &to);
        // SQLite may have to undo there what a killed Ghost left half written.
        self.take_out(scratch, self.image.join("node/bin/node"), args, vec![self.image.clone()], vec![data], &to)
    }

    /// Packs what people uploaded into a file of ours: all of it the first time, and what changed since each further time.
    ///
    /// # Errors
    /// When it cannot be packed.
    pub(crate) fn pack(&self, scratch: &Scratch) -> Result<PathBuf, Failure> {
        let content = data::content(&self.folder);
        let folder = scratch.folder.join(OF_GHOST);
        let (to, noted) = (folder.join("content.tar"), folder.join("content.noted"));
        let paths = [&content, &to, &noted].map(|path| path.display().to_string());
        let args = ["-c", pack_script(), "pack"].map(str::to_owned).into_iter().chain(paths).collect();
        self.take_out(scratch, "/bin/sh".into(), args, vec![content], Vec::new(), &to)
    }

    /// Has Ghost's own user make the file `to`, and takes it where that user does not write.
    fn take_out(
        &self,
        scratch: &Scratch,
        program: PathBuf,
        args: Vec<String>,
        read: Vec<PathBuf>,
        mut write: Vec<PathBuf>,
        to: &Path,
    ) -> Result<PathBuf, Failure> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| BackupError::File { path, source }
        };
        let folder = scratch.folder.join(OF_GHOST);
        super::make(&folder).map_err(at(&folder))?;
        write.push(folder.clone());
        let once = Once { program, args, working_dir: folder, read, write, user: self.user(), patience: PACKING };
        once::run(self.state, &once)?;
        let ours = scratch.folder.join(to.file_name().unwrap_or_default());
        fs::rename(to, &ours).map_err(at(to))?;
        // A link that was put there instead is not followed, and nobody puts one there any more.
        let is_file = ours.symlink_metadata().map_err(at(&ours))?.is_file();
        if is_file { Ok(ours) } else { Err(at(&ours)(io::ErrorKind::InvalidData.into()).into()) }
    }
}

/// The longest account of what changed: some thousand titles of each kind.
const LONGEST_ACCOUNT: u64 = 16 << 20;

impl Ghost<'_> {
    /// Has two restored databases compared, by a process that sees nothing but them and the image. They lie below
    /// `scratch`, in `older` and `newer`.
    fn compare(&self, scratch: &Path) -> Result<Compared, Failure> {
        let to = scratch.join("compared.json");
        let [older, newer] = ["older", "newer"].map(|of| scratch.join(of).join(DATABASE));
        let args = data::compare_arguments(&self.image, &older, &newer, &to);
        once::run(self.state, &self.once(scratch.to_owned(), args))?;
        let account = sovereign_runtime::file::read_foreign(&to, LONGEST_ACCOUNT)
            .map_err(|source| BackupError::File { path: to, source })?;
        Ok(serde_json::from_slice(&account).map_err(BackupError::Senseless)?)
    }
}

/// What changed in the database of a Ghost site from one snapshot to another.
///
/// # Errors
/// When one has no database, or it cannot be read.
pub(crate) fn compare(
    context: &Context,
    declared: &Declared,
    site: &Site,
    older: &Contents,
    newer: &Contents,
) -> Result<Compared, Failure> {
    let ghost = Ghost::of(context, declared, site)?;
    let scratch = Scratch::new(&declared.state)?;
    let compared = scratch.folder.join("compared");
    super::make(&compared).map_err(|source| BackupError::File { path: compared.clone(), source })?;
    let database = TreePath::parse(DATABASE.as_bytes()).ok();
    for (contents, of) in [(older, "older"), (newer, "newer")] {
        contents.restore(database.as_ref(), &compared.join(of), &|_| {})?;
    }
    ghost.compare(&compared)
}

/// That there is room for two copies of a database, one of which is the copy: a Ghost whose disk is full stands still.
fn make_sure_of_room(database: &Path, folder: &Path) -> Result<(), Failure> {
    let looked = database.symlink_metadata().map_err(|source| BackupError::File { path: database.to_owned(), source });
    Ok(room_for(folder, looked?.len().saturating_mul(2))?)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_not_copied_where_two_of_it_have_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("ghost.db");
        let file = fs::File::create(&database).unwrap();
        make_sure_of_room(&database, folder.path()).unwrap();
        // With a hole in it, so that it takes no room itself.
        let disk = rustix::fs::statvfs(folder.path()).unwrap();
        file.set_len(disk.f_bavail * disk.f_frsize / 2).unwrap();
        let refused = make_sure_of_room(&database, folder.path()).unwrap_err();
        assert!(refused.chain().join(" ").contains("no room"), "{refused:?}");
    }
}
