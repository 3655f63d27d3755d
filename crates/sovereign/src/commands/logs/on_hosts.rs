//! The logs of what runs on hosts. All hosts are asked at once: one that does not answer delays no other, and is named.

use std::ops::ControlFlow;

use futures_util::future::{join_all, pending, select_all};
use sovereign_engine::incus::logs::{LogReader, Writer};
use sovereign_engine::incus::{IncusEngineError, Link, Reach};
use sovereign_model::stack::{App, Site};
use sovereign_model::{EdgeName, Stack, UnitName};
use sovereign_services::ghost::{DATABASE_SERVICE, SERVICE, database_unit, ghost_unit};

use super::super::away::{self, Silent};
use super::{Log, stream};
use crate::context::Context;
use crate::declared::Declared;

/// Lines between two looks at a log that is followed. Of more the last ones are shown.
const MOST_LINES: usize = 10_000;

/// The logs on one host.
#[derive(Debug)]
pub(super) struct OnHost {
    edge: EdgeName,
    logs: Vec<LogReader>,
}

/// What of a stack on hosts has a log, or that of `only` one unit.
pub(super) fn on_hosts(stack: &Stack, only: Option<&str>) -> Vec<OnHost> {
    let is_wanted = |unit: &UnitName| only.is_none_or(|only| only == unit.as_str());
    let all = stack.edges_on_hosts().map(|edge| {
        let sites = stack.sites.values().filter(|site| site.app == App::Ghost && site.place(stack) == edge);
        let agent = stack.agents().find(|agent| *agent == edge).map(|edge| edge.agent());
        let name_server = stack.name_servers().find(|beside| *beside == edge).map(|edge| edge.name_server());
        let renewer = stack.renewers().find(|beside| *beside == edge).map(|edge| edge.renewer());
        let own = std::iter::once(edge.unit())
            .chain(agent)
            .chain(name_server)
            .chain(renewer)
            .map(|unit| (unit, Writer::Host));
        let logs = own.chain(sites.flat_map(applications));
        let logs = logs.filter(|(unit, _)| is_wanted(unit)).map(|(unit, writer)| LogReader::new(unit, writer));
        OnHost { logs: logs.collect(), edge }
    });
    all.filter(|host| !host.logs.is_empty()).collect()
}

fn applications(site: &Site) -> impl Iterator<Item = (UnitName, Writer)> {
    let units = [(database_unit(site, &site.primary), DATABASE_SERVICE), (ghost_unit(site, &site.primary), SERVICE)];
    units.into_iter().filter_map(|(unit, service)| Some((unit.ok()?, Writer::Service(service))))
}

impl OnHost {
    /// Whose logs these are.
    pub(super) fn units(&self) -> impl Iterator<Item = String> {
        self.logs.iter().map(|log| log.unit().to_string())
    }

    /// The last lines of each, and those that cannot be read.
    async fn read(&mut self, reach: &Reach, stack: &Stack, lines: usize) -> (Vec<Log>, Vec<Silent>) {
        let Self { edge, logs } = self;
        let link = match reach.link(edge).await {
            Ok(link) => link,
            Err(error) => return (Vec::new(), vec![Silent::new(edge, None, error)]),
        };
        let (mut read, mut silent) = (Vec::new(), Vec::new());
        for (unit, lines) in read_new(logs, link, stack, |_| lines).await {
            match lines {
                Ok(lines) => read.push(Log::new(unit.to_string(), Some(edge.clone()), lines.iter())),
                Err(error) => silent.push(Silent::new(edge, Some(&unit), error)),
            }
        }
        (read, silent)
    }

    /// Goes on until nobody reads any longer.
    async fn follow(self, declared: &Declared, lines: usize, several: bool, context: &Context) {
        let Self { edge, mut logs } = self;
        let mut begun = vec![false; logs.len()];
        away::follow(context, declared, &edge, async |link| {
            let count = |index: usize| if begun[index] { MOST_LINES } else { lines };
            let read = read_new(&mut logs, link, &declared.stack, count).await;
            let mut failed = None;
            for ((unit, lines), begun) in read.into_iter().zip(&mut begun) {
                match lines {
                    Err(error) => failed = Some(error),
                    Ok(lines) => {
                        *begun = true;
                        if lines.iter().any(|line| stream(context, unit.as_str(), line, several).is_err()) {
                            return Ok(ControlFlow::Break(()));
                        }
                    }
                }
            }
            failed.map_or(Ok(ControlFlow::Continue(())), Err)
        })
        .await;
    }
}

/// Reads logs of a host, all at once.
async fn read_new(
    logs: &mut [LogReader],
    link: &Link,
    stack: &Stack,
    lines: impl Fn(usize) -> usize,
) -> Vec<(UnitName, Result<Vec<String>, IncusEngineError>)> {
    let read = logs.iter_mut().enumerate().map(|(index, log)| {
        let lines = lines(index);
        async move { (log.unit().clone(), log.read_new(link, &stack.name, lines).await) }
    });
    join_all(read).await
}

/// Reads all of them.
pub(super) async fn read(hosts: &mut [OnHost], reach: &Reach, stack: &Stack, lines: usize) -> (Vec<Log>, Vec<Silent>) {
    let (mut read, mut silent) = (Vec::new(), Vec::new());
    for (logs, without) in join_all(hosts.iter_mut().map(|host| host.read(reach, stack, lines))).await {
        read.extend(logs);
        silent.extend(without);
    }
    (read, silent)
}

/// Follows all of them, until nobody reads any longer; for ever when there are none.
pub(super) async fn follow(hosts: Vec<OnHost>, declared: &Declared, lines: usize, several: bool, context: &Context) {
    if hosts.is_empty() {
        return pending().await;
    }
    let follow = hosts.into_iter().map(|host| Box::pin(host.follow(declared, lines, several, context)));
    select_all(follow).await;
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sovereign_model::file;

    use super::*;

    #[test]
    fn every_edge_and_each_site_s_instances_have_a_log_where_they_are() {
        let text = "version = 1\n[stack]\nname = \"demo\"\n\
                    [[datacenter]]\nname = \"home\"\nengine = \"incus\"\n\
                    [[datacenter.uplink]]\nname = \"isp\"\naddress = \"203.0.113.7\"\nport = 443\nhttp = 80\n\
                    [[datacenter.host]]\nname = \"atlas\"\naddress = \"192.0.2.8\"\n\
                    [[datacenter]]\nname = \"office\"\nengine = \"incus\"\n\
                    [[datacenter.uplink]]\nname = \"isp\"\naddress = \"203.0.113.8\"\nport = 443\nhttp = 80\n\
                    [[datacenter.host]]\nname = \"boreas\"\naddress = \"192.0.2.9\"\n\
                    [[site]]\nname = \"blog\"\napp = \"ghost\"\ncanonical = \"blog.example\"\nprimary = \"home\"\n\
                    mirrors = [\"office\"]\n";
        let stack = file::parse("stack.toml", text, Path::new("/")).unwrap();
        let told = |only| {
            let hosts = on_hosts(&stack, only);
            let hosts =
                hosts.iter().map(|host| format!("{}: {}", host.edge, host.units().collect::<Vec<_>>().join(", ")));
            hosts.collect::<Vec<_>>()
        };
        assert_eq!(
            told(None),
            [
                "home/atlas: edge-atlas@home, agent-atlas@home, database-blog@home, ghost-blog@home",
                "office/boreas: edge-boreas@office, agent-boreas@office"
            ]
        );
        assert_eq!(told(Some("ghost-blog@home")), ["home/atlas: ghost-blog@home"]);
        assert!(told(Some("ghost-blog@office")).is_empty());
        assert!(on_hosts(&crate::assess::tests::stack(), None).is_empty());
    }
}
