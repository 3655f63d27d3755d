//! `sovereign dc check`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use sovereign_engine::incus::Reach as Ways;
use sovereign_model::edge_rules::ProxySpeech;
use sovereign_model::names::NAMES_PORT;
use sovereign_model::stack::{Datacenter, Reach, Uplink, UplinkAddress};
use sovereign_model::trial::{Heard, MOST_TRIALS, Speech, Trial};
use sovereign_model::{DatacenterName, DnsName, EdgeName, Stack};
use sovereign_runtime::control::{Request, request_async};

use super::known;
use crate::cli::DcCheckArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::gather::{Away, Gathered, gather};
use crate::hosts;
use crate::interrupt;
use crate::output::{Cell, Page, Report, Table};
use crate::reachable::{Conclusion, Inside, Line, Tried, Verdict, conclude};

/// Two parts of three seconds each, two rounds of them, and the way there.
const PATIENCE: Duration = Duration::from_secs(20);

/// What others hear at the uplinks of data centers.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    /// Each way in.
    ways: Vec<Conclusion>,
    /// Uplinks that were not tried, as data center and name, and why.
    untried: BTreeMap<String, &'static str>,
    /// Hosts whose agents could not be asked to try, and why.
    away: BTreeMap<EdgeName, String>,
}

impl Report for Checked {
    fn show(&self, page: &mut Page) {
        let theme = page.theme();
        let mut table = Table::new(["DATA CENTER", "UPLINK", "ADDRESS", ">PORT", "OVER", "IS"]);
        for way in &self.ways {
            let (word, style) = match way.verdict {
                Verdict::Open => ("open", theme.good),
                Verdict::Partly => ("open from some", theme.warning),
                Verdict::Closed => ("closed", theme.error),
                Verdict::Untried => ("not known", theme.warning),
            };
            table.row([
                Cell::from(way.datacenter.as_str()),
                way.uplink.as_str().into(),
                way.address.to_string().into(),
                way.port.to_string().into(),
                way.speaks.transport().into(),
                Cell::styled(word, style),
            ]);
        }
        page.table(&table);
        // What several ways in have in common is said once.
        let mut said: Vec<(String, Vec<String>, Vec<&str>)> = Vec::new();
        for way in &self.ways {
            let Some(because) = &way.because else { continue };
            let whose = format!("{} {}: {because}", way.datacenter, way.address);
            let port = format!("{} {}", way.speaks.transport(), way.port);
            let at = said.iter().position(|(known, ..)| *known == whose).unwrap_or_else(|| {
                said.push((whose, Vec::new(), Vec::new()));
                said.len() - 1
            });
            let (_, ports, rules) = &mut said[at];
            ports.push(port);
            if let Some(rule) = way.rule.as_deref().filter(|rule| !rules.contains(rule)) {
                rules.push(rule);
            }
        }
        for (whose, ports, rules) in &said {
            let warning = theme.warning;
            page.line(format_args!("{warning}{}{warning:#} of {whose}", ports.join(", ")));
            for rule in rules {
                page.help(rule);
            }
        }
        for (uplink, why) in &self.untried {
            page.line(format_args!("not tried: {uplink}: {why}"));
        }
        for (host, why) in &self.away {
            let warning = theme.warning;
            page.line(format_args!("{warning}not asked:{warning:#} {host}: {why}"));
        }
        if self.ways.iter().all(|way| way.verdict == Verdict::Open) && !self.ways.is_empty() {
            let good = theme.good;
            page.line(format_args!("{good}all are open{good:#}"));
        }
    }

    fn exit(&self) -> Exit {
        let is_well = self.away.is_empty() && self.ways.iter().all(|way| way.verdict == Verdict::Open);
        if is_well { Exit::Done } else { Exit::Attention }
    }
}

/// Nobody could try.
#[derive(Debug, thiserror::Error)]
enum NotChecked {
    #[error("there is no other data center with hosts from which this could be tried")]
    Alone,
    #[error("no uplink {}", match of { Some(name) => format!("of {name} leads in at an address that is known"), None => "leads in at an address that is known".to_owned() })]
    NoUplink { of: Option<DatacenterName> },
}

impl Reason for NotChecked {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Alone => Some("a data center is tried from the others: see docs/datacenters.md".to_owned()),
            Self::NoUplink { .. } => Some("`sovereign dc list` shows the uplinks".to_owned()),
        }
    }
}

/// A name that an edge of a data center has a certificate for, as its agents ask for it.
fn site_name(stack: &Stack, datacenter: &DatacenterName) -> Option<DnsName> {
    let there = |site: &&sovereign_model::stack::Site| site.datacenters().any(|place| place == datacenter);
    stack.sites.values().find(there).map(|site| site.canonical.host().clone())
}

/// Whether what runs on hosts runs: what each of them says, and whether those that say nothing can be asked at all.
fn inside(says: impl Iterator<Item = (bool, bool)>) -> Inside {
    let says: Vec<_> = says.collect();
    match says.iter().any(|(runs, _)| *runs) {
        true => Inside::Runs,
        false if says.iter().all(|(_, is_reached)| *is_reached) => Inside::Down,
        false => Inside::Unknown,
    }
}

/// The ways in at an uplink, with what is to be tried at each.
fn ways(
    stack: &Stack,
    datacenter: &Datacenter,
    uplink: &Uplink,
    address: IpAddr,
    gathered: &Gathered,
) -> Vec<(Trial, Tried)> {
    let is_reached = |edge: &EdgeName| gathered.hosts.get(edge).is_some_and(Result::is_ok);
    let edges = datacenter.edges();
    let edge = inside(edges.iter().map(|edge| (gathered.edges.get(edge).is_some_and(Result::is_ok), is_reached(edge))));
    let answers = |edge: &EdgeName| {
        let status = gathered.name_servers.get(edge).and_then(|status| status.as_ref().ok());
        status.is_some_and(|status| status.knot.is_some())
    };
    // An address that changes is no name server's.
    let is_asked = uplink.address != UplinkAddress::Dynamic;
    let servers: BTreeSet<EdgeName> =
        stack.public_name_servers().filter(|server| is_asked && server.datacenter == datacenter.name).collect();
    let server = inside(servers.iter().map(|server| (answers(server), is_reached(server))));
    let domain = stack.domains.values().find(|domain| domain.provider.is_none()).map(|domain| domain.name.clone());
    let Some(first) = edges.first() else { return Vec::new() };
    let own = datacenter.reached(first).ip();
    let ends_tls = datacenter.proxy.as_ref().is_some_and(|proxy| proxy.speaks == ProxySpeech::Http);
    let public = ends_tls || !stack.authorities.is_empty();
    let site = site_name(stack, &datacenter.name);
    let way = |speaks, port, local, inside, name: Option<DnsName>| {
        let trial = Trial { at: SocketAddr::new(address, port), speaks, name, public };
        (trial, Tried { speaks, port, leads_to: SocketAddr::new(own, local), inside, heard: BTreeMap::new() })
    };
    let mut all = vec![way(Speech::Https, uplink.port, uplink.local_port, edge, site.clone())];
    all.extend(uplink.http.map(|port| way(Speech::Http, port, port, edge, site)));
    if !servers.is_empty() {
        let names = [Speech::NamesUdp, Speech::NamesTcp];
        all.extend(names.map(|speaks| way(speaks, NAMES_PORT, NAMES_PORT, server, domain.clone())));
    }
    all
}

/// Where agents elsewhere have seen an uplink whose address changes.
fn seen_at(gathered: &Gathered, datacenter: &Datacenter, uplink: &Uplink) -> BTreeSet<IpAddr> {
    let agents = gathered.agents.values().filter_map(|agent| agent.as_ref().ok());
    let sights = agents.flat_map(|agent| &agent.watched);
    let its = sights.filter(|sight| sight.datacenter == datacenter.name && sight.at == uplink.name);
    its.map(|sight| sight.address.ip()).collect()
}

/// What an agent heard, trial by trial.
///
/// # Errors
/// A sentence that says why it did not try.
async fn tried_from(reach: &Ways, from: &EdgeName, trials: &[Trial]) -> Result<Vec<Heard>, String> {
    let link = reach.link(from).await.map_err(|error| Away::from(error).why)?;
    let mut heard = Vec::new();
    for some in trials.chunks(MOST_TRIALS) {
        let request = Request::new("try").with("trials", serde_json::to_value(some).unwrap_or_default());
        let answer = request_async(&link.agent, &request, PATIENCE).await;
        let answer =
            answer.map_err(
                |error| if error.nobody_listens() { "its agent does not run".into() } else { error.to_string() },
            )?;
        let some_heard: Vec<Heard> = serde_json::from_value(answer["heard"].clone())
            .map_err(|error| format!("its agent's answer cannot be understood: {error}"))?;
        if some_heard.len() != some.len() {
            return Err("its agent did not try all".to_owned());
        }
        heard.extend(some_heard);
    }
    Ok(heard)
}

/// `dc check`.
///
/// # Errors
/// When there is nothing to try, or nobody to try it.
pub(crate) fn run(context: &Context, args: &DcCheckArgs) -> Result<Checked, Failure> {
    let declared = Declared::load(context)?;
    let stack = &declared.stack;
    if let Some(name) = &args.datacenter {
        known(stack, name)?;
    }
    let asked: Vec<&Datacenter> = stack
        .datacenters
        .values()
        .filter(|datacenter| args.datacenter.as_ref().is_none_or(|name| *name == datacenter.name))
        .collect();
    if !stack.agents().any(|agent| asked.iter().any(|datacenter| datacenter.name != agent.datacenter)) {
        return Err(NotChecked::Alone.into());
    }
    let reach = hosts::reach(&declared)?;
    let progress = context.output.progress();
    interrupt::run(&context.output, |_| async {
        let stage = progress.stage("look at what runs");
        let gathered = gather(stack, &declared.state, &reach).await?;
        stage.finish();
        let (mut lines, mut trials, mut untried) = (Vec::new(), Vec::new(), BTreeMap::new());
        for datacenter in asked {
            for uplink in &datacenter.uplinks {
                let addresses = match (uplink.reach, uplink.address) {
                    (Reach::OutboundOnly, _) => Err("it can only dial out"),
                    (_, UplinkAddress::Fixed(address)) => Ok(BTreeSet::from([address])),
                    (_, UplinkAddress::Dynamic) => {
                        let seen = seen_at(&gathered, datacenter, uplink);
                        if seen.is_empty() {
                            Err("its address changes, and none of the others has seen it")
                        } else {
                            Ok(seen)
                        }
                    }
                };
                match addresses {
                    Err(why) => drop(untried.insert(format!("{} {}", datacenter.name, uplink.name), why)),
                    Ok(addresses) => {
                        for address in addresses {
                            let (tries, tried) =
                                ways(stack, datacenter, uplink, address, &gathered).into_iter().unzip();
                            let (name, reach) = (datacenter.name.clone(), uplink.reach);
                            lines.push(Line { datacenter: name, uplink: uplink.name.clone(), address, reach, tried });
                            trials.push(tries);
                        }
                    }
                }
            }
        }
        if lines.is_empty() {
            return Err(NotChecked::NoUplink { of: args.datacenter.clone() }.into());
        }
        let stage = progress.stage("have the other data centers try");
        let away = try_all(stack, &reach, &mut lines, &trials).await;
        stage.finish();
        Ok(Checked { ways: conclude(&lines), untried, away })
    })
}

/// Has every agent try what is at other data centers, all at the same time; those that did not, and why.
async fn try_all(stack: &Stack, reach: &Ways, lines: &mut [Line], trials: &[Vec<Trial>]) -> BTreeMap<EdgeName, String> {
    let of_others = |from: &EdgeName, line: &Line| line.datacenter != from.datacenter;
    let agents: Vec<EdgeName> =
        stack.agents().filter(|agent| lines.iter().any(|line| of_others(agent, line))).collect();
    let asked = agents.iter().map(async |from| {
        let theirs = lines.iter().zip(trials).filter(|(line, _)| of_others(from, line));
        let theirs: Vec<Trial> = theirs.flat_map(|(_, trials)| trials.iter().cloned()).collect();
        tried_from(reach, from, &theirs).await
    });
    let answers = join_all(asked).await;
    let mut away = BTreeMap::new();
    for (from, answer) in agents.into_iter().zip(answers) {
        match answer {
            Err(why) => drop(away.insert(from, why)),
            Ok(heard) => {
                let others = lines.iter_mut().filter(|line| of_others(&from, line));
                let tried = others.flat_map(|line| line.tried.iter_mut());
                tried.zip(heard).for_each(|(tried, heard)| drop(tried.heard.insert(from.clone(), heard)));
            }
        }
    }
    away
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Theme;

    #[test]
    fn what_several_ways_in_have_in_common_is_said_once() {
        let tried = |speaks, port, heard| Tried {
            speaks,
            port,
            leads_to: SocketAddr::new("192.168.1.5".parse().unwrap(), port),
            inside: Inside::Runs,
            heard: BTreeMap::from([("office/titan".parse().unwrap(), heard)]),
        };
        let line = Line {
            datacenter: "home".parse().unwrap(),
            uplink: "fibre".to_owned(),
            address: "203.0.113.7".parse().unwrap(),
            reach: Reach::Forwarded,
            tried: vec![
                tried(Speech::Https, 443, Heard::Ours),
                tried(Speech::Http, 80, Heard::Silent),
                tried(Speech::NamesUdp, 53, Heard::Refused),
                tried(Speech::NamesTcp, 53, Heard::Refused),
            ],
        };
        let checked = Checked {
            ways: conclude(&[line]),
            untried: BTreeMap::from([("home lte".to_owned(), "it can only dial out")]),
            away: BTreeMap::from([("rack/rhea".parse().unwrap(), "its agent does not run".to_owned())]),
        };
        let mut page = Page::new(Theme::PLAIN);
        checked.show(&mut page);
        insta::assert_snapshot!(page.into_text(), @r"
        DATA CENTER  UPLINK  ADDRESS      PORT  OVER  IS
        home         fibre   203.0.113.7   443  TCP   open
        home         fibre   203.0.113.7    80  TCP   closed
        home         fibre   203.0.113.7    53  UDP   closed
        home         fibre   203.0.113.7    53  TCP   closed
        TCP 80 of home 203.0.113.7: it is dropped on the way while other ports are let in: no rule leads it in; where the rule is there, the provider blocks port 80, as some do at homes
        help: on the router of fibre: forward TCP port 80 to 192.168.1.5 port 80
        UDP 53, TCP 53 of home 203.0.113.7: the router refuses: nothing leads this port in
        help: on the router of fibre: forward UDP port 53 to 192.168.1.5 port 53
        help: on the router of fibre: forward TCP port 53 to 192.168.1.5 port 53
        not tried: home lte: it can only dial out
        not asked: rack/rhea: its agent does not run
        ");
        assert_eq!(checked.exit(), Exit::Attention);
    }
}
