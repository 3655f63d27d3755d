//! Asks all name servers of a domain which keys they have, and all servers of its registry which DS records.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sovereign_model::DnsName;
use sovereign_model::dns_message::{Code, Question};
use tokio::task::JoinSet;

use super::{Has, Registry, Sight};
use crate::ask::Asker;
use crate::ask::walk::{Digests, Walk};
use crate::drift::compare::{is_of_same_key, same};
use crate::drift::{Signed, Wanted};

/// Looks at a domain whose key `old` is exchanged for `new`.
pub async fn look(asker: Asker, walk: &mut Walk, wanted: &Wanted, old: &Signed, new: &Signed) -> Sight {
    let registry = match walk.digests(&wanted.domain).await {
        Digests::Silent => Registry::Silent,
        Digests::NotDelegated => Registry::NotDelegated,
        Digests::Of(all) => {
            let has = |records: Vec<sovereign_model::DnsRecord>| Has {
                old: records.iter().any(|ds| is_of_same_key(&ds.data, &old.ds)),
                new: records.iter().any(|ds| same(&ds.data, &new.ds)),
                ttl: records.iter().map(|ds| ds.ttl).max().unwrap_or_default(),
            };
            Registry::Has(all.into_iter().map(|(server, records)| (server, records.map(has))).collect())
        }
    };
    let mut asking = JoinSet::new();
    for server in &wanted.name_servers {
        for place in walk.places(server.addresses.iter().copied()) {
            let called = format!("{} ({})", server.name, place.ip());
            let (domain, keys) = (wanted.domain.clone(), [old.dnskey.clone(), new.dnskey.clone()]);
            asking.spawn(async move { (called, has_all(asker, place, &domain, &keys).await) });
        }
    }
    let servers: BTreeMap<_, _> = asking.join_all().await.into_iter().collect();
    Sight { zone_ttl: wanted.longest_ttl, servers, registry }
}

/// Whether a server has all of these keys; `None` when it does not say.
async fn has_all(asker: Asker, server: SocketAddr, domain: &DnsName, keys: &[String]) -> Option<bool> {
    let question = Question::new(domain.as_str(), "DNSKEY").ok()?;
    let answer = asker.ask(server, &question).await.ok()?;
    if answer.code != Code::NoError || !answer.authoritative {
        return None;
    }
    // Where a key is broken into pieces makes no difference (RFC 4034 section 2.2).
    let bare = |key: &str| key.split_whitespace().collect::<String>();
    let has = |key: &String| answer.of(domain.as_str(), "DNSKEY").any(|record| bare(&record.data) == bare(key));
    Some(keys.iter().all(has))
}
