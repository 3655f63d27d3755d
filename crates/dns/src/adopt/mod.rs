//! What a domain publishes before the stack answers for it, and what of that would vanish.
//!
//! ```text
//!  zone file ───────────┐
//!  provider's export ───┤
//!  transfer ────────────┼─▶ published ──▶ compare (pure) ──▶ same, replaced, new, dropped, would vanish
//!  the usual names ─────┘                     ▲
//!  DS at the registry ──┘          the stack file's zone
//! ```
//!
//! Promise: nothing that was published is passed over in silence. What is neither in the new zone, nor an address that the
//! stack itself answers, nor dropped by the stack file, would vanish. Who publishes the domain, and the signatures of
//! whoever did, are not records of it: they change hands with it. But a DS record at the registry stays there, and
//! then nobody who checks signatures reaches the domain: it counts as something that has to go first.
//!
//! Left out: names that nobody tells and nobody guesses. A zone file has them all, also as a provider exports it.

pub mod usual;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sovereign_model::dns_record::{RecordSet, is_within, relative};
use sovereign_model::names::{self, Names};
use sovereign_model::stack::{Domain, Mail, Stack};
use sovereign_model::{DnsName, DnsRecord};

use crate::drift::normal;
use crate::zone::{self, World};

/// What comes with whoever answers, and goes with them.
const OF_WHOEVER_ANSWERS: [&str; 10] =
    ["SOA", "DNSKEY", "CDS", "CDNSKEY", "RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "ZONEMD", "CSYNC"];

/// What a domain publishes today, beside what it would publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// In both.
    pub same: Vec<DnsRecord>,
    /// Only in the new zone.
    pub new: Vec<DnsRecord>,
    /// Where a name of a site leads today: the stack answers with its own addresses.
    pub replaced: Vec<DnsRecord>,
    /// The stack file lets them go.
    pub dropped: Vec<DnsRecord>,
    /// Only today, and nobody said that they may go.
    pub vanishing: Vec<DnsRecord>,
}

/// Compares what is published with what the stack file wants. Pure. Published DS records are those at the registry that
/// are not the stack's.
pub fn compare(stack: &Stack, domain: &Domain, published: &[DnsRecord]) -> Compared {
    let names = Names::of(stack);
    let of_domain = names::Domain::from(domain);
    let is_own = domain.provider.is_none();
    let wanted = match is_own {
        true => zone::zone(&names, &of_domain, 0, &World::default()).records,
        false => zone::records(&names, &of_domain, &World::default()),
    };
    let wanted: Vec<DnsRecord> = wanted.into_iter().filter(|record| record.kind != "SOA").collect();
    let key = |record: &DnsRecord| (record.owner.clone(), record.kind.clone(), normal(record));
    let wanted_keys: BTreeSet<_> = wanted.iter().map(key).collect();
    let is_of_site = |owner: &str| names.sites.iter().flat_map(|site| &site.names).any(|name| name.as_str() == owner);
    let is_address = |kind: &str| matches!(kind, "A" | "AAAA" | "CNAME" | "HTTPS" | "SVCB");

    let mut seen = BTreeSet::new();
    let (mut same, mut replaced, mut dropped, mut vanishing) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for record in published.iter().filter(|record| counts(record, &domain.name, is_own)) {
        if !seen.insert(key(record)) {
            continue;
        }
        let group = if wanted_keys.contains(&key(record)) {
            &mut same
        } else if is_address(&record.kind) && is_of_site(&record.owner) {
            &mut replaced
        } else if domain.drop.iter().any(|set| set.has(record)) {
            &mut dropped
        } else {
            &mut vanishing
        };
        group.push(record.clone());
    }
    let new = wanted.into_iter().filter(|record| !seen.contains(&key(record))).collect();
    Compared { same, new, replaced, dropped, vanishing }
}

/// Whether a published record is one of the domain, and not of whoever answers for it.
fn counts(record: &DnsRecord, domain: &DnsName, is_own: bool) -> bool {
    let is_apex = record.owner == domain.as_str();
    record.is_within(domain)
        && !OF_WHOEVER_ANSWERS.contains(&record.kind.as_str())
        && !(is_apex && record.kind == "NS")
        // Where a provider goes on answering, the keys are the provider's.
        && (is_own || !(is_apex && record.kind == "DS"))
}

/// What is worth remembering of what is published.
pub fn remembered(domain: &DnsName, published: Vec<DnsRecord>) -> Vec<DnsRecord> {
    let mut records: Vec<DnsRecord> = published.into_iter().filter(|record| counts(record, domain, true)).collect();
    records.sort();
    records.dedup();
    records
}

/// The sets that would vanish: what an operator has to decide on.
pub fn sets(vanishing: &[DnsRecord]) -> BTreeMap<RecordSet, Vec<&DnsRecord>> {
    let mut sets: BTreeMap<RecordSet, Vec<&DnsRecord>> = BTreeMap::new();
    for record in vanishing {
        let set = RecordSet { owner: record.owner.clone(), kind: record.kind.clone() };
        sets.entry(set).or_default().push(record);
    }
    sets
}

/// What `drop` calls a set.
pub fn drop_text(set: &RecordSet, domain: &DnsName) -> String {
    format!("{} {}", relative(&set.owner, domain), set.kind)
}

/// What `records` calls a record; `None` where the stack file may not have it.
pub fn record_text(record: &DnsRecord, domain: &DnsName) -> Option<String> {
    let text = format!("{} {} {} {}", relative(&record.owner, domain), record.ttl, record.kind, record.data);
    let is_kept = record.kind != "DS" || record.owner != domain.as_str();
    let reads = DnsRecord::parse(&text, domain).as_ref() == Ok(record);
    (is_kept && reads && is_within(&record.owner, domain.as_str())).then_some(text)
}

/// Whether mail comes to the domain today, and would not any more.
pub fn loses_mail(domain: &Domain, compared: &Compared) -> bool {
    let gone = compared.vanishing.iter().chain(&compared.dropped);
    let takes =
        |record: &DnsRecord| record.kind == "MX" && record.owner == domain.name.as_str() && record.data != "0 .";
    domain.mail == Mail::None && gone.into_iter().any(takes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use sovereign_model::dns_record::parse_zone;

    use super::*;

    fn stack(domain: &str) -> Stack {
        let text = format!(
            r#"
version = 1
[stack]
name = "s"
[[datacenter]]
name = "home"
[[datacenter.uplink]]
name = "u"
address = "192.0.2.1"
[[domain]]
name = "example.org"
registrar = "r"
{domain}
[[site]]
name = "blog"
app = "ghost"
canonical = "example.org"
names = ["www.example.org"]
primary = "home"
"#
        );
        sovereign_model::parse("stack.toml", &text, Path::new("/")).unwrap()
    }

    const OLD: &str = r#"
@ 3600 SOA ns1.provider.example. hostmaster.provider.example. 1 2 3 4 5
@ NS ns1.provider.example.
@ A 203.0.113.1
www CNAME example.org.
@ MX 10 Mx.provider.example.
@ TXT "v=spf1 include:provider.example -all"
@ TXT "some-service=1"
shop CNAME shops.example.net.
_dmarc TXT "v=DMARC1; p=none"
@ DS 1 13 2 3B124A67F4FAF4AB84A639BCA6BCACF797DC7C02964A517CD53EA4A453A50A9A
x.example.net. A 203.0.113.9
"#;

    fn old() -> Vec<DnsRecord> {
        parse_zone(OLD, &"example.org".parse().unwrap()).unwrap()
    }

    fn compared(domain: &str) -> Compared {
        let stack = stack(domain);
        compare(&stack, stack.domains.values().next().unwrap(), &old())
    }

    fn text(compared: &Compared) -> String {
        let group = |title: &str, records: &[DnsRecord]| {
            let lines: Vec<String> = records.iter().map(|record| format!("  {record}\n")).collect();
            format!("{title}\n{}", lines.concat())
        };
        let Compared { same, new, replaced, dropped, vanishing } = compared;
        [
            group("same", same),
            group("new", new),
            group("replaced", replaced),
            group("dropped", dropped),
            group("vanishing", vanishing),
        ]
        .concat()
    }

    #[test]
    fn what_nobody_said_may_go_is_named() {
        insta::assert_snapshot!(text(&compared(r#"records = ["@ TXT \"some-service=1\""]
drop = ["shop CNAME"]"#)), @r#"
        same
          example.org. 3600 IN TXT "some-service=1"
        new
          _dmarc.example.org. 3600 IN TXT "v=DMARC1; p=reject; sp=reject; adkim=s; aspf=s"
          example.org. 30 IN A 192.0.2.1
          example.org. 3600 IN MX 0 .
          example.org. 86400 IN NS ns-home.example.org.
          example.org. 3600 IN TXT "v=spf1 -all"
          ns-home.example.org. 86400 IN A 192.0.2.1
          www.example.org. 30 IN A 192.0.2.1
        replaced
          example.org. 3600 IN A 203.0.113.1
          www.example.org. 3600 IN CNAME example.org.
        dropped
          shop.example.org. 3600 IN CNAME shops.example.net.
        vanishing
          example.org. 3600 IN MX 10 Mx.provider.example.
          example.org. 3600 IN TXT "v=spf1 include:provider.example -all"
          _dmarc.example.org. 3600 IN TXT "v=DMARC1; p=none"
          example.org. 3600 IN DS 1 13 2 3B124A67F4FAF4AB84A639BCA6BCACF797DC7C02964A517CD53EA4A453A50A9A
        "#
        );
    }

    #[test]
    fn mail_that_would_be_refused_is_said() {
        let of = |domain: &str| {
            let stack = stack(domain);
            loses_mail(stack.domains.values().next().unwrap(), &compared(domain))
        };
        assert!(of(""));
        assert!(of("drop = [\"@ MX\"]"), "also when that is on purpose");
        assert!(!of("records = [\"@ MX 10 mx.provider.example.\"]"), "kept, whatever its case");
    }

    #[test]
    fn a_provider_keeps_its_keys() {
        let compared = compared("provider = \"p\"");
        assert!(compared.vanishing.iter().all(|record| record.kind != "DS"));
        assert!(compared.new.iter().all(|record| record.kind != "NS"));
    }

    #[test]
    fn what_would_vanish_is_written_so_that_it_stays_or_goes() {
        let domain: DnsName = "example.org".parse().unwrap();
        let vanishing = compared("").vanishing;
        let keep: Vec<String> = vanishing.iter().filter_map(|record| record_text(record, &domain)).collect();
        let drop: Vec<String> = sets(&vanishing).keys().map(|set| drop_text(set, &domain)).collect();
        let quoted = |texts: &[String]| texts.iter().map(|text| format!("'{text}'")).collect::<Vec<_>>().join(", ");
        let kept = compared(&format!("records = [{}]\ndrop = ['@ DS']", quoted(&keep)));
        assert_eq!(kept.vanishing, []);
        assert_eq!(kept.dropped.len(), 1, "a DS record cannot be kept");
        let dropped = compared(&format!("drop = [{}]", quoted(&drop)));
        assert_eq!((dropped.vanishing.len(), dropped.dropped.len()), (0, vanishing.len()));
    }

    proptest! {
        #[test]
        fn nothing_is_passed_over(chosen in proptest::sample::subsequence(old(), 0..=10), keeps in any::<bool>()) {
            let stack = stack(if keeps { "records = [\"@ MX 10 mx.provider.example.\"]" } else { "drop = [\"@ MX\"]" });
            let domain = stack.domains.values().next().unwrap();
            let compared = compare(&stack, domain, &chosen);
            for record in chosen.iter().filter(|record| counts(record, &domain.name, true)) {
                let groups = [&compared.same, &compared.replaced, &compared.dropped, &compared.vanishing];
                let times: usize = groups.iter().map(|group| group.iter().filter(|other| *other == record).count()).sum();
                prop_assert_eq!(times, 1, "{} is in one group", record);
            }
        }
    }
}
