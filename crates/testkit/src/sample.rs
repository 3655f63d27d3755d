//! The default stack and a world for it, as the binary would describe them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sovereign_model::stack::{App, Datacenter};
use sovereign_model::unit::{Confinement, Health, Replace, Runs, UnitSpec};
use sovereign_model::{Digest, Stack, StateFolder, UnitName};
use sovereign_plan::{AppUnit, RenewerKey, Wanted, World, desired};

/// A Monday in 2026, in unix seconds.
pub const NOW: u64 = 1_795_400_000;

/// The stack of the default stack file.
///
/// # Panics
/// When the default stack file is not valid; the model's tests see to it that it is.
pub fn stack() -> Stack {
    sovereign_model::file::parse("stack.toml", sovereign_model::file::default_file(), Path::new("/"))
        .expect("the default stack file is valid")
}

/// What is wanted for it.
///
/// # Panics
/// Never: the world made here is complete.
pub fn wanted() -> Wanted {
    let stack = stack();
    desired(&stack, &world(&stack)).expect("this world is complete")
}

/// A world with one unit for each site that needs one.
///
/// # Panics
/// Never: names of parts are names.
pub fn world(stack: &Stack) -> World {
    let state = StateFolder::new("/state");
    let ghosts = || stack.sites.values().filter(|site| site.app == App::Ghost);
    let units = ghosts().map(|site| {
        let name = UnitName::at(&format!("ghost-{}", site.name), &site.primary).expect("a label before a data center");
        let folder = state.site(&site.primary, &site.name);
        let spec = UnitSpec {
            name: name.clone(),
            datacenter: site.primary.clone(),
            host: None,
            program: "/images/ghost/node".into(),
            args: vec!["current/index.js".to_owned()],
            env: BTreeMap::new(),
            working_dir: folder.path().into(),
            sockets: Vec::new(),
            confinement: Confinement::default(),
            health: Health::HttpUnix {
                socket: folder.ghost_socket(),
                path: "/".to_owned(),
                host: site.canonical.authority(),
            },
            after: Vec::new(),
            stop_grace_seconds: 10,
            replace: Replace::StopFirst,
            inputs: BTreeMap::new(),
        };
        let images = BTreeSet::from(["ghost".parse().expect("a label")]);
        (name, AppUnit { site: site.name.clone(), runs: Runs::Unit(spec), images, data_version: None })
    });
    World {
        binary: "/bin/sovereign".into(),
        binary_digest: Digest::of("binary"),
        trust: "ab".repeat(32),
        authority: "a certificate".to_owned(),
        public_roots: String::new(),
        locks: BTreeMap::from([("ghost".parse().expect("a label"), Digest::of("lock"))]),
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
        webhook_keys: ghosts().map(|site| (site.name.clone(), state.keys().join(site.name.as_str()))).collect(),
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
