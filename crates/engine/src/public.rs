//! Certificates of public authorities, brought to an edge while it runs: here, or on a host.
//!
//! Promise: what the edge has already is not sent again, and what it is brought it shows when this returns. Nothing is
//! restarted and no connection is closed. Killed anywhere, each file is whole, and doing it again goes on.
//!
//! And what an edge shows that is newer is brought back: another edge may have passed it on, got by who knows whom.
//!
//! Left out: files of names that the edge serves no more. They lie where they are, and nobody is shown them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sovereign_hosts::{Run, SshError};
use sovereign_model::edge_status::EdgeStatus;
use sovereign_model::layout::{StateFolder, on_host, public_file};
use sovereign_model::{Digest, DnsName, EdgeName, StackName};
use sovereign_runtime::certificate::is_newer;
use sovereign_runtime::control::{ControlError, Request, request_async};
use sovereign_runtime::file::replace;
use zeroize::Zeroizing;

use crate::apply::Failure as _;
use crate::edge::reload;
use crate::file::private_folder;
use crate::incus::{IncusEngineError, READABLE, Reach};

/// An edge answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// A folder of certificates on a host, which edges may read. $1: where.
const FOLDER: &str = "set -eu\ninstall -d -o root -g sovereign -m 0750 \"$1\"\n";

/// An edge does not show what it should.
#[derive(Debug, thiserror::Error)]
pub enum BringError {
    /// Its host.
    #[error(transparent)]
    Host(#[from] IncusEngineError),
    /// It does not answer, or does not take what it was brought.
    #[error("the edge of {edge} cannot be told")]
    Edge {
        /// Which.
        edge: EdgeName,
        /// Why.
        source: ControlError,
    },
    /// What it answers is not understood.
    #[error("the edge of {edge} says nothing that can be understood")]
    Senseless {
        /// Which.
        edge: EdgeName,
        /// Why.
        source: serde_json::Error,
    },
    /// A file here.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It knows nothing of certificates for the name.
    #[error("the edge of {edge} does not look for a certificate for {name} yet")]
    NotAwaited {
        /// Which.
        edge: EdgeName,
        /// For what.
        name: DnsName,
    },
    /// It does not use what it was brought.
    #[error("the edge of {edge} does not use the certificate for {name}: {why}")]
    NotUsed {
        /// Which.
        edge: EdgeName,
        /// For what.
        name: DnsName,
        /// What it says.
        why: String,
    },
}

impl BringError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Host(error) => error.help(),
            Self::Edge { source, .. } if source.nobody_listens() => Some("`sovereign up` starts it".to_owned()),
            Self::Edge { edge, .. } | Self::NotUsed { edge, .. } => {
                Some(format!("`sovereign logs {}` may say why", edge.unit()))
            }
            Self::File { source, .. } => crate::file::help(source),
            Self::Senseless { .. } | Self::NotAwaited { .. } => {
                Some("`sovereign up` gives it a configuration and a program that know of it".to_owned())
            }
        }
    }
}

/// Brings certificates, each with its key in one text (PEM), to an edge of a stack; how many it did not have.
///
/// # Errors
/// When one of them is not shown at the end.
pub async fn bring(
    state: &StateFolder,
    stack: &StackName,
    reach: &Reach,
    edge: &EdgeName,
    certificates: &BTreeMap<DnsName, &str>,
) -> Result<usize, BringError> {
    let control = control(state, reach, edge).await?;
    let status = async || status(edge, &control).await;
    let has = |status: &EdgeStatus, name: &DnsName, text: &str| {
        status.public_certificates.get(name).is_some_and(|told| told.file == Digest::of(text))
    };
    let before = status().await?;
    let missing: Vec<_> = certificates.iter().filter(|(name, text)| !has(&before, name, text)).collect();
    if !missing.is_empty() {
        write(state, stack, reach, edge, &missing).await?;
        reload(&control).await.map_err(|source| BringError::Edge { edge: edge.clone(), source })?;
    }
    let after = if missing.is_empty() { before } else { status().await? };
    for (name, text) in certificates {
        let (edge, name) = (edge.clone(), name.clone());
        match after.public_certificates.get(&name) {
            Some(told) if told.file == Digest::of(text) => {
                if let Some(why) = told.problem.clone() {
                    return Err(BringError::NotUsed { edge, name, why });
                }
            }
            // What it was given last it shows, unless another edge has passed on a newer one: the next run brings that back.
            Some(told) if told.begins_unix.is_some() => {}
            _ => return Err(BringError::NotAwaited { edge, name }),
        }
    }
    Ok(missing.len())
}

async fn control(state: &StateFolder, reach: &Reach, edge: &EdgeName) -> Result<PathBuf, BringError> {
    Ok(match &edge.host {
        None => state.edge(&edge.datacenter).control(),
        Some(_) => reach.link(edge).await?.control.clone(),
    })
}

async fn status(edge: &EdgeName, control: &Path) -> Result<EdgeStatus, BringError> {
    let answer = request_async(control, &Request::new("status"), PATIENCE).await;
    let answer = answer.map_err(|source| BringError::Edge { edge: edge.clone(), source })?;
    serde_json::from_value(answer).map_err(|source| BringError::Senseless { edge: edge.clone(), source })
}

/// What an edge shows that was issued later than what is known here: for each name from when on that is valid, in seconds
/// since the Unix epoch. Each with its key in one text (PEM).
///
/// # Errors
/// When it does not say.
pub async fn newer(
    state: &StateFolder,
    reach: &Reach,
    edge: &EdgeName,
    known: &BTreeMap<DnsName, u64>,
) -> Result<BTreeMap<DnsName, Zeroizing<String>>, BringError> {
    #[derive(serde::Deserialize)]
    struct Certificate {
        pem: String,
    }
    let control = control(state, reach, edge).await?;
    let told = status(edge, &control).await?.public_certificates;
    let mut newer = BTreeMap::new();
    for (name, known) in known {
        let begins = told.get(name).and_then(|told| told.begins_unix);
        if !begins.is_some_and(|begins| is_newer(moment(begins), moment(*known))) {
            continue;
        }
        let asking = Request::new("certificate").with("name", name.as_str());
        let answer = request_async(&control, &asking, PATIENCE).await;
        let answer = answer.map_err(|source| BringError::Edge { edge: edge.clone(), source })?;
        let Certificate { pem } =
            serde_json::from_value(answer).map_err(|source| BringError::Senseless { edge: edge.clone(), source })?;
        newer.insert(name.clone(), Zeroizing::new(pem));
    }
    Ok(newer)
}

fn moment(unix: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(unix)).unwrap_or(UNIX_EPOCH)
}

async fn write(
    state: &StateFolder,
    stack: &StackName,
    reach: &Reach,
    edge: &EdgeName,
    certificates: &[(&DnsName, &&str)],
) -> Result<(), BringError> {
    if edge.host.is_none() {
        let folder = state.edge(&edge.datacenter).public_certificates();
        let failed = |path: PathBuf| move |source| BringError::File { path, source };
        private_folder(&folder).map_err(failed(folder.clone()))?;
        for (name, text) in certificates {
            let path = folder.join(public_file(name));
            let written = replace(&path, text.as_bytes(), 0o600);
            written.map_err(|error| BringError::File { path, source: error.source })?;
        }
        return Ok(());
    }
    let link = reach.link(edge).await?;
    let folder = on_host::state(stack).edge(&edge.datacenter).public_certificates();
    let failed = |source: SshError| IncusEngineError::Host { host: edge.clone(), source: Box::new(source) };
    let made = Run::script("make the folder of certificates", FOLDER).arg(&folder);
    link.connection.succeed(&made).await.map_err(failed)?;
    for (name, text) in certificates {
        let path = folder.join(public_file(name));
        link.connection.put_bytes(&path, text.as_bytes(), READABLE).await.map_err(failed)?;
    }
    Ok(())
}
