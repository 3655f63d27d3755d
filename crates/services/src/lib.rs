//! What runs on an engine and why it is well: each kind of site as a description of a process, its files, its set-up
//! and its state in words.
//!
//! Promise: everything that decides how an application runs is computed here by pure functions, so that equal stacks
//! give equal descriptions; set-up is idempotent and reads back what it wrote. Left out: starting and stopping (an
//! engine's work), images (fetched and built by `images`), and serving readers (the edge's work).

pub mod folder;
pub mod ghost;
pub mod secret;
pub mod static_site;
