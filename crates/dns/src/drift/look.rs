//! Asks the registry's servers where a domain leads, and its servers what they have of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sovereign_model::dns_message::{Answer, Code, Question};
use sovereign_model::dns_record::key_tag;
use sovereign_model::{DnsName, DnsRecord};
use tokio::task::JoinSet;

use super::{Said, SaidZone, Seen, SeenServer, Set, Wanted, alias, normal};
use crate::ask::Asker;
use crate::ask::walk::{Parent, Walk};

/// So many addresses are asked of one domain: a registry that lists more is somebody's joke.
const MOST_SERVERS: usize = 40;

/// Looks at all of it. What does not answer is part of what is seen.
pub async fn look(asker: Asker, walk: &mut Walk, wanted: &Wanted) -> Seen {
    let parent = walk.parent(&wanted.domain).await;
    let mut servers: BTreeSet<(String, IpAddr)> = BTreeSet::new();
    for server in &wanted.name_servers {
        servers.extend(server.addresses.iter().map(|address| (server.name.to_string(), *address)));
    }
    // The stack's own are asked at the addresses that they have; only a provider's are found as readers find them.
    if let (Parent::Delegated(delegation), Some(_)) = (&parent, &wanted.provider) {
        for (name, glue) in &delegation.servers {
            let addresses = if glue.is_empty() { walk.addresses(name).await } else { glue.clone() };
            servers.extend(addresses.into_iter().map(|address| (name.clone(), address)));
        }
    }
    let questions: Arc<Vec<Set>> = Arc::new(wanted.questions().into_iter().collect());
    let mut asking = JoinSet::new();
    for (name, address) in servers.into_iter().take(MOST_SERVERS) {
        let (domain, questions) = (wanted.domain.clone(), questions.clone());
        let Some(place) = walk.places([address]).pop() else { continue };
        asking.spawn(async move {
            let said = said(asker, place, &domain, &questions).await;
            SeenServer { name, address, said }
        });
    }
    let mut servers = asking.join_all().await;
    servers.sort_by(|one, other| (&one.name, one.address).cmp(&(&other.name, other.address)));
    Seen { parent, servers }
}

/// What one server has of a domain.
async fn said(asker: Asker, server: SocketAddr, domain: &DnsName, questions: &[Set]) -> Said {
    let apex = domain.as_str();
    let start = match ask(asker, server, apex, "SOA").await {
        Ok(answer) => answer,
        Err(why) => return Said::Nothing(why),
    };
    let serial = start.of(apex, "SOA").find_map(|soa| soa.data.split_whitespace().nth(2)?.parse().ok());
    let serial = match serial {
        Some(serial) if start.code == Code::NoError && start.authoritative => serial,
        Some(_) => return Said::NotMine("it repeats what others say".to_owned()),
        None => return Said::NotMine(start.code.to_string()),
    };
    let keys = ask(asker, server, apex, "DNSKEY").await.ok().map(|answer| {
        let keys = answer.of(apex, "DNSKEY");
        let key = |record: &DnsRecord| {
            let algorithm = record.data.split_whitespace().nth(2)?;
            Some((key_tag(record)?, algorithm.to_owned(), record.data.clone()))
        };
        keys.filter_map(key).collect()
    });
    let (mut sets, mut unanswered) = (BTreeMap::new(), BTreeSet::new());
    for (owner, kind) in questions {
        match ask(asker, server, owner, kind).await {
            Ok(answer) if matches!(answer.code, Code::NoError | Code::NoSuchName) => {
                sets.insert((owner.clone(), kind.clone()), found(&answer, owner, kind));
            }
            _ => {
                unanswered.insert((owner.clone(), kind.clone()));
            }
        }
    }
    Said::Zone(SaidZone { serial, keys, sets, unanswered })
}

/// What an answer says of a name. Another name for something is not followed: where it leads is not this server's to say.
fn found(answer: &Answer, owner: &str, kind: &str) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = answer.of(owner, kind).map(normal).collect();
    if kind != "CNAME" {
        found.extend(answer.of(owner, "CNAME").map(|record| alias(&record.data)));
    }
    found
}

async fn ask(asker: Asker, server: SocketAddr, owner: &str, kind: &str) -> Result<Answer, String> {
    let question = Question::new(owner, kind).map_err(|not| not.to_string())?;
    asker.ask(server, &question).await.map_err(|error| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}
