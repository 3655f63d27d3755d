//! What runs in instances of a host's Incus.

pub mod door;
