//! What is open on a host, and what of it is not as it should be: from inside by one script, from outside by connecting.
//!
//! ```text
//!  what is wanted ──┐
//!  script's words ──┼─▶ findings, all at once
//!  who answered   ──┘
//! ```
//!
//! Promise: looking changes nothing; what a host says is bounded and parsed as a stranger's words; judging is pure. What
//! could not be compared is said and is never taken for fine.
//!
//! Left out: a host whose kernel or tools lie, since they are asked; UDP from outside, which does not answer to strangers;
//! what is in the host's Incus (the engine).

mod files;
mod inside;
mod outside;
mod parse;
mod ports;
mod rules;
#[cfg(test)]
mod tests;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use sovereign_model::Digest;

pub use inside::inside;
pub use outside::{Answers, TRIED_AT_ONCE, outside, ports as ports_to_try, scan};
pub use parse::NotSeen;
pub use ports::Open;

use crate::connection::Connection;
use crate::error::SshError;
use crate::facts::{Facts, Listener};
use crate::folder;
use crate::ready::Authorized;
use crate::run::Run;
use crate::systemd::UnitFile;

/// Units, rules and file names; a host with a thousand of each has less to say.
const LONGEST_ANSWER: usize = 8 << 20;
/// Programs are read as a whole.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the rules of a host lie that are loaded at every start.
const HOST_RULES: &str = crate::ready::RULES_FILE;
/// Likewise those between its instances.
const INSTANCES_RULES: &str = "/etc/sovereign/instances.nft";

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// Not the stack's, and somebody should know.
    Warning,
    /// It could not be compared.
    Unseen,
    /// It is not as it should be.
    Drift,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fine => "fine",
            Self::Warning => "warning",
            Self::Unseen => "not seen",
            Self::Drift => "drift",
        })
    }
}

/// One thing that was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// What was compared.
    pub subject: &'static str,
    /// What was found.
    pub sentence: String,
    /// The way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// Findings as they are gathered.
#[derive(Debug, Default)]
pub struct Findings {
    all: Vec<Finding>,
}

impl Findings {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// As it should be.
    pub fn fine(&mut self, subject: &'static str, sentence: impl fmt::Display) {
        self.add(Verdict::Fine, subject, sentence, None);
    }

    /// Not the stack's.
    pub fn warn(&mut self, subject: &'static str, sentence: impl fmt::Display, help: impl fmt::Display) {
        self.add(Verdict::Warning, subject, sentence, Some(help.to_string()));
    }

    /// It could not be compared.
    pub fn unseen(&mut self, subject: &'static str, sentence: impl fmt::Display, help: impl fmt::Display) {
        self.add(Verdict::Unseen, subject, sentence, Some(help.to_string()));
    }

    /// Not as it should be.
    pub fn drift(&mut self, subject: &'static str, sentence: impl fmt::Display, help: impl fmt::Display) {
        self.add(Verdict::Drift, subject, sentence, Some(help.to_string()));
    }

    /// Says that a subject is fine, unless something else was said of it.
    pub fn else_fine(&mut self, subject: &'static str, sentence: impl fmt::Display) {
        if self.all.iter().all(|finding| finding.subject != subject || finding.verdict == Verdict::Fine) {
            self.fine(subject, sentence);
        }
    }

    /// Those of another look.
    pub fn extend(&mut self, others: impl IntoIterator<Item = Finding>) {
        self.all.extend(others);
    }

    /// All of them, in the order they were found in.
    pub fn into_all(self) -> Vec<Finding> {
        self.all
    }

    fn add(&mut self, verdict: Verdict, subject: &'static str, sentence: impl fmt::Display, help: Option<String>) {
        self.all.push(Finding { verdict, subject, sentence: sentence.to_string(), help });
    }
}

/// A unit of the host's own, as it should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The unit, for people.
    pub unit: String,
    /// Its service.
    pub name: String,
    /// The link by which that starts at boot.
    pub alias: String,
    /// The program it runs: where it lies, and its digest.
    pub program: (PathBuf, Digest),
}

/// What a host should be like.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its data center and name, for sentences that say what to do.
    pub host: String,
    /// The files of all units, those that only pass if they are there ([`Wanted::may_lack`]) included.
    pub units: Vec<UnitFile>,
    /// Units that need not be there.
    pub may_lack: BTreeSet<String>,
    /// The services that run, the edge's among them. Nothing when none is described.
    pub services: Vec<Service>,
    /// What the edge listens on.
    pub sockets: Vec<std::net::SocketAddr>,
    /// Who may come in.
    pub authorized: Authorized,
    /// How the comments of the stack's keys begin.
    pub comments: String,
    /// The folder of the stack's state there, and that of its edge.
    pub state: PathBuf,
    /// The edge's.
    pub edge: PathBuf,
    /// The agent's, which need not be there.
    pub agent: PathBuf,
    /// The name server's, likewise.
    pub name_server: PathBuf,
    /// The renewer's, likewise.
    pub renewer: PathBuf,
    /// Where the name server takes questions, by UDP and TCP. Nothing when there is none.
    pub asked: Vec<std::net::SocketAddr>,
    /// What listened before the host was made ready, and stays open. `None`: it was not written down.
    pub open_before: Option<Vec<Listener>>,
    /// The other hosts of the data center.
    pub peers: BTreeSet<IpAddr>,
    /// Rules for packets between instances; `None` when there are no instances.
    pub instances: Option<String>,
}

impl Wanted {
    /// The rules for packets, by the files that they are loaded from at every start.
    fn rules(&self, facts: &Facts) -> BTreeMap<&'static str, String> {
        let before = self.open_before.as_deref().unwrap_or_default();
        let host = crate::ready::wanted_rules(facts.ssh_port, before, &self.peers);
        let instances = self.instances.iter().map(|text| (INSTANCES_RULES, text.clone()));
        [(HOST_RULES, host)].into_iter().chain(instances).collect()
    }
}

/// What the script said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// The tables of nftables.
    pub tables: BTreeSet<String>,
    /// What is in those of ours, line by line.
    pub loaded: BTreeMap<String, Vec<String>>,
    /// The same of the wanted ones; nothing when the host cannot say.
    pub wanted: Option<BTreeMap<String, Vec<String>>>,
    /// What is loaded at every start, by its file.
    pub at_boot: BTreeMap<String, Vec<String>>,
    /// Units whose names are ours.
    pub units: BTreeMap<String, Unit>,
    /// Files and folders.
    pub files: BTreeMap<PathBuf, File>,
    /// Sets of files of sites that are not as they were sent.
    pub changed: Vec<String>,
    /// Programs and their digests.
    pub programs: BTreeMap<PathBuf, String>,
    /// Lines of `authorized_keys`.
    pub authorized: Vec<String>,
}

/// A unit as the host has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// Its file.
    pub text: Option<String>,
    /// Where it leads, when it is a link.
    pub link: Option<String>,
    /// What systemd says of it.
    pub properties: BTreeMap<String, String>,
    /// The digest of the program that runs, and where it lies.
    pub runs: Option<(String, String)>,
}

/// A file or a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Permission bits.
    pub mode: u32,
    /// `root:sovereign`.
    pub owner: String,
    /// `f`, `d`, `l`.
    pub kind: char,
}

/// What says it.
fn script() -> String {
    [folder::WHOLE, include_str!("audit.sh")].concat()
}

impl Seen {
    /// Asks a host that said what it is.
    ///
    /// # Errors
    /// When it does not answer, or says what cannot be understood.
    pub async fn gather(connection: &Connection, wanted: &Wanted, facts: &Facts) -> Result<Self, SshError> {
        let run = Run::script("say what is to be compared", &script()).args([&wanted.state, &wanted.edge]);
        let rules: String = wanted.rules(facts).into_values().collect();
        let run = run.input(rules).answers_at_most(LONGEST_ANSWER).within(PATIENCE);
        let answer = connection.succeed(&run).await?;
        let nonsense =
            |error: NotSeen| SshError::Nonsense { host: connection.address().clone(), why: error.to_string() };
        Self::parse(&answer).map_err(nonsense)
    }
}
