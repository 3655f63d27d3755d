//! The images that the stack's applications run: so that nothing has to be fetched when everything is brought back.

use std::path::Path;

use sovereign_archive::entry::{Kind, TreePath};
use sovereign_archive::{Archive, ArchiveError, Offer, Snapshot, Subject};
use sovereign_images::{Image, ImageError, Lock, Store};
use sovereign_model::Digest;
use sovereign_model::stack::{App, Stack};

use super::{Record, Run, offer};
use crate::context::Context;
use crate::declared::Declared;
use crate::failure::Failure;
use crate::output::Progress;
use crate::root_images::Wanted;

/// What there is to be backed up; `None` when nothing is built yet.
pub(super) fn what(run: &Run<'_>) -> Result<Option<Offer>, Failure> {
    let Run { context, declared, .. } = run;
    let store = Store::open(context.places()?.images())?;
    let built = built(&declared.stack, &declared.file, &declared.ghost_lock()?, &store)?;
    let names = built.into_iter().map(|image| image.digest.hex());
    let offer = offer(names.map(|name| (name.clone(), store.folder().join(name))));
    Ok(Some(offer).filter(|offer| !offer.roots.is_empty()))
}

/// The images that the stack's applications run, as far as they are built: Ghost, and on hosts what is made around it.
fn built(stack: &Stack, stack_file: &Path, ghost: &Lock, store: &Store) -> Result<Vec<Image>, Failure> {
    let ghosts: Vec<_> = stack.sites.values().filter(|site| site.app == App::Ghost).collect();
    if ghosts.is_empty() {
        return Ok(Vec::new());
    }
    let mut built: Vec<Image> = sovereign_images::ghost::find(store, ghost)?.into_iter().collect();
    if ghosts.iter().any(|site| site.host(stack).is_some()) {
        for wanted in Wanted::on_hosts(stack_file, ghost, store)? {
            built.extend(store.find(wanted.lock)?);
        }
    }
    Ok(built)
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
        let fill = |folder: &Path| -> Result<(), Lost> {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use sovereign_images::ghost;
    use sovereign_model::file;

    use super::*;

    const ON_A_HOST: &str = "version = 1\n[stack]\nname = \"demo\"\n\
        [[datacenter]]\nname = \"home\"\nengine = \"incus\"\n\
        [[datacenter.uplink]]\nname = \"isp\"\naddress = \"203.0.113.7\"\nport = 443\nhttp = 80\n\
        [[datacenter.host]]\nname = \"atlas\"\naddress = \"192.0.2.8\"\n\
        [[site]]\nname = \"blog\"\napp = \"ghost\"\ncanonical = \"blog.example\"\nprimary = \"home\"\n";

    /// As if an image had been built from this lock.
    fn build(store: &Store, name: &str, lock: Digest) -> Digest {
        let digest = Digest::of(format!("what {name} contains"));
        let folder = store.folder().join(digest.hex());
        fs::create_dir_all(folder.join("root")).unwrap();
        let manifest = serde_json::json!({
            "format": 1, "image": name, "lock": lock, "digest": digest, "bytes": 1, "files": 1,
            "source": { "packages": [], "compilers": [] }, "built": 1
        });
        fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
        digest
    }

    #[test]
    fn a_site_on_a_host_needs_what_its_instances_are_made_from_too() {
        let folder = tempfile::tempdir().unwrap();
        let (stack_file, store) =
            (folder.path().join("stack.toml"), Store::open(folder.path().join("images")).unwrap());
        let parse = |text: &str| file::parse("stack.toml", text, folder.path()).unwrap();
        let digests = |text: &str| -> Vec<Digest> {
            let built = built(&parse(text), &stack_file, ghost::lock(), &store).unwrap();
            built.into_iter().map(|image| image.digest).collect()
        };
        assert_eq!(digests(ON_A_HOST), []);
        let mut all = vec![build(&store, "ghost", ghost::lock().digest())];
        assert_eq!(digests(ON_A_HOST), all);
        let wanted = Wanted::on_hosts(&stack_file, ghost::lock(), &store).unwrap();
        all.extend(wanted.iter().map(|wanted| build(&store, wanted.name.as_str(), wanted.lock)));
        build(&store, "another", Digest::of("another lock"));
        assert_eq!((all.len(), digests(ON_A_HOST)), (3, all.clone()));
        assert_eq!(digests(file::default_file()), all[..1], "here Ghost is all there is");
    }
}
