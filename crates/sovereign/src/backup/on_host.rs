//! A Ghost's data on a host of its own: written out there, and read there, so that only what changed crosses the line.
//!
//! ```text
//!  this machine                     host
//!  dump ════════════ SSH ══════════▶ incus exec ─▶ MariaDB ─▶ <state>/…/dump/ghost.sql   as before: not touched
//!  archive ◀── wire, SSH ══════════▶ systemd-run ─▶ archive-source: sees the dump, the volume, and no more
//! ```
//!
//! Promise: nothing is stopped; the dump is of one moment, and complete; what an instance has put into its volume leads
//! the reading process to nothing of the host but what it is shown, and the system's libraries.
//!
//! Left out: putting it back (`restore`).

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sovereign_archive::entry::{Entry, TreePath};
use sovereign_archive::{Contents, Line, room_for};
use sovereign_engine::incus::evacuated::evacuated;
use sovereign_engine::incus::instances::volume_folder;
use sovereign_engine::incus::reach::PROJECT;
use sovereign_engine::incus::{IncusEngineError, Link, Reach};
use sovereign_hosts::systemd::Names;
use sovereign_hosts::systemd::once::{Reading, reading};
use sovereign_hosts::{Access, Run as Command, SshError, Talk};
use sovereign_model::layout::on_host;
use sovereign_model::stack::Site;
use sovereign_model::{Digest, EdgeName};
use sovereign_services::ghost::data::Compared;
use sovereign_services::ghost::{self, DumpSeen, Rows};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{BackupError, PATIENCE, PIPE, Scratch};
use crate::declared::Declared;
use crate::failure::{Failure, Reason};
use crate::hosts;
use crate::output::Progress;

/// Where the database lies in a snapshot of a site on a host.
pub(crate) const DUMP: &str = "database/ghost.sql";

const DUMP_SCRIPT: &str = include_str!("dump.sh");

/// A database that is as large as its host can have.
const DUMP_PATIENCE: Duration = Duration::from_secs(3600);

/// A record of a site that was set up is smaller.
const LONGEST_RECORD: usize = 1 << 20;

/// Where the reading process finds what it reads.
const SHOWN: [&str; 3] = ["/data/database", "/data/volume", "/data/set-up.json"];

/// The data cannot be had, and not because of the host.
#[derive(Debug, thiserror::Error)]
enum OnHostError {
    #[error("there is no database of site {site} at {host}")]
    NoDatabase { site: String, host: EdgeName },
    #[error("there is no program at {host} that could read the data of site {site}")]
    NoProgram { site: String, host: EdgeName },
    #[error("the dump of the database that was restored from the archive has no end")]
    Cut,
}

impl Reason for OnHostError {
    fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoDatabase { .. } | Self::NoProgram { .. } => "`sovereign up` puts there what is missing".to_owned(),
            Self::Cut => "back up again: `sovereign backup`".to_owned(),
        })
    }
}

/// A site does not run, since its host is evacuated on purpose: its data stays there, and nothing is written into it.
#[derive(Debug, thiserror::Error)]
#[error("it does not run, and nothing is written into it, while {host} is {note}")]
pub(crate) struct Aside {
    host: EdgeName,
    note: String,
}

impl Reason for Aside {
    fn help(&self) -> Option<String> {
        Some(format!("`sovereign host restore {}` brings it back; then `sovereign backup`", self.host))
    }
}

/// The data of one site.
pub(super) struct OnHost<'a> {
    declared: &'a Declared,
    site: &'a Site,
    at: EdgeName,
    reach: Reach,
    /// What reads it, on the host, and whether there is a record beside it; known once it was made ready.
    ready: Option<(Digest, bool)>,
}

impl<'a> OnHost<'a> {
    /// Of a site that is on a host. Nothing is opened.
    pub(super) fn of(declared: &'a Declared, site: &'a Site) -> Result<Self, Failure> {
        let at = site.place(&declared.stack);
        Ok(Self { declared, site, at, reach: hosts::reach(declared)?, ready: None })
    }

    /// Has the data written out, and what is known of the site laid beside it.
    ///
    /// # Errors
    /// When the host is away, the database does not run, or the run is stopped.
    pub(super) fn prepare(&mut self, progress: &Progress, stop: &CancellationToken) -> Result<(), Failure> {
        let stage = progress.stage("copy the database");
        self.ready = Some(Handle::current().block_on(async {
            tokio::select! {
                ready = self.make_ready() => match ready {
                    Err(failure) => Err(self.aside().await.map_or(failure, Failure::from)),
                    ready => ready,
                },
                () = stop.cancelled() => Err(BackupError::Stopped.into()),
            }
        })?);
        stage.finish();
        Ok(())
    }

    /// Whether it is no wonder that the data cannot be had: its host is out on purpose, and answers or not.
    async fn aside(&self) -> Option<Aside> {
        let note = evacuated(&self.reach).await.remove(&self.at)?;
        Some(Aside { host: self.at.clone(), note: note.text() })
    }

    async fn make_ready(&self) -> Result<(Digest, bool), Failure> {
        let Self { declared, site, at, .. } = self;
        let stack = &declared.stack.name;
        let link = self.reach.link(at).await?;
        let incus = |source| IncusEngineError::Incus { host: at.clone(), source: Box::new(source) };
        let failed = |source| IncusEngineError::Instances { host: at.clone(), source: Box::new(source) };
        let instances = link.instances(stack).await.map_err(incus)?;
        let database = instances.current(&ghost::database_unit(site, &site.primary)?).await.map_err(failed)?;
        let named = || site.name.to_string();
        let database = database.ok_or_else(|| OnHostError::NoDatabase { site: named(), host: at.clone() })?;
        let (state, here) = (on_host::state(stack), EdgeName::here(&site.primary));
        let record = state.set_up(&here, &site.name);
        let copy = Command::script("copy the database", DUMP_SCRIPT)
            .arg(state.site(&site.primary, &site.name).ghost_dump())
            .arg(&record)
            .arg(format!("{}.service", Names::base(stack, &at.unit())))
            .args([PROJECT, database.as_str()])
            .args(ghost::dump_out_command())
            .within(DUMP_PATIENCE);
        let said = link.connection.succeed(&copy).await.map_err(|source| self.host(source))?;
        let program = program(&String::from_utf8_lossy(&said));
        let program = program.ok_or_else(|| OnHostError::NoProgram { site: named(), host: at.clone() })?;
        Ok((program, self.lay_record(link, &record).await?))
    }

    /// What this machine remembers of the site goes to where it is read with the rest; whether there is any.
    async fn lay_record(&self, link: &Link, there: &Path) -> Result<bool, Failure> {
        let path = self.declared.state.set_up(&self.at, &self.site.name);
        let record = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            read => read.map_err(|source| BackupError::File { path, source })?,
        };
        let kept = link.connection.get_file(there, LONGEST_RECORD).await.map_err(|source| self.host(source))?;
        if kept.as_ref() != Some(&record) {
            let put = link.connection.put_bytes(there, &record, Access::PRIVATE).await;
            put.map_err(|source| self.host(source))?;
        }
        Ok(true)
    }

    /// Starts what reads it.
    ///
    /// # Errors
    /// When the host is away, or ssh cannot be started.
    pub(super) fn start(&self) -> Result<(Talk, Line), Failure> {
        let Self { declared, site, at, ready, .. } = self;
        let named = || site.name.to_string();
        let (program, has_record) =
            ready.as_ref().ok_or_else(|| OnHostError::NoProgram { site: named(), host: at.clone() })?;
        let state = on_host::state(&declared.stack.name);
        let volume = volume_folder(&ghost::ghost_unit(site, &site.primary)?, ghost::CONTENT_VOLUME)?;
        let dump = state.site(&site.primary, &site.name).ghost_dump();
        let record = state.set_up(&EdgeName::here(&site.primary), &site.name);
        let [database_at, volume_at, record_at] = SHOWN;
        let mut roots = vec![format!("database={database_at}"), format!("content={volume_at}/content")];
        // The volume as a whole: a link in it that leads elsewhere leads to nothing there.
        let mut shown = vec![(dump.as_path(), Path::new(database_at)), (volume.as_path(), Path::new(volume_at))];
        if *has_record {
            roots.push(format!("set-up.json={record_at}"));
            shown.push((record.as_path(), Path::new(record_at)));
        }
        let roots = roots.into_iter().flat_map(|root| ["--root".to_owned(), root]);
        let args: Vec<String> = std::iter::once("archive-source".to_owned()).chain(roots).collect();
        let program = on_host::program(program);
        let command = reading("read the data of a site", &Reading { program: &program, args: &args, shown: &shown });
        let talk = async {
            let link = self.reach.link(at).await?;
            link.connection.talk(&command).await.map_err(|source| self.host(source))
        };
        let (talk, from, to) = Handle::current().block_on(talk)?;
        let _ = rustix::pipe::fcntl_setpipe_size(&from, PIPE);
        Ok((talk, Line::patient(from, to, PATIENCE)))
    }

    fn host(&self, source: SshError) -> IncusEngineError {
        IncusEngineError::Host { host: self.at.clone(), source: Box::new(source) }
    }
}

/// The digest in the name of the program that a host's edge runs.
fn program(said: &str) -> Option<Digest> {
    let path = Path::new(said.trim());
    let digest = path.parent()?.file_name()?.to_str()?;
    let digest: Digest = format!("sha256:{digest}").parse().ok()?;
    (on_host::program(&digest) == path).then_some(digest)
}

/// Looks at a dump that came from the archive. There is no database here that it could be loaded into: that it has its end,
/// and each of its rows too, is what is seen. A rehearsal loads it.
///
/// # Errors
/// When it cannot be read, or is not complete.
pub(super) fn examine(dump: &Path) -> Result<String, Failure> {
    let DumpSeen { tables, .. } = examine_dump(dump)?;
    let file = |source| BackupError::File { path: dump.to_owned(), source };
    let from = BufReader::with_capacity(1 << 16, File::open(dump).map_err(file)?);
    let Rows { posts, staff, .. } = ghost::count_rows(from).map_err(file)?;
    Ok(format!("the dump is complete: {tables} tables, {posts} posts and pages, {staff} on the staff"))
}

/// The same, as it was seen.
///
/// # Errors
/// When it cannot be read, or is not complete.
pub(crate) fn examine_dump(dump: &Path) -> Result<DumpSeen, Failure> {
    let file = File::open(dump).map_err(|source| BackupError::File { path: dump.to_owned(), source })?;
    let seen = DumpSeen::read(BufReader::with_capacity(1 << 16, file));
    let seen = seen.map_err(|source| BackupError::File { path: dump.to_owned(), source })?;
    if seen.is_complete { Ok(seen) } else { Err(OnHostError::Cut.into()) }
}

/// What changed between the dumps of two snapshots of one site, by title. The dumps come from a host, and are read as what
/// anybody could have written.
///
/// # Errors
/// When there is no room for both, one cannot be restored, or is no dump.
pub(crate) fn compare_dumps(declared: &Declared, older: &Contents, newer: &Contents) -> Result<Compared, Failure> {
    let scratch = Scratch::new(&declared.state)?;
    let compared = scratch.folder.join("compared");
    super::make(&compared).map_err(|source| BackupError::File { path: compared.clone(), source })?;
    let dump = TreePath::parse(DUMP.as_bytes()).ok();
    let restored = |contents: &Contents, of: &str| -> Result<PathBuf, Failure> {
        let folder = compared.join(of);
        let size = dump.as_ref().and_then(|dump| contents.manifest().get(dump)).map_or(0, Entry::size);
        room_for(&scratch.folder, size)?;
        contents.restore(dump.as_ref(), &folder, &|_| {})?;
        Ok(dump.as_ref().map_or(folder.clone(), |dump| dump.below(&folder)))
    };
    let (older, newer) = (restored(older, "older")?, restored(newer, "newer")?);
    let open = |dump: &Path| Ok(BufReader::with_capacity(1 << 16, File::open(dump)?));
    ghost::compare_dumps(|| open(&older), || open(&newer))
        .map_err(|source| BackupError::File { path: compared, source }.into())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::process;

    use super::*;

    /// With an `incus` that writes out what it is told to, and ends as it is told to.
    #[test]
    fn a_dump_takes_the_place_of_the_last_one_when_it_is_complete_another_and_has_room() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("bin")).unwrap();
        fs::write(at("bin/incus"), "#!/bin/sh\ncat \"$SAYS\"\nexit $CODE\n").unwrap();
        fs::write(at("bin/df"), "#!/bin/sh\ncat \"$DF\"\n").unwrap();
        for program in ["bin/incus", "bin/df"] {
            fs::set_permissions(at(program), Permissions::from_mode(0o755)).unwrap();
        }
        let dump_where = |text: &str, code: &str, free: u64| {
            fs::write(at("says"), text).unwrap();
            fs::write(at("df"), format!("Filesystem 1-blocks Used Available\n/dev/x 1000000 0 {free} 0% /\n")).unwrap();
            let mut script = process::Command::new("sh");
            script.args(["-c", DUMP_SCRIPT, "sovereign"]).arg(at("site/dump")).arg(at("set-up/blog.json"));
            script.args(["none.service", "sovereign", "database", "mariadb-dump"]).env("SAYS", at("says"));
            script.env("PATH", format!("{}:/usr/bin:/bin", at("bin").display())).env("CODE", code).env("DF", at("df"));
            let ended = script.output().unwrap();
            let stamp = fs::metadata(at("site/dump/ghost.sql")).ok().map(|there| (there.ino(), there.ctime_nsec()));
            let names = fs::read_dir(at("site")).unwrap().map(|entry| entry.unwrap().file_name());
            assert_eq!(names.collect::<Vec<_>>(), ["dump"], "nothing is left beside");
            (ended, stamp)
        };
        let dump = |text: &str, code: &str| {
            let (ended, stamp) = dump_where(text, code, 1_000_000);
            (ended.status.success(), stamp)
        };
        let whole = "CREATE TABLE `posts` (\n);\n-- Dump completed\n";
        assert_eq!(dump("CREATE TABLE", "0"), (false, None));
        let (is_well, first) = dump(whole, "0");
        assert!(is_well && first.is_some());
        fs::write(at("site/dump.17.new"), "of a run that was cut off").unwrap();
        assert_eq!(dump(whole, "0"), (true, first), "an equal one is not touched");
        for (text, code) in [("CREATE TABLE", "0"), ("", "0"), (whole, "1")] {
            assert_eq!(dump(text, code), (false, first), "{text} {code}");
        }
        let (is_well, second) = dump(&format!("-- another\n{whole}"), "0");
        assert!(is_well && second != first);
        // A twentieth of the disk stays free: what does not fit beside that is not begun, or ends there.
        let large = "x".repeat(20_000) + whole;
        let (grown, stamp) = dump_where(&large, "0", 60_000);
        assert!(
            !grown.status.success() && stamp == second && String::from_utf8_lossy(&grown.stderr).contains("no room")
        );
        let (fits, third) = dump_where(&large, "0", 80_000);
        assert!(fits.status.success() && third != second, "{fits:?}");
        let (refused, stamp) = dump_where("CREATE TABLE", "0", 60_000);
        assert!(
            !refused.status.success() && stamp == third && String::from_utf8_lossy(&refused.stderr).contains("no room")
        );
        let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode("site/dump"), mode("site/dump/ghost.sql")], [0o700, 0o600]);
    }

    #[test]
    fn a_host_names_a_program_of_ours_or_none() {
        let digest = Digest::of("a program");
        let path = on_host::program(&digest).display().to_string();
        assert_eq!(program(&format!("{path}\n")), Some(digest));
        for other in ["", "/bin/sh", &format!("{path}x"), &path.replace("/opt", "/tmp"), &format!("{path}\n{path}")] {
            assert_eq!(program(other), None, "{other}");
        }
    }

    #[test]
    fn a_site_of_a_host_that_is_out_on_purpose_is_told_from_one_that_cannot_be_read() {
        let host: EdgeName = "home/atlas".parse().unwrap();
        let aside = Failure::from(Aside { host: host.clone(), note: "evacuated on purpose by ann".to_owned() });
        assert!(aside.is_aside() && aside.help().unwrap().contains("sovereign host restore home/atlas"));
        let said = "it does not run, and nothing is written into it, while home/atlas is evacuated on purpose by ann";
        assert_eq!(aside.chain(), [said]);
        assert!(!Failure::from(OnHostError::NoDatabase { site: "blog".to_owned(), host }).is_aside());
    }

    #[test]
    fn a_dump_that_was_cut_off_is_no_proof() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ghost.sql");
        std::fs::write(&file, "CREATE TABLE `posts` (\n);\n-- Dump completed\n").unwrap();
        assert_eq!(examine(&file).unwrap(), "the dump is complete: 1 tables, 0 posts and pages, 0 on the staff");
        std::fs::write(&file, "CREATE TABLE `posts` (\n);\n").unwrap();
        assert!(examine(&file).unwrap_err().chain().join(" ").contains("no end"));
        assert!(examine(&folder.path().join("none")).is_err());
    }
}
