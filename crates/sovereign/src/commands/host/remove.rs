//! `sovereign host remove`.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use sovereign_engine::incus::lease::Lease;
use sovereign_hosts::ready::{ClusterError, Leaving, ReadyError, leave, undo};
use sovereign_hosts::record::{HostId, Record};
use sovereign_model::EdgeName;

use super::neighbours::Neighbours;
use crate::cli::HostRemoveArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::failure::{Failure, Reason};
use crate::hosts;
use crate::interrupt;
use crate::lease;
use crate::output::{Page, Report};
use crate::secrets::{self, HostKeys};

/// What was undone.
#[derive(Debug, Serialize)]
pub(crate) struct Removed {
    host: HostId,
    address: String,
    /// Whether nothing was done on the host.
    forgotten: bool,
    /// What stays there, if anything.
    stays: String,
}

impl Report for Removed {
    fn show(&self, page: &mut Page) {
        if self.forgotten {
            page.line(format_args!("{} is forgotten; nothing was done on it", self.host));
            if !self.stays.is_empty() {
                page.line(&self.stays);
            }
            return;
        }
        page.line(format_args!("{} is as it was before; nothing of the stack is on it", self.address));
        if !self.stays.is_empty() {
            page.line(&self.stays);
        }
        page.help(format_args!("remove its `[[datacenter.host]]` named \"{}\" from the stack file", self.host.host));
    }
}

/// Its folder cannot be removed.
#[derive(Debug, thiserror::Error)]
#[error("the host is given back, but {path} cannot be removed", path = .path.display())]
struct FolderStays {
    path: PathBuf,
    source: io::Error,
}

impl Reason for FolderStays {}

/// Takes it out of the cluster of its data center, undoes what was done on it, and has the others shut it out. What stays.
async fn undo_all(
    context: &Context,
    args: &HostRemoveArgs,
    declared: &Declared,
    keys: &HostKeys,
    record: &Record,
) -> Result<String, Failure> {
    let (id, progress) = (&args.host, context.output.progress());
    let known = super::known(declared, id)?;
    let login = super::login(declared, id, &known, super::ours(keys))?;
    // Before anything is done, or it would be out of the cluster and still there.
    let host = if args.forget { None } else { Some(super::connect(declared, login).await?) };
    let neighbours = Neighbours::reach(declared, keys, record, id).await?;
    let mut stays = String::new();
    if !neighbours.all.is_empty() {
        let stage = progress.stage(format!("take {id} out of the cluster"));
        let leaving = Leaving { purge: args.purge, gone: args.forget };
        match leave((id.datacenter.as_str(), &id.host), &neighbours.all, leaving).await {
            // Nobody is left who could forget it. Where somebody is, it is said how: shut out, but still a member, it would
            // be waited for ever after.
            Err(ReadyError::Cluster(error @ ClusterError::Silent { .. })) if args.forget => stays = error.to_string(),
            left => drop(left?),
        }
        stage.finish();
    }
    if let Some(host) = host {
        let stage = progress.stage(format!("give {id} back"));
        let required = super::required(declared, keys, record, id, known.disk.as_deref());
        stays = undo(&host, &required, args.purge).await?;
        stage.finish();
        host.close().await;
    }
    let without = |other: &HostId| {
        let mut rest = record.clone();
        rest.hosts.remove(id);
        super::peers(&rest, other)
    };
    neighbours.introduce(declared, without).await?;
    neighbours.close().await;
    Ok(stays)
}

/// Asks, undoes, forgets.
pub(crate) fn run(context: &Context, args: &HostRemoveArgs) -> Result<Removed, Failure> {
    let declared = Declared::load(context)?;
    let (state, id) = (&declared.state, &args.host);
    let known = super::known(&declared, id)?;
    let data = if args.purge { ", and all data of instances on it" } else { "" };
    let question = if args.forget {
        format!("Forget {id} and its pinned key, and leave {} as it is?", known.address)
    } else {
        format!("Remove from {id} ({}) what the stack made there{data}?", known.address)
    };
    context.output.confirm(&question, args.yes)?;
    let _lock = secrets::lock(state, "host remove")?;
    let reach = Arc::new(hosts::reach_known(&declared, None)?);
    let lease = lease::take(context, &declared, &reach, "host remove", &args.lease, args.yes)?;
    give_back(context, args, &declared, &lease)
}

/// The same for whoever has asked, and has the stack's lock and its lease.
pub(crate) fn give_back(
    context: &Context,
    args: &HostRemoveArgs,
    declared: &Declared,
    lease: &Lease,
) -> Result<Removed, Failure> {
    let (state, id) = (&declared.state, &args.host);
    let known = super::known(declared, id)?;
    let record = Record::read(&state.hosts_record())?;
    let is_last = !record.hosts.keys().any(|other| other.datacenter == id.datacenter && other != id);
    let stays = if args.forget && is_last {
        String::new()
    } else {
        let keys = secrets::hosts(context, &declared.stack, state)?;
        let work = undo_all(context, args, declared, &keys, &record);
        interrupt::run(&context.output, |_| lease::under(lease, work))?
    };
    if !args.forget {
        lease.vanish(&EdgeName::on(&id.datacenter, &id.host));
    }
    Record::change(&state.hosts_record(), |record| drop(record.hosts.remove(id)))?;
    let path = state.host(&id.datacenter, &id.host);
    match fs::remove_dir_all(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(FolderStays { path, source }.into()),
        _ => {}
    }
    Ok(Removed { host: id.clone(), address: known.address.to_string(), forgotten: args.forget, stays })
}
