//! What a renewer is given: what it renews, whom it asks, its place in the order, and its description as a unit.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use sovereign_model::layout::on_host;
use sovereign_model::names::NAMES_PORT;
use sovereign_model::renewer_config::{Asked, NameServer, RenewerConfig};
use sovereign_model::stack::{Domain, Reach, UplinkAddress};
use sovereign_model::unit::{Confinement, Health, Replace, UnitSpec};
use sovereign_model::{Digest, EdgeName, Stack};

use super::{IncompleteWorld, WantedRenewer, World};

/// Whatever it has begun the next one goes on with.
const STOP_GRACE_SECONDS: u32 = 5;

/// The renewer beside `edge`, which is on a host.
///
/// # Errors
/// When its key is not known.
pub(super) fn renewer(
    stack: &Stack,
    world: &World,
    edge: &EdgeName,
) -> Result<(WantedRenewer, UnitSpec), IncompleteWorld> {
    let key = world.renewer_keys.get(edge).ok_or_else(|| IncompleteWorld::RenewerKey { edge: edge.clone() })?;
    let order: Vec<EdgeName> = stack.renewers().collect();
    // Before all of them the management machine.
    let place = order.iter().take_while(|other| *other != edge).count() + 1;
    let counted = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let asked = stack.authorities.iter().map(|authority| {
        let mut authority = authority.clone();
        authority.roots = None;
        Asked { roots: world.authority_roots.get(&authority.name).cloned(), authority }
    });
    let answered = || stack.domains.values().filter(|domain| domain.provider.is_none());
    let config = RenewerConfig {
        stack: stack.name.clone(),
        datacenter: edge.datacenter.clone(),
        host: edge.host.clone(),
        folder: on_host::state(&stack.name).renewer(&edge.datacenter).path().to_owned(),
        before: counted(place),
        all: counted(order.len() + 1),
        names: stack.certified_at(edge),
        authorities: asked.collect(),
        domains: answered().map(|domain| domain.name.clone()).collect(),
        name_servers: name_servers(stack, edge),
        key: key.public.clone(),
        warrant: key.warrant.clone(),
    };
    let config_digest = Digest::of_value(&config);
    let spec = unit(stack, world, edge, &config_digest);
    Ok((WantedRenewer { unit: edge.renewer(), config, config_digest }, spec))
}

/// Whom authorities may ask: the stack's own name servers where the world reaches them, those of the own data center at their
/// hosts' addresses, and secondaries. At private addresses of other data centers somebody else may be.
fn name_servers(stack: &Stack, from: &EdgeName) -> Vec<NameServer> {
    let own = stack.name_servers().flat_map(|edge| {
        let datacenter = &stack.datacenters[&edge.datacenter];
        if edge.datacenter == from.datacenter {
            return datacenter.asked(&edge);
        }
        let open = datacenter.uplinks.iter().filter(|uplink| uplink.reach != Reach::OutboundOnly);
        let fixed = open.filter_map(|uplink| match uplink.address {
            UplinkAddress::Fixed(ip) => Some(SocketAddr::new(ip, NAMES_PORT)),
            UplinkAddress::Dynamic => None,
        });
        fixed.collect()
    });
    let answered = || stack.domains.values().filter(|domain| domain.provider.is_none());
    let mut all: BTreeMap<SocketAddr, NameServer> = own
        .map(|at| (at, NameServer { at, domains: answered().map(|domain| domain.name.clone()).collect() }))
        .collect();
    for secondary in &stack.secondaries {
        let has = |domain: &&Domain| domain.secondaries.contains(&secondary.name);
        for address in &secondary.addresses {
            let at = SocketAddr::new(*address, NAMES_PORT);
            all.insert(
                at,
                NameServer { at, domains: answered().filter(has).map(|domain| domain.name.clone()).collect() },
            );
        }
    }
    all.into_values().collect()
}

/// Its configuration is named by what is in it, as an agent's is.
fn unit(stack: &Stack, world: &World, edge: &EdgeName, digest: &Digest) -> UnitSpec {
    let state = on_host::state(&stack.name);
    let folder = state.renewer(&edge.datacenter);
    let (beside, names) = (state.edge(&edge.datacenter), state.name_server(&edge.datacenter));
    let argument = |path: PathBuf| path.to_string_lossy().into_owned();
    UnitSpec {
        name: edge.renewer(),
        datacenter: edge.datacenter.clone(),
        host: edge.host.clone(),
        program: on_host::program(&world.binary_digest),
        args: vec![
            "renewer".to_owned(),
            "--config".to_owned(),
            argument(folder.config(digest)),
            "--control".to_owned(),
            argument(folder.control()),
            "--trust".to_owned(),
            world.trust.clone(),
            "--edge".to_owned(),
            argument(beside.renewal_control()),
            "--name-server".to_owned(),
            argument(names.renewal_control()),
        ],
        env: BTreeMap::new(),
        working_dir: folder.path().to_owned(),
        sockets: Vec::new(),
        confinement: Confinement {
            // The folders of the sockets it asks: each daemon that takes over makes another one there.
            read: vec![folder.path().to_owned(), beside.renewal(), names.renewal()],
            write: vec![folder.run(), folder.certificates()],
            own_user: false,
            connect: None,
            low_ports: false,
        },
        health: Health::Control { socket: folder.control() },
        after: vec![edge.unit(), edge.name_server()],
        stop_grace_seconds: STOP_GRACE_SECONDS,
        // The new one waits until the old one has stopped before it works.
        replace: Replace::Beside,
        inputs: BTreeMap::from([("binary".to_owned(), world.binary_digest)]),
    }
}
