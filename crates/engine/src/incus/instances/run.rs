//! Having an instance run: a new one beside what runs, until it is well.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sovereign_incus::file::{Content, Owned};
use sovereign_incus::image::Source;
use sovereign_incus::instance::{NewInstance, Status, Stop};
use sovereign_incus::{Devices, InstanceName};
use sovereign_model::instance::InstanceSpec;
use sovereign_model::unit::Replace;
use sovereign_model::{Digest, UnitName};

use super::contents::{self, Contents};
use super::error::InstancesError;
use super::ground::{self, Busy, foreign, unless_gone};
use super::host::InstanceHost;
use super::listing::{self, Listing, Ours};
use super::{Instances, health, names};
use crate::apply::Progress;

/// What runs and is not well, after a boot of its host for instance, has this long before it is started anew.
const COMES_ROUND: Duration = Duration::from_secs(60);
/// How often an instance is stopped that runs all the same when it is to be removed.
const MOST_STOPS: u32 = 25;
const BETWEEN_STOPS: Duration = Duration::from_millis(200);

/// Who is told what is being done.
pub(super) type Tell<'p> = &'p (dyn Fn(Progress) + Send + Sync);

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// It ran and was well.
    Already,
    /// It was there, and was started anew or is used again.
    Again,
    /// It is new. What it replaced, if anything, is still there until it is retired.
    New {
        /// Whether what it replaced was stopped first.
        after_stop: bool,
    },
}

impl<H: InstanceHost> Instances<'_, H> {
    /// Has an instance of this description run and be well, beside the one that it replaces where they may run at the same
    /// time. Volumes are made, never removed. What was replaced stays until [`Instances::retire`].
    ///
    /// # Errors
    /// When the host does not obey, something foreign is in the way, or the instance does not become well; then what ran
    /// before runs, with its data as it was.
    pub async fn run(
        &self,
        spec: &InstanceSpec,
        contents: &Contents,
        image: &Source,
        progress: Tell<'_>,
    ) -> Result<Ran, InstancesError> {
        let ran = self.have_run(spec, contents, image, progress).await?;
        self.date_volumes(spec).await?;
        Ok(ran)
    }

    async fn have_run(
        &self,
        spec: &InstanceSpec,
        contents: &Contents,
        image: &Source,
        progress: Tell<'_>,
    ) -> Result<Ran, InstancesError> {
        contents::fit(contents, spec)?;
        if image.digest() != spec.fingerprint {
            return Err(InstancesError::OtherImage { wanted: spec.fingerprint, given: image.digest() });
        }
        let doing = |what: &str| progress(Progress::Doing(what.to_owned()));
        let digest = spec.digest();
        let unit = &spec.name;
        let mut listing = self.list().await?;
        let name = names::instance(unit, &digest)?;
        if listing.foreign.contains(&name) {
            return Err(foreign("an instance", name.as_str()));
        }
        if listing.unfinished(unit).next().is_some() {
            doing("mend");
            self.mend(&listing, unit).await?;
            listing = self.list().await?;
        }
        if let Some(old) = listing.current(unit) {
            ground::is_new_enough(spec, old.spec.data_version.as_ref())?;
        }
        match listing.settled(unit).find(|ours| ours.digest == digest) {
            Some(ours) if listing.current(unit) == Some(ours) => return self.keep_running(ours, progress).await,
            // The edge may still be sending it readers: it becomes the current one as it is.
            Some(ours) if ours.is_running() && !self.is_alone(&listing, spec) => {
                self.well(&ours.name, spec, progress).await?;
                self.settle(&ours.name, listing.next_number(unit)).await?;
                return Ok(Ran::Again);
            }
            // It was parked, and files in it may be of another time.
            Some(ours) => self.remove(ours).await?,
            None => {}
        }
        let listing = self.list().await?;
        self.ground().await?;
        let old = listing.current(unit);
        let stops = old.is_some() && self.is_alone(&listing, spec);
        doing("image");
        let held = self.images.read().await;
        self.have_image(image).await?;
        self.have_volumes(spec).await?;
        if old.is_some_and(|old| converts(old, spec)) {
            self.forget(spec, &digest).await?;
        }
        doing("create");
        self.create(&listing, &name, spec, &digest, !stops).await?;
        drop(held);
        let put = self.put_files(&name, spec, contents).await;
        let started = match (put, old) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(old)) if stops => return self.switch(&listing, old, &name, spec, &digest, progress).await,
            (Ok(()), _) => self.start(&name, spec, progress).await,
        };
        if let Err(error) = started {
            // That it cannot be removed is no better reason.
            let _ = self.discard(&name).await;
            let _ = self.filter().await;
            return Err(error);
        }
        self.settle(&name, listing.next_number(unit)).await?;
        Ok(Ran::New { after_stop: false })
    }

    /// Whether a new instance and the current one must not run at once.
    fn is_alone(&self, listing: &Listing, spec: &InstanceSpec) -> bool {
        let current = listing.current(&spec.name);
        current.is_some_and(|old| spec.replace == Replace::StopFirst || converts(old, spec))
    }

    pub(super) async fn keep_running(&self, ours: &Ours, progress: Tell<'_>) -> Result<Ran, InstancesError> {
        if ours.is_running() {
            self.filter().await?;
            progress(Progress::Doing("health".to_owned()));
            let within = self.well_within.min(COMES_ROUND);
            if health::become_well(&self.client, self.host, &ours.name, &ours.spec, within).await.is_ok() {
                return Ok(Ran::Already);
            }
            progress(Progress::Doing("stop".to_owned()));
            self.stop_running(ours).await?;
        }
        self.unpark(ours).await?;
        self.start(&ours.name, &ours.spec, progress).await?;
        Ok(Ran::Again)
    }

    async fn create(
        &self,
        listing: &Listing,
        name: &InstanceName,
        spec: &InstanceSpec,
        digest: &Digest,
        connected: bool,
    ) -> Result<(), InstancesError> {
        let made = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (number, priority) = (listing.next_number(&spec.name), listing.priority(spec));
        let new = NewInstance {
            name: name.clone(),
            image: spec.fingerprint,
            description: format!("{} of Sovereign Stack", spec.name),
            config: listing::config(self.stack, spec, digest, number, made, priority),
            devices: listing::devices(spec, digest, connected)?,
            profiles: Vec::new(),
            ephemeral: false,
        };
        match self.client.create_instance(&new).await {
            Err(error) if error.is_already_there() => Err(foreign("an instance", name.as_str())),
            made => Ok(made?),
        }
    }

    async fn put_files(
        &self,
        name: &InstanceName,
        spec: &InstanceSpec,
        contents: &Contents,
    ) -> Result<(), InstancesError> {
        let mut made: Vec<PathBuf> = Vec::new();
        for file in &spec.files {
            for folder in folders_above(&file.path) {
                if !made.iter().any(|already| already == folder) {
                    self.client.make_folder(name, folder, Owned::by_root(0o755)).await?;
                    made.push(folder.to_owned());
                }
            }
            let bytes = contents.get(&file.path).unwrap_or_default().to_vec();
            let owned = Owned { mode: file.mode, uid: file.user, gid: file.group };
            self.client.push_file(name, &file.path, &Content::Bytes(bytes), owned).await?;
        }
        Ok(())
    }

    /// Starts an instance once packets may pass to and from it, and waits until it is well.
    pub(super) async fn start(
        &self,
        name: &InstanceName,
        spec: &InstanceSpec,
        progress: Tell<'_>,
    ) -> Result<(), InstancesError> {
        self.filter().await?;
        progress(Progress::Doing("start".to_owned()));
        self.have_start(name).await?;
        self.well(name, spec, progress).await
    }

    /// Starts an instance. After a boot of the host its Incus does so too, and may be faster.
    async fn have_start(&self, name: &InstanceName) -> Result<(), InstancesError> {
        let busy = Busy::new();
        loop {
            let started = self.client.start(name).await;
            if busy.was(&started).await {
                continue;
            }
            let Err(error) = started else { return Ok(()) };
            let is_running = self.client.instance_state(name).await?.status == Status::Running;
            return if is_running { Ok(()) } else { Err(error.into()) };
        }
    }

    pub(super) async fn well(
        &self,
        name: &InstanceName,
        spec: &InstanceSpec,
        progress: Tell<'_>,
    ) -> Result<(), InstancesError> {
        progress(Progress::Doing("health".to_owned()));
        let well = health::become_well(&self.client, self.host, name, spec, self.well_within).await;
        let Err(problem) = well else { return Ok(()) };
        let log = health::journal(&self.client, name, spec).await;
        Err(InstancesError::NotWell { unit: spec.name.clone(), problem, log })
    }

    /// From now on it is the current one of its unit.
    pub(super) async fn settle(&self, name: &InstanceName, number: u64) -> Result<(), InstancesError> {
        Ok(self.client.patch_instance(name, &listing::settled(number), &Devices::new()).await?)
    }

    /// Stops an instance that nobody needs, at once, and removes it.
    pub(super) async fn discard(&self, name: &InstanceName) -> Result<(), InstancesError> {
        let mut tries = MOST_STOPS;
        loop {
            // It may not run; or be in the midst of what a run that was cut began with it.
            let _ = self.client.stop(name, Stop::AtOnce).await;
            match self.client.delete_instance(name).await {
                Err(error) if tries > 1 && error.is_running() => tries -= 1,
                deleted => return Ok(unless_gone(deleted)?),
            }
            tokio::time::sleep(BETWEEN_STOPS).await;
        }
    }

    /// Undoes what runs that were cut have left behind of a unit.
    pub(super) async fn mend(&self, listing: &Listing, unit: &UnitName) -> Result<(), InstancesError> {
        for left in listing.unfinished(unit) {
            let current = listing.current(unit).filter(|old| converts(old, &left.spec));
            // Where the old one runs, its data is what it works with.
            if current.is_some_and(|old| !old.is_running()) {
                self.data_back(listing, &left.name, &left.spec, &left.digest).await?;
                self.forget(&left.spec, &left.digest).await?;
            }
            self.discard(&left.name).await?;
        }
        self.filter().await
    }
}

/// Whether the data of one is of another form than the other's, and is converted when that starts.
pub(super) fn converts(old: &Ours, new: &InstanceSpec) -> bool {
    old.spec.data_version != new.data_version
}

/// The folders above a file, the highest first, without the root itself.
fn folders_above(path: &Path) -> Vec<&Path> {
    let mut folders: Vec<&Path> = path.ancestors().skip(1).filter(|folder| folder.parent().is_some()).collect();
    folders.reverse();
    folders
}
