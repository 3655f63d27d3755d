//! `Via`: what a message has passed through (RFC 9110 section 7.6.3), and with it requests that come round again.

use http::Version;
use http::header::{self, HeaderMap, HeaderValue};
use sovereign_model::{DatacenterName, Digest, HostName, StackName};

/// What an edge calls itself in the messages it passes on: the same for all processes of one edge, another for every
/// edge, and without the names of stack, data center and host, which are nobody's business.
#[derive(Debug, Clone)]
pub struct Via {
    pseudonym: String,
    /// As it stands behind HTTP/1.1, nearly always.
    entry: HeaderValue,
}

/// Hex digits that tell edges apart: 32 bits, for the handful that a request may pass.
const DIGITS: usize = 8;

impl Via {
    /// The edge of `stack` at `datacenter`, on `host` of it.
    pub fn of(stack: &StackName, datacenter: &DatacenterName, host: Option<&HostName>) -> Self {
        let host = host.map_or_else(String::new, |host| format!("\0{host}"));
        let digest = Digest::of(format!("{stack}\0{datacenter}{host}").as_bytes()).to_string();
        let digits: String = digest.chars().rev().take(DIGITS).collect();
        let pseudonym = format!("sovereign-{digits}");
        let entry = HeaderValue::try_from(format!("1.1 {pseudonym}")).expect("hex digits are visible ASCII");
        Self { pseudonym, entry }
    }

    /// Adds this edge to a request that came by `version` of HTTP.
    pub fn add(&self, fields: &mut HeaderMap, version: Version) {
        let entry = if version == Version::HTTP_2 {
            HeaderValue::try_from(format!("2.0 {}", self.pseudonym)).expect("hex digits are visible ASCII")
        } else {
            self.entry.clone()
        };
        fields.append(header::VIA, entry);
    }

    /// Whether a request has passed through this edge before.
    pub fn is_in(&self, fields: &HeaderMap) -> bool {
        fields.get_all(header::VIA).iter().any(|field| {
            let entries = field.as_bytes().split(|byte| *byte == b',');
            entries
                .filter_map(|entry| entry.trim_ascii().split(|byte| byte.is_ascii_whitespace()).nth(1))
                .any(|by| by == self.pseudonym.as_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_knows_itself_again() {
        let edge = |datacenter: &str, host: Option<&str>| {
            let host = host.map(|host| host.parse().unwrap());
            Via::of(&"shop".parse().unwrap(), &datacenter.parse().unwrap(), host.as_ref())
        };
        let (home, office) = (edge("home", None), edge("office", Some("atlas")));
        let mut fields = HeaderMap::new();
        fields.insert(header::VIA, HeaderValue::from_static("1.0 fred, 1.1 p.example.net (Apache)"));
        office.add(&mut fields, Version::HTTP_2);
        assert!(office.is_in(&fields) && !home.is_in(&fields));
        assert!(!edge("office", Some("boreas")).is_in(&fields), "another host of it");
        home.add(&mut fields, Version::HTTP_11);
        assert!(home.is_in(&fields));
        let last = fields.get_all(header::VIA).iter().next_back().unwrap().to_str().unwrap();
        assert!(last.starts_with("1.1 sovereign-") && !last.contains("home") && last.len() == 22, "{last}");
    }

    #[test]
    fn any_value_is_looked_through() {
        let via = Via::of(&"shop".parse().unwrap(), &"home".parse().unwrap(), None);
        for value in [&b""[..], b",", b"1.1", b" , ,\xff", b"1.1\tsovereign-"] {
            let fields = HeaderMap::from_iter([(header::VIA, HeaderValue::from_bytes(value).unwrap())]);
            assert!(!via.is_in(&fields), "{value:?}");
        }
    }
}
