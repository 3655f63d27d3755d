//! `sovereign import`.

use std::fs;
use std::path::Path;

use serde::Serialize;
use sovereign_model::SiteName;
use zeroize::Zeroizing;

use super::backup::short;
use super::site::find;
use crate::backup::import::{Imported, Wanted};
use crate::backup::{self, Backed, Run};
use crate::cli::ImportArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::interrupt;
use crate::output::{Page, Report, StageTime, figures};

/// What was taken over.
#[derive(Debug, Serialize)]
pub(crate) struct TakenOver {
    site: SiteName,
    from: String,
    encrypted: bool,
    full_backups: usize,
    increments: usize,
    /// Compared with their manifests, where the archive lies in a folder.
    volumes: usize,
    /// The moment it is the state of.
    state_of: String,
    snapshot: String,
    /// Whether a snapshot with the same data was there before.
    unchanged: bool,
    files: u64,
    bytes: u64,
    files_proven: u64,
    examined: Option<String>,
    /// Why the snapshot is there and not proven.
    unproven: Option<String>,
    help: Option<String>,
    /// What is damaged and was not needed, and duplicity's own warnings.
    remarks: Vec<String>,
    stages: Vec<StageTime>,
}

impl Report for TakenOver {
    fn show(&self, page: &mut Page) {
        let count = |number: usize, one, many| figures::count(number as u64, one, many);
        let Self { site, from, snapshot, .. } = self;
        page.line(format_args!(
            "{from}: {}, {}{}{}",
            count(self.full_backups, "full backup", "full backups"),
            count(self.increments, "increment", "increments"),
            if self.encrypted { ", encrypted" } else { ", not encrypted" },
            if self.volumes > 0 {
                format!(", {} compared", count(self.volumes, "volume", "volumes"))
            } else {
                String::new()
            },
        ));
        let (files, bytes) = (figures::count(self.files, "file", "files"), figures::bytes(self.bytes));
        let of = &self.state_of;
        page.line(format_args!("{site}: {files} ({bytes}) of {of} are in snapshot {}", short(snapshot)));
        match &self.unproven {
            None => {
                let examined = self.examined.as_ref().map(|examined| format!(", {examined}")).unwrap_or_default();
                let proven = figures::count(self.files_proven, "file", "files");
                page.line(format_args!("restored and compared: {proven}{examined}"));
            }
            Some(why) => {
                let warning = page.theme().warning;
                page.line(format_args!("{warning}it is not proven{warning:#}: {why}"));
            }
        }
        for remark in &self.remarks {
            page.line(format_args!("remark: {remark}"));
        }
        if let Some(help) = &self.help {
            page.help(help);
        }
    }

    fn exit(&self) -> Exit {
        if self.unproven.is_none() { Exit::Done } else { Exit::Failed }
    }
}

/// The passphrase cannot be had.
#[derive(Debug, thiserror::Error)]
enum NoPassphrase {
    #[error("cannot read the passphrase file {0}")]
    File(String, #[source] std::io::Error),
    #[error("the passphrase file {0} begins with an empty line")]
    Empty(String),
}

impl Reason for NoPassphrase {}

/// `import`.
pub(crate) fn run(context: &Context, args: &ImportArgs) -> Result<TakenOver, Failure> {
    let declared = Declared::load(context)?;
    sovereign_engine::state::read(&declared.state)?;
    let site = find(&declared.stack, args.site.as_ref())?;
    let progress = context.output.progress();
    let keyring = args.gnupg_home.as_deref();
    let wanted = Wanted {
        address: &args.address,
        keyring,
        time: args.time.as_ref(),
        passphrase: &|| match (&args.passphrase_file, keyring) {
            (Some(file), _) => read(file).map(Some),
            // The operator's own agent asks for the key's.
            (None, Some(_)) => Ok(None),
            (None, None) => {
                let instead = "name a file with --passphrase-file";
                context.output.ask_secret("Passphrase of the duplicity archive: ", instead).map(Some)
            }
        },
    };
    let imported = interrupt::blocking(&context.output, |stop| {
        let archive = backup::open_or_create(context, &declared)?;
        let run = Run { context, declared: &declared, archive: &archive, progress: &progress, stop };
        run.import(site, &wanted)
    })?;
    let Imported { backed: Backed { taken, proof }, full, increments, volumes, is_encrypted, state, remarks } =
        imported;
    let (proof, failure) = match proof {
        Ok(proof) => (Some(proof), None),
        Err(failure) => (None, Some(failure)),
    };
    Ok(TakenOver {
        site: site.name.clone(),
        from: args.address.to_string(),
        encrypted: is_encrypted,
        full_backups: full,
        increments,
        volumes,
        state_of: state.to_string(),
        snapshot: taken.snapshot.id.clone(),
        unchanged: taken.unchanged,
        files: taken.manifest.files(),
        bytes: taken.manifest.bytes(),
        files_proven: proof.as_ref().map(|proof| proof.files).unwrap_or_default(),
        examined: proof.and_then(|proof| proof.examined),
        unproven: failure.as_ref().map(|failure| failure.chain().join(": ")),
        help: failure.and_then(|failure| failure.help()),
        remarks,
        stages: progress.times(),
    })
}

/// The first line of a file.
fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let named = || path.display().to_string();
    let text = fs::read_to_string(path).map(Zeroizing::new).map_err(|source| NoPassphrase::File(named(), source))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Zeroizing::new(line.to_owned())),
        _ => Err(NoPassphrase::Empty(named()).into()),
    }
}
