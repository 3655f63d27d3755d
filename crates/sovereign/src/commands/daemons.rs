//! The long-running parts of a stack, as thin entries into the rooms they live in. Started by one another, never by
//! hand.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use sovereign_certs::daemon as renewing;
use sovereign_dns::geography::{IPV4_FILE, IPV6_FILE};
use sovereign_engine::embedded::{self, Timing};
use sovereign_model::layout::StateFolder;
use sovereign_runtime::lifecycle::Drained;
use sovereign_runtime::signed::parse_trust;

use crate::cli::{DaemonArgs, EdgeArgs, NameServerArgs, RenewerArgs, SuperviseArgs};
use crate::context::Context;
use crate::deployment::supervise_arguments;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Page, Report};

/// A daemon that ended has nothing to answer.
#[derive(Debug, Serialize)]
pub(crate) struct Ended {
    drained: bool,
}

impl Ended {
    /// After all that was asked for.
    pub(super) fn well() -> Self {
        Self { drained: true }
    }
}

impl Report for Ended {
    fn show(&self, _: &mut Page) {}
}

/// The system gave no threads.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the daemon's threads")]
struct NoRuntime(#[source] std::io::Error);

impl Reason for NoRuntime {}

/// For what takes its time: applications, mirrors, the store. Connections have threads of their own.
const EDGE_THREADS: usize = 2;

/// `edge`.
pub(crate) fn edge(EdgeArgs { daemon, renewal }: &EdgeArgs) -> Result<Ended, Failure> {
    let options = sovereign_edge::Options {
        config: daemon.config.clone(),
        trust: parse_trust(&daemon.trust)?,
        control: daemon.control.clone(),
        renewal: renewal.clone(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(EDGE_THREADS)
        .max_blocking_threads(8)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .enable_all()
        .build()
        .map_err(NoRuntime)?;
    let drained = runtime.block_on(sovereign_edge::run(options))?;
    Ok(Ended { drained: matches!(drained, Drained::Quiet) })
}

/// `agent`. One thread: it waits most of the time.
pub(crate) fn agent(args: &DaemonArgs) -> Result<Ended, Failure> {
    let options = sovereign_dns::Options {
        config: args.config.clone(),
        trust: parse_trust(&args.trust)?,
        control: args.control.clone(),
        rules: sovereign_dns::health::Rules::default(),
        pace: sovereign_dns::provider::publish::Pace::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(NoRuntime)?;
    let drained = runtime.block_on(sovereign_dns::run(options))?;
    Ok(Ended { drained: matches!(drained, Drained::Quiet) })
}

/// `name-server`. One thread: it waits most of the time, and so does Knot beside it.
pub(crate) fn name_server(NameServerArgs { daemon, agent, renewal }: &NameServerArgs) -> Result<Ended, Failure> {
    let options = sovereign_dns::name_server::Options {
        config: daemon.config.clone(),
        trust: parse_trust(&daemon.trust)?,
        control: daemon.control.clone(),
        renewal: renewal.clone(),
        agent: agent.clone(),
        geography: [IPV4_FILE, IPV6_FILE].map(Into::into),
        // Whatever ends this process ends Knot too: nobody would tell it any more who lives.
        knot: ["setpriv", "--pdeathsig", "KILL", "knotd"].map(str::to_owned).into(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .enable_all()
        .build()
        .map_err(NoRuntime)?;
    let drained = runtime.block_on(sovereign_dns::name_server::run(options))?;
    Ok(Ended { drained: matches!(drained, Drained::Quiet) })
}

/// `renewer`. One thread: it waits most of the time.
pub(crate) fn renewer(RenewerArgs { daemon, edge, name_server }: &RenewerArgs) -> Result<Ended, Failure> {
    let options = renewing::Options {
        config: daemon.config.clone(),
        trust: parse_trust(&daemon.trust)?,
        control: daemon.control.clone(),
        edge: edge.clone(),
        name_server: name_server.clone(),
        pace: renewing::Pace::default(),
        clock: Arc::new(SystemTime::now),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(NoRuntime)?;
    let drained = runtime.block_on(renewing::run(options))?;
    Ok(Ended { drained: matches!(drained, Drained::Quiet) })
}

/// It was not said whose daemon this is. Daemons are started by this program, or by somebody who tries.
#[derive(Debug, thiserror::Error)]
#[error("--state does not say whose supervisor this is to be")]
struct WhoseState;

impl Reason for WhoseState {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("`sovereign up` starts this daemon".to_owned())
    }
}

/// `supervise`.
pub(crate) fn supervise(context: &Context, args: &SuperviseArgs) -> Result<Ended, Failure> {
    let folder = context.named_state().ok_or(WhoseState)?;
    embedded::supervise(embedded::Options {
        state: StateFolder::new(folder),
        part: args.part,
        args: supervise_arguments(folder),
        timing: Timing::default(),
    })?;
    Ok(Ended { drained: true })
}

/// `shim`. Returns only when it could not become the unit.
pub(crate) fn shim() -> Result<Ended, Failure> {
    embedded::shim::exec()?;
    Ok(Ended { drained: true })
}
