//! `sovereign down`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::join_all;
use serde::Serialize;
use sovereign_engine::embedded::Client;
use sovereign_engine::incus::Reach;
use sovereign_hosts::record::{HostId, Record};
use sovereign_model::EdgeName;
use sovereign_model::layout::StateFolder;

use crate::cli::{DownArgs, HostRemoveArgs};
use crate::context::Context;
use crate::declared::Declared;
use crate::drill;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::hosts;
use crate::interrupt;
use crate::lease;
use crate::output::{Page, Report};
use crate::secrets;

use super::host;
use super::service::{self, Service};
use super::tick::timer::{self, Timer};

/// What stopped, and what was removed.
#[derive(Debug, Serialize)]
pub(crate) struct Stopped {
    stack: String,
    units: Vec<String>,
    /// Hosts that were not reached: what runs there goes on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    away: BTreeMap<EdgeName, String>,
    /// The hosts that were given back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    given_back: Vec<HostId>,
    /// The folder that was removed with everything in it.
    removed: Option<PathBuf>,
    /// The systemd unit that was removed with it.
    service: Option<Service>,
    /// The timer that was removed with it.
    timer: Option<Timer>,
    /// The archive, which a purge leaves.
    archive: Option<PathBuf>,
    #[serde(skip)]
    kept: PathBuf,
}

impl Report for Stopped {
    fn show(&self, page: &mut Page) {
        match self.units.as_slice() {
            [] => page.line(format_args!("stack {} was not running", self.stack)),
            units => page.line(format_args!("stopped {}", units.join(", "))),
        }
        for host in &self.given_back {
            page.line(format_args!("gave {host} back"));
        }
        for (host, why) in &self.away {
            let warning = page.theme().warning;
            page.line(format_args!("{warning}goes on:{warning:#} what runs on {host}: {why}"));
        }
        match &self.removed {
            Some(folder) => {
                page.line(format_args!("removed {} and everything in it", folder.display()));
                if let Some(timer) = &self.timer {
                    timer.show(page);
                }
                if let Some(service) = &self.service {
                    service.show(page);
                }
                if let Some(archive) = &self.archive {
                    page.line(format_args!("but the archive: it stays in {}", archive.display()));
                }
            }
            None => {
                page.line(format_args!("its data stays in {}; `sovereign up` starts it again", self.kept.display()))
            }
        }
    }

    fn exit(&self) -> Exit {
        if self.away.is_empty() { Exit::Done } else { Exit::Attention }
    }
}

/// A host keeps what was made there, and this folder the keys that open it.
#[derive(Debug, thiserror::Error)]
#[error("{host} cannot be given back: {}", .why.chain().join(": "))]
struct NotGivenBack {
    host: HostId,
    why: Failure,
}

impl Reason for NotGivenBack {
    fn exit(&self) -> Exit {
        self.why.exit()
    }

    fn help(&self) -> Option<String> {
        let gone = format!("when it is gone for good: `sovereign host remove {} --forget`, then this again", self.host);
        Some(self.why.help().map_or(gone.clone(), |help| format!("{help}; {gone}")))
    }
}

/// What is not a stack's state is not removed.
#[derive(Debug, thiserror::Error)]
enum PurgeError {
    #[error("{path} holds no stack's state, so it is not removed", path = .path.display())]
    NotOurs { path: PathBuf },
    #[error("cannot remove {path}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Reason for PurgeError {
    fn help(&self) -> Option<String> {
        match self {
            Self::NotOurs { .. } => Some("check --state and SOVEREIGN_STATE".to_owned()),
            Self::Io { .. } => None,
        }
    }
}

/// Stops everything; with `--purge` and a yes, removes the state folder.
pub(crate) fn run(context: &Context, args: &DownArgs) -> Result<Stopped, Failure> {
    let declared = Declared::load(context)?;
    let Declared { stack, state, .. } = &declared;
    let nothing = |removed| Stopped {
        stack: stack.name.to_string(),
        units: Vec::new(),
        away: BTreeMap::new(),
        given_back: Vec::new(),
        removed,
        service: None,
        timer: None,
        archive: None,
        kept: state.path().to_owned(),
    };
    if !state.path().exists() {
        return Ok(nothing(None));
    }
    let recorded = sovereign_engine::state::read(state)?;
    let hosts: Vec<HostId> = Record::read(&state.hosts_record())?.hosts.into_keys().collect();
    if args.purge {
        if recorded.is_none() {
            return Err(PurgeError::NotOurs { path: state.path().to_owned() }.into());
        }
        let archive = if args.with_archive { ", and its archive" } else { "" };
        let far = match hosts.as_slice() {
            [] => String::new(),
            hosts => {
                let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
                format!(", what is on {}", hosts.join(", "))
            }
        };
        let question = format!(
            "Remove {} with all data of stack {}: sites{far}, keys, the root seed{archive}?",
            state.path().display(),
            stack.name
        );
        context.output.confirm(&question, args.yes)?;
    }
    let lock = secrets::lock(state, "down")?;
    // A purge gives back what is not declared any more, too.
    let reach = Arc::new(if args.purge { hosts::reach_known(&declared, None)? } else { hosts::reach(&declared)? });
    let lease = lease::take(context, &declared, &reach, "down", &args.lease, args.yes)?;
    // Before the stop: systemd must not start at the next boot what is gone.
    let service = if args.purge && service::is_installed(context, &stack.name) {
        Some(service::remove(context, &stack.name)?)
    } else {
        None
    };
    let timer = if args.purge && timer::is_installed(context, &stack.name) {
        Some(timer::remove(context, &stack.name)?)
    } else {
        None
    };
    let Halted { units, away } = interrupt::run(&context.output, |_| lease::under(&lease, stop(&declared, &reach)))?;
    let mut given_back = Vec::new();
    if args.purge {
        // Only with the keys in this folder can they be given back, so this comes before it goes.
        for host in hosts {
            let args =
                HostRemoveArgs { host: host.clone(), purge: true, forget: false, yes: true, lease: args.lease.clone() };
            host::give_back(context, &args, &declared, &lease)
                .map_err(|why| NotGivenBack { host: host.clone(), why })?;
            given_back.push(host);
        }
    }
    let (removed, archive) = if args.purge {
        remove(state, args.with_archive)?;
        (Some(state.path().to_owned()), Some(state.archive()).filter(|archive| archive.exists()))
    } else {
        (None, None)
    };
    drop((lease, lock));
    Ok(Stopped { units, away, given_back, service, timer, archive, ..nothing(removed) })
}

/// What was stopped, and what was not.
struct Halted {
    units: Vec<String>,
    away: BTreeMap<EdgeName, String>,
}

async fn stop(Declared { stack, state, .. }: &Declared, reach: &Reach) -> Result<Halted, Failure> {
    drill::clean_up(&drill::state_in(state)).await?;
    let units = Client::of(state.clone()).shutdown().await?;
    let mut halted = Halted { units: units.iter().map(ToString::to_string).collect(), away: BTreeMap::new() };
    let edges: Vec<&EdgeName> = reach.edges().collect();
    let stops = edges.into_iter().map(async |edge| {
        let stopped = async { reach.link(edge).await?.stop_all(&stack.name, edge).await };
        (edge.clone(), stopped.await)
    });
    for (edge, stopped) in join_all(stops).await {
        match stopped {
            Ok(units) => halted.units.extend(units.iter().map(ToString::to_string)),
            Err(error) => drop(halted.away.insert(edge, Failure::from(error).chain().join(": "))),
        }
    }
    Ok(halted)
}

/// Removes the folder, its description last: a purge that is killed half-way is recognised and finished by the next.
fn remove(state: &StateFolder, with_archive: bool) -> Result<(), PurgeError> {
    let folder = state.path();
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PurgeError::Io { path, source }
    };
    let description = state.state_file();
    // What backups are for.
    let stays = |path: &Path| !with_archive && state.is_archive(path);
    let mut is_empty = true;
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let entry = entry.map_err(failed(folder))?;
        let path = entry.path();
        if stays(&path) {
            is_empty = false;
        }
        if path == description || stays(&path) {
            continue;
        }
        let is_folder = entry.file_type().map_err(failed(&path))?.is_dir();
        if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.map_err(failed(&path))?;
    }
    fs::remove_file(&description).map_err(failed(&description))?;
    if is_empty { fs::remove_dir(folder).map_err(failed(folder)) } else { Ok(()) }
}
