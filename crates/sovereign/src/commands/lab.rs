//! `sovereign lab`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use sovereign_images::Store;
use sovereign_images::debian::{self, Blueprint, Kept, Role, RootImage};
use sovereign_incus::image::Source;
use sovereign_incus::{Client, Patience, UnixSocket};
use sovereign_lab::{Event, Fault, HostStatus, Lab, LabError, Made, Shape, Stage, Target, Watcher};
use sovereign_model::stack::Reach;

use crate::cli::{
    LabArgs, LabCloseArgs, LabCutArgs, LabDownArgs, LabHealArgs, LabReaddressArgs, LabSlowArgs, LabTargetArgs,
    LabUpArgs,
};
use crate::context::Context;
use crate::debian::{LockFile, Watched, options};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{self, Cell, Page, Progress, Report, StageTime, Table, figures};
use crate::places::Places;

/// A lab that is up.
#[derive(Debug, Serialize)]
pub(crate) struct Up {
    name: String,
    stack_file: PathBuf,
    ssh_config: PathBuf,
    hosts: Vec<Host>,
    /// From the image in Incus to the last host that let us in.
    seconds: f64,
    stages: Vec<StageTime>,
    #[serde(skip)]
    took: Duration,
}

/// A host that is up.
#[derive(Debug, Serialize)]
struct Host {
    datacenter: String,
    name: String,
    address: String,
}

impl Report for Up {
    fn show(&self, page: &mut Page) {
        let mut table = Table::new(["DATA CENTER", "HOST", "ADDRESS"]);
        for Host { datacenter, name, address } in &self.hosts {
            table.row([datacenter.into(), name.into(), address.into()]);
        }
        page.table(&table);
        page.gap();
        let hosts = figures::count(self.hosts.len() as u64, "host", "hosts");
        page.line(format_args!("{hosts} let us in {} after the image was there", figures::duration(self.took)));
        page.line(format_args!("stack file: {}", self.stack_file.display()));
        if let Some(first) = self.hosts.first() {
            page.help(format_args!("ssh -F {} {}", self.ssh_config.display(), first.name));
        }
    }
}

/// `lab up`.
pub(crate) fn up(context: &Context, args: LabUpArgs) -> Result<Up, Failure> {
    let places = context.places()?;
    let progress = context.output.progress();
    let LabUpArgs { lab, datacenters, hosts, forwarded, outbound_only, rootfs, offline, incus } = args;
    // First, since without it there is nothing to build for.
    interrupt::run(&context.output, |_| connect(&incus))?;
    let start = match rootfs {
        Some(rootfs) => Start::Rootfs(rootfs),
        None => Start::Image(host_image(&places, offline, &progress)?),
    };
    let folder = places.lab(&lab.name);
    let shape = Shape { name: lab.name, datacenters, hosts, forwarded, outbound_only };
    let making = async {
        let client = connect(&incus).await?;
        let source = match &start {
            Start::Rootfs(rootfs) => Source::describe(rootfs, std::env::consts::ARCH, &BTreeMap::new()).await?,
            Start::Image(image) => Source::described(&image.metadata(), &image.rootfs(), image.fingerprint()?).await?,
        };
        Ok(sovereign_lab::up(&client, &incus, &shape, &folder, &source, &Shown::new(&progress)).await?)
    };
    let made = interrupt::run(&context.output, |stop| async move {
        tokio::select! {
            made = making => made,
            () = stop.cancelled() => Err(Stopped.into()),
        }
    });
    let Made { lab, stack_file, ssh_config, took } = made?;
    let hosts = lab.hosts().map(|(datacenter, host)| Host {
        datacenter: datacenter.name.to_string(),
        name: host.name.to_string(),
        address: host.address.to_string(),
    });
    let (name, hosts, stages) = (lab.name.to_string(), hosts.collect(), progress.times());
    Ok(Up { name, hosts, stack_file, ssh_config, seconds: took.as_secs_f64(), stages, took })
}

/// What hosts start from.
enum Start {
    Rootfs(PathBuf),
    Image(RootImage),
}

/// A bare Debian host, from the store; locked, fetched and built the first time.
fn host_image(places: &Places, offline: bool, progress: &Progress) -> Result<RootImage, Failure> {
    let (role, file) = (Role::host(), LockFile::at(places.lab_lock()));
    let (store, kept) = (Store::open(places.images())?, Kept::open(places.packages())?);
    let (watched, options) = (Watched::new(progress, &role), options(offline));
    let lock = match file.read()? {
        Some(lock) => lock,
        None => {
            let lock = debian::resolve(&role, &kept, &options, &watched)?;
            file.write(&lock)?;
            lock
        }
    };
    let blueprint = Blueprint { role: &role, lock: &lock, layers: &[] };
    if let Some(image) = debian::find(&store, &blueprint)? {
        return Ok(image);
    }
    debian::fetch(&lock, &role, &kept, &options, &watched)?;
    Ok(debian::build(&store, &kept, &blueprint, &options, &watched)?.0)
}

/// What was asked for was given up half-way, on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the lab is not complete")]
struct Stopped;

impl crate::failure::Reason for Stopped {}

async fn connect(socket: &Path) -> Result<Client, Failure> {
    Ok(Client::connect(Arc::new(UnixSocket::new(socket)), Patience::default(), &[]).await?)
}

/// A lab that was written down, its folder, and the Incus that it is on.
struct Found {
    lab: Lab,
    folder: PathBuf,
}

impl Found {
    fn of(context: &Context, args: &LabArgs) -> Result<Self, Failure> {
        let folder = context.places()?.lab(&args.name);
        let lab = Lab::read(&folder)?.ok_or_else(|| LabError::None { name: args.name.to_string() })?;
        Ok(Self { lab, folder })
    }

    async fn incus(&self) -> Result<Client, Failure> {
        connect(&self.lab.incus).await
    }
}

/// How a lab is.
#[derive(Debug, Serialize)]
pub(crate) struct State {
    name: String,
    stack_file: PathBuf,
    hosts: Vec<HostState>,
    routers: Vec<Router>,
    faults: Vec<String>,
}

/// What data centers are behind.
#[derive(Debug, Serialize)]
struct Router {
    datacenter: String,
    /// What the others see of it.
    address: String,
    /// Whether it leads anybody in.
    forwards: bool,
}

#[derive(Debug, Serialize)]
struct HostState {
    datacenter: String,
    name: String,
    address: String,
    power: String,
    answers: bool,
    #[serde(skip)]
    is_well: bool,
}

impl Report for State {
    fn show(&self, page: &mut Page) {
        let theme = page.theme();
        let mut table = Table::new(["DATA CENTER", "HOST", "ADDRESS", "POWER", "SSH"]);
        for host in &self.hosts {
            let style = if host.is_well { theme.good } else { theme.warning };
            let answers = if host.answers { "answers" } else { "silent" };
            table.row([
                (&host.datacenter).into(),
                (&host.name).into(),
                (&host.address).into(),
                (&host.power).into(),
                Cell::styled(answers, style),
            ]);
        }
        page.table(&table);
        for Router { datacenter, address, forwards } in &self.routers {
            let ways = if *forwards { "leads ports 53, 80 and 443 in" } else { "leads nobody in" };
            page.line(format_args!("the router of {datacenter} is at {address} and {ways}"));
        }
        if !self.faults.is_empty() {
            page.title("Broken on purpose");
            for fault in &self.faults {
                page.line(fault);
            }
            page.help("`sovereign lab heal` undoes all of it");
        }
    }

    fn exit(&self) -> Exit {
        if self.hosts.iter().all(|host| host.is_well) { Exit::Done } else { Exit::Attention }
    }
}

/// `lab status`.
pub(crate) fn status(context: &Context, args: &LabArgs) -> Result<State, Failure> {
    let found = Found::of(context, args)?;
    let status = interrupt::run(&context.output, |_| async {
        Ok(sovereign_lab::status(&found.incus().await?, &found.lab).await?)
    })?;
    let hosts = status.hosts.into_iter().map(|host| {
        let is_well = host.is_well();
        let HostStatus { datacenter, name, address, power, answers } = host;
        HostState {
            datacenter: datacenter.to_string(),
            name: name.to_string(),
            address: address.to_string(),
            power: power.map_or_else(|| "not there".to_owned(), |power| String::from(power).to_lowercase()),
            answers,
            is_well,
        }
    });
    let behind = found.lab.datacenters.iter().filter(|datacenter| datacenter.reach != Reach::Direct);
    let routers = behind.map(|datacenter| Router {
        datacenter: datacenter.name.to_string(),
        address: datacenter.public().to_string(),
        forwards: datacenter.reach == Reach::Forwarded,
    });
    Ok(State {
        name: found.lab.name.to_string(),
        stack_file: found.folder.join("stack.toml"),
        hosts: hosts.collect(),
        routers: routers.collect(),
        faults: found.lab.faults.iter().map(sentence).collect(),
    })
}

fn sentence(fault: &Fault) -> String {
    match fault {
        Fault::Cut { one, other: Some(other) } => format!("nothing passes between {} and {}", one.name(), other.name()),
        Fault::Cut { one, other: None } => format!("{} is cut off", one.name()),
        Fault::Slow { one, kilobytes_per_second } => {
            format!("{kilobytes_per_second} kB pass to and from {} in a second", one.name())
        }
        Fault::Dead { host } => format!("{host} has no power"),
        Fault::Closed { datacenter, port } => format!("the router of {datacenter} does not forward port {port}"),
    }
}

/// What was removed.
#[derive(Debug, Serialize)]
pub(crate) struct Removed {
    name: String,
    datacenters: usize,
    hosts: usize,
}

impl Report for Removed {
    fn show(&self, page: &mut Page) {
        let hosts = figures::count(self.hosts as u64, "host", "hosts");
        page.line(format_args!("removed the lab {}: {hosts}, and all that was made for them", self.name));
    }
}

/// `lab down`.
pub(crate) fn down(context: &Context, args: &LabDownArgs) -> Result<Removed, Failure> {
    let found = Found::of(context, &args.lab)?;
    let hosts = figures::count(found.lab.size() as u64, "host", "hosts");
    let question = format!("Remove the lab {} with {hosts} and all data on them?", found.lab.name);
    context.output.confirm(&question, args.yes)?;
    let progress = context.output.progress();
    let removed = interrupt::run(&context.output, |_| async {
        let shown = Shown::new(&progress);
        Ok(sovereign_lab::down(&found.incus().await?, &found.lab, &found.folder, &shown).await?)
    })?;
    let sovereign_lab::Removed { hosts, datacenters } = removed;
    Ok(Removed { name: found.lab.name.to_string(), datacenters, hosts })
}

/// What was broken, or undone.
#[derive(Debug, Serialize)]
pub(crate) struct Broken {
    name: String,
    broken: Vec<String>,
    healed: Vec<String>,
}

impl Report for Broken {
    fn show(&self, page: &mut Page) {
        for fault in &self.broken {
            page.line(fault);
        }
        for fault in &self.healed {
            page.line(format_args!("no longer: {fault}"));
        }
        if self.broken.is_empty() && self.healed.is_empty() {
            page.line("nothing was broken");
        }
    }
}

/// `lab cut`.
pub(crate) fn cut(context: &Context, args: &LabCutArgs) -> Result<Broken, Failure> {
    let found = Found::of(context, &args.lab)?;
    let other = args.other.as_deref().map(|name| found.lab.target(name)).transpose()?;
    let fault = Fault::Cut { one: found.lab.target(&args.one)?, other };
    inflict(context, found, vec![fault])
}

/// `lab slow`.
pub(crate) fn slow(context: &Context, args: &LabSlowArgs) -> Result<Broken, Failure> {
    let found = Found::of(context, &args.lab)?;
    let fault = Fault::Slow { one: found.lab.target(&args.one)?, kilobytes_per_second: args.rate };
    inflict(context, found, vec![fault])
}

/// `lab kill`.
pub(crate) fn kill(context: &Context, args: &LabTargetArgs) -> Result<Broken, Failure> {
    let found = Found::of(context, &args.lab)?;
    let hosts = found.lab.hosts_of(&found.lab.target(&args.one)?);
    let faults = hosts.iter().map(|host| Fault::Dead { host: host.name.clone() }).collect();
    inflict(context, found, faults)
}

/// `lab close`.
pub(crate) fn close(context: &Context, args: &LabCloseArgs) -> Result<Broken, Failure> {
    let found = Found::of(context, &args.lab)?;
    let datacenter = found.lab.forwarding(&args.datacenter)?.name.clone();
    inflict(context, found, vec![Fault::Closed { datacenter, port: args.port }])
}

/// Where a data center is by now.
#[derive(Debug, Serialize)]
pub(crate) struct Readdressed {
    name: String,
    datacenter: String,
    address: String,
}

impl Report for Readdressed {
    fn show(&self, page: &mut Page) {
        page.line(format_args!("the others see {} at {} now", self.datacenter, self.address));
    }
}

/// `lab readdress`.
pub(crate) fn readdress(context: &Context, args: &LabReaddressArgs) -> Result<Readdressed, Failure> {
    let Found { mut lab, folder } = Found::of(context, &args.lab)?;
    let address = interrupt::run(&context.output, |_| async {
        Ok(sovereign_lab::readdress(&mut lab, &folder, &args.datacenter).await?)
    })?;
    Ok(Readdressed { name: lab.name.to_string(), datacenter: args.datacenter.clone(), address: address.to_string() })
}

fn inflict(context: &Context, mut found: Found, faults: Vec<Fault>) -> Result<Broken, Failure> {
    let broken = faults.iter().map(sentence).collect();
    interrupt::run(&context.output, |_| async {
        let incus = found.incus().await?;
        for fault in faults {
            sovereign_lab::inflict(&incus, &mut found.lab, &found.folder, fault).await?;
        }
        Ok(())
    })?;
    Ok(Broken { name: found.lab.name.to_string(), broken, healed: Vec::new() })
}

/// `lab heal`.
pub(crate) fn heal(context: &Context, args: &LabHealArgs) -> Result<Broken, Failure> {
    let mut found = Found::of(context, &args.lab)?;
    let target: Option<Target> = args.one.as_deref().map(|name| found.lab.target(name)).transpose()?;
    let healed = interrupt::run(&context.output, |_| async {
        let incus = found.incus().await?;
        Ok(sovereign_lab::heal(&incus, &mut found.lab, &found.folder, target.as_ref()).await?)
    })?;
    let healed = healed.iter().map(sentence).collect();
    Ok(Broken { name: found.lab.name.to_string(), broken: Vec::new(), healed })
}

/// Shows a lab's work as stages.
struct Shown<'a> {
    progress: &'a Progress,
    stages: Mutex<Vec<(Stage, u64, output::Stage)>>,
}

impl<'a> Shown<'a> {
    fn new(progress: &'a Progress) -> Self {
        Self { progress, stages: Mutex::default() }
    }
}

impl Watcher for Shown<'_> {
    fn report(&self, event: Event) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Began(stage, things) => {
                let shown = self.progress.stage(name_of(stage));
                if things > 0 {
                    shown.expect_things("hosts", things as u64);
                }
                stages.push((stage, 0, shown));
            }
            Event::Advanced(stage) => {
                if let Some((_, done, shown)) = stages.iter_mut().find(|(each, ..)| *each == stage) {
                    *done += 1;
                    shown.reach(*done);
                }
            }
            Event::Finished(stage, _) => {
                if let Some(at) = stages.iter().position(|(each, ..)| *each == stage) {
                    stages.swap_remove(at).2.finish();
                }
            }
        }
    }
}

const fn name_of(stage: Stage) -> &'static str {
    match stage {
        Stage::Image => "send the image to Incus",
        Stage::Ground => "lay networks and storage",
        Stage::Hosts => "start hosts",
        Stage::Reach => "wait for SSH",
        Stage::Removal => "remove the lab",
    }
}
