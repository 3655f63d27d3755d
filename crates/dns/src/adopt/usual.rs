//! What a domain usually has, asked of a server that hands out no whole zones.
//!
//! All names that are guessed stand here. A wildcard would answer for each of them; what it says is counted as its own.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use sovereign_model::dns_message::{Code, Question};
use sovereign_model::{DnsName, DnsRecord};
use tokio::task::JoinSet;

use crate::ask::Asker;

/// What the domain itself may have.
const AT_THE_DOMAIN: [&str; 12] =
    ["A", "AAAA", "MX", "TXT", "CAA", "HTTPS", "SRV", "NAPTR", "SSHFP", "TLSA", "LOC", "SPF"];

/// Names of hosts and services, and what is asked of each. Another name for something comes with any of it.
const HOSTS: [&str; 38] = [
    "*",
    "www",
    "mail",
    "smtp",
    "imap",
    "pop",
    "pop3",
    "webmail",
    "mx",
    "mx1",
    "mx2",
    "autodiscover",
    "autoconfig",
    "mta-sts",
    "ftp",
    "sftp",
    "blog",
    "shop",
    "store",
    "api",
    "app",
    "cdn",
    "static",
    "img",
    "status",
    "m",
    "dev",
    "test",
    "staging",
    "vpn",
    "git",
    "chat",
    "matrix",
    "docs",
    "help",
    "support",
    "news",
    "cloud",
];
const AT_A_HOST: [&str; 4] = ["A", "AAAA", "MX", "TXT"];

/// Texts about the domain.
const TEXTS: [&str; 8] = [
    "_dmarc",
    "_mta-sts",
    "_smtp._tls",
    "default._bimi",
    "_domainkey",
    "_adsp._domainkey",
    "_atproto",
    "_acme-challenge",
];

/// Where mail programs and providers put the keys that they sign mail with: `<selector>._domainkey`.
const SELECTORS: [&str; 36] = [
    "default",
    "dkim",
    "mail",
    "email",
    "smtp",
    "key1",
    "key2",
    "k1",
    "k2",
    "k3",
    "s1",
    "s2",
    "s1024",
    "s2048",
    "selector",
    "selector1",
    "selector2",
    "google",
    "protonmail",
    "protonmail2",
    "protonmail3",
    "fm1",
    "fm2",
    "fm3",
    "mesmtp",
    "zoho",
    "zmail",
    "sig1",
    "mandrill",
    "mxvault",
    "mailjet",
    "pm",
    "krs",
    "everlytickey1",
    "amazonses",
    "turbo-smtp",
];

/// Services that are looked for by their names (RFC 2782).
const SERVICES: [&str; 21] = [
    "_autodiscover._tcp",
    "_imap._tcp",
    "_imaps._tcp",
    "_pop3._tcp",
    "_pop3s._tcp",
    "_submission._tcp",
    "_submissions._tcp",
    "_caldav._tcp",
    "_caldavs._tcp",
    "_carddav._tcp",
    "_carddavs._tcp",
    "_sip._tcp",
    "_sip._udp",
    "_sips._tcp",
    "_sipfederationtls._tcp",
    "_xmpp-client._tcp",
    "_xmpp-server._tcp",
    "_matrix._tcp",
    "_matrix-fed._tcp",
    "_ldap._tcp",
    "_minecraft._tcp",
];

/// Certificates that a service is bound to (RFC 6698).
const BOUND: [&str; 3] = ["_443._tcp", "_443._tcp.www", "_25._tcp.mail"];

/// So many questions at once: servers limit how fast one address may ask.
const AT_ONCE: usize = 8;

/// A server did not answer for all of the names.
#[derive(Debug, thiserror::Error)]
pub enum UsualError {
    /// It does not answer for the domain.
    #[error("{server} does not answer for {domain}")]
    NotItsOwn {
        /// The domain.
        domain: DnsName,
        /// The server.
        server: SocketAddr,
    },
    /// It stopped answering.
    #[error("{server} left {unanswered} of {asked} questions about {domain} unanswered")]
    Unanswered {
        /// The domain.
        domain: DnsName,
        /// The server.
        server: SocketAddr,
        /// So many.
        unanswered: usize,
        /// Of so many.
        asked: usize,
    },
}

impl UsualError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NotItsOwn { .. } => {
                "name one that does: `--server ADDRESS`, or export the zone as a file: `--zone-file FILE`".to_owned()
            }
            Self::Unanswered { .. } => {
                "try again later, or export the zone where it is kept, and give the file: `--zone-file FILE`".to_owned()
            }
        })
    }
}

/// All that is asked of a domain: owner and type.
pub fn questions(domain: &DnsName) -> Vec<(String, &'static str)> {
    let at = |name: &str| format!("{name}.{domain}");
    let mut asked: Vec<(String, &'static str)> =
        AT_THE_DOMAIN.into_iter().map(|kind| (domain.to_string(), kind)).collect();
    for name in HOSTS {
        asked.extend(AT_A_HOST.map(|kind| (at(name), kind)));
    }
    asked.extend(TEXTS.map(|name| (at(name), "TXT")));
    asked.extend(SELECTORS.map(|selector| (at(&format!("{selector}._domainkey")), "TXT")));
    asked.extend(SERVICES.map(|name| (at(name), "SRV")));
    asked.extend(BOUND.map(|name| (at(name), "TLSA")));
    asked
}

/// What a server has of the usual names.
///
/// # Errors
/// When it does not answer for the domain, or not all of the questions.
pub async fn ask(asker: Asker, server: SocketAddr, domain: &DnsName) -> Result<Vec<DnsRecord>, UsualError> {
    let not_its_own = || UsualError::NotItsOwn { domain: domain.clone(), server };
    let start = Question::new(domain.as_str(), "SOA").map_err(|_| not_its_own())?;
    match asker.ask(server, &start).await {
        Ok(answer) if answer.authoritative && answer.of(domain.as_str(), "SOA").next().is_some() => {}
        _ => return Err(not_its_own()),
    }
    let questions = questions(domain);
    let asked = questions.len();
    let (mut found, mut unanswered) = (BTreeSet::new(), 0);
    let mut asking = JoinSet::new();
    let mut left = questions.into_iter();
    loop {
        while asking.len() < AT_ONCE
            && let Some((owner, kind)) = left.next()
        {
            asking.spawn(async move {
                let question = Question::new(&owner, kind).ok()?;
                let answer = asker.ask(server, &question).await.ok()?;
                let is_one = matches!(answer.code, Code::NoError | Code::NoSuchName);
                // What another name leads to is asked for by itself, where it is of this domain.
                is_one.then(|| answer.answer.into_iter().filter(|record| record.owner == owner).collect::<Vec<_>>())
            });
        }
        match asking.join_next().await {
            Some(Ok(Some(records))) => found.extend(records),
            Some(_) => unanswered += 1,
            None => break,
        }
    }
    if unanswered > 0 {
        return Err(UsualError::Unanswered { domain: domain.clone(), server, unanswered, asked });
    }
    Ok(without_echoes(found.into_iter().collect(), domain))
}

/// Without what a wildcard says of names that are not there by themselves. Pure.
fn without_echoes(records: Vec<DnsRecord>, domain: &DnsName) -> Vec<DnsRecord> {
    let wildcard = format!("*.{domain}");
    let echoed: BTreeSet<(String, String)> = records
        .iter()
        .filter(|record| record.owner == wildcard)
        .map(|record| (record.kind.clone(), record.data.clone()))
        .collect();
    let is_echo = |record: &DnsRecord| {
        record.owner != wildcard
            && record.owner != domain.as_str()
            && echoed.contains(&(record.kind.clone(), record.data.clone()))
    };
    records.into_iter().filter(|record| !is_echo(record)).collect()
}

#[cfg(test)]
mod tests {
    use sovereign_model::dns_record::parse_zone;

    use super::*;

    #[test]
    fn every_question_can_be_asked_and_is_asked_once() {
        let domain: DnsName = "example.org".parse().unwrap();
        let asked = questions(&domain);
        assert!(asked.iter().all(|(owner, kind)| Question::new(owner, kind).is_ok()));
        let distinct: BTreeSet<_> = asked.iter().collect();
        assert_eq!(distinct.len(), asked.len());
    }

    #[test]
    fn what_a_wildcard_says_is_its_own() {
        let domain: DnsName = "example.org".parse().unwrap();
        let zone = "* A 192.0.2.1\nwww A 192.0.2.1\nmail A 192.0.2.2\n@ A 192.0.2.1";
        let left = without_echoes(parse_zone(zone, &domain).unwrap(), &domain);
        let owners: Vec<&str> = left.iter().map(|record| record.owner.as_str()).collect();
        assert_eq!(owners, ["*.example.org", "mail.example.org", "example.org"]);
    }
}
