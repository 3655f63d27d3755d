//! `sovereign host`.

mod add;
mod api;
mod check;
mod evacuate;
mod neighbours;
mod remove;
mod restore;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use sovereign_hosts::evacuation::Evacuation;
use sovereign_hosts::record::{HostId, Known, Record};
use sovereign_hosts::{Connection, Finding, Keys, Login, Requirements, SshError, Verdict};
use sovereign_model::EdgeName;

pub(crate) use self::add::run as add;
pub(crate) use self::check::run as check;
pub(crate) use self::evacuate::run as evacuate;
pub(crate) use self::remove::{give_back, run as remove};
pub(crate) use self::restore::run as restore;
pub(crate) use self::upgrade::run as upgrade;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Cell, Page, Report, Table};
use crate::secrets::{self, HostKeys};

/// Connecting, over a slow line too.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Which hosts there are.
#[derive(Debug, Serialize)]
pub(crate) struct Hosts {
    hosts: Vec<Row>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    host: HostId,
    address: String,
    fingerprint: String,
    ready: bool,
    under_way: Option<String>,
    disk: Option<String>,
    /// By whom it was evacuated, from this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    evacuated: Option<Evacuation>,
}

impl Row {
    fn new(id: &HostId, known: &Known) -> Self {
        Self {
            host: id.clone(),
            address: known.address.to_string(),
            fingerprint: known.host_key.fingerprint().to_string(),
            ready: known.under_way.is_none() && known.ready_unix.is_some(),
            under_way: known.under_way.clone(),
            disk: known.disk.clone(),
            evacuated: known.evacuated.clone(),
        }
    }
}

impl Report for Hosts {
    fn show(&self, page: &mut Page) {
        if self.hosts.is_empty() {
            page.line("there are no hosts");
            return page.help("`sovereign host add root@ADDRESS --datacenter NAME` makes one ready");
        }
        let mut table = Table::new(["HOST", "ADDRESS", "STATE", "KEY"]);
        for row in &self.hosts {
            let state = match (&row.under_way, &row.evacuated) {
                (None, None) => Cell::from("ready"),
                (None, Some(note)) => Cell::from(note.text()),
                (Some(step), _) => Cell::styled(format!("not ready: stopped at {step}"), page.theme().warning),
            };
            table.row([Cell::from(&row.host), (&row.address).into(), state, (&row.fingerprint).into()]);
        }
        page.table(&table);
    }
}

/// `host list`.
pub(crate) fn list(context: &Context) -> Result<Hosts, Failure> {
    let declared = Declared::load(context)?;
    let record = Record::read(&declared.state.hosts_record())?;
    Ok(Hosts { hosts: record.hosts.iter().map(|(id, known)| Row::new(id, known)).collect() })
}

/// Nobody knows that host.
#[derive(Debug, thiserror::Error)]
#[error("there is no host {id}")]
struct NoHost {
    id: HostId,
    known: Vec<HostId>,
}

impl Reason for NoHost {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(if self.known.is_empty() {
            "`sovereign host add` makes one ready".to_owned()
        } else {
            format!("there are: {}", self.known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        })
    }
}

/// What is known of a host.
pub(super) fn known(declared: &Declared, id: &HostId) -> Result<Known, Failure> {
    let record = Record::read(&declared.state.hosts_record())?;
    match record.hosts.get(id) {
        Some(known) => Ok(known.clone()),
        None => Err(NoHost { id: id.clone(), known: record.hosts.into_keys().collect() }.into()),
    }
}

/// The addresses of the other hosts of a data center.
pub(super) fn peers(record: &Record, id: &HostId) -> BTreeSet<IpAddr> {
    record.peers(id)
}

/// What a host is to be, beside those that were ready once.
pub(super) fn required(
    declared: &Declared,
    keys: &HostKeys,
    record: &Record,
    id: &HostId,
    disk: Option<&str>,
) -> Requirements {
    let is_other = |(other, known): &(&HostId, &Known)| {
        other.datacenter == id.datacenter && *other != id && known.ready_unix.is_some()
    };
    Requirements {
        stack: declared.stack.name.clone(),
        seed: keys.seed.to_string(),
        datacenter: id.datacenter.clone(),
        host: id.host.clone(),
        disk: disk.map(str::to_owned),
        others: record.hosts.iter().filter(is_other).map(|(other, _)| other.host.clone()).collect(),
    }
}

/// How to log in with the given keys.
pub(super) fn login(declared: &Declared, id: &HostId, known: &Known, keys: Keys) -> Result<Login, Failure> {
    let folder = declared.state.host(&id.datacenter, &id.host);
    secrets::private_folder(&folder)?;
    let known_hosts = folder.join("known_hosts");
    Ok(Login { address: known.address.clone(), host_key: known.host_key.clone(), keys, known_hosts })
}

/// The key of the stack, and no other.
pub(super) fn ours(keys: &HostKeys) -> Keys {
    Keys { files: vec![keys.identity.clone()], agent: None }
}

async fn connect(declared: &Declared, login: Login) -> Result<Connection, SshError> {
    Connection::open(login, &declared.places.sockets(), PATIENCE).await
}

/// Hosts on which nothing was done, on purpose.
pub(super) fn show_evacuated(evacuated: &BTreeMap<EdgeName, String>, page: &mut Page) {
    for (host, note) in evacuated {
        page.line(format_args!("left alone: {host}: {note}"));
    }
}

/// What was found on a host, for people.
fn show(findings: &[Finding], page: &mut Page) {
    let theme = page.theme();
    let mut table = Table::new(["VERDICT", "OF", "FOUND"]);
    for finding in findings {
        let (word, style) = match finding.verdict {
            Verdict::Fine => ("fine", theme.good),
            Verdict::Warning => ("warning", theme.warning),
            Verdict::Refusal => ("in the way", theme.error),
        };
        table.row([Cell::styled(word, style), finding.subject.into(), Cell::from(&finding.sentence)]);
    }
    page.table(&table);
    for help in findings.iter().filter_map(|finding| Some((finding.subject, finding.help.as_ref()?))) {
        page.help(format_args!("{}: {}", help.0, help.1));
    }
}
