//! The images that the stack's applications run: so that nothing has to be fetched when everything is brought back.

use sovereign_archive::entry::{Kind, TreePath};
use sovereign_archive::{Archive, ArchiveError, Offer, Snapshot, Subject};
use sovereign_images::{ImageError, Store};
use sovereign_model::Digest;
use sovereign_model::stack::App;

use super::{Record, Run, offer};
use crate::context::Context;
use crate::declared::Declared;
use crate::failure::Failure;
use crate::output::Progress;

/// What there is to be backed up; `None` when nothing is built yet.
pub(super) fn what(run: &Run<'_>) -> Result<Option<Offer>, Failure> {
    if !run.declared.stack.sites.values().any(|site| site.app == App::Ghost) {
        return Ok(None);
    }
    let store = Store::open(run.context.places()?.images())?;
    let Some(image) = sovereign_images::ghost::find(&store, &run.declared.ghost_lock()?)? else { return Ok(None) };
    let name = image.digest.hex();
    let folder = store.folder().join(&name);
    Ok(Some(offer([(name, folder)])))
}

/// An image could not be brought back.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Archive(error) => error.into(),
            Lost::Image(error) => error.into(),
        }
    }
}

/// Brings back the images of the newest proven snapshot that has some, but for those that are in the store; says which
/// it brought, or `None` when no snapshot has images.
///
/// # Errors
/// When one cannot be read, or is not what it was.
pub(crate) fn bring_back(
    context: &Context,
    declared: &Declared,
    archive: &Archive,
    progress: &Progress,
) -> Result<Option<Vec<Digest>>, Failure> {
    let Some(snapshot) = newest(declared, archive)? else { return Ok(None) };
    let contents = archive.contents(&snapshot)?;
    let store = Store::open(context.places()?.images())?;
    let mut brought = Vec::new();
    let top = contents
        .manifest()
        .entries()
        .iter()
        .filter(|entry| entry.kind == Kind::Folder && entry.path.parent().is_none());
    for path in top.map(|entry| &entry.path) {
        let Some(digest) = digest_of(path).filter(|digest| store.image(*digest).is_err()) else { continue };
        let stage = progress.stage(format!("bring back image {}", digest.short()));
        let within = contents.manifest().entries().iter().filter(|entry| entry.path.is_in(path));
        stage.expect_bytes(within.map(sovereign_archive::entry::Entry::size).sum());
        let fill = |folder: &std::path::Path| -> Result<(), Lost> {
            contents.restore(Some(path), folder, &|bytes| stage.reach(bytes))?;
            Ok(())
        };
        store.take_in(digest, fill)?;
        stage.finish();
        brought.push(digest);
    }
    Ok(Some(brought))
}

fn digest_of(path: &TreePath) -> Option<Digest> {
    format!("sha256:{path}").parse().ok()
}

/// Where nothing is known to be proven, because the stack's state is lost, the newest will do: what is brought back is
/// compared with its name anyway.
fn newest(declared: &Declared, archive: &Archive) -> Result<Option<Snapshot>, ArchiveError> {
    match Record::read(&declared.state).proven(&Subject::Images) {
        Some(proven) => archive.find(proven).map(Some),
        None => archive.newest(&Subject::Images),
    }
}
