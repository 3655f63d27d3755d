//! `sovereign recover`: from an empty machine, a copy of the archive and the 24 words to a stack that `up` brings up.
//!
//! The seed and the stack file come before the sites. What is there already is what a run before has brought, or the
//! operator's: a run that was cut off is run again.

use std::path::{PathBuf, absolute};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use sovereign_hosts::record::Record;
use sovereign_keys::{Passphrase, RootSeed, SeedError, SeedFile};
use sovereign_model::StackName;
use sovereign_model::layout::StateFolder;

use super::backup::short;
use super::seed::read_words;
use crate::backup::{self, label};
use crate::cli::RecoverArgs;
use crate::context::Context;
use crate::copy_at::{CopyAt, Door};
use crate::declared::Declared;
use crate::failure::Failure;
use crate::output::{Cell, Page, Report, StageTime, Table, figures};
use crate::recovery::{self, Back, RecoverError, Recovery, failed};
use crate::secrets;
use crate::world::unix_seconds;

/// What is back.
#[derive(Debug, Serialize)]
pub(crate) struct Recovered {
    stack: StackName,
    fingerprint: String,
    stack_file: PathBuf,
    state: PathBuf,
    archive: PathBuf,
    back: Vec<Back>,
    /// What is not, and why.
    remarks: Vec<String>,
    stages: Vec<StageTime>,
    /// How long it took: what an operator waits before `up`.
    seconds: f64,
    now_unix: u64,
    /// Whether hosts are known.
    #[serde(skip)]
    has_hosts: bool,
}

impl Report for Recovered {
    fn show(&self, page: &mut Page) {
        let mut table = Table::new(["OF", "SNAPSHOT", ">TAKEN", ">FILES", ">SIZE", "LOOKED INTO"]);
        for row in &self.back {
            let taken = u64::try_from(row.taken_unix).unwrap_or_default();
            table.row([
                Cell::from(&row.of),
                short(&row.snapshot).into(),
                format!("{} ago", figures::seconds(self.now_unix.saturating_sub(taken))).into(),
                row.files.into(),
                figures::bytes(row.bytes).into(),
                row.examined.as_deref().unwrap_or_default().into(),
            ]);
        }
        page.table(&table);
        for remark in &self.remarks {
            page.line(format_args!("remark: {remark}"));
        }
        page.line(format_args!("the stack file is {}", self.stack_file.display()));
        page.line(format_args!("the state is in {}, the archive in {}", self.state.display(), self.archive.display()));
        let took = figures::duration(Duration::from_secs_f64(self.seconds));
        page.line(format_args!("stack {} is back after {took} (fingerprint {})", self.stack, self.fingerprint));
        page.help("`sovereign up` brings it up");
        if self.has_hosts {
            page.help(
                "where the configuration on a host is another than this stack file asks for, `up` says so and waits for \
                 `sovereign up --take-over`: it was made on the machine that is lost",
            );
        }
    }
}

/// `recover`.
pub(crate) fn run(context: &Context, args: &RecoverArgs) -> Result<Recovered, Failure> {
    let places = context.places()?;
    let (found, stack) = find(context, args)?;
    let seed = read_words(context)?;
    let state = StateFolder::new(places.state(&stack));
    let passphrase = new_passphrase(context, args, &stack, &state, &seed)?;
    // What comes before is the operator's time.
    let began = Instant::now();
    let password = recovery::password(&stack, &seed)?;
    let known = backup::known_in(&state);
    let archive = match &found {
        Found::Here(folder) => recovery::open(folder, &known, &password, &stack)?,
        Found::There(door) => recovery::open_copy(door.enter(&state, &stack, &seed)?, &known, &password, &stack)?,
    };
    sovereign_engine::state::prepare(&state, &stack, env!("CARGO_PKG_VERSION"))?;
    let _lock = secrets::lock(&state, "recover")?;

    let mut recovery = Recovery::new(context, archive, state);
    let scratch = recovery.state_part()?;
    let stack_file = recovery::put_stack_file(&places, &scratch, &stack)?;
    recovery::put_locks(&scratch, &stack_file)?;
    SeedFile::at(&recovery.state.seed(), stack.clone()).restore(&seed, passphrase.as_ref())?;
    secrets::note_words_seen(&recovery.state, &seed.fingerprint(&stack))?;
    recovery.put_state(&scratch)?;
    recovery::remove(&scratch)?;

    let declared = Declared::load(context)?;
    let place = recovery.bring_archive(&declared, &known, &password)?;
    recovery.bring_images(&declared);
    for site in declared.stack.sites.values() {
        recovery.site(&declared, site)?;
    }
    recovery.name_undeclared(&declared)?;
    let has_hosts = !Record::read(&recovery.state.hosts_record())?.hosts.is_empty();
    let Recovery { state, progress, back, remarks, .. } = recovery;
    Ok(Recovered {
        fingerprint: seed.fingerprint(&stack).to_string(),
        stack,
        stack_file,
        state: state.path().to_owned(),
        archive: place,
        back,
        remarks,
        stages: progress.times(),
        seconds: began.elapsed().as_secs_f64(),
        now_unix: unix_seconds(SystemTime::now()),
        has_hosts,
    })
}

/// The copy, as far as one comes without the words.
enum Found {
    Here(PathBuf),
    There(Door),
}

/// It, and whose it is.
fn find(context: &Context, args: &RecoverArgs) -> Result<(Found, StackName), Failure> {
    match &args.archive {
        CopyAt::Folder(folder) => {
            let folder = absolute(folder).map_err(failed("find", folder))?;
            let stack = args.name.clone().or_else(|| label::read(&folder));
            let stack = stack.ok_or_else(|| {
                if folder.join("config").is_file() {
                    RecoverError::NoName { folder: folder.clone() }
                } else {
                    RecoverError::NoArchive { place: folder.display().to_string() }
                }
            })?;
            Ok((Found::Here(folder), stack))
        }
        CopyAt::Host(address) => {
            let stack = args.name.clone().ok_or_else(|| RecoverError::NameFirst { address: address.clone() })?;
            Ok((Found::There(Door::find(context, address, &args.door)?), stack))
        }
    }
}

/// The passphrase for the seed's file, asked for before anything is done; a seed that is there has one, or none.
fn new_passphrase(
    context: &Context,
    args: &RecoverArgs,
    stack: &StackName,
    state: &StateFolder,
    seed: &RootSeed,
) -> Result<Option<Passphrase>, Failure> {
    match SeedFile::at(&state.seed(), stack.clone()).open() {
        Ok(stored) if !stored.is(seed) => Err(SeedError::Exists { path: state.seed() }.into()),
        Ok(stored) if !stored.is_encrypted() => Ok(None),
        Ok(_) => Ok(Some(secrets::passphrase(context, args.passphrase_file.as_deref())?)),
        Err(SeedError::Missing { .. }) => Ok(secrets::new_passphrase(context, args.passphrase_file.as_deref())?),
        Err(error) => Err(error.into()),
    }
}
