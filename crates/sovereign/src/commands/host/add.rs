//! `sovereign host add`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::Value;
use sovereign_hosts::findings::is_taken;
use sovereign_hosts::ready::{Change, Ready, Step, open_before};
use sovereign_hosts::record::{HostId, Known, Record};
use sovereign_hosts::{Connection, Facts, Finding, Keys, Requirements, findings};
use sovereign_keys::SeedError;
use sovereign_model::ssh::Fingerprint;
use sovereign_model::{DatacenterName, HostName};
use tokio_util::sync::CancellationToken;

use super::neighbours::Neighbours;
use crate::cli::HostAddArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::environment::names;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::hosts;
use crate::interrupt;
use crate::lease;
use crate::output::{Page, Progress, Report, StageTime, Theme};
use crate::pinned::pinned;
use crate::secrets::{self, HostKeys, RecoveryIdentity};
use crate::world::unix_seconds;

/// What was found, and what was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Added {
    host: HostId,
    address: String,
    /// What the stack file takes: where it was found.
    ip: Option<IpAddr>,
    fingerprint: Fingerprint,
    findings: Vec<Finding>,
    /// What is open there beside the stack's own ports, and stays open.
    open: Vec<String>,
    /// The steps, in order: what there was to do.
    steps: Vec<Performed>,
    /// Whether they were performed; otherwise this is what would be done.
    done: bool,
    #[serde(skip)]
    findings_shown: bool,
    stages: Vec<StageTime>,
}

#[derive(Debug, Serialize)]
struct Performed {
    step: &'static str,
    changed: bool,
}

impl Report for Added {
    fn show(&self, page: &mut Page) {
        if !self.findings_shown {
            page.title(format_args!("{} ({})", self.host, self.address));
            super::show(&self.findings, page);
            page.gap();
        }
        if !self.done {
            page.title("What is done there");
            for (number, step) in (1..).zip(Step::ALL) {
                page.line(format_args!("{number}  {step}"));
            }
            if !self.open.is_empty() {
                page.line(format_args!("What listens there now stays reachable: {}", self.open.join(", ")));
            }
            return;
        }
        if self.steps.iter().all(|step| !step.changed) {
            page.line(format_args!("{} is ready; there was nothing to do", self.host));
        } else {
            page.line(format_args!("{} is ready", self.host));
        }
        page.help("it belongs into the stack file, below its data center:");
        page.line("    [[datacenter.host]]");
        page.line(format_args!("    name = \"{}\"", self.host.host));
        if let Some(ip) = self.ip {
            page.line(format_args!("    address = \"{ip}\""));
        }
    }
}

/// The command cannot be carried out as it stands.
#[derive(Debug, thiserror::Error)]
enum Misfit {
    #[error("there is no data center {name} in the stack file")]
    NoDatacenter { name: DatacenterName, known: Vec<String> },
    #[error("an address is no name for a host")]
    NoName,
    #[error("{id} is at {known}, not at {asked}")]
    OtherAddress { id: HostId, known: String, asked: String },
    #[error("{address} is {id} already")]
    OtherName { id: HostId, address: String },
    #[error("{id} was pinned with the key {pinned}, not {asked}")]
    OtherPin { id: HostId, pinned: Fingerprint, asked: Fingerprint },
    #[error("nothing was done: the disk keeps its data")]
    DiskKept,
}

impl Reason for Misfit {
    fn exit(&self) -> Exit {
        match self {
            Self::DiskKept => Exit::Failed,
            _ => Exit::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoDatacenter { known, .. } => format!("there are: {}", known.join(", ")),
            Self::NoName => "give it one with --name".to_owned(),
            Self::OtherAddress { id, .. } => {
                format!("`sovereign host remove {id}` first, with --forget when it is not there any more")
            }
            Self::OtherName { id, .. } => format!("`sovereign host remove {id}` gives it back"),
            Self::OtherPin { id, .. } => {
                format!("when it was set up anew: `sovereign host remove {id} --forget`, then add it again")
            }
            Self::DiskKept => "name another disk, or none".to_owned(),
        })
    }
}

/// Something is in the way on the host.
#[derive(Debug, thiserror::Error)]
#[error("{id} cannot be made ready")]
struct InTheWay {
    id: HostId,
    findings: Vec<Finding>,
}

impl Reason for InTheWay {
    fn page(&self, theme: Theme) -> Option<String> {
        let mut page = Page::new(theme);
        super::show(&self.findings, &mut page);
        let style = theme.error;
        page.line(format_args!("{style}error:{style:#} {self}: nothing was done on it"));
        Some(page.into_text())
    }

    fn problems(&self) -> Option<Value> {
        serde_json::to_value(&self.findings).ok()
    }
}

/// Pins, looks, says what it will do, asks, does it.
pub(crate) fn run(context: &Context, args: &HostAddArgs) -> Result<Added, Failure> {
    let declared = Declared::load(context)?;
    let (stack, state) = (&declared.stack, &declared.state);
    let id = id(&declared, args)?;
    sovereign_engine::state::prepare(state, &stack.name, env!("CARGO_PKG_VERSION"))?;
    let _lock = secrets::lock(state, "host add")?;
    if matches!(secrets::seed_file(stack, state).open(), Err(SeedError::Missing { .. })) {
        secrets::open_or_create(context, stack, state)?;
        context.output.say("There was no root seed, so one was made: `sovereign seed show` prints its words.");
    }
    let keys = secrets::hosts(context, stack, state)?;
    let record = Record::read(&state.hosts_record())?;
    let recovery = if args.recover { Some(RecoveryIdentity::open(context, stack, state)?) } else { None };
    let welcome = welcome(context, args, &keys, recovery.as_ref());
    let known = known(&record, &id, args)?;
    interrupt::run(&context.output, |stop| async move {
        let known = match known {
            Some(known) => known,
            None => pin(context, args).await?,
        };
        let work = Work { context, args, declared: &declared, keys: &keys, record: &record, id, known };
        work.run(welcome, &stop).await
    })
}

fn id(declared: &Declared, args: &HostAddArgs) -> Result<HostId, Misfit> {
    let datacenters = &declared.stack.datacenters;
    if !datacenters.contains_key(&args.datacenter) {
        let known = datacenters.keys().map(ToString::to_string).collect();
        return Err(Misfit::NoDatacenter { name: args.datacenter.clone(), known });
    }
    let by_address = || {
        let host = args.address.host();
        let is_address = host.parse::<IpAddr>().is_ok();
        let first = host.split('.').next().filter(|_| !is_address)?;
        first.to_ascii_lowercase().parse::<HostName>().ok()
    };
    let host = args.name.clone().or_else(by_address).ok_or(Misfit::NoName)?;
    Ok(HostId { datacenter: args.datacenter.clone(), host })
}

/// What is known of the host, if it was added before.
fn known(record: &Record, id: &HostId, args: &HostAddArgs) -> Result<Option<Known>, Misfit> {
    if let Some((other, _)) = record.hosts.iter().find(|(other, known)| *other != id && known.address == args.address) {
        return Err(Misfit::OtherName { id: other.clone(), address: args.address.to_string() });
    }
    let Some(known) = record.hosts.get(id) else { return Ok(None) };
    if known.address != args.address {
        let (known, asked) = (known.address.to_string(), args.address.to_string());
        return Err(Misfit::OtherAddress { id: id.clone(), known, asked });
    }
    let pinned = known.host_key.fingerprint();
    match &args.fingerprint {
        Some(asked) if *asked != pinned => Err(Misfit::OtherPin { id: id.clone(), pinned, asked: asked.clone() }),
        _ => Ok(Some(Known { disk: args.disk.clone().or_else(|| known.disk.clone()), ..known.clone() })),
    }
}

/// The keys that the host may let in the first time: what was named, then what there is.
fn welcome(context: &Context, args: &HostAddArgs, keys: &HostKeys, recovery: Option<&RecoveryIdentity>) -> Keys {
    let of_stack = || [keys.identity.clone()];
    if let Some(recovery) = recovery {
        return Keys { files: vec![recovery.path().to_owned()], agent: None };
    }
    let agent = context.environment.path(names::SSH_AUTH_SOCK);
    if let Some(identity) = &args.identity {
        return Keys { files: [identity.clone()].into_iter().chain(of_stack()).collect(), agent };
    }
    let home = context.environment.path(names::HOME).map(|home| home.join(".ssh"));
    let usual = ["id_ed25519", "id_ecdsa", "id_rsa"].into_iter().filter_map(|name| Some(home.as_ref()?.join(name)));
    let files: Vec<PathBuf> = of_stack().into_iter().chain(usual.filter(|path| path.exists())).collect();
    Keys { files, agent }
}

/// A host whose key somebody compared.
async fn pin(context: &Context, args: &HostAddArgs) -> Result<Known, Failure> {
    let host_key = pinned(&context.output, &args.address, args.fingerprint.as_ref(), super::PATIENCE).await?;
    let (address, disk) = (args.address.clone(), args.disk.clone());
    let (network_address, open_before) = (None, None);
    Ok(Known {
        address,
        host_key,
        network_address,
        disk,
        open_before,
        under_way: None,
        ready_unix: None,
        evacuated: None,
    })
}

struct Work<'a> {
    context: &'a Context,
    args: &'a HostAddArgs,
    declared: &'a Declared,
    keys: &'a HostKeys,
    record: &'a Record,
    id: HostId,
    known: Known,
}

/// What was learned before anything was done.
struct Looked<'l> {
    facts: Facts,
    required: Requirements,
    peers: BTreeSet<IpAddr>,
    neighbours: Neighbours,
    wipe: bool,
    progress: &'l Progress,
}

/// The address behind a host's name.
async fn ip(host: &str, port: u16) -> Option<IpAddr> {
    Some(tokio::net::lookup_host((host, port)).await.ok()?.next()?.ip())
}

/// Ctrl-C between two steps.
#[derive(Debug, thiserror::Error)]
#[error("stopped before the step: {0}")]
struct Stopped(Step);

impl Reason for Stopped {}

impl Work<'_> {
    async fn run(mut self, welcome: Keys, stop: &CancellationToken) -> Result<Added, Failure> {
        let progress = self.context.output.progress();
        let stage = progress.stage(format!("look at {}", self.known.address));
        let login = super::login(self.declared, &self.id, &self.known, welcome)?;
        let host = super::connect(self.declared, login.clone()).await?;
        let facts = Facts::gather(&host).await?;
        stage.finish();
        self.known.network_address = facts.address;
        self.known.open_before = Some(open_before(&facts).into_iter().cloned().collect());
        let required = super::required(self.declared, self.keys, self.record, &self.id, self.known.disk.as_deref());
        let peers = super::peers(self.record, &self.id);
        let stage =
            (!peers.is_empty()).then(|| progress.stage(format!("look at the other hosts of {}", self.id.datacenter)));
        let neighbours = Neighbours::reach(self.declared, self.keys, self.record, &self.id).await?;
        if let Some(stage) = stage {
            stage.finish();
        }
        let mut found = findings(&facts, &required);
        found.extend(neighbours.silent());
        if !is_taken(&found) {
            return Err(InTheWay { id: self.id, findings: found }.into());
        }
        let mut added = Added {
            host: self.id.clone(),
            address: self.known.address.to_string(),
            ip: ip(self.known.address.host(), self.known.address.port()).await,
            fingerprint: self.known.host_key.fingerprint(),
            findings: found,
            open: open_before(&facts)
                .iter()
                .map(|l| format!("{}/{} ({})", l.port, l.protocol, l.owners.join(", ")))
                .collect(),
            steps: Vec::new(),
            done: false,
            findings_shown: false,
            stages: progress.times(),
        };
        if self.args.dry_run {
            return Ok(added);
        }
        self.context.output.show(&added);
        added.findings_shown = true;
        self.context.output.confirm(&format!("Make {} ready?", self.id), self.args.yes)?;
        let wipe = self.ask_for_disk(&facts, &required)?;
        let reach = Arc::new(hosts::reach_known(self.declared, Some((&self.id, login)))?);
        let (context, declared, args) = (self.context, self.declared, self.args);
        let take = || lease::take(context, declared, &reach, "host add", &args.lease, args.yes);
        let lease = tokio::task::block_in_place(take)?;
        let looked = Looked { facts, required, peers, neighbours, wipe, progress: &progress };
        lease::under(&lease, self.perform(host, looked, &mut added, stop)).await?;
        added.done = true;
        added.stages = progress.times();
        Ok(added)
    }

    /// All steps, in order.
    async fn perform(
        &self,
        mut host: Connection,
        looked: Looked<'_>,
        added: &mut Added,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let Looked { facts, required, peers, neighbours, wipe, progress } = looked;
        let work = self.declared.state.host(&self.id.datacenter, &self.id.host);
        for step in Step::ALL {
            if stop.is_cancelled() {
                return Err(Stopped(step).into());
            }
            self.note(Some(step))?;
            let stage = progress.stage(step.to_string());
            let ready = Ready {
                host: &host,
                facts: &facts,
                required: &required,
                keys: &self.keys.authorized,
                wipe,
                peers: &peers,
                neighbours: &neighbours.all,
                work: &work,
            };
            let introduced = step == Step::Cluster && self.introduce(&neighbours).await?;
            let change = ready.perform(step).await?;
            match step {
                // From here on the key of the stack must do.
                Step::Keys => {
                    let newcomer = self.newcomer().await?;
                    host.close().await;
                    host = newcomer;
                }
                Step::Firewall => {
                    let newcomer = self.newcomer().await?;
                    if change == Change::Done {
                        ready.keep_firewall(&newcomer).await?;
                    }
                    newcomer.close().await;
                }
                _ => {}
            }
            stage.finish();
            added.steps.push(Performed { step: step.name(), changed: introduced || change == Change::Done });
        }
        host.close().await;
        neighbours.close().await;
        self.note(None)
    }

    /// Has the others let this host in, and each other.
    async fn introduce(&self, neighbours: &Neighbours) -> Result<bool, Failure> {
        let record = Record::read(&self.declared.state.hosts_record())?;
        neighbours.introduce(self.declared, |id| super::peers(&record, id)).await
    }

    /// Somebody who has the key of the stack only.
    async fn newcomer(&self) -> Result<Connection, Failure> {
        let login = super::login(self.declared, &self.id, &self.known, super::ours(self.keys))?;
        Ok(super::connect(self.declared, login).await?)
    }

    /// A disk with data is taken when its name is typed: says whether it may be wiped.
    fn ask_for_disk(&self, facts: &Facts, required: &Requirements) -> Result<bool, Failure> {
        let Some(disk) = required.disk.as_deref().and_then(|path| facts.disk(path)) else { return Ok(false) };
        let prepared = matches!(&facts.marker, Some(sovereign_hosts::marker::Found::Marker(marker))
            if required.is_ours(marker) && marker.done.iter().any(|step| step == Step::Storage.name()));
        if disk.holds.is_empty() || prepared || self.args.wipe {
            return Ok(self.args.wipe && !prepared);
        }
        let question = format!(
            "{} has data ({}), and all of it is lost. Type the disk's name to go on: ",
            disk.path,
            disk.holds.join("; ")
        );
        let answer = self.context.output.ask(&question, "`--wipe` answers it")?;
        if answer.trim() == disk.path { Ok(true) } else { Err(Misfit::DiskKept.into()) }
    }

    /// Writes down which step is under way, before the host changes; or that all are done.
    fn note(&self, step: Option<Step>) -> Result<(), Failure> {
        let path = self.declared.state.hosts_record();
        Record::change(&path, |record| {
            let ready_unix = match step {
                None => Some(unix_seconds(SystemTime::now())),
                Some(_) => record.hosts.get(&self.id).and_then(|known| known.ready_unix),
            };
            let under_way = step.map(|step| step.name().to_owned());
            record.hosts.insert(self.id.clone(), Known { under_way, ready_unix, ..self.known.clone() });
        })?;
        Ok(())
    }
}
