//! What an edge is given: its certificate, its configuration, its description as a unit.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use sovereign_model::edge_config::{
    CertificateFiles, EdgeConfig, EdgeSite, Learned, Peer, PublicAuthorities, Source, is_public,
};
use sovereign_model::edge_rules::AccessLog;
use sovereign_model::instance::bridge;
use sovereign_model::layout::{EdgeFolder, on_host};
use sovereign_model::stack::{Datacenter, Reach, Uplink, UplinkAddress};
use sovereign_model::unit::{Confinement, Health, Replace, SocketSpec, UnitSpec};
use sovereign_model::{EdgeName, Stack};

use super::{IncompleteWorld, WantedCertificate, World};

/// How long an edge may drain: long enough for a slow upload, short enough for an operator who waits.
const EDGE_STOP_GRACE_SECONDS: u32 = 30;

/// An edge as another one dials it.
pub(super) fn edge_peer(
    stack: &Stack,
    world: &World,
    from: &EdgeName,
    peer: &EdgeName,
) -> Result<Peer, IncompleteWorld> {
    let datacenter = &stack.datacenters[&peer.datacenter];
    let mut addresses = Vec::new();
    for address in dialled(datacenter, peer, from) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let (datacenter, public_key) = (peer.datacenter.clone(), link_key(world, peer)?.to_owned());
    let learned = learned(stack, from, peer);
    Ok(Peer { datacenter, host: peer.host.clone(), public_key, addresses, learned })
}

/// Which addresses of a peer are told to the agent beside `from`: of another data center with an uplink that readers come in
/// over and whose address changes.
fn learned(stack: &Stack, from: &EdgeName, peer: &EdgeName) -> Option<Learned> {
    let changes = |uplink: &Uplink| uplink.address == UplinkAddress::Dynamic && uplink.reach != Reach::OutboundOnly;
    let is_other =
        from.datacenter != peer.datacenter && stack.datacenters[&peer.datacenter].uplinks.iter().any(changes);
    let has_agent = stack.agents().any(|agent| agent == *from);
    let mut own = stack.datacenters[&from.datacenter].uplinks.iter().filter_map(|uplink| match uplink.address {
        UplinkAddress::Fixed(address) => Some(address),
        UplinkAddress::Dynamic => None,
    });
    let is_private = own.any(|address| !is_public(address));
    (is_other && has_agent).then_some(if is_private { Learned::Any } else { Learned::Public })
}

/// Where an edge is dialled from another one. Edges of this machine reach each other over loopback, and within a data
/// center a host has its own address. From elsewhere a host has that too, unless a router stands in front: what that
/// forwards comes to the first host, and the others can only dial out.
fn dialled(datacenter: &Datacenter, peer: &EdgeName, from: &EdgeName) -> Vec<SocketAddr> {
    let uplinks = || datacenter.uplinks.iter().filter(|uplink| uplink.reach != Reach::OutboundOnly);
    let own = datacenter.reached(peer);
    let (is_first, has_own) = match &peer.host {
        None if from.host.is_none() => return uplinks().map(Uplink::loopback).collect(),
        None => (true, false),
        Some(_) if from.datacenter == peer.datacenter => return vec![own],
        Some(host) => {
            let is_first = datacenter.hosts.first().is_some_and(|first| first.name == *host);
            (is_first, uplinks().any(|uplink| uplink.reach == Reach::Direct))
        }
    };
    let through = uplinks().filter(|_| is_first).filter_map(|uplink| match uplink.address {
        UplinkAddress::Fixed(ip) => Some(SocketAddr::new(ip, uplink.port)),
        UplinkAddress::Dynamic => None,
    });
    through.chain(has_own.then_some(own)).collect()
}

fn link_key<'w>(world: &'w World, edge: &EdgeName) -> Result<&'w str, IncompleteWorld> {
    let key = world.link_keys.get(edge);
    key.map(String::as_str).ok_or_else(|| IncompleteWorld::LinkKey { edge: edge.clone() })
}

/// An edge in its place: this machine, or a host.
pub(super) struct EdgeAt<'a> {
    edge: &'a EdgeName,
    datacenter: &'a Datacenter,
    folder: EdgeFolder,
    program: PathBuf,
    world: &'a World,
    has_renewer: bool,
}

impl<'a> EdgeAt<'a> {
    pub(super) fn new(stack: &Stack, datacenter: &'a Datacenter, edge: &'a EdgeName, world: &'a World) -> Self {
        let (state, program) = match edge.host {
            None => (world.state.clone(), world.binary.clone()),
            Some(_) => (on_host::state(&stack.name), on_host::program(&world.binary_digest)),
        };
        let has_renewer = stack.renewers().any(|renewer| renewer == *edge);
        Self { edge, datacenter, folder: state.edge(&datacenter.name), program, world, has_renewer }
    }

    pub(super) fn certificate(&self, sites: &[EdgeSite]) -> WantedCertificate {
        let fixed = self.datacenter.uplinks.iter().filter_map(|uplink| match uplink.address {
            UplinkAddress::Fixed(ip) => Some(ip),
            UplinkAddress::Dynamic => None,
        });
        // Applications in instances tell the edge of changes at the host's address on their bridge.
        let on_bridge = self.edge.host.as_ref().map(|_| IpAddr::V4(bridge::HOST));
        WantedCertificate {
            names: sites.iter().flat_map(|site| site.names.iter().cloned()).collect(),
            addresses: fixed.chain([self.datacenter.reached(self.edge).ip()]).chain(on_bridge).collect(),
        }
    }

    pub(super) fn config(
        &self,
        stack: &Stack,
        sites: Vec<EdgeSite>,
        peers: Vec<Peer>,
    ) -> Result<EdgeConfig, IncompleteWorld> {
        let Self { edge, datacenter, folder, world, .. } = self;
        Ok(EdgeConfig {
            stack: stack.name.clone(),
            datacenter: datacenter.name.clone(),
            host: edge.host.clone(),
            certificate: CertificateFiles { chain: folder.chain(), key: folder.key() },
            // Where no authority is asked, the configuration is what it was before there was any.
            public_certificates: (!stack.authorities.is_empty()).then(|| folder.public_certificates()),
            public_authorities: (!stack.authorities.is_empty()).then(|| PublicAuthorities {
                roots: world.public_roots.clone(),
                machine: stack.authorities.iter().any(|authority| authority.roots.is_none()),
            }),
            store: folder.store(),
            link_key: folder.link_key(link_key(world, edge)?),
            peers,
            sites,
            rules: stack.edge.clone(),
            access_log: (stack.edge.access_log != AccessLog::Off).then(|| folder.access_log()),
            proxy: datacenter.proxy.clone(),
            https_port: datacenter.port(),
        })
    }

    /// The edge as a unit. Its configuration is no input: it is reloaded, not restarted.
    pub(super) fn unit(&self, sites: &[EdgeSite]) -> UnitSpec {
        let Self { edge, datacenter, folder, program, world, has_renewer } = self;
        let argument = |path: PathBuf| path.to_string_lossy().into_owned();
        let content = sites.iter().filter_map(|site| match &site.source {
            Source::Folder(folder) => Some(folder.clone()),
            Source::Unix(socket) => socket.parent().map(PathBuf::from),
            Source::Tcp(_) | Source::Link(_) => None,
        });
        let keys = sites.iter().filter_map(|site| site.webhook_key.clone());
        // What lies in its own folder it reads anyway, and may be replaced without another description of it.
        let content = keys.chain(content).filter(|path| !path.starts_with(folder.path()));
        let mut args = vec![
            "edge".to_owned(),
            "--config".to_owned(),
            argument(folder.config()),
            "--control".to_owned(),
            argument(folder.control()),
            "--trust".to_owned(),
            world.trust.clone(),
        ];
        if *has_renewer {
            args.extend(["--renewal".to_owned(), argument(folder.renewal_control())]);
        }
        let renewal = has_renewer.then(|| folder.renewal());
        UnitSpec {
            name: edge.unit(),
            datacenter: datacenter.name.clone(),
            host: edge.host.clone(),
            program: program.clone(),
            args,
            env: BTreeMap::new(),
            working_dir: folder.path().to_owned(),
            sockets: edge_sockets(datacenter),
            confinement: Confinement {
                // The folder rather than the files: they are replaced by renaming.
                read: std::iter::once(folder.path().to_owned()).chain(content).collect(),
                write: [folder.store(), folder.run(), folder.log()].into_iter().chain(renewal).collect(),
                own_user: false,
                connect: None,
                low_ports: false,
            },
            health: Health::Control { socket: folder.control() },
            after: Vec::new(),
            stop_grace_seconds: EDGE_STOP_GRACE_SECONDS,
            replace: Replace::Beside,
            inputs: BTreeMap::from([("binary".to_owned(), world.binary_digest)]),
        }
    }
}

/// Where the edge listens: for readers and peers, for readers who come over plain HTTP, for Prometheus.
fn edge_sockets(datacenter: &Datacenter) -> Vec<SocketSpec> {
    let named = |name: &'static str| move |address| SocketSpec { name: name.to_owned(), address };
    let metrics = datacenter.metrics.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let https = datacenter.listen().into_iter().map(named("https"));
    let http = datacenter.listen_http().into_iter().map(named("http"));
    https.chain(http).chain(metrics.map(named("metrics"))).collect()
}
