//! An instance that gets the data of another one: a Ghost its uploads, a database what is in it.
//!
//! Promises: what is brought is written by Ghost's own user, or read in whole before anything is changed; everything can be
//! done again after being cut off; what was brought is removed from the instance. Left out: where it comes from, and when
//! Ghost is stopped for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sovereign_incus::exec::{Command, Ran};
use sovereign_incus::file::{Content, Owned};
use sovereign_incus::{Client, IncusError, InstanceName, Patience};
use sovereign_model::EdgeName;
use sovereign_model::instance::users::GHOST;
use sovereign_services::ghost::{
    TAKEOVER_REFUSED, Taken, count_tables_command, last_written_command, load_command, make_room_command,
    pause_command, resume_command, takeover_command, unpack_command,
};

use crate::apply::Failure;

/// Some ten gigabytes over a slow line.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// On the disk, since it may be large.
const FOLDER: &str = "/var/tmp";

/// How much of what a program complains about is shown.
const COMPLAINT: usize = 500;

/// The instance of a site's Ghost, or of its database.
#[derive(Debug, Clone)]
pub struct Newcomer {
    pub(super) client: Client,
    pub(super) instance: InstanceName,
    pub(super) edge: EdgeName,
}

/// Data could not be brought.
#[derive(Debug, thiserror::Error)]
pub enum NewcomerError {
    /// The Incus of its host.
    #[error("the Incus of {host} does not do what it is asked")]
    Incus {
        /// Which host.
        host: EdgeName,
        /// Why.
        source: Box<IncusError>,
    },
    /// Both databases do not fit each other.
    #[error("the database cannot be taken over: {said}")]
    Refused {
        /// What was said.
        said: String,
    },
    /// A program in the instance.
    #[error("{what} failed in the instance (exit code {code}): {said}")]
    Failed {
        /// What it was to do.
        what: &'static str,
        /// How it ended.
        code: i64,
        /// What it complained of.
        said: String,
    },
    /// It did not say what it took over.
    #[error("what was said of the database cannot be understood")]
    Unintelligible(#[source] serde_json::Error),
}

impl Failure for NewcomerError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Incus { source, .. } => source.help(),
            Self::Refused { .. } => Some(
                "both places need the same version of Ghost: `sovereign up` with the old place declared brings that one up \
                 to date"
                    .to_owned(),
            ),
            Self::Failed { .. } => Some("see that the host has room: `sovereign host check`".to_owned()),
            Self::Unintelligible(_) => None,
        }
    }
}

impl Newcomer {
    /// Stops Ghost in its instance.
    ///
    /// # Errors
    /// When the host does not obey.
    pub async fn pause(&self) -> Result<(), NewcomerError> {
        self.run("stopping Ghost", pause_command(), 0).await.map(drop)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When the host does not obey.
    pub async fn resume(&self) -> Result<(), NewcomerError> {
        self.run("starting Ghost", resume_command(), 0).await.map(drop)
    }

    /// Unpacks an archive into what people uploaded.
    ///
    /// # Errors
    /// When it cannot be sent or unpacked. Some of it may be there then.
    pub async fn unpack(&self, archive: &Path) -> Result<(), NewcomerError> {
        self.with_file(archive, "content.tar", GHOST, async |there| {
            self.run("unpacking", unpack_command(there), GHOST).await.map(drop)
        })
        .await
    }

    /// Makes the folder of what people uploaded, in an instance where Ghost never ran.
    ///
    /// # Errors
    /// When the host does not obey.
    pub async fn make_room(&self) -> Result<(), NewcomerError> {
        self.run("making a folder", make_room_command(), 0).await.map(drop)
    }

    /// Puts what a dump has into the place of all that is in this database; how many tables it has then.
    ///
    /// # Errors
    /// When it cannot be sent, or not all of it be loaded.
    pub async fn load(&self, dump: &Path) -> Result<u64, NewcomerError> {
        self.with_file(dump, "ghost.sql", 0, async |there| {
            self.run("loading the database", load_command(there), 0).await.map(drop)
        })
        .await?;
        let counted = self.run("counting tables", count_tables_command(), 0).await?;
        Ok(number(&counted).unwrap_or_default())
    }

    /// When this database was written into last, in seconds of the epoch; `None`: never.
    ///
    /// # Errors
    /// When the host or the database does not answer.
    pub async fn last_written(&self) -> Result<Option<u64>, NewcomerError> {
        Ok(number(&self.run("looking for what was written last", last_written_command(), 0).await?))
    }

    /// Puts a copy of a SQLite database into the place of all that is in the database. Ghost is paused.
    ///
    /// # Errors
    /// When nothing was changed.
    pub async fn take_over(&self, database: &Path) -> Result<Taken, NewcomerError> {
        self.with_file(database, "ghost.db", 0, async |there| {
            let ran = self.exec(takeover_command(there), 0).await?;
            match ran.code {
                0 => serde_json::from_slice(&ran.stdout).map_err(NewcomerError::Unintelligible),
                TAKEOVER_REFUSED => Err(NewcomerError::Refused { said: complaint(&ran) }),
                code => Err(NewcomerError::Failed { what: "taking over", code, said: complaint(&ran) }),
            }
        })
        .await
    }

    /// Does something with a file of this machine that lies in the instance meanwhile.
    async fn with_file<T>(
        &self,
        file: &Path,
        name: &str,
        user: u32,
        act: impl AsyncFnOnce(&Path) -> Result<T, NewcomerError>,
    ) -> Result<T, NewcomerError> {
        let there = PathBuf::from(FOLDER).join(format!("sovereign-{name}"));
        let (client, content) = (self.client(), Content::File(file.to_owned()));
        // One of a run that was cut off may be another user's.
        let _ = client.remove_file(&self.instance, &there).await;
        let owned = Owned { mode: 0o600, uid: user, gid: user };
        let pushed = client.push_file(&self.instance, &there, &content, owned).await;
        let done = match pushed {
            Ok(()) => act(&there).await,
            Err(error) => Err(self.incus(error)),
        };
        let _ = client.remove_file(&self.instance, &there).await;
        done
    }

    async fn run(&self, what: &'static str, line: Vec<String>, user: u32) -> Result<Ran, NewcomerError> {
        let ran = self.exec(line, user).await?;
        match ran.code {
            0 => Ok(ran),
            code => Err(NewcomerError::Failed { what, code, said: complaint(&ran) }),
        }
    }

    async fn exec(&self, line: Vec<String>, user: u32) -> Result<Ran, NewcomerError> {
        let command = Command { user, group: user, ..Command::new(line) };
        self.client().exec(&self.instance, &command).await.map_err(|error| self.incus(error))
    }

    fn client(&self) -> Client {
        let Patience { answer, .. } = self.client.patience();
        self.client.clone().with_patience(Patience { answer, operation: PATIENCE })
    }

    fn incus(&self, source: IncusError) -> NewcomerError {
        NewcomerError::Incus { host: self.edge.clone(), source: Box::new(source) }
    }
}

/// The whole part of a number that was said.
fn number(ran: &Ran) -> Option<u64> {
    String::from_utf8_lossy(&ran.stdout).trim().split('.').next()?.parse().ok()
}

/// What a stranger said, fit for a terminal.
fn complaint(ran: &Ran) -> String {
    let said = String::from_utf8_lossy(&ran.stderr);
    said.trim().chars().take(COMPLAINT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
