//! Restoring into the running site: what was live stays beside what took its place, and takes it back when asked.
//!
//! ```text
//!  archive ─▶ staged: counted, handed over, looked at ─▶ swapped by renames ─▶ started, asked ─▶ the edges are told
//!                                                           │ not well
//!                                                           └─▶ swapped back, started
//! ```
//!
//! Left out: which snapshot, and whether what is lost by it may be lost (the command asks); sites whose data is the
//! operator's own.

mod edges;
mod folder;
mod live;
mod stage;
pub(crate) mod swap;

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
pub(crate) use live::{Live, Seen};
pub(crate) use stage::{Staged, check, restore};
use swap::{Ended, carry_out};

/// A restore that was cut off has to come to its end first.
#[derive(Debug, thiserror::Error)]
#[error("a restore of site {site} was cut off, and its data may be some of both")]
pub(crate) struct CutOff {
    site: SiteName,
}

impl Reason for CutOff {
    fn help(&self) -> Option<String> {
        Some(format!("`sovereign restore {}` or `sovereign up` brings it to its end", self.site))
    }
}

/// Whether the site's data is one generation: an error while a restore of it was cut off.
///
/// # Errors
/// Just that.
pub(crate) fn must_be_whole(state: &StateFolder, site: &Site) -> Result<(), Failure> {
    match Folder::of(state, site).pending()? {
        Some(_) => Err(CutOff { site: site.name.clone() }.into()),
        None => Ok(()),
    }
}

/// Brings restores to their end that were cut off, and says how each ended.
///
/// # Errors
/// When one cannot be.
pub(crate) async fn finish_all(
    context: &Context,
    deployment: &Deployment,
    keys: &WorkingKeys,
    progress: &Progress,
) -> Result<(), Failure> {
    for site in deployment.stack.sites.values().filter(|site| site.app == App::Ghost) {
        let folder = Folder::of(&deployment.state, site);
        let Some(intent) = folder.pending()? else { continue };
        let live = Live::of(deployment, keys, site, &folder, progress)?;
        let name = &site.name;
        let ended = carry_out(&live, intent).await?;
        let stage = progress.stage("see that every edge shows it");
        // What takes longer is told by `status`.
        settle(&deployment.state, site, &live.seen().edges.told, &stage).await;
        stage.finish();
        context.output.say(match ended {
            Ended::In => format!("a restore of site {name} that was cut off is finished"),
            Ended::Back { why, .. } => format!("a restore of site {name} that was cut off is undone: {why}"),
        });
    }
    Ok(())
}
