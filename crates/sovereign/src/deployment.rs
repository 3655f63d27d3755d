//! One stack with everything a run needs at hand: its declaration, state folder, images, this program, the hour.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};
use sovereign_engine::embedded::{EmbeddedEngine, Parts, SupervisorStatus};
use sovereign_engine::incus::{self, IncusEngine, Reach};
use sovereign_engine::preflight;
use sovereign_hosts::ready::Openings;
use sovereign_images::{Lock, Options, Store};
use sovereign_keys::WorkingKeys;
use sovereign_model::instance::InstanceSpec;
use sovereign_model::layout::StateFolder;
use sovereign_model::observed::Primary;
use sovereign_model::stack::App;
use sovereign_model::unit::Runs;
use sovereign_model::{EdgeName, Observed, SiteName, Stack};
use sovereign_plan::{Wanted, desired};
use sovereign_services::{ghost, static_site};

use crate::datacenters::Datacenters;
use crate::declared::Declared;
use crate::engines::Engines;
use crate::failure::{Failure, Reason};
use crate::hosts::{self, OnHosts};
use crate::output::{Progress, Theme, render_failure};
use crate::primaries::Primaries;
use crate::program::Program;
use crate::unrestored::Archived;
use crate::world;

/// A stack, ready to be planned and carried out.
#[derive(Debug)]
pub(crate) struct Deployment {
    /// What is declared.
    pub(crate) stack: Stack,
    /// Its state folder.
    pub(crate) state: StateFolder,
    /// The ways to its hosts.
    pub(crate) reach: Arc<Reach>,
    declared: Declared,
    images: Store,
    ghost: Lock,
    /// What may come in on each host, where that was written down.
    openings: BTreeMap<EdgeName, Openings>,
    program: Program,
    offline: bool,
    /// What the archive has of sites of which nothing is left.
    archived: Archived,
    /// What is decided in this run; `None` for what was decided before.
    deciding: Option<Datacenters>,
    now: SystemTime,
}

/// Everything that must be true, and what it is made of.
#[derive(Debug)]
pub(crate) struct Joined {
    /// What must be true.
    pub(crate) wanted: Wanted,
    on_hosts: OnHosts,
}

/// What stands in the way of a run, all of it, found before anything is changed.
#[derive(Debug, thiserror::Error)]
#[error("this machine is not ready for the stack: {}", .0.iter().map(|problem| problem.chain().join(": ")).collect::<Vec<_>>().join("; "))]
pub(crate) struct Unfit(Vec<Failure>);

impl Reason for Unfit {
    fn page(&self, theme: Theme) -> Option<String> {
        Some(self.0.iter().map(|problem| render_failure(problem, theme)).collect())
    }

    fn problems(&self) -> Option<Value> {
        let list =
            self.0.iter().map(|problem| json!({ "message": problem.chain().join(": "), "help": problem.help() }));
        Some(list.collect())
    }
}

impl Joined {
    /// The instances that should be on a host.
    pub(crate) fn instances_on(&self, edge: &EdgeName) -> Vec<&InstanceSpec> {
        let all = self.on_hosts.units.values().filter_map(|unit| match &unit.runs {
            Runs::Instance(spec) => Some(spec),
            Runs::Unit(_) => None,
        });
        all.filter(|spec| spec.datacenter == edge.datacenter && Some(&spec.host) == edge.host.as_ref()).collect()
    }

    /// What data of a site on a host is brought beside the live one with.
    pub(crate) fn beside(&self, site: &SiteName) -> Option<&ghost::Beside> {
        self.on_hosts.beside.get(site)
    }
}

impl Deployment {
    /// Gathers what a run needs. Changes nothing but making an empty image store.
    ///
    /// # Errors
    /// When this program or the image store cannot be read.
    pub(crate) fn new(declared: Declared) -> Result<Self, Failure> {
        let Declared { stack, places, state, .. } = declared.clone();
        sovereign_engine::state::read(&state)?;
        let program = Program::of_this_process(&state.programs())?;
        let images = Store::open(places.images())?;
        let ghost = declared.ghost_lock()?;
        let reach = Arc::new(hosts::reach(&declared)?);
        let openings = hosts::openings(&declared)?;
        let (archived, deciding, now) = (Archived::default(), None, SystemTime::now());
        Ok(Self {
            stack,
            state,
            reach,
            declared,
            images,
            ghost,
            openings,
            program,
            offline: false,
            archived,
            deciding,
            now,
        })
    }

    /// What is declared.
    pub(crate) fn declared(&self) -> &Declared {
        &self.declared
    }

    /// Whether the network is used for nothing.
    pub(crate) fn is_offline(&self) -> bool {
        self.offline
    }

    /// With the network used for nothing, or not.
    pub(crate) fn offline(self, offline: bool) -> Self {
        Self { offline, ..self }
    }

    /// With sites that may begin empty, though the archive has them.
    pub(crate) fn beginning_empty(self, sites: impl IntoIterator<Item = SiteName>) -> Self {
        Self { archived: Archived::beginning_empty(sites.into_iter().collect()), ..self }
    }

    /// With what is decided now of data centers, in place of what was decided before. Nothing is written down.
    pub(crate) fn deciding(self, decided: Datacenters) -> Self {
        Self { deciding: Some(decided), ..self }
    }

    /// What is decided of data centers.
    ///
    /// # Errors
    /// When what was decided before cannot be read.
    pub(crate) fn decided(&self) -> Result<Datacenters, Failure> {
        Ok(self.deciding.clone().map_or_else(|| Datacenters::read(&self.state), Ok)?)
    }

    /// The hour of this run, in seconds since the Unix epoch.
    pub(crate) fn hour(&self) -> u64 {
        world::unix_seconds(self.now)
    }

    /// Looks for everything that would make the run fail later. `running` is what runs already.
    ///
    /// # Errors
    /// All that was found, at once.
    pub(crate) fn check(&self, wanted: &Wanted, running: Option<&SupervisorStatus>) -> Result<(), Failure> {
        let mut problems: Vec<Failure> = Vec::new();
        let mut unusable = BTreeSet::new();
        for site in self.stack.sites.values() {
            if let App::Static { folder } = &site.app {
                let found = static_site::check(folder);
                unusable.extend((!found.is_empty()).then_some(&site.name));
                problems.extend(found.into_iter().map(Failure::from));
            }
        }
        // What is sent to a host is read here, all of it.
        let sent = hosts::static_files(&self.stack, &self.state).filter(|(site, _)| !unusable.contains(site));
        problems.extend(sent.filter_map(|(_, files)| files.err()).map(Failure::from));
        let ghosts = self.stack.sites.values().any(|site| site.app == App::Ghost);
        if ghosts && sovereign_images::ghost::find(&self.images, &self.ghost)?.is_none() {
            let environment = sovereign_images::Environment::of_this_process();
            let found = sovereign_images::ghost::preflight(&self.images, &self.ghost, &environment);
            problems.extend(found.into_iter().map(Failure::from));
        }
        problems.extend(hosts::not_ready(&self.stack, &self.reach).into_iter().map(Failure::from));
        problems.extend(preflight::check(wanted, &self.state, running).into_iter().map(Failure::from));
        if problems.is_empty() { Ok(()) } else { Err(Unfit(problems).into()) }
    }

    /// Makes the state folder this stack's.
    ///
    /// # Errors
    /// When it is another stack's, newer, or not writable.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        sovereign_engine::state::prepare(&self.state, &self.stack.name, env!("CARGO_PKG_VERSION"))?;
        Ok(())
    }

    /// Puts a copy of this program where what runs will find it.
    ///
    /// # Errors
    /// When the state folder cannot take it.
    pub(crate) fn install(&self) -> Result<(), Failure> {
        Ok(self.program.install()?)
    }

    /// Removes copies of programs that nothing needs any longer. To be called when everything runs this one.
    ///
    /// # Errors
    /// When the state folder cannot be changed.
    pub(crate) fn tidy_up(&self) -> Result<(), Failure> {
        Ok(self.program.remove_older()?)
    }

    /// Everything that must be true, with the images there are now.
    ///
    /// # Errors
    /// When a key was not made ready or the image store cannot be read.
    pub(crate) fn joined(&self, keys: &WorkingKeys) -> Result<Joined, Failure> {
        self.joined_with(keys, &Primaries::read(&self.state)?)
    }

    /// The same, with the numbers that primaries have by what was `seen`, and these. Nothing is written down.
    ///
    /// # Errors
    /// As [`Deployment::joined`].
    pub(crate) fn settled(
        &self,
        keys: &WorkingKeys,
        joined: Joined,
        seen: &Observed,
    ) -> Result<(Joined, Primaries), Failure> {
        let known = Primaries::read(&self.state)?;
        let settled = known.settled(&self.stack, seen);
        let is_as_joined = |(name, primary): (&SiteName, &Primary)| settled.epochs().get(name) == Some(&primary.epoch);
        let is_known = joined.wanted.primaries.iter().all(is_as_joined);
        let joined = if is_known { joined } else { self.joined_with(keys, &settled)? };
        Ok((joined, settled))
    }

    fn joined_with(&self, keys: &WorkingKeys, primaries: &Primaries) -> Result<Joined, Failure> {
        let Self { stack, state, declared, images, ghost, program, now, .. } = self;
        let on_hosts = OnHosts::gather(declared, keys, images, state)?;
        let (decided, on_hosts_now) = (&self.decided()?, &on_hosts);
        let parts = world::Parts {
            stack,
            state,
            keys,
            images,
            ghost,
            program,
            on_hosts: on_hosts_now,
            primaries,
            decided,
            now: *now,
        };
        let wanted = desired(stack, &world::gather(&parts)?)?;
        Ok(Joined { wanted, on_hosts })
    }

    /// The image of the Ghost that is wanted, when it is built.
    ///
    /// # Errors
    /// When the image store cannot be read.
    pub(crate) fn ghost_image(&self) -> Result<Option<PathBuf>, Failure> {
        Ok(sovereign_images::ghost::find(&self.images, &self.ghost)?.map(|built| built.root))
    }

    /// Its engines. The making of root file systems is shown by `progress`.
    pub(crate) fn engine<'d>(
        &'d self,
        keys: &'d WorkingKeys,
        joined: &'d Joined,
        progress: &'d Progress,
    ) -> Engines<'d> {
        let Joined { wanted, on_hosts } = joined;
        let hosts = IncusEngine::new(incus::Parts {
            stack: &self.stack,
            wanted,
            state: &self.state,
            keys,
            reach: &self.reach,
            program: &self.program.installed,
            contents: &on_hosts.contents,
            files: &on_hosts.files,
            openings: &self.openings,
            images: &on_hosts.images,
            now: self.now,
        });
        let (declared, offline, here) = (&self.declared, self.offline, self.here(keys, wanted));
        let (ghost, archived) = (&self.ghost, &self.archived);
        Engines { here, hosts, wanted, declared, ghost, on_hosts, keys, archived, offline, progress }
    }

    /// The engine of this machine.
    fn here<'d>(&'d self, keys: &'d WorkingKeys, wanted: &'d Wanted) -> EmbeddedEngine<'d> {
        EmbeddedEngine::new(Parts {
            stack: &self.stack,
            wanted,
            state: &self.state,
            keys,
            images: &self.images,
            ghost: &self.ghost,
            options: Options {
                offline: self.offline,
                now: self.now,
                environment: sovereign_images::Environment::of_this_process(),
            },
            program: &self.program.installed,
            arguments: supervise_arguments(self.state.path()),
            now: self.now,
        })
    }
}

/// The arguments that make this program the supervisor of the stack in `state`.
pub(crate) fn supervise_arguments(state: &Path) -> Vec<OsString> {
    ["supervise".into(), "--state".into(), state.into()].into()
}
