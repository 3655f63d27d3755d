//! One generation of the configuration, with everything that was made from it: what a request holds on to.
//!
//! Loading is all or nothing: the signature, the routes, certificate and keys, every site's source. What is refused
//! leaves the generation that is served untouched, and a request in flight keeps the generation it began with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use rustls::server::ProducesTickets;
use sovereign_model::edge_config::{EdgeConfig, EdgeSite, PROTOCOL, Source};
use sovereign_model::edge_name::EdgeName;
use sovereign_model::{DatacenterName, Digest, Origin, SiteName};
use sovereign_runtime::VerifyingKey;
use sovereign_runtime::signed::{self, Opened, SignedError};

use crate::epochs::Claim;
use crate::pages::Absence;
use crate::policy::Via;
use crate::rewrite::Rewriter;
use crate::route::{Route, RouteError, Routes};
use crate::signature::HookSecret;
use crate::standing::Standing;
use crate::tls::{CredentialError, LINK_ALPN, PeerKey, Tls};
use crate::upstream::Upstream;
use crate::upstream::edges::Edges;
use crate::upstream::folder::Folder;
use crate::upstream::link::Link;
use crate::upstream::service::{Place, Service};

/// Why a configuration is not served.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file is missing or unreadable.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The envelope is not one of ours.
    #[error("{} is refused", path.display())]
    Signed {
        /// The configuration file.
        path: PathBuf,
        /// Why.
        source: SignedError,
    },
    /// What was signed is not a configuration of an edge.
    #[error("generation {generation} is not an edge's configuration")]
    Payload {
        /// Its number.
        generation: u64,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// Older than what is served, or another one under the same number.
    #[error("generation {offered} is refused: generation {served} is served")]
    NotNewer {
        /// In the file.
        offered: u64,
        /// Now.
        served: u64,
    },
    /// It is meant for another edge, or moves the store of this one.
    #[error("generation {generation} is for another edge or another store folder")]
    OtherEdge {
        /// Its number.
        generation: u64,
    },
    /// Sites and names contradict each other.
    #[error("the sites contradict each other")]
    Routes(#[source] RouteError),
    /// Certificate or keys.
    #[error("certificate or keys cannot be used")]
    Credentials(#[source] CredentialError),
    /// A site is mirrored from a data center that is no peer.
    #[error("site {site} comes from data center {datacenter}, which is not among the peers")]
    NoSuchPeer {
        /// The site.
        site: SiteName,
        /// The data center.
        datacenter: DatacenterName,
    },
    /// Two peers, or a peer and this edge, have one key: their words could not be told apart.
    #[error("the edge of {peer} has the link key of another edge")]
    SameKey {
        /// The peer.
        peer: EdgeName,
    },
    /// The file of a webhook secret is empty.
    #[error("the webhook secret of site {site} is empty")]
    EmptySecret {
        /// The site.
        site: SiteName,
    },
}

impl ConfigError {
    /// What the operator should do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Signed { source, .. } => source.help(),
            Self::Credentials(source) => source.help(),
            Self::OtherEdge { .. } => Some("replace the process instead: the supervisor starts one per edge".into()),
            Self::NotNewer { .. } => {
                Some("another management machine deployed since: `sovereign plan` shows what it did".into())
            }
            _ => Some("`sovereign up` writes the configuration and its files anew".into()),
        }
    }
}

/// Rewriters kept per site: a reader chooses the port, so the number of origins is not bounded by the configuration.
const MOST_REWRITERS: usize = 32;

/// One generation, ready to serve.
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) digest: Digest,
    pub(crate) config: EdgeConfig,
    pub(crate) routes: Routes,
    pub(crate) tls: Tls,
    pub(crate) sites: BTreeMap<SiteName, Arc<Site>>,
    /// The other edges, in order of preference.
    pub(crate) peers: Vec<Partner>,
    /// What this edge is called in what it passes on.
    pub(crate) via: Via,
}

/// Another edge, and the way to it.
pub(crate) struct Partner {
    pub(crate) key: PeerKey,
    pub(crate) datacenter: DatacenterName,
    pub(crate) link: Arc<Link>,
}

/// A site with its source.
pub(crate) struct Site {
    pub(crate) config: Arc<EdgeSite>,
    pub(crate) upstream: Upstream,
    /// Its application runs on another host of this data center.
    pub(crate) is_written_beside: bool,
    pub(crate) hook_secret: Option<HookSecret>,
    /// What browsers are told about HTTPS (RFC 6797 section 6.1).
    pub(crate) hsts: Option<HeaderValue>,
    pub(crate) standing: Arc<Standing>,
    rewriters: Mutex<BTreeMap<Origin, Rewriter>>,
}

impl Site {
    pub(crate) fn name(&self) -> &SiteName {
        &self.config.site
    }

    /// Why its source cannot be asked, when it cannot.
    pub(crate) fn absence(&self) -> Absence {
        if self.config.maintenance { Absence::Maintained } else { Absence::Away }
    }

    /// The newest primary there is proof of.
    pub(crate) fn newest(&self) -> Option<Claim> {
        let heard = self.standing.newest().filter(|claim| claim.epoch > self.config.epoch);
        heard.or_else(|| Claim::configured(&self.config))
    }

    /// What turns the site's own origin into the one the reader asked for; `None` when that is the same.
    pub(crate) fn rewriter(&self, route: &Route) -> Option<Rewriter> {
        if !route.rewritten() {
            return None;
        }
        let mut rewriters = self.rewriters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rewriter) = rewriters.get(&route.origin) {
            return Some(rewriter.clone());
        }
        let rewriter = Rewriter::new(&self.config.canonical, &route.origin);
        if rewriters.len() >= MOST_REWRITERS {
            rewriters.clear();
        }
        rewriters.insert(route.origin.clone(), rewriter.clone());
        Some(rewriter)
    }
}

impl Generation {
    /// Reads the configuration at `path`. What is known about sites is taken over from `previous`.
    pub(crate) fn load(
        path: &Path,
        trust: &VerifyingKey,
        previous: Option<&Self>,
        tickets: Arc<dyn ProducesTickets>,
    ) -> Result<Self, ConfigError> {
        let bytes = read(path)?;
        let Opened { generation, payload, .. } = signed::open(trust, PROTOCOL, &bytes)
            .map_err(|source| ConfigError::Signed { path: path.to_owned(), source })?;
        let digest = Digest::of(&payload);
        let config: EdgeConfig =
            serde_json::from_str(&payload).map_err(|source| ConfigError::Payload { generation, source })?;
        if let Some(previous) = previous {
            previous.may_be_followed_by(generation, digest, &config)?;
        }
        let routes = Routes::build(&config).map_err(ConfigError::Routes)?;
        let mut keys = Vec::new();
        for peer in &config.peers {
            let key = PeerKey::of(peer).map_err(ConfigError::Credentials)?;
            if keys.contains(&key) {
                return Err(ConfigError::SameKey { peer: peer.edge() });
            }
            keys.push(key);
        }
        let tls = Tls::load(&config, &keys, tickets).map_err(ConfigError::Credentials)?;
        let mut peers = Vec::new();
        for (peer, key) in config.peers.iter().zip(keys) {
            if tls.is_ours(key) {
                return Err(ConfigError::SameKey { peer: peer.edge() });
            }
            let dialer = tls.dialer(key, LINK_ALPN).map_err(ConfigError::Credentials)?;
            // One that stays the same is kept: a peer that can only dial out has lent it its connection.
            let same = previous.filter(|old| old.tls.has_identity_of(&tls) && old.config.peers.contains(peer));
            let link = same.and_then(|old| old.peer(key)).map(|old| old.link.clone());
            let link = link.unwrap_or_else(|| Link::new(peer, dialer));
            peers.push(Partner { key, datacenter: peer.datacenter.clone(), link });
        }
        let mut sites = BTreeMap::new();
        for site in routes.sites() {
            let standing = previous.and_then(|previous| previous.sites.get(&site.site)).map(|old| old.standing.clone());
            let upstream = match &site.source {
                Source::Unix(_) | Source::Tcp(_) if site.maintenance => Upstream::Maintained,
                Source::Unix(path) => Upstream::Service(Service::new(Place::Unix(path.clone()))),
                Source::Tcp(address) => Upstream::Service(Service::new(Place::Tcp(*address))),
                Source::Folder(path) => Upstream::Folder(Folder::new(path.clone())),
                Source::Link(datacenter) => {
                    let there = peers.iter().filter(|peer| peer.datacenter == *datacenter);
                    let links: Vec<_> = there.map(|peer| peer.link.clone()).collect();
                    if links.is_empty() {
                        let (site, datacenter) = (site.site.clone(), datacenter.clone());
                        return Err(ConfigError::NoSuchPeer { site, datacenter });
                    }
                    Upstream::Link(Edges::new(site.site.clone(), datacenter.clone(), links))
                }
            };
            let is_written_beside = matches!(&site.source, Source::Link(there) if *there == config.datacenter);
            let hook_secret = site.webhook_key.as_deref().map(|path| hook_secret(&site.site, path)).transpose()?;
            let standing = standing.unwrap_or_default();
            let hsts = (site.hsts_days > 0).then(|| strict_transport(site.hsts_days));
            let site = Site {
                config: site.clone(),
                upstream,
                is_written_beside,
                hook_secret,
                hsts,
                standing,
                rewriters: Mutex::default(),
            };
            sites.insert(site.name().clone(), Arc::new(site));
        }
        let via = Via::of(&config.stack, &config.datacenter, config.host.as_ref());
        Ok(Self { number: generation, digest, config, routes, tls, sites, peers, via })
    }

    /// The edge that has shown `key`, if it still is a peer.
    pub(crate) fn peer(&self, key: PeerKey) -> Option<&Partner> {
        self.peers.iter().find(|peer| peer.key == key)
    }

    fn may_be_followed_by(&self, number: u64, digest: Digest, config: &EdgeConfig) -> Result<(), ConfigError> {
        // The same one again is how a renewed certificate gets served: its files are read anew.
        if number < self.number || (number == self.number && digest != self.digest) {
            return Err(ConfigError::NotNewer { offered: number, served: self.number });
        }
        let same = |config: &EdgeConfig| (config.stack.clone(), config.datacenter.clone(), config.store.clone());
        // One that did not know its host's name may learn it.
        let moved = self.config.host.is_some() && config.host != self.config.host;
        if same(config) != same(&self.config) || moved {
            return Err(ConfigError::OtherEdge { generation: number });
        }
        Ok(())
    }
}

fn strict_transport(days: u32) -> HeaderValue {
    let seconds = u64::from(days) * 86_400;
    HeaderValue::try_from(format!("max-age={seconds}")).expect("digits and ASCII letters")
}

fn hook_secret(site: &SiteName, path: &Path) -> Result<HookSecret, ConfigError> {
    let text = String::from_utf8_lossy(&read(path)?).into_owned();
    HookSecret::from_text(&text).ok_or_else(|| ConfigError::EmptySecret { site: site.clone() })
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}
