//! Which packets pass between the instances of a host, and the host itself. The text is a pure function of descriptions;
//! it is in effect before an instance starts, and at every boot before Incus is.
//!
//! A flow is a source, a destination and a port of it. Of a flow all packets pass one way, and the other way all that do
//! not open a connection. So nothing has to be remembered of connections: conntrack for bridges is a module that not
//! every kernel has, and neither is the name of the bridge that a frame came over, which is why interfaces are known by
//! how their names begin. Frames that are no IPv4 or ARP do not pass at all, and what is addressed to anything but the
//! host or an instance neither.
//!
//! That nobody uses another's address is seen to at each interface by Incus.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};

use sovereign_hosts::ready::FROM_INSTANCE;
use sovereign_hosts::systemd::{Answer, Host};
use sovereign_model::instance::{InstanceHealth, InstanceSpec, bridge};

use super::error::InstancesError;
use super::{health, names};

/// The tables, for bridges and for all else.
const TABLE: &str = "sovereign_instances";
/// What is in effect.
const RULES: &str = "/etc/sovereign/instances.nft";
/// What is about to be.
const NEW_RULES: &str = "/etc/sovereign/instances.nft.new";
/// What puts it into effect at boot.
const UNIT: &str = "sovereign-instances.service";

/// Before Incus, which starts instances. First nothing passes: where the rules cannot be read, instances start all the
/// same and are alone, which the next run sees and mends.
const UNIT_TEXT: &str = "\
[Unit]
Description=Packet filter of Sovereign Stack's instances
Documentation=file:/etc/sovereign/instances.nft
DefaultDependencies=no
Before=network-pre.target incus.service incus-startup.service shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft 'table bridge sovereign_instances { \
  chain input { type filter hook input priority filter; iifname \"sovi*\" drop; }; \
  chain forward { type filter hook forward priority filter; iifname \"sovi*\" drop; }; \
  chain output { type filter hook output priority filter; oifname \"sovi*\" drop; }; \
}'
ExecStart=/usr/sbin/nft -f /etc/sovereign/instances.nft
ExecReload=/usr/sbin/nft -f /etc/sovereign/instances.nft

[Install]
WantedBy=sysinit.target
";

/// In effect first, all at once or not at all; then what is in effect at boot. The unit was written anew, by this program or
/// an older one, so systemd reads it each time.
const LOAD: &str = "\
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
nft -f \"$1\"
mv -f -- \"$1\" \"$2\"
systemctl daemon-reload
systemctl -q reset-failed \"$3\" 2> /dev/null || true
systemctl -q is-enabled \"$3\" 2> /dev/null || systemctl -q enable \"$3\"
";

/// What is not there is as good as removed.
const UNLOAD: &str = "\
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
systemctl -q disable \"$2\" 2> /dev/null || true
rm -f -- \"$1\" \"$1.new\" \"/etc/systemd/system/$2\"
systemctl daemon-reload
for family in bridge inet; do
    nft add table $family \"$3\"
    nft delete table $family \"$3\"
done
";

/// A source, a destination and a port of that.
type Flow = (Ipv4Addr, Ipv4Addr, u16);

/// What is to pass: flows, and whose they are.
fn flows<'s>(instances: impl Iterator<Item = &'s InstanceSpec>) -> BTreeMap<Flow, &'s str> {
    let mut flows = BTreeMap::new();
    for spec in instances {
        let InstanceSpec { name, address, reaches, serves, health, .. } = spec;
        let health = match health {
            InstanceHealth::Http { port, .. } => Some(*port),
            InstanceHealth::Service { .. } => None,
        };
        flows.extend(serves.iter().chain(&health).map(|port| ((bridge::HOST, *address, *port), name.as_str())));
        let within =
            reaches.iter().filter(|to| on_bridge(to)).map(|to| ((*address, *to.ip(), to.port()), name.as_str()));
        flows.extend(within);
    }
    flows
}

/// What is not has no way there, whatever a description says.
fn on_bridge(to: &SocketAddrV4) -> bool {
    let bits = u32::BITS - u32::from(bridge::PREFIX);
    to.ip().to_bits() >> bits == bridge::HOST.to_bits() >> bits
}

/// The rules for these instances, as a file for `nft -f` that replaces both tables of ours.
pub(super) fn text<'s>(instances: impl Iterator<Item = &'s InstanceSpec> + Clone) -> String {
    let flows = flows(instances.clone());
    // Who may ask whom for the hardware's address. All of them ask the host, which gives them theirs.
    let with_host = instances.map(|spec| (spec.address, bridge::HOST));
    let pairs = with_host.chain(flows.keys().map(|(from, to, _)| (*from, *to)));
    let pairs: BTreeSet<(Ipv4Addr, Ipv4Addr)> = pairs.flat_map(|(one, other)| [(one, other), (other, one)]).collect();
    let flows = flows.iter().map(|((from, to, port), whose)| format!("{from} . {to} . {port} comment \"{whose}\""));
    let pairs = pairs.iter().map(|(one, other)| format!("{one} . {other}"));
    let (flows, pairs) = (elements(flows), elements(pairs));
    let (host, network, interfaces) = (bridge::HOST, bridge::NAME, names::INTERFACES);
    format!(
        "# Written by sovereign: what passes between instances and this host. What is not named here does not.
table bridge {TABLE}
delete table bridge {TABLE}
table bridge {TABLE} {{
    set flows {{
        type ipv4_addr . ipv4_addr . inet_service
{flows}    }}
    set pairs {{
        type ipv4_addr . ipv4_addr
{pairs}    }}
    chain pass {{
        ip saddr . ip daddr . tcp dport @flows meta mark set {FROM_INSTANCE} accept
        ip daddr . ip saddr . tcp sport @flows tcp flags & (syn | ack) != syn accept
        arp saddr ip . arp daddr ip @pairs accept
        drop
    }}
    chain input {{
        type filter hook input priority filter; policy accept;
        iifname != \"{interfaces}*\" accept
        ip daddr {{ 255.255.255.255, {host} }} udp sport 68 udp dport 67 accept
        jump pass
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname \"{interfaces}*\" jump pass
        oifname \"{interfaces}*\" jump pass
    }}
    chain output {{
        type filter hook output priority filter; policy accept;
        oifname != \"{interfaces}*\" accept
        ip saddr {host} udp sport 67 udp dport 68 accept
        jump pass
    }}
}}
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname \"{network}\" oifname != \"{network}\" drop
        oifname \"{network}\" iifname != \"{network}\" drop
    }}
}}
"
    )
}

/// The elements of a set; nft has no empty list of them.
fn elements(each: impl Iterator<Item = String>) -> String {
    let each: Vec<String> = each.collect();
    if each.is_empty() {
        return String::new();
    }
    let mut text = String::from("        elements = {\n");
    for element in each {
        let _ = writeln!(text, "            {element},"); // into a string: never fails
    }
    text.push_str("        }\n");
    text
}

/// What puts the rules into effect at boot: its name and its text.
pub const FILTER_UNIT: (&str, &str) = (UNIT, UNIT_TEXT);

/// Puts rules into effect, now and at boot.
pub(super) async fn load<H: Host>(host: &H, text: &str) -> Result<(), InstancesError> {
    host.put(NEW_RULES, text).await.map_err(InstancesError::host)?;
    host.put(&format!("/etc/systemd/system/{UNIT}"), UNIT_TEXT).await.map_err(InstancesError::host)?;
    done("loaded", host.run(&["sh", "-c", LOAD, "sovereign", NEW_RULES, RULES, UNIT]).await)
}

/// Takes all of it away.
pub(super) async fn unload<H: Host>(host: &H) -> Result<(), InstancesError> {
    done("removed", host.run(&["sh", "-c", UNLOAD, "sovereign", RULES, UNIT, TABLE]).await)
}

fn done<E>(what: &'static str, answer: Result<Answer, E>) -> Result<(), InstancesError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match answer.map_err(InstancesError::host)? {
        Answer { code: 0, .. } => Ok(()),
        Answer { stderr, .. } => Err(InstancesError::Filter { what, said: health::bounded(stderr.as_bytes(), 4) }),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::incus::instances::sample;

    #[test]
    fn what_descriptions_name_passes() {
        let database = sample("database@home", [10, 64, 3, 4]);
        let database = InstanceSpec {
            serves: None,
            health: InstanceHealth::Service { service: "mariadb.service".to_owned() },
            ..database
        };
        let reaches = vec![
            SocketAddrV4::new(database.address, 3306),
            SocketAddrV4::new(bridge::HOST, 443),
            SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 443),
        ];
        let ghost = InstanceSpec { reaches, ..sample("ghost-blog@home", [10, 64, 1, 2]) };
        insta::assert_snapshot!(text([&ghost, &database].into_iter()));
    }

    /// What the machine's own tools have to say.
    #[test]
    fn rules_and_unit_are_understood() {
        let folder = tempfile::tempdir().unwrap();
        let unit = folder.path().join(UNIT);
        std::fs::write(&unit, UNIT_TEXT).unwrap();
        let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(!said.lines().any(|line| line.contains(UNIT) && !line.contains("not executable")), "{said}");
        let rules = folder.path().join("rules");
        let ghost = sample("ghost-blog@home", [10, 64, 1, 2]);
        let closed = UNIT_TEXT.split("nft '").nth(1).unwrap().split('\'').next().unwrap().to_owned();
        assert_eq!(closed.matches(names::INTERFACES).count(), 3);
        for text in [closed, text(std::iter::empty()), text([&ghost, &ghost].into_iter())] {
            std::fs::write(&rules, text).unwrap();
            // Any user may ask in a network of its own, where there is such a thing.
            let checked =
                Command::new("unshare").args(["-Urn", "nft", "--check", "--file"]).arg(&rules).output().unwrap();
            let said = String::from_utf8_lossy(&checked.stderr);
            assert!(checked.status.success() || said.contains("unshare"), "{said}");
        }
    }
}
