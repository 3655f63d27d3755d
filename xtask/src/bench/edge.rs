//! `cargo xtask bench edge`: our edge beside what an operator would install instead, on this machine, in one run.
//!
//! nginx, Varnish, HAProxy and Caddy come from Debian's packages, each configured as its documentation would have it for
//! this use ([`rivals`]); our edge is the release binary, brought up with `sovereign up`; and a responder that does
//! nothing but read and write ([`mod@bare`]) shows what the machine itself costs. All of them answer from the same files, all
//! that can cache stand before the same origin.
//!
//! Promise: servers are measured in turns, in the other order each second round, so that neither always has the quieter
//! machine; what is shown are medians. The figure to read is **processor time of the server per request**: requests a
//! second depend on how much of the machine the load generator takes, and on whoever else works here.
//!
//! Left out: a network. Everything is on loopback, so no figure says how far a reader is away.

mod bare;
mod case;
mod load;
mod ours;
mod report;
mod rivals;
mod server;
mod site;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{Scratch, takes, usage};
use crate::needs;
use crate::run::{Deadline, say};
use crate::tiers::Tally;
pub(crate) use bare::serve as bare;
use case::{Case, What};
use report::Report;
use server::Server;
use site::{Origin, Site};

/// What the command line asks for.
struct Wanted {
    rounds: usize,
    time: Duration,
    /// Beginnings of the names of cases; none means all.
    only: Vec<String>,
}

impl Default for Wanted {
    /// Some 20 minutes. Two seconds are ten thousands of requests.
    fn default() -> Self {
        Self { rounds: 5, time: Duration::from_secs(2), only: Vec::new() }
    }
}

/// `bench edge [--rounds N] [--seconds S] [--only CASE,...]`.
///
/// # Errors
/// When something cannot be started or measured; a must that is not met is counted.
pub(super) fn command(options: &[&str]) -> Result<Tally> {
    let mut wanted = Wanted::default();
    for option in options.chunks(2) {
        match option {
            ["--rounds", count] => wanted.rounds = count.parse().context("--rounds takes a number")?,
            ["--seconds", count] => wanted.time = Duration::from_secs(count.parse().context("--seconds")?),
            ["--only", names] => wanted.only = names.split(',').map(str::to_owned).collect(),
            _ => bail!("`bench edge` takes --rounds N, --seconds S and --only CASE,..., not {}", option.join(" ")),
        }
    }
    edge(&wanted)
}

/// The whole of it, as a proof.
///
/// # Errors
/// As [`command`]; a must that is not met is counted.
pub(crate) fn prove(_: Deadline) -> Result<Tally> {
    edge(&Wanted::default())
}

fn edge(wanted: &Wanted) -> Result<Tally> {
    needs::ensure_edge_rivals()?;
    let cases: Vec<Case> = case::all().into_iter().filter(|case| wanted.takes(&case.name())).collect();
    let kept = wanted.takes(MEMORY);
    if cases.is_empty() && !kept {
        let names: Vec<_> = case::all().iter().map(Case::name).collect();
        bail!("no case begins like that; there are {MEMORY}, {}", names.join(", "));
    }
    let folder = Scratch::new()?;
    let site = Site::write(&folder.0)?;
    let origin = Origin::start(&site)?;
    let programs = Programs { ours: crate::figures::program()?, bare: bare::build()? };
    let servers = start(&site, &origin, &programs)?;
    let mut report = Report::new(&servers, wanted.rounds, wanted.time);
    if kept || cases.iter().any(|case| case.what == What::Spread) {
        for (at, server) in servers.iter().enumerate().filter(|(_, server)| server.has_pages()) {
            let answered = site.ask_for_all(server)?;
            ensure!(answered == site::PAGES, "{} answered {answered} of {} pages", server.name, site::PAGES);
            report.holds(at, usage::memory(&server.processes()));
        }
    }
    let (away, hits): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| case.what == What::Away);
    for case in &cases {
        warm(case, &servers)?;
    }
    let asked = origin.questions()?;
    let requests = measure(&hits, &servers, wanted, &mut report)?;
    report.asked_of_origin(origin.questions()? - asked, requests);
    drop(origin);
    if kept {
        for (at, server) in servers.iter().enumerate().filter(|(_, server)| server.has_pages()) {
            report.still_answers(at, site.ask_for_all(server)?);
        }
    }
    // What is asked for in these cases is fresh for a second only.
    std::thread::sleep(site::SHORT * 2);
    measure(&away, &servers, wanted, &mut report)?;
    Ok(report.finish(wanted.only.is_empty()))
}

/// The name of the case that is no load: how much memory many pages take.
const MEMORY: &str = "memory";

impl Wanted {
    fn takes(&self, name: &str) -> bool {
        takes(&self.only, name)
    }
}

/// What is not from a package.
struct Programs {
    ours: PathBuf,
    bare: PathBuf,
}

fn start(site: &Site, origin: &Origin, programs: &Programs) -> Result<Vec<Server>> {
    // First, because the others show its certificate.
    let (ours, credentials) = ours::start(site, origin, &programs.ours)?;
    let servers = vec![
        ours,
        rivals::nginx(site, origin, &credentials)?,
        rivals::varnish(site, origin)?,
        rivals::haproxy(site, origin, &credentials)?,
        rivals::caddy(site, &credentials)?,
        bare::start(site, &programs.bare)?,
    ];
    for server in &servers {
        say(format!("{:<18} {}", server.name, server.version));
    }
    Ok(servers)
}

/// Each page is asked for as it will be, so that it is kept in whatever form a server keeps it.
fn warm(case: &Case, servers: &[Server]) -> Result<()> {
    for server in servers {
        let Some(url) = case.url(server) else { continue };
        for _ in 0..2 {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--fail", "--insecure", "--output", "/dev/null"]);
            curl.arg(if case.is_http2() { "--http2" } else { "--http1.1" }).arg(&url).stdin(Stdio::null());
            let ended = curl.output()?;
            let said = String::from_utf8_lossy(&ended.stderr);
            ensure!(ended.status.success(), "{} does not answer {url}: {said}", server.name);
        }
    }
    Ok(())
}

/// All rounds of these cases; how many requests that were.
fn measure(cases: &[&Case], servers: &[Server], wanted: &Wanted, report: &mut Report<'_>) -> Result<u64> {
    let mut requests = 0;
    for round in 0..wanted.rounds {
        for case in cases {
            let mut turns: Vec<_> = (0..servers.len()).collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            for at in turns {
                let server = &servers[at];
                let Some(url) = case.url(server) else { continue };
                let processes = server.processes();
                let before = usage::processor_time(&processes);
                let answered = match load::apply(case, &url, wanted.time, server.scratch()) {
                    Ok(answered) => answered,
                    // One turn less is no reason to lose all others. Who has no turn left has no row.
                    Err(error) => {
                        say(format!("{} of {} gave nothing: {error:#}", case.name(), server.name));
                        continue;
                    }
                };
                let used = usage::processor_time(&processes).saturating_sub(before);
                requests += answered.requests;
                report.add(case, at, used, answered);
            }
        }
        say(format!("round {} of {} is over", round + 1, wanted.rounds));
    }
    Ok(requests)
}
