//! What `up` backs up and when, and what it leaves undone when that fails.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use sovereign_model::layout::StateFolder;
use sovereign_model::observed::UnitState;
use sovereign_model::stack::{App, Site};
use sovereign_model::{Observed, SiteName};
use sovereign_plan::{Plan, Wanted};
use sovereign_services::ghost::{data, database_unit};
use tokio_util::sync::CancellationToken;

use super::Done;
use crate::backup::{self, BackupError, Run, copies};
use crate::commands::backup::{BackedUp, back_up};
use crate::context::Context;
use crate::declared::Declared;
use crate::deployment::Deployment;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::Progress;
use crate::world::unix_seconds;

/// How long another run may work on the archive before this one goes on without a backup.
const PATIENCE: Duration = Duration::from_secs(600);

/// The backups of one run.
pub(in crate::commands) struct Saving<'s> {
    pub(super) context: &'s Context,
    pub(super) declared: &'s Declared,
    pub(super) progress: &'s Progress,
}

impl Saving<'_> {
    /// Backs up what is there, before anything is changed. `seen` is what runs.
    ///
    /// # Errors
    /// When the run is stopped. What else fails is part of what comes back.
    pub(super) fn before(&self, seen: &Observed, stop: &CancellationToken) -> Result<BackedUp, Failure> {
        let has_data = |site: &&Site| match &site.app {
            App::Ghost if site.host(&self.declared.stack).is_some() => self.can_be_asked(site, seen),
            App::Ghost => {
                data::database(self.declared.state.site(&site.primary, &site.name).path()).symlink_metadata().is_ok()
            }
            App::Static { folder } => folder.is_dir(),
            App::Upstream { .. } => true,
        };
        let sites: Vec<_> = self.declared.stack.sites.values().filter(has_data).collect();
        // Copies may take long, and wait until the run is over.
        self.save(&sites, false, stop)
    }

    /// Whether a site on a host has data that its database can be asked for, or could if the host were not away. One that
    /// does not run gives nothing: it is started first, and backed up after that.
    fn can_be_asked(&self, site: &Site, seen: &Observed) -> bool {
        let place = site.place(&self.declared.stack);
        let database = database_unit(site, &site.primary).ok();
        let database = database.and_then(|unit| seen.unit(&site.primary, &unit));
        let runs = database.is_some_and(|unit| unit.state != UnitState::Stopped);
        (runs || seen.away.contains_key(&place)) && self.declared.state.set_up(&place, &site.name).is_file()
    }

    /// Backs up after the run what was not backed up before it: everything, or what the run has changed, which is the
    /// stack's state. When nothing had to change that is said first.
    pub(super) fn afterwards(&self, mut done: Done) -> Result<Done, Failure> {
        let before = done.backup.take();
        let stack = &self.declared.stack;
        // Where a host is evacuated on purpose nothing runs that could be asked, and nothing was written since.
        let is_there = |site: &&Site| {
            !done.evacuated.contains_key(&site.place(stack)) && !done.unrestored.contains_key(&site.name)
        };
        let sites: Vec<_> = match &before {
            // A database on a host that did not run does now.
            Some(before) => {
                let is_missing = |site: &&Site| site.host(stack).is_some() && !before.has(&site.name);
                stack.sites.values().filter(is_missing).filter(is_there).collect()
            }
            None => stack.sites.values().filter(is_there).collect(),
        };
        if before.is_some() && done.steps == 0 {
            return Ok(Done { backup: before, ..done });
        }
        done.told = done.steps == 0 && self.context.output.begin(&done);
        let after = interrupt::blocking(&self.context.output, |stop| self.save(&sites, true, stop))?;
        done.backup = Some(match before {
            Some(before) => before.then(after),
            None => after,
        });
        Ok(done)
    }

    fn save(&self, sites: &[&Site], with_copies: bool, stop: &CancellationToken) -> Result<BackedUp, Failure> {
        let Self { context, declared, progress } = *self;
        let opened = backup::open_when_free(context, declared, progress, stop, PATIENCE);
        let saved = opened.and_then(|archive| {
            let mut done = back_up(&Run { context, declared, archive: &archive, progress, stop }, sites)?;
            let behind = if with_copies { copies::behind(declared) } else { Vec::new() };
            done.copies = copies::after_backup(context, declared, archive, &behind, progress, stop)?;
            Ok(done)
        });
        match saved {
            Err(failure) if !stop.is_cancelled() => Ok(BackedUp::not_at_all(declared, sites, &failure)),
            other => other,
        }
    }
}

/// Moves an archive out of the way that was made with the words of a stack that was here before: nothing opens it but
/// those.
///
/// # Errors
/// When it cannot be moved.
pub(super) fn set_aside(context: &Context, state: &StateFolder) -> Result<(), BackupError> {
    let (archive, aside) = (state.archive(), state.archive_of_before(unix_seconds(SystemTime::now())));
    match fs::rename(&archive, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(BackupError::File { path: archive, source }),
        Ok(()) => {
            context
                .output
                .warn(format!("an archive that was made with other words was here; it is kept in {}", aside.display()));
            Ok(())
        }
    }
}

/// The sites whose data is left alone.
#[derive(Default)]
pub(super) struct Spared {
    sites: BTreeSet<SiteName>,
    /// Those of them on this machine whose program is the one that their data was last used with.
    as_before: BTreeSet<SiteName>,
    /// What ran on hosts.
    seen: Observed,
}

impl Spared {
    /// Of `sites`.
    ///
    /// # Errors
    /// When the image store cannot be read.
    pub(super) fn of(deployment: &Deployment, sites: BTreeSet<SiteName>, seen: &Observed) -> Result<Self, Failure> {
        let wanted = if sites.is_empty() { None } else { deployment.ghost_image()? };
        let used = |name: &SiteName| {
            let site = deployment.stack.sites.get(name)?;
            data::image(deployment.state.site(&site.primary, name).path())
        };
        let as_before = sites.iter().filter(|name| wanted.is_some() && used(name) == wanted).cloned().collect();
        Ok(Self { sites, as_before, seen: seen.clone() })
    }

    pub(super) fn sites(&self) -> &BTreeSet<SiteName> {
        &self.sites
    }

    /// Whether a site on a host is still described as what was there.
    fn is_as_it_was(&self, site: &SiteName, want: &Wanted) -> bool {
        let Some(site) = want.sites.get(site).filter(|site| site.source.host.is_some()) else { return false };
        let datacenter = &site.source.datacenter;
        site.units.iter().all(|unit| {
            let digests = (self.seen.unit(datacenter, unit), want.unit(datacenter, unit));
            matches!(digests, (Some(seen), Some(wanted)) if seen.spec == wanted.digest)
        })
    }

    /// The plan without the steps that have to wait, and those.
    pub(super) fn leave_out(&self, plan: Plan, want: &Wanted) -> (Plan, Vec<String>) {
        let on_hosts = self.sites.iter().filter(|site| self.is_as_it_was(site, want));
        let as_before = on_hosts.chain(&self.as_before).cloned().collect();
        let rest = plan.sparing(&self.sites, &as_before, want);
        let is_left = |step: &&sovereign_plan::Planned| !rest.steps.contains(step);
        let left = plan.steps.iter().filter(is_left).map(|planned| planned.step.to_string()).collect();
        (rest, left)
    }
}
