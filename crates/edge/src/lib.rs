//! The edge: the data-plane daemon of a host. TLS, routing, caching, rewriting, mirroring.
//!
//! A core without I/O (what a request is, what may be kept, what a page links to, how it reads under another name),
//! a store, and a service around them.

pub mod policy;
pub mod rewrite;
pub mod route;
pub mod store;
