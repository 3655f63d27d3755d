//! Certificates of public authorities: got and renewed from this machine, and handed to the edges.
//!
//! ```text
//!  stack file ─▶ wanted ─▶ certs::Renewer ─┬─ name_servers ─ control sockets ─▶ name servers
//!                              │           └─ HTTPS ─▶ authorities
//!                            store ─▶ hand ─▶ edges, which show them from the next handshake on
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `name_servers` | brings answers to challenges to name servers |
//! | `hand` | brings what is stored to the edges that serve the names |
//! | `taken` | brings back what edges show that is newer |
//! | [`back`] | brings them back from the archive |
//! | [`known`] | what is stored, and what is in the way |
//! | [`trust`] | what of an edge's certificates this stack believes in |
//!
//! Promise: nothing here fails a run. What an authority, a name server or an edge does not do is said, with what to do, and
//! tried again by the next run; what is in force stays so, and no edge is brought anything older than what it shows. Each
//! name stands alone.
//!
//! Left out: renewing from hosts while this machine is away, which renewers there do (`certs::daemon`); what they got is brought
//! back.

pub(crate) mod back;
mod hand;
pub(crate) mod known;
mod name_servers;
mod taken;
pub(crate) mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use sovereign_certs::turn::Turn;
use sovereign_certs::wanted::{self, Wanted};
use sovereign_certs::{Access, Moment, Options, Outcome, Pass, Renewer};
use sovereign_engine::incus::Reach;
use sovereign_model::layout::StateFolder;
use sovereign_model::{AuthorityName, DnsName, EdgeName, Stack};
use tokio_util::sync::CancellationToken;

pub(crate) use self::hand::Handed;
use self::name_servers::NameServers;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Page, Progress, Report, figures};
use crate::world::unix_seconds;

/// An authority and a name server answer within this, or count as away.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where all of it lies, and who is reached how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Certificates<'c> {
    pub(crate) stack: &'c Stack,
    pub(crate) state: &'c StateFolder,
    pub(crate) reach: &'c Reach,
    pub(crate) progress: &'c Progress,
}

/// What may be done in a run.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Nobody outside is asked: what there is is handed on.
    pub(crate) offline: bool,
    /// Names that get another certificate, however good theirs is, and no others any; all that is due where it is empty.
    pub(crate) anew: BTreeSet<DnsName>,
    /// Edges that are not looked for.
    pub(crate) left_out: BTreeSet<EdgeName>,
}

/// What a run came to.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Renewed {
    /// What edges had that is newer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    taken: BTreeMap<DnsName, Taken>,
    /// What was done for each name; empty when nothing was due.
    names: BTreeMap<DnsName, Name>,
    /// The edges that were brought something, or should have been.
    edges: BTreeMap<EdgeName, Handed>,
    /// What else is in the way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remarks: Vec<Said>,
    /// When something is due again, in seconds since 1970; `None` when it is not known.
    again_unix: Option<u64>,
}

/// A newer certificate that an edge had.
#[derive(Debug, Serialize)]
struct Taken {
    from: EdgeName,
    ends_unix: u64,
}

/// How a name stands after a run.
#[derive(Debug, Serialize)]
struct Name {
    #[serde(flatten)]
    came_to: CameTo,
    /// What failed on the way.
    failures: Vec<Said>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum CameTo {
    Issued { authority: AuthorityName, ends_unix: u64 },
    Good { due_unix: u64 },
    Waits { until_unix: u64, has_certificate: bool },
    Unknown,
}

/// Something in the way, and a way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Said {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Said {
    pub(crate) fn of(failure: &Failure) -> Self {
        Self { message: failure.chain().join(": "), help: failure.help() }
    }

    pub(crate) fn because(error: &(dyn std::error::Error + 'static), help: Option<String>) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self { message, help }
    }

    /// It, on a page.
    pub(crate) fn show(&self, page: &mut Page) {
        let warning = page.theme().warning;
        page.line(format_args!("  {warning}{}{warning:#}", self.message));
        if let Some(help) = &self.help {
            page.help(help);
        }
    }
}

impl<'c> Certificates<'c> {
    /// Gets and renews what is due, and hands everything to the edges; `None` where no authority is declared.
    pub(crate) async fn renew(self, rules: Rules, stop: &CancellationToken) -> Option<Renewed> {
        if self.stack.authorities.is_empty() {
            return None;
        }
        let Wanted { names: wanted, left: _ } = wanted(self.stack, self.state);
        let mut renewed = Renewed::default();
        if let Err(failure) = self.take_back(&wanted, &rules, &mut renewed).await {
            renewed.remarks.push(Said::of(&failure));
        }
        if !rules.offline && !wanted.is_empty() {
            let asked = |name: &DnsName| rules.anew.is_empty() || rules.anew.contains(name);
            let ordered = wanted.iter().filter(|(name, _)| asked(name)).map(|(name, of)| (name.clone(), of.clone()));
            if let Err(failure) = self.order(ordered.collect(), rules.anew.clone(), &mut renewed, stop).await {
                renewed.remarks.push(Said::of(&failure));
            }
        }
        if !stop.is_cancelled() {
            let handed = hand::hand(self, wanted.keys(), &rules.left_out).await;
            match handed {
                Ok(edges) => renewed.edges = edges,
                Err(failure) => renewed.remarks.push(Said::of(&failure)),
            }
        }
        Some(renewed)
    }

    /// Brings back what edges show that is newer than what is stored here.
    async fn take_back(
        self,
        wanted: &BTreeMap<DnsName, DnsName>,
        rules: &Rules,
        renewed: &mut Renewed,
    ) -> Result<(), Failure> {
        // What is in the way of asking an authority is said by whoever asks it.
        let (authorities, _) = trust::authorities(self.stack);
        if wanted.is_empty() || authorities.is_empty() {
            return Ok(());
        }
        let renewer = self.renewer(authorities, NameServers::default())?;
        taken::take_back(self, &renewer, wanted, &rules.left_out, renewed).await
    }

    /// When a run finds something to do, as far as is known here; `None` where authorities are asked for nothing.
    pub(crate) fn due(self) -> Option<Moment> {
        let Wanted { names: wanted, left: _ } = wanted(self.stack, self.state);
        if wanted.is_empty() {
            return None;
        }
        if !hand::is_handed(self, wanted.keys()) {
            return Some(Moment::LONG_AGO);
        }
        let (authorities, _) = trust::authorities(self.stack);
        let renewer = self.renewer(authorities, NameServers::default());
        // What cannot be read is said by a run.
        Some(renewer.map_or(Moment::LONG_AGO, |renewer| renewer.due(&wanted)))
    }

    /// Takes in a certificate that somebody else has got, as if `authority` had issued it here.
    pub(crate) fn import(
        self,
        name: &DnsName,
        authority: &AuthorityName,
        chain: &str,
        key: &str,
    ) -> Result<(), Failure> {
        let (authorities, _) = trust::authorities(self.stack);
        self.renewer(authorities, NameServers::default())?.import(name, authority, chain, key)?;
        Ok(())
    }

    fn renewer(self, authorities: Vec<Access>, servers: NameServers) -> Result<Renewer<NameServers>, Failure> {
        let (folder, turn) = (self.state.certificates(), Turn::FIRST);
        let options = Options { folder, authorities, patience: PATIENCE, turn };
        Ok(Renewer::new(options, servers, Arc::new(SystemTime::now))?)
    }

    /// Asks authorities for what is due.
    async fn order(
        self,
        wanted: BTreeMap<DnsName, DnsName>,
        anew: BTreeSet<DnsName>,
        renewed: &mut Renewed,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let (authorities, unusable) = trust::authorities(self.stack);
        renewed.remarks.extend(unusable);
        if authorities.is_empty() {
            return Ok(());
        }
        let servers = NameServers::default();
        let renewer = self.renewer(authorities, servers.clone())?;
        let due = renewer.due(&wanted);
        if due > SystemTime::now().into() && anew.is_empty() {
            renewed.again_unix = Some(due.seconds());
            return Ok(());
        }
        let stage = self.progress.stage("ask authorities for certificates");
        servers.find(self.stack, self.state, self.reach).await;
        let stop = stop.clone();
        // Each file is made durable as it is written: a thread of its own, which others need not wait for.
        let passed = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            let pass = runtime.block_on(stop.run_until_cancelled(renewer.renew(&wanted, &anew)))?;
            let names = pass.outcomes.keys();
            let has = |name: &&DnsName| renewer.store().state(name).is_ok_and(|state| state.held.is_some());
            let held: BTreeSet<DnsName> = names.filter(has).cloned().collect();
            Some((pass, held))
        });
        let Ok(Some((Pass { outcomes, again }, held))) = passed.await else { return Ok(()) };
        stage.finish();
        renewed.again_unix = Some(again.seconds());
        renewed.names.extend(outcomes.into_iter().map(|(name, outcome)| {
            let has_certificate = held.contains(&name);
            (name, Name::of(outcome, has_certificate))
        }));
        let untold = servers.untold().into_iter().map(|(at, why)| Said {
            message: format!("the name server of {at} was not told: {why}"),
            help: Some("`sovereign status` says how it is; the others are asked meanwhile".to_owned()),
        });
        renewed.remarks.extend(untold);
        Ok(())
    }
}

impl Name {
    fn of(outcome: Outcome, has_certificate: bool) -> Self {
        let said = |failures: Vec<sovereign_certs::Failure>| {
            failures.iter().map(|failure| Said::because(failure, failure.help())).collect()
        };
        let (came_to, failures) = match outcome {
            Outcome::Well { due } => (CameTo::Good { due_unix: due.seconds() }, Vec::new()),
            Outcome::Issued { authority, not_after, failures } => {
                (CameTo::Issued { authority, ends_unix: not_after.seconds() }, said(failures))
            }
            Outcome::Waits { until, failures } => {
                (CameTo::Waits { until_unix: until.seconds(), has_certificate }, said(failures))
            }
            Outcome::Unknown(error) => (CameTo::Unknown, vec![Said::because(&error, error.help())]),
        };
        Self { came_to, failures }
    }
}

impl Renewed {
    /// Whether there is nothing to say.
    pub(crate) fn is_quiet(&self) -> bool {
        let good = |name: &Name| matches!(name.came_to, CameTo::Good { .. });
        let nothing = self.taken.is_empty() && self.remarks.is_empty();
        nothing && self.names.values().all(good) && self.edges.values().all(Handed::is_quiet)
    }

    /// Whether every name has a certificate, and every edge what there is.
    pub(crate) fn is_well(&self) -> bool {
        let has = |name: &Name| match name.came_to {
            CameTo::Issued { .. } | CameTo::Good { .. } => true,
            CameTo::Waits { has_certificate, .. } => has_certificate,
            CameTo::Unknown => false,
        };
        self.names.values().all(has) && self.edges.values().all(Handed::is_well)
    }
}

impl Report for Renewed {
    fn exit(&self) -> Exit {
        if self.is_well() { Exit::Done } else { Exit::Attention }
    }

    fn show(&self, page: &mut Page) {
        let now = unix_seconds(SystemTime::now());
        let from_now = |unix: u64| figures::seconds(unix.saturating_sub(now));
        for (name, Taken { from, ends_unix }) in &self.taken {
            let ends = from_now(*ends_unix);
            page.line(format_args!("{name}: a newer one was brought back from {from}, ends in {ends}"));
        }
        for (name, Name { came_to, failures }) in &self.names {
            match came_to {
                CameTo::Issued { authority, ends_unix } => {
                    page.line(format_args!("{name}: issued by {authority}, ends in {}", from_now(*ends_unix)));
                }
                CameTo::Good { due_unix } => {
                    page.line(format_args!("{name}: good, renewed in {}", from_now(*due_unix)));
                }
                CameTo::Waits { until_unix, has_certificate } => {
                    let kept = if *has_certificate { ", what it has stays" } else { ", it has none" };
                    page.line(format_args!("{name}: tried again in {}{kept}", from_now(*until_unix)));
                }
                CameTo::Unknown => page.line(format_args!("{name}: what is known of it cannot be read")),
            }
            for said in failures {
                said.show(page);
            }
        }
        for (edge, handed) in &self.edges {
            handed.show(edge, page);
        }
        for said in &self.remarks {
            said.show(page);
        }
        if self.is_quiet() && self.names.is_empty() {
            match self.again_unix {
                Some(again) => {
                    page.line(format_args!("all certificates are good; the next is due in {}", from_now(again)))
                }
                None => page.line("every edge has what there is"),
            }
        }
    }
}

/// The names that authorities are asked for, and those that none is.
pub(crate) fn wanted(stack: &Stack, state: &StateFolder) -> Wanted {
    let wanted = wanted::wanted(stack);
    if name_servers::declared(stack, state).is_empty() { wanted.without_name_servers() } else { wanted }
}

/// The hour, as certificates have it.
pub(crate) fn now() -> Moment {
    SystemTime::now().into()
}
