//! One stack with everything a run needs at hand: its declaration, state folder, images, this program, the hour.

use std::net::SocketAddr;
use std::time::SystemTime;

use sovereign_engine::embedded::{EmbeddedEngine, Parts, PortOwner, port_owner};
use sovereign_images::{Options, Store};
use sovereign_keys::WorkingKeys;
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::App;
use sovereign_model::{Observed, Stack, Step, UnitName};
use sovereign_plan::{Plan, Wanted, desired};
use sovereign_services::static_site;

use crate::commands::supervise_arguments;
use crate::context::Context;
use crate::failure::{Failure, Reason};
use crate::places::Places;
use crate::program::Program;
use crate::world;

/// Less free memory than this and a Ghost would be killed as it boots.
const MEMORY_PER_GHOST: u64 = 400 << 20;

/// A stack, ready to be planned and carried out.
#[derive(Debug)]
pub(crate) struct Deployment {
    /// What is declared.
    pub(crate) stack: Stack,
    /// Its state folder.
    pub(crate) state: StateFolder,
    images: Store,
    program: Program,
    offline: bool,
    now: SystemTime,
}

/// What stands in the way of a run, found before anything is changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// A static site's folder.
    #[error("site {site} cannot be served")]
    Folder {
        /// The site.
        site: String,
        /// What is wrong with its folder.
        source: static_site::Problem,
    },
    /// Somebody else listens where an edge should.
    #[error("{unit} needs {address}, which {} has", owner_text(.owner.as_ref()))]
    PortTaken {
        /// The unit.
        unit: UnitName,
        /// Where it should listen.
        address: SocketAddr,
        /// Who does.
        owner: Option<PortOwner>,
    },
    /// Too little memory is free.
    #[error("{available_mb} MB of memory are free, {needed_mb} MB are needed")]
    Memory {
        /// What there is.
        available_mb: u64,
        /// What the stack's applications need.
        needed_mb: u64,
    },
}

fn owner_text(owner: Option<&PortOwner>) -> String {
    owner.map_or_else(
        || "another user's program".to_owned(),
        |owner| format!("{} (process {})", owner.program, owner.pid),
    )
}

impl Reason for Unfit {
    fn help(&self) -> Option<String> {
        match self {
            Self::Folder { source, .. } => source.help(),
            Self::PortTaken { .. } => Some("stop it, or give the uplink another `port` in the stack file".to_owned()),
            Self::Memory { .. } => Some("stop something else on this machine, or add memory".to_owned()),
        }
    }
}

impl Deployment {
    /// Gathers what a run needs. Changes nothing but making an empty image store.
    ///
    /// # Errors
    /// When this program or the image store cannot be read.
    pub(crate) fn new(_context: &Context, stack: Stack, places: &Places) -> Result<Self, Failure> {
        let state = StateFolder::new(places.state(&stack.name));
        sovereign_engine::state::read(&state)?;
        let program = Program::of_this_process(&state.programs())?;
        Ok(Self {
            images: Store::open(places.images())?,
            program,
            offline: false,
            now: SystemTime::now(),
            stack,
            state,
        })
    }

    /// With the network used for nothing, or not.
    pub(crate) fn offline(self, offline: bool) -> Self {
        Self { offline, ..self }
    }

    /// Looks for what would make the run fail later.
    ///
    /// # Errors
    /// The first thing found.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        for site in self.stack.sites.values() {
            if let App::Static { folder } = &site.app
                && let Some(source) = static_site::check(folder).into_iter().next()
            {
                return Err(Unfit::Folder { site: site.name.to_string(), source }.into());
            }
        }
        let ghosts = self.stack.sites.values().filter(|site| site.app == App::Ghost).count() as u64;
        let must_build = ghosts > 0 && sovereign_images::ghost::find(&self.images)?.is_none();
        if must_build {
            let environment = sovereign_images::Environment::of_this_process();
            if let Some(problem) = sovereign_images::ghost::preflight(&self.images, &environment).into_iter().next() {
                return Err(problem.into());
            }
        }
        let needed = ghosts * MEMORY_PER_GHOST;
        // Once they run, what they use is no longer free; only the first start is at risk.
        let first = !self.state.run().exists();
        if let Some(available) = available_memory().filter(|available| first && *available < needed) {
            return Err(Unfit::Memory { available_mb: available >> 20, needed_mb: needed >> 20 }.into());
        }
        Ok(())
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

    /// Everything that must be true, with the images there are now.
    ///
    /// # Errors
    /// When a key was not made ready or the image store cannot be read.
    pub(crate) fn wanted(&self, keys: &WorkingKeys) -> Result<Wanted, Failure> {
        let Self { stack, state, images, program, now, .. } = self;
        let world = world::gather(&world::Parts { stack, state, keys, images, program, now: *now })?;
        Ok(desired(stack, &world)?)
    }

    /// The engine of this machine.
    pub(crate) fn engine<'d>(&'d self, keys: &'d WorkingKeys, wanted: &'d Wanted) -> EmbeddedEngine<'d> {
        EmbeddedEngine::new(Parts {
            stack: &self.stack,
            wanted,
            state: &self.state,
            keys,
            images: &self.images,
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

    /// Whether the addresses that the plan's new units listen at are free, or ours already.
    ///
    /// # Errors
    /// The first that is somebody else's, with who that is.
    pub(crate) fn check_ports(&self, plan: &Plan, wanted: &Wanted, seen: &Observed) -> Result<(), Failure> {
        let ours: Vec<_> =
            seen.datacenters.values().flat_map(|dc| dc.units.values()).flat_map(|unit| &unit.sockets).collect();
        for planned in &plan.steps {
            let (Step::RunUnit { datacenter, unit, .. } | Step::ReplaceUnit { datacenter, unit, .. }) = &planned.step
            else {
                continue;
            };
            let sockets = wanted.unit(datacenter, unit).into_iter().flat_map(|wanted| &wanted.spec.sockets);
            for socket in sockets.filter(|socket| !ours.contains(&&socket.address)) {
                if std::net::TcpListener::bind(socket.address).is_err() {
                    let (address, owner) = (socket.address, port_owner(socket.address));
                    return Err(Unfit::PortTaken { unit: unit.clone(), address, owner }.into());
                }
            }
        }
        Ok(())
    }
}

/// `MemAvailable` of proc(5), in bytes.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}
