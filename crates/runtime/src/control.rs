//! The control socket: how a daemon is asked and told, by its own operator only.
//!
//! One JSON object per line, over a unix socket with mode 0600 (0660 where it is shared):
//!
//! ```text
//! -> {"protocol":1,"command":"status"}
//! <- {"protocol":1,"ok":{"healthy":true}}
//! -> {"protocol":1,"command":"dance"}
//! <- {"protocol":1,"error":{"message":"there is no command \"dance\"","help":null}}
//! ```
//!
//! * A daemon answers its own protocol and the one before, and refuses others in words.
//! * A peer is served when it is the daemon's own user or root (asked of the kernel, not of the peer); at a socket that is
//!   shared with a group ([`Server::shared_with_group`]), and that answers no more than that group is to ask, also when it
//!   may connect.
//! * A line has at most [`MOST_LINE`] bytes, a daemon at most [`MOST_CONNECTIONS`] connections, an idle connection ends
//!   after [`IDLE`]. A connection may carry several requests, one after the other.
//!
//! Server: implement [`Commands`], then [`Server::bind`] and [`Server::serve`]. Client: [`request`] and
//! [`request_async`]. What a command means is the daemon's own matter.

mod client;
mod message;
mod server;

use std::time::Duration;

pub use client::{ControlError, request, request_async};
pub use message::{Refusal, Request, parse_response};
pub use server::{Commands, Server};

/// The protocol this program speaks.
pub const PROTOCOL: u32 = 1;

/// The longest line, in bytes: a whole stack's unit descriptions fit, an endless line does not.
pub const MOST_LINE: usize = 1 << 20;

/// Connections at the same time. Clients ask and leave; more than this is a mistake somewhere.
pub const MOST_CONNECTIONS: usize = 16;

/// How long a connection may lie without a request.
pub const IDLE: Duration = Duration::from_secs(30);
