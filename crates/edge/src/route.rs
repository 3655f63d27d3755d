//! Where a request belongs: which site, which origin its reader sees, and which class of answer it may get.
//!
//! Promise: a request that carries anything of one reader (a session, a password, an unsafe method) is never of class
//! [`Class::Read`], so nothing made for one reader can come from, or get into, the shared store. Two spellings of one
//! page have one [`Key`]; ambiguous requests are refused before any cache is asked.
//!
//! ```text
//!   method, target, Host, cookies ──► Routes::resolve ──► Refused (400 403 404 405 421)
//!                                                     ├─► Hook    webhook of the site's application
//!                                                     ├─► Health  an agent looks whether this edge answers
//!                                                     └─► Site ──► Read   from the store
//!                                                              ├─► Live   to the source, nothing kept
//!                                                              └─► Admin  like Live, where it may be reached from
//! ```
//!
//! Left out: whether a kept page may be used (that is [`crate::policy`]), and the webhook's signature.

mod class;
mod target;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use sovereign_model::agent_config::HEALTH_PATH;
use sovereign_model::edge_config::{EdgeConfig, EdgeSite};
use sovereign_model::{DnsName, Origin, SiteName};

pub use class::{admits, is_mirrored};
pub use target::{BadTarget, Target};

/// Paths the edge keeps for itself; never passed to a site.
const OWN: &str = "/.sovereign/";
/// Below it, one path per site takes the application's webhooks.
const HOOKS: &str = "/.sovereign/hooks/";

/// What a page is kept under: the same for all names of the site.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Whose page.
    pub site: SiteName,
    /// Which page.
    pub target: Target,
    /// Which of its variants, where the page depends on what a request says (RFC 9111 section 4.1); 0 is the first.
    pub variant: u8,
}

impl Key {
    /// Variants of one page at most, beside the first. Beyond it they take each other's place.
    pub const MOST_VARIANTS: u8 = 16;

    /// The page itself, or its first variant.
    pub fn new(site: SiteName, target: Target) -> Self {
        Self { site, target, variant: 0 }
    }

    /// Another variant of the same page.
    pub fn variant(&self, variant: u8) -> Self {
        Self { variant, ..self.clone() }
    }
}

/// The parts of a request that decide its route.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its target as parsed by the HTTP implementation: origin form, or absolute form (always so in HTTP/2).
    pub uri: &'a Uri,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// The reader's address.
    pub reader: IpAddr,
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Decision {
    /// It is for a site.
    Site(Route),
    /// A webhook for this site; the signature is still to be checked.
    Hook(SiteName),
    /// Somebody looks whether this edge answers.
    Health,
    /// It gets this answer.
    Refused(Refusal),
}

/// A request that belongs to a site.
#[derive(Debug, Clone)]
pub struct Route {
    /// The site.
    pub site: Arc<EdgeSite>,
    /// The origin the reader sees: `https`, and the host and port that were asked for.
    pub origin: Origin,
    /// What was asked for, in canonical form: what a live request is passed on with.
    pub target: Target,
    /// Which kind of answer it may get.
    pub class: Class,
}

impl Route {
    /// Whether the reader sees another origin than the one the site's links carry.
    pub fn rewritten(&self) -> bool {
        self.origin != self.site.canonical
    }
}

/// Which kind of answer a request may get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// The page everybody gets, from the store or, at a miss, from the source, asked for `key.target`.
    Read {
        /// What it is kept under.
        key: Key,
        /// The page without its query, good enough while the source is away.
        fallback: Option<Key>,
    },
    /// Passed through to the source; the answer is this reader's own and is not kept.
    Live {
        /// The public page that may be served instead while the source is away.
        copy: Option<Key>,
    },
    /// Like `Live`, for the admin interface; its reach was checked.
    Admin,
}

/// An answer without a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// One sentence for the reader.
    pub reason: &'static str,
    /// The methods that would have been taken, where the method is what was wrong.
    pub allow: Option<&'static str>,
}

/// Why a configuration gives no routes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Two sites claim one name.
    #[error("sites {first} and {second} are both served under {name}")]
    SharedName {
        /// The name.
        name: DnsName,
        /// The site that has it.
        first: SiteName,
        /// The site that wants it too.
        second: SiteName,
    },
    /// Two sites with one name.
    #[error("site {site} is configured twice")]
    SharedSite {
        /// The name.
        site: SiteName,
    },
}

/// All sites of an edge, by the names they are served under.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    hosts: BTreeMap<DnsName, Arc<EdgeSite>>,
    /// The origins that readers usually see, as browsers name them: those need not be parsed each time.
    usual: HashMap<String, Origin>,
    sites: BTreeMap<SiteName, Arc<EdgeSite>>,
}

impl Routes {
    /// The routes of a configuration.
    pub fn build(config: &EdgeConfig) -> Result<Self, RouteError> {
        let mut routes = Self::default();
        for site in &config.sites {
            let site = Arc::new(site.clone());
            if routes.sites.insert(site.site.clone(), Arc::clone(&site)).is_some() {
                return Err(RouteError::SharedSite { site: site.site.clone() });
            }
            for name in std::iter::once(site.canonical.host()).chain(&site.names) {
                match routes.hosts.insert(name.clone(), Arc::clone(&site)) {
                    Some(other) if other.site != site.site => {
                        return Err(RouteError::SharedName {
                            name: name.clone(),
                            first: other.site.clone(),
                            second: site.site.clone(),
                        });
                    }
                    _ => {
                        let origin = Origin::https(name.clone(), site.canonical.port());
                        routes.usual.insert(origin.authority(), origin);
                    }
                }
            }
        }
        Ok(routes)
    }

    /// The site of this name.
    pub fn site(&self, site: &SiteName) -> Option<&Arc<EdgeSite>> {
        self.sites.get(site)
    }

    /// All sites, by name.
    pub fn sites(&self) -> impl Iterator<Item = &Arc<EdgeSite>> {
        self.sites.values()
    }

    /// The site that is served under the name of `host`, which may carry a port.
    pub fn site_of_host(&self, host: &str) -> Option<&SiteName> {
        let parse = || origin(&host.parse().ok()?).ok();
        let origin =
            self.usual.get(host).map_or_else(|| parse().map(Cow::Owned), |usual| Some(Cow::Borrowed(usual)))?;
        self.hosts.get(origin.host()).map(|site| &site.site)
    }

    /// What becomes of a request.
    pub fn resolve(&self, asked: &Asked<'_>) -> Decision {
        self.try_resolve(asked).unwrap_or_else(Decision::Refused)
    }

    fn try_resolve(&self, asked: &Asked<'_>) -> Result<Decision, Refusal> {
        if asked.method == Method::CONNECT || asked.method == Method::TRACE {
            return Err(refuse_method("This method is not supported.", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        let origin = match self.usual(asked) {
            Some(usual) => Ok(usual.clone()),
            None => origin(&authority(asked)?),
        };
        let text = asked.uri.path_and_query().map_or("/", |target| target.as_str());
        let target =
            Target::parse(text).map_err(|_| refuse(StatusCode::BAD_REQUEST, "The address is not in a safe form."))?;
        if target.is_under(OWN) {
            return self.own(asked.method, &target);
        }
        let origin = origin?;
        let Some(site) = self.hosts.get(origin.host()) else {
            // RFC 9110 section 15.5.20.
            return Err(refuse(StatusCode::MISDIRECTED_REQUEST, "No site of this name is served here."));
        };
        let class = class::classify(site, asked, &target)?;
        Ok(Decision::Site(Route { site: Arc::clone(site), origin, target, class }))
    }

    /// The origin, if the request names it once and as browsers do.
    fn usual(&self, asked: &Asked<'_>) -> Option<&Origin> {
        let mut hosts = asked.headers.get_all(header::HOST).iter();
        let text = match (hosts.next(), hosts.next(), asked.uri.authority()) {
            (Some(host), None, None) => host.to_str().ok()?,
            (None, None, Some(authority)) => authority.as_str(),
            _ => return None,
        };
        self.usual.get(text)
    }

    /// Webhooks come to whatever name or address the application can reach, so the host is not looked at. Nor is it where
    /// somebody looks whether an address answers.
    fn own(&self, method: &Method, target: &Target) -> Result<Decision, Refusal> {
        if target.path() == HEALTH_PATH {
            let looks = method == Method::GET || method == Method::HEAD;
            return if looks {
                Ok(Decision::Health)
            } else {
                Err(refuse_method("It is looked at with GET.", "GET, HEAD"))
            };
        }
        let site = target.path().strip_prefix(HOOKS).and_then(|name| name.parse().ok());
        match site.filter(|site| self.sites.contains_key(site)) {
            Some(site) if method == Method::POST => Ok(Decision::Hook(site)),
            Some(_) => Err(refuse_method("Webhooks are delivered with POST.", "POST")),
            None => Err(refuse(StatusCode::NOT_FOUND, "There is nothing here.")),
        }
    }
}

const fn refuse(status: StatusCode, reason: &'static str) -> Refusal {
    Refusal { status, reason, allow: None }
}

const fn refuse_method(reason: &'static str, allow: &'static str) -> Refusal {
    Refusal { status: StatusCode::METHOD_NOT_ALLOWED, reason, allow: Some(allow) }
}

/// The one authority a request names. `Host` more than once, or at odds with the target, is how requests are smuggled
/// past caches: RFC 9112 section 3.2 asks for 400.
fn authority(asked: &Asked<'_>) -> Result<Authority, Refusal> {
    const BAD: Refusal = refuse(StatusCode::BAD_REQUEST, "The request does not name one host.");
    let mut hosts = asked.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(BAD);
    }
    let host = host.map(|host| Authority::try_from(host.as_bytes()).map_err(|_| BAD)).transpose()?;
    match (host, asked.uri.authority()) {
        (Some(host), Some(target)) if !host.as_str().eq_ignore_ascii_case(target.as_str()) => Err(BAD),
        (Some(authority), _) => Ok(authority),
        (None, Some(authority)) => Ok(authority.clone()),
        (None, None) => Err(BAD),
    }
}

/// The origin a reader sees. One trailing dot is dropped, as browsers keep it in `Host`.
fn origin(authority: &Authority) -> Result<Origin, Refusal> {
    const BAD: Refusal = refuse(StatusCode::BAD_REQUEST, "The request does not name a host.");
    if authority.as_str().contains('@') {
        return Err(BAD);
    }
    let host = authority.host();
    let port = match authority.as_str().strip_prefix(host) {
        Some("") => 443,
        Some(_) => authority.port_u16().filter(|port| *port != 0).ok_or(BAD)?,
        None => return Err(BAD),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let unknown = refuse(StatusCode::MISDIRECTED_REQUEST, "No site of this name is served here.");
    Ok(Origin::https(host.parse().map_err(|_| unknown)?, port))
}

#[cfg(test)]
mod tests;
