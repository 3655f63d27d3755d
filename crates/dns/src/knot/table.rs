//! The table of addresses as a file: made of Debian's files, named by what is in it.
//!
//! It lies beside the generations, since it is large and seldom another: when the package was renewed, or a data center moved.
//! By its name a generation says which one it goes with, and nothing is written when there is nothing new.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sovereign_model::Digest;
use sovereign_runtime::file::{FileError, replace};

use super::files::CONF;
use crate::geography::nearest::Orders;
use crate::geography::{GeographyError, Source, compile};

/// What tables are called, before a part of their digest, and after.
const NAME: (&str, &str) = ("nearest-", ".mmdb");

/// There is no table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// What it is made of is not usable.
    #[error(transparent)]
    Geography(#[from] GeographyError),
    /// The folder cannot be made.
    #[error("the name server's folder {} cannot be written", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl TableError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Geography(error) => error.help(),
            Self::File(error) => error.help(),
            Self::Folder { .. } => None,
        }
    }
}

/// Makes the table in Knot's folder, of the files for IPv4 and IPv6. Takes a second of CPU.
///
/// # Errors
/// When a file is missing or damaged, or nothing can be written. Tables that are there stay.
pub fn bring(folder: &Path, orders: &Orders, ipv4: &Path, ipv6: &Path) -> Result<PathBuf, TableError> {
    let (text4, changed4) = open(ipv4)?;
    let (text6, changed6) = open(ipv6)?;
    let built = changed4.max(changed6).duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let source = |file, text| Source { file, text };
    let table = compile(orders, source(ipv4, text4), source(ipv6, text6), built)?;
    let (before, after) = NAME;
    let path = folder.join(format!("{before}{}{after}", Digest::of(&table).short()));
    // Whole if it is there: it is renamed into place.
    if !path.exists() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| TableError::Folder { path: folder.to_owned(), source })?;
        replace(&path, &table, 0o600)?;
    }
    Ok(path)
}

fn open(file: &Path) -> Result<(BufReader<File>, SystemTime), GeographyError> {
    let opened = File::open(file).and_then(|text| Ok((text.metadata()?.modified()?, text)));
    let (changed, text) = opened.map_err(|source| GeographyError::Read { file: file.to_owned(), source })?;
    Ok((BufReader::new(text), changed))
}

/// Removes the tables that none of these generations goes with.
pub(super) fn remove_unused(folder: &Path, generations: &[PathBuf]) -> io::Result<()> {
    let confs: Vec<String> = generations.iter().filter_map(|root| fs::read_to_string(root.join(CONF)).ok()).collect();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_table = name.starts_with(NAME.0) && name.ends_with(NAME.1);
        if is_table && !confs.iter().any(|conf| conf.contains(&name)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
