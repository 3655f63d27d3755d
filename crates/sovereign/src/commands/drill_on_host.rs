//! `sovereign drill restore` of a site on a host: on that host, in instances beside the live ones.
//!
//! There, because a MariaDB and what it was built for are there, and because a host that cannot hold a second one could not
//! take a restore either. Both reach each other and nothing else, no edge knows of them, and both Ghosts are asked through
//! this machine's connection to the host.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use sovereign_archive::Contents;
use sovereign_engine::incus::Link;
use sovereign_engine::incus::beside::Beside;
use sovereign_model::instance::InstanceSpec;
use sovereign_services::ghost::{self, PORT};
use tokio::task::block_in_place;

use super::drill::{Drill, Stopped, Tried};
use crate::cli::LeaseArgs;
use crate::deployment::Deployment;
use crate::drill;
use crate::failure::Failure;
use crate::interrupt;
use crate::lease;
use crate::output::Progress;
use crate::restore::{self, Folder, Form};
use crate::secrets;

/// Runs it, and removes all that it made.
///
/// # Errors
/// When the snapshot does not come to life, or the host does not obey.
pub(super) fn run(of: &Drill<'_>, contents: &Contents, snapshot: &str, progress: &Progress) -> Result<Tried, Failure> {
    let Drill { context, declared, state, site, .. } = of;
    // What is beside would be that restore's.
    restore::must_be_whole(&declared.state, site)?;
    let deployment = Deployment::new((*declared).clone())?;
    let keys = secrets::open(context, &declared.stack, &declared.state)?;
    let alone = LeaseArgs { take_lease: false };
    let lease = lease::take(context, declared, &deployment.reach, "drill restore", &alone, false)?;
    let (deployment, keys) = (&deployment, &keys);
    interrupt::run(&context.output, |cancel| {
        lease::under(&lease, async move {
            let joined = deployment.joined(keys)?;
            let engines = deployment.engine(keys, &joined, progress);
            let link = deployment.reach.link(&site.place(&deployment.stack)).await?;
            let beside = engines.hosts.beside(site, restore::described(&joined, site)?).await?;
            let rehearsal = Rehearsal { of, contents, snapshot, progress, link, beside: &beside };
            let outcome = tokio::select! {
                outcome = rehearsal.run() => outcome,
                () = cancel.cancelled() => Err(Stopped.into()),
            };
            let stage = progress.stage("remove what the drill made");
            let cleared = beside.clear().await;
            let cleaned = drill::clean_up(state).await;
            stage.finish();
            let tried = outcome?;
            cleared?;
            cleaned?;
            Ok(tried)
        })
    })
}

struct Rehearsal<'a> {
    of: &'a Drill<'a>,
    contents: &'a Contents,
    snapshot: &'a str,
    progress: &'a Progress,
    link: &'a Link,
    beside: &'a Beside<'a>,
}

impl Rehearsal<'_> {
    async fn run(&self) -> Result<Tried, Failure> {
        let Self { of, contents, snapshot, progress, beside, .. } = self;
        let (site, began) = (of.site, Instant::now());
        let folder = Folder::of(of.state, site);
        let stage = progress.stage(format!("restore {}", site.name));
        let staged = block_in_place(|| restore::restore(contents, snapshot, Form::Dump, &folder, &stage))?;
        stage.finish();
        let examined = restore::bring(of.state.path(), beside, &folder, progress).await?;
        let stage = progress.stage(format!("start a Ghost on it, for {}", site.name));
        let restored = beside.start().await?;
        stage.finish();
        let rto = began.elapsed();
        let stage = progress.stage("compare every page with the live site");
        let live = match self.live().await? {
            Some(live) => Some(self.socket(&live).await?),
            None => None,
        };
        let compared = drill::compare(site, &self.socket(restored).await?, live.as_deref()).await?;
        stage.finish();
        Ok(Tried { staged, examined, rto, compared })
    }

    /// The live Ghost, if there is one.
    async fn live(&self) -> Result<Option<InstanceSpec>, Failure> {
        let Drill { declared, site, .. } = self.of;
        let unit = ghost::ghost_unit(site, &site.primary)?;
        let mut seen = self.link.look(&declared.stack.name).await?;
        Ok(seen.units.remove(&unit).and_then(|runs| runs.current).map(|current| current.spec))
    }

    /// A Ghost on the host, brought here.
    async fn socket(&self, spec: &InstanceSpec) -> Result<PathBuf, Failure> {
        Ok(self.link.connection.forward_port(SocketAddr::from((spec.address, PORT))).await?)
    }
}
