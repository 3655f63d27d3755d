//! Storing what a source has: files that changed are read, cut, and what is new of them is sealed; trees are made of all.
//!
//! ```text
//!  pull ── bytes ─▶ cut, name ── chunks ─▶ seal ── packs ─▶ write
//!                       └ what the archive has already ends here
//! ```
//!
//! A file that cannot be had is left out, and the source's fault is known: see [`crate::pull`]. Nothing here decides
//! whether what was stored is a snapshot.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::mpsc::{SyncSender, channel, sync_channel};
use std::thread;

use rustic_core::repofile::{BlobType, Metadata, Node, NodeType, Tree};
use rustic_core::{DataId, Id, IndexedFullStatus, Repository, TreeId};
use sha2::{Digest as _, Sha256};

use crate::chunk::{COARSE, FINE, Gear, Sum, Window, name};
use crate::entry::{Entry, Kind, TreePath};
use crate::error::{ArchiveError, To as _};
use crate::held::Held;
use crate::manifest::Manifest;
use crate::pack::{self, Added, Chunk};
use crate::pull::Pull;
use crate::repository::{Archive, Subject};
use crate::seal::Sealer;
use crate::take::{Seen, Watch};
use crate::tree;

/// Bytes in chunks that go to be sealed at a time.
const TOGETHER: usize = 512 << 10;
/// How often so many wait to be sealed: enough that nobody waits for the other, and no more memory than that.
const WAITING: usize = 6;

/// What a run has stored.
pub(crate) struct Stored {
    pub(crate) tree: TreeId,
    /// The files that were read, in whole.
    pub(crate) read: BTreeMap<TreePath, Sum>,
    pub(crate) added: Added,
    /// Whether anything new is in the archive.
    pub(crate) any: bool,
}

impl Stored {
    /// All is as it was.
    pub(crate) fn nothing(tree: TreeId) -> Self {
        Self { tree, read: BTreeMap::new(), added: Added::default(), any: false }
    }
}

/// A tree as it was stored before: the list, and the chunks of each of its entries.
pub(crate) type Before = (Manifest, Vec<Vec<DataId>>);

impl Archive {
    /// Stores what is on the list; `before` is known to be in the archive, and what looks as it did there is not read.
    ///
    /// # Errors
    /// When it cannot be stored. What the source did not give is missing, and no error.
    #[expect(clippy::too_many_arguments, reason = "the parts of one run, used once")]
    pub(crate) fn store(
        &self,
        subject: &Subject,
        index: &Repository<IndexedFullStatus>,
        before: Option<&Before>,
        manifest: &Manifest,
        pull: &mut Pull<'_>,
        held: &Held,
        watch: &Watch,
    ) -> Result<Stored, ArchiveError> {
        const ACTION: &str = "store the data";
        let gear = Gear::new(index.config().poly().to(ACTION)?);
        let (chunks, to_seal) = sync_channel(WAITING);
        let (packs, to_write) = sync_channel(1);
        let (used, again) = channel();
        let key = self.key();
        thread::scope(|scope| {
            let sealing = scope.spawn(move || pack::seal(key, &to_seal, &packs, &again));
            let writing = scope.spawn(move || pack::write(key, &to_write, &used, held));
            let out = Out { index, chunks, gathered: Vec::new(), bytes: 0, sent: HashSet::new() };
            let walk = |sealer| Walk {
                before,
                pull,
                watch,
                gear,
                sealer,
                out,
                window: Window::default(),
                read: BTreeMap::new(),
                stored: 0,
            };
            let walked = Sealer::new(key).and_then(|sealer| walk(sealer).all(subject, manifest));
            let panicked = |_| ArchiveError::Panicked { action: ACTION };
            // Whoever comes later in the line is the cause when one before ends early.
            let any = writing.join().map_err(panicked)??;
            let added = sealing.join().map_err(panicked)??;
            let (tree, read) = walked?;
            Ok(Stored { tree, read, added, any })
        })
    }
}

/// Why a file is not stored.
enum Missed {
    /// The source's fault, which is known already.
    Source,
    /// All of it ends.
    Ours(ArchiveError),
}

impl From<io::Error> for Missed {
    fn from(_: io::Error) -> Self {
        Self::Source
    }
}

/// Where chunks go that the archive does not have.
struct Out<'a> {
    index: &'a Repository<IndexedFullStatus>,
    chunks: SyncSender<Vec<Chunk>>,
    /// Small ones go together: waking who seals them takes as long as sealing one.
    gathered: Vec<Chunk>,
    bytes: usize,
    /// What this run has added: no index names it yet.
    sent: HashSet<(bool, [u8; 32])>,
}

impl Out<'_> {
    fn put(&mut self, kind: BlobType, name: [u8; 32], bytes: &[u8]) -> Result<(), ArchiveError> {
        let id = Id::new(name);
        let is_there = match kind {
            BlobType::Tree => self.index.get_index_entry(&TreeId::from(id)).is_ok(),
            BlobType::Data => self.index.get_index_entry(&DataId::from(id)).is_ok(),
        };
        if is_there || !self.sent.insert((kind == BlobType::Tree, name)) {
            return Ok(());
        }
        self.gathered.push(Chunk { name, kind, bytes: bytes.to_vec() });
        self.bytes += bytes.len();
        if self.bytes < TOGETHER { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> Result<(), ArchiveError> {
        self.bytes = 0;
        // Its end has a cause of its own, which is told.
        let ended = |_| ArchiveError::Repository { action: "store the data", why: "storing ended early".to_owned() };
        self.chunks.send(std::mem::take(&mut self.gathered)).map_err(ended)
    }

    fn tree(&mut self, nodes: Vec<Node>) -> Result<TreeId, ArchiveError> {
        let failed = |error| ArchiveError::Repository { action: "write down a folder", why: format!("{error}") };
        let (bytes, id) = Tree { nodes }.serialize().map_err(failed)?;
        self.put(BlobType::Tree, name(&bytes), &bytes)?;
        Ok(id)
    }

    fn close(&mut self, Open { mut node, nodes, .. }: Open<'_>) -> Result<Node, ArchiveError> {
        node.subtree = Some(self.tree(nodes)?);
        Ok(node)
    }
}

/// A folder whose list is not complete yet.
struct Open<'e> {
    path: &'e TreePath,
    node: Node,
    nodes: Vec<Node>,
}

struct Walk<'a, 'm> {
    before: Option<&'a Before>,
    pull: &'a mut Pull<'m>,
    watch: &'a Watch,
    gear: Gear,
    sealer: Sealer,
    out: Out<'a>,
    window: Window,
    read: BTreeMap<TreePath, Sum>,
    stored: u64,
}

impl Walk<'_, '_> {
    fn all(
        mut self,
        subject: &Subject,
        manifest: &Manifest,
    ) -> Result<(TreeId, BTreeMap<TreePath, Sum>), ArchiveError> {
        // Its folder, around all others, has no path on the list.
        let mut top = Vec::new();
        let mut open: Vec<Open<'_>> = Vec::new();
        for entry in manifest.entries() {
            while let Some(inner) = open.pop_if(|folder| !entry.path.is_in(folder.path)) {
                let node = self.out.close(inner)?;
                open.last_mut().map_or(&mut top, |folder| &mut folder.nodes).push(node);
            }
            let impossible = || ArchiveError::NotAsListed { path: entry.path.to_string(), what: IMPOSSIBLE };
            let mut node = tree::node(entry).ok_or_else(impossible)?;
            match &entry.kind {
                Kind::Folder => {
                    open.push(Open { path: &entry.path, node, nodes: Vec::new() });
                    continue;
                }
                Kind::Link { .. } => {}
                Kind::File { .. } => match self.file(entry) {
                    Ok(content) => node.content = Some(content),
                    Err(Missed::Source) => continue,
                    Err(Missed::Ours(error)) => return Err(error),
                },
            }
            open.last_mut().map_or(&mut top, |folder| &mut folder.nodes).push(node);
        }
        while let Some(inner) = open.pop() {
            let node = self.out.close(inner)?;
            open.last_mut().map_or(&mut top, |folder| &mut folder.nodes).push(node);
        }
        for name in subject.folder().split('/').rev() {
            let mut node = Node::new_node(name.as_ref(), NodeType::Dir, Metadata::default());
            node.subtree = Some(self.out.tree(std::mem::take(&mut top))?);
            top.push(node);
        }
        let tree = self.out.tree(top)?;
        self.out.send()?;
        Ok((tree, self.read))
    }

    /// The chunks of a file, which it reads if it has to.
    fn file(&mut self, entry: &Entry) -> Result<Vec<DataId>, Missed> {
        if let Some(content) = self.before.and_then(|before| known(before, entry)) {
            self.stored += entry.size();
            (self.watch)(Seen::Stored(self.stored));
            return Ok(content.to_vec());
        }
        let Self { pull, gear, sealer, out, window, stored, watch, read, .. } = self;
        let mut file = pull.open(entry)?;
        let (mut content, mut sum) = (Vec::new(), Sha256::new());
        // What cannot be said is as good as yes: it only means more chunks.
        let sizes = |head: &[u8]| if sealer.compresses(head).unwrap_or(true) { FINE } else { COARSE };
        gear.chunks::<Missed>(&mut file, window, sizes, &mut |chunk| {
            let name = name(chunk);
            sum.update(name);
            content.push(DataId::from(Id::new(name)));
            out.put(BlobType::Data, name, chunk).map_err(Missed::Ours)?;
            *stored += chunk.len() as u64;
            watch(Seen::Stored(*stored));
            Ok(())
        })?;
        read.insert(entry.path.clone(), sum.finalize().into());
        Ok(content)
    }
}

const IMPOSSIBLE: &str = "has a time that cannot be stored";

/// The chunks of a file that looks as it did.
pub(crate) fn known<'b>((manifest, chunks): &'b Before, entry: &Entry) -> Option<&'b [DataId]> {
    let index = manifest.entries().binary_search_by(|there| there.path.cmp(&entry.path)).ok()?;
    let looks = |entry: &Entry| (entry.kind.clone(), entry.modified, entry.changed, entry.inode);
    let is_same = looks(manifest.entries().get(index)?) == looks(entry);
    chunks.get(index).filter(|_| is_same).map(Vec::as_slice)
}
