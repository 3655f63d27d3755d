//! How the data centers see each other. A public address is judged from the others only.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;
use sovereign_model::agent_status::Standing;
use sovereign_model::{DatacenterName, EdgeName};

use super::{Problem, problem};
use crate::gather::Gathered;
use crate::output::figures;

/// Clocks that differ by less trouble nobody.
const CLOCK_WORRY_SECONDS: u64 = 60;
const CLOCK_HELP: &str = "`timedatectl` on the host says the hour, and whether a time server sets it; signatures of its name \
                          server, and certificates, are good by the right hour only";

/// An address of a data center, as one agent elsewhere sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SeenBy {
    /// The agent: the host it is on.
    pub(crate) by: EdgeName,
    /// The uplink.
    pub(crate) uplink: String,
    /// Its address.
    pub(crate) address: SocketAddr,
    /// How it is.
    pub(crate) standing: Standing,
    /// Whether that agent counts on it: it is not dead, or everything looks dead.
    pub(crate) counted_on: bool,
    /// For how long it is so.
    pub(crate) since_seconds: u64,
    /// How long its last answer took, in microseconds.
    pub(crate) latency_us: Option<u64>,
    /// Why the last look failed, if it did.
    pub(crate) last_error: Option<String>,
    /// How often it has died since that agent was started.
    pub(crate) deaths: u64,
}

/// How the others see a data center, and a problem for each of its addresses that any of them sees dead. Where a host of it
/// is evacuated on purpose, that it does not answer is none.
pub(super) fn judge(name: &DatacenterName, gathered: &Gathered, now: u64, problems: &mut Vec<Problem>) -> Vec<SeenBy> {
    let others = gathered.agents.iter().filter(|(by, _)| by.datacenter != *name);
    let told = others.filter_map(|(by, agent)| Some((by, agent.as_ref().ok()?)));
    let sights = told.flat_map(|(by, agent)| agent.watched.iter().map(move |sight| (by, sight)));
    let seen: Vec<SeenBy> = sights
        .filter(|(_, sight)| sight.datacenter == *name)
        .map(|(by, sight)| SeenBy {
            by: by.clone(),
            uplink: sight.at.clone(),
            address: sight.address,
            standing: sight.standing,
            counted_on: sight.counted_on,
            since_seconds: now.saturating_sub(sight.since_unix),
            latency_us: sight.latency_us,
            last_error: sight.last_error.clone(),
            deaths: sight.deaths,
        })
        .collect();
    if gathered.evacuated.keys().any(|edge| edge.datacenter == *name) {
        return seen;
    }
    let mut addresses: BTreeMap<(&str, SocketAddr), Vec<&SeenBy>> = BTreeMap::new();
    for sight in &seen {
        addresses.entry((&sight.uplink, sight.address)).or_default().push(sight);
    }
    for ((uplink, address), sights) in addresses {
        problems.extend(dead(name, uplink, address, &sights));
    }
    seen
}

/// What agents find that differs from their own clock, and by how much: a problem of the host that is alone with its hour.
/// Where there are two data centers only, nobody can say which it is.
pub(super) fn clocks(gathered: &Gathered, problems: &mut Vec<Problem>) {
    for (by, agent) in &gathered.agents {
        let watched = agent.iter().flat_map(|agent| &agent.watched).filter(|sight| sight.datacenter != by.datacenter);
        let told = watched.filter_map(|sight| Some((&sight.datacenter, sight.clock_ahead_seconds?)));
        let clocks: BTreeMap<&DatacenterName, i64> = told.collect();
        if clocks.is_empty() || clocks.values().any(|ahead| ahead.unsigned_abs() < CLOCK_WORRY_SECONDS) {
            continue;
        }
        for (other, ahead) in clocks {
            let word = if ahead > 0 { "behind" } else { "ahead of" };
            let message = format!("its clock is {} {word} that of {other}", figures::seconds(ahead.unsigned_abs()));
            problems.push(problem(by, message, Some(CLOCK_HELP)));
        }
    }
}

fn dead(name: &DatacenterName, uplink: &str, address: SocketAddr, sights: &[&SeenBy]) -> Option<Problem> {
    let of = |standing| sights.iter().copied().filter(move |sight| sight.standing == standing);
    let names = |standing| of(standing).map(|sight| sight.by.to_string()).collect::<Vec<_>>().join(", ");
    // Whoever has seen it dead for longest knows best.
    let first = of(Standing::Dead).max_by_key(|sight| sight.since_seconds)?;
    let since = figures::seconds(first.since_seconds);
    let sees = if of(Standing::Dead).count() == 1 { "sees" } else { "see" };
    let mut message = format!("{} {sees} it dead at {address} ({uplink}) since {since}", names(Standing::Dead));
    if of(Standing::Alive).next().is_some() {
        message.push_str(&format!(", and {} alive", names(Standing::Alive)));
    }
    match &first.last_error {
        Some(why) => message.push_str(&format!(": {why}")),
        None => message.push_str("; it answers again, and is not trusted yet"),
    }
    let help = format!(
        "see that {name} has power, that its uplink {uplink} is up and leads port {} to its edge; `sovereign logs {}` \
         says what was seen",
        address.port(),
        first.by.agent()
    );
    Some(problem(name, message, Some(&help)))
}

#[cfg(test)]
mod tests {
    use sovereign_hosts::evacuation::Evacuation;
    use sovereign_model::Digest;
    use sovereign_model::agent_status::{AgentStatus, Sight};

    use super::*;
    use crate::assess::tests::{stack, well};

    const NOW: u64 = 1_800_000_000;

    /// An agent at `by` that sees these.
    fn agent(by: &str, watched: &[(&str, Standing, Option<&str>)]) -> (EdgeName, Result<AgentStatus, String>) {
        let by: EdgeName = by.parse().unwrap();
        let sight = |(datacenter, standing, error): &(&str, Standing, Option<&str>)| Sight {
            datacenter: datacenter.parse().unwrap(),
            at: "isp".to_owned(),
            address: "203.0.113.7:443".parse().unwrap(),
            standing: *standing,
            counted_on: *standing != Standing::Dead,
            since_unix: NOW - 12,
            latency_us: Some(4200),
            clock_ahead_seconds: None,
            last_error: error.map(str::to_owned),
            deaths: 1,
        };
        let status = AgentStatus {
            healthy: true,
            draining: false,
            version: "0.1.0".to_owned(),
            process: 7,
            stack: "demo".parse().unwrap(),
            datacenter: by.datacenter.clone(),
            host: by.host.clone(),
            config_digest: Digest::of("a configuration"),
            fails_open: false,
            watched: watched.iter().map(sight).collect(),
            providers: BTreeMap::new(),
        };
        (by, Ok(status))
    }

    fn gathered(agents: impl IntoIterator<Item = (EdgeName, Result<AgentStatus, String>)>) -> Gathered {
        Gathered { agents: agents.into_iter().collect(), ..well(&stack()) }
    }

    fn said(gathered: &Gathered) -> (Vec<SeenBy>, Vec<String>) {
        let mut problems = Vec::new();
        let seen = judge(&"home".parse().unwrap(), gathered, NOW, &mut problems);
        assert!(problems.iter().all(|problem| problem.help.is_some()));
        (seen, problems.iter().map(|problem| format!("{}: {}", problem.subject, problem.message)).collect())
    }

    #[test]
    fn a_data_center_is_judged_by_the_others_and_each_says_how() {
        use Standing::{Alive, Dead, Unknown};
        let own = agent("home/atlas", &[("home", Dead, Some("no connection")), ("office", Alive, None)]);
        let (seen, problems) = said(&gathered([own.clone(), agent("office/boreas", &[("home", Alive, None)])]));
        assert_eq!((seen.len(), seen[0].by.to_string().as_str(), seen[0].since_seconds), (1, "office/boreas", 12));
        assert_eq!(problems, [""; 0]);
        let refused = Some("no connection: refused");
        let agents =
            [own, agent("office/boreas", &[("home", Dead, refused)]), agent("rack/clio", &[("home", Dead, None)])];
        assert_eq!(
            said(&gathered(agents.clone())).1,
            [
                "home: office/boreas, rack/clio see it dead at 203.0.113.7:443 (isp) since 12 s; it answers again, and is not \
              trusted yet"
            ]
        );
        let [.., two, _] = agents;
        assert_eq!(
            said(&gathered([
                two.clone(),
                agent("rack/clio", &[("home", Alive, None)]),
                agent("shed/dora", &[("home", Unknown, None)])
            ]))
            .1,
            [
                "home: office/boreas sees it dead at 203.0.113.7:443 (isp) since 12 s, and rack/clio alive: no connection: \
              refused"
            ]
        );
        // A host that is out on purpose does not answer, and that is told once.
        let mut aside = gathered([two]);
        let note = Evacuation::new("ann@laptop".to_owned(), "sovereign host evacuate", NOW - 600);
        aside.evacuated.insert("home/atlas".parse().unwrap(), note);
        assert_eq!((said(&aside).0.len(), said(&aside).1), (1, Vec::new()));
        // Nobody who does not answer is made up for.
        let silent = ("office/boreas".parse().unwrap(), Err("it does not run".to_owned()));
        assert_eq!(said(&gathered([silent])), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_host_whose_clock_agrees_with_nobody_is_told() {
        use Standing::Alive;
        let with = |by: &str, clocks: &[(&str, i64)]| {
            let watched: Vec<_> = clocks.iter().map(|(datacenter, _)| (*datacenter, Alive, None)).collect();
            let (by, mut agent) = agent(by, &watched);
            for (sight, (_, ahead)) in agent.as_mut().unwrap().watched.iter_mut().zip(clocks) {
                sight.clock_ahead_seconds = Some(*ahead);
            }
            (by, agent)
        };
        let said = |agents: &[(EdgeName, Result<AgentStatus, String>)]| {
            let mut problems = Vec::new();
            clocks(&gathered(agents.to_vec()), &mut problems);
            problems.iter().map(|problem| format!("{}: {}", problem.subject, problem.message)).collect::<Vec<_>>()
        };
        // Its own data center's clock is its own.
        let right = with("home/atlas", &[("home", 9000), ("office", -7200), ("rack", 1)]);
        let wrong = with("office/boreas", &[("home", 7200), ("rack", 7201)]);
        let third = with("rack/clio", &[("home", 0), ("office", -7201)]);
        assert_eq!(
            said(&[right, wrong, third]),
            [
                "office/boreas: its clock is 2 h 00 min behind that of home",
                "office/boreas: its clock is 2 h 00 min behind that of rack"
            ]
        );
        let two = [with("home/atlas", &[("office", -90)]), with("office/boreas", &[("home", 90)])];
        assert_eq!(
            said(&two),
            [
                "home/atlas: its clock is 1 min 30 s ahead of that of office",
                "office/boreas: its clock is 1 min 30 s behind that of home"
            ]
        );
        assert_eq!(said(&[agent("home/atlas", &[("office", Alive, None)])]), [""; 0]);
    }
}
