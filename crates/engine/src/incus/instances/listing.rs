//! What instances say of themselves in keys of their configuration, and what follows from it.
//!
//! ```text
//!  made ──▶ well ──▶ superseded ──▶ parked ──▶ removed
//!           a number of    one with a     no interface,    when one more is
//!           its own        higher number  does not start   parked
//! ```
//!
//! That an instance took the place of another is one key written once: the one that is well with the highest number is
//! the current one. So no run that is cut can leave two, or none.

use std::collections::BTreeMap;

use sovereign_incus::instance::{Instance, Status};
use sovereign_incus::{Config, InstanceName, MemberName};
use sovereign_model::instance::{InstanceSpec, bridge};
use sovereign_model::{Digest, StackName, UnitName};

use super::error::InstancesError;
use super::names;

/// What these keys mean changes with this.
const FORMAT: &str = "1";

const KEY_FORMAT: &str = "user.sovereign.format";
pub(super) const KEY_STACK: &str = "user.sovereign.stack";
pub(super) const KEY_UNIT: &str = "user.sovereign.unit";
const KEY_DIGEST: &str = "user.sovereign.digest";
pub(super) const KEY_DATA: &str = "user.sovereign.data-version";
const KEY_NUMBER: &str = "user.sovereign.number";
const KEY_MADE: &str = "user.sovereign.made";
const KEY_SPEC: &str = "user.sovereign.description";
pub(super) const KEY_WELL: &str = "user.sovereign.well";

/// The interface of an instance, by its name among its devices.
pub(super) const NIC: &str = "eth0";
pub(super) const AUTOSTART: &str = "boot.autostart";
pub(super) const PRIORITY: &str = "boot.autostart.priority";

/// The first of what starts at boot. What must be there before others has a higher one.
const FIRST: u32 = 100;

/// An instance of ours.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ours {
    pub(super) name: InstanceName,
    pub(super) spec: InstanceSpec,
    /// The description's, as it was when the instance was made.
    pub(super) digest: Digest,
    /// Each instance of a unit has a higher one than those before it.
    pub(super) number: u64,
    /// When it was made, in seconds of the epoch.
    pub(super) made: u64,
    /// When it was started last, in seconds of the epoch.
    pub(super) started: Option<u64>,
    /// Whether it ever was.
    pub(super) was_well: bool,
    pub(super) status: Status,
    pub(super) has_interface: bool,
    pub(super) priority: u32,
    /// Whether it starts with its host.
    pub(super) starts: bool,
}

impl Ours {
    pub(super) fn is_running(&self) -> bool {
        !matches!(self.status, Status::Stopped)
    }

    fn of(stack: &StackName, instance: &Instance) -> Result<Option<Self>, InstancesError> {
        let Instance { name, status, config, devices, .. } = instance;
        let key = |key: &str| config.get(key).map(String::as_str);
        if key(KEY_STACK) != Some(stack.as_str()) {
            return Ok(None);
        }
        let strange = |why: String| InstancesError::Unreadable { name: name.to_string(), why };
        if key(KEY_FORMAT) != Some(FORMAT) {
            return Err(strange(format!(
                "it is of format {:?}, known is {FORMAT}",
                key(KEY_FORMAT).unwrap_or_default()
            )));
        }
        let missing = |what: &str| strange(format!("no {what}"));
        let number = |what: &str| key(what).and_then(|text| text.parse().ok()).ok_or_else(|| missing(what));
        let spec =
            serde_json::from_str(key(KEY_SPEC).unwrap_or_default()).map_err(|error| strange(error.to_string()))?;
        Ok(Some(Self {
            name: name.clone(),
            spec,
            digest: key(KEY_DIGEST).and_then(|text| text.parse().ok()).ok_or_else(|| missing(KEY_DIGEST))?,
            number: number(KEY_NUMBER)?,
            made: number(KEY_MADE)?,
            started: instance.started(),
            was_well: key(KEY_WELL) == Some("true"),
            status: status.clone(),
            has_interface: devices.contains_key(NIC),
            starts: key(AUTOSTART) == Some("true"),
            priority: key(PRIORITY).and_then(|text| text.parse().ok()).unwrap_or(FIRST),
        }))
    }
}

/// The instances of a host.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Listing {
    pub(super) ours: Vec<Ours>,
    /// Those in our project that do not say that they are this stack's.
    pub(super) foreign: Vec<InstanceName>,
}

impl Listing {
    /// Of all instances of a project those at `member`, or all where there is no cluster.
    pub(super) fn of(
        stack: &StackName,
        member: Option<&MemberName>,
        instances: &[Instance],
    ) -> Result<Self, InstancesError> {
        let mut listing = Self::default();
        for instance in instances.iter().filter(|instance| member.is_none_or(|at| at.as_str() == instance.location)) {
            match Ours::of(stack, instance)? {
                Some(ours) => listing.ours.push(ours),
                None => listing.foreign.push(instance.name.clone()),
            }
        }
        listing.ours.sort_by_key(|ours| std::cmp::Reverse(ours.number));
        Ok(listing)
    }

    /// All instances of a unit, the newest first.
    pub(super) fn unit<'l>(&'l self, unit: &'l UnitName) -> impl Iterator<Item = &'l Ours> {
        self.ours.iter().filter(move |ours| ours.spec.name == *unit)
    }

    /// Those of a unit that were well once, the newest first: the current one, and what it replaced.
    pub(super) fn settled<'l>(&'l self, unit: &'l UnitName) -> impl Iterator<Item = &'l Ours> {
        self.unit(unit).filter(|ours| ours.was_well)
    }

    /// Those of a unit that a run which was cut left behind.
    pub(super) fn unfinished<'l>(&'l self, unit: &'l UnitName) -> impl Iterator<Item = &'l Ours> {
        self.unit(unit).filter(|ours| !ours.was_well)
    }

    /// The one of a unit that others are to use.
    pub(super) fn current(&self, unit: &UnitName) -> Option<&Ours> {
        self.ours.iter().find(|ours| ours.was_well && ours.spec.name == *unit)
    }

    /// The number of the next instance of a unit.
    pub(super) fn next_number(&self, unit: &UnitName) -> u64 {
        self.unit(unit).map(|ours| ours.number + 1).max().unwrap_or(1)
    }

    /// When an instance starts at boot: later than all that must be healthy before it.
    pub(super) fn priority(&self, spec: &InstanceSpec) -> u32 {
        let before = spec.after.iter().filter_map(|unit| self.current(unit));
        before.map(|ours| ours.priority.saturating_sub(1)).min().unwrap_or(FIRST)
    }

    /// The descriptions of all that can send or be sent anything.
    pub(super) fn connected(&self) -> impl Iterator<Item = &InstanceSpec> + Clone {
        self.ours.iter().filter(|ours| ours.has_interface).map(|ours| &ours.spec)
    }
}

/// The configuration of a new instance. It does not start at boot before it is well.
pub(super) fn config(
    stack: &StackName,
    spec: &InstanceSpec,
    digest: &Digest,
    number: u64,
    made: u64,
    priority: u32,
) -> Config {
    let description = serde_json::to_string(spec).expect("types of this workspace serialize to JSON");
    let pairs = [
        (KEY_FORMAT, FORMAT.to_owned()),
        (KEY_STACK, stack.to_string()),
        (KEY_UNIT, spec.name.to_string()),
        (KEY_DIGEST, digest.to_string()),
        (KEY_DATA, spec.data_version.clone().unwrap_or_default()),
        (KEY_NUMBER, number.to_string()),
        (KEY_MADE, made.to_string()),
        (KEY_SPEC, description),
        (AUTOSTART, "false".to_owned()),
        (PRIORITY, priority.to_string()),
        ("limits.memory", spec.limits.memory.to_string()),
        ("limits.processes", spec.limits.processes.to_string()),
        ("security.privileged", "false".to_owned()),
        ("security.nesting", "false".to_owned()),
        // Through it an instance reads what the keys above say.
        ("security.guestapi", "false".to_owned()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What is written when an instance takes its place.
pub(super) fn settled(number: u64) -> Config {
    let pairs = [(KEY_WELL, "true".to_owned()), (KEY_NUMBER, number.to_string()), (AUTOSTART, "true".to_owned())];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Whether an instance starts at boot.
pub(super) fn at_boot(starts: bool) -> Config {
    BTreeMap::from([(AUTOSTART.to_owned(), starts.to_string())])
}

/// The devices of an instance: its root, its volumes, and where it is `connected` its interface.
pub(super) fn devices(
    spec: &InstanceSpec,
    digest: &Digest,
    connected: bool,
) -> Result<sovereign_incus::Devices, InstancesError> {
    let device = |pairs: &[(&str, &str)]| -> Config {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let pool = names::pool();
    let mut devices =
        BTreeMap::from([("root".to_owned(), device(&[("type", "disk"), ("path", "/"), ("pool", pool.as_str())]))]);
    for volume in &spec.volumes {
        let source = names::volume(&spec.name, &volume.name)?;
        let path = volume.path.to_string_lossy();
        let pairs = [("type", "disk"), ("pool", pool.as_str()), ("source", source.as_str()), ("path", &path)];
        devices.insert(format!("volume-{}", volume.name), device(&pairs));
    }
    if connected {
        let (network, interface, address) = (names::network(), names::interface(digest), spec.address.to_string());
        let hardware = bridge::hardware(spec.address);
        let pairs = [
            ("type", "nic"),
            ("network", network.as_str()),
            ("name", "eth0"),
            ("host_name", &interface),
            ("ipv4.address", &address),
            ("hwaddr", &hardware),
            // Nobody speaks with another's address. Ports are not isolated: that would cut an application off from its
            // database, and what passes between two ports is said by the packet filter, pair by pair.
            ("security.mac_filtering", "true"),
            ("security.ipv4_filtering", "true"),
        ];
        devices.insert(NIC.to_owned(), device(&pairs));
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::incus::instances::sample;

    fn instance(spec: &InstanceSpec, number: u64, more: Config) -> Instance {
        let digest = spec.digest();
        let mut config =
            config(&"shop".parse().unwrap(), spec, &digest, number, 7, 100 - u32::try_from(number).unwrap());
        config.extend(more);
        let name = format!("{}-{number}", spec.name.as_str().replace('@', "-"));
        let devices = devices(spec, &digest, true).unwrap();
        serde_json::from_value(json!({ "name": name, "status": "Running", "config": config, "devices": devices }))
            .unwrap()
    }

    fn listed(instances: &[Instance]) -> Result<Listing, InstancesError> {
        Listing::of(&"shop".parse().unwrap(), None, instances)
    }

    #[test]
    fn the_newest_that_was_well_is_the_current_one() {
        let [one, two, three] = [1, 2, 3].map(|last| sample("ghost-blog@home", [10, 64, 1, last]));
        let other = InstanceSpec { after: vec![one.name.clone()], ..sample("tor@home", [10, 64, 2, 1]) };
        let all = [
            instance(&one, 1, settled(1)),
            instance(&three, 3, Config::new()),
            instance(&two, 2, settled(2)),
            instance(&other, 9, settled(9)),
        ];
        let listing = listed(&all).unwrap();
        let unit = &one.name;
        assert_eq!(listing.current(unit).unwrap().spec, two);
        assert_eq!(listing.settled(unit).skip(1).map(|ours| ours.number).collect::<Vec<_>>(), [1]);
        assert_eq!(listing.unfinished(unit).map(|ours| ours.number).collect::<Vec<_>>(), [3]);
        assert_eq!(listing.next_number(unit), 4);
        assert_eq!(listing.current(unit).unwrap().priority, 98);
        assert_eq!((listing.priority(&other), listing.priority(&one)), (97, FIRST), "after what it needs");
        // One key, written once, makes the next the current one.
        let listing = listed(&[instance(&one, 1, settled(1)), instance(&three, 3, settled(3))]).unwrap();
        assert_eq!(listing.current(unit).unwrap().spec, three);
    }

    #[test]
    fn what_does_not_say_that_it_is_ours_is_foreign_and_what_is_newer_is_refused() {
        let spec = sample("ghost-blog@home", [10, 64, 1, 2]);
        let of = |key: &str, value: &str| instance(&spec, 1, Config::from([(key.to_owned(), value.to_owned())]));
        let listing = listed(&[of(KEY_STACK, "another")]).unwrap();
        assert_eq!((listing.ours.len(), listing.foreign.len()), (0, 1));
        for (key, value) in [(KEY_FORMAT, "2"), (KEY_SPEC, "{}"), (KEY_DIGEST, "none"), (KEY_NUMBER, "-1")] {
            let error = listed(&[of(key, value)]).unwrap_err();
            assert!(matches!(error, InstancesError::Unreadable { .. }), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_host_says_of_an_instance_is_read_or_refused(key in 0..5_usize, value in ".*") {
            let key = [KEY_FORMAT, KEY_SPEC, KEY_DIGEST, KEY_NUMBER, PRIORITY][key];
            let spec = sample("ghost-blog@home", [10, 64, 1, 2]);
            let _ = listed(&[instance(&spec, 1, Config::from([(key.to_owned(), value)]))]);
        }
    }
}
