//! Archives of duplicity, read by duplicity itself.
//!
//! ```text
//!  status ── which sets there are, encrypted or not ──▶ lists ── manifests, made readable ──▶ check ── every volume's sum
//!                                                                                              │
//!                                                                  restore into a folder ◀─────┘
//! ```
//!
//! An archive is a stranger's bytes too: one that lies in a folder is read by a duplicity that sees this folder, what it
//! restores into, and no network ([`sovereign_engine::embedded::talk`]). Elsewhere, or with the operator's own keys,
//! duplicity runs as the operator would run it.
//!
//! Promise: the passphrase is no argument and no environment variable of any process: duplicity asks for it when it has no
//! terminal to ask on, and reads it from a pipe. What is damaged is named, a file at a time.
//!
//! Left out: what the restored files are.

mod address;
mod chain;
mod error;
mod log;
mod run;

pub(crate) use address::Address;
pub(crate) use chain::Moment;
pub(crate) use error::DuplicityError;
pub(crate) use run::Duplicity;
