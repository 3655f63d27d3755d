//! `sovereign dns lan`.

use serde::Serialize;
use sovereign_dns::router::OnLan;
use sovereign_model::names::Names;
use sovereign_model::{DatacenterName, DnsName, Network};

use super::dns::{NotDeclared, texts};
use crate::cli::DnsLanArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Page, Report};

/// Nothing is to be told.
#[derive(Debug, thiserror::Error)]
enum Nothing {
    #[error("the stack file says of no network that it is {0}'s own")]
    NoLan(DatacenterName),
    #[error("no site is at {0}")]
    NoSite(DatacenterName),
}

impl Reason for Nothing {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoLan(name) => {
                format!("say which are in `[[datacenter]]` {name}: `lan = [\"192.168.1.0/24\"]`, then `sovereign up`")
            }
            Self::NoSite(_) => "name it as a site's `primary`, or in its `mirrors`".to_owned(),
        })
    }
}

/// What a router is told.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    datacenter: DatacenterName,
    networks: Vec<Network>,
    #[serde(flatten)]
    on_lan: OnLan,
    dnsmasq: String,
    openwrt: String,
    unbound: String,
    hosts: String,
}

impl Report for Told {
    fn show(&self, page: &mut Page) {
        let OnLan { domains, name_servers, names, edges } = &self.on_lan;
        page.title(format_args!("{}, on {}", self.datacenter, texts(self.networks.iter()).join(", ")));
        page.line(format_args!("led to {}: {}", texts(edges.iter()).join(", "), list(names)));
        if !domains.is_empty() {
            page.line(format_args!("asked at {}: {}", texts(name_servers.iter()).join(", "), list(domains)));
        }
        for (what, text) in [
            ("dnsmasq, Pi-hole: lines of its configuration", &self.dnsmasq),
            ("OpenWrt: commands on the router", &self.openwrt),
            ("unbound: a part of its configuration", &self.unbound),
            ("where the router takes none of that, a hosts file on each device", &self.hosts),
        ] {
            page.gap();
            page.line(what);
            for line in text.lines() {
                page.line(format_args!("  {line}"));
            }
        }
        page.help(
            "what keeps private addresses out of answers (\"DNS rebind protection\") must let these through; a device that asks \
             another resolver than the router, a browser with one of its own say, is led to the public address",
        );
    }
}

fn list(names: &[DnsName]) -> String {
    texts(names.iter()).join(", ")
}

/// Tells what a router is told.
pub(crate) fn run(context: &Context, args: &DnsLanArgs) -> Result<Told, Failure> {
    let stack = Declared::load(context)?.stack;
    let name = &args.datacenter;
    let unknown = || NotDeclared::Datacenter(name.clone(), texts(stack.datacenters.keys()));
    let lan = stack.datacenters.get(name).ok_or_else(unknown)?.lan().ok_or_else(|| Nothing::NoLan(name.clone()))?;
    let on_lan = OnLan::of(&Names::of(&stack), name, &lan);
    if on_lan.names.is_empty() {
        return Err(Nothing::NoSite(name.clone()).into());
    }
    Ok(Told {
        datacenter: name.clone(),
        networks: lan.networks,
        dnsmasq: on_lan.dnsmasq(),
        openwrt: on_lan.openwrt(),
        unbound: on_lan.unbound(),
        hosts: on_lan.hosts(),
        on_lan,
    })
}
