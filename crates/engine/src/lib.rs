//! What carries a plan out and keeps the result running.
//!
//! Promise: a step begun is in the [`journal`] before the world changes and after it has changed, so that a run which
//! is killed anywhere is finished by the next one; a stack is changed by one run at a time ([`state`]); and what the
//! [`embedded`] engine keeps running outlives the command line that started it.
//!
//! Left out: deciding what to do (that is the plan's room) and what a site's application needs (services).

pub mod apply;
mod causes;
pub mod certificate;
mod edge;
pub mod embedded;
mod file;
pub mod incus;
pub mod journal;
pub mod preflight;
pub mod public;
pub mod record;
pub mod state;
