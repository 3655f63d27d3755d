//! The lab: a world of data centers on one machine, to rehearse with and to test in.
//!
//! ```text
//!            this machine (routes between the bridges)
//!   ┌─────────────┴─────────────┐
//!   home        10.N.1.0/24     office      10.N.2.0/24
//!   ├ home-1    10.N.1.11       ├ office-1  10.N.2.11
//!   └ home-2    10.N.1.12       └ office-2  10.N.2.12
//! ```
//!
//! Hosts are unprivileged containers of an Incus on this machine that can run an Incus of their own, each with a bare
//! Debian on it and reached only over SSH, as a real one is after its installation. The lab does nothing for a host that
//! an operator's provider would not do.
//!
//! Promises: what is going to be made is written down before it is made ([`Lab`]), so that [`down()`] leaves nothing,
//! wherever [`up()`] was stopped; both can be repeated; nothing that bears another's mark is touched. Hosts have keys of
//! their own, made before they start: whoever reaches one knows that it is the right one.
//!
//! Left out: the image that hosts start from, and everything that makes a host one of a stack. Hosts share one kernel and one clock, and cannot limit what runs in them.

mod down;
mod error;
mod fault;
mod host;
mod keys;
mod name;
mod network;
mod progress;
mod routers;
mod rules;
mod shape;
mod ssh;
mod stack_file;
mod status;
mod up;

pub use down::{Removed, down};
pub use error::LabError;
pub use fault::{Fault, Target, heal, inflict};
pub use name::{InvalidLabName, LabName};
pub use progress::{Event, Silent, Stage, Watcher};
pub use routers::{FORWARDED, readdress};
pub use shape::{Lab, LabDatacenter, LabHost, Shape};
pub use status::{HostStatus, Status, status};
pub use up::{Made, up};
