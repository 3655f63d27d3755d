//! A machine reached over SSH: a pinned connection, what is learned of it, what is installed on it.
//!
//! | module | what it gives |
//! |---|---|
//! | [`scan`](mod@scan) | a host's keys before the first contact, to be compared by somebody |
//! | [`connection`] | one connection for any number of commands, forwarded sockets included |
//! | [`run`] | commands: arguments that arrive as they are, bounded answers, an end to waiting |
//! | [`files`] | files put whole or not at all |
//! | [`folder`] | a set of files in a folder named by its digest, likewise |
//! | [`facts`] | what a host is, gathered by one script and parsed as a stranger's words |
//! | [`findings`](mod@findings) | pure: what of that is in the way of what is required |
//! | [`lease`] | one run at a time on a host, from whichever management machine |
//! | [`audit`] | what is open on a host, from inside and outside, and what of it is not as it should be |
//! | [`marker`] | what lies on a host and says whose it is |
//! | [`ready`] | the steps that make a bare host ready, and what undoes them |
//! | [`evacuation`] | that a host is evacuated on purpose, as it lies on the host |
//! | [`upgrade`] | Debian's packages upgraded, and a host booted again |
//! | [`systemd`] | a unit of the data plane as systemd has it, and how one takes the place of another |
//! | [`record`] | what this machine remembers of its hosts |
//!
//! Promise: a host whose key is not the pinned one is told nothing. What a host says is bounded and parsed before it is
//! believed. Each thing that is done on a host can be done again.
//!
//! Left out: which hosts there are (the stack file), their secrets (the keys' room), what runs on them (the engine).

pub mod audit;
pub mod connection;
mod dial;
mod error;
pub mod evacuation;
pub mod facts;
pub mod files;
pub mod findings;
pub mod folder;
pub mod lease;
pub mod marker;
mod quote;
pub mod ready;
pub mod record;
pub mod run;
pub mod scan;
mod socket_folder;
pub mod systemd;
mod talk;
pub mod upgrade;

pub use connection::Connection;
pub use dial::Dialed;
pub use error::SshError;
pub use facts::Facts;
pub use files::Access;
pub use findings::{Finding, Requirements, Verdict, findings};
pub use run::{Ended, Run};
pub use scan::{choose, scan};
pub use sovereign_ssh::{Keys, Login};
pub use talk::Talk;
