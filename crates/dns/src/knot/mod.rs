//! The name server: Debian's Knot DNS, driven by us.
//!
//! ```text
//!  names, who is counted on, ─▶ files (pure): knot.conf, a zone per domain, answers by geography
//!  table of addresses                │
//!                                    ▼ written as a generation, checked by Knot's own tools
//!                     generation-7 ◀─ current      Knot reloads; generation-6 is kept
//! ```
//!
//! | module | what it gives |
//! |---|---|
//! | [`files`] | pure: everything Knot is given |
//! | [`conf`] | pure: its configuration |
//! | [`answers`] | pure: what differs by where a question comes from |
//! | [`lan`] | pure: what is answered to the data center's own networks |
//! | [`copy`] | pure: what the owner of a secondary configures |
//! | [`table`] | the table of addresses, as a file |
//! | [`driver`] | writes it, has it checked, starts or reloads Knot; only when something changed |
//! | [`ask`] | what a running Knot says of itself |
//!
//! Promise: what Knot's own tools refuse is never loaded: what was served before is served on. Every name server of a
//! domain has the same key, and signs by itself; so each answers alike, whoever else is away.
//!
//! Left out: transfers among the stack's own, which each make their zones of the same stack file; a change of the key.

pub mod answers;
pub mod ask;
pub mod conf;
pub mod copy;
pub mod driver;
mod error;
pub mod files;
pub mod lan;
mod process;
pub mod table;

pub use error::{DriverError, What};

#[cfg(test)]
mod tests;
