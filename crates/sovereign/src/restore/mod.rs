//! Restoring into the running site: what was live stays beside what took its place, and takes it back when asked.
//!
//! ```text
//!  archive ─▶ staged: counted, handed over, looked at ─▶ swapped by renames ─▶ started, asked ─▶ the edges are told
//!                                                           │ not well
//!                                                           └─▶ swapped back, started
//! ```
//!
//! | module | what it knows |
//! |---|---|
//! | [`swap`] | the order of it, and how a run that was killed is finished |
//! | `ground` | where the data is: on this machine, or on a host |
//! | `stage` | from a snapshot to data that can take the place |
//! | `folder`, `live` | on this machine: folders, and a unit of the supervisor |
//! | `volumes`, `on_host` | on a host: volumes, and two instances |
//! | `alive`, `edges` | whether it lives on that, and who has to show it |
//!
//! Left out: which snapshot, and whether what is lost by it may be lost (the command asks); sites whose data is the
//! operator's own.

mod alive;
mod edges;
mod folder;
mod ground;
mod live;
mod on_host;
mod stage;
pub(crate) mod swap;
mod volumes;

use sovereign_keys::WorkingKeys;
use sovereign_model::SiteName;
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::{App, Site};

use crate::context::Context;
use crate::deployment::Deployment;
use crate::failure::{Failure, Reason};
use crate::output::Progress;

pub(crate) use edges::{renew, settle};
pub(crate) use folder::Folder;
pub(crate) use ground::{Ground, Since};
pub(crate) use live::Seen;
pub(crate) use on_host::{bring, described};
pub(crate) use stage::{Form, Staged, check, restore};
use swap::Ended;

/// A restore that was cut off has to come to its end first.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CutOff {
    /// While data took the place of other data.
    #[error("a restore of site {site} was cut off, and its data may be some of both")]
    InPlace {
        /// Which.
        site: SiteName,
    },
    /// While it came to another place: what is there has none of its data.
    #[error("a restore that brings site {site} to another place was cut off, and its data is not there yet")]
    Arriving {
        /// Which.
        site: SiteName,
    },
}

impl Reason for CutOff {
    fn help(&self) -> Option<String> {
        Some(match self {
            Self::InPlace { site } => format!("`sovereign restore {site}` or `sovereign up` brings it to its end"),
            Self::Arriving { site } => format!("`sovereign restore {site}` goes on with it"),
        })
    }
}

/// Whether the site's data is one generation: an error while a restore of it was cut off.
///
/// # Errors
/// Just that.
pub(crate) fn must_be_whole(state: &StateFolder, site: &Site) -> Result<(), Failure> {
    let (folder, site) = (Folder::of(state, site), site.name.clone());
    match folder.pending()? {
        Some(_) => Err(CutOff::InPlace { site }.into()),
        None if folder.is_arriving() => Err(CutOff::Arriving { site }.into()),
        None => Ok(()),
    }
}

/// Brings restores to their end that were cut off, and says how each ended. What else was cut off beside the live data of
/// a site is removed.
///
/// # Errors
/// When one cannot be.
pub(crate) async fn finish_all(
    context: &Context,
    deployment: &Deployment,
    keys: &WorkingKeys,
    progress: &Progress,
) -> Result<(), Failure> {
    let declared = deployment.declared();
    for site in deployment.stack.sites.values().filter(|site| site.app == App::Ghost) {
        let ground = Ground::of(context, declared, deployment, keys, site, progress);
        let Some(intent) = ground.folder.pending()? else {
            // A host that is away is for the plan to tell of; and what is left there is found when it is back.
            if let Err(failure) = ground.clear().await {
                tracing::debug!(site = %site.name, why = %failure.chain().join(": "), "what is beside it is left");
            }
            continue;
        };
        let name = &site.name;
        let (ended, seen) = ground.swap(intent).await?;
        let stage = progress.stage("see that every edge shows it");
        // What takes longer is told by `status`.
        settle(deployment, site, &seen.edges.told, &stage).await;
        stage.finish();
        context.output.say(match ended {
            Ended::In => format!("a restore of site {name} that was cut off is finished"),
            Ended::Back { why, .. } => format!("a restore of site {name} that was cut off is undone: {why}"),
        });
    }
    Ok(())
}
