//! What is said about domains: their names, and the records that the operator adds to those of the stack.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::{Check, jurisdiction};
use crate::dns_record::{DnsRecord, NotARecord, NotARecordSet, RecordSet, is_within};
use crate::file::problem::{Finding, ProblemKind};
use crate::file::reader::Node;
use crate::name::{DatacenterName, DnsName, SiteName};
use crate::secondary::Secondary;
use crate::stack::{Domain, Mail, Site, name_server};

/// What the stack itself, or the signing of its zones, puts into a zone.
const KEPT_BY_THE_STACK: &[&str] =
    &["SOA", "DNSKEY", "CDS", "CDNSKEY", "RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "ZONEMD"];

impl Check<'_> {
    pub(super) fn domains(
        &mut self,
        nodes: &[Node],
        file: &Node,
        secondaries: &[Secondary],
    ) -> BTreeMap<DnsName, Domain> {
        let mut seen = BTreeMap::new();
        let mut domains = BTreeMap::new();
        for node in nodes {
            let Some(name) = node.parse::<DnsName>("name") else { continue };
            self.unique(&mut seen, name.clone(), &format!("domain `{name}`"), node.span_of("name"));
            let records = self.records(node, &name);
            let mail = self.mail(node, &name, &records);
            let drop = self.dropped(node, &name);
            let secondaries = self.secondaries_of(node, file, secondaries);
            let Some(registrar) = node.owned("registrar") else { continue };
            let (provider, jurisdiction) = (node.owned("provider"), jurisdiction(node));
            let records = records.into_iter().map(|(record, _)| record).collect();
            let domain = Domain { name, registrar, provider, secondaries, jurisdiction, mail, records, drop };
            domains.insert(domain.name.clone(), domain);
        }
        domains
    }

    fn records(&mut self, node: &Node, origin: &DnsName) -> Vec<(DnsRecord, Range<usize>)> {
        let mut records: Vec<(DnsRecord, Range<usize>)> = Vec::new();
        for text in node.texts("records") {
            let record = match DnsRecord::parse(text.get_ref(), origin) {
                Ok(record) => record,
                Err(not) => {
                    let help = match &not {
                        NotARecord::Comment => "put what has a `;` between quotes: `'_dmarc TXT \"v=DMARC1; p=none\"'`",
                        _ => "write it as in a zone file: `'@ TXT \"some text\"'`, `'shop CNAME shops.example.net.'`",
                    };
                    self.find(Finding::new(ProblemKind::BadValue, text.span(), not.to_string()).help(help));
                    continue;
                }
            };
            if let Some(finding) = not_the_operators(&record, origin, &records, text.span()) {
                self.find(finding);
            } else {
                records.push((record, text.span()));
            }
        }
        records
    }

    fn dropped(&mut self, node: &Node, origin: &DnsName) -> Vec<RecordSet> {
        let mut dropped: Vec<(RecordSet, Range<usize>)> = Vec::new();
        for text in node.texts("drop") {
            let set = match RecordSet::parse(text.get_ref(), origin) {
                Ok(set) => set,
                Err(not) => {
                    let help = match &not {
                        NotARecordSet::Form => "write the name, relative to the domain, and the type: `\"old TXT\"`",
                        NotARecordSet::Type(_) => "types are `A`, `MX`, `TXT` and so on; several are several entries",
                    };
                    self.find(Finding::new(ProblemKind::BadValue, text.span(), not.to_string()).help(help));
                    continue;
                }
            };
            let finding = if !is_within(&set.owner, origin.as_str()) {
                let message = format!("`{}` is not within `{origin}`", set.owner);
                let help = "names are relative to the domain; one that ends with a dot stands for itself";
                Some(Finding::new(ProblemKind::Conflict, text.span(), message).help(help))
            } else if let Some((_, first)) = dropped.iter().find(|(other, _)| *other == set) {
                let finding = Finding::new(ProblemKind::Duplicate, text.span(), "this is there twice");
                Some(finding.note(first.clone(), "first given here").help("remove one of them"))
            } else {
                None
            };
            match finding {
                Some(finding) => self.find(finding),
                None => dropped.push((set, text.span())),
            }
        }
        dropped.into_iter().map(|(set, _)| set).collect()
    }

    fn mail(&mut self, node: &Node, name: &DnsName, records: &[(DnsRecord, Range<usize>)]) -> Mail {
        let takes = records.iter().find(|(record, _)| record.kind == "MX" && record.owner == name.as_str());
        let speaks = |(record, _): &&(DnsRecord, Range<usize>)| {
            (record.owner == name.as_str() && record.kind == "TXT" && record.data.starts_with("\"v=spf1"))
                || record.owner == format!("_dmarc.{name}")
        };
        match (node.text("mail"), takes.or_else(|| records.iter().find(speaks))) {
            (Some("none"), Some((record, span))) => {
                let message = format!("`mail = \"none\"` beside a record about mail, {}", record.kind);
                let finding = Finding::new(ProblemKind::Conflict, node.span_of("mail"), message);
                self.find(
                    finding
                        .note(span.clone(), "the record")
                        .help("remove the record, or write `mail = \"elsewhere\"` and keep it"),
                );
                Mail::None
            }
            (Some("elsewhere"), _) | (None, Some(_)) => Mail::Elsewhere,
            _ => Mail::None,
        }
    }

    /// What domains, sites and data centers say of the same names.
    pub(super) fn names_in_domains(
        &mut self,
        nodes: &[Node],
        domains: &BTreeMap<DnsName, Domain>,
        sites: &BTreeMap<SiteName, Site>,
        servers: &Servers<'_>,
    ) {
        let mut answered: BTreeMap<&str, &Site> = BTreeMap::new();
        for site in sites.values() {
            answered.extend(site.all_names().map(|name| (name.as_str(), site)));
        }
        for node in nodes {
            let Some(domain) = node.parse::<DnsName>("name").and_then(|name| domains.get(&name)) else { continue };
            if servers.is_too_long(domain) {
                let message = format!("`{}` is too long for a name server below it", domain.name);
                let finding = Finding::new(ProblemKind::BadValue, node.span_of("name"), message);
                self.find(finding.help(
                    "name servers are called `ns-` and the name of their data center or secondary: shorten that",
                ));
            }
            if let Some(above) =
                domains.keys().find(|above| **above != domain.name && is_within(domain.name.as_str(), above.as_str()))
            {
                let message = format!("`{}` is within domain `{above}`", domain.name);
                let finding = Finding::new(ProblemKind::Conflict, node.span_of("name"), message);
                self.find(finding.help(format!("remove it: the names below `{above}` are answered with that one")));
            }
            for text in node.texts("records") {
                let Ok(record) = DnsRecord::parse(text.get_ref(), &domain.name) else { continue };
                let site = answered.get(record.owner.as_str());
                let address = matches!(record.kind.as_str(), "A" | "AAAA" | "CNAME" | "DNAME");
                if let Some(site) = site.filter(|_| address) {
                    let message = format!("`{}` is a name of site `{}`", record.owner, site.name);
                    let help = "remove the record: the stack answers with the addresses of data centers that live";
                    self.find(Finding::new(ProblemKind::Conflict, text.span(), message).help(help));
                }
                let is_apex = record.owner == domain.name.as_str();
                let leads_away = !is_apex && matches!(record.kind.as_str(), "NS" | "DNAME");
                let hidden = answered.iter().find(|(name, _)| leads_away && is_within(name, &record.owner));
                if let Some((name, site)) = hidden {
                    let message = format!("`{name}` of site `{}` would be somebody else's to answer", site.name);
                    let help = "remove the record: what is below such a record is not asked of this domain any more";
                    self.find(Finding::new(ProblemKind::Conflict, text.span(), message).help(help));
                }
                if let Some(whose) = servers.of(&record.owner, domain) {
                    let message = format!("`{}` is the name server of {whose}", record.owner);
                    let finding = Finding::new(ProblemKind::Conflict, text.span(), message);
                    self.find(finding.help("remove the record, or give it another name"));
                }
            }
            for (name, site) in &answered {
                if let Some(whose) = servers.of(name, domain) {
                    let message = format!("`{name}` of site `{}` is the name server of {whose}", site.name);
                    let finding = Finding::new(ProblemKind::Conflict, node.span_of("name"), message);
                    self.find(finding.help("give the site another name"));
                }
            }
        }
    }
}

/// Who may have a name server that is called after them.
pub(super) struct Servers<'s> {
    pub(super) datacenters: &'s BTreeSet<DatacenterName>,
    pub(super) secondaries: &'s [Secondary],
}

impl Servers<'_> {
    fn is_too_long(&self, domain: &Domain) -> bool {
        self.datacenters.iter().any(|datacenter| name_server(datacenter, &domain.name).is_err())
            || self.secondaries.iter().any(|secondary| secondary.server(&domain.name).is_err())
    }

    /// Whose name server a name is.
    fn of(&self, name: &str, domain: &Domain) -> Option<String> {
        let is_it = |server: Result<DnsName, _>| server.is_ok_and(|server: DnsName| server.as_str() == name);
        let mut secondaries = self.secondaries.iter().filter(|secondary| domain.secondaries.contains(&secondary.name));
        let mut datacenters = self.datacenters.iter();
        let datacenter = datacenters.find(|datacenter| is_it(name_server(datacenter, &domain.name)));
        let secondary = secondaries.find(|secondary| is_it(secondary.server(&domain.name)));
        datacenter
            .map(|datacenter| format!("data center `{datacenter}`"))
            .or_else(|| secondary.map(|secondary| format!("secondary `{}`", secondary.name)))
    }
}

/// Why a record cannot be beside those of the stack, or beside another one.
fn not_the_operators(
    record: &DnsRecord,
    origin: &DnsName,
    others: &[(DnsRecord, Range<usize>)],
    span: Range<usize>,
) -> Option<Finding> {
    let DnsRecord { owner, kind, .. } = record;
    let conflict =
        |message: String, help: &str| Some(Finding::new(ProblemKind::Conflict, span.clone(), message).help(help));
    if !record.is_within(origin) {
        let message = format!("`{owner}` is not within `{origin}`");
        return conflict(message, "names are relative to the domain; one that ends with a dot stands for itself");
    }
    let apex = owner == origin.as_str();
    if KEPT_BY_THE_STACK.contains(&kind.as_str()) || (apex && matches!(kind.as_str(), "NS" | "DS")) {
        return conflict(format!("{kind} records of `{owner}` are kept by the stack"), "remove the record");
    }
    if apex && matches!(kind.as_str(), "CNAME" | "DNAME") {
        let help = "a domain itself has records beside it always (RFC 1034 section 3.6.2); give it addresses";
        return conflict(format!("`{owner}` cannot be another name for something"), help);
    }
    let same = others.iter().find(|(other, _)| (&other.owner, &other.kind, &other.data) == (owner, kind, &record.data));
    if let Some((_, first)) = same {
        let finding = Finding::new(ProblemKind::Duplicate, span, "this record is there twice");
        return Some(finding.note(first.clone(), "first given here").help("remove one of them"));
    }
    let alias = |kind: &str| kind == "CNAME";
    let (_, first) = others.iter().find(|(other, _)| other.owner == *owner && (alias(kind) || alias(&other.kind)))?;
    let message = format!("`{owner}` is another name for something, and has records of its own");
    let finding = Finding::new(ProblemKind::Conflict, span, message);
    Some(finding.note(first.clone(), "the other record").help("keep one of them (RFC 1034 section 3.6.2)"))
}
