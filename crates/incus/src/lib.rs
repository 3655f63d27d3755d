//! A small typed client of Incus's REST API, over any stream.
//!
//! ```text
//!  Client ──▶ request ──▶ Dial: a stream to the server's unix socket, here or through SSH
//!    │                      │
//!    │◀── answer: sync ─────┘  parsed, bounded, Incus's own words on failure
//!    └◀── async: an operation, awaited to its end; dropped: the server is asked to cancel it
//! ```
//!
//! Promises: every request ends within a deadline ([`Patience`]); every answer is bounded before it is read, and
//! parsed as what a stranger says; nothing is retried behind the caller's back. What is changed is read first and put
//! back whole ([`Kept`]): fields this client does not know survive, and somebody else's change in between is an error
//! and not lost. [`Client::connect`] refuses a server that lacks what is used here; the floor is Incus 6.0 LTS.
//!
//! | module | what it speaks of |
//! |---|---|
//! | [`server`], [`cluster`] | the server, the members of its cluster |
//! | [`project`], [`profile`], [`network`], [`storage`] | what instances are made in |
//! | [`image`] | what they are made from |
//! | [`instance`], [`mod@file`], [`exec`] | instances, files in them, programs in them |
//!
//! A connection is made for each request: none can go stale, and over SSH it costs one round trip.
//!
//! Left out: remotes and TLS (the socket is all that is needed, and its API port stays closed), live events, consoles,
//! virtual machines, migration. A program run in an instance gets no input: put a file there first.

mod answer;
mod body;
mod client;
pub mod cluster;
mod dial;
mod error;
pub mod exec;
pub mod file;
pub mod image;
pub mod instance;
mod kept;
mod name;
pub mod network;
mod operation;
mod path;
pub mod profile;
pub mod project;
pub mod server;
pub mod storage;
#[doc(hidden)]
pub mod stranger;

pub use client::{Client, Patience};
pub use dial::{Dial, Dialing, Stream, UnixSocket};
pub use error::IncusError;
pub use kept::Kept;
pub use name::{
    InstanceName, InvalidName, MemberName, NetworkName, PoolName, ProfileName, ProjectName, SnapshotName, VolumeName,
};

use std::collections::BTreeMap;

/// Configuration keys and their values, as Incus has them.
pub type Config = BTreeMap<String, String>;

/// The devices of an instance or a profile: each a name and its keys.
pub type Devices = BTreeMap<String, Config>;
