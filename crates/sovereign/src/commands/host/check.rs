//! `sovereign host check`.

use std::sync::Arc;

use serde::Serialize;
use sovereign_hosts::evacuation::Evacuation;
use sovereign_hosts::facts::Incus;
use sovereign_hosts::marker::Found;
use sovereign_hosts::ready::{NEEDED, Step};
use sovereign_hosts::record::{HostId, Known, Record};
use sovereign_hosts::{Facts, Finding, Requirements, Verdict, findings};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cli::HostCheckArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Page, Report};
use crate::secrets;

/// So many hosts are talked to at once.
const AT_ONCE: usize = 8;

/// What was found on hosts.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    hosts: Vec<Host>,
}

#[derive(Debug, Serialize)]
struct Host {
    host: HostId,
    address: String,
    /// What it is; nothing when it cannot be asked.
    facts: Option<Facts>,
    findings: Vec<Finding>,
}

impl Host {
    fn worst(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Fine)
    }
}

impl Report for Checked {
    fn show(&self, page: &mut Page) {
        for host in &self.hosts {
            page.title(format_args!("{} ({})", host.host, host.address));
            super::show(&host.findings, page);
        }
        if self.hosts.is_empty() {
            page.line("there are no hosts");
        }
    }

    fn exit(&self) -> Exit {
        if self.hosts.iter().any(|host| host.worst() > Verdict::Fine) { Exit::Attention } else { Exit::Done }
    }
}

/// Looks at one host, or all at once.
pub(crate) fn run(context: &Context, args: &HostCheckArgs) -> Result<Checked, Failure> {
    let declared = Declared::load(context)?;
    let record = Record::read(&declared.state.hosts_record())?;
    let chosen: Vec<(HostId, Known)> = match &args.host {
        Some(id) => vec![(id.clone(), super::known(&declared, id)?)],
        None => record.hosts.clone().into_iter().collect(),
    };
    if chosen.is_empty() {
        return Ok(Checked { hosts: Vec::new() });
    }
    let keys = secrets::hosts(context, &declared.stack, &declared.state)?;
    let mut asked = Vec::new();
    for (id, known) in chosen {
        let login = super::login(&declared, &id, &known, super::ours(&keys))?;
        let required = super::required(&declared, &keys, &record, &id, known.disk.as_deref());
        asked.push((id, known, login, required));
    }
    let sockets = declared.places.sockets();
    interrupt::run(&context.output, |stop| async move {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut all = JoinSet::new();
        for (id, known, login, required) in asked {
            let (turns, sockets, stop) = (Arc::clone(&turns), sockets.clone(), stop.clone());
            all.spawn(async move {
                let _turn = turns.acquire().await; // never closed
                let look = async {
                    let host = sovereign_hosts::Connection::open(login, &sockets, super::PATIENCE).await?;
                    let facts = Facts::gather(&host).await?;
                    let is_stuck = |incus: &Incus| incus.clustered && incus.members.is_none();
                    let answers =
                        facts.incus.as_ref().is_some_and(|incus| !incus.version.is_empty() && !is_stuck(incus));
                    let api = if answers { Some(super::api::look(&host, &id).await?) } else { None };
                    let evacuated = Evacuation::read(&host).await?;
                    host.close().await;
                    Ok::<_, sovereign_hosts::SshError>((
                        facts,
                        api.into_iter().chain(evacuated.map(|note| aside(&note, &id))).collect(),
                    ))
                };
                let looked = tokio::select! {
                    looked = look => looked,
                    () = stop.cancelled() => return None,
                };
                Some(judged(id, &known, &required, looked))
            });
        }
        let mut hosts: Vec<Host> = all.join_all().await.into_iter().flatten().collect();
        hosts.sort_by(|one, other| one.host.cmp(&other.host));
        Ok(Checked { hosts })
    })
}

/// That it is evacuated on purpose is no trouble.
fn aside(note: &Evacuation, id: &HostId) -> Finding {
    let help = Some(format!("`sovereign host restore {id}` brings it back"));
    Finding { verdict: Verdict::Fine, subject: "evacuation", sentence: note.text(), help }
}

fn judged(
    id: HostId,
    known: &Known,
    required: &Requirements,
    looked: Result<(Facts, Vec<Finding>), sovereign_hosts::SshError>,
) -> Host {
    let (facts, found) = match looked {
        Ok((facts, more)) => {
            let mut found = findings(&facts, required);
            found.extend(more);
            found.extend(drift(&facts, required));
            (Some(facts), found)
        }
        Err(error) => {
            let (sentence, help) = (error.to_string(), error.help());
            let silent = Finding { verdict: Verdict::Refusal, subject: "connection", sentence, help };
            // Evacuated from here, it may well be switched off.
            let aside = known.evacuated.as_ref().map(|note| aside(note, &id));
            let verdict = if aside.is_some() { Verdict::Fine } else { silent.verdict };
            (None, aside.into_iter().chain([Finding { verdict, ..silent }]).collect())
        }
    };
    Host { host: id, address: known.address.to_string(), facts, findings: found }
}

/// What was made once and is not there any more.
fn drift(facts: &Facts, required: &Requirements) -> Vec<Finding> {
    let again = format!("run `sovereign host add` for {}/{} again", required.datacenter, required.host);
    let gone =
        |subject, sentence: String| Finding { verdict: Verdict::Refusal, subject, sentence, help: Some(again.clone()) };
    let Some(Found::Marker(marker)) = &facts.marker else {
        return vec![gone("owner", "it has no mark of this stack any more".to_owned())];
    };
    let undone: Vec<Step> =
        Step::ALL.into_iter().filter(|step| !marker.done.iter().any(|done| done == step.name())).collect();
    if !undone.is_empty() {
        let steps: Vec<_> = undone.iter().map(ToString::to_string).collect();
        return vec![gone("ready", format!("still to be done: {}", steps.join(", ")))];
    }
    let mut found = Vec::new();
    let lacking: Vec<_> = NEEDED.into_iter().filter(|package| !facts.packages.contains_key(*package)).collect();
    if !lacking.is_empty() {
        found.push(gone("packages", format!("not installed: {}", lacking.join(", "))));
    }
    if !facts.tables.contains("inet sovereign") {
        found.push(gone("packet filter", "the rules for packets are gone".to_owned()));
    }
    match &facts.incus {
        // Said already.
        Some(incus) if incus.version.is_empty() || (incus.clustered && incus.members.is_none()) => {}
        Some(incus) => {
            if !incus.pools.contains("sovereign") {
                found.push(gone("storage", "the pool sovereign is gone".to_owned()));
            }
            if !incus.projects.contains("sovereign") {
                found.push(gone("incus", "the project sovereign is gone".to_owned()));
            }
            if !incus.clustered && !required.others.is_empty() {
                let others: Vec<_> = required.others.iter().map(ToString::to_string).collect();
                found.push(gone("cluster", format!("it is not in one with {}", others.join(", "))));
            }
        }
        None => found.push(gone("incus", "it is not there any more".to_owned())),
    }
    found
}
