//! What every daemon of the stack needs, written once.
//!
//! | module | what it gives |
//! |---|---|
//! | [`sockets`] | listening sockets by name from the supervisor (`LISTEN_FDS`), and how to pass them on |
//! | [`descriptors`] | open descriptors sent over a unix socket |
//! | [`socket`] | unix sockets at paths of any length, private to their owner |
//! | [`control`] | the control socket: one JSON object a line, server and client |
//! | [`signed`] | the signed envelope a daemon's configuration comes in |
//! | [`loaded`] | such a configuration, read once when its daemon starts |
//! | [`lifecycle`] | stop taking work, drain, give up out loud; the accept loop; readiness |
//! | [`certificate`] | what a certificate says of itself |
//! | [`file`](mod@file) | replacing a file so that a crash leaves the old or the new one, never half of one |
//!
//! Promise: nothing here knows what a daemon does. Bad peers, bad files and a bad environment end in typed errors that
//! say what to do, never in a panic. What is left out: configuration formats (crate `model`) and process supervision
//! (crate `engine`).

pub mod certificate;
pub mod control;
pub mod descriptors;
pub mod file;
pub mod lifecycle;
pub mod loaded;
pub mod signed;
pub mod socket;
pub mod sockets;

pub use ed25519_dalek::pkcs8::DecodePrivateKey;
pub use ed25519_dalek::{SigningKey, VerifyingKey};
