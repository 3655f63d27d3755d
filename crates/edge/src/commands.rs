//! The control socket's answers.
//!
//! | command | fields | answer |
//! |---|---|---|
//! | `status` | | [`EdgeStatus`] |
//! | `reload` | | generation and digest now served; or why the file is refused, and the old one stays |
//! | `metrics` | | the same figures as one text in Prometheus' format |
//! | `certificate` | `name` | `pem`: key and chain of the public certificate that is shown for the name |
//! | `chain` | `name` | `pem`: the same without the key |
//! | `take` | `name`, `pem` | whether that was newer, and is shown now |
//! | `words` | | what those who renew certificates say, everywhere |
//! | `say` | `word` | nothing; the word of the one beside this edge, to be heard by all others |
//! | `fill` | `site`; `accept-removals`, `replaced` (default false) | [`SiteStatus`] of the site, whose keeper begins a pass now |
//!
//! A second socket, where one is wanted, is for the renewer beside this edge, and answers `chain`, `take`, `words` and `say` and
//! nothing else: nobody gets a key there, and nobody changes what the edge does.
//!
//! `fill` with `accept-removals` also lets the next pass remove what was held back as too much at once; with `replaced`
//! no copy is taken for fresh any more: the data behind the site is another.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;
use sovereign_model::edge_config::Source;
use sovereign_model::edge_status::{EdgeStatus, NewestPrimary, PassReason, Progress, Role, RoomReport, SiteStatus};
use sovereign_model::renewer_word::Word;
use sovereign_model::{DnsName, SiteName};
use sovereign_runtime::control::{Commands, Refusal, Request};

use crate::edge::Edge;
use crate::epochs::Claim;
use crate::generation::{Generation, Site};
use crate::store::Account;
use crate::{metrics, passed, public};

impl Edge {
    /// How this edge is, with its figures.
    pub(crate) fn status(&self) -> EdgeStatus {
        let generation = self.generation();
        EdgeStatus {
            healthy: true,
            draining: self.lifecycle().is_stopping(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            stack: generation.config.stack.clone(),
            datacenter: generation.config.datacenter.clone(),
            host: generation.config.host.clone(),
            generation: generation.number,
            config_digest: generation.digest,
            certificate: Some(generation.tls.chain),
            certificate_ends_unix: generation.tls.ends.map(unix),
            public_certificates: generation.tls.public.shown.load().told(),
            owns_store: self.may_write(),
            connections: self.lifecycle().open(),
            traffic: Some(self.counters.now()),
            access_log: self.access.status(&generation),
            sites: generation.sites.values().map(|site| self.site_status(&generation, site)).collect(),
        }
    }

    fn site_status(&self, generation: &Generation, site: &Site) -> SiteStatus {
        let stats = self.store.stats(site.name());
        let account = self.store.account(site.name());
        let standing = &site.standing;
        let said = || standing.news.is_pending().then(|| Progress::begun(PassReason::Change));
        let (pass, last_pass) = (standing.progress().or_else(said), standing.last_pass());
        let known = pass.as_ref().map(|pass| pass.known).max(last_pass.as_ref().map(|last| last.known));
        let primary = match &site.config.source {
            Source::Link(datacenter) => Some(datacenter.clone()),
            Source::Unix(_) | Source::Tcp(_) | Source::Folder(_) => None,
        };
        SiteStatus {
            site: site.name().clone(),
            canonical: site.config.canonical.clone(),
            app: site.config.app.clone(),
            role: if primary.is_some() { Role::Mirror } else { Role::Primary },
            primary,
            epoch: site.config.epoch,
            superseded: standing.is_superseded(site.config.epoch),
            newest: site.newest().map(|Claim { epoch, proof }| NewestPrimary { epoch, proof }),
            private: standing.is_private(),
            maintenance: site.config.maintenance,
            complete: standing.is_private()
                || last_pass.as_ref().is_some_and(|last| last.complete && account.left_out == 0),
            pages_kept: stats.kept,
            pages_known: known.unwrap_or(0).max(stats.kept),
            pages_stale: stats.stale,
            bytes: stats.bytes,
            bytes_known: stats.bytes + account.awaited,
            room: Some(self.room_report(generation, site.name(), &account)),
            oldest_fetch_unix: stats.oldest.map(unix),
            newest_fetch_unix: stats.newest.map(unix),
            source: standing.source_report(),
            pass,
            last_pass,
        }
    }

    fn room_report(&self, generation: &Generation, name: &SiteName, account: &Account) -> RoomReport {
        // What the others at this edge still want of the disk is not this one's.
        let others = generation.sites.keys().filter(|other| *other != name);
        let wanted = others.map(|other| self.store.account(other).wanted()).sum();
        let facts = account.facts.without(wanted);
        RoomReport {
            keep: facts.keep,
            budget: facts.budget,
            limit: facts.limit(),
            page_bytes: facts.pages,
            left_out: account.left_out,
            left_out_bytes: account.left_out_bytes,
        }
    }

    fn say(&self, word: Word) -> Result<Value, Refusal> {
        let generation = self.generation();
        if word.by != generation.config.edge() {
            return Err(Refusal::new(format!("the words of {} are said at its own edge", word.by)));
        }
        if self.board.take(word, &generation.config.stack, &self.trust) {
            return Ok(serde_json::json!({}));
        }
        Err(Refusal::new("the word is not later than the one before, or is not signed as it should be"))
    }

    fn fill(&self, request: &Request) -> Result<Value, Refusal> {
        let name: SiteName = request.field("site")?;
        let accept_removals = request.field::<Option<bool>>("accept-removals")?.unwrap_or(false);
        let generation = self.generation();
        let site = generation
            .sites
            .get(&name)
            .ok_or_else(|| Refusal::new(format!("there is no site {name} here")).help("`status` lists the sites"))?;
        if !self.may_write() {
            return Err(Refusal::new("another process owns the store").help("ask again when the old edge has drained"));
        }
        if request.field::<Option<bool>>("replaced")?.unwrap_or(false) {
            self.site_replaced(site);
        }
        site.standing.request_pass(accept_removals);
        Ok(json(&self.site_status(&generation, site)))
    }
}

/// The edge as seen from its control socket.
pub(crate) struct Control(pub(crate) Arc<Edge>);

impl Commands for Control {
    async fn answer(&self, request: Request) -> Result<Value, Refusal> {
        let edge = self.0.clone();
        match request.command.as_str() {
            "status" => Ok(json(&edge.status())),
            "metrics" => Ok(Value::String(metrics::render(&edge.status()))),
            "reload" => {
                // Reads and checks files.
                let reloaded = tokio::task::spawn_blocking(move || edge.reload()).await;
                let generation = reloaded
                    .map_err(|_| Refusal::new("the edge is stopping"))?
                    .map_err(|error| Refusal::because(&error, error.help()))?;
                Ok(serde_json::json!({"generation": generation.number, "config-digest": generation.digest}))
            }
            "fill" => edge.fill(&request),
            "certificate" => Ok(serde_json::json!({"pem": shown(&edge, request.field("name")?).await?})),
            _ => of_renewers(edge, request).await,
        }
    }
}

/// The edge as seen by the renewer beside it.
pub(crate) struct Renewal(pub(crate) Arc<Edge>);

impl Commands for Renewal {
    async fn answer(&self, request: Request) -> Result<Value, Refusal> {
        of_renewers(self.0.clone(), request).await
    }
}

/// What is asked by those who renew.
async fn of_renewers(edge: Arc<Edge>, request: Request) -> Result<Value, Refusal> {
    match request.command.as_str() {
        "take" => {
            let (name, text): (DnsName, String) = (request.field("name")?, request.field("pem")?);
            // Makes files durable.
            let handed = tokio::task::spawn_blocking(move || passed::hand(&edge, &name, &text)).await;
            let newer = handed.map_err(|_| Refusal::new("the edge is stopping"))??;
            Ok(serde_json::json!({"newer": newer}))
        }
        "chain" => {
            let file = shown(&edge, request.field("name")?).await?;
            Ok(serde_json::json!({"pem": public::certificates_in(&file)}))
        }
        "words" => Ok(serde_json::json!({"words": edge.board.all()})),
        "say" => edge.say(request.field("word")?),
        _ => Err(request.unknown()),
    }
}

/// The file of the certificate that is shown for a name.
async fn shown(edge: &Arc<Edge>, name: DnsName) -> Result<String, Refusal> {
    let edge = edge.clone();
    // Reads files.
    let found = tokio::task::spawn_blocking(move || {
        let generation = edge.generation();
        public::file_of(&generation.config, &generation.tls.public.shown.load(), &name)
    });
    let found = found.await.map_err(|_| Refusal::new("the edge is stopping"))?;
    found.ok_or_else(|| Refusal::new("no public certificate is shown for that name"))
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("names, numbers and texts serialize to JSON")
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
