//! What deSEC's interface is to the crate that tells it, recorded from its documentation and made to work: a domain, its sets of
//! records, limits and refusals.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::front::{Asked, Interface};

pub(crate) const HOST: &str = "desec.io";
/// Records live an hour at least.
const LEAST_TTL: u64 = 3600;

/// Sets of records: subname and type, time to live and values.
type Sets = BTreeMap<(String, String), (u64, Vec<String>)>;

pub(crate) struct Desec {
    token: &'static str,
    domain: &'static str,
    sets: Mutex<Sets>,
}

impl Desec {
    /// One that has this domain and knows this token.
    pub(crate) fn new(domain: &'static str, token: &'static str) -> Self {
        Self { token, domain, sets: Mutex::default() }
    }

    pub(crate) fn has(&self, subname: &str, kind: &str) -> Vec<String> {
        let sets = self.sets.lock().unwrap();
        sets.get(&(subname.to_owned(), kind.to_owned())).map(|of| of.1.clone()).unwrap_or_default()
    }

    pub(crate) fn set(&self, subname: &str, kind: &str, records: &[&str]) {
        let records = records.iter().map(|&record| record.to_owned()).collect();
        self.sets.lock().unwrap().insert((subname.to_owned(), kind.to_owned()), (LEAST_TTL, records));
    }

    fn told(&self, (subname, kind): &(String, String), (ttl, records): &(u64, Vec<String>)) -> Value {
        let below = if subname.is_empty() { String::new() } else { format!("{subname}.") };
        let (name, hour) = (format!("{below}{}.", self.domain), "2026-11-26T12:00:00.000000Z");
        json!({
            "created": hour, "domain": self.domain, "subname": subname, "name": name, "records": records, "ttl": ttl,
            "type": kind, "touched": hour,
        })
    }

    fn exported(&self, sets: &Sets) -> String {
        let domain = self.domain;
        let mut text = format!(
            "; Zonefile for {domain} exported from desec.io at 2026-11-26 12:00:00.000000+00:00\n\
             {domain}.\t300\tIN\tSOA\tget.desec.io. get.desec.io. 2026112601 86400 3600 2419200 3600\n\
             {domain}.\t3600\tIN\tNS\tns1.desec.io.\n"
        );
        for (key, set) in sets {
            let told = self.told(key, set);
            let name = told["name"].as_str().unwrap();
            text.extend(set.1.iter().map(|record| format!("{name}\t{}\tIN\t{}\t{record}\n", set.0, key.1)));
        }
        text
    }

    fn put(&self, sets: &mut Sets, wanted: Vec<Value>) -> (u16, Value) {
        let mut told = Vec::new();
        for set in wanted {
            let text = |name: &str| set[name].as_str().unwrap_or_default().to_owned();
            let (key, ttl) = ((text("subname"), text("type")), set["ttl"].as_u64().unwrap_or_default());
            let records = set["records"].as_array().cloned().unwrap_or_default();
            let records: Vec<String> = records.iter().filter_map(|of| of.as_str().map(str::to_owned)).collect();
            if ttl < LEAST_TTL {
                let least = format!("Ensure this value is greater than or equal to {LEAST_TTL}.");
                return (400, json!([{ "ttl": [least] }]));
            }
            if !records.iter().all(|record| is_canonical(&key.1, record)) {
                return (400, json!([{ "records": ["Record content malformed."] }]));
            }
            told.push(self.told(&key, &(ttl, records.clone())));
            sets.insert(key, (ttl, records));
        }
        (200, Value::Array(told))
    }
}

impl Interface for Desec {
    fn answer(&self, asked: &Asked<'_>) -> (u16, Value) {
        if asked.authorization != Some(&format!("Token {}", self.token)) {
            return (401, json!({ "detail": "Invalid token." }));
        }
        let (home, mut sets) = (format!("/api/v1/domains/{}/", self.domain), self.sets.lock().unwrap());
        let missing = || (404, json!({ "detail": "Not found." }));
        let Some(below) = asked.path.strip_prefix(&home) else { return missing() };
        let words: Vec<&str> = below.split('/').collect();
        match (asked.method, words.as_slice()) {
            ("GET", [""]) => (200, json!({ "name": self.domain, "minimum_ttl": LEAST_TTL })),
            ("GET", ["rrsets", subname, kind, ""]) => {
                let key = (subname.trim_start_matches('@').to_owned(), (*kind).to_owned());
                sets.get(&key).map_or_else(missing, |set| (200, self.told(&key, set)))
            }
            ("GET", ["zonefile", ""]) => (200, Value::String(self.exported(&sets))),
            ("DELETE", ["rrsets", subname, kind, ""]) => {
                sets.remove(&(subname.trim_start_matches('@').to_owned(), (*kind).to_owned()));
                (204, Value::Null)
            }
            ("PUT", ["rrsets", ""]) => match serde_json::from_slice(asked.body) {
                Ok(Value::Array(wanted)) => self.put(&mut sets, wanted),
                _ => (400, json!({})),
            },
            _ => (405, json!({ "detail": "Method not allowed." })),
        }
    }
}

/// Names end with a dot and texts stand between quotes: what does not, is refused.
fn is_canonical(kind: &str, record: &str) -> bool {
    match kind {
        "A" => record.parse::<std::net::Ipv4Addr>().is_ok(),
        "AAAA" => record.parse::<std::net::Ipv6Addr>().is_ok(),
        "MX" | "CNAME" => record.ends_with('.'),
        "TXT" => record.len() >= 2 && record.starts_with('"') && record.ends_with('"'),
        _ => true,
    }
}
