//! Wanted × seen → what differs. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sovereign_model::SecondaryName;

use super::found::{At, Drift, Place, What};
use super::{OWN_LAG, Said, SaidZone, Seen, Set, Wanted};
use crate::ask::walk::{Delegation, Parent};
use crate::zone::Whose;

/// All that differs, the worst first.
pub fn compare(wanted: &Wanted, seen: &Seen) -> Vec<Drift> {
    let mut found = Found { wanted, drifts: Vec::new() };
    match &seen.parent {
        Parent::Silent { zone } => found.push(Place::Registry(zone.clone()), What::ParentSilent),
        Parent::NoSuchName { zone } => found.registrar(What::NotRegistered { parent: zone.clone() }),
        Parent::NotDelegated { zone } => found.registrar(What::NotDelegated { parent: zone.clone() }),
        Parent::Delegated(delegation) => {
            found.delegation(delegation);
            found.digests(delegation, seen);
        }
    }
    found.servers(seen);
    found.zones(seen);
    found.serials(seen);
    let mut drifts = found.drifts;
    drifts.sort_by_key(|drift| drift.severity);
    drifts
}

struct Found<'w> {
    wanted: &'w Wanted,
    drifts: Vec<Drift>,
}

/// The servers that say something of the domain, and what.
fn zones(seen: &Seen) -> impl Iterator<Item = (At, &SaidZone)> {
    seen.servers.iter().filter_map(|server| match &server.said {
        Said::Zone(zone) => Some((At { name: server.name.clone(), address: server.address }, zone)),
        Said::Nothing(_) | Said::NotMine(_) => None,
    })
}

impl Found<'_> {
    fn push(&mut self, place: Place, what: What) {
        let is_own = self.wanted.provider.is_none();
        self.drifts.push(Drift { severity: what.severity(is_own), place, what });
    }

    fn registrar(&mut self, what: What) {
        self.push(Place::Registrar(self.wanted.registrar.clone()), what);
    }

    /// Whoever has the zone, at these servers.
    fn answerer(&mut self, servers: Vec<At>, what: What) {
        if let Some(provider) = self.wanted.provider.clone() {
            let told = self.wanted.told;
            return self.push(Place::Provider { provider, servers, told }, what);
        }
        let mut of_others: BTreeMap<SecondaryName, Vec<At>> = BTreeMap::new();
        let mut own = Vec::new();
        for at in servers {
            match self.secondary(&at.name) {
                Some(name) => of_others.entry(name.clone()).or_default().push(at),
                None => own.push(at),
            }
        }
        if !own.is_empty() {
            self.push(Place::NameServers(own), what.clone());
        }
        for (secondary, servers) in of_others {
            self.push(Place::Secondary { secondary, servers }, what.clone());
        }
    }

    /// The secondary that a server of this name is.
    fn secondary(&self, server: &str) -> Option<&SecondaryName> {
        let server = self.wanted.name_servers.iter().find(|known| known.name.as_str() == server)?;
        match &server.whose {
            Whose::Secondary(name) => Some(name),
            Whose::Datacenter(_) => None,
        }
    }

    fn delegation(&mut self, delegation: &Delegation) {
        let Delegation { parent, servers, with_glue, .. } = delegation;
        let wanted = self.wanted;
        // Without servers of its own there is nowhere that it should lead.
        if wanted.provider.is_some() || wanted.name_servers.is_empty() {
            return;
        }
        let ours: BTreeMap<String, (&BTreeSet<IpAddr>, bool)> = wanted
            .name_servers
            .iter()
            .map(|server| (server.name.to_string(), (&server.addresses, server.glue(&wanted.domain).is_some())))
            .collect();
        if self.is_elsewhere(delegation) {
            let (found, wanted) = (servers.keys().cloned().collect(), ours.keys().cloned().collect());
            return self.registrar(What::DelegatedElsewhere { parent: parent.clone(), found, wanted });
        }
        for (name, (addresses, is_within)) in &ours {
            match servers.get(name) {
                None => self.registrar(What::ServerMissing {
                    parent: parent.clone(),
                    server: name.clone(),
                    addresses: if *is_within { (*addresses).clone() } else { BTreeSet::new() },
                }),
                Some(glue) if *with_glue && *is_within && glue != *addresses => self.registrar(What::Glue {
                    parent: parent.clone(),
                    server: name.clone(),
                    wanted: (*addresses).clone(),
                    found: glue.clone(),
                }),
                Some(_) => {}
            }
        }
        for name in servers.keys().filter(|name| !ours.contains_key(*name)) {
            self.registrar(What::ServerForeign { parent: parent.clone(), server: name.clone() });
        }
    }

    /// Whether none of the stack's name servers is known at the parent.
    fn is_elsewhere(&self, delegation: &Delegation) -> bool {
        let is_ours = |name: &String| self.wanted.name_servers.iter().any(|server| server.name.as_str() == name);
        self.wanted.provider.is_none() && !delegation.servers.keys().any(is_ours)
    }

    /// DS records at the parent, and the keys that servers have.
    fn digests(&mut self, delegation: &Delegation, seen: &Seen) {
        let parent = delegation.parent.clone();
        let Some(found) = &delegation.ds else {
            return self.push(Place::Registry(parent), What::DigestsUnknown);
        };
        if self.is_elsewhere(delegation) {
            // It is signed by somebody else today, and well. What matters is the order in which that ends.
            let (ours, others): (BTreeSet<String>, BTreeSet<String>) =
                found.iter().cloned().partition(|ds| self.wanted.is_of_ours(ds));
            if others.is_empty() && !ours.is_empty() {
                self.registrar(What::DigestEarly { parent, found: ours });
            } else if !others.is_empty() {
                self.registrar(What::DigestOfBefore { parent, found: others });
            }
            return;
        }
        let led_to: Vec<(u16, String)> = found.iter().filter_map(|ds| tag_and_algorithm(ds)).collect();
        // Each server needs a key that some DS record leads to; of the stack's own it is the stack's.
        if !found.is_empty() {
            let without = |zone: &SaidZone| {
                let keys = zone.keys.as_ref()?;
                let is_led_to =
                    |(tag, algorithm, _): &(u16, String, String)| led_to.contains(&(*tag, algorithm.clone()));
                (!keys.iter().any(is_led_to)).then_some(())
            };
            let servers: Vec<At> = zones(seen).filter_map(|(at, zone)| without(zone).map(|()| at)).collect();
            let is_known = self.wanted.provider.is_some()
                || self.wanted.signed.is_none()
                || found.iter().any(|ds| self.wanted.is_of_ours(ds));
            if !servers.is_empty() && is_known {
                let what = What::KeyMissing { parent: parent.clone(), found: found.clone() };
                self.answerer(servers, what);
            }
        }
        if self.wanted.provider.is_some() {
            return;
        }
        let Some(signed) = &self.wanted.signed else { return };
        let all: Vec<&String> = self.wanted.coming.iter().chain([signed]).map(|signed| &signed.ds).collect();
        let wanted = signed.ds.clone();
        let is_ours = |ds: &&String| all.iter().any(|ours| same(ds, ours));
        // Another digest of the same key, which is not computed here.
        let is_akin = |ds: &&String| all.iter().any(|ours| is_of_same_key(ds, ours) && kind(ds) != kind(ours));
        if found.is_empty() {
            self.registrar(What::DigestMissing { parent, wanted });
        } else if !found.iter().any(|ds| is_ours(&ds)) {
            if found.iter().any(|ds| is_akin(&ds)) {
                self.registrar(What::DigestUnchecked { parent, wanted, found: found.clone() });
            } else {
                self.registrar(What::DigestWrong { parent, wanted, found: found.clone() });
            }
        } else {
            let others: BTreeSet<String> = found.iter().filter(|ds| !is_ours(ds) && !is_akin(ds)).cloned().collect();
            if !others.is_empty() {
                self.registrar(What::DigestForeign { parent, found: others });
            }
        }
    }

    /// Servers that say nothing of the domain.
    fn servers(&mut self, seen: &Seen) {
        let mut says = false;
        for server in &seen.servers {
            let at = At { name: server.name.clone(), address: server.address };
            match &server.said {
                Said::Nothing(why) => self.answerer(vec![at], What::Silent { why: why.clone() }),
                Said::NotMine(how) => self.answerer(vec![at], What::Lame { how: how.clone() }),
                Said::Zone(_) => says = true,
            }
        }
        if !says && !seen.servers.is_empty() {
            let servers = seen.servers.iter().map(|server| At { name: server.name.clone(), address: server.address });
            let servers = servers.collect();
            let place = match self.wanted.provider.clone() {
                Some(provider) => Place::Provider { provider, servers, told: self.wanted.told },
                None => Place::NameServers(servers),
            };
            self.push(place, What::NobodyAnswers);
        }
    }

    /// What servers answer. What several answer in the same way is said once.
    fn zones(&mut self, seen: &Seen) {
        let mut differing: BTreeMap<(Set, BTreeSet<String>, BTreeSet<String>), Vec<At>> = BTreeMap::new();
        let mut unanswered: BTreeMap<Set, Vec<At>> = BTreeMap::new();
        for (at, zone) in zones(seen) {
            for set in &zone.unanswered {
                unanswered.entry(set.clone()).or_default().push(at.clone());
            }
            for (set, wanted, found) in self.differences(zone, seen) {
                differing.entry((set, wanted, found)).or_default().push(at.clone());
            }
        }
        for ((set, wanted, found), servers) in differing {
            let (owner, kind) = set;
            self.answerer(servers, What::Differs { owner, kind, wanted, found });
        }
        for ((owner, kind), servers) in unanswered {
            self.answerer(servers, What::Unanswered { owner, kind });
        }
    }

    fn differences(&self, zone: &SaidZone, seen: &Seen) -> Vec<(Set, BTreeSet<String>, BTreeSet<String>)> {
        let none = BTreeSet::new();
        let is_own = self.wanted.provider.is_none();
        let mut differing = Vec::new();
        for (set, found) in &zone.sets {
            let (owner, kind) = set;
            let wanted = match (&seen.parent, is_own) {
                // Who answers is the provider's own business, as long as the registry says the same.
                (Parent::Delegated(delegation), false) if self.is_apex_ns(set) => {
                    &delegation.servers.keys().map(|name| format!("{name}.")).collect()
                }
                (_, false) if self.is_apex_ns(set) => continue,
                _ => self.wanted.sets.get(set).unwrap_or(&none),
            };
            let is_open = self.wanted.open.contains(owner);
            let is_address = matches!(kind.as_str(), "A" | "AAAA");
            let differs = if self.wanted.living && is_address && self.wanted.by_health.contains(owner) {
                // Any of them, as long as there is one of either kind.
                let other = (owner.clone(), if kind == "A" { "AAAA" } else { "A" }.to_owned());
                let has_none = |set: &Set| zone.sets.get(set).is_none_or(BTreeSet::is_empty);
                let lacks_all = kind == "A" && has_none(set) && has_none(&other) && !zone.unanswered.contains(&other);
                let is_alias = found.iter().any(|data| data.starts_with("CNAME "));
                lacks_all || is_alias || (!is_open && !found.is_subset(wanted))
            } else if is_address && is_open {
                !found.is_superset(wanted)
            } else {
                found != wanted
            };
            if differs {
                differing.push((set.clone(), wanted.clone(), found.clone()));
            }
        }
        differing
    }

    fn is_apex_ns(&self, set: &Set) -> bool {
        set.0 == self.wanted.domain.as_str() && set.1 == "NS"
    }

    /// Servers whose zone is older than that of others.
    fn serials(&mut self, seen: &Seen) {
        let numbers: Vec<(At, u32)> = zones(seen).map(|(at, zone)| (at, zone.serial)).collect();
        // By RFC 1982: whichever no other one is ahead of.
        let newest = numbers
            .iter()
            .map(|(_, serial)| *serial)
            .reduce(|one, other| if ahead(other, one) > 0 { other } else { one });
        let Some(newest) = newest else { return };
        for (at, serial) in numbers {
            // Whoever has a copy has the newest: it is told of each change.
            let is_own = self.wanted.provider.is_none() && self.secondary(&at.name).is_none();
            let lag = if is_own { OWN_LAG } else { 0 };
            if i64::from(ahead(newest, serial)) > i64::from(lag) {
                self.answerer(vec![at], What::Behind { serial, newest });
            }
        }
    }
}

/// How far a serial number is ahead of another one (RFC 1982 section 3.2).
fn ahead(one: u32, other: u32) -> i32 {
    one.wrapping_sub(other).cast_signed()
}

/// Whether two DS records are of one key, as far as they say.
pub(crate) fn is_of_same_key(one: &str, other: &str) -> bool {
    tag_and_algorithm(one) == tag_and_algorithm(other)
}

fn tag_and_algorithm(ds: &str) -> Option<(u16, String)> {
    let mut words = ds.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.to_owned()))
}

/// The type of a digest.
fn kind(ds: &str) -> Option<&str> {
    ds.split_whitespace().nth(2)
}

/// Digits have no case, and the digest may be in several pieces (RFC 4034 section 5.3).
pub(crate) fn same(one: &str, other: &str) -> bool {
    let pieces = |ds: &str| {
        let words: Vec<&str> = ds.split_whitespace().collect();
        let head = words.get(..3).map(|head| head.join(" "));
        head.map(|head| (head, words[3..].concat().to_ascii_uppercase()))
    };
    pieces(one) == pieces(other)
}
