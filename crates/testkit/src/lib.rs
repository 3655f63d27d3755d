//! What tests of several rooms share. Nothing in the product depends on it.

pub mod wait;
