//! What is known of each name's certificate and of each authority, as it lies on disk.
//!
//! Promise: who takes over reads here all that was tried, by whom it was refused and when it may be tried again; nothing
//! of that is remembered elsewhere. Each name has a file of its own, so that what goes wrong with one is no other's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sovereign_model::{AuthorityName, DnsName};
use sovereign_runtime::certificate;

use crate::moment::Moment;
use crate::x509::Facts;

/// A window that an authority suggests for a renewal (RFC 9773 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Window {
    /// From then on.
    pub start: Moment,
    /// Until then.
    pub end: Moment,
}

/// A certificate that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Held {
    /// The folder it lies in.
    pub number: u64,
    /// Who issued it.
    pub authority: AuthorityName,
    /// When it was stored.
    pub stored: Moment,
    /// Valid from.
    pub not_before: Moment,
    /// Valid until.
    pub not_after: Moment,
    /// What its authority knows it by; `None` when it cannot be asked.
    pub id: Option<String>,
    /// The window that its authority suggested last.
    pub window: Option<Window>,
    /// When its authority is to be asked for the window again.
    pub ask: Moment,
    /// Whether it was revoked, so that another must take its place.
    pub revoked: bool,
    /// Another renewer has got it: it was seen at an edge, which keeps its key to itself.
    #[serde(default, skip_serializing_if = "is_not")]
    pub elsewhere: bool,
    /// It was got here, and the edge beside has its key now: it is kept here no longer.
    #[serde(default, skip_serializing_if = "is_not")]
    pub handed: bool,
}

/// For what is written down only when it is so.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_not(what: &bool) -> bool {
    !what
}

impl Held {
    /// One that `authority` has issued, of which `facts` are known; it is stored now. The store numbers it.
    pub(crate) fn new(authority: AuthorityName, facts: Facts, now: Moment) -> Self {
        let Facts { not_before, not_after, id } = facts;
        Self {
            number: 0,
            authority,
            stored: now,
            not_before,
            not_after,
            id,
            window: None,
            ask: Moment::LONG_AGO,
            revoked: false,
            elsewhere: false,
            handed: false,
        }
    }
}

/// Something failed, and is not tried again before a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hold {
    /// How often it failed in a row.
    pub failures: u32,
    /// Not before then.
    pub until: Moment,
    /// What was said last, for people.
    pub why: String,
}

/// Something was begun, and nobody wrote down how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Begun {
    /// With which authority.
    pub authority: AuthorityName,
    /// When, last.
    pub at: Moment,
    /// How often in a row.
    pub times: u32,
}

/// An order that is open at an authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Order {
    /// At which.
    pub authority: AuthorityName,
    /// What the authority calls it.
    pub url: String,
    /// Since when.
    pub since: Moment,
}

/// All that is known of the certificate of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NameState {
    pub(crate) version: u32,
    /// The name.
    pub name: DnsName,
    /// What is served.
    pub held: Option<Held>,
    /// What was served before.
    pub previous: Option<Held>,
    /// What was begun last, while nobody knows how it ended.
    pub begun: Option<Begun>,
    /// The order that is open.
    pub order: Option<Order>,
    /// What fails on this side: trying another authority would not help.
    pub ours: Option<Hold>,
    /// Authorities that refused the name.
    pub refused: BTreeMap<AuthorityName, Hold>,
    /// When it was tried last with each authority, however that ended: so many times as matter.
    pub tried: BTreeMap<AuthorityName, Vec<Moment>>,
}

impl NameState {
    /// Nothing is known yet.
    pub fn new(name: DnsName) -> Self {
        Self {
            version: VERSION,
            name,
            held: None,
            previous: None,
            begun: None,
            order: None,
            ours: None,
            refused: BTreeMap::new(),
            tried: BTreeMap::new(),
        }
    }

    /// Whether a certificate that is valid from `not_before` was issued later than what is held ([`certificate::is_newer`]).
    pub fn is_older_than(&self, not_before: Moment) -> bool {
        self.held.as_ref().is_none_or(|held| certificate::is_newer(not_before.into(), held.not_before.into()))
    }

    /// A newer certificate has come from elsewhere: what was tried to get one before it counts no more.
    pub fn settled(&mut self) {
        (self.begun, self.ours, self.order) = (None, None, None);
        self.refused.clear();
    }
}

/// All that is known of an authority, whatever the name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AuthorityState {
    pub(crate) version: u32,
    /// The directory that the account was made at: another one is another authority, whatever it is called.
    pub directory: String,
    /// The account, as the authority calls it; `None` before there is one.
    pub account: Option<String>,
    /// It is away, or of no use to anyone at present.
    pub whole: Option<Hold>,
    /// It has issued enough for a domain at present.
    pub domains: BTreeMap<DnsName, Hold>,
}

impl AuthorityState {
    /// Nothing is known yet.
    pub fn new(directory: String) -> Self {
        Self { version: VERSION, directory, account: None, whole: None, domains: BTreeMap::new() }
    }
}

/// The format of both files.
pub(crate) const VERSION: u32 = 1;
