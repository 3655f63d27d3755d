//! What tests of several rooms share. Nothing in the product depends on it.
//!
//! | module | what it gives |
//! |---|---|
//! | [`busybox`] | the smallest root file system for a container |
//! | [`dial`] | connections to it that break, or are counted |
//! | [`harness`] | tests that need what not every machine has |
//! | [`incusd`] | a real Incus, in a folder of its own |
//! | [`memory`] | an engine that works, in memory and in a file, and changes no machine |
//! | [`sample`] | a stack and its world |
//! | [`sandbox`] | a command line run with a home and an environment of its own |
//! | [`sshd`] | a host that speaks SSH |
//! | [`wait`] | waiting for a condition |
//! | [`within`] | the host of such an Incus |

pub mod busybox;
pub mod dial;
pub mod harness;
pub mod incusd;
pub mod memory;
pub mod sample;
pub mod sandbox;
pub mod sshd;
pub mod wait;
pub mod within;
