//! Brings back what edges show that is newer than what is stored here: somebody else has got it, this machine was away, or
//! it was made anew from an archive that is older.
//!
//! Promise: what is stored is replaced by a newer one only, that fits and begins from a root that is believed in; and edges
//! are asked before they are brought anything, so that none is ever brought an older one.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use sovereign_certs::Renewer;
use sovereign_certs::store::parts;
use sovereign_engine::public::newer;
use sovereign_model::{DnsName, EdgeName, Stack};

use super::name_servers::NameServers;
use super::{Certificates, Renewed, Said, Taken};
use crate::failure::Failure;

/// The names that each edge serves, of these.
fn served(stack: &Stack, names: &BTreeMap<DnsName, DnsName>) -> BTreeMap<EdgeName, BTreeSet<DnsName>> {
    let mut served: BTreeMap<EdgeName, BTreeSet<DnsName>> = BTreeMap::new();
    for site in stack.sites.values() {
        for edge in site.datacenters().flat_map(|place| stack.datacenters[place].edges()) {
            let names = site.all_names().filter(|name| names.contains_key(*name)).cloned();
            served.entry(edge).or_default().extend(names);
        }
    }
    served.retain(|_, names| !names.is_empty());
    served
}

/// Takes back what edges have that is newer, but of those that are left out.
///
/// # Errors
/// When what is stored cannot be used. What an edge does not say, and what does not fit, is a remark.
pub(super) async fn take_back(
    Certificates { stack, state, reach, .. }: Certificates<'_>,
    renewer: &Renewer<NameServers>,
    names: &BTreeMap<DnsName, DnsName>,
    left_out: &BTreeSet<EdgeName>,
    renewed: &mut Renewed,
) -> Result<(), Failure> {
    let mut known = BTreeMap::new();
    for name in names.keys() {
        // What cannot be read is nothing to compare with, and is said by the pass.
        if let Ok(found) = renewer.store().state(name) {
            known.insert(name.clone(), found.held.map_or(0, |held| held.not_before.seconds()));
        }
    }
    let served = served(stack, names);
    let asked = served.iter().filter(|(edge, _)| !left_out.contains(*edge)).map(async |(edge, served)| {
        let known = known.iter().filter(|(name, _)| served.contains(*name));
        let known = known.map(|(name, begins)| (name.clone(), *begins)).collect();
        // An edge that cannot be asked is brought what there is, and then said to be away.
        (edge, newer(state, reach, edge, &known).await.unwrap_or_default())
    });
    for (edge, found) in join_all(asked).await {
        for (name, text) in found {
            let Some((key, chain)) = parts(&text) else { continue };
            match renewer.take_over(&name, chain, Some(key)) {
                Ok(Some(ends)) => {
                    let taken = Taken { from: edge.clone(), ends_unix: ends.seconds() };
                    renewed.taken.insert(name, taken);
                }
                // Another edge had it too.
                Ok(None) => {}
                Err(error) => {
                    let Said { message, help } = Said::because(&error, error.help());
                    let message = format!("what the edge of {edge} shows for {name} is not taken back: {message}");
                    renewed.remarks.push(Said { message, help });
                }
            }
        }
    }
    Ok(())
}
