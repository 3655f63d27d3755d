//! What of a host's Incus is not as it should be.
//!
//! Promise: looking changes nothing, judging is pure. What an instance may do is decided by its configuration, its devices
//! and its project, so each key of them is compared, and one that nobody of ours writes is told.
//!
//! Left out: the packet filter in effect, whose wanted text is handed back to be compared with it on the host; what is in
//! an instance's files.

use std::collections::BTreeMap;

use sovereign_hosts::audit::{Finding, Findings};
use sovereign_incus::instance::Instance;
use sovereign_incus::network::Network;
use sovereign_incus::project::Project;
use sovereign_incus::server::Server;
use sovereign_incus::{Config, InstanceName};
use sovereign_model::instance::{InstanceSpec, bridge};
use sovereign_model::{StackName, UnitName};

use super::error::InstancesError;
use super::host::InstanceHost;
use super::listing::{self, KEY_STACK, Listing, Ours};
use super::{Instances, filter, ground, names};

const INCUS: &str = "incus";
const PROJECT: &str = "project";
const INSTANCES: &str = "instances";
/// The project that every Incus has.
const DEFAULT: &str = "default";
/// What changes while an instance lives, or says only when it starts.
const CHANGES: [&str; 2] = [listing::AUTOSTART, listing::PRIORITY];

/// What a look at a host's Incus gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// What was compared.
    pub findings: Vec<Finding>,
    /// The rules that should be in effect between instances; `None` when there are no instances.
    pub rules: Option<String>,
}

/// What was asked.
struct Asked<'a> {
    stack: &'a StackName,
    server: Server,
    project: Project,
    network: Option<Network>,
    listing: Listing,
    instances: BTreeMap<InstanceName, Instance>,
    elsewhere: Vec<String>,
}

impl<H: InstanceHost> Instances<'_, H> {
    /// Compares the host's Incus with the descriptions of the instances that should be on it.
    ///
    /// # Errors
    /// When the Incus does not answer, or has an instance of ours that this program does not understand.
    pub async fn audit(&self, wanted: &[&InstanceSpec]) -> Result<Audited, InstancesError> {
        let all = self.client.instances().await?;
        let listing = Listing::of(self.stack, self.member.as_ref(), &all)?;
        let network = match self.client.network(&names::network()).await {
            Ok(network) => Some(network.value),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let mut elsewhere = Vec::new();
        for project in self.everywhere.projects().await?.into_iter().filter(|project| project.name != names::project())
        {
            if project.name.as_str() != DEFAULT {
                elsewhere.push(format!("the project {}", project.name));
            }
            let others = self.client.in_project(project.name.clone()).instances().await?;
            elsewhere
                .extend(others.iter().map(|other| format!("the instance {} of project {}", other.name, project.name)));
        }
        let asked = Asked {
            stack: self.stack,
            server: self.client.server().await?,
            project: self.client.project(&names::project()).await?.value,
            network,
            listing,
            instances: all.into_iter().map(|instance| (instance.name.clone(), instance)).collect(),
            elsewhere,
        };
        let rules = (!asked.listing.ours.is_empty()).then(|| filter::text(asked.listing.connected()));
        Ok(Audited { findings: judge(&asked, wanted), rules })
    }
}

fn judge(asked: &Asked<'_>, wanted: &[&InstanceSpec]) -> Vec<Finding> {
    let mut all = Findings::new();
    server(&asked.server, &mut all);
    project(asked, &mut all);
    let again =
        "`sovereign up` replaces it when it is removed: `incus delete --force` in project sovereign on the host";
    for ours in &asked.listing.ours {
        match asked.instances.get(&ours.name) {
            Some(instance) => compare(asked.stack, ours, instance, &mut all),
            None => all.drift(INSTANCES, format_args!("{} went away", ours.name), again),
        }
    }
    placed(&asked.listing, wanted, &mut all);
    for foreign in &asked.listing.foreign {
        let help = "nobody of ours made it; look at it, then `incus delete --project sovereign` on the host";
        all.drift(INSTANCES, format_args!("{foreign} is in the stack's project and not the stack's"), help);
    }
    for other in &asked.elsewhere {
        let help = "the host's Incus is the stack's alone; look at it, then remove it with `incus` on the host";
        all.drift(INSTANCES, format_args!("nothing describes {other}"), help);
    }
    let count = asked.listing.ours.len();
    all.else_fine(INSTANCES, format_args!("{count}, unprivileged, with the limits and devices of their descriptions"));
    all.into_all()
}

/// Every key that opens something to others: addresses that an API of Incus' listens on. That of the cluster is judged by
/// whoever knows the addresses of hosts.
fn server(server: &Server, all: &mut Findings) {
    let opens = |key: &str| key.starts_with("core.") && key.ends_with("_address") && key != "core.https_address";
    for (key, value) in server.config.iter().filter(|(key, value)| opens(key) && !value.is_empty()) {
        let help = format!("`incus config unset {key}` on the host");
        all.drift(INCUS, format_args!("it listens on {value} ({key})"), help);
    }
}

fn project(asked: &Asked<'_>, all: &mut Findings) {
    let config = &asked.project.config;
    let wanted = [
        ("restricted", "true"),
        ("features.images", "true"),
        ("features.profiles", "true"),
        ("features.storage.volumes", "true"),
        (KEY_STACK, asked.stack.as_str()),
    ];
    for (key, value) in wanted {
        let is = config.get(key).map_or("", String::as_str);
        if is != value {
            let help = format!("`incus project set sovereign {key}={value}` on the host");
            all.drift(PROJECT, format_args!("{key} is {is:?}, not {value:?}"), help);
        }
    }
    let allowed = [("restricted.networks.access", bridge::NAME), ("restricted.snapshots", "allow")];
    for (key, value) in config.iter().filter(|(key, value)| key.starts_with("restricted.") && *value != "block") {
        if !allowed.contains(&(key.as_str(), value.as_str())) {
            let help = format!("`incus project unset sovereign {key}` on the host");
            all.drift(PROJECT, format_args!("{key} allows {value:?}"), help);
        }
    }
    if let Some(network) = &asked.network {
        for (key, value) in ground::bridge_config(asked.stack) {
            let is = network.config.get(&key).map_or("", String::as_str);
            if is != value {
                let help = format!("`incus network set {} {key}={value}` on the host", network.name);
                all.drift(
                    PROJECT,
                    format_args!("{key} of the network {} is {is:?}, not {value:?}", network.name),
                    help,
                );
            }
        }
    }
    all.else_fine(PROJECT, "restricted, and on its own network");
}

/// One of ours beside what its description makes.
fn compare(stack: &StackName, ours: &Ours, instance: &Instance, all: &mut Findings) {
    let name = &ours.name;
    let help =
        "`sovereign rotate` or a change of the stack file replaces it; or undo it with `incus config` on the host";
    if ours.spec.digest() != ours.digest {
        all.drift(INSTANCES, format_args!("{name} has a description that was changed"), help);
    }
    let right = listing::config(stack, &ours.spec, &ours.digest, ours.number, ours.made, ours.priority);
    for (key, value) in &right {
        let is = instance.config.get(key).map_or("", String::as_str);
        if !CHANGES.contains(&key.as_str()) && is != value {
            all.drift(INSTANCES, format_args!("{key} of {name} is {}, not {}", short(is), short(value)), help);
        }
    }
    let is_made_by_incus = |key: &str| key.starts_with("volatile.") || key.starts_with("image.");
    let more = |key: &str| !right.contains_key(key) && key != listing::KEY_WELL && !is_made_by_incus(key);
    for (key, value) in instance.config.iter().filter(|(key, _)| more(key)) {
        all.drift(INSTANCES, format_args!("{name} has {key} = {}, which nothing describes", short(value)), help);
    }
    for profile in &instance.profiles {
        all.drift(INSTANCES, format_args!("{name} has the profile {profile}"), help);
    }
    let Ok(devices) = listing::devices(&ours.spec, &ours.digest, ours.has_interface) else {
        return all.drift(INSTANCES, format_args!("{name} has a description that gives no devices"), help);
    };
    for (device, is) in &instance.devices {
        match devices.get(device) {
            Some(right) if right == is => {}
            Some(right) => {
                all.drift(
                    INSTANCES,
                    format_args!("the device {device} of {name} is another: {}", differs(is, right)),
                    help,
                );
            }
            None => all.drift(INSTANCES, format_args!("{name} has the device {device}, which nothing describes"), help),
        }
    }
    for device in devices.keys().filter(|device| !instance.devices.contains_key(*device)) {
        all.drift(INSTANCES, format_args!("{name} lacks the device {device}"), help);
    }
}

/// Whether those that are used are those that are wanted.
fn placed(listing: &Listing, wanted: &[&InstanceSpec], all: &mut Findings) {
    let up = "`sovereign plan` says what `sovereign up` would do";
    for spec in wanted {
        match listing.current(&spec.name) {
            Some(ours) if ours.digest == spec.digest() => {}
            Some(ours) => {
                all.drift(INSTANCES, format_args!("{} is of another description than the stack file's", ours.name), up);
            }
            None => all.drift(INSTANCES, format_args!("{} is not there", spec.name), up),
        }
    }
    let is_wanted = |unit: &UnitName| wanted.iter().any(|spec| spec.name == *unit);
    for ours in listing.ours.iter().filter(|ours| !is_wanted(&ours.spec.name)) {
        all.drift(
            INSTANCES,
            format_args!("the stack file has no {} any more, of which {} is", ours.spec.name, ours.name),
            up,
        );
    }
}

fn differs(is: &Config, right: &Config) -> String {
    let more = is.iter().filter(|(key, value)| right.get(*key) != Some(value));
    let more = more.map(|(key, value)| format!("{key} is {}", short(value)));
    let less = right.keys().filter(|key| !is.contains_key(*key)).map(|key| format!("{key} is missing"));
    more.chain(less).collect::<Vec<_>>().join(", ")
}

/// A value that a host says, fit for a line.
fn short(value: &str) -> String {
    let text: String = value.chars().filter(|c| !c.is_control()).take(60).collect();
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::incus::instances::sample;

    const STACK: &str = "shop";

    fn instance(spec: &InstanceSpec, change: impl FnOnce(&mut Value)) -> Instance {
        let (digest, stack) = (spec.digest(), STACK.parse().unwrap());
        let mut config = listing::config(&stack, spec, &digest, 1, 7, 100);
        config.extend(listing::settled(1));
        config.insert("volatile.uuid".to_owned(), "1".to_owned());
        let name = names::instance(&spec.name, &digest).unwrap();
        let devices = listing::devices(spec, &digest, true).unwrap();
        let mut value =
            json!({ "name": name.as_str(), "status": "Running", "config": config, "devices": devices, "profiles": [] });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    fn asked<'a>(stack: &'a StackName, instances: Vec<Instance>, change: impl FnOnce(&mut Value)) -> Asked<'a> {
        let mut value = json!({
            "server": { "environment": {}, "config": { "core.https_address": "" } },
            "project": { "name": "sovereign", "config": {
                "restricted": "true", "features.images": "true", "features.profiles": "true",
                "features.storage.volumes": "true", "restricted.networks.access": "sovereign0",
                "restricted.snapshots": "allow", "user.sovereign.stack": STACK,
            }},
            "network": { "name": "sovereign0", "type": "bridge", "managed": true, "config": ground::bridge_config(stack) },
        });
        change(&mut value);
        let listing = Listing::of(stack, None, &instances).unwrap();
        Asked {
            stack,
            server: serde_json::from_value(value["server"].take()).unwrap(),
            project: serde_json::from_value(value["project"].take()).unwrap(),
            network: Some(serde_json::from_value(value["network"].take()).unwrap()),
            listing,
            instances: instances.into_iter().map(|instance| (instance.name.clone(), instance)).collect(),
            elsewhere: Vec::new(),
        }
    }

    fn told(findings: &[Finding]) -> String {
        let line =
            |Finding { verdict, subject, sentence, .. }: &Finding| format!("{verdict} | {subject} | {sentence}\n");
        findings.iter().map(line).collect()
    }

    #[test]
    fn what_was_changed_of_an_instance_is_named() {
        let stack: StackName = STACK.parse().unwrap();
        let spec = sample("ghost-blog@home", [10, 64, 1, 2]);
        let set = |pointer: &'static str, value: Value| {
            move |all: &mut Value| {
                let (parent, key) = pointer.rsplit_once('/').unwrap();
                all.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
            }
        };
        let of = |change: Box<dyn FnOnce(&mut Value)>| {
            told(&judge(&asked(&stack, vec![instance(&spec, change)], |_| ()), &[&spec]))
        };
        let around = |change: Box<dyn FnOnce(&mut Value)>| {
            told(&judge(&asked(&stack, vec![instance(&spec, |_| ())], change), &[&spec]))
        };
        let other = sample("ghost-blog@home", [10, 64, 1, 3]);
        let mut foreign = asked(
            &stack,
            vec![instance(&spec, |_| ()), instance(&other, set("/config/user.sovereign.stack", json!("x")))],
            |_| (),
        );
        foreign.elsewhere.push("the instance miner of project default".to_owned());
        let told = [
            ("as it should be", of(Box::new(|_| ()))),
            ("privileged", of(Box::new(set("/config/security.privileged", json!("true"))))),
            ("nesting", of(Box::new(set("/config/security.nesting", json!("true"))))),
            ("more memory", of(Box::new(set("/config/limits.memory", json!("8GiB"))))),
            ("raw", of(Box::new(set("/config/raw.lxc", json!("lxc.apparmor.profile=unconfined"))))),
            (
                "a device",
                of(Box::new(set("/devices/shm", json!({ "type": "disk", "source": "/dev/shm", "path": "/x" })))),
            ),
            ("a device changed", of(Box::new(set("/devices/eth0/security.ipv4_filtering", json!("false"))))),
            ("a profile", of(Box::new(set("/profiles", json!(["open"]))))),
            ("not restricted", around(Box::new(set("/project/config/restricted", json!("false"))))),
            ("less restricted", around(Box::new(set("/project/config/restricted.containers.nesting", json!("allow"))))),
            ("metrics", around(Box::new(set("/server/config/core.metrics_address", json!(":8444"))))),
            ("translated", around(Box::new(set("/network/config/ipv4.nat", json!("true"))))),
            ("foreign", told(&judge(&foreign, &[&spec]))),
            ("not wanted", told(&judge(&asked(&stack, vec![instance(&spec, |_| ())], |_| ()), &[]))),
            ("another wanted", told(&judge(&asked(&stack, vec![instance(&spec, |_| ())], |_| ()), &[&other]))),
            ("none", told(&judge(&asked(&stack, Vec::new(), |_| ()), &[&spec]))),
        ];
        let told: String = told.iter().map(|(what, told)| format!("# {what}\n{told}")).collect();
        insta::assert_snapshot!(told);
    }
}
