//! `sovereign images`.

use std::collections::BTreeSet;

use serde::Serialize;
use sovereign_images::{Fault, FaultKind, ImageError, Lock, Store};
use sovereign_model::Digest;

use crate::backup;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Cell, Page, Report, Table, figures};

/// What is kept.
#[derive(Debug, Serialize)]
pub(crate) struct Kept {
    images: Vec<Image>,
    damaged: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Image {
    image: String,
    digest: Digest,
    lock: Digest,
    bytes: u64,
    files: u64,
    packages: Vec<String>,
    compilers: Vec<String>,
    built: u64,
}

impl Report for Kept {
    fn show(&self, page: &mut Page) {
        if self.images.is_empty() {
            page.line("no images are kept");
        } else {
            let mut table = Table::new(["IMAGE", "DIGEST", ">SIZE", ">FILES", "MADE FROM"]);
            for image in &self.images {
                table.row([
                    Cell::from(&image.image),
                    image.digest.short().into(),
                    figures::bytes(image.bytes).into(),
                    image.files.into(),
                    made_from(&image.packages).into(),
                ]);
            }
            page.table(&table);
        }
        for damaged in &self.damaged {
            page.line(damaged);
        }
    }

    fn exit(&self) -> Exit {
        if self.damaged.is_empty() { Exit::Done } else { Exit::Attention }
    }
}

/// A root file system is made from some hundred packages: their number says more.
fn made_from(packages: &[String]) -> String {
    match packages.len() {
        0..=6 => packages.join(", "),
        many => figures::count(many as u64, "package", "packages"),
    }
}

fn store(context: &Context) -> Result<Store, Failure> {
    Ok(Store::open(context.places()?.images())?)
}

/// `images list`.
pub(crate) fn list(context: &Context) -> Result<Kept, Failure> {
    let (mut images, mut damaged) = (Vec::new(), Vec::new());
    for manifest in store(context)?.list()? {
        match manifest {
            Ok(manifest) => images.push(Image {
                image: manifest.image.to_string(),
                digest: manifest.digest,
                lock: manifest.lock,
                bytes: manifest.bytes,
                files: manifest.files,
                packages: manifest.source.packages,
                compilers: manifest.source.compilers,
                built: manifest.built,
            }),
            Err(error) => damaged.push(error.to_string()),
        }
    }
    Ok(Kept { images, damaged })
}

/// What was removed.
#[derive(Debug, Serialize)]
pub(crate) struct Removed {
    removed: Vec<Digest>,
    bytes: u64,
    kept: usize,
}

impl Report for Removed {
    fn show(&self, page: &mut Page) {
        for digest in &self.removed {
            page.line(format_args!("removed {}", digest.short()));
        }
        let kept = figures::count(self.kept as u64, "image", "images");
        page.line(format_args!("{} freed, {kept} kept", figures::bytes(self.bytes)));
    }
}

/// `images prune`: keeps, of each image, the one this program would run and the one before it, the Ghost that the stack
/// file's operator has locked, and all that is in use by a process of this machine, whichever stack it belongs to.
pub(crate) fn prune(context: &Context) -> Result<Removed, Failure> {
    let store = store(context)?;
    // Pruning is of all stacks, and needs none.
    let chosen = Declared::load(context).ok().map(|declared| declared.ghost_lock()).transpose()?;
    let keep = worth_keeping(&store, chosen.as_ref())?;
    let pruned = store.prune(&keep)?;
    Ok(Removed { removed: pruned.images, bytes: pruned.bytes, kept: keep.len() })
}

fn worth_keeping(store: &Store, chosen: Option<&Lock>) -> Result<BTreeSet<Digest>, ImageError> {
    let mut manifests: Vec<_> = store.list()?.into_iter().filter_map(Result::ok).collect();
    manifests.sort_by(|a, b| (&a.image, b.built).cmp(&(&b.image, a.built)));
    let mut keep = BTreeSet::new();
    let current = sovereign_images::ghost::find(store, sovereign_images::ghost::lock())?.map(|image| image.digest);
    let chosen = chosen.map(|lock| sovereign_images::ghost::find(store, lock)).transpose()?.flatten();
    keep.extend(current.into_iter().chain(chosen.map(|image| image.digest)));
    let ghost = &sovereign_images::ghost::lock().image;
    for same in manifests.chunk_by(|a, b| a.image == b.image) {
        // Which root file system runs is for hosts to say: the youngest is taken for it.
        let count = if same.iter().any(|manifest| manifest.image == *ghost) { 1 } else { 2 };
        keep.extend(same.iter().map(|manifest| manifest.digest).filter(|digest| Some(*digest) != current).take(count));
    }
    let used = running_programs();
    keep.extend(manifests.iter().map(|manifest| manifest.digest).filter(|digest| {
        let folder = store.folder().join(digest.hex());
        used.iter().any(|program| program.starts_with(&folder))
    }));
    Ok(keep)
}

/// The programs of all processes that this user may look at.
fn running_programs() -> Vec<std::path::PathBuf> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    processes.flatten().filter_map(|process| std::fs::read_link(process.path().join("exe")).ok()).collect()
}

/// What reading every byte again found.
#[derive(Debug, Serialize)]
pub(crate) struct Verified {
    images: usize,
    faults: Vec<String>,
}

impl Report for Verified {
    fn show(&self, page: &mut Page) {
        for fault in &self.faults {
            page.line(fault);
        }
        if self.faults.is_empty() {
            let checked = figures::count(self.images as u64, "image", "images");
            page.line(format_args!("{checked} checked: every byte is as it was built"));
        } else {
            page.help("remove the damaged image's folder; `sovereign up` builds it again, or `sovereign images build`");
        }
    }

    fn exit(&self) -> Exit {
        if self.faults.is_empty() { Exit::Done } else { Exit::Attention }
    }
}

/// `images verify`.
pub(crate) fn verify(context: &Context) -> Result<Verified, Failure> {
    let store = store(context)?;
    let (mut images, mut faults) = (0, Vec::new());
    for manifest in store.list()? {
        images += 1;
        match manifest {
            Ok(manifest) => {
                let found = store.verify(manifest.digest)?;
                faults.extend(
                    found
                        .iter()
                        .map(|fault| format!("{} {}: {}", manifest.image, manifest.digest.short(), sentence(fault))),
                );
            }
            Err(error) => faults.push(error.to_string()),
        }
    }
    Ok(Verified { images, faults })
}

/// What was brought back.
#[derive(Debug, Serialize)]
pub(crate) struct BroughtBack {
    brought: Vec<Digest>,
}

impl Report for BroughtBack {
    fn show(&self, page: &mut Page) {
        if self.brought.is_empty() {
            page.line("all images of the archive are in the store");
        }
        for digest in &self.brought {
            page.line(format_args!("brought back {}", digest.short()));
        }
    }
}

/// The archive has no images.
#[derive(Debug, thiserror::Error)]
#[error("there are no images in the archive")]
struct NoneArchived;

impl Reason for NoneArchived {
    fn help(&self) -> Option<String> {
        Some("`images = true` below [archive] backs them up; `sovereign up` builds them".to_owned())
    }
}

/// `images restore`.
pub(crate) fn restore(context: &Context) -> Result<BroughtBack, Failure> {
    let declared = Declared::load(context)?;
    let archive = backup::open(context, &declared)?;
    let progress = context.output.progress();
    let brought = backup::images::bring_back(context, &declared, &archive, &progress)?;
    Ok(BroughtBack { brought: brought.ok_or(NoneArchived)? })
}

fn sentence(fault: &Fault) -> String {
    let what = match fault.kind {
        FaultKind::Missing => "is missing",
        FaultKind::Changed => "has changed",
        FaultKind::Unexpected => "does not belong there",
    };
    format!("{} {what}", fault.path.display())
}
