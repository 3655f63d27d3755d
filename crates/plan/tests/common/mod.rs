//! Stacks and worlds for the planner's tests.

#![allow(dead_code, reason = "each test uses its part")]

use std::collections::{BTreeMap, BTreeSet};

use sovereign_model::instance::{InstanceHealth, InstanceSpec, Limits};
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::{App, Datacenter, Stack};
use sovereign_model::unit::{Confinement, Health, Replace, Runs, UnitSpec};
use sovereign_model::{Digest, Observed, UnitName};
use sovereign_plan::{AppUnit, Plan, RenewerKey, Wanted, World, simulate};

/// A Monday in 2026, in unix seconds.
pub(crate) const NOW: u64 = 1_795_400_000;

/// The world as a binary would describe it. `release` stands for everything that a new release changes.
pub(crate) fn world(stack: &Stack, release: u8) -> World {
    let state = StateFolder::new("/state");
    let ghosts = stack.sites.values().filter(|site| site.app == App::Ghost);
    let units = ghosts.clone().map(|site| {
        let name = UnitName::at(&format!("ghost-{}", site.name), &site.primary).unwrap();
        let folder = state.site(&site.primary, &site.name);
        let spec = UnitSpec {
            name: name.clone(),
            datacenter: site.primary.clone(),
            host: None,
            program: "/images/ghost/node".into(),
            args: vec!["current/index.js".to_owned()],
            env: BTreeMap::from([("url".to_owned(), site.canonical.to_string())]),
            working_dir: folder.path().into(),
            sockets: Vec::new(),
            confinement: Confinement::default(),
            health: Health::HttpUnix {
                socket: folder.ghost_socket(),
                path: "/".to_owned(),
                host: site.canonical.authority(),
            },
            after: vec![UnitName::at("edge", &site.primary).unwrap()],
            stop_grace_seconds: 10,
            replace: Replace::StopFirst,
            inputs: BTreeMap::from([("image".to_owned(), Digest::of([b'g', release]))]),
        };
        (
            name,
            AppUnit {
                site: site.name.clone(),
                runs: Runs::Unit(spec),
                images: BTreeSet::from(["ghost".parse().unwrap()]),
                data_version: None,
            },
        )
    });
    World {
        binary: "/bin/sovereign".into(),
        binary_digest: Digest::of([b'b', release]),
        trust: "ab".repeat(32),
        authority: "a certificate".to_owned(),
        public_roots: String::new(),
        locks: BTreeMap::from([("ghost".parse().unwrap(), Digest::of([b'l', release]))]),
        link_keys: stack
            .datacenters
            .values()
            .flat_map(Datacenter::edges)
            .map(|edge| (edge.clone(), Digest::of(edge.to_string()).hex()))
            .collect(),
        coming_zone_keys: BTreeMap::new(),
        zone_keys: stack.domains.keys().map(|domain| (domain.clone(), 20_000)).collect(),
        provider_secrets: BTreeMap::new(),
        transfer_keys: stack.secondaries.iter().map(|other| (other.name.clone(), Digest::of("key"))).collect(),
        renewer_keys: stack
            .renewers()
            .map(|edge| {
                let public = Digest::of(edge.to_string()).hex();
                (edge, RenewerKey { public, warrant: "cd".repeat(64) })
            })
            .collect(),
        authority_roots: BTreeMap::new(),
        webhook_keys: ghosts.map(|site| (site.name.clone(), state.keys().join(site.name.as_str()))).collect(),
        files: BTreeMap::new(),
        units: units.collect(),
        epochs: BTreeMap::new(),
        epoch_proofs: BTreeMap::new(),
        drained: BTreeSet::new(),
        maintained: BTreeSet::new(),
        now: NOW,
        state,
    }
}

/// Performs a plan in thought.
pub(crate) fn apply(plan: &Plan, want: &Wanted, seen: &mut Observed) {
    plan.steps.iter().for_each(|planned| simulate(&planned.step, want, seen));
}

/// An application in a container.
pub(crate) fn instance(name: &UnitName, datacenter: &str, host: &str, release: u8) -> Runs {
    let spec = InstanceSpec {
        name: name.clone(),
        datacenter: datacenter.parse().unwrap(),
        host: host.parse().unwrap(),
        image: "ghost".parse().unwrap(),
        fingerprint: Digest::of([b'g', release]),
        address: std::net::Ipv4Addr::UNSPECIFIED,
        volumes: Vec::new(),
        files: Vec::new(),
        reaches: Vec::new(),
        serves: Some(2368),
        limits: Limits { memory: 1 << 30, processes: 100 },
        health: InstanceHealth::Service { service: "ghost.service".to_owned() },
        after: Vec::new(),
        stop_grace_seconds: 10,
        replace: Replace::Beside,
        data_version: None,
        converts: Vec::new(),
        inputs: BTreeMap::new(),
    };
    Runs::Instance(spec.addressed())
}
