//! `sovereign images lock`.

use serde::Serialize;
use sovereign_images::debian::{self, Change, Kept, Role};
use sovereign_images::{Fetched, ImageError};
use sovereign_model::Digest;

use crate::cli::ImagesLockArgs;
use crate::context::Context;
use crate::debian::{LockFile, Watched, options};
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Cell, Page, Report, Table, figures};

/// Debian's packages are locked together, at the versions of today.
#[derive(Debug, thiserror::Error)]
#[error("{role} has no version of its own: it is made of many packages")]
struct NoVersion {
    role: String,
}

impl Reason for NoVersion {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(format!("`sovereign images lock --update {}` locks the versions of today", self.role))
    }
}

/// What is locked now.
#[derive(Debug, Serialize)]
pub(crate) struct Locked {
    role: String,
    file: String,
    lock: Digest,
    packages: usize,
    bytes: u64,
    /// Whether the file was written.
    written: bool,
    /// Against the lock before; empty when there was none.
    changes: Vec<Change>,
    fetched: Vec<Fetched>,
}

impl Report for Locked {
    fn show(&self, page: &mut Page) {
        if !self.changes.is_empty() {
            let mut table = Table::new(["PACKAGE", "WAS", "IS"]);
            let text = |version: &Option<debian::Version>| version.as_ref().map_or("-".to_owned(), ToString::to_string);
            for Change { package, old, new } in &self.changes {
                table.row([Cell::from(package.as_str()), text(old).into(), text(new).into()]);
            }
            page.table(&table);
        }
        let packages = figures::count(self.packages as u64, "package", "packages");
        let (role, bytes) = (&self.role, figures::bytes(self.bytes));
        let what = match (self.written, self.changes.is_empty()) {
            (true, _) => format!("{role} is locked to {packages}, {bytes}, all kept: {}", self.file),
            (false, _) => format!("{role} stays locked to {packages}, {bytes}, all kept: {}", self.file),
        };
        page.line(what);
        if self.written {
            page.help(format_args!("`sovereign images build {role}` makes an image of them"));
        }
    }
}

/// Locks a role where it is not locked, or anew with `--update`; and fetches what is not kept.
///
/// # Errors
/// When there is no lock to be had, or not all of its packages.
pub(crate) fn run(context: &Context, args: &ImagesLockArgs) -> Result<Locked, Failure> {
    let declared = Declared::load(context)?;
    let role = Role::find(&args.role).map_err(ImageError::from)?;
    if args.version.is_some() {
        return Err(NoVersion { role: args.role.clone() }.into());
    }
    let file = LockFile::of(&declared.file, &role);
    let kept = Kept::open(declared.places.packages())?;
    let progress = context.output.progress();
    let (watched, options) = (Watched::new(&progress, &role), options(false));
    // Whoever updates may do so because the old lock is of no use.
    let old = match file.read() {
        Err(_) if args.update => None,
        read => read?,
    };
    let lock = match &old {
        Some(lock) if !args.update => lock.clone(),
        _ => debian::resolve(&role, &kept, &options, &watched)?,
    };
    // Before it is written: a lock whose packages are not kept is worth little.
    let receipt = debian::fetch(&lock, &role, &kept, &options, &watched)?;
    let written = old.as_ref() != Some(&lock);
    if written {
        file.write(&lock)?;
    }
    Ok(Locked {
        role: role.short().to_owned(),
        file: file.path().display().to_string(),
        lock: lock.digest(),
        packages: lock.packages.len(),
        bytes: lock.bytes(),
        written,
        changes: old.map(|old| old.changes(&lock)).unwrap_or_default(),
        fetched: receipt.fetched,
    })
}
