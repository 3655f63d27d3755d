//! Epochs: which primary of a site is the newest.
//!
//! A data center that was cut off while another one became the primary knows nothing of it when it comes back. So edges
//! tell each other: beside everything that they ask over links, and, since a new primary has nothing to ask of the old
//! one, in a question of its own, which also brings the other's epoch.
//!
//! Promise: a higher epoch is believed only with the management machine's signature over stack, site, epoch and primary;
//! any peer may pass that on and none can make it up, or one of them could stop all writes. What was believed is kept
//! beside the store, with its proof, and checked again when the process starts. What is left out: sending writes on to
//! the new primary, which is the next configuration's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode};
use sovereign_model::edge_config::{EdgeSite, EpochProof, epoch_statement};
use sovereign_model::{SiteName, StackName};
use sovereign_runtime::VerifyingKey;
use sovereign_runtime::signed::is_attested;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::body::Body;
use crate::edge::Edge;
use crate::generation::{Generation, Site};
use crate::peers;
use crate::store::Store;
use crate::upstream::link::Link;

/// How often peers are told anew: one small request per site, and an old primary that missed all else takes writes for
/// no longer. One that starts asks at once, and a connection that is lent is used at once.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What somebody says of a site's newest primary. Its text is `2 office 9f3c…`: epoch, data center, signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) epoch: u64,
    pub(crate) proof: EpochProof,
}

impl Claim {
    /// What the configuration says.
    pub(crate) fn configured(site: &EdgeSite) -> Option<Self> {
        Some(Self { epoch: site.epoch, proof: site.epoch_proof.clone()? })
    }

    fn parse(text: &str) -> Option<Self> {
        let (epoch, proof) = text.strip_suffix('\n').unwrap_or(text).split_once(' ')?;
        Self::of(epoch.parse().ok()?, proof)
    }

    /// `proof`: data center and signature.
    pub(crate) fn of(epoch: u64, proof: &str) -> Option<Self> {
        let (primary, signature) = proof.split_once(' ')?;
        Some(Self { epoch, proof: EpochProof { primary: primary.parse().ok()?, signature: signature.to_owned() } })
    }

    /// Whether the management machine said so.
    fn holds(&self, trust: &VerifyingKey, stack: &StackName, site: &SiteName) -> bool {
        let statement = epoch_statement(stack, site, self.epoch, &self.proof.primary);
        is_attested(trust, &statement, &self.proof.signature)
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.epoch, self.proof.primary, self.proof.signature)
    }
}

/// What was believed before this process started and still holds.
pub(crate) fn recall(store: &Store, trust: &VerifyingKey, generation: &Generation) {
    for site in generation.sites.values() {
        let kept = store.newer_epoch(site.name()).and_then(|text| Claim::parse(&text));
        let Some(claim) = kept.filter(|claim| claim.epoch > site.config.epoch) else { continue };
        if claim.holds(trust, &generation.config.stack, site.name()) {
            site.standing.believe(claim);
        }
    }
}

/// A configuration that names an older primary than the one before it makes that no newer one: it comes from a machine that
/// does not know better. What was served stays believed, also by the process after this one.
pub(crate) fn carry_over(store: &Store, served: &Generation, next: &Generation) {
    for site in next.sites.values() {
        let before = served.sites.get(site.name()).and_then(|before| Claim::configured(&before.config));
        let Some(claim) = before.filter(|claim| claim.epoch > site.config.epoch) else { continue };
        let (epoch, primary) = (claim.epoch, &claim.proof.primary);
        warn!(site = %site.name(), epoch, %primary, "the configuration names an older primary than the one before it");
        let text = claim.to_string();
        site.standing.believe(claim);
        if let Err(error) = store.set_newer_epoch(site.name(), &text) {
            warn!(site = %site.name(), %error, "a restart would not know of the newer primary until a peer says so");
        }
    }
}

/// Takes note of what `fields`, a peer's, say of the primary of `site`.
pub(crate) fn hear(edge: &Arc<Edge>, generation: &Generation, site: &Site, fields: &HeaderMap) {
    let (said, claim) = peers::epoch_of(fields);
    let known = site.newest().map_or(site.config.epoch, |claim| claim.epoch);
    if said <= known {
        return;
    }
    let proven = claim.filter(|claim| claim.holds(&edge.trust, &generation.config.stack, site.name()));
    let Some(claim) = proven else {
        if site.standing.is_first_doubt() {
            warn!(site = %site.name(), epoch = said, "a peer names a newer primary without proof: not believed");
        }
        return;
    };
    warn!(site = %site.name(), epoch = claim.epoch, primary = %claim.proof.primary, "there is a newer primary");
    let (store, name, text) = (edge.store.clone(), site.name().clone(), claim.to_string());
    site.standing.believe(claim);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = store.set_newer_epoch(&name, &text) {
            warn!(site = %name, %error, "a restart would not know of the newer primary until a peer says so");
        }
    });
}

/// Tells the peers of `generation`, and hears from them, until `token` ends it.
pub(crate) fn start(edge: &Arc<Edge>, generation: &Arc<Generation>, token: &CancellationToken) {
    for peer in &generation.peers {
        let (edge, generation, link, token) = (edge.clone(), generation.clone(), peer.link.clone(), token.clone());
        tokio::spawn(async move { token.run_until_cancelled(tell(&edge, &generation, &link)).await });
    }
}

async fn tell(edge: &Arc<Edge>, generation: &Generation, link: &Arc<Link>) {
    loop {
        for site in generation.sites.values().filter(|site| site.newest().is_some()) {
            match link.send(question(site)).await {
                Ok(answer) if answer.status() == StatusCode::NO_CONTENT => {
                    hear(edge, generation, site, answer.headers());
                }
                Ok(answer) => debug!(status = %answer.status(), "a peer says nothing of epochs"),
                Err(error) => {
                    debug!(error = %error.in_full(), "a peer cannot be told of epochs");
                    break;
                }
            }
        }
        let _ = tokio::time::timeout(TELL_EVERY, link.lent()).await;
    }
}

fn question(site: &Site) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    peers::address(&mut request, site, peers::Purpose::Epoch, None);
    request
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sovereign_runtime::SigningKey;
    use sovereign_runtime::signed::attest;

    use super::*;

    fn claim(key: u8, stack: &str, site: &str, epoch: u64, primary: &str) -> Claim {
        let (stack, site, primary) = (stack.parse().unwrap(), site.parse().unwrap(), primary.parse().unwrap());
        let signature = attest(&SigningKey::from_bytes(&[key; 32]), &epoch_statement(&stack, &site, epoch, &primary));
        Claim { epoch, proof: EpochProof { primary, signature } }
    }

    #[test]
    fn a_claim_holds_for_the_one_thing_that_was_signed() {
        let trust = SigningKey::from_bytes(&[7; 32]).verifying_key();
        let holds = |claim: &Claim| claim.holds(&trust, &"lab".parse().unwrap(), &"blog".parse().unwrap());
        let good = claim(7, "lab", "blog", 2, "office");
        assert!(holds(&good));
        assert_eq!(Claim::parse(&format!("{good}\n")), Some(good.clone()));
        let raised = Claim { epoch: 3, ..good.clone() };
        let elsewhere = Claim { proof: EpochProof { primary: "attic".parse().unwrap(), ..good.proof.clone() }, ..good };
        for other in [
            claim(8, "lab", "blog", 2, "office"),
            claim(7, "shop", "blog", 2, "office"),
            claim(7, "lab", "shop", 2, "office"),
            raised,
            elsewhere,
        ] {
            assert!(!holds(&other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_a_peer_says_is_read_or_it_is_not(text in "([a-z]{1,9} )?[ -~]{0,200}", epoch: u64) {
            if let Some(claim) = Claim::of(epoch, &text) {
                prop_assert_eq!(Claim::parse(&claim.to_string()), Some(claim));
            }
            let trust = SigningKey::from_bytes(&[7; 32]).verifying_key();
            if let Some(claim) = Claim::parse(&text) {
                prop_assert!(!claim.holds(&trust, &"lab".parse().unwrap(), &"blog".parse().unwrap()));
            }
        }
    }

    #[test]
    fn what_is_no_claim_is_none() {
        for text in ["", "2", "2 office", "x office 00", "-1 office 00", "2 Not_A_Name 00", "2  00"] {
            assert_eq!(Claim::parse(text), None, "{text:?}");
        }
    }
}
