//! `sovereign images lock ghost`.

use serde::Serialize;
use sovereign_images::{Fetched, Store, ghost};
use sovereign_model::Digest;

use crate::cli::ImagesLockArgs;
use crate::context::Context;
use crate::debian::{Watched, options};
use crate::declared::Declared;
use crate::failure::Failure;
use crate::ghost_lock;
use crate::output::{Page, Report};

/// Which Ghost is locked now.
#[derive(Debug, Serialize)]
pub(crate) struct Locked {
    role: &'static str,
    version: String,
    /// What was locked before, or came with this program; `None` when that could not be read.
    before: Option<String>,
    file: String,
    lock: Digest,
    /// Whether the file was written.
    written: bool,
    fetched: Vec<Fetched>,
}

impl Report for Locked {
    fn show(&self, page: &mut Page) {
        let Self { version, file, .. } = self;
        let stays = if self.written { "is" } else { "stays" };
        page.line(format_args!("Ghost {stays} locked to {version}: {file}"));
        if let Some(before) = self.before.as_ref().filter(|before| *before != version) {
            page.line(format_args!("It was {before}."));
            page.help("`sovereign plan` shows what changes with it, `sovereign up` does it");
        }
    }
}

/// Locks Ghost where it is not locked; to the version that is named, or with `--update` the one of this program.
///
/// # Errors
/// When there is no such version, or this program cannot build it.
pub(crate) fn run(context: &Context, args: &ImagesLockArgs) -> Result<Locked, Failure> {
    let declared = Declared::load(context)?;
    let file = ghost_lock::file(&declared.file);
    // Whoever says which may do so because the old lock is of no use.
    let before = match ghost_lock::wanted(&declared.file) {
        Err(_) if args.update || args.version.is_some() => None,
        read => Some(read?),
    };
    let (lock, receipt) = match &args.version {
        Some(version) if before.as_ref().is_none_or(|before| version != ghost::version(before)) => {
            let progress = context.output.progress();
            let watched = Watched::named(&progress, ghost_lock::NAME);
            ghost::lock_of(version, &Store::open(declared.places.images())?, &options(false), &watched)?
        }
        _ => {
            let ours = ghost::lock().clone();
            (before.clone().filter(|_| !args.update).unwrap_or(ours), Default::default())
        }
    };
    let written = file.text()?.is_none_or(|text| text != lock.to_text());
    if written {
        file.replace(&lock.to_text())?;
    }
    Ok(Locked {
        role: ghost_lock::NAME,
        version: ghost::version(&lock).to_owned(),
        before: before.as_ref().map(|before| ghost::version(before).to_owned()),
        file: file.path().display().to_string(),
        lock: lock.digest(),
        written,
        fetched: receipt.fetched,
    })
}
