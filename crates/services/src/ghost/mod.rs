//! Ghost: a website people write on, run as one node process: of this machine with a SQLite database ([`unit()`]), or in an
//! instance beside one with MariaDB ([`fn@instances`]).
//!
//! Promise: only the edge beside it reaches it, it calls nobody, sends no mail and says so, publishes scheduled posts when
//! they are due, and is set up without a human. Three pieces of ours run inside it, put into its folder: a guard that refuses every outgoing connection, a scheduling adapter, and the operator's door, a unix
//! socket on which [`fn@setup`] and [`Operator::invite`] work, here or through a [`Door`] that leads there.
//!
//! ```text
//!  edge ── run/ghost.sock ──► Ghost ──► data/ghost.db, content/
//!  sovereign ── run/operator.sock ──►│
//!                                    └── 127.0.0.1:<edge> webhooks; everything else refused → run/outgoing.log
//! ```
//!
//! Left out: fetching the image, keeping the process running, the archive that its [`data`] goes into.

mod compare;
mod connection;
pub mod data;
mod door;
mod dump;
mod files;
mod instances;
mod operator;
mod outgoing;
mod rows;
mod settings;
mod setup;
mod staff;
mod takeover;
mod unit;

pub use compare::compare_dumps;
pub use connection::{Connection, ConnectionError};
pub use door::{Answered, Door, DoorError, Posting};
pub use dump::{
    DumpSeen, count_tables_command, dump_command, dump_out_command, last_written_command, load_command, write_table,
};
pub use files::layout;
pub use instances::{
    Beside, CONTENT, CONTENT_VOLUME, Contents, DATABASE_PORT, DATABASE_SERVICE, DATABASE_VOLUME, Described, Image,
    Instances, OUTGOING_LOG, PORT, Placed, SERVICE, beside, database_unit, door_command, ghost_unit, instances,
    is_beside,
};
pub use operator::{Operator, OperatorError};
pub use outgoing::{LARGEST_LOG, Refused, outgoing, outgoing_text, refused_in};
pub use rows::{Rows, count_rows};
pub use setup::{Keys, Owner, SetUp, Webhooks, owner_email, setup, webhook_url, webhook_url_at};
pub use staff::{InvalidRole, OneTimeLink, Pending, Person, Role, Staff};
pub use takeover::{
    TAKEOVER_REFUSED, Taken, make_room_command, pack_script, pause_command, resume_command, takeover_command,
    unpack_command,
};
pub use unit::unit;

use std::path::{Path, PathBuf};

use sovereign_model::Digest;
use sovereign_model::name::DatacenterName;
use sovereign_model::stack::Site;

/// Where one Ghost lives and what it is made of.
#[derive(Debug, Clone, Copy)]
pub struct Home<'a> {
    /// The site it serves.
    pub site: &'a Site,
    /// The data center it runs at.
    pub datacenter: &'a DatacenterName,
    /// The site's own folder, absolute: `dc/<data center>/sites/<site>` in the state folder.
    pub folder: &'a Path,
    /// The root of the image: `node/bin/node` and `app/` are below it.
    pub image: &'a Path,
    /// The digest of that image.
    pub image_digest: Digest,
    /// The certificate of the internal CA, PEM: what webhooks over TLS are checked against.
    pub ca_certificate: &'a Path,
}

impl Home<'_> {
    /// The unix socket Ghost listens on, plain HTTP/1.1.
    pub fn socket(&self) -> PathBuf {
        socket(self.folder)
    }

    /// The unix socket of the operator's door.
    pub fn operator_socket(&self) -> PathBuf {
        self.folder.join("run/operator.sock")
    }
}

/// The unix socket the Ghost in `folder` listens on.
pub fn socket(folder: &Path) -> PathBuf {
    folder.join("run/ghost.sock")
}

/// A path an edge must answer itself, because it leads nowhere without mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockedPath {
    /// The method; other methods pass.
    pub method: &'static str,
    /// The path, without query, as a prefix.
    pub prefix: &'static str,
    /// What to answer people, with status 403.
    pub text: &'static str,
}

/// What to answer at the edge instead of passing on to Ghost.
///
/// Ghost would answer these with an error of its own, after making work and log lines. Ghost's admin shows
/// the text of a JSON body `{"errors":[{"message":...}]}`.
pub const BLOCKED_PATHS: &[BlockedPath] = &[
    BlockedPath {
        method: "POST",
        prefix: "/ghost/api/admin/authentication/password_reset/",
        text: "This site sends no mail. Ask its operator for a one-time link: sovereign site staff reset.",
    },
    BlockedPath {
        method: "POST",
        prefix: "/members/api/send-magic-link/",
        text: "This site sends no mail, so readers cannot sign up or sign in.",
    },
    BlockedPath { method: "POST", prefix: "/members/api/send-otc/", text: "This site sends no mail." },
];

#[cfg(test)]
mod sample {
    use sovereign_model::stack::{AdminReach, App, SiteSettings};

    use super::*;

    pub(super) fn site() -> Site {
        Site {
            name: "blog".parse().unwrap(),
            app: App::Ghost,
            canonical: "https://blog.localhost:8443".parse().unwrap(),
            edge_port: 8443,
            names: Vec::new(),
            primary: "home".parse().unwrap(),
            mirrors: Vec::new(),
            admin: AdminReach::Public,
            room: sovereign_model::edge_rules::Room::default(),
            hsts_days: 0,
            settings: SiteSettings::default(),
        }
    }

    pub(super) fn with_home(test: impl FnOnce(&Home<'_>)) {
        test(&Home {
            site: &site(),
            datacenter: &"home".parse().unwrap(),
            folder: Path::new("/state/dc/home/sites/blog"),
            image: Path::new("/images/ghost"),
            image_digest: Digest::of("image"),
            ca_certificate: Path::new("/state/ca/ca.pem"),
        });
    }
}
