//! Edges as they are asked over their control sockets: here, or brought here from a host.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use sovereign_model::edge_config::{EdgeConfig, epoch_statement};
use sovereign_model::edge_status::{EdgeStatus, NewestPrimary, Role, SiteStatus};
use sovereign_model::observed::{MirrorSeen, Primary};
use sovereign_model::{SiteName, StackName};
use sovereign_runtime::VerifyingKey;
use sovereign_runtime::control::{ControlError, Request, request_async};
use sovereign_runtime::signed::is_attested;

use crate::apply::{Count, Progress, Receipt, Unit};

/// An edge answers from memory; one that takes longer counts as not there.
const PATIENCE: Duration = Duration::from_secs(3);

/// A reload reads and checks a few files.
const RELOAD_PATIENCE: Duration = Duration::from_secs(15);

/// How long a mirror may make no progress at all before it is given up.
const FILL_PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at something that is under way.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// What an edge says of itself; `None` when it does not run or does not answer in a way that can be understood.
pub(crate) async fn ask(socket: &Path) -> Option<EdgeStatus> {
    let answer = request_async(socket, &Request::new("status"), PATIENCE).await.ok()?;
    serde_json::from_value(answer).ok()
}

/// Whether a daemon says that it is well, and was not told to stop: the one that it replaces may answer still.
pub(crate) async fn is_well(socket: &Path) -> bool {
    let answer = request_async(socket, &Request::new("status"), PATIENCE).await;
    answer.is_ok_and(|status| status["healthy"] == true && status["draining"] == false)
}

/// Has an edge read its configuration and certificate again.
pub(crate) async fn reload(socket: &Path) -> Result<(), ControlError> {
    request_async(socket, &Request::new("reload"), RELOAD_PATIENCE).await.map(drop)
}

/// The mirrors that an edge tells of. `was_complete` says whether a site's was so once.
pub(crate) fn mirrors(
    status: &EdgeStatus,
    was_complete: impl Fn(&SiteName) -> bool,
) -> std::collections::BTreeMap<SiteName, MirrorSeen> {
    let mirrors = status.sites.iter().filter(|site| site.role == Role::Mirror);
    let seen = mirrors.map(|site| {
        let mirror = MirrorSeen {
            complete: site.is_filled() || was_complete(&site.site),
            pages_kept: site.pages_kept as u64,
            pages_known: site.pages_known as u64,
            newest_fetch: site.newest_fetch_unix,
        };
        (site.site.clone(), mirror)
    });
    seen.collect()
}

/// The newest primaries of its sites that an edge has proof of.
pub(crate) fn primaries(stack: &StackName, status: &EdgeStatus, trust: &VerifyingKey) -> Vec<(SiteName, Primary)> {
    let proven = status.sites.iter().filter_map(|site| {
        let NewestPrimary { epoch, proof } = site.newest.as_ref()?;
        let statement = epoch_statement(stack, &site.site, *epoch, &proof.primary);
        let primary = Primary { epoch: *epoch, at: proof.primary.clone() };
        is_attested(trust, &statement, &proof.signature).then(|| (site.site.clone(), primary))
    });
    proven.collect()
}

/// The primaries that a configuration names which the management machine has signed: what its edge believes once it runs.
pub(crate) fn configured_primaries(payload: &str) -> Vec<(SiteName, Primary)> {
    let config = serde_json::from_str::<EdgeConfig>(payload).ok();
    let named = config.into_iter().flat_map(|config| config.sites).filter_map(|site| {
        let primary = Primary { epoch: site.epoch, at: site.epoch_proof?.primary };
        Some((site.site, primary))
    });
    named.collect()
}

/// Why a mirror was not filled.
#[derive(Debug)]
pub(crate) enum NotFilled {
    /// The edge's words, or that it says nothing.
    Edge(String),
    /// That it is complete cannot be written down.
    Mark(std::io::Error),
}

/// Waits until the mirror of a site is complete at the edge behind `socket`, and has it fetch everything; then leaves
/// `mark`.
pub(crate) async fn fill(
    socket: &Path,
    site: &SiteName,
    mark: &Path,
    tell: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Receipt, NotFilled> {
    let asking = Request::new("fill").with("site", site.as_str());
    let mut asked = false;
    let mut moved = (Instant::now(), 0);
    loop {
        let status = ask(socket).await.and_then(|status| status.site(site).cloned());
        if let Some(status) = &status {
            let (done, total) = (status.pages_kept as u64, Some(status.pages_known as u64));
            tell(Progress::Counted(Count { done, total, of: Unit::Things("pages") }));
            // Nothing is kept of a site that its owner closed.
            if status.is_filled() {
                leave(mark).map_err(NotFilled::Mark)?;
                return Ok(Receipt::note(format!("{} pages, {} bytes", status.pages_kept, status.bytes)));
            }
            if status.pass.is_none() && !asked {
                // Refused while the edge before this one drains; asked again at the next look.
                asked = request_async(socket, &asking, RELOAD_PATIENCE).await.is_ok();
            } else if status.pass.is_none() && failed_since_asked(status) {
                asked = false;
            }
            let done = status.pass.as_ref().map_or(0, |pass| pass.done) + status.pages_kept;
            if done != moved.1 {
                moved = (Instant::now(), done);
            }
        }
        if moved.0.elapsed() > FILL_PATIENCE {
            let why = status.and_then(|status| status.source.last_error);
            return Err(NotFilled::Edge(why.unwrap_or_else(|| "nothing has come for a minute".to_owned())));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn leave(mark: &Path) -> std::io::Result<()> {
    if let Some(folder) = mark.parent() {
        crate::file::private_folder(folder)?;
    }
    fs::write(mark, [])
}

/// A pass that could not fetch everything is tried again: pages may have gone or come while it ran.
fn failed_since_asked(status: &SiteStatus) -> bool {
    status.last_pass.as_ref().is_some_and(|pass| !pass.complete)
}
