//! Where a site's data is that is to be replaced: on this machine, or on a host. What a restore asks of either.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sovereign_archive::entry::TreePath;
use sovereign_archive::{Contents, Snapshot};
use sovereign_engine::apply::Engine as _;
use sovereign_keys::WorkingKeys;
use sovereign_model::observed::UnitState;
use sovereign_model::stack::Site;
use sovereign_model::{DatacenterName, EdgeName, Observed};
use sovereign_services::ghost::{data, ghost_unit};
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use super::folder::Folder;
use super::live::{Live, Seen};
use super::on_host::OnHost;
use super::stage::{self, Form, Staged};
use super::swap::{Change, Ended, Intent, Part, carry_out};
use crate::backup::{DATABASE, DUMP, Ghost};
use crate::context::Context;
use crate::declared::Declared;
use crate::deployment::Deployment;
use crate::failure::Failure;
use crate::moving::NewPlace;
use crate::output::Progress;

/// Whether what is live was written after what a snapshot has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Since {
    /// It was not.
    Nothing,
    /// For so many seconds.
    Written(u64),
    /// That cannot be said, and why.
    Unknown(String),
}

/// A site whose data is to be replaced.
pub(crate) struct Ground<'a> {
    context: &'a Context,
    declared: &'a Declared,
    deployment: &'a Deployment,
    keys: &'a WorkingKeys,
    site: &'a Site,
    progress: &'a Progress,
    /// What lies of it on this machine.
    pub(crate) folder: Folder,
    at: EdgeName,
}

impl<'a> Ground<'a> {
    /// That of a `site`. Nothing is opened.
    pub(crate) fn of(
        context: &'a Context,
        declared: &'a Declared,
        deployment: &'a Deployment,
        keys: &'a WorkingKeys,
        site: &'a Site,
        progress: &'a Progress,
    ) -> Self {
        let at = site.place(&deployment.stack);
        let folder = Folder::at(&deployment.state, site, &at);
        Self { context, declared, deployment, keys, site, progress, folder, at }
    }

    /// Whether there is something whose place can be taken. On this machine there need not be; a site that is on its way here
    /// is not here.
    ///
    /// # Errors
    /// When a host does not answer.
    pub(crate) async fn is_there(&self) -> Result<bool, Failure> {
        match &self.at.host {
            None => Ok(true),
            Some(_) => Ok(!self.folder.is_arriving() && self.on_host()?.is_there().await?),
        }
    }

    /// What is seen of the stack.
    ///
    /// # Errors
    /// When nothing can be.
    pub(crate) async fn observe(&self) -> Result<Observed, Failure> {
        let joined = self.deployment.joined(self.keys)?;
        Ok(self.deployment.engine(self.keys, &joined, self.progress).observe().await?)
    }

    /// Where else the data of the site is by what was `seen`, and why that place does not answer; `None` for the reason when
    /// it does. Where edges have proof that it is written, another machine may have brought it.
    pub(crate) fn elsewhere(&self, seen: &Observed) -> Option<(EdgeName, Option<String>)> {
        let silent = |at: &EdgeName| seen.away.get(at).or_else(|| seen.evacuated.get(at)).cloned();
        let known = seen.sites.get(&self.site.name).map(|seen| seen.at.clone()).filter(|at| *at != self.at);
        let is_known = |at: &DatacenterName| known.as_ref().is_some_and(|known| known.datacenter == *at);
        let newest =
            seen.primaries.get(&self.site.name).and_then(|primaries| primaries.last()).map(|newest| &newest.at);
        let newest = newest.filter(|at| **at != self.at.datacenter && !is_known(at)).and_then(|at| {
            let unit = seen.unit(at, &ghost_unit(self.site, at).ok()?);
            if unit.is_some_and(|unit| unit.state != UnitState::Stopped) {
                return Some((EdgeName::here(at), None));
            }
            let hosts = seen.away.keys().chain(seen.evacuated.keys());
            hosts.filter(|host| host.datacenter == *at).find_map(|host| Some((host.clone(), Some(silent(host)?))))
        });
        newest.or_else(|| known.map(|at| (at.clone(), silent(&at))))
    }

    /// Brings the site up where it is declared, empty. Its edge does not hear of it.
    ///
    /// # Errors
    /// When it does not come to life.
    pub(crate) async fn bring_up(&self, stop: CancellationToken) -> Result<(), Failure> {
        self.folder.set_arriving()?;
        let Self { deployment, keys, site, progress, .. } = *self;
        let place = self.at.clone();
        NewPlace { deployment, keys, site, place, command: "restore", progress, stop }.bring_up().await?;
        Ok(())
    }

    /// That there is something whose place can be taken.
    ///
    /// # Errors
    /// When a host does not answer, or the site does not run there.
    pub(crate) async fn must_be_there(&self) -> Result<(), Failure> {
        match &self.at.host {
            None => Ok(()),
            Some(_) => self.on_host()?.must_be_there().await,
        }
    }

    /// Whether there is data that a backup could be made of.
    pub(crate) fn has_data(&self) -> bool {
        self.at.host.is_some() || self.folder.is_live()
    }

    /// Whether what is live was written after what a snapshot has of it.
    pub(crate) async fn since(&self, contents: &Contents, snapshot: &Snapshot) -> Since {
        let copy = if self.at.host.is_some() { DUMP } else { DATABASE };
        let copied = TreePath::parse(copy.as_bytes()).ok().and_then(|path| contents.manifest().get(&path));
        let copied = copied
            .map_or((snapshot.taken_unix, 0), |entry| (entry.modified.seconds, i64::from(entry.modified.nanoseconds)));
        let written = match self.at.host {
            None => self.written_here(),
            Some(_) => match async { self.on_host()?.last_written().await }.await {
                // A Ghost writes down whole seconds.
                Ok(written) => written.and_then(|at| i64::try_from(at).ok()).map(|at| (at, 0)),
                Err(failure) => return Since::Unknown(failure.chain().join(": ")),
            },
        };
        let seconds = written.filter(|written| *written > copied).and_then(|at| u64::try_from(at.0 - copied.0).ok());
        seconds.map_or(Since::Nothing, |seconds| Since::Written(seconds.max(1)))
    }

    fn written_here(&self) -> Option<(i64, i64)> {
        let database = data::database(self.declared.state.site(&self.site.primary, &self.site.name).path());
        let written = ["", "-wal", "-journal"].iter().filter_map(|end| {
            let mut path = database.clone().into_os_string();
            path.push(end);
            PathBuf::from(path).symlink_metadata().ok().map(|metadata| (metadata.mtime(), metadata.mtime_nsec()))
        });
        written.max()
    }

    /// Stages a snapshot, and has it looked at; what was said of it.
    ///
    /// # Errors
    /// When there is no room, or it is not whole.
    pub(crate) async fn stage(&self, contents: &Contents, snapshot: &str) -> Result<(Staged, String), Failure> {
        let Self { context, declared, site, folder, progress, at, .. } = self;
        let form = if at.host.is_some() { Form::Dump } else { Form::Sqlite };
        let stage = progress.stage(format!("restore {}", site.name));
        let staged = block_in_place(|| stage::restore(contents, snapshot, form, folder, &stage))?;
        stage.finish();
        if at.host.is_some() {
            return Ok((staged, self.on_host()?.bring().await?));
        }
        let stage = progress.stage("look into the database");
        let examined = block_in_place(|| stage::check(&Ghost::of(context, declared, site)?, folder))?;
        stage.finish();
        Ok((staged, examined))
    }

    /// What happens to each part when what lies in `from` takes its place.
    ///
    /// # Errors
    /// When a part cannot be moved.
    pub(crate) async fn changes(&self, from: &Path) -> Result<BTreeMap<Part, Change>, Failure> {
        match self.at.host {
            None => Ok(self.folder.changes(from)?),
            Some(_) => self.on_host()?.changes(from).await,
        }
    }

    /// Makes ready for a swap with what a restore has replaced; `false`: it is not kept any more.
    ///
    /// # Errors
    /// When that cannot be done.
    pub(crate) async fn begin(&self, number: u32) -> Result<bool, Failure> {
        self.folder.begin()?;
        match self.at.host {
            None => Ok(true),
            Some(_) => self.on_host()?.begin(number).await,
        }
    }

    /// A number for what is about to be replaced, under which nothing is kept.
    ///
    /// # Errors
    /// When it is not known what is kept.
    pub(crate) async fn next_number(&self) -> Result<u32, Failure> {
        let here = self.folder.kept()?.last().copied().unwrap_or_default();
        let there = match self.at.host {
            None => 0,
            Some(_) => self.on_host()?.newest_kept().await?,
        };
        Ok(here.max(there).saturating_add(1))
    }

    /// Carries a swap out.
    ///
    /// # Errors
    /// When neither end can be reached.
    pub(crate) async fn swap(&self, intent: Intent) -> Result<(Ended, Seen), Failure> {
        let Self { deployment, keys, site, folder, progress, .. } = self;
        match self.at.host {
            None => {
                let live = Live::of(deployment, keys, site, folder, progress)?;
                Ok((carry_out(&live, intent).await?, live.seen()))
            }
            Some(_) => {
                let live = self.on_host()?;
                Ok((carry_out(&live, intent).await?, live.seen()))
            }
        }
    }

    /// Where what a restore has replaced is kept, for people.
    pub(crate) fn kept_in(&self, number: u32) -> String {
        let folder = self.folder.before(number).display().to_string();
        match self.at.host {
            None => folder,
            Some(_) => format!("snapshots replaced-{number} of its volumes at {}", self.at),
        }
    }

    /// Removes what a restore has replaced.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) async fn discard(&self, number: u32) -> Result<(), Failure> {
        match self.at.host {
            None => Ok(self.folder.remove_before(number)?),
            Some(_) => self.on_host()?.discard(number).await,
        }
    }

    /// Removes what runs that were cut off have left beside the live data, if there is anything.
    ///
    /// # Errors
    /// When a host does not obey.
    pub(crate) async fn clear(&self) -> Result<(), Failure> {
        match self.at.host {
            None => Ok(()),
            Some(_) => self.on_host()?.clear().await,
        }
    }

    fn on_host(&self) -> Result<OnHost<'_>, Failure> {
        OnHost::of(self.deployment, self.keys, self.site, &self.folder, self.progress, self.folder.is_arriving())
    }
}
