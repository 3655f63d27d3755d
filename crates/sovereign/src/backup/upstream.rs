//! The data of a service that the operator runs: what its `dump` writes, kept until the next one differs.

use std::path::{Path, PathBuf};

use sovereign_archive::Offer;
use sovereign_model::stack::{DataCommands, Site};

use super::{BackupError, Run, make, offer};
use crate::data::{self, NewFile, Sink};
use crate::failure::Failure;

/// The dump and its checksum in a snapshot, as `site load` takes them.
const DATA: &str = "data.dump";
const SUM: &str = "data.dump.sha256";

/// Has the data written out. When it is what it was the last time, the file stays as it is, so that it is not read again.
pub(super) fn dump(run: &Run<'_>, site: &Site, commands: &DataCommands) -> Result<Offer, Failure> {
    let folder = folder(run, site);
    make(&folder).map_err(|source| BackupError::File { path: folder.clone(), source })?;
    let place = folder.join(DATA);
    let mut sink = Sink::File(NewFile::begin(&place)?);
    let stage = run.progress.stage(format!("dump {}", site.name));
    stage.expect_bytes(0);
    let written =
        data::dump(run.context, &run.declared.file, commands, &mut sink, |bytes| stage.reach(bytes), run.stop);
    let (_, digest) = tokio::runtime::Handle::current().block_on(written)?;
    if let Sink::File(file) = sink
        && !is_same(&place, &digest.hex())
    {
        file.keep(digest)?;
    }
    stage.finish();
    // Not their folder: it looks changed whenever something was written beside them.
    Ok(offer([DATA, SUM].map(|name| (name, folder.join(name)))))
}

fn folder(run: &Run<'_>, site: &Site) -> PathBuf {
    run.declared.state.archive().join("dumps").join(site.name.as_str())
}

/// Whether the file that is there is whole and has this SHA-256.
fn is_same(place: &Path, sha256: &str) -> bool {
    data::Checked::open(place, |_, _| {}).is_ok_and(|there| there.digest.hex() == sha256)
}
