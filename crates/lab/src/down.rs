//! Removing a lab: everything that it made, and nothing else.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use sovereign_incus::{Client, IncusError, NetworkName};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::error::LabError;
use crate::host;
use crate::progress::{Stage, Timed, Watcher};
use crate::rules;
use crate::shape::{Lab, LabHost, record};
use crate::up::{is_marked, settle};

/// How often a network is tried to be removed.
const NETWORK_TRIES: u32 = 10;
/// And how soon again.
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// How many hosts there were.
    pub hosts: usize,
    /// How many data centers.
    pub datacenters: usize,
}

/// Removes a lab with everything in its folder; the record last, so that one that was stopped is gone on with.
///
/// # Errors
/// When something cannot be removed; the rest is.
pub async fn down(incus: &Client, lab: &Lab, folder: &Path, watcher: &dyn Watcher) -> Result<Removed, LabError> {
    let stage = Timed::begin(watcher, Stage::Removal, lab.size());
    rules::forget(lab).await?;
    remove_project(incus, lab, &stage).await?;
    for datacenter in &lab.datacenters {
        let networks = incus.networks().await?;
        let ours = |name, config| name == &datacenter.bridge && is_marked(config, lab);
        if networks.iter().any(|network| ours(&network.name, &network.config)) {
            remove_network(incus, &datacenter.bridge).await?;
        }
    }
    if incus.pools().await?.iter().any(|pool| pool.name == lab.pool && is_marked(&pool.config, lab)) {
        gone(incus.delete_pool(&lab.pool).await)?;
    }
    remove_folder(folder)?;
    stage.finish();
    Ok(Removed { hosts: lab.size(), datacenters: lab.datacenters.len() })
}

async fn remove_project(incus: &Client, lab: &Lab, stage: &Timed<'_>) -> Result<(), LabError> {
    let projects = incus.projects().await?;
    if !projects.iter().any(|project| project.name == lab.project && is_marked(&project.config, lab)) {
        return Ok(());
    }
    let within = incus.in_project(lab.project.clone());
    settle(&within).await?;
    let mut failures = Vec::new();
    let mut removing = JoinSet::new();
    for (_, host) in lab.hosts() {
        let (within, host) = (within.clone(), host.clone());
        removing.spawn(async move {
            let outcome = remove_host(&within, &host).await;
            (host, outcome)
        });
    }
    while let Some(ended) = removing.join_next().await {
        let Ok((host, outcome)) = ended else { continue };
        stage.advance();
        if let Err(error) = outcome {
            failures.push((host.name, error.into()));
        }
    }
    if !failures.is_empty() {
        return Err(LabError::Hosts { hosts: lab.size(), failures });
    }
    // Of earlier root file systems too.
    for digest in within.images().await?.iter().filter_map(|image| image.digest()) {
        gone(within.delete_image(digest).await)?;
    }
    Ok(gone(incus.delete_project(&lab.project).await)?)
}

async fn remove_host(within: &Client, host: &LabHost) -> Result<(), IncusError> {
    gone(host::power_off(within, host).await)?;
    gone(within.delete_instance(&host.instance).await)
}

/// Incus looks at each interface of a bridge that it removes, and fails when one has just gone with its instance.
async fn remove_network(incus: &Client, bridge: &NetworkName) -> Result<(), IncusError> {
    let mut tries = 1;
    loop {
        match gone(incus.delete_network(bridge).await) {
            Err(IncusError::Refused { status: 500, .. }) if tries < NETWORK_TRIES => {
                tries += 1;
                sleep(BETWEEN_TRIES).await;
            }
            ended => return ended,
        }
    }
}

/// What is not there is as good as removed.
fn gone(removed: Result<(), IncusError>) -> Result<(), IncusError> {
    match removed {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

fn remove_folder(folder: &Path) -> Result<(), LabError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| LabError::File { action: "remove", path, source }
    };
    let record = record(folder);
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let entry = entry.map_err(failed(folder))?;
        let path = entry.path();
        if path == record {
            continue;
        }
        let is_folder = entry.file_type().map_err(failed(&path))?.is_dir();
        if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.map_err(failed(&path))?;
    }
    fs::remove_file(&record).map_err(failed(&record))?;
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(folder)(error)),
        _ => Ok(()),
    }
}
