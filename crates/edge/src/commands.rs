//! The control socket's answers.
//!
//! | command | fields | answer |
//! |---|---|---|
//! | `status` | | [`Status`] |
//! | `reload` | | generation and digest now served; or why the file is refused, and the old one stays |
//! | `fill` | `site`; `accept-removals` (default false) | [`SiteStatus`] of the site, whose keeper begins a pass now |
//!
//! `fill` with `accept-removals` also lets the next pass remove what was held back as too much at once.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;
use sovereign_model::edge_config::{EdgeApp, Source};
use sovereign_model::{DatacenterName, Digest, Origin, SiteName, StackName};
use sovereign_runtime::control::{Commands, Refusal, Request};

use crate::edge::Edge;
use crate::generation::Site;
use crate::standing::{LastPass, Progress, SourceReport};

/// How the edge is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Status {
    /// It serves. (A drain is not unhealthy, but is said.)
    healthy: bool,
    draining: bool,
    version: &'static str,
    process: u32,
    stack: StackName,
    datacenter: DatacenterName,
    generation: u64,
    config_digest: Digest,
    /// Whether this process writes to the store; a new one does once the old one has been told to stop.
    owns_store: bool,
    /// Connections of readers and peers.
    connections: usize,
    sites: Vec<SiteStatus>,
}

/// How a site stands here.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct SiteStatus {
    site: SiteName,
    canonical: Origin,
    app: EdgeApp,
    role: Role,
    /// The data center of the primary, when it is another one.
    primary: Option<DatacenterName>,
    epoch: u64,
    /// A newer primary exists: this one takes no writes.
    superseded: bool,
    /// Closed to the public by its owner: nothing is kept.
    private: bool,
    /// The last pass kept or confirmed every page that is known.
    complete: bool,
    pages_kept: usize,
    pages_known: usize,
    pages_stale: usize,
    bytes: u64,
    /// When the page confirmed longest ago was confirmed, in seconds since the Unix epoch.
    oldest_fetch_unix: Option<u64>,
    newest_fetch_unix: Option<u64>,
    source: SourceReport,
    /// The pass that runs now.
    pass: Option<Progress>,
    last_pass: Option<LastPass>,
}

/// Whether the site is written here.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Role {
    Primary,
    Mirror,
}

impl Edge {
    fn status(&self) -> Status {
        let generation = self.generation();
        Status {
            healthy: true,
            draining: self.lifecycle().is_stopping(),
            version: env!("CARGO_PKG_VERSION"),
            process: std::process::id(),
            stack: generation.config.stack.clone(),
            datacenter: generation.config.datacenter.clone(),
            generation: generation.number,
            config_digest: generation.digest,
            owns_store: self.may_write(),
            connections: self.lifecycle().open(),
            sites: generation.sites.values().map(|site| self.site_status(site)).collect(),
        }
    }

    fn site_status(&self, site: &Site) -> SiteStatus {
        let stats = self.store.stats(site.name());
        let standing = &site.standing;
        let (pass, last_pass) = (standing.progress(), standing.last_pass());
        let known = pass.as_ref().map(|pass| pass.known).max(last_pass.as_ref().map(|last| last.known));
        let primary = match &site.config.source {
            Source::Link(datacenter) => Some(datacenter.clone()),
            Source::Unix(_) | Source::Folder(_) => None,
        };
        SiteStatus {
            site: site.name().clone(),
            canonical: site.config.canonical.clone(),
            app: site.config.app,
            role: if primary.is_some() { Role::Mirror } else { Role::Primary },
            primary,
            epoch: site.config.epoch,
            superseded: standing.is_superseded(site.config.epoch),
            private: standing.is_private(),
            complete: standing.is_private() || last_pass.as_ref().is_some_and(|last| last.complete),
            pages_kept: stats.kept,
            pages_known: known.unwrap_or(0).max(stats.kept),
            pages_stale: stats.stale,
            bytes: stats.bytes,
            oldest_fetch_unix: stats.oldest.map(unix),
            newest_fetch_unix: stats.newest.map(unix),
            source: standing.source_report(),
            pass,
            last_pass,
        }
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
        site.standing.request_pass(accept_removals);
        Ok(json(&self.site_status(site)))
    }
}

/// The edge as seen from its control socket.
pub(crate) struct Control(pub(crate) Arc<Edge>);

impl Commands for Control {
    async fn answer(&self, request: Request) -> Result<Value, Refusal> {
        let edge = self.0.clone();
        match request.command.as_str() {
            "status" => Ok(json(&edge.status())),
            "reload" => {
                // Reads and checks files.
                let reloaded = tokio::task::spawn_blocking(move || edge.reload()).await;
                let generation = reloaded
                    .map_err(|_| Refusal::new("the edge is stopping"))?
                    .map_err(|error| Refusal::because(&error, error.help()))?;
                Ok(serde_json::json!({"generation": generation.number, "config-digest": generation.digest}))
            }
            "fill" => edge.fill(&request),
            _ => Err(request.unknown()),
        }
    }
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("names, numbers and texts serialize to JSON")
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
