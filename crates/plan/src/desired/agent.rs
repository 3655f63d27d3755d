//! What an agent is given: what it watches, and its description as a unit.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use sovereign_model::agent_config::{AgentConfig, Dynamic, Watched};
use sovereign_model::edge_config::EdgeSite;
use sovereign_model::edge_rules::ProxySpeech;
use sovereign_model::layout::on_host;
use sovereign_model::provider::Publishes;
use sovereign_model::stack::{Datacenter, EngineKind, Reach, Uplink, UplinkAddress};
use sovereign_model::unit::{Confinement, Health, Replace, UnitSpec};
use sovereign_model::{Digest, DnsName, EdgeName, Stack};

use super::{WantedAgent, World};

/// Nobody is connected to it but who asks for its status.
const STOP_GRACE_SECONDS: u32 = 5;

/// The agent beside `edge`. `served` says which sites each edge serves.
pub(super) fn agent(
    stack: &Stack,
    world: &World,
    edge: &EdgeName,
    served: &BTreeMap<EdgeName, Vec<EdgeSite>>,
) -> (WantedAgent, UnitSpec) {
    let config = AgentConfig {
        stack: stack.name.clone(),
        datacenter: edge.datacenter.clone(),
        host: edge.host.clone(),
        authority: world.authority.clone(),
        watched: stack.datacenters.values().flat_map(|datacenter| watched(stack, edge, datacenter, served)).collect(),
        dynamic: stack.datacenters.values().flat_map(|datacenter| dynamic(stack, edge, datacenter, served)).collect(),
        publishes: Publishes::of(stack, &world.provider_secrets, &world.drained),
    };
    let config_digest = Digest::of_value(&config);
    let spec = unit(stack, world, edge, &config, &config_digest);
    (WantedAgent { unit: edge.agent(), config, config_digest }, spec)
}

fn watched(
    stack: &Stack,
    from: &EdgeName,
    datacenter: &Datacenter,
    served: &BTreeMap<EdgeName, Vec<EdgeSite>>,
) -> Vec<Watched> {
    let proxy = datacenter.proxy.as_ref();
    let name = asked_for(stack, datacenter, served);
    let watched = |at: String, address, public| Watched {
        datacenter: datacenter.name.clone(),
        at,
        address,
        name: name.clone(),
        public,
    };
    if datacenter.name == from.datacenter {
        // What a proxy in front makes of TLS and addresses, it makes of ours too.
        let edges = datacenter.edges().into_iter().filter(|_| proxy.is_none());
        let inside = |edge: EdgeName| {
            let at = edge.host.as_ref().map_or_else(|| edge.datacenter.to_string(), ToString::to_string);
            watched(at, datacenter.reached(&edge), !stack.authorities.is_empty())
        };
        return edges.map(inside).collect();
    }
    let public = shows_public(stack, datacenter);
    let uplinks = datacenter.uplinks.iter().filter(|uplink| uplink.reach != Reach::OutboundOnly);
    let dialled = uplinks.filter_map(|uplink| Some((uplink, outside(datacenter, uplink, from)?)));
    dialled.map(|(uplink, address)| watched(uplink.name.clone(), address, public)).collect()
}

/// Whether a certificate of a public authority is seen from outside: where authorities are asked, edges show what they have
/// issued, and a proxy that ends TLS has its own.
fn shows_public(stack: &Stack, datacenter: &Datacenter) -> bool {
    let ends_tls = datacenter.proxy.as_ref().is_some_and(|proxy| proxy.speaks == ProxySpeech::Http);
    !stack.authorities.is_empty() || ends_tls
}

/// What is asked for there: the name of a site that is written there is the last to go.
fn asked_for(stack: &Stack, datacenter: &Datacenter, served: &BTreeMap<EdgeName, Vec<EdgeSite>>) -> Option<DnsName> {
    let sites = datacenter.edges().into_iter().flat_map(|edge| served.get(&edge).into_iter().flatten());
    let is_written = |site: &&EdgeSite| stack.sites.get(&site.site).is_some_and(|site| site.primary == datacenter.name);
    let (written, kept): (Vec<_>, Vec<_>) = sites.partition(is_written);
    written.into_iter().chain(kept).map(|site| site.canonical.host().clone()).next()
}

/// What of another data center is watched where it is learned to be.
fn dynamic(
    stack: &Stack,
    from: &EdgeName,
    datacenter: &Datacenter,
    served: &BTreeMap<EdgeName, Vec<EdgeSite>>,
) -> Vec<Dynamic> {
    if datacenter.name == from.datacenter {
        return Vec::new();
    }
    let open = datacenter.uplinks.iter().filter(|uplink| uplink.reach != Reach::OutboundOnly);
    let of = |uplink: &Uplink| Dynamic {
        datacenter: datacenter.name.clone(),
        at: uplink.name.clone(),
        port: uplink.port,
        name: asked_for(stack, datacenter, served),
        public: shows_public(stack, datacenter),
    };
    open.filter(|uplink| uplink.address == UplinkAddress::Dynamic).map(of).collect()
}

/// Where an uplink is dialled from another data center. A dynamic address is not known here.
fn outside(datacenter: &Datacenter, uplink: &Uplink, from: &EdgeName) -> Option<SocketAddr> {
    let both_here = datacenter.engine == EngineKind::Embedded && from.host.is_none();
    if both_here && datacenter.proxy.is_none() {
        return Some(uplink.loopback());
    }
    match uplink.address {
        UplinkAddress::Fixed(ip) if !ip.is_loopback() => Some(SocketAddr::new(ip, uplink.port)),
        UplinkAddress::Fixed(_) | UplinkAddress::Dynamic => None,
    }
}

/// Its configuration is named by what is in it: another one is another description.
fn unit(stack: &Stack, world: &World, edge: &EdgeName, config: &AgentConfig, digest: &Digest) -> UnitSpec {
    let (state, program) = match edge.host {
        None => (world.state.clone(), world.binary.clone()),
        Some(_) => (on_host::state(&stack.name), on_host::program(&world.binary_digest)),
    };
    let folder = state.agent(&edge.datacenter);
    let argument = |path: PathBuf| path.to_string_lossy().into_owned();
    let learned = config.dynamic.iter().map(|dynamic| dynamic.port);
    let watched = config.watched.iter().map(|watched| watched.address.port());
    let providers = config.publishes.iter().flat_map(|publishes| &publishes.providers);
    let mut ports: Vec<u16> = watched.chain(learned).chain(providers.map(|provider| provider.way.port())).collect();
    ports.sort_unstable();
    ports.dedup();
    UnitSpec {
        name: edge.agent(),
        datacenter: edge.datacenter.clone(),
        host: edge.host.clone(),
        program,
        args: vec![
            "agent".to_owned(),
            "--config".to_owned(),
            argument(folder.config(digest)),
            "--control".to_owned(),
            argument(folder.control()),
            "--trust".to_owned(),
            world.trust.clone(),
        ],
        env: BTreeMap::new(),
        working_dir: folder.path().to_owned(),
        sockets: Vec::new(),
        confinement: Confinement {
            read: vec![folder.path().to_owned()],
            write: vec![folder.run()],
            own_user: false,
            connect: Some(ports),
            low_ports: false,
        },
        health: Health::Control { socket: folder.control() },
        after: Vec::new(),
        stop_grace_seconds: STOP_GRACE_SECONDS,
        replace: Replace::Beside,
        inputs: BTreeMap::from([("binary".to_owned(), world.binary_digest)]),
    }
}
