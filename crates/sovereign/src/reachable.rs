//! From what other data centers heard at an uplink's address to what is in the way, and which rule is missing. Pure.
//!
//! | what was heard | what runs inside | what is concluded |
//! |---|---|---|
//! | the right answer | | open |
//! | another answer | | the port leads to something else: another machine, or the router itself |
//! | refused | runs | no rule leads the port in |
//! | refused | does not run | it does not run: the router is not known to be at fault |
//! | nothing | runs, and another port of the address is open | dropped on the way: no rule, or the provider blocks the port |
//! | nothing at any port | runs | the line, its address, or what stands before all of it |
//!
//! Left out: what cannot be told from outside. A rule that is missing and a provider that drops look the same, so both are
//! named; nothing is concluded of an address that nobody had a way to.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use sovereign_model::stack::Reach;
use sovereign_model::trial::{Heard, Speech};
use sovereign_model::{DatacenterName, EdgeName};

/// Whether what should answer runs, as far as is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Inside {
    /// It does.
    Runs,
    /// It does not.
    Down,
    /// Its host did not answer.
    Unknown,
}

/// One way in, tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tried {
    pub(crate) speaks: Speech,
    /// The port that is knocked at.
    pub(crate) port: u16,
    /// Where that must lead to.
    pub(crate) leads_to: SocketAddr,
    pub(crate) inside: Inside,
    /// What each of the others heard.
    pub(crate) heard: BTreeMap<EdgeName, Heard>,
}

/// An uplink's address, tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) datacenter: DatacenterName,
    pub(crate) uplink: String,
    pub(crate) address: IpAddr,
    pub(crate) reach: Reach,
    pub(crate) tried: Vec<Tried>,
}

/// How a way in is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// Everybody who tried was answered as it should be.
    Open,
    /// Some were, and others not.
    Partly,
    /// Nobody was.
    Closed,
    /// Nobody could try.
    Untried,
}

/// What is concluded of one way in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Conclusion {
    pub(crate) datacenter: DatacenterName,
    pub(crate) uplink: String,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) speaks: Speech,
    pub(crate) verdict: Verdict,
    /// What each of the others heard.
    pub(crate) heard: BTreeMap<EdgeName, Heard>,
    /// What is in the way, as far as can be told.
    pub(crate) because: Option<String>,
    /// What to set up, and where.
    pub(crate) rule: Option<String>,
}

/// What is concluded of all lines, in their order.
pub(crate) fn conclude(lines: &[Line]) -> Vec<Conclusion> {
    lines.iter().flat_map(|line| line.tried.iter().map(|tried| one(lines, line, tried))).collect()
}

fn one(lines: &[Line], line: &Line, tried: &Tried) -> Conclusion {
    let verdict = verdict(tried);
    let (because, rule) = match verdict {
        Verdict::Open => (None, None),
        Verdict::Untried if tried.heard.is_empty() => {
            (Some("no agent elsewhere could be asked to try".to_owned()), None)
        }
        Verdict::Untried => (Some(format!("nobody elsewhere has a way to {} at all", family(line.address))), None),
        Verdict::Partly => (Some(partly(tried)), None),
        Verdict::Closed => closed(lines, line, tried),
    };
    Conclusion {
        datacenter: line.datacenter.clone(),
        uplink: line.uplink.clone(),
        address: line.address,
        port: tried.port,
        speaks: tried.speaks,
        verdict,
        heard: tried.heard.clone(),
        because,
        rule,
    }
}

/// What was heard by those who have a way there.
fn told(tried: &Tried) -> impl Iterator<Item = (&EdgeName, &Heard)> {
    tried.heard.iter().filter(|(_, heard)| **heard != Heard::NoWay)
}

fn verdict(tried: &Tried) -> Verdict {
    let (mut answered, mut all) = (0, 0);
    for (_, heard) in told(tried) {
        all += 1;
        answered += usize::from(*heard == Heard::Ours);
    }
    match (answered, all) {
        (_, 0) => Verdict::Untried,
        (0, _) => Verdict::Closed,
        (answered, all) if answered == all => Verdict::Open,
        _ => Verdict::Partly,
    }
}

fn partly(tried: &Tried) -> String {
    let others = told(tried).filter(|(_, heard)| **heard != Heard::Ours);
    let others: Vec<String> = others.map(|(at, heard)| format!("{at}: {heard}")).collect();
    format!("it is open, and something is in the way from some: {}", others.join("; "))
}

fn is_open(tried: &Tried) -> bool {
    matches!(verdict(tried), Verdict::Open | Verdict::Partly)
}

/// Whether nobody heard anything of it, nor that nobody listens.
fn is_silent(tried: &Tried) -> bool {
    told(tried).all(|(_, heard)| matches!(heard, Heard::Silent | Heard::Unreachable))
}

/// Why nobody was answered, and what to do.
fn closed(lines: &[Line], line: &Line, tried: &Tried) -> (Option<String>, Option<String>) {
    let nothing_open = !line.tried.iter().any(is_open);
    if nothing_open && let Some(because) = address_leads_nowhere(line.address) {
        return (Some(because.0.to_owned()), Some(because.1.to_owned()));
    }
    if let Some(says) =
        told(tried).find_map(|(_, heard)| if let Heard::Other(says) = heard { Some(says) } else { None })
    {
        let because = format!("the port leads to something else, another machine or the router itself: {says}");
        return (Some(because), Some(rule(line, tried)));
    }
    if tried.inside == Inside::Down {
        let what = if matches!(tried.speaks, Speech::Https | Speech::Http) { "edge" } else { "name server" };
        return (Some(format!("no {what} runs there; whether a router is in the way cannot be told")), None);
    }
    if !is_silent(tried) {
        let who = match line.reach {
            Reach::Forwarded => "the router",
            Reach::Direct | Reach::OutboundOnly => "the host, or what stands before it,",
        };
        return (Some(format!("{who} refuses: nothing leads this port in")), Some(rule(line, tried)));
    }
    let silent_all = line.tried.iter().all(is_silent);
    let sister = lines.iter().find(|other| {
        other.datacenter == line.datacenter
            && other.address.is_ipv4() != line.address.is_ipv4()
            && other.tried.iter().any(is_open)
    });
    let because = match (silent_all, line.address, sister) {
        (true, IpAddr::V6(_), Some(_)) => {
            "IPv4 leads in and IPv6 does not: the router's firewall lets no IPv6 in until it has an opening (a pinhole)"
                .to_owned()
        }
        (true, IpAddr::V6(_), None) => {
            "nothing comes back at any port: the line is down, or the router's firewall has no opening (pinhole) for IPv6"
                .to_owned()
        }
        (true, IpAddr::V4(_), _) => {
            "nothing comes back at any port: the line is down, it has another address by now, or nothing is let in".to_owned()
        }
        (false, ..) => dropped(line, tried),
    };
    (Some(because), Some(rule(line, tried)))
}

/// A port that nothing comes back from, where others of the same address answer.
fn dropped(line: &Line, tried: &Tried) -> String {
    let other = |speaks| line.tried.iter().find(|other| other.speaks == speaks && is_open(other));
    let twin = match tried.speaks {
        Speech::NamesUdp => other(Speech::NamesTcp),
        Speech::NamesTcp => other(Speech::NamesUdp),
        Speech::Https | Speech::Http => None,
    };
    if let Some(twin) = twin {
        let (has, lacks) = (twin.speaks.transport(), tried.speaks.transport());
        return format!("port {} is let in by {has} and not by {lacks}: the rule is for one of them only", tried.port);
    }
    let provider = match tried.speaks {
        Speech::Https => "",
        Speech::Http => "; where the rule is there, the provider blocks port 80, as some do at homes",
        Speech::NamesUdp | Speech::NamesTcp => {
            "; where the rule is there, the provider blocks port 53, or keeps it for its own name servers"
        }
    };
    format!("it is dropped on the way while other ports are let in: no rule leads it in{provider}")
}

/// Why nobody elsewhere can have a way to an address, and what helps.
fn address_leads_nowhere(address: IpAddr) -> Option<(&'static str, &'static str)> {
    match address {
        IpAddr::V4(ip) if is_shared(ip) => Some((
            "the address is one that the provider shares among customers (carrier-grade NAT, 100.64.0.0/10): nothing comes in",
            "ask the provider for an address of your own, or for IPv6; until then the uplink can only dial out: \
             `reach = \"outbound-only\"`",
        )),
        IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() => Some((
            "the address is private: it leads here from nowhere else",
            "write the router's address at the provider into the stack file",
        )),
        IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => Some((
            "the address is private: it leads here from nowhere else",
            "write the address that the provider gives into the stack file",
        )),
        _ => None,
    }
}

/// Shared among customers of a provider (RFC 6598).
fn is_shared(ip: std::net::Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && second & 0xc0 == 64
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The rule that must be there, in routers' words.
fn rule(line: &Line, tried: &Tried) -> String {
    let (transport, port, to) = (tried.speaks.transport(), tried.port, tried.leads_to);
    match (line.address, line.reach) {
        // Routers translate no IPv6: they let it through, or not.
        (IpAddr::V6(address), _) => format!("let {transport} port {port} in to [{address}], by IPv6"),
        (IpAddr::V4(_), Reach::Forwarded) => {
            format!(
                "on the router of {}: forward {transport} port {port} to {} port {}",
                line.uplink,
                to.ip(),
                to.port()
            )
        }
        (IpAddr::V4(address), Reach::Direct | Reach::OutboundOnly) => {
            format!("let {transport} port {port} in to {address}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(speaks: Speech, inside: Inside, heard: &[Heard]) -> Tried {
        let port = match speaks {
            Speech::Https => 443,
            Speech::Http => 80,
            Speech::NamesUdp | Speech::NamesTcp => 53,
        };
        let from = ["office/titan", "rack/rhea"].map(|at| at.parse().unwrap());
        let local = if port == 443 { 8443 } else { port };
        Tried {
            speaks,
            port,
            leads_to: format!("192.168.1.5:{local}").parse().unwrap(),
            inside,
            heard: from.into_iter().zip(heard.iter().cloned()).collect(),
        }
    }

    /// A line at home, its four ways in, each heard alike by all.
    fn line(address: &str, reach: Reach, heard: [Heard; 4]) -> Line {
        let speeches = [Speech::Https, Speech::Http, Speech::NamesUdp, Speech::NamesTcp];
        let tried = speeches.into_iter().zip(heard).map(|(speaks, heard)| {
            let both = [heard.clone(), heard];
            tried(speaks, Inside::Runs, &both)
        });
        Line {
            datacenter: "home".parse().unwrap(),
            uplink: "fibre".to_owned(),
            address: address.parse().unwrap(),
            reach,
            tried: tried.collect(),
        }
    }

    fn said(lines: &[Line]) -> String {
        let words = conclude(lines).into_iter().map(|concluded| {
            let Conclusion { address, port, speaks, verdict, because, rule, .. } = concluded;
            let more = [because, rule].into_iter().flatten().map(|text| format!("\n    {text}")).collect::<String>();
            format!("{address} {} {port} {verdict:?}{more}", speaks.transport())
        });
        words.collect::<Vec<_>>().join("\n")
    }

    use Heard::{NoWay, Ours, Refused, Silent};

    #[test]
    fn what_is_open_needs_nothing() {
        let all = [Ours, Ours, Ours, Ours];
        insta::assert_snapshot!(said(&[line("203.0.113.7", Reach::Forwarded, all)]), @r"
        203.0.113.7 TCP 443 Open
        203.0.113.7 TCP 80 Open
        203.0.113.7 UDP 53 Open
        203.0.113.7 TCP 53 Open
        ");
    }

    #[test]
    fn a_rule_that_is_missing_is_told_from_a_port_that_is_dropped() {
        insta::assert_snapshot!(said(&[line("203.0.113.7", Reach::Forwarded, [Ours, Refused, Silent, Ours])]), @r"
        203.0.113.7 TCP 443 Open
        203.0.113.7 TCP 80 Closed
            the router refuses: nothing leads this port in
            on the router of fibre: forward TCP port 80 to 192.168.1.5 port 80
        203.0.113.7 UDP 53 Closed
            port 53 is let in by TCP and not by UDP: the rule is for one of them only
            on the router of fibre: forward UDP port 53 to 192.168.1.5 port 53
        203.0.113.7 TCP 53 Open
        ");
        insta::assert_snapshot!(said(&[line("203.0.113.7", Reach::Direct, [Ours, Silent, Silent, Silent])]), @r"
        203.0.113.7 TCP 443 Open
        203.0.113.7 TCP 80 Closed
            it is dropped on the way while other ports are let in: no rule leads it in; where the rule is there, the provider blocks port 80, as some do at homes
            let TCP port 80 in to 203.0.113.7
        203.0.113.7 UDP 53 Closed
            it is dropped on the way while other ports are let in: no rule leads it in; where the rule is there, the provider blocks port 53, or keeps it for its own name servers
            let UDP port 53 in to 203.0.113.7
        203.0.113.7 TCP 53 Closed
            it is dropped on the way while other ports are let in: no rule leads it in; where the rule is there, the provider blocks port 53, or keeps it for its own name servers
            let TCP port 53 in to 203.0.113.7
        ");
    }

    #[test]
    fn an_address_that_leads_nowhere_is_named_unless_somebody_was_answered_there() {
        let nothing = [Silent, Silent, Silent, Silent];
        for address in ["100.64.0.1", "100.127.255.254", "192.168.1.5", "fd00::5"] {
            let closed = conclude(&[line(address, Reach::Forwarded, nothing.clone())]);
            assert!(closed.iter().all(|way| way.verdict == Verdict::Closed && way.rule.is_some()), "{closed:?}");
            let because = closed[0].because.as_deref().unwrap();
            let words = if address.starts_with("100.") { "carrier-grade NAT" } else { "is private" };
            assert!(because.contains(words), "{address}: {because}");
        }
        for address in ["100.63.255.255", "100.128.0.0"] {
            let closed = conclude(&[line(address, Reach::Forwarded, nothing.clone())]);
            assert!(closed[0].because.as_deref().unwrap().contains("the line is down"), "{closed:?}");
        }
        // In a network of one's own such addresses do lead somewhere.
        let partly = conclude(&[line("10.96.1.11", Reach::Forwarded, [Ours, Silent, Ours, Ours])]);
        assert!(partly[1].because.as_deref().unwrap().contains("provider blocks port 80"), "{partly:?}");
    }

    #[test]
    fn ipv6_without_a_pinhole_is_told_from_a_line_that_is_down() {
        let nothing = [Silent, Silent, Silent, Silent];
        let four = line("203.0.113.7", Reach::Forwarded, [Ours, Ours, Ours, Ours]);
        let six = line("2001:db8::7", Reach::Direct, nothing.clone());
        let both = conclude(&[four, six.clone()]);
        assert!(both[4].because.as_deref().unwrap().contains("pinhole"), "{both:?}");
        assert_eq!(both[4].rule.as_deref(), Some("let TCP port 443 in to [2001:db8::7], by IPv6"));
        let alone = conclude(&[line("203.0.113.7", Reach::Forwarded, nothing), six]);
        assert!(alone[4].because.as_deref().unwrap().contains("the line is down"), "{alone:?}");
        let untried = conclude(&[line("2001:db8::7", Reach::Direct, [NoWay, NoWay, NoWay, NoWay])]);
        assert_eq!((untried[0].verdict, &untried[0].rule), (Verdict::Untried, &None));
    }

    #[test]
    fn what_does_not_run_and_what_answers_instead_is_no_missing_rule() {
        let mut line = line("203.0.113.7", Reach::Forwarded, [Ours, Ours, Refused, Refused]);
        line.tried[2].inside = Inside::Down;
        line.tried[3] = tried(Speech::NamesTcp, Inside::Runs, &[Heard::Other("it speaks no DNS".to_owned()), Silent]);
        line.tried[0] = tried(Speech::Https, Inside::Runs, &[Ours, Silent]);
        let all = conclude(&[line]);
        assert_eq!(all[0].verdict, Verdict::Partly);
        assert!(all[0].because.as_deref().unwrap().ends_with("rack/rhea: nothing comes back"), "{all:?}");
        assert!(all[2].because.as_deref().unwrap().starts_with("no name server runs there") && all[2].rule.is_none());
        assert!(all[3].because.as_deref().unwrap().contains("leads to something else"), "{all:?}");
    }
}
