//! `sovereign host remove`.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Serialize;
use sovereign_hosts::ready::undo;
use sovereign_hosts::record::{HostId, Record};

use crate::cli::HostRemoveArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::failure::{Failure, Reason};
use crate::interrupt;
use crate::output::{Page, Report};
use crate::secrets;

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
            return page.line(format_args!("{} is forgotten; nothing was done on it", self.host));
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
    let stays = if args.forget {
        String::new()
    } else {
        let keys = secrets::hosts(context, &declared.stack, state)?;
        let required = super::required(&declared, &keys, id, known.disk.as_deref());
        let login = super::login(&declared, id, &known, super::ours(&keys))?;
        let progress = context.output.progress();
        interrupt::run(&context.output, |_| async {
            let host = super::connect(&declared, login).await?;
            let stage = progress.stage(format!("give {id} back"));
            let stays = undo(&host, &required, args.purge).await?;
            stage.finish();
            host.close().await;
            Ok(stays)
        })?
    };
    Record::change(&state.hosts_record(), |record| drop(record.hosts.remove(id)))?;
    let path = state.host(&id.datacenter, &id.host);
    match fs::remove_dir_all(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(FolderStays { path, source }.into()),
        _ => {}
    }
    Ok(Removed { host: id.clone(), address: known.address.to_string(), forgotten: args.forget, stays })
}
