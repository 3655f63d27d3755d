//! The archive: encrypted backups on the management machine, made by pulling, proven by restoring.
//!
//! ```text
//!  host                              management machine
//!  source ── list, bytes on demand ─▶ pull ─▶ take ─▶ repository (restic's format)
//!  (reads below its roots, no key)    parses,   compares     │
//!                                     counts    the tree     └─▶ restore, prove, check
//! ```
//!
//! Promise: a snapshot is whole or it is not there; a host holds no key and reaches no earlier snapshot; a file that
//! did not change is not sent again; what was archived can be restored by Debian's `restic` without this program.
//!
//! Left out: making a database hold still, what belongs to which site, where the key comes from, when a backup is due.

#[cfg(test)]
extern crate self as sovereign_archive; // what tests of this crate share with those beside it names it so

mod bring;
mod chunk;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
pub mod copy;
mod diff;
pub mod entry;
mod error;
mod folder;
mod held;
pub mod keep;
mod known;
mod maintain;
pub mod manifest;
mod pack;
mod password;
mod patience;
mod place;
mod prune;
mod pull;
mod removed;
mod repair;
mod repository;
mod restore;
mod room;
mod seal;
mod source;
mod store;
mod take;
mod tree;
pub mod wire;

pub use chunk::Sum;
pub use diff::Change;
pub use error::ArchiveError;
pub use maintain::Checked;
pub use password::Password;
pub use prune::{GRACE, Prune, Room};
pub use pull::{Fault, Line, Listed, PullError, list};
pub use repair::{Damage, Lost};
pub use repository::{Archive, Inventory, Snapshot, Subject, Unreadable, newer};
pub use restore::{Contents, Restored};
pub use room::room_for;
pub use source::{Offer, Root, SourceError, serve};
pub use take::{Seen, Taken, Watch};
