//! `sovereign archive copy`, and `archive check --copy`.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use sovereign_archive::Archive;
use sovereign_archive::copy::CopyChecked;
use sovereign_model::CopyName;

use super::archive::Checked;
use crate::backup::{self, Run, copies};
use crate::cli::{ArchiveCheckArgs, ArchiveCopyArgs};
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Page, Report, Stage, StageTime, figures};
use crate::world::unix_seconds;

/// What was done with the copies.
#[derive(Debug, Serialize)]
pub(crate) struct InStep {
    archive: String,
    copies: Vec<copies::Row>,
    stages: Vec<StageTime>,
}

impl Report for InStep {
    fn show(&self, page: &mut Page) {
        copies::show(&self.copies, page);
    }

    fn exit(&self) -> Exit {
        if self.copies.iter().any(copies::Row::is_bad) { Exit::Failed } else { Exit::Done }
    }
}

/// Brings one copy in step, or all.
pub(crate) fn run(context: &Context, args: &ArchiveCopyArgs) -> Result<InStep, Failure> {
    let declared = Declared::load(context)?;
    let wanted = copies::named(&declared, args.copy.as_ref())?;
    let progress = context.output.progress();
    interrupt::blocking(&context.output, |stop| {
        let archive = backup::open(context, &declared)?;
        let run = Run { context, declared: &declared, archive: &archive, progress: &progress, stop };
        let mut rows = copies::keep_chains(&run, &wanted, args.anew);
        let folder = archive.folder().display().to_string();
        let files: Vec<_> = wanted.iter().copied().filter(|copy| copies::repository(copy).is_ok()).collect();
        if !files.is_empty() {
            // Opened once, so that it is known to be the right one, and closed again: backups go on meanwhile.
            let original = archive.for_copies()?;
            drop(archive);
            let stop = stop.clone();
            let original = original.until(move || stop.is_cancelled());
            rows.extend(copies::bring_in_step(&declared, &original, &progress, &files, args.anew));
        }
        Ok(InStep { archive: folder, copies: rows, stages: progress.times() })
    })
}

/// `archive check --copy`: each file by its name, then as a repository.
pub(crate) fn check(context: &Context, args: &ArchiveCheckArgs, name: &CopyName) -> Result<Checked, Failure> {
    let declared = Declared::load(context)?;
    let copy = copies::named(&declared, Some(name))?.into_iter().next().ok_or(copies::NoCopy::None)?;
    copies::repository(copy)?;
    // It is looked at by itself where there is nothing to compare it with.
    let here = backup::open(context, &declared);
    let place = copies::place(&declared, &backup::repository(&declared), copy)?;
    let place = place.map_err(|why| copies::NoCopy::Away { name: name.clone(), why })?;
    let progress = context.output.progress();
    let stage = Arc::new(progress.stage(if args.read_data { "read the whole copy" } else { "look at the copy" }));
    let watch = copies::watch(&stage);
    let mut found = match &here {
        Ok(archive) => archive.check_copy(&*place, args.read_data, &watch)?,
        Err(_) => sovereign_archive::copy::check(&*place, args.read_data, &watch)?,
    };
    let mut remarks = Vec::new();
    if let (true, Ok(archive)) = (args.repair && !found.damaged.is_empty(), &here) {
        let mended = archive.mend_copy(&*place, &found.damaged)?;
        remarks.push(format!("{mended} of {} damaged files of the copy were put right from here", found.damaged.len()));
        found = archive.check_copy(&*place, args.read_data, &watch)?;
    }
    drop(watch);
    if let Some(stage) = Arc::into_inner(stage) {
        Stage::finish(stage);
    }
    if let Err(failure) = &here {
        remarks.push(format!("it is compared with nothing: {}", failure.chain().join(": ")));
    }
    drop(here);
    let stage = progress.stage("check the copy");
    let as_archive = Archive::open_copy(place, &backup::known(&declared), &backup::password(context, &declared)?)?;
    let sovereign_archive::Checked { snapshots, mut errors, remarks: more } = as_archive.check(false)?;
    stage.finish();
    remarks.extend(more);
    let CopyChecked { missing, damaged, .. } = found;
    // What is not there yet is no damage: the next copy sends it.
    if !missing.is_empty() {
        let files = figures::count(missing.len() as u64, "file is", "files are");
        remarks.push(format!("{files} not in the copy yet: `sovereign archive copy {name}` sends what is missing"));
    }
    errors.extend(damaged.iter().map(|file| format!("{file} is not what it was: {}", file.path())));
    if errors.is_empty() {
        copies::note_checked(&declared, copy, args.read_data, unix_seconds(SystemTime::now()))?;
    }
    Ok(Checked { snapshots, read_data: args.read_data, errors, remarks, copy: Some(name.clone()) })
}
