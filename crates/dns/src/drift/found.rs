//! One thing that differs from what the stack wants, in words: what it is, what it does to readers, who puts it right.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;
use sovereign_model::SecondaryName;

/// How bad something is: the first is the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Readers do not find the domain: all of them, or those whose resolver checks signatures.
    Vanishes,
    /// Some of them do not find it, or are told what is not so.
    Wrong,
    /// It could not be found out.
    Unknown,
    /// Nobody notices today.
    Minor,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Vanishes => "vanishes",
            Self::Wrong => "wrong",
            Self::Unknown => "unknown",
            Self::Minor => "minor",
        })
    }
}

/// A server at an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct At {
    /// Its name.
    pub name: String,
    /// The address.
    pub address: IpAddr,
}

/// Who puts it right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Whoever the domain is registered with: that is for the operator to tell them.
    Registrar(String),
    /// The registry itself, the zone above.
    Registry(String),
    /// Whoever answers for the domain, with these servers.
    Provider {
        /// Who.
        provider: String,
        /// Which of their servers.
        servers: Vec<At>,
        /// Whether the stack tells it.
        told: bool,
    },
    /// The stack's own name servers.
    NameServers(Vec<At>),
    /// Whoever has a copy of the zone.
    Secondary {
        /// Who.
        secondary: SecondaryName,
        /// Which of its servers.
        servers: Vec<At>,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |servers: &[At]| {
            let texts: Vec<String> = servers.iter().map(|at| format!("{} ({})", at.name, at.address)).collect();
            texts.join(", ")
        };
        match self {
            Self::Registrar(registrar) => write!(f, "registrar {registrar}"),
            Self::Registry(zone) if zone.is_empty() => f.write_str("root servers"),
            Self::Registry(zone) => write!(f, "registry of {zone}"),
            Self::Provider { provider, servers, .. } => write!(f, "provider {provider}, {}", list(servers)),
            Self::NameServers(servers) => write!(f, "name server {}", list(servers)),
            Self::Secondary { secondary, servers } => write!(f, "secondary {secondary}, {}", list(servers)),
        }
    }
}

/// Something that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// How bad it is.
    pub severity: Severity,
    /// Who puts it right.
    pub place: Place,
    /// What it is.
    #[serde(flatten)]
    pub what: What,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
#[expect(missing_docs, reason = "facts named by what they are; `Display` says the sentence")]
pub enum What {
    /// Nobody above answers.
    ParentSilent,
    /// There is no such domain.
    NotRegistered { parent: String },
    /// It leads nowhere.
    NotDelegated { parent: String },
    /// It leads to none of the stack's name servers.
    DelegatedElsewhere { parent: String, found: BTreeSet<String>, wanted: BTreeSet<String> },
    /// One of the stack's name servers is not known there.
    ServerMissing { parent: String, server: String, addresses: BTreeSet<IpAddr> },
    /// It leads to a server that is not the stack's, too.
    ServerForeign { parent: String, server: String },
    /// The addresses there are others.
    Glue { parent: String, server: String, wanted: BTreeSet<IpAddr>, found: BTreeSet<IpAddr> },
    /// Nobody says which digests there are.
    DigestsUnknown,
    /// No digest of the key is there.
    DigestMissing { parent: String, wanted: String },
    /// Digests are there, and none is of the stack's key.
    DigestWrong { parent: String, wanted: String, found: BTreeSet<String> },
    /// The digest of the stack's key is there, and others answer.
    DigestEarly { parent: String, found: BTreeSet<String> },
    /// Digests are there of whoever answers today.
    DigestOfBefore { parent: String, found: BTreeSet<String> },
    /// The digest there is of another type than the stack's.
    DigestUnchecked { parent: String, wanted: String, found: BTreeSet<String> },
    /// Digests of other keys are there, too.
    DigestForeign { parent: String, found: BTreeSet<String> },
    /// A server has no key that a digest leads to.
    KeyMissing { parent: String, found: BTreeSet<String> },
    /// A server says nothing.
    Silent { why: String },
    /// A server does not answer for the domain.
    Lame { how: String },
    /// No server does.
    NobodyAnswers,
    /// Records are others.
    Differs { owner: String, kind: String, wanted: BTreeSet<String>, found: BTreeSet<String> },
    /// A server did not answer a question.
    Unanswered { owner: String, kind: String },
    /// A server's zone is older than that of others.
    Behind { serial: u32, newest: u32 },
}

fn list<T: ToString>(all: &BTreeSet<T>) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl What {
    /// How bad it is, on name servers of the stack's own or of a provider.
    pub(super) fn severity(&self, is_own: bool) -> Severity {
        match self {
            Self::NotRegistered { .. }
            | Self::NotDelegated { .. }
            | Self::DigestWrong { .. }
            | Self::DigestEarly { .. }
            | Self::KeyMissing { .. }
            | Self::NobodyAnswers => Severity::Vanishes,
            Self::DelegatedElsewhere { .. }
            | Self::DigestOfBefore { .. }
            | Self::ServerMissing { .. }
            | Self::ServerForeign { .. }
            | Self::Glue { .. }
            | Self::Silent { .. }
            | Self::Lame { .. }
            | Self::Behind { .. } => Severity::Wrong,
            // At a provider there may be more than the stack knows of.
            Self::Differs { wanted, .. } if wanted.is_empty() && !is_own => Severity::Minor,
            Self::Differs { .. } => Severity::Wrong,
            Self::ParentSilent | Self::DigestsUnknown | Self::Unanswered { .. } => Severity::Unknown,
            Self::DigestMissing { .. } | Self::DigestForeign { .. } | Self::DigestUnchecked { .. } => Severity::Minor,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ParentSilent => f.write_str("none of the servers that were asked answers"),
            Self::NotRegistered { parent } => write!(f, "there is no such name in {parent}"),
            Self::NotDelegated { parent } => write!(f, "{parent} has no name servers for it"),
            Self::DelegatedElsewhere { parent, found, wanted } => {
                write!(f, "{parent} leads to {}, and not to {}", list(found), list(wanted))
            }
            Self::ServerMissing { parent, server, .. } => write!(f, "{parent} does not lead to {server}"),
            Self::ServerForeign { parent, server } => write!(f, "{parent} leads to {server}, which is not the stack's"),
            Self::Glue { parent, server, wanted, found } if found.is_empty() => {
                write!(f, "{parent} has no address of {server}: it is at {}", list(wanted))
            }
            Self::Glue { parent, server, wanted, found } => {
                write!(f, "{parent} has {server} at {}: it is at {}", list(found), list(wanted))
            }
            Self::DigestsUnknown => f.write_str("nobody says whether there is a DS record"),
            Self::DigestMissing { parent, .. } => {
                write!(f, "{parent} has no DS record, so nobody checks the signatures")
            }
            Self::DigestWrong { parent, found, .. } => write!(
                f,
                "{parent} has a DS record, and not of the stack's key: whoever checks signatures does not reach the \
                 domain. It is {}",
                list(found)
            ),
            Self::DigestEarly { parent, found } => write!(
                f,
                "{parent} has the DS record of the stack's key, and leads to others: whoever checks signatures does not \
                 reach the domain. It is {}",
                list(found)
            ),
            Self::DigestOfBefore { parent, found } => {
                write!(f, "{parent} has a DS record of whoever answers today: {}", list(found))
            }
            Self::DigestUnchecked { parent, found, .. } => {
                write!(f, "{parent} has a digest of the stack's key that is of another type: {}", list(found))
            }
            Self::DigestForeign { parent, found } => {
                write!(f, "{parent} has a DS record of another key, too: {}", list(found))
            }
            Self::KeyMissing { parent, found } => write!(
                f,
                "no key that the DS record at {parent} leads to is answered: whoever checks signatures does not \
                 believe these servers. It is {}",
                list(found)
            ),
            Self::Silent { why } => write!(f, "no answer: {why}"),
            Self::Lame { how } => write!(f, "it does not answer for the domain: {how}"),
            Self::NobodyAnswers => f.write_str("none of its servers answers for the domain"),
            Self::Differs { owner, kind, wanted, found } if found.is_empty() => {
                write!(f, "{owner} {kind} is missing: {}", list(wanted))
            }
            Self::Differs { owner, kind, wanted, found } if wanted.is_empty() => {
                write!(f, "{owner} {kind} is there, and the stack does not know of it: {}", list(found))
            }
            Self::Differs { owner, kind, wanted, found } => {
                write!(f, "{owner} {kind} is {}: wanted is {}", list(found), list(wanted))
            }
            Self::Unanswered { owner, kind } => write!(f, "{owner} {kind} was not answered"),
            Self::Behind { serial, newest } => write!(f, "its zone is number {serial}: others have {newest}"),
        }
    }
}

impl Drift {
    /// What to do about it.
    pub fn help(&self) -> String {
        match (&self.what, &self.place) {
            (What::ParentSilent | What::DigestsUnknown, _) => {
                "ask again later, or from a network whose router lets questions to port 53 through".to_owned()
            }
            (What::NotRegistered { .. }, _) => {
                "register it, or renew it; a domain that was let go is somebody else's soon".to_owned()
            }
            (What::NotDelegated { .. } | What::DelegatedElsewhere { .. }, _) => {
                "give it the name servers and addresses that `sovereign dns ds` lists; before that, see what would vanish: \
                 `sovereign dns adopt`"
                    .to_owned()
            }
            (What::ServerMissing { server, addresses, .. }, _) if addresses.is_empty() => {
                format!("add the name server {server} there")
            }
            (What::ServerMissing { server, addresses, .. }, _) => {
                format!("add the name server {server} there, with its addresses (glue): {}", list(addresses))
            }
            (What::ServerForeign { server, .. }, _) => format!("remove the name server {server} there"),
            (What::Glue { server, wanted, .. }, _) => {
                format!("change the addresses (glue) of {server} there: {}", list(wanted))
            }
            (What::DigestMissing { wanted, .. } | What::DigestUnchecked { wanted, .. }, _) => format!(
                "when every name server answers with signatures, give it there as `sovereign dns ds` has it: {wanted}"
            ),
            (What::DigestWrong { wanted, .. }, _) => {
                format!("remove it there now, and give the stack's, as `sovereign dns ds` has it: {wanted}")
            }
            (What::DigestEarly { .. }, _) => {
                "remove it there now; it is given when the stack's own name servers answer".to_owned()
            }
            (What::DigestOfBefore { .. }, _) => {
                "have it removed, and wait a day, before the name servers change".to_owned()
            }
            (What::DigestForeign { .. }, _) => {
                "remove it there, unless whoever has that key still answers for the domain".to_owned()
            }
            (What::KeyMissing { .. }, Place::Provider { provider, .. }) => {
                format!("remove the DS record at the registrar, or have {provider} sign the domain again")
            }
            (What::KeyMissing { .. }, _) => {
                "remove the DS record at the registrar until these servers answer with signatures".to_owned()
            }
            (What::Silent { .. } | What::NobodyAnswers, Place::NameServers(_)) => {
                "see that it runs, and that UDP and TCP port 53 lead to it; behind its own router a home does not reach \
                 its public address, so ask from elsewhere too"
                    .to_owned()
            }
            (What::Behind { .. } | What::Differs { .. }, Place::Secondary { secondary, .. }) => format!(
                "it gets the zone within seconds, within an hour where it heard of nothing; if it stays so, its owner needs \
                 what `sovereign dns secondary {secondary}` prints"
            ),
            (What::Silent { .. } | What::Lame { .. }, Place::Secondary { secondary, .. }) => format!(
                "ask its owner, who needs what `sovereign dns secondary {secondary}` prints; or take it out of the stack file, \
                 and have the registrar remove it"
            ),
            (What::Behind { .. } | What::Lame { .. } | What::Differs { .. }, Place::NameServers(_)) => {
                "bring what the stack file says to it".to_owned()
            }
            (What::Differs { owner, kind, wanted, .. }, _) if wanted.is_empty() => {
                format!("remove it there, or add it to the stack file: `records` of the domain ({owner} {kind})")
            }
            (What::Differs { owner, kind, wanted, found }, Place::Provider { provider, told: true, .. }) => {
                match found.is_superset(wanted) && !matches!(kind.as_str(), "A" | "AAAA") {
                    true => format!("keep what is yours in the stack file, or remove it at {provider} ({owner} {kind})"),
                    false => "`sovereign up` puts it right, and so does `sovereign tick`".to_owned(),
                }
            }
            (What::Differs { owner, kind, wanted, .. }, Place::Provider { provider, .. }) => {
                format!("change {owner} {kind} at {provider}: {}", list(wanted))
            }
            (What::Silent { .. } | What::NobodyAnswers | What::Lame { .. }, Place::Provider { provider, .. }) => {
                format!("ask {provider}, or have the registrar lead to servers that answer")
            }
            (What::Behind { .. }, Place::Provider { provider, .. }) => {
                format!("wait an hour; ask {provider} if it stays so")
            }
            _ => "ask again".to_owned(),
        }
    }
}
