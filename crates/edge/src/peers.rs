//! What two edges say to each other over a link: HTTP/2, with a few fields beside the reader's own.
//!
//! | purpose | method and target | answer |
//! |---|---|---|
//! | `read` | as the page's | canonical bytes from this edge's store, fetched if need be: the application renders once |
//! | `live` | the reader's | the application's answer, for the reader whose address is passed on |
//! | `epoch` | GET | nothing but the epoch that this edge knows |
//! | `list` | GET | JSON list of all pages of the site that are known here, with their lengths (`known`) |
//! | `certificates` | POST | those of public authorities that are newer here: see [`crate::passed`] |
//! | `changes` | GET | a line whenever a site changed, for as long as the link lives: see [`crate::notice`] |
//!
//! The asker names the site and the epoch of the primary it believes in, with its proof. An edge that is asked with a
//! higher epoch than its own, and finds it proven, stops taking writes for the site: it is the old primary ([`epochs`]).
//!
//! An edge that has a site's source on its own host answers for it. One that stands beside it, on another host of the
//! primary data center, answers too when it is asked by another data center that may pass questions on: it asks the
//! source's edge, or shows a page that it keeps. Any other says "elsewhere", and the asker goes on ([`Edges`]). What is
//! passed on carries no leave to be passed on again, and nothing that comes from the own data center has it.
//!
//! [`Edges`]: crate::upstream::edges::Edges

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use sovereign_model::{DatacenterName, SiteName};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use crate::body::{Body, ChannelBody};
use crate::edge::{Edge, received};
use crate::epochs::Claim;
use crate::generation::{Generation, Site};
use crate::limit::Rate;
use crate::notice::{Notice, What};
use crate::read::Beside;
use crate::route::{Asked, Class, Decision, Refusal, Route};
use crate::store::Known;
use crate::tls::PeerKey;
use crate::upstream::Upstream;
use crate::{epochs, known, live, pages, passed, read};

const SITE: HeaderName = HeaderName::from_static("sovereign-site");
const PURPOSE: HeaderName = HeaderName::from_static("sovereign-purpose");
const READER: HeaderName = HeaderName::from_static("sovereign-reader");
const EPOCH: HeaderName = HeaderName::from_static("sovereign-epoch");
/// Data center and signature, see [`Claim`].
const EPOCH_PROOF: HeaderName = HeaderName::from_static("sovereign-epoch-proof");
/// Says that notices may name pages.
const NOTICES: HeaderName = HeaderName::from_static("sovereign-notices");
const PAGES: HeaderValue = HeaderValue::from_static("pages");
/// On a question: an edge that has no application may pass it on to the one that has.
const PASS_ON: HeaderName = HeaderName::from_static("sovereign-pass-on");
const MAY: HeaderValue = HeaderValue::from_static("may");
/// On an answer: where the site's application is, see [`SourceIs`].
const SOURCE: HeaderName = HeaderName::from_static("sovereign-source");
/// On a stream of notices: the sites that this edge speaks of.
const SITES: HeaderName = HeaderName::from_static("sovereign-sites");

/// What an edge says of where a site's application is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceIs {
    /// On its host.
    Here,
    /// On another, from where this answer comes.
    Beside,
    /// Not on its host, and the question was not acted on.
    Elsewhere,
    /// Away: the answer is a page that was kept.
    Away,
}

impl SourceIs {
    const ALL: [(Self, &str); 4] =
        [(Self::Here, "here"), (Self::Beside, "beside"), (Self::Elsewhere, "elsewhere"), (Self::Away, "away")];

    fn value(self) -> HeaderValue {
        let text = Self::ALL.iter().find(|(is, _)| *is == self).map_or("", |(_, text)| text);
        HeaderValue::from_static(text)
    }
}

/// Takes what a peer says of the source off its answer.
pub(crate) fn take_word(answer: &mut Response<Body>) -> Option<SourceIs> {
    let word = answer.headers_mut().remove(SOURCE)?;
    SourceIs::ALL.iter().find(|(_, text)| word == text).map(|(is, _)| *is)
}

/// What a request over a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Read,
    Live,
    List,
    Epoch,
    Certificates,
    Changes,
}

impl Purpose {
    const ALL: [(Self, &str); 6] = [
        (Self::Read, "read"),
        (Self::Live, "live"),
        (Self::List, "list"),
        (Self::Epoch, "epoch"),
        (Self::Certificates, "certificates"),
        (Self::Changes, "changes"),
    ];

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(purpose, _)| *purpose == self).map_or("", |(_, text)| text)
    }

    fn of(fields: &HeaderMap) -> Option<Self> {
        let text = fields.get(PURPOSE)?.to_str().ok()?;
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(purpose, _)| *purpose)
    }
}

/// Says on `request` what it is for.
pub(crate) fn address(request: &mut Request<Body>, site: &Site, purpose: Purpose, reader: Option<IpAddr>) {
    let fields = request.headers_mut();
    remove_claims(fields);
    fields.insert(SITE, text(site.name().as_str()));
    fields.insert(PURPOSE, HeaderValue::from_static(purpose.as_str()));
    say_epoch(fields, site);
    if !site.is_written_beside {
        fields.insert(PASS_ON, MAY);
    }
    if let Some(reader) = reader {
        fields.insert(READER, text(&reader.to_string()));
    }
}

fn text(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).expect("names, addresses and digits are visible ASCII")
}

fn say_epoch(fields: &mut HeaderMap, site: &Site) {
    let newest = site.newest();
    fields.insert(EPOCH, HeaderValue::from(newest.as_ref().map_or(site.config.epoch, |claim| claim.epoch)));
    // A signature comes from a signed configuration; a text that is none is left out.
    let proof = newest.and_then(|Claim { proof, .. }| format!("{} {}", proof.primary, proof.signature).try_into().ok());
    fields.extend(proof.map(|proof| (EPOCH_PROOF, proof)));
}

/// The epoch that a peer's fields name, 0 if none; and with what proof, which is yet to be checked.
pub(crate) fn epoch_of(fields: &HeaderMap) -> (u64, Option<Claim>) {
    let field = |name: HeaderName| fields.get(name).and_then(|value| value.to_str().ok());
    let epoch = field(EPOCH).and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    (epoch, field(EPOCH_PROOF).and_then(|proof| Claim::of(epoch, proof)))
}

/// Asks a peer to say when sites change.
pub(crate) fn question_for_changes() -> Request<Body> {
    let mut request = Request::new(Body::empty());
    request.headers_mut().insert(PURPOSE, HeaderValue::from_static(Purpose::Changes.as_str()));
    request.headers_mut().insert(NOTICES, PAGES);
    request
}

/// Asks a peer for certificates that are newer than `known`.
pub(crate) fn question_for_certificates(known: Vec<u8>) -> Request<Body> {
    let mut request = Request::new(Body::whole(known.into()));
    *request.method_mut() = Method::POST;
    request.headers_mut().insert(PURPOSE, HeaderValue::from_static(Purpose::Certificates.as_str()));
    request
}

/// Which of `sites` the answer to [`question_for_changes`] is about; an older edge does not say.
pub(crate) fn spoken_of(answer: &HeaderMap, sites: &[Arc<Site>]) -> Vec<Arc<Site>> {
    let Some(named) = answer.get(SITES).and_then(|named| named.to_str().ok()) else { return sites.to_vec() };
    sites.iter().filter(|site| named.split(' ').any(|name| name == site.name().as_str())).cloned().collect()
}

/// Asks a peer whether it has the application of `site`.
pub(crate) fn question_where(site: &SiteName) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    request.headers_mut().insert(SITE, text(site.as_str()));
    request.headers_mut().insert(PURPOSE, HeaderValue::from_static(Purpose::Epoch.as_str()));
    request
}

/// Asks the primary's edge which pages `site` has.
pub(crate) fn question_for_list(site: &Site) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    address(&mut request, site, Purpose::List, None);
    known::accept(request.headers_mut());
    request
}

/// Removes what a reader may have sent under the names of the link's own fields.
pub(crate) fn remove_claims(fields: &mut HeaderMap) {
    for name in [SITE, PURPOSE, READER, EPOCH, EPOCH_PROOF, NOTICES, PASS_ON] {
        fields.remove(name);
    }
}

/// Answers a request of the edge that has shown `peer`.
pub(crate) async fn answer(edge: &Arc<Edge>, request: Request<Incoming>, peer: PeerKey) -> Response<Body> {
    edge.counters.asked_by_edges.one();
    let mut request = live::in_old_words(request);
    let generation = edge.generation();
    let Some(datacenter) = generation.peer(peer).map(|peer| &peer.datacenter) else {
        return pages::text(StatusCode::FORBIDDEN, "This key is no longer a peer's.");
    };
    let Some(purpose) = Purpose::of(request.headers()) else {
        return pages::text(StatusCode::BAD_REQUEST, "The request does not say what it is for.");
    };
    if purpose == Purpose::Changes {
        let pages = request.headers().get(NOTICES) == Some(&PAGES);
        return changes(edge, datacenter.clone(), pages);
    }
    if purpose == Purpose::Certificates {
        return passed::answer(edge, datacenter, request).await;
    }
    let named = named_site(&generation, request.headers());
    if let Some(site) = named {
        epochs::hear(edge, &generation, site, request.headers());
    }
    if purpose == Purpose::Epoch {
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        named.into_iter().for_each(|site| say_epoch(answer.headers_mut(), site));
        if named.is_some_and(|site| site.upstream.is_local()) {
            answer.headers_mut().insert(SOURCE, SourceIs::Here.value());
        }
        return answer;
    }
    let Some(site) = named.filter(|site| site.upstream.is_local() || site.is_written_beside) else {
        return elsewhere();
    };
    if !keeps(&generation, datacenter, site.name()) {
        if site.is_written_beside {
            return elsewhere();
        }
        return pages::text(StatusCode::FORBIDDEN, "This data center keeps no copy of the site.");
    }
    let passed_on = request.headers().get(PASS_ON) == Some(&MAY) && *datacenter != generation.config.datacenter;
    if purpose == Purpose::List {
        return list(edge, site, request.headers()).await;
    }
    let reader: Option<IpAddr> = request.headers().get(READER).and_then(|reader| reader.to_str().ok()?.parse().ok());
    // A mirror's own question has no reader; it asks only for what everybody may read.
    let reader = reader.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    remove_claims(request.headers_mut());
    let route = match resolve(&generation, &request, reader) {
        Ok(route) => route,
        Err(refusal) => return pages::refused(refusal),
    };
    // The host decides rules and keys, the field decides the source: both must mean one site.
    if route.site.site != *site.name() {
        return pages::text(StatusCode::MISDIRECTED_REQUEST, "The request names two sites.");
    }
    if purpose == Purpose::Live
        && pages::is_attempt(request.method(), &route.target)
        && let Err(wait) = edge.attempts.take(Rate::ATTEMPTS, reader, Instant::now())
    {
        return pages::slow_down(request.headers(), wait);
    }
    let limits = &generation.config.rules.limits;
    let answer = match (&route.class, purpose) {
        (Class::Read { key, fallback }, Purpose::Read) => {
            let asked =
                read::Asked { method: request.method(), fields: request.headers(), route: &route, reader, peer: true };
            if site.is_written_beside {
                return match read::beside(edge, site, key, &asked, passed_on).await {
                    Some(Beside::Asked(answer)) => said(SourceIs::Beside, answer),
                    Some(Beside::Kept(answer)) => said(SourceIs::Away, answer),
                    None => elsewhere(),
                };
            }
            read::answer(edge, site, key, fallback.as_ref(), &asked).await
        }
        (_, Purpose::Live) if site.is_written_beside && !passed_on => return elsewhere(),
        (_, Purpose::Live) => {
            let request = request.map(|body| received(body, limits));
            if site.is_written_beside {
                let passed = live::beside(edge, site, &route, request, reader).await;
                return passed.map_or_else(elsewhere, |answer| said(SourceIs::Beside, answer));
            }
            live::answer(edge, site, &route, request, reader).await
        }
        _ => pages::text(StatusCode::BAD_REQUEST, "This is not a page everybody gets."),
    };
    without_word(answer)
}

/// An application may say what it likes, but not what only edges say.
fn without_word(mut answer: Response<Body>) -> Response<Body> {
    answer.headers_mut().remove(SOURCE);
    answer
}

fn said(word: SourceIs, mut answer: Response<Body>) -> Response<Body> {
    answer.headers_mut().insert(SOURCE, word.value());
    answer
}

/// The application is not here.
fn elsewhere() -> Response<Body> {
    said(SourceIs::Elsewhere, pages::text(StatusCode::MISDIRECTED_REQUEST, "The site is not written here."))
}

fn named_site<'a>(generation: &'a Generation, fields: &HeaderMap) -> Option<&'a Arc<Site>> {
    let name: SiteName = fields.get(SITE)?.to_str().ok()?.parse().ok()?;
    generation.sites.get(&name)
}

/// The same rules as for readers who come here, for the address they come from.
fn resolve(generation: &Generation, request: &Request<Incoming>, reader: IpAddr) -> Result<Route, Refusal> {
    let asked = Asked { method: request.method(), uri: request.uri(), headers: request.headers(), reader };
    match generation.routes.resolve(&asked) {
        Decision::Site(route) => Ok(route),
        Decision::Refused(refusal) => Err(refusal),
        Decision::Hook(_) | Decision::Health => {
            Err(Refusal { status: StatusCode::BAD_REQUEST, reason: "This does not come over links.", allow: None })
        }
    }
}

/// Every page of the site that is known here: a mirror that has them all is complete, linked or not.
async fn list(edge: &Arc<Edge>, site: &Arc<Site>, asked: &HeaderMap) -> Response<Body> {
    let mut known = edge.store.known(site.name());
    if let Upstream::Folder(folder) = &site.upstream {
        let folder = folder.clone();
        let files = tokio::task::spawn_blocking(move || folder.list()).await;
        known.extend(files.ok().and_then(Result::ok).unwrap_or_default());
    }
    known.retain(|Known { target, .. }| target.query().is_none() || edge.store.is_linked(site.name(), target));
    // What is kept stands before what the folder says.
    known.sort_by(|one, other| one.target.cmp(&other.target));
    known.dedup_by(|other, one| one.target == other.target);
    let (kind, text) = known::encode(asked, known);
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Whether a data center keeps a copy of a site that is written here, or beside.
fn keeps(generation: &Generation, datacenter: &DatacenterName, site: &SiteName) -> bool {
    generation.sites.get(site).is_some_and(|site| site.config.mirrors.contains(datacenter))
}

/// Whether `datacenter` is told of changes of `site`: by the edge that has its source, and, for those that cannot reach
/// that one, by edges beside it. These speak to other data centers only, or they would tell each other for ever.
fn speaks_of(generation: &Generation, datacenter: &DatacenterName, site: &SiteName) -> bool {
    let Some(found) = generation.sites.get(site) else { return false };
    let led_on = found.is_written_beside && *datacenter != generation.config.datacenter;
    (found.upstream.is_local() || led_on) && keeps(generation, datacenter, site)
}

fn sites_told(generation: &Generation, datacenter: &DatacenterName) -> String {
    let told = generation.sites.keys().filter(|site| speaks_of(generation, datacenter, site));
    told.map(SiteName::as_str).collect::<Vec<_>>().join(" ")
}

/// A stream of notices for `datacenter`, about the sites it keeps that are written here, or beside; naming `pages` if it understands that. Ends when this
/// edge drains, so that the mirror turns to the next process.
fn changes(edge: &Arc<Edge>, datacenter: DatacenterName, pages: bool) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(1);
    let edge = edge.clone();
    let mut notices = edge.notices();
    let named = sites_told(&edge.generation(), &datacenter);
    let mut answer = Response::new(Body::stream(ChannelBody(receiver)));
    answer.headers_mut().insert(SITES, text(&named));
    tokio::spawn(async move {
        let stopping = edge.lifecycle().stopping();
        // An empty line: the link stands, and from here on no notice is missed.
        let mut said = sender.send(Ok(Bytes::from_static(b"\n"))).await;
        while said.is_ok() {
            let notice = tokio::select! {
                () = stopping.cancelled() => break,
                () = sender.closed() => break,
                notice = notices.recv() => notice,
            };
            let generation = edge.generation();
            if sites_told(&generation, &datacenter) != named {
                break; // The mirror asks again, and hears of all of them.
            }
            let changed: Vec<Notice> = match notice {
                Ok(notice) => vec![notice],
                // Which ones were missed is not known: all of them may have changed.
                Err(RecvError::Lagged(_)) => {
                    let all = generation.sites.keys().cloned();
                    all.map(|site| Notice { site, what: What::Anything }).collect()
                }
                Err(RecvError::Closed) => break,
            };
            let told = changed.iter().filter(|notice| speaks_of(&generation, &datacenter, &notice.site));
            for line in told.filter_map(|notice| notice.line(pages)) {
                said = sender.send(Ok(line.into())).await;
            }
        }
    });
    answer
}
