//! `cargo xtask bench archive`: our archive beside what an operator would use instead, on the same data, in one run.
//!
//! duplicity, restic and borg come from Debian's packages, each encrypting, each compressing as it does when nothing is
//! said ([`rivals`]); ours is the release binary with a static site whose folder is the data ([`ours`]). What is backed up
//! is a gigabyte of what sites have ([`data`]), and changes from day to day as they do.
//!
//! Promise: everybody has the same bytes before them, restores are compared with them, and one that differs ends the run.
//! The figure to read is **processor time**, that of all processes a command starts: how long it takes depends on the
//! disk and on whoever else works here. `sovereign backup` restores and compares whatever is new, which the others do not:
//! that is in its figures.
//!
//! Left out: a network, and disks that are slower than what the kernel keeps of them in memory.

mod case;
mod contestant;
mod data;
mod ours;
mod report;
mod rivals;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Scratch, takes, usage};
use crate::run::{Deadline, read, say};
use crate::tiers::Tally;
use crate::{figures, needs};
use case::Case;
use contestant::Contestant;
use data::Data;
use report::{Report, Sample};

/// What the command line asks for.
struct Wanted {
    rounds: usize,
    /// How much data, in millions of bytes.
    megabytes: u64,
    /// Beginnings of the names of cases; none means all.
    only: Vec<String>,
    /// Where figures go, for programs.
    json: Option<PathBuf>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { rounds: 3, megabytes: 1000, only: Vec::new(), json: None }
    }
}

/// `bench archive [--rounds N] [--megabytes N] [--only CASE,...] [--json FILE]`.
///
/// # Errors
/// When something cannot be started, or does not do what it should; a must that is not met is counted.
pub(super) fn command(options: &[&str]) -> Result<Tally> {
    let mut wanted = Wanted::default();
    for option in options.chunks(2) {
        match option {
            ["--rounds", count] => wanted.rounds = count.parse().context("--rounds takes a number")?,
            ["--megabytes", count] => wanted.megabytes = count.parse().context("--megabytes takes a number")?,
            ["--only", names] => wanted.only = names.split(',').map(str::to_owned).collect(),
            ["--json", file] => wanted.json = Some(file.into()),
            _ => bail!(
                "`bench archive` takes --rounds N, --megabytes N, --only CASE,... and --json FILE, not {}",
                option.join(" ")
            ),
        }
    }
    if wanted.rounds == 0 || wanted.megabytes == 0 {
        bail!("nothing measured is no figure");
    }
    if !case::ALL.iter().any(|case| takes(&wanted.only, case.name())) && !takes(&wanted.only, UNDER_LOAD) {
        let names: Vec<_> = case::ALL.iter().map(|case| case.name()).collect();
        bail!("no case begins like that; there are {}, {UNDER_LOAD}", names.join(", "));
    }
    archive(&wanted, None)
}

/// The whole of it, as a proof.
///
/// # Errors
/// As [`command`].
pub(crate) fn prove(deadline: Deadline) -> Result<Tally> {
    archive(&Wanted::default(), Some(deadline))
}

/// The name of the case that compares with nobody: readers while a backup is made.
const UNDER_LOAD: &str = "load";

fn archive(wanted: &Wanted, deadline: Option<Deadline>) -> Result<Tally> {
    needs::ensure_archive_rivals()?;
    let program = figures::program()?;
    let mut tally = Tally::default();
    if case::ALL.iter().any(|case| takes(&wanted.only, case.name())) {
        tally.add(side_by_side(wanted, &program)?);
    }
    if takes(&wanted.only, UNDER_LOAD) {
        say("\n### readers while a backup is made\n");
        tally.add(figures::backup_under_load(&program, deadline)?);
    }
    Ok(tally)
}

fn side_by_side(wanted: &Wanted, program: &Path) -> Result<Tally> {
    let scratch = Scratch::new()?;
    let mut data = Data::write(&scratch.0, wanted.megabytes)?;
    let home = |name: &str| -> Result<PathBuf> {
        let home = scratch.0.join(name);
        fs::create_dir_all(&home)?;
        Ok(home)
    };
    let mut contestants: Vec<Box<dyn Contestant>> = vec![
        Box::new(ours::Ours::declare(program, &home("ours")?, &data.folder)?),
        Box::new(rivals::Duplicity::new(&home("duplicity")?, &data.folder)),
        Box::new(rivals::Restic::new(&home("restic")?, &data.folder)),
        Box::new(rivals::Borg::new(&home("borg")?, &data.folder)),
    ];
    let versions = contestants.iter().map(|one| one.version()).collect::<Result<Vec<_>>>()?;
    let names: Vec<_> = contestants.iter().map(|one| one.name()).zip(versions).collect();
    for (name, version) in &names {
        say(format!("{name:<10} {version}"));
    }
    say(data.told());
    let mut report = Report::new(&names, wanted.rounds, data.told());
    for round in 0..wanted.rounds {
        for contestant in &mut contestants {
            contestant.forget()?;
        }
        let restored = scratch.0.join(format!("restored-{round}"));
        fs::create_dir(&restored)?;
        for case in case::ALL {
            // What comes later needs a first backup, wanted or not.
            if *case != Case::First && !takes(&wanted.only, case.name()) {
                continue;
            }
            match case {
                Case::Changed => data.next_day()?,
                Case::Dump => data.next_dump()?,
                Case::First | Case::Same | Case::Restore | Case::One | Case::Check => {}
            }
            let mut turns: Vec<_> = (0..contestants.len()).collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            for at in turns {
                let contestant = contestants[at].as_mut();
                let sample = measure(*case, contestant, &data, &restored)
                    .with_context(|| format!("{}: {}", contestant.name(), case.name()))?;
                say(format!("{:<8} {:<10} {sample}", case.name(), contestant.name()));
                report.add(*case, at, sample);
            }
        }
        say(format!("round {} of {} is over", round + 1, wanted.rounds));
    }
    report.finish(wanted.only.is_empty(), wanted.json.as_deref())
}

/// One command of one contestant. What it restores is compared, and stays until the end: ext4 finds no new inode quickly
/// where many were removed in the last minute, and whoever came next would pay for that, four times of what it takes.
fn measure(case: Case, contestant: &mut dyn Contestant, data: &Data, restored: &Path) -> Result<Sample> {
    let to = restored.join(format!("{}-{}", contestant.name(), case.name()));
    let said = restored.join("said");
    let only = (case == Case::One).then_some(data::ONE);
    let before = size(&contestant.archive())?;
    let commands = match case {
        // Some need a command for an empty archive, ours makes one with the first backup: both is the first day's work.
        Case::First => contestant.init().into_iter().chain([contestant.backup()]).collect(),
        Case::Changed | Case::Dump | Case::Same => vec![contestant.backup()],
        Case::Restore | Case::One => vec![contestant.restore(&to, only)?],
        Case::Check => vec![contestant.check()],
    };
    let mut used = usage::Used::default();
    for command in commands {
        used.add(usage::run(&command, &said)?);
    }
    if let Case::Restore | Case::One = case {
        let (there, here) = (contestant.restored(&to, only), data.folder.join(only.unwrap_or_default()));
        read(Command::new("diff").args(["--recursive", "--no-dereference", "--brief"]).arg(&here).arg(&there))
            .context("what was restored is not what was backed up")?;
    }
    let added = size(&contestant.archive())?.saturating_sub(before);
    let told = fs::read_to_string(&said).map(|said| contestant.told(&said)).unwrap_or_default();
    fs::remove_file(&said)?;
    Ok(Sample { used, added, told })
}

/// How many bytes the files in a folder have; none when there is none.
fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    let inside = match fs::read_dir(folder) {
        Ok(inside) => inside,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
    };
    for entry in inside {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(sum)
}
