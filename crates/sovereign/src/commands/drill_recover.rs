//! `sovereign drill recover`: this machine is thought lost. A copy of the archive and the 24 words bring everything back into
//! a folder of its own, which is removed in the end; how long that took, and what would be lost.
//!
//! Promise: the words are typed in and nothing else opens the copy; it is read only, and nothing that runs, the state, the
//! archive or a site's folder is touched. Left out: copying the archive itself, images, and what `up` does afterwards.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use sovereign_archive::copy::{Folder, Place};
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::{App, Site};
use sovereign_model::{SiteName, StackName};

use super::backup::short;
use super::seed::read_words;
use crate::backup::{self, Record, Scratch, copies};
use crate::cli::DrillRecoverArgs;
use crate::context::Context;
use crate::copy_at::{CopyAt, Door};
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Cell, Page, Report, StageTime, Table, figures};
use crate::places::Places;
use crate::recovery::{self, Back, Recovery};
use crate::secrets;
use crate::world::unix_seconds;

/// What came back, and how.
#[derive(Debug, Serialize)]
pub(crate) struct Rehearsed {
    stack: StackName,
    /// The copy.
    from: String,
    back: Vec<Row>,
    /// Sites that have data here, and of which nothing came back.
    missing: Vec<SiteName>,
    /// Whether the stack file in the copy is the one in use.
    stack_file_same: bool,
    remarks: Vec<String>,
    stages: Vec<StageTime>,
    /// From the first byte read out of the copy until all is back, before `up`.
    rto_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Row {
    of: String,
    snapshot: String,
    /// What a loss of this machine now would cost: how long ago the snapshot was found to be what is live.
    rpo_seconds: u64,
    files: u64,
    bytes: u64,
    examined: Option<String>,
}

impl Report for Rehearsed {
    fn show(&self, page: &mut Page) {
        let mut table = Table::new(["OF", "SNAPSHOT", ">RPO", ">FILES", ">SIZE", "LOOKED INTO"]);
        for row in &self.back {
            table.row([
                Cell::from(&row.of),
                short(&row.snapshot).into(),
                figures::seconds(row.rpo_seconds).into(),
                row.files.into(),
                figures::bytes(row.bytes).into(),
                row.examined.as_deref().unwrap_or_default().into(),
            ]);
        }
        page.table(&table);
        for remark in &self.remarks {
            page.line(format_args!("remark: {remark}"));
        }
        if !self.stack_file_same {
            page.line("the stack file in it is not the one in use: what changed since would be lost");
        }
        let warning = page.theme().warning;
        for site in &self.missing {
            page.line(format_args!("{warning}{site}{warning:#}: nothing came back"));
        }
        let took = figures::duration(Duration::from_secs_f64(self.rto_seconds));
        page.line(format_args!("stack {} came back from {} in {took} (RTO, before `up`)", self.stack, self.from));
        if !self.missing.is_empty() {
            page.help("`sovereign backup`, then `sovereign archive copy`, and this once more");
        }
    }

    fn exit(&self) -> Exit {
        if self.missing.is_empty() { Exit::Done } else { Exit::Failed }
    }
}

/// `drill recover`.
pub(crate) fn run(context: &Context, args: &DrillRecoverArgs) -> Result<Rehearsed, Failure> {
    let declared = Declared::load(context)?;
    sovereign_engine::state::read(&declared.state)?;
    let (from, found) = find(context, &declared, args)?;
    let seed = read_words(context)?;
    // Nobody else waits while somebody types.
    let _lock = secrets::lock(&declared.state, "drill recover")?;
    // What comes before is the operator's time.
    let began = Instant::now();
    let stack = declared.stack.name.clone();
    let place = match found {
        Found::Place(place) => place,
        Found::There(door) => door.enter(&declared.state, &stack, &seed)?,
    };
    let password = recovery::password(&stack, &seed)?;
    let archive = recovery::open_copy(place, &backup::known(&declared), &password, &stack)?;
    secrets::note_words_seen(&declared.state, &seed.fingerprint(&stack))?;

    let scratch = Scratch::named(&declared.state, "drill-recover")?;
    let state = StateFolder::new(scratch.folder.join("state"));
    sovereign_engine::state::prepare(&state, &stack, env!("CARGO_PKG_VERSION"))?;
    let mut recovery = Recovery::new(context, archive, state);
    let of_state = recovery.state_part()?;
    let file = scratch.folder.join("stack.toml");
    let places = Places::new(Some(file.clone()), Some(recovery.state.path().to_owned()), &context.environment)?;
    let stack_file = recovery::put_stack_file(&places, &of_state, &stack)?;
    recovery::put_locks(&of_state, &stack_file)?;
    recovery.put_state(&of_state)?;
    let stack_file_same = same(&file, &declared.file);
    let there = apart(Declared::at(places)?, &scratch.folder);
    for site in there.stack.sites.values() {
        recovery.site(&there, site)?;
    }
    recovery.name_undeclared(&there)?;
    let rto = began.elapsed();

    let record = Record::read(&declared.state);
    let now = unix_seconds(SystemTime::now());
    let Recovery { back, remarks, progress, .. } = recovery;
    let has_data = |site: &&Site| matches!(site.app, App::Ghost | App::Static { .. });
    let missing = declared.stack.sites.values().filter(has_data).map(|site| site.name.clone());
    let missing = missing.filter(|name| back.iter().all(|back| back.of != name.as_str())).collect();
    Ok(Rehearsed {
        stack,
        from,
        back: back.into_iter().map(|back| row(back, &record, now)).collect(),
        missing,
        stack_file_same,
        remarks,
        stages: progress.times(),
        rto_seconds: rto.as_secs_f64(),
    })
}

fn row(Back { of, snapshot, taken_unix, files, bytes, examined }: Back, record: &Record, now: u64) -> Row {
    let proof = record.proofs.get(&of).filter(|proof| proof.snapshot == snapshot);
    let as_of = proof.map_or_else(|| u64::try_from(taken_unix).unwrap_or_default(), |proof| proof.verified_unix);
    Row { of, snapshot, rpo_seconds: now.saturating_sub(as_of), files, bytes, examined }
}

/// The copy, as far as one comes without the words.
enum Found {
    Place(Arc<dyn Place>),
    There(Door),
}

/// The copy that was asked for, or the first one that is there: the archive itself is thought lost with the machine.
fn find(context: &Context, declared: &Declared, args: &DrillRecoverArgs) -> Result<(String, Found), Failure> {
    match &args.archive {
        Some(at @ CopyAt::Folder(folder)) => return Ok((at.to_string(), Found::Place(Arc::new(Folder::new(folder))))),
        Some(at @ CopyAt::Host(address)) => {
            return Ok((at.to_string(), Found::There(Door::find(context, address, &args.door)?)));
        }
        None => {}
    }
    let mut away: Option<Failure> = None;
    for copy in copies::named(declared, args.from_copy.as_ref())? {
        let place = copies::repository(copy)
            .map_err(Failure::from)
            .and_then(|()| Ok(copies::place(declared, &backup::repository(declared), copy)?))
            .and_then(|place| place.map_err(|why| copies::NoCopy::Away { name: copy.name.clone(), why }.into()));
        match place {
            Ok(place) => return Ok((format!("copy {}", copy.name), Found::Place(place))),
            Err(failure) => _ = away.get_or_insert(failure),
        }
    }
    Err(away.unwrap_or_else(|| copies::NoCopy::None.into()))
}

/// The same stack, with nothing of it where it is here.
fn apart(mut declared: Declared, scratch: &Path) -> Declared {
    declared.stack.archive.folder = None;
    for site in declared.stack.sites.values_mut() {
        if let App::Static { folder } = &mut site.app {
            *folder = scratch.join("sites").join(site.name.as_str());
        }
    }
    declared
}

fn same(one: &Path, other: &Path) -> bool {
    matches!((std::fs::read(one), std::fs::read(other)), (Ok(one), Ok(other)) if one == other)
}
