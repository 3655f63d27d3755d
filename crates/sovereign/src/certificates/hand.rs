//! Brings what is stored to the edges that serve the names, and remembers which edge has what.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use sovereign_certs::Store;
use sovereign_engine::public::bring;
use sovereign_model::layout::StateFolder;
use sovereign_model::{Digest, DnsName, EdgeName, Stack};
use zeroize::Zeroizing;

use super::{Certificates, Said};
use crate::failure::Failure;
use crate::kept_file;
use crate::output::{Page, figures};

/// The format of the file that says which edge has what.
const VERSION: u32 = 1;

/// What that file is called.
pub(super) const RECORD: &str = "handed.json";

/// What an edge was brought.
#[derive(Debug, Serialize)]
pub(crate) struct Handed {
    /// Certificates that it did not have.
    brought: usize,
    /// Why it does not show all of them.
    failed: Option<Said>,
}

impl Handed {
    pub(super) fn is_quiet(&self) -> bool {
        self.brought == 0 && self.is_well()
    }

    pub(super) fn is_well(&self) -> bool {
        self.failed.is_none()
    }

    pub(super) fn show(&self, edge: &EdgeName, page: &mut Page) {
        if self.brought > 0 {
            let brought = figures::count(self.brought as u64, "certificate", "certificates");
            page.line(format_args!("{edge}: shows {brought} more"));
        }
        if let Some(said) = &self.failed {
            said.show(page);
        }
    }
}

/// Which edge has what, as far as it was seen by this machine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    /// The digest of all that it was seen to show.
    edges: BTreeMap<EdgeName, Digest>,
}

fn record(state: &StateFolder) -> PathBuf {
    state.certificates().join(RECORD)
}

type Bundles = BTreeMap<DnsName, Zeroizing<String>>;

/// Everything that is stored for these names.
fn stored<'n>(state: &StateFolder, names: impl Iterator<Item = &'n DnsName>) -> Result<Bundles, Failure> {
    let store = Store::look(state.certificates());
    let mut bundles = Bundles::new();
    for name in names {
        if let Some(held) = store.state(name)?.held
            && let Some(bundle) = store.bundle(name, &held)?
        {
            bundles.insert(name.clone(), bundle);
        }
    }
    Ok(bundles)
}

/// What each edge is to show, of those that are to show anything.
fn shares<'b>(stack: &Stack, bundles: &'b Bundles) -> BTreeMap<EdgeName, BTreeMap<DnsName, &'b str>> {
    let mut shares: BTreeMap<EdgeName, BTreeMap<DnsName, &str>> = BTreeMap::new();
    for site in stack.sites.values() {
        for edge in site.datacenters().flat_map(|place| stack.datacenters[place].edges()) {
            for name in site.all_names() {
                if let Some(bundle) = bundles.get(name) {
                    shares.entry(edge.clone()).or_default().insert(name.clone(), bundle.as_str());
                }
            }
        }
    }
    shares
}

fn digest_of(share: &BTreeMap<DnsName, &str>) -> Digest {
    let digests: BTreeMap<&DnsName, Digest> = share.iter().map(|(name, text)| (name, Digest::of(text))).collect();
    Digest::of_value(&digests)
}

/// Brings everything to everybody, but to those that are left out.
///
/// # Errors
/// When what is stored cannot be read.
pub(super) async fn hand<'n>(
    Certificates { stack, state, reach, .. }: Certificates<'_>,
    names: impl Iterator<Item = &'n DnsName>,
    left_out: &BTreeSet<EdgeName>,
) -> Result<BTreeMap<EdgeName, Handed>, Failure> {
    let bundles = stored(state, names)?;
    let shares = shares(stack, &bundles);
    let asked = shares.iter().filter(|(edge, _)| !left_out.contains(*edge)).map(async |(edge, share)| {
        let handed = match bring(state, &stack.name, reach, edge, share).await {
            Ok(brought) => Handed { brought, failed: None },
            Err(error) => {
                let help = error.help();
                Handed { brought: 0, failed: Some(Said::because(&error, help)) }
            }
        };
        (edge.clone(), handed)
    });
    let handed: BTreeMap<EdgeName, Handed> = join_all(asked).await.into_iter().collect();
    let has = shares.iter().filter(|(edge, _)| handed.get(*edge).is_some_and(Handed::is_well));
    let record_now =
        Record { version: VERSION, edges: has.map(|(edge, share)| (edge.clone(), digest_of(share))).collect() };
    if !shares.is_empty() {
        kept_file::write(&record(state), &record_now)?;
    }
    Ok(handed)
}

/// Whether every edge was seen to show what is stored. What cannot be read counts as no: doing it again says why.
pub(super) fn is_handed<'n>(
    Certificates { stack, state, .. }: Certificates<'_>,
    names: impl Iterator<Item = &'n DnsName>,
) -> bool {
    let Ok(bundles) = stored(state, names) else { return false };
    let shares = shares(stack, &bundles);
    let known = kept_file::read::<Record>(record(state), VERSION).ok().flatten();
    let known = known.map(|record| record.edges).unwrap_or_default();
    shares.iter().all(|(edge, share)| known.get(edge) == Some(&digest_of(share)))
}
