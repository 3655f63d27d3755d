//! The join between the rooms: what the planner must know and only this program can tell, gathered from keys, locks,
//! services and the hour.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use sovereign_images::Store;
use sovereign_keys::{Purpose, WorkingKeys};
use sovereign_model::edge_config::{EpochProof, epoch_statement};
use sovereign_model::layout::StateFolder;
use sovereign_model::renewer_word::warrant_statement;
use sovereign_model::stack::{App, Datacenter, Domain};
use sovereign_model::unit::Runs;
use sovereign_model::{Digest, ImageName, Stack};
use sovereign_plan::{AppUnit, RenewerKey, World};
use sovereign_runtime::signed::attest;
use sovereign_services::ghost;

use crate::certificates::trust;
use crate::datacenters::{Datacenters, Matter};
use crate::failure::Failure;
use crate::hosts::{OnHosts, state_of};
use crate::primaries::Primaries;
use crate::program::Program;
use crate::providers;
use crate::secrets;

/// What joining takes.
pub(crate) struct Parts<'a> {
    /// What is declared.
    pub(crate) stack: &'a Stack,
    /// Where its state lies.
    pub(crate) state: &'a StateFolder,
    /// Its secrets.
    pub(crate) keys: &'a WorkingKeys,
    /// The images there are.
    pub(crate) images: &'a Store,
    /// Which Ghost runs.
    pub(crate) ghost: &'a sovereign_images::Lock,
    /// This program.
    pub(crate) program: &'a Program,
    /// What runs on hosts.
    pub(crate) on_hosts: &'a OnHosts,
    /// Which primary each site has.
    pub(crate) primaries: &'a Primaries,
    /// What is decided of data centers.
    pub(crate) decided: &'a Datacenters,
    /// The hour.
    pub(crate) now: SystemTime,
}

/// Gathers the world. Reads the image store.
///
/// # Errors
/// When a key was not made ready or the image store cannot be read.
pub(crate) fn gather(parts: &Parts<'_>) -> Result<World, Failure> {
    let Parts { stack, state, keys, images, ghost: ghost_lock, program, on_hosts, primaries, decided, now } = *parts;
    let mut link_keys = BTreeMap::new();
    for edge in stack.datacenters.values().flat_map(Datacenter::edges) {
        let key = keys.link_key(&edge)?.public_hex;
        link_keys.insert(edge, key);
    }
    let zone_keys = secrets::zones(stack).map(|domain| Ok((domain.name.clone(), keys.zone_key(&domain.name)?.tag())));
    let zone_keys = zone_keys.collect::<Result<BTreeMap<_, _>, Failure>>()?;
    let coming = |domain: &Domain| Some((domain.name.clone(), keys.coming_zone_key(&domain.name)?.tag()));
    let coming_zone_keys = secrets::zones(stack).filter_map(coming).collect();
    let transfer_keys = secrets::transfers(stack)
        .map(|secondary| Ok((secondary.name.clone(), keys.transfer_key(secondary)?.digest())))
        .collect::<Result<BTreeMap<_, _>, Failure>>()?;
    let provider_secrets = providers::secrets(stack, state)?;
    let provider_secrets = provider_secrets.iter().map(|(name, secret)| (name.clone(), Digest::of(secret.expose())));
    let provider_secrets = provider_secrets.collect();
    let mut units = on_hosts.units.clone();
    let mut locks = on_hosts.locks.clone();
    let mut webhook_keys = BTreeMap::new();
    for site in stack.sites.values().filter(|site| site.app == App::Ghost) {
        let image = ghost_image();
        let lock = ghost_lock.digest();
        let epoch = keys.epoch(&Purpose::Webhook(site.name.clone())).unwrap_or(1);
        let folder = state_of(stack, state, &site.place(stack)).edge(&site.primary);
        webhook_keys.insert(site.name.clone(), folder.webhook_key(&site.name, epoch));
        if site.host(stack).is_some() {
            continue;
        }
        locks.insert(image.clone(), lock);
        // Before the image is built nobody knows what it will contain. `up` plans again once it is there.
        let (root, digest) = match sovereign_images::ghost::find(images, ghost_lock)? {
            Some(image) => (image.root, image.digest),
            None => (images.folder().join(lock.hex()), lock),
        };
        let folder = state.site(&site.primary, &site.name);
        let ca_certificate = state.ca_certificate();
        let home = ghost::Home {
            site,
            datacenter: &site.primary,
            folder: folder.path(),
            image: &root,
            image_digest: digest,
            ca_certificate: &ca_certificate,
        };
        let mut spec = ghost::unit(&home)?;
        // Ghost reads it once, as it starts: with another one it must start anew, or its notices of changes get lost.
        spec.inputs.insert("ca".to_owned(), Digest::of(keys.ca()?.pem()));
        units.insert(
            spec.name.clone(),
            AppUnit {
                site: site.name.clone(),
                runs: Runs::Unit(spec),
                images: BTreeSet::from([image]),
                data_version: Some(sovereign_images::ghost::version(ghost_lock).to_owned()),
            },
        );
    }
    let signing = keys.config_signing()?;
    let renewer_keys = stack.renewers().map(|edge| {
        let public = keys.renewer_key(&edge)?.public_hex;
        let warrant = attest(&signing, &warrant_statement(&stack.name, &edge, &public));
        Ok((edge, RenewerKey { public, warrant }))
    });
    let renewer_keys = renewer_keys.collect::<Result<BTreeMap<_, _>, Failure>>()?;
    let epochs = primaries.epochs().clone();
    let epoch_proofs = stack.sites.values().map(|site| {
        let epoch = epochs.get(&site.name).copied().unwrap_or(1);
        let signature = attest(&signing, &epoch_statement(&stack.name, &site.name, epoch, &site.primary));
        (site.name.clone(), EpochProof { primary: site.primary.clone(), signature })
    });
    Ok(World {
        epoch_proofs: epoch_proofs.collect(),
        state: state.clone(),
        binary: program.installed.clone(),
        binary_digest: program.digest,
        trust: hex::encode(signing.verifying_key().as_bytes()),
        authority: trust::believed(stack, keys)?,
        public_roots: trust::declared(stack)?,
        locks,
        link_keys,
        zone_keys,
        coming_zone_keys,
        transfer_keys,
        renewer_keys,
        authority_roots: trust::declared_of_each(stack)?,
        provider_secrets,
        webhook_keys,
        files: on_hosts.files.iter().map(|(site, files)| (site.clone(), files.digest())).collect(),
        units,
        epochs,
        drained: decided.names(Matter::Drained),
        maintained: decided.names(Matter::Maintained),
        now: unix_seconds(now),
    })
}

/// The image of every Ghost.
pub(crate) fn ghost_image() -> ImageName {
    sovereign_images::ghost::lock().image.clone()
}

/// Seconds since 1970-01-01 00:00 UTC; 0 for a clock that stands before that.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).as_ref().map_or(0, Duration::as_secs)
}
