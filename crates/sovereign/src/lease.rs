//! The lease on hosts, for whatever changes something on them: who we are, whom we wait for, and what ends a run.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::os::unix::fs::MetadataExt as _;
use std::process;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sovereign_engine::incus::Reach;
use sovereign_engine::incus::lease::{Lease, LeaseError};
use sovereign_hosts::lease::{Holder, RENEWED_EVERY};
use sovereign_model::layout::{StateFolder, on_host};

use crate::cli::LeaseArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::failure::{Failure, Reason};

impl Reason for LeaseError {
    fn help(&self) -> Option<String> {
        self.help()
    }

    fn problems(&self) -> Option<Value> {
        let Self::Held { by } = self else { return None };
        Some(by.iter().map(|(host, holding)| json!({ "host": host, "held-by": holding })).collect())
    }
}

/// Takes the lease on all hosts that `reach` leads to and that answer, for `command`. The caller has the stack's lock.
/// `yes` answers the question whether it may be taken from another run.
///
/// # Errors
/// When another management machine works on one of them; the error names the run.
pub(crate) fn take(
    context: &Context,
    declared: &Declared,
    reach: &Arc<Reach>,
    command: &str,
    LeaseArgs { take_lease }: &LeaseArgs,
    yes: bool,
) -> Result<Lease, Failure> {
    let (folder, us) = (on_host::lease(&declared.stack.name), us(&declared.state, command)?);
    let lease = Lease::new(reach, &folder, us, RENEWED_EVERY)?;
    match lease.take(&BTreeSet::new()) {
        Err(error @ LeaseError::Held { .. }) if *take_lease => {
            let question = format!("{error}. Is that machine dead, or that run, so that it can be taken over?");
            context.output.confirm(&question, yes)?;
            let LeaseError::Held { by } = error else { return Err(error.into()) };
            // From them, and not from whoever has come since.
            lease.take(&by.into_values().map(|holding| holding.holder.run).collect())?;
        }
        taken => taken?,
    }
    Ok(lease)
}

/// Does `work`, and ends in the midst of it when the lease is lost: somebody else works on the host then.
///
/// # Errors
/// As `work`, or that the lease was lost.
pub(crate) async fn under<T>(lease: &Lease, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        lost = lease.lost() => Err(lost.into()),
        done = work => done,
    }
}

/// This run.
fn us(state: &StateFolder, command: &str) -> Result<Holder, NoName> {
    let mut run = [0; 8];
    aws_lc_rs::rand::fill(&mut run).map_err(|_| NoName)?;
    Ok(Holder::new(hex::encode(run), machine(state), who(), command.to_owned(), process::id()))
}

/// Who sits here, for people: a user and their machine.
pub(crate) fn who() -> String {
    format!("{}@{}", user(), rustix::system::uname().nodename().to_string_lossy())
}

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system has no random number that this run could be called by")]
struct NoName;

impl Reason for NoName {}

/// This state folder on this machine since it started. A copy of the folder, on this machine or another, has another name,
/// and so has a copy of the whole machine: none of them has the lock of this one.
fn machine(state: &StateFolder) -> String {
    let mut hash = Sha256::new();
    for file in ["/proc/sys/kernel/random/boot_id", "/etc/machine-id"] {
        hash.update(fs::read(file).unwrap_or_default());
        hash.update([0]);
    }
    hash.update(rustix::system::uname().nodename().to_bytes_with_nul());
    let path = state.path().canonicalize().unwrap_or_else(|_| state.path().to_owned());
    hash.update(path.as_os_str().as_encoded_bytes());
    if let Ok(folder) = fs::metadata(&path) {
        hash.update(format!("\0{} {}", folder.dev(), folder.ino()));
    }
    hex::encode(&hash.finalize()[..16])
}

/// What this user is called, for people.
fn user() -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id == uid).then(|| name.to_owned())
    });
    name.unwrap_or(uid)
}
