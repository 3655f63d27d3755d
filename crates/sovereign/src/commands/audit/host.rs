//! A host, from inside and from outside.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use sovereign_engine::incus::instances::FILTER_UNIT as INSTANCES_UNIT;
use sovereign_engine::incus::{IncusEngineError, Link, Reach};
use sovereign_hosts::audit::{self, Answers, Findings, Open, Seen, Service, Wanted};
use sovereign_hosts::ready::{FILTER_UNIT, comments};
use sovereign_hosts::record::{HostId, Known, Record};
use sovereign_hosts::systemd::{Account, Names, UnitFile, files};
use sovereign_hosts::{Facts, SshError};
use sovereign_model::instance::InstanceSpec;
use sovereign_model::layout::on_host;
use sovereign_model::unit::UnitSpec;
use sovereign_model::{EdgeName, StackName, UnitName};
use tokio::sync::Semaphore;

use super::OnHost;
use crate::commands::host::{peers, required};
use crate::declared::Declared;
use crate::deployment::Joined;
use crate::failure::Failure;
use crate::secrets::HostKeys;

/// So many hosts are looked at at once.
const AT_ONCE: usize = 8;

/// A host, and what it should be.
pub(super) struct Asked<'a> {
    edge: EdgeName,
    id: HostId,
    known: Known,
    wanted: Wanted,
    instances: Vec<&'a InstanceSpec>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(
        declared: &Declared,
        joined: &'a Joined,
        keys: &HostKeys,
        record: &Record,
        edge: EdgeName,
        id: HostId,
        known: Known,
    ) -> Self {
        let stack = &declared.stack.name;
        let unit = |name: UnitName| joined.wanted.unit(&edge.datacenter, &name).and_then(|unit| unit.runs.as_unit());
        let (agent, name_server, renewer) = (unit(edge.agent()), unit(edge.name_server()), unit(edge.renewer()));
        let unit = unit(edge.unit());
        let mut units: Vec<UnitFile> =
            [FILTER_UNIT, INSTANCES_UNIT].map(|(name, text)| UnitFile { name: name.into(), text: text.into() }).into();
        units.extend(unit.into_iter().flat_map(|unit| files(stack, unit, Account::edge())));
        units.extend(agent.into_iter().flat_map(|unit| files(stack, unit, Account::agent())));
        let names = Account::name_server(agent.is_some());
        units.extend(name_server.into_iter().flat_map(|unit| files(stack, unit, names)));
        units.extend(renewer.into_iter().flat_map(|unit| files(stack, unit, Account::renewer())));
        let service = |unit: &UnitSpec| {
            let names = Names::of(stack, unit);
            let program = (unit.program.clone(), joined.wanted.binary);
            Service { unit: unit.name.to_string(), name: names.service(), alias: names.alias(), program }
        };
        let instances = joined.instances_on(&edge);
        let may_lack =
            if instances.is_empty() { BTreeSet::from([INSTANCES_UNIT.0.to_owned()]) } else { BTreeSet::new() };
        let state = on_host::state(stack);
        let wanted = Wanted {
            host: id.to_string(),
            units,
            may_lack,
            services: unit.into_iter().chain(agent).chain(name_server).chain(renewer).map(service).collect(),
            sockets: unit.iter().flat_map(|unit| &unit.sockets).map(|socket| socket.address).collect(),
            authorized: keys.authorized.clone(),
            comments: comments(&required(declared, keys, record, &id, None)),
            edge: state.edge(&edge.datacenter).path().to_owned(),
            agent: state.agent(&edge.datacenter).path().to_owned(),
            name_server: state.name_server(&edge.datacenter).path().to_owned(),
            renewer: state.renewer(&edge.datacenter).path().to_owned(),
            asked: joined.wanted.name_servers.get(&edge).map(|wanted| wanted.config.listen.clone()).unwrap_or_default(),
            state: state.path().to_owned(),
            open_before: known.open_before.clone(),
            peers: peers(record, &id),
            instances: None,
        };
        Self { edge, id, known, wanted, instances }
    }

    async fn look(mut self, stack: &StackName, reach: &Reach, tries: &Arc<Semaphore>) -> OnHost {
        let mut all = Findings::new();
        let seen = match reach.link(&self.edge).await {
            Ok(link) => self.look_through(stack, link, tries, &mut all).await.map_err(Failure::from),
            Err(error) => Err(Failure::from(error)),
        };
        let Self { id, known, .. } = self;
        let (open, outside) = match seen {
            Ok((open, outside)) => (open, outside),
            Err(error) => {
                let help = error.help().unwrap_or_else(|| format!("`sovereign host check {id}` says more"));
                all.unseen("connection", error.chain().join(": "), help);
                (Vec::new(), None)
            }
        };
        OnHost { host: id, address: known.address.to_string(), open, outside, findings: all.into_all() }
    }

    async fn look_through(
        &mut self,
        stack: &StackName,
        link: &Link,
        tries: &Arc<Semaphore>,
        all: &mut Findings,
    ) -> Result<(Vec<Open>, Option<Answers>), SshError> {
        let facts = Facts::gather(&link.connection).await?;
        let of_incus = match link.audit(stack, &self.instances).await {
            Ok(audited) => {
                self.wanted.instances = audited.rules;
                audited.findings
            }
            Err(error) => unseen(error),
        };
        let seen = Seen::gather(&link.connection, &self.wanted, &facts).await?;
        let (open, inside) = audit::inside(&facts, &seen, &self.wanted);
        all.extend(inside);
        all.extend(of_incus);
        let entry = self.known.address.port();
        let answers = match ip(self.known.address.host(), entry).await {
            Some(ip) => Some(audit::scan(ip, audit::ports_to_try(&facts, entry), tries).await),
            None => None,
        };
        match &answers {
            Some(answers) => all.extend(audit::outside(answers, &facts, &self.wanted, entry)),
            None => all.unseen("from outside", "its name leads to no address here", "name it by its address"),
        }
        Ok((open, answers))
    }
}

fn unseen(error: IncusEngineError) -> Vec<audit::Finding> {
    let error = Failure::from(error);
    let mut all = Findings::new();
    let help = error.help().unwrap_or_else(|| "`sovereign host check` says more".to_owned());
    all.unseen("instances", error.chain().join(": "), help);
    all.into_all()
}

async fn ip(host: &str, port: u16) -> Option<std::net::IpAddr> {
    Some(tokio::net::lookup_host((host, port)).await.ok()?.next()?.ip())
}

/// Looks at all of them, at once.
pub(super) async fn all(stack: &StackName, reach: &Reach, asked: Vec<Asked<'_>>) -> Vec<OnHost> {
    let (turns, tries) = (Semaphore::new(AT_ONCE), Arc::new(Semaphore::new(audit::TRIED_AT_ONCE)));
    let looks = asked.into_iter().map(async |asked| {
        let _turn = turns.acquire().await; // never closed
        asked.look(stack, reach, &tries).await
    });
    join_all(looks).await
}
