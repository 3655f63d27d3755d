//! Certificates of public authorities, passed on from edge to edge: what was brought to one of them reaches all others that
//! serve the name, while whoever brings them is away.
//!
//! ```text
//!  this edge ──POST {"shown": {"www.example.org": 1795668784, …}}──▶ its peer     names, and from when on what is shown is valid
//!            ◀────── {"newer": {"www.example.org": "-----BEGIN …"}} ──────        those that were issued later, with their keys
//! ```
//!
//! Each edge asks each of its peers, again and again; so what comes to a mirror reaches another one through the primary.
//! Links are between keys, so nobody on the way reads them; here they lie in the edge's own folder, where the edge alone
//! reads beside root.
//!
//! Promise: a peer is told only of names that its data center serves too, whose keys it has anyway. What it says is taken
//! only when it was asked for, fits its key, is for the name, is good now, begins from a root of a declared authority,
//! and was issued later than what is shown: a peer that was taken over can make nobody show anything else.
//!
//! With it go the words of those who renew ([`crate::board`]): who asks says what it has of each, and is told what is later.
//!
//! Left out: telling peers at once. A certificate is renewed days before it ends.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::VerifierBuilderError;
use rustls::{Error as TlsError, RootCertStore};
use serde::{Deserialize, Serialize};
use sovereign_model::edge_config::{PublicAuthorities, Source};
use sovereign_model::layout::{passed_on, public_file};
use sovereign_model::renewer_word::Word;
use sovereign_model::{DatacenterName, Digest, DnsName, EdgeName};
use sovereign_runtime::certificate::{is_newer, public_roots};
use sovereign_runtime::control::Refusal;
use sovereign_runtime::file::{FileError, replace};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::body::{Body, BodyError};
use crate::edge::Edge;
use crate::generation::Generation;
use crate::public::{PublicCertificates, Ready, Unusable, file_of, ready};
use crate::upstream::link::Link;
use crate::{pages, peers};

/// How often peers are asked: one small question, and nobody waits for a certificate for longer than for anything else.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// A question is short: a name and a number for each site's names.
const MOST_ASKED: usize = 1 << 20;
/// An answer has a few kilobytes for each name; what does not fit comes with the next.
const MOST_TOLD: usize = 4 << 20;
/// A question comes at once, and an answer from memory or a few files.
const WITHIN: Duration = Duration::from_secs(20);
/// For the edge alone.
const PRIVATE: u32 = 0o600;

/// What is asked. A later program may ask for more.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Question {
    /// From when on what is shown is valid, in seconds since the Unix epoch, for each name; 0 where nothing is.
    shown: BTreeMap<DnsName, u64>,
    /// The number of the latest word that is known of each who renews.
    #[serde(default)]
    words: BTreeMap<EdgeName, u64>,
}

/// What is answered.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Told {
    /// A file for each name: key and chain, PEM.
    newer: BTreeMap<DnsName, String>,
    /// Words that are later.
    #[serde(default)]
    words: Vec<Word>,
}

/// What is not taken, whoever says so how often.
type Refused = BTreeMap<DnsName, Digest>;

/// Why nothing is taken.
#[derive(Debug, thiserror::Error)]
enum NobodyBelieved {
    #[error("the roots of the declared authorities cannot be read")]
    Unreadable(#[source] rustls::pki_types::pem::Error),
    #[error("a root of the declared authorities cannot be used")]
    Unusable(#[source] TlsError),
    #[error("there is no root that could be believed in")]
    None(#[source] VerifierBuilderError),
}

/// Why one is not taken.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("it cannot be used")]
    Unusable(#[source] Unusable),
    #[error("it cannot be believed in")]
    Unbelievable(#[source] TlsError),
    #[error("it cannot be kept")]
    Unkept(#[source] FileError),
}

/// The names of sites that are served here and in another data center.
fn shared(generation: &Generation, datacenter: &DatacenterName) -> Vec<DnsName> {
    let is_there = |source: &Source| matches!(source, Source::Link(there) if there == datacenter);
    let sites = generation.sites.values().map(|site| &site.config);
    let sites = sites.filter(|site| is_there(&site.source) || site.mirrors.contains(datacenter));
    sites.flat_map(|site| site.names.iter().cloned()).collect()
}

/// Asks the peers of `generation` for what is newer, until `token` ends it.
pub(crate) fn start(edge: &Arc<Edge>, generation: &Arc<Generation>, token: &CancellationToken) {
    let Some(authorities) = &generation.config.public_authorities else { return };
    let believed = match believed(authorities, generation) {
        Ok(believed) => believed,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            warn!(error, "no certificates are taken from other edges");
            return;
        }
    };
    for peer in &generation.peers {
        let names = shared(generation, &peer.datacenter);
        if names.is_empty() {
            continue;
        }
        let (edge, generation, link) = (edge.clone(), generation.clone(), peer.link.clone());
        let (token, believed) = (token.clone(), believed.clone());
        tokio::spawn(
            async move { token.run_until_cancelled(follow(&edge, &generation, &link, &names, &believed)).await },
        );
    }
}

fn believed(
    authorities: &PublicAuthorities,
    generation: &Generation,
) -> Result<Arc<WebPkiServerVerifier>, NobodyBelieved> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(authorities.roots.as_bytes()) {
        roots.add(root.map_err(NobodyBelieved::Unreadable)?).map_err(NobodyBelieved::Unusable)?;
    }
    if authorities.machine {
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&public_roots()).flatten());
    }
    let provider = generation.tls.provider.clone();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    verifier.build().map_err(NobodyBelieved::None)
}

async fn follow(
    edge: &Edge,
    generation: &Arc<Generation>,
    link: &Arc<Link>,
    names: &[DnsName],
    believed: &Arc<WebPkiServerVerifier>,
) {
    // It is offered again and again, and said once.
    let mut refused = Refused::new();
    loop {
        let Told { newer: mut told, words } = ask(edge, generation, link, names).await.unwrap_or_default();
        for word in words {
            edge.board.take(word, &generation.config.stack, &edge.trust);
        }
        told.retain(|name, text| names.contains(name) && refused.get(name) != Some(&Digest::of(text)));
        if !told.is_empty() {
            let (generation, believed) = (generation.clone(), believed.clone());
            // Files are made durable.
            let taking = tokio::task::spawn_blocking(move || take(&generation, &believed, told));
            refused.extend(taking.await.unwrap_or_default());
        }
        let _ = tokio::time::timeout(ASK_EVERY, link.lent()).await;
    }
}

/// What a peer has that is newer; `None` when it does not say.
async fn ask(edge: &Edge, generation: &Generation, link: &Arc<Link>, names: &[DnsName]) -> Option<Told> {
    let shown = generation.tls.public.shown.load_full();
    let shown = names.iter().map(|name| (name.clone(), shown.of(name).map_or(0, begins))).collect();
    let question =
        peers::question_for_certificates(serde_json::to_vec(&Question { shown, words: edge.board.known() }).ok()?);
    let asking = async {
        let answer = match link.send(question).await {
            Ok(answer) if answer.status() == StatusCode::OK => answer,
            Ok(answer) => {
                debug!(status = %answer.status(), "a peer passes no certificates on");
                return None;
            }
            Err(error) => {
                debug!(error = %error.in_full(), "a peer cannot be asked for certificates");
                return None;
            }
        };
        let body = Limited::new(answer.into_body(), 2 * MOST_TOLD).collect().await.ok()?;
        serde_json::from_slice(&body.to_bytes()).ok()
    };
    tokio::time::timeout(WITHIN, asking).await.ok()?
}

fn begins(ready: &Ready) -> u64 {
    ready.begins.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Takes what a peer has told, as far as it is to be believed; what is not. Blocks.
fn take(generation: &Generation, believed: &WebPkiServerVerifier, told: BTreeMap<DnsName, String>) -> Refused {
    let (config, public) = (&generation.config, &generation.tls.public);
    let _in_turn = public.taking.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut taken, mut refused) = (false, Refused::new());
    for (name, text) in told {
        match take_one(generation, believed, &name, &text) {
            Ok(true) => {
                info!(%name, "a newer certificate of a public authority was passed on by another edge");
                taken = true;
            }
            // Another peer was faster.
            Ok(false) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                warn!(%name, error, "a certificate that another edge passes on is not taken");
                refused.insert(name, Digest::of(&text));
            }
        }
    }
    if taken {
        public.shown.store(Arc::new(PublicCertificates::load(config, &generation.tls.provider)));
    }
    refused
}

fn take_one(
    generation: &Generation,
    believed: &WebPkiServerVerifier,
    name: &DnsName,
    text: &str,
) -> Result<bool, NotTaken> {
    let Generation { config, tls, .. } = generation;
    let offered = ready(name, text.as_bytes(), &tls.provider).map_err(NotTaken::Unusable)?;
    if tls.public.shown.load().of(name).is_some_and(|shown| !offered.precedes(shown)) {
        return Ok(false);
    }
    let chain = &offered.key.cert;
    let (Some((leaf, rest)), Ok(server)) = (chain.split_first(), ServerName::try_from(name.as_str())) else {
        return Err(NotTaken::Unusable(Unusable::OtherName));
    };
    let now = UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    believed.verify_server_cert(leaf, rest, &server, &[], now).map_err(NotTaken::Unbelievable)?;
    let folder = passed_on(&config.store);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|source| NotTaken::Unkept(FileError { path: folder.clone(), source }))?;
    replace(&folder.join(public_file(name)), text.as_bytes(), PRIVATE).map_err(NotTaken::Unkept)?;
    Ok(true)
}

/// Takes what one who renews beside this edge has got for a name, held to the same as what a peer says. Whether it was newer.
/// Blocks.
pub(crate) fn hand(edge: &Edge, name: &DnsName, text: &str) -> Result<bool, Refusal> {
    let generation = edge.generation();
    let authorities = generation.config.public_authorities.as_ref();
    let authorities = authorities.ok_or_else(|| Refusal::new("no authority is declared here"))?;
    if !generation.sites.values().any(|site| site.config.names.contains(name)) {
        return Err(Refusal::new(format!("{name} is not served here")));
    }
    if !edge.may_write() {
        return Err(Refusal::new("another process owns the store").help("ask again when the old edge has drained"));
    }
    let believed = believed(authorities, &generation).map_err(|error| Refusal::because(&error, None))?;
    let public = &generation.tls.public;
    let _in_turn = public.taking.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = take_one(&generation, &believed, name, text).map_err(|error| Refusal::because(&error, None))?;
    if taken {
        info!(%name, "a newer certificate of a public authority was handed over");
        public.shown.store(Arc::new(PublicCertificates::load(&generation.config, &generation.tls.provider)));
    }
    Ok(taken)
}

/// Answers a peer of a data center.
pub(crate) async fn answer(
    edge: &Arc<Edge>,
    datacenter: &DatacenterName,
    request: Request<Incoming>,
) -> Response<Body> {
    let generation = edge.generation();
    if generation.config.public_authorities.is_none() {
        return pages::text(StatusCode::NOT_FOUND, "No certificates are passed on here.");
    }
    let reading = async {
        let body = Limited::new(request.into_body(), MOST_ASKED).collect().await?;
        Ok::<Question, BodyError>(serde_json::from_slice(&body.to_bytes())?)
    };
    let Ok(Ok(Question { shown, words })) = tokio::time::timeout(WITHIN, reading).await else {
        return pages::text(StatusCode::BAD_REQUEST, "That is no list of names.");
    };
    let names = shared(&generation, datacenter);
    // Reads files.
    let newer = tokio::task::spawn_blocking(move || newer(&generation, &names, &shown)).await.unwrap_or_default();
    let told = Told { newer, words: edge.board.later_than(&words) };
    match serde_json::to_vec(&told) {
        Ok(text) => Response::new(Body::whole(Bytes::from(text))),
        Err(_) => pages::text(StatusCode::INTERNAL_SERVER_ERROR, "The certificates cannot be told."),
    }
}

/// What is shown here for `names` and was issued later than what is known there.
fn newer(generation: &Generation, names: &[DnsName], known: &BTreeMap<DnsName, u64>) -> BTreeMap<DnsName, String> {
    let shown = generation.tls.public.shown.load_full();
    let mut length = 0;
    let mut told = BTreeMap::new();
    for name in names {
        let (Some(theirs), Some(ours)) = (known.get(name), shown.of(name)) else { continue };
        let theirs = UNIX_EPOCH.checked_add(Duration::from_secs(*theirs)).unwrap_or(ours.begins);
        if !is_newer(ours.begins, theirs) || length > MOST_TOLD {
            continue;
        }
        if let Some(text) = file_of(&generation.config, &shown, name) {
            length += text.len();
            told.insert(name.clone(), text);
        }
    }
    told
}
