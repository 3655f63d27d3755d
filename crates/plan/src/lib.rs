//! What would have to be done: from what is declared and what was seen to the ordered steps between the two.
//!
//! ```text
//! Stack --desired(World)--> Wanted --plan(Observed)--> Plan        all of it pure: same inputs, same plan
//! ```
//!
//! [`World`] holds what only the binary knows (where it lies, keys, locks, the hour), so that nothing here reads a clock,
//! a file or a network. [`fn@simulate`] says what the world looks like after a step; the properties in the tests and the
//! in-memory engine stand on it. [`fn@lint`] checks a finished plan by rules of its own.

mod desired;
mod lint;
mod moving;
mod planner;
mod primaries;
mod report;
mod simulate;
mod sparing;
mod telling;

pub use desired::{
    AppUnit, IncompleteWorld, RenewerKey, Wanted, WantedAgent, WantedCertificate, WantedDatacenter, WantedEdge,
    WantedNameServer, WantedRenewer, WantedSite, WantedUnit, World, desired,
};
pub use lint::{Violation, lint};
pub use moving::{Moving, moving};
pub use planner::{LEAF_LIFE, plan};
pub use primaries::{Given, next_number, number};
pub use report::{Kept, Obstacle, Plan, Planned, Reason};
pub use simulate::simulate;
pub use telling::{Hearer, Telling, telling};
