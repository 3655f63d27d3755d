//! Making a lab, or going on with one that was begun.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sovereign_incus::image::Source;
use sovereign_incus::project::Project;
use sovereign_incus::{Client, Config, IncusError, Patience};
use sovereign_model::HostName;
use sovereign_model::stack::Reach;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::error::LabError;
use crate::host::{self, MARK};
use crate::keys::{self, Folder};
use crate::network;
use crate::progress::{Stage, Timed, Watcher};
use crate::shape::{Lab, LabHost, Shape};
use crate::{rules, ssh, stack_file};

/// How many hosts are made and started at the same time: more of them start slower, and none sooner.
const AT_ONCE: usize = 6;

/// How long a host may take from its start until it lets us in: seconds on an idle machine, and machines are not.
const BOOT: Duration = Duration::from_secs(120);

/// Between two looks at what Incus is doing.
const PAUSE: Duration = Duration::from_millis(200);

/// Every init system watches files; each user of the kernel has so many watchers, and all hosts are one user to it.
const WATCHERS: &str = "/proc/sys/fs/inotify/max_user_instances";

/// How many of them a host uses up, with what runs in it.
const WATCHERS_EACH: u64 = 64;

/// Room for hosts, as the pool's loop file may grow to. It takes what is in it.
const POOL_SIZE: &str = "60GiB";

/// A lab that is up.
#[derive(Debug, Clone)]
pub struct Made {
    /// The lab.
    pub lab: Lab,
    /// The stack file for it.
    pub stack_file: PathBuf,
    /// How `ssh` reaches its hosts by their names.
    pub ssh_config: PathBuf,
    /// From the image in Incus to the last host that let us in.
    pub took: Duration,
}

/// Makes what is missing of a lab, in parallel, and waits until every host lets us in.
///
/// `incus` is reached at its unix socket `socket`; `source` is what hosts start from: a Debian whose SSH server starts
/// with it and whose network systemd configures.
///
/// # Errors
/// When a part cannot be made. What was made stays; the next call goes on, and [`down`](crate::down()) removes it.
pub async fn up(
    incus: &Client,
    socket: &Path,
    shape: &Shape,
    folder: &Path,
    source: &Source,
    watcher: &dyn Watcher,
) -> Result<Made, LabError> {
    check_limit((shape.datacenters * shape.hosts) as u64)?;
    let stage = Timed::begin(watcher, Stage::Ground, 0);
    let lab = begin(incus, socket, shape, folder, source).await?;
    keys::make(folder, &lab).await?;
    make_ground(incus, &lab).await?;
    stage.finish();

    let within = incus.in_project(lab.project.clone());
    settle(&within).await?;
    let stage = Timed::begin(watcher, Stage::Image, 0);
    match within.image(lab.image).await {
        Err(error) if error.is_not_found() => within.upload_image(source).await?,
        other => drop(other?),
    }
    stage.finish();

    let began = Instant::now();
    make_hosts(&within, folder, &lab, watcher).await?;
    let took = began.elapsed();
    if lab.faults.is_empty() {
        check_routes(folder, &lab).await?;
    }
    let place = Folder::new(folder);
    // Once: it is the operator's from then on.
    if !place.stack_file().exists() {
        keys::write(&place.stack_file(), &stack_file::text(&lab))?;
    }
    Ok(Made { stack_file: place.stack_file(), ssh_config: place.ssh_config(), lab, took })
}

/// Waits until Incus has done what was asked of it before: a run that was stopped asked, and did not wait. What takes
/// longer than anything of ours is not waited for: what it is in the way of will say so.
pub(crate) async fn settle(within: &Client) -> Result<(), IncusError> {
    let until = Instant::now() + Patience::default().operation;
    while Instant::now() < until && !within.operations().await?.is_empty() {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

fn check_limit(hosts: u64) -> Result<(), LabError> {
    let path = PathBuf::from(WATCHERS);
    let needed = 128 + hosts * WATCHERS_EACH;
    match keys::read(&path)?.trim().parse() {
        Ok(value) if value < needed => Err(LabError::Limit { path, value, needed }),
        _ => Ok(()),
    }
}

/// What is written down; written down now when nothing was.
async fn begin(incus: &Client, socket: &Path, shape: &Shape, folder: &Path, source: &Source) -> Result<Lab, LabError> {
    if let Some(mut lab) = Lab::read(folder)? {
        if !lab.is(shape) {
            let (datacenters, hosts) = (lab.datacenters.len(), lab.size());
            return Err(LabError::OtherShape { name: lab.name.to_string(), datacenters, hosts });
        }
        if lab.incus != socket {
            if UnixStream::connect(&lab.incus).await.is_ok() {
                return Err(LabError::OtherIncus { name: lab.name.to_string(), incus: lab.incus });
            }
            // With its Incus everything is gone that was in it; its names, addresses and keys are as good as new ones.
            refuse_foreign(incus, &lab, false).await?;
            lab.incus = socket.to_owned();
            lab.faults.clear();
            lab.write(folder)?;
        }
        if lab.image != source.digest() {
            // Hosts that are there stay what they are.
            lab.image = source.digest();
            lab.write(folder)?;
        }
        return Ok(lab);
    }
    let lab = Lab::plan(shape, network::free_block()?, socket, source.digest())?;
    // Before the first mark of ours is anywhere: what is there of these names is another's.
    refuse_foreign(incus, &lab, false).await?;
    keys::make_folder(folder)?;
    lab.write(folder)?;
    Ok(lab)
}

/// Sees that nothing with the lab's names is another's: what is there must bear its mark, if anything may be there.
async fn refuse_foreign(incus: &Client, lab: &Lab, may_be_there: bool) -> Result<(), LabError> {
    let is_ours = |config: &Config| may_be_there && is_marked(config, lab);
    let foreign = |kind, name: &dyn ToString| LabError::Foreign { kind, name: name.to_string() };
    if incus.projects().await?.iter().any(|project| project.name == lab.project && !is_ours(&project.config)) {
        return Err(foreign("project", &lab.project));
    }
    if incus.pools().await?.iter().any(|pool| pool.name == lab.pool && !is_ours(&pool.config)) {
        return Err(foreign("storage pool", &lab.pool));
    }
    let networks = incus.networks().await?;
    for datacenter in &lab.datacenters {
        if networks.iter().any(|network| network.name == datacenter.bridge && !is_ours(&network.config)) {
            return Err(foreign("network", &datacenter.bridge));
        }
    }
    Ok(())
}

/// Whether the mark of a lab is on something.
pub(crate) fn is_marked(config: &Config, lab: &Lab) -> bool {
    config.get(MARK).is_some_and(|mark| mark == lab.name.as_str())
}

async fn make_ground(incus: &Client, lab: &Lab) -> Result<(), LabError> {
    refuse_foreign(incus, lab, true).await?;
    let own = [("features.images", "true"), ("features.profiles", "true"), ("features.storage.volumes", "true")];
    let description = format!("the lab {}", lab.name);
    let project = Project { name: lab.project.clone(), description: description.clone(), config: marked(lab, &own) };
    there(incus.create_project(&project).await)?;
    make_pool(incus, lab).await?;
    for datacenter in &lab.datacenters {
        let address = format!("{}/24", datacenter.gateway);
        // Nobody is renamed on the way: data centers see each other's own addresses. Addresses are in the hosts, as
        // they are where an operator gets them from a provider.
        let config = marked(
            lab,
            &[
                ("ipv4.address", &address),
                ("ipv4.nat", "false"),
                ("ipv4.dhcp", "false"),
                ("ipv6.address", "none"),
                ("dns.mode", "none"),
            ],
        );
        there(incus.create_bridge(&datacenter.bridge, &description, &config).await)?;
    }
    // Anew: a machine that was started again has none of them left, and one whose Incus was set up anew has those of a lab
    // that is gone. Whoever may make no rules has made none.
    let applied = rules::apply(lab).await;
    if rules::has_rules(lab) { applied } else { Ok(()) }
}

/// A configuration with the mark of a lab.
fn marked(lab: &Lab, pairs: &[(&str, &str)]) -> Config {
    let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    pairs.chain([(MARK.to_owned(), lab.name.to_string())]).collect()
}

/// On btrfs hosts are cheap copies of the image; where this machine cannot have that, they are whole ones.
async fn make_pool(incus: &Client, lab: &Lab) -> Result<(), LabError> {
    if incus.pools().await?.iter().any(|pool| pool.name == lab.pool) {
        return Ok(());
    }
    let drivers = incus.server().await?.environment.storage_supported_drivers;
    if drivers.iter().any(|driver| driver.name == "btrfs") {
        match there(incus.create_pool(&lab.pool, "btrfs", &marked(lab, &[("size", POOL_SIZE)])).await) {
            // That the tools are there does not mean that the kernel can do it.
            Err(IncusError::Refused { .. } | IncusError::Failed { .. }) => {}
            other => return Ok(other?),
        }
    }
    Ok(there(incus.create_pool(&lab.pool, "dir", &marked(lab, &[])).await)?)
}

/// What is there already is as good as made: whose it is was looked at before.
fn there(made: Result<(), IncusError>) -> Result<(), IncusError> {
    match made {
        Err(error) if error.is_already_there() => Ok(()),
        other => other,
    }
}

async fn make_hosts(incus: &Client, folder: &Path, lab: &Lab, watcher: &dyn Watcher) -> Result<(), LabError> {
    let made = Timed::begin(watcher, Stage::Hosts, lab.size());
    let reached = Timed::begin(watcher, Stage::Reach, lab.size());
    let dead = |host: &LabHost| lab.faults.iter().any(|fault| fault.is_power_of(host));
    // A slow host delays only itself.
    let mut making = JoinSet::new();
    let slots = std::sync::Arc::new(Semaphore::new(AT_ONCE));
    for (datacenter, host) in lab.hosts() {
        if dead(host) {
            continue;
        }
        let (incus, folder, lab, datacenter, host, slots) =
            (incus.clone(), folder.to_owned(), lab.clone(), datacenter.clone(), host.clone(), slots.clone());
        making.spawn(async move {
            let slot = slots.acquire_owned().await;
            let made = host::make(&incus, &folder, &lab, (&datacenter, &host)).await;
            drop(slot);
            (folder, host, made)
        });
    }
    let mut failures: Vec<(HostName, LabError)> = Vec::new();
    let mut reaching = JoinSet::new();
    while let Some(ended) = making.join_next().await {
        let Ok((folder, host, outcome)) = ended else { continue };
        made.advance();
        match outcome {
            Ok(()) if lab.faults.is_empty() => {
                reaching.spawn(async move {
                    let outcome = ssh::reach(&folder, &host, BOOT).await;
                    (host, outcome)
                });
            }
            // It may be cut off on purpose.
            Ok(()) => {}
            Err(error) => failures.push((host.name, error)),
        }
    }
    made.finish();
    while let Some(ended) = reaching.join_next().await {
        let Ok((host, outcome)) = ended else { continue };
        reached.advance();
        if let Err(error) = outcome {
            failures.push((host.name, error));
        }
    }
    if failures.is_empty() {
        reached.finish();
        return Ok(());
    }
    Err(LabError::Hosts { hosts: lab.size(), failures })
}

/// Data centers are to reach each other, and that depends on more than us: on a firewall of this machine, say.
async fn check_routes(folder: &Path, lab: &Lab) -> Result<(), LabError> {
    let Some((_, from)) = lab.hosts().next() else { return Ok(()) };
    let others = lab.datacenters.iter().skip(1).filter(|datacenter| datacenter.reach == Reach::Direct);
    for to in others.filter_map(|datacenter| datacenter.hosts.first()) {
        let look = format!("timeout 5 bash -c 'exec 3<>/dev/tcp/{}/22'", to.address);
        if let Err(LabError::Refused { .. }) = ssh::run(folder, from, &look).await {
            return Err(LabError::NoRoute { from: from.name.clone(), to: to.name.clone(), address: to.address });
        }
    }
    Ok(())
}
