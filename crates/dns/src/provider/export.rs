//! All that a provider has of a domain: the zone file that its interface exports.
//!
//! The crate that tells providers asks for one name and type at a time, so that a name which nobody guesses would not be
//! seen. The interfaces themselves export a zone whole, and it is read by whoever reads zone files.
//!
//! Promise: it is all of it, or an error that says what else to do; nothing is changed there. An answer comes within
//! [`PATIENCE`] or is none.
//!
//! Left out: dynamic updates (RFC 2136), which list nothing: the server may hand the zone out (AXFR). And what answers
//! besides records: where Cloudflare stands before a name, its export says where that name leads to behind it.

use std::net::SocketAddr;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::Client;
use reqwest::redirect::Policy;
use serde::Deserialize;
use sovereign_model::dns_record::{NotARecord, parse_zone};
use sovereign_model::provider::{Provider, Way};
use sovereign_model::{DnsName, DnsRecord};

use super::tell::{PATIENCE, TellError, proof};

const CLOUDFLARE: &str = "https://api.cloudflare.com/client/v4/zones";
const DESEC: &str = "https://desec.io/api/v1/domains";

/// An answer is no longer than this: people's zones have some kilobytes.
const LONGEST: usize = 16 << 20;

/// What Cloudflare writes for a time to live that it chooses itself, and what resolvers are told then, in seconds.
const AUTOMATIC: (u32, u32) = (1, 300);

/// What a provider has could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// What the stack proves itself with cannot be used, or is not believed.
    #[error(transparent)]
    Unproven(#[from] TellError),
    /// It has no words for that.
    #[error("a server that takes dynamic updates lists nothing")]
    ListsNothing {
        /// The server.
        server: SocketAddr,
    },
    /// It does not have the domain.
    #[error("it has no domain {0}")]
    NoDomain(DnsName),
    /// It gives no answer.
    #[error("it cannot be asked")]
    Away(#[source] reqwest::Error),
    /// It does not say.
    #[error("it answers with {0}")]
    Refused(StatusCode),
    /// It says too much.
    #[error("it answers with more than {} MiB", LONGEST >> 20)]
    TooLong,
    /// It says something else.
    #[error("what it answers is not understood")]
    Garbled(#[source] serde_json::Error),
    /// What it exports is something else.
    #[error("what it exports is not a zone file")]
    NotAZone(#[source] NotARecord),
    /// What it exports is another domain's.
    #[error("what it exports has no record of {0}")]
    NotItsOwn(DnsName),
}

impl ExportError {
    /// What to do about it.
    pub fn help(&self, provider: &Provider) -> Option<String> {
        Some(match self {
            Self::Unproven(error) => return error.help(provider),
            Self::ListsNothing { server } => {
                format!(
                    "it may hand out the whole zone (AXFR): `--server {server}`; else export it there: `--zone-file FILE`"
                )
            }
            Self::NoDomain(_) => {
                "name the provider that has it; where it is a part of another domain there, export that one, \
                                  and give the file: `--zone-file FILE`"
                    .to_owned()
            }
            _ => "try again later, or export the zone there, and give the file: `--zone-file FILE`".to_owned(),
        })
    }
}

/// Asks a provider for all that it has of a domain, with what it gave the stack to prove itself with.
///
/// # Errors
/// When it does not say, or cannot.
pub async fn records(provider: &Provider, secret: &str, domain: &DnsName) -> Result<Vec<DnsRecord>, ExportError> {
    let text = match provider.way {
        Way::Rfc2136 { server, .. } => return Err(ExportError::ListsNothing { server }),
        Way::Cloudflare => {
            let client = client("Bearer", proof(provider, secret)?)?;
            let zones = get(&client, &format!("{CLOUDFLARE}?name={domain}"), domain).await?;
            let Zones { result } = serde_json::from_slice(&zones).map_err(ExportError::Garbled)?;
            let zone = result.first().ok_or_else(|| ExportError::NoDomain(domain.clone()))?;
            get(&client, &format!("{CLOUDFLARE}/{}/dns_records/export", zone.id), domain).await?
        }
        Way::Desec => {
            let client = client("Token", proof(provider, secret)?)?;
            get(&client, &format!("{DESEC}/{domain}/zonefile/"), domain).await?
        }
    };
    read(&provider.way, &text, domain)
}

/// The zones of a name at Cloudflare: one, or none.
#[derive(Deserialize)]
struct Zones {
    result: Vec<Zone>,
}

#[derive(Deserialize)]
struct Zone {
    id: String,
}

/// Trusts whom the machine trusts and takes its proxy, as the crate that tells does; follows nobody elsewhere with the secret.
fn client(scheme: &str, token: &str) -> Result<Client, ExportError> {
    let mut value = HeaderValue::try_from(format!("{scheme} {token}")).map_err(|_| TellError::Secret)?;
    value.set_sensitive(true);
    let client = Client::builder().redirect(Policy::none()).timeout(PATIENCE);
    client.default_headers(HeaderMap::from_iter([(AUTHORIZATION, value)])).build().map_err(ExportError::Away)
}

async fn get(client: &Client, url: &str, domain: &DnsName) -> Result<Vec<u8>, ExportError> {
    let mut answer = client.get(url).send().await.map_err(ExportError::Away)?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(TellError::Unproven.into()),
        StatusCode::NOT_FOUND => return Err(ExportError::NoDomain(domain.clone())),
        other => return Err(ExportError::Refused(other)),
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(ExportError::Away)? {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST {
            return Err(ExportError::TooLong);
        }
    }
    Ok(body)
}

/// What an export says of a domain. Pure.
fn read(way: &Way, text: &[u8], domain: &DnsName) -> Result<Vec<DnsRecord>, ExportError> {
    let not_text = |error: std::str::Utf8Error| ExportError::NotAZone(NotARecord::Form(error.to_string()));
    let text = str::from_utf8(text).map_err(not_text)?;
    let mut records = parse_zone(text, domain).map_err(ExportError::NotAZone)?;
    records.retain(|record| record.is_within(domain));
    if records.is_empty() {
        return Err(ExportError::NotItsOwn(domain.clone()));
    }
    let (written, told) = AUTOMATIC;
    for record in records.iter_mut().filter(|record| *way == Way::Cloudflare && record.ttl == written) {
        record.ttl = told;
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Cloudflare writes it: tabs, comments, and a SOA record without a dot at the end of its name.
    const EXPORTED: &str = ";;\n;; Domain:     example.org.\n;; Exported:   2026-11-26 12:00:00\n;;\n;; SOA Record\n\
        example.org\t3600\tIN\tSOA\tada.ns.cloudflare.com. dns.cloudflare.com. 2050131287 10000 2400 604800 3600\n\n\
        ;; NS Records\nexample.org.\t86400\tIN\tNS\tada.ns.cloudflare.com.\n\n\
        ;; A Records\nexample.org.\t1\tIN\tA\t203.0.113.80 ; cf_tags=cf-proxied:true\n\n\
        ;; CNAME Records\nwww.example.org.\t1\tIN\tCNAME\texample.org. ; a shop dash cf_tags=cf-proxied:true\n\n\
        ;; MX Records\nexample.org.\t600\tIN\tMX\t10 mx.provider.example.\n\n\
        ;; TXT Records\nkey._domainkey.example.org.\t1\tIN\tTXT\t\"v=DKIM1; k=rsa; p=MIIB\" \"IjAN\"\n";

    fn lines(way: &Way, text: &[u8]) -> Result<Vec<String>, String> {
        let records = read(way, text, &"example.org".parse().unwrap());
        records.map(|records| records.iter().map(ToString::to_string).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_cloudflare_exports_is_read_whole() {
        insta::assert_snapshot!(lines(&Way::Cloudflare, EXPORTED.as_bytes()).unwrap().join("\n"), @r#"
        example.org.example.org. 3600 IN SOA ada.ns.cloudflare.com. dns.cloudflare.com. 2050131287 10000 2400 604800 3600
        example.org. 86400 IN NS ada.ns.cloudflare.com.
        example.org. 300 IN A 203.0.113.80
        www.example.org. 300 IN CNAME example.org.
        example.org. 600 IN MX 10 mx.provider.example.
        key._domainkey.example.org. 300 IN TXT "v=DKIM1; k=rsa; p=MIIB" "IjAN"
        "#);
        assert_eq!(
            lines(&Way::Desec, b"a.example.org. 1 IN A 192.0.2.1"),
            Ok(vec!["a.example.org. 1 IN A 192.0.2.1".to_owned()])
        );
    }

    #[test]
    fn what_is_no_zone_of_the_domain_is_refused() {
        for (text, why) in [
            (&b""[..], "what it exports has no record of example.org"),
            (b"example.net. 60 IN A 192.0.2.1", "what it exports has no record of example.org"),
            (b"<!doctype html><title>Sign in</title>", "what it exports is not a zone file"),
            (b"$INCLUDE /etc/passwd", "what it exports is not a zone file"),
            (b"\xff", "what it exports is not a zone file"),
        ] {
            assert_eq!(lines(&Way::Desec, text), Err(why.to_owned()), "{}", text.escape_ascii());
        }
    }
}
