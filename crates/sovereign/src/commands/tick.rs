//! `sovereign tick`: whatever is due by the clock. Run by a timer; asks nothing.

pub(crate) mod timer;

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use sovereign_model::archive_copy::ArchiveCopy;

use self::timer::Timer;
use super::backup::{BackedUp, back_up};
use super::dns_drift::Stopped;
use crate::backup::{self, BackupError, Record, Run, copies, due};
use crate::certificates::{self, Certificates, Renewed, Rules};
use crate::cli::{LeaseArgs, TickArgs};
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::hosts;
use crate::interrupt;
use crate::lease;
use crate::output::{Page, Report, figures};
use crate::providers::{Providers, Tellings};
use crate::secrets;
use crate::world::unix_seconds;
use crate::zone_keys::{self, Exchange};

/// What a run came to.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Ticked {
    /// What was due is done, or failed.
    Done(Box<Due>),
    /// The timer was written or removed.
    Timer(Timer),
}

/// What was due.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Due {
    /// Certificates of public authorities; `None` when none was due.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificates: Option<Renewed>,
    /// Why certificates that were due are left to the next time.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificates_left: Option<String>,
    /// How far zones are whose keys are exchanged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exchanges: Vec<Exchange>,
    /// What providers of DNS were told; `None` where none is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    providers: Option<Tellings>,
    /// `None` when none was due.
    backup: Option<BackedUp>,
    /// What was restored and compared as a whole.
    proven: Vec<Proven>,
    /// Copies of the archive that were not in step.
    copies: Vec<copies::Row>,
    /// Another run was working on the archive, so all of it is left to the next time.
    busy: bool,
    /// Seconds until something is due; `None` when nothing is done by the clock.
    next_in: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Proven {
    of: String,
    files: u64,
    bytes: u64,
    /// Why it is not what it was.
    failed: Option<String>,
    help: Option<String>,
}

impl Report for Ticked {
    fn show(&self, page: &mut Page) {
        match self {
            Self::Done(due) => due.show(page),
            Self::Timer(timer) => timer.show(page),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Done(due) => due.exit(),
            Self::Timer(timer) => timer.exit(),
        }
    }
}

impl Report for Due {
    fn show(&self, page: &mut Page) {
        if let Some(certificates) = &self.certificates {
            certificates.show(page);
        }
        if let Some(why) = &self.certificates_left {
            page.line(format_args!("certificates are left to the next time: {why}"));
        }
        self.exchanges.iter().for_each(|exchange| exchange.show(page));
        let told = self.providers.as_ref().filter(|providers| !providers.is_quiet());
        if let Some(providers) = told {
            providers.show(page);
        }
        if self.busy {
            page.line("another run works on the archive: what is due is left to the next time");
            return;
        }
        if let Some(backup) = &self.backup {
            backup.show(page);
        }
        for Proven { of, files, bytes, failed, help } in &self.proven {
            match failed {
                None => page.line(format_args!(
                    "{of}: restored and compared as a whole, {} of {}",
                    figures::bytes(*bytes),
                    figures::count(*files, "file", "files")
                )),
                Some(why) => {
                    let warning = page.theme().warning;
                    page.line(format_args!("{warning}{of}{warning:#}: cannot be restored as a whole: {why}"));
                }
            }
            if let Some(help) = help {
                page.help(help);
            }
        }
        copies::show(&self.copies, page);
        let certified = self.certificates.is_some() || self.certificates_left.is_some();
        if !certified
            && self.exchanges.is_empty()
            && told.is_none()
            && self.backup.is_none()
            && self.proven.is_empty()
            && self.copies.is_empty()
        {
            match self.next_in {
                Some(seconds) => page.line(format_args!("nothing is due for {}", figures::seconds(seconds))),
                None => page.line("nothing is done by the clock: the stack file says `never`"),
            }
        }
    }

    fn exit(&self) -> Exit {
        let backup = self.backup.as_ref().map_or(Exit::Done, Report::exit);
        let failed = self.proven.iter().any(|proven| proven.failed.is_some());
        if failed || self.copies.iter().any(copies::Row::is_bad) {
            return Exit::Failed;
        }
        match &self.certificates {
            Some(certificates) if backup == Exit::Done => certificates.exit(),
            _ => backup,
        }
    }
}

/// `tick`.
pub(crate) fn run(context: &Context, args: &TickArgs) -> Result<Ticked, Failure> {
    match (args.install, args.uninstall) {
        (true, _) => timer::install(context).map(Ticked::Timer),
        (_, true) => timer::uninstall(context).map(Ticked::Timer),
        _ => do_what_is_due(context).map(|due| Ticked::Done(Box::new(due))),
    }
}

fn do_what_is_due(context: &Context) -> Result<Due, Failure> {
    let declared = Declared::load(context)?;
    sovereign_engine::state::read(&declared.state)?;
    // First, and whatever becomes of the rest: a full archive disk must not keep them from being renewed.
    let Certified { renewed, left, next_in } = certified(context, &declared)?;
    let exchanges = exchanged(context, &declared)?;
    let providers = told(context, &declared)?;
    let archived = archived(context, &declared)?;
    let next_in = archived.next_in.into_iter().chain(next_in).min();
    Ok(Due { certificates: renewed, certificates_left: left, exchanges, providers, next_in, ..archived })
}

/// What became of certificates.
#[derive(Debug, Default)]
struct Certified {
    renewed: Option<Renewed>,
    /// Why what is due was left.
    left: Option<String>,
    /// Seconds until something is due.
    next_in: Option<u64>,
}

/// Renews certificates of public authorities that are due, and brings edges what they were not seen to have.
fn certified(context: &Context, declared: &Declared) -> Result<Certified, Failure> {
    let reach = Arc::new(hosts::reach(declared)?);
    let progress = context.output.progress();
    let (stack, state) = (&declared.stack, &declared.state);
    let certificates = Certificates { stack, state, reach: &reach, progress: &progress };
    let Some(due) = certificates.due() else { return Ok(Certified::default()) };
    let next_in = due.since(certificates::now()).as_secs();
    if next_in > 0 {
        return Ok(Certified { next_in: Some(next_in), ..Certified::default() });
    }
    // Whoever works on the stack does this too, or is done before long.
    let left = |failure: Failure| Certified { left: Some(failure.chain().join(": ")), ..Certified::default() };
    let _lock = match secrets::lock(state, "tick") {
        Ok(lock) => lock,
        Err(failure) => return Ok(left(failure)),
    };
    let lease = match lease::take(context, declared, &reach, "tick", &LeaseArgs::default(), false) {
        Ok(lease) => lease,
        Err(failure) => return Ok(left(failure)),
    };
    let renewed = interrupt::run(&context.output, |stop| {
        let work = async move { Ok(certificates.renew(Rules::default(), &stop).await) };
        lease::under(&lease, work)
    })?;
    let next_in = certificates.due().map(|due| due.since(certificates::now()).as_secs());
    Ok(Certified { renewed, left: None, next_in })
}

/// Looks how far zones are whose keys are exchanged.
fn exchanged(context: &Context, declared: &Declared) -> Result<Vec<Exchange>, Failure> {
    let (stack, state) = (&declared.stack, &declared.state);
    if zone_keys::under_way(stack, &zone_keys::read(state)?.1).is_empty() {
        return Ok(Vec::new());
    }
    // Whoever works on the stack looks too, or is done before long.
    let Ok(_lock) = secrets::lock(state, "tick") else { return Ok(Vec::new()) };
    interrupt::run(&context.output, |stop| async move {
        tokio::select! {
            exchanges = zone_keys::go_on(context, stack, state) => exchanges,
            () = stop.cancelled() => Err(Stopped.into()),
        }
    })
}

/// Tells providers of DNS what is not there as it should be. It takes no lock: whoever else does so does the same.
fn told(context: &Context, declared: &Declared) -> Result<Option<Tellings>, Failure> {
    if declared.stack.providers.is_empty() {
        return Ok(None);
    }
    let progress = context.output.progress();
    let providers = Providers { stack: &declared.stack, state: &declared.state, progress: &progress };
    interrupt::run(&context.output, |stop| async move { Ok(providers.tell(&stop).await) })
}

/// Backups, proofs and copies that are due.
fn archived(context: &Context, declared: &Declared) -> Result<Due, Failure> {
    let now = unix_seconds(SystemTime::now());
    let stack = &declared.stack;
    let record = || Record::read(&declared.state);
    let before = record();
    let backups = due::backups(stack, &before, now);
    if backups.is_empty() && due::proofs(stack, &before, now).is_empty() && copies_due(declared).is_empty() {
        return Ok(Due { next_in: due::next_in(stack, &before, now), ..Due::default() });
    }
    let progress = context.output.progress();
    interrupt::blocking(&context.output, |stop| {
        let archive = match backup::open_if_free(context, declared) {
            Ok(Some(archive)) => archive,
            Ok(None) => return Ok(Due { busy: true, ..Due::default() }),
            Err(failure) => {
                backup::note_failure(declared, due::subjects(stack).into_iter().map(|(subject, _)| subject), &failure);
                return Err(failure);
            }
        };
        let run = Run { context, declared, archive: &archive, progress: &progress, stop };
        let mut done = Due::default();
        if !backups.is_empty() {
            let sites: Vec<_> = backups.iter().filter_map(|(_, site)| *site).collect();
            done.backup = Some(back_up(&run, &sites)?);
        }
        // What was just stored anew was proven as a whole with it.
        for (subject, site) in due::proofs(stack, &record(), now) {
            if stop.is_cancelled() {
                return Err(BackupError::Stopped.into());
            }
            let of = subject.to_string();
            done.proven.push(match run.whole(&subject, site) {
                Ok(None) => continue,
                Ok(Some(proof)) => Proven { of, files: proof.files, bytes: proof.bytes, failed: None, help: None },
                Err(failure) => {
                    backup::note_failure(declared, [subject], &failure);
                    let (failed, help) = (Some(failure.chain().join(": ")), failure.help());
                    Proven { of, files: 0, bytes: 0, failed, help }
                }
            });
        }
        // Also those that an earlier run could not bring in step, and a disk that was plugged in since.
        done.copies = copies::after_backup(context, declared, archive, &copies_due(declared), &progress, stop)?;
        done.next_in = due::next_in(stack, &record(), now);
        Ok(done)
    })
}

/// Copies are behind because of a backup, a host that was away, or a disk that was in a drawer.
fn copies_due(declared: &Declared) -> Vec<&ArchiveCopy> {
    let by_clock = declared.stack.archive.every.duration().is_some();
    if by_clock { copies::behind(declared) } else { Vec::new() }
}
