//! What a name server is given: the zones it answers for, the tags of their keys and the digests of
//! those of secondaries, and its description as a unit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sovereign_model::layout::on_host;
use sovereign_model::name_server_config::NameServerConfig;
use sovereign_model::names::Names;
use sovereign_model::secondary::Secondary;
use sovereign_model::unit::{Confinement, Health, Replace, UnitSpec};
use sovereign_model::{Digest, DnsName, EdgeName, Stack};

use super::{IncompleteWorld, WantedNameServer, World};

/// Answers are given at once, and Knot writes down what it has signed.
const STOP_GRACE_SECONDS: u32 = 10;

/// The name server beside `edge`, which is on a host.
///
/// # Errors
/// When the key of a domain or of a secondary is not known.
pub(super) fn name_server(
    stack: &Stack,
    world: &World,
    edge: &EdgeName,
) -> Result<(WantedNameServer, UnitSpec), IncompleteWorld> {
    let names = Names::of(stack);
    let tag = |domain: &DnsName| {
        let tag = world.zone_keys.get(domain).ok_or_else(|| IncompleteWorld::ZoneKey { domain: domain.clone() })?;
        Ok((domain.clone(), *tag))
    };
    let transfer_key = |secondary: &Secondary| {
        let name = &secondary.name;
        let missing = || IncompleteWorld::TransferKey { secondary: name.clone() };
        Ok((name.clone(), *world.transfer_keys.get(name).ok_or_else(missing)?))
    };
    let config = NameServerConfig {
        stack: stack.name.clone(),
        datacenter: edge.datacenter.clone(),
        host: edge.host.clone(),
        folder: on_host::state(&stack.name).name_server(&edge.datacenter).path().to_owned(),
        listen: stack.datacenters[&edge.datacenter].asked(edge),
        keys: names.domains.iter().map(|domain| tag(&domain.name)).collect::<Result<_, _>>()?,
        coming_keys: world
            .coming_zone_keys
            .iter()
            .filter(|(domain, _)| names.domains.iter().any(|declared| declared.name == **domain))
            .map(|(domain, tag)| (domain.clone(), *tag))
            .collect(),
        transfer_keys: names.secondaries.iter().map(transfer_key).collect::<Result<_, _>>()?,
        lan: stack.datacenters[&edge.datacenter].lan(),
        names,
        drained: world.drained.iter().filter(|name| stack.datacenters.contains_key(*name)).cloned().collect(),
    };
    let config_digest = Digest::of_value(&config);
    let spec = unit(stack, world, edge, &config_digest);
    Ok((WantedNameServer { unit: edge.name_server(), config, config_digest }, spec))
}

/// Its configuration is named by what is in it, as an agent's is.
fn unit(stack: &Stack, world: &World, edge: &EdgeName, digest: &Digest) -> UnitSpec {
    let state = on_host::state(&stack.name);
    let (folder, agent) = (state.name_server(&edge.datacenter), state.agent(&edge.datacenter));
    let has_agent = stack.agents().any(|agent| agent == *edge);
    let argument = |path: PathBuf| path.to_string_lossy().into_owned();
    let mut args = vec![
        "name-server".to_owned(),
        "--config".to_owned(),
        argument(folder.config(digest)),
        "--control".to_owned(),
        argument(folder.control()),
        "--trust".to_owned(),
        world.trust.clone(),
    ];
    // Where there is no other data center there is no agent, and nobody to leave out.
    if has_agent {
        args.extend(["--agent".to_owned(), argument(agent.control())]);
    }
    let renewal = stack.renewers().any(|renewer| renewer == *edge).then(|| folder.renewal());
    if renewal.is_some() {
        args.extend(["--renewal".to_owned(), argument(folder.renewal_control())]);
    }
    UnitSpec {
        name: edge.name_server(),
        datacenter: edge.datacenter.clone(),
        host: edge.host.clone(),
        program: on_host::program(&world.binary_digest),
        args,
        env: BTreeMap::new(),
        working_dir: folder.path().to_owned(),
        sockets: Vec::new(),
        confinement: Confinement {
            // The folder of the agent's socket: each agent that takes over makes another one there.
            read: std::iter::once(folder.path().to_owned()).chain(has_agent.then(|| agent.run())).collect(),
            write: [folder.run(), folder.knot()].into_iter().chain(renewal).collect(),
            own_user: false,
            connect: None,
            low_ports: true,
        },
        health: Health::Control { socket: folder.control() },
        after: has_agent.then(|| edge.agent()).into_iter().collect(),
        stop_grace_seconds: STOP_GRACE_SECONDS,
        // Both listen at once, each with a Knot of its own.
        replace: Replace::Beside,
        inputs: BTreeMap::from([("binary".to_owned(), world.binary_digest)]),
    }
}
