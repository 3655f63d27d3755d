//! What Cloudflare's interface is to the crate that tells it, recorded from its documentation and made to work: a zone, its records
//! one by one, limits and refusals.

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::front::{Asked, Interface};

pub(crate) const HOST: &str = "api.cloudflare.com";
const ZONE: &str = "023e105f4ecef8ad9ca31a8372d0c353";

pub(crate) struct Cloudflare {
    token: &'static str,
    domain: &'static str,
    records: Mutex<(u64, Vec<Value>)>,
}

impl Cloudflare {
    /// One that has this domain and knows this token.
    pub(crate) fn new(domain: &'static str, token: &'static str) -> Self {
        Self { token, domain, records: Mutex::default() }
    }

    /// What a name has, in order, and that of each type it lives for that long.
    pub(crate) fn has(&self, name: &str, kind: &str) -> Vec<(String, u64)> {
        let records = self.records.lock().unwrap();
        let of = records.1.iter().filter(|of| of["name"] == name && of["type"] == kind);
        let mut of: Vec<_> =
            of.map(|of| (of["content"].as_str().unwrap().to_owned(), of["ttl"].as_u64().unwrap())).collect();
        of.sort();
        of
    }

    pub(crate) fn add(&self, name: &str, kind: &str, content: &str) {
        self.create(json!({ "name": name, "type": kind, "content": content, "ttl": 300 }));
    }

    /// It stands before addresses, and writes the time to live that it chooses itself as one.
    fn exported(&self) -> String {
        let domain = self.domain;
        let mut text = format!(
            ";;\n;; Domain:     {domain}.\n;; Exported:   2026-11-26 12:00:00\n;;\n;; SOA Record\n\
             {domain}\t3600\tIN\tSOA\tada.ns.cloudflare.com. dns.cloudflare.com. 2050131287 10000 2400 604800 3600\n\n\
             ;; NS Records\n{domain}.\t86400\tIN\tNS\tada.ns.cloudflare.com.\n\n"
        );
        for record in &self.records.lock().unwrap().1 {
            let [name, kind, content] = ["name", "type", "content"].map(|field| record[field].as_str().unwrap());
            let proxied = if kind == "A" { " ; cf_tags=cf-proxied:true" } else { "" };
            text += &format!("{name}.\t1\tIN\t{kind}\t{content}{proxied}\n");
        }
        text
    }

    fn create(&self, mut record: Value) -> Value {
        let mut records = self.records.lock().unwrap();
        records.0 += 1;
        record["id"] = json!(format!("{:032x}", records.0));
        records.1.push(record.clone());
        record
    }
}

fn well(result: Value) -> (u16, Value) {
    (200, json!({ "success": true, "errors": [], "messages": [], "result": result }))
}

fn refused(status: u16, code: u16, message: &str) -> (u16, Value) {
    let errors = json!([{ "code": code, "message": message }]);
    (status, json!({ "success": false, "errors": errors, "messages": [], "result": null }))
}

impl Interface for Cloudflare {
    fn answer(&self, asked: &Asked<'_>) -> (u16, Value) {
        if asked.authorization != Some(&format!("Bearer {}", self.token)) {
            return refused(403, 9109, "Invalid access token");
        }
        let field = |name: &str| {
            let mut fields = asked.query.split('&').filter_map(|field| field.split_once('='));
            fields.find(|(of, _)| *of == name).map(|(_, value)| value.to_owned())
        };
        let records = format!("/client/v4/zones/{ZONE}/dns_records");
        match (asked.method, asked.path) {
            ("GET", "/client/v4/zones") => {
                let is_it = field("name").as_deref() == Some(self.domain);
                well(if is_it { json!([{ "id": ZONE, "name": self.domain }]) } else { json!([]) })
            }
            ("GET", path) if path == records => {
                let all = self.records.lock().unwrap();
                let (name, kind) = (field("name").unwrap(), field("type").unwrap());
                let of = all.1.iter().filter(|of| of["name"] == *name && of["type"] == *kind);
                well(of.cloned().collect())
            }
            ("GET", path) if path == format!("{records}/export") => (200, Value::String(self.exported())),
            ("POST", path) if path == records => {
                let record: Value = serde_json::from_slice(asked.body).unwrap();
                // One is for "automatic".
                if !matches!(record["ttl"].as_u64(), Some(1 | 60..=86_400)) || record["proxied"] != false {
                    return refused(
                        400,
                        9021,
                        "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic.",
                    );
                }
                well(self.create(record))
            }
            ("DELETE", path) => {
                let Some(id) = path.strip_prefix(&format!("{records}/")) else { return refused(404, 7003, "No route") };
                self.records.lock().unwrap().1.retain(|of| of["id"] != id);
                well(json!({ "id": id }))
            }
            _ => refused(405, 10405, "Method not allowed for this authentication scheme"),
        }
    }
}
