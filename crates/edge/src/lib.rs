//! The edge: the data-plane daemon of a host. TLS, routing, caching, rewriting, mirroring.
//!
//! A core without I/O (what a request is, what may be kept, what a page links to, how it reads under another name),
//! a store, and a service around them.
//!
//! | core | | service | |
//! |---|---|---|---|
//! | [`route`] | where a request belongs | `serve`, `tls` | connections of readers and peers |
//! | [`policy`] | what HTTP allows a cache | `read`, `fetch` | pages everybody gets, one question however many wait |
//! | [`rewrite`] | a site under another name | `live` | what belongs to one reader, passed through |
//! | [`discover`] | what a page links to | `keeper`, `hooks` | the mirror is complete, and follows changes |
//! | [`concern`] | which pages a change concerns | `news` | what the application says, and what is done about it |
//! | [`notice`] | what mirrors are told | `peers`, `upstream` | links between edges; where content comes from |
//! | [`store`] | kept pages on disk | `mirror` | notices of the primary's edge |
//! | | | `lend` | links for data centers that can only dial out |
//! | `health` | what is to be counted on | `epochs` | which primary of a site is the newest, with proof |
//! | | | `generation`, `commands` | configuration and the control socket |
//! | | | `counters`, `metrics`, `scrape` | what was done, counted, and told |
//! | | | `access` | what was asked, written down |
//! | | | `public`, `passed` | certificates of public authorities, by name; between edges |
//! | | | `board` | what those who renew them say to each other |
//!
//! **Two processes, one store.** While an edge is replaced, the new process runs beside the old one on the same
//! listening socket. The store belongs to one of them: whoever holds the lock on the store's folder writes to it, runs
//! the keepers and makes promises about completeness. The new process serves from what it finds on disk and passes the
//! rest through until the old one is told to stop: that one lets go of the lock at once and only serves its last
//! readers. The new owner then checks every page with its source, so nothing that happened in between is missed.

mod access;
mod arrival;
mod board;
mod body;
mod coming;
mod commands;
pub mod concern;
mod counters;
mod daemon;
mod deadlines;
pub mod discover;
mod door;
mod edge;
mod epochs;
mod fetch;
mod gather;
mod generation;
mod health;
mod heard;
mod hooks;
mod keeper;
mod known;
mod lane;
mod lend;
mod limit;
mod linger;
mod live;
mod metrics;
mod mirror;
mod moment;
mod news;
pub mod notice;
mod pages;
mod passed;
mod peers;
mod plain;
pub mod policy;
pub mod proxied;
mod public;
mod read;
mod rename;
pub mod rewrite;
pub mod room;
pub mod route;
mod scrape;
mod serve;
mod share;
mod signature;
mod standing;
pub mod store;
mod taken;
mod threads;
mod tls;
mod upstream;

pub use daemon::{EdgeError, Listeners, METRICS_SOCKET, Options, PLAIN_SOCKET, SOCKET, run, serve};
pub use generation::ConfigError;
pub use tls::{CredentialError, LINK_ALPN, LINK_BACK_ALPN};
