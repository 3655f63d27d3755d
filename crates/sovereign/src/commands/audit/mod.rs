//! `sovereign audit`.

mod here;
mod host;

use std::collections::BTreeSet;

use serde::Serialize;
use sovereign_engine::incus::Reach;
use sovereign_hosts::audit::{Answers, Finding, Findings, Open, Verdict};
use sovereign_hosts::facts::Protocol;
use sovereign_hosts::record::{HostId, Record};
use sovereign_model::EdgeName;
use sovereign_model::layout::on_host;
use sovereign_model::stack::EngineKind;

use super::host::{known, login, ours};
use crate::cli::AuditArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::deployment::Deployment;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Cell, Page, Report, Table};
use crate::secrets;

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Audit {
    hosts: Vec<OnHost>,
    /// This machine, when it runs a part of the stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    here: Option<Vec<Finding>>,
}

/// One host.
#[derive(Debug, Serialize)]
struct OnHost {
    host: HostId,
    address: String,
    /// All that listens there.
    open: Vec<Open>,
    /// What answered from outside; nothing when that could not be tried.
    outside: Option<Answers>,
    findings: Vec<Finding>,
}

impl Report for Audit {
    fn show(&self, page: &mut Page) {
        for host in &self.hosts {
            page.title(format_args!("{} ({})", host.host, host.address));
            host.show_open(page);
            show(&host.findings, page);
        }
        if let Some(findings) = &self.here {
            page.title("This machine");
            show(findings, page);
        }
        if self.hosts.is_empty() && self.here.is_none() {
            page.line("there are no hosts, and nothing runs on this machine");
        }
    }

    fn exit(&self) -> Exit {
        let here = self.here.iter().flatten();
        match self.hosts.iter().flat_map(|host| &host.findings).chain(here).map(|finding| finding.verdict).max() {
            Some(Verdict::Drift) => Exit::Attention,
            Some(Verdict::Unseen) => Exit::Failed,
            Some(Verdict::Fine | Verdict::Warning) | None => Exit::Done,
        }
    }
}

impl OnHost {
    fn show_open(&self, page: &mut Page) {
        if self.open.is_empty() {
            return;
        }
        let theme = page.theme();
        let mut table = Table::new([">PORT", "AT", "WHO", "WHY", "FROM OUTSIDE"]);
        for Open { listener, why } in &self.open {
            let answers = self.outside.as_ref().map(|answers| answers.open.contains(&listener.port));
            // Who answered at a port that several have is the one at the address that was tried.
            let is_another = |other: &Open| {
                let other = &other.listener;
                (other.port, other.protocol) == (listener.port, listener.protocol) && other.address != listener.address
            };
            let elsewhere = listener.address.is_some_and(|at| !self.address.contains(&at.to_string()))
                && self.open.iter().any(is_another);
            let outside = match (listener.protocol, answers) {
                (Protocol::Udp, _) | (_, None) => "not tried",
                (Protocol::Tcp, _) if elsewhere => "not tried",
                (Protocol::Tcp, Some(true)) => "answers",
                (Protocol::Tcp, Some(false)) => "closed",
            };
            table.row([
                Cell::from(format!("{}/{}", listener.port, listener.protocol)),
                listener.address.map(|address| address.to_string()).unwrap_or_default().into(),
                listener.owners.join(", ").into(),
                why.map_or_else(|| Cell::styled("nobody knows", theme.error), Cell::from),
                outside.into(),
            ]);
        }
        page.table(&table);
    }
}

fn show(findings: &[Finding], page: &mut Page) {
    let theme = page.theme();
    let mut table = Table::new(["VERDICT", "OF", "FOUND"]);
    for Finding { verdict, subject, sentence, .. } in findings {
        let style = match verdict {
            Verdict::Fine => theme.good,
            Verdict::Warning | Verdict::Unseen => theme.warning,
            Verdict::Drift => theme.error,
        };
        table.row([Cell::styled(verdict.to_string(), style), (*subject).into(), sentence.into()]);
    }
    page.gap();
    page.table(&table);
    let mut said = BTreeSet::new();
    for help in findings.iter().filter_map(|finding| Some((finding.subject, finding.help.as_ref()?))) {
        if said.insert(help) {
            page.help(format_args!("{}: {}", help.0, help.1));
        }
    }
}

/// Looks at one host, or at all and at this machine.
pub(crate) fn run(context: &Context, args: &AuditArgs) -> Result<Audit, Failure> {
    let declared = Declared::load(context)?;
    let deployment = Deployment::new(declared.clone())?;
    let record = Record::read(&declared.state.hosts_record())?;
    let chosen = match &args.host {
        Some(id) => vec![(id.clone(), known(&declared, id)?)],
        None => record.hosts.clone().into_iter().collect(),
    };
    let keys = secrets::open(context, &declared.stack, &declared.state)?;
    let joined = deployment.joined(&keys)?;
    let mut logins = Vec::new();
    let mut asked = Vec::new();
    if !chosen.is_empty() {
        let host_keys = secrets::hosts(context, &declared.stack, &declared.state)?;
        for (id, known) in chosen {
            let edge = EdgeName { datacenter: id.datacenter.clone(), host: Some(id.host.clone()) };
            logins.push((edge.clone(), login(&declared, &id, &known, ours(&host_keys))?));
            asked.push(host::Asked::new(&declared, &joined, &host_keys, &record, edge, id, known));
        }
    }
    let reach = Reach::new(logins, declared.places.sockets(), on_host::state(&declared.stack.name));
    let is_here = declared.stack.datacenters.values().any(|datacenter| datacenter.engine == EngineKind::Embedded);
    let (declared, joined, record) = (&declared, &joined, &record);
    interrupt::run(&context.output, |stop| async move {
        let look = async {
            let (all, here) = tokio::join!(host::all(&declared.stack.name, &reach, asked), async {
                if is_here && args.host.is_none() { Some(here::look(declared, joined).await) } else { None }
            });
            (all, here)
        };
        let (mut hosts, here) = tokio::select! {
            looked = look => looked,
            () = stop.cancelled() => (Vec::new(), None),
        };
        if args.host.is_none() {
            hosts.extend(declared.stack.edges_on_hosts().filter_map(|edge| not_ready(&edge, record)));
        }
        hosts.sort_by(|one, other| one.host.cmp(&other.host));
        Ok(Audit { hosts, here })
    })
}

/// A host that the stack file declares and nobody has made ready.
fn not_ready(edge: &EdgeName, record: &Record) -> Option<OnHost> {
    let id = HostId { datacenter: edge.datacenter.clone(), host: edge.host.clone()? };
    if record.hosts.contains_key(&id) {
        return None;
    }
    let mut all = Findings::new();
    let help = format!("`sovereign host add root@ADDRESS --datacenter {} --name {}`", id.datacenter, id.host);
    all.unseen("connection", "nobody has made it ready for this stack", help);
    let findings = all.into_all();
    Some(OnHost { host: id, address: "declared".to_owned(), open: Vec::new(), outside: None, findings })
}
