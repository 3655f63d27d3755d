//! Everything that can go wrong between us and a server, and what the operator can do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a call did not do what it was to do. `request` is method and path; `message` are the server's own words.
#[derive(Debug, thiserror::Error)]
pub enum IncusError {
    /// Nothing answers where the server should be.
    #[error("cannot reach Incus at {server}")]
    Unreachable {
        /// Where it should be.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// No answer, or no end of an operation, within the deadline.
    #[error("{request} at {server} was not done within {} s", deadline.as_secs())]
    Late {
        /// Who was asked.
        server: String,
        /// What was asked for.
        request: String,
        /// How long it was given.
        deadline: Duration,
    },
    /// The connection broke before the answer was complete. What was asked for may have been done.
    #[error("the connection to {server} broke during {request}")]
    Broken {
        /// Who was asked.
        server: String,
        /// What was asked for.
        request: String,
        /// What hyper said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer that is longer than any of that kind has a reason to be.
    #[error("the answer of {server} to {request} is longer than {most} bytes")]
    TooLong {
        /// Who was asked.
        server: String,
        /// What was asked for.
        request: String,
        /// The limit.
        most: usize,
    },
    /// An answer that no Incus gives.
    #[error("the answer of {server} to {request} is not Incus's: {reason}")]
    Unintelligible {
        /// Who was asked.
        server: String,
        /// What was asked for.
        request: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server cannot do what is needed.
    #[error("Incus {version} at {server} is too old: it lacks {}", missing.join(", "))]
    TooOld {
        /// Who was asked.
        server: String,
        /// Its version, as it says.
        version: String,
        /// The extensions of the API that it lacks.
        missing: Vec<String>,
    },
    /// This user may not do that.
    #[error("{request} at {server} is not allowed: {message}")]
    Forbidden {
        /// Who was asked.
        server: String,
        /// What was asked for.
        request: String,
        /// The server's words.
        message: String,
    },
    /// There is no such thing.
    #[error("{request} at {server}: {message}")]
    NotFound {
        /// Who was asked.
        server: String,
        /// What was asked for.
        request: String,
        /// The server's words.
        message: String,
    },
    /// It is there already.
    #[error("{request} at {server}: {message}")]
    AlreadyExists {
        /// Who was asked.
        server: String,
        /// What was asked for.
        request: String,
        /// The server's words.
        message: String,
    },
    /// Somebody else changed it since it was read.
    #[error("{request} at {server}: it was changed by somebody else in between")]
    Changed {
        /// Who was asked.
        server: String,
        /// What was asked for.
        request: String,
    },
    /// The server refused, or failed at once.
    #[error("{request} at {server} was refused ({status}): {message}")]
    Refused {
        /// Who was asked.
        server: String,
        /// What was asked for.
        request: String,
        /// The HTTP status, or what stands for it in the answer.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// The server began, and failed.
    #[error("{what} at {server} failed: {message}")]
    Failed {
        /// Who was asked.
        server: String,
        /// The operation, in the server's words.
        what: String,
        /// Why, in the server's words.
        message: String,
    },
    /// The server no longer knows how an operation ended: it was started again, or the connection was away too long.
    #[error("{server} no longer knows how {what} ended")]
    Forgotten {
        /// Who was asked.
        server: String,
        /// The operation, in the server's words.
        what: String,
    },
    /// A file of this machine that was to be sent cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The image at the server is not the one that was sent.
    #[error("{server} has the image as {found}, sent was {sent}")]
    OtherImage {
        /// Who has it.
        server: String,
        /// The digest of what was sent.
        sent: sovereign_model::Digest,
        /// What the server calls it.
        found: String,
    },
}

impl IncusError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run this as root, or as a member of the group incus-admin".to_owned()
            }
            Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "install Incus (Debian 12: package incus-base from bookworm-backports) and start it".to_owned()
            }
            Self::Unreachable { .. } => "see that Incus runs there: `systemctl status incus`".to_owned(),
            Self::Late { .. } => {
                "run again: what is done already is not done twice; `incus operation list` shows what the server is busy with".to_owned()
            }
            Self::Broken { .. } | Self::Forgotten { .. } => "run again: what is done already is not done twice".to_owned(),
            Self::TooLong { .. } | Self::Unintelligible { .. } => {
                "see that it is Incus that answers there: `incus query /1.0`".to_owned()
            }
            Self::TooOld { .. } => "upgrade it to Incus 6.0 LTS or newer (Debian 12: from bookworm-backports)".to_owned(),
            Self::Forbidden { .. } => {
                "use the server's unix socket as root or as a member of the group incus-admin; the project may restrict it too"
                    .to_owned()
            }
            Self::Changed { .. } => "run again: it is read anew then".to_owned(),
            Self::OtherImage { .. } => "run again; if it happens again, check the memory and the disk of that host".to_owned(),
            Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::Refused { .. }
            | Self::Failed { .. }
            | Self::File { .. } => return None,
        })
    }

    /// Whether it is that there is no such thing.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether it is that the server's own helper for the files of an instance has just ended, as it does when the instance
    /// starts, or nobody has needed it for a while. Nothing was done; the next call begins another one.
    pub(crate) fn is_without_helper(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains("forkfile.sock"))
    }

    /// Whether it is that an instance runs that may not.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains("Instance is running"))
    }

    /// Whether it is that the server is doing something else with that instance.
    pub fn is_busy(&self) -> bool {
        let (Self::Refused { message, .. } | Self::Failed { message, .. }) = self else { return false };
        message.contains("Instance is busy running a")
    }

    /// Whether nobody speaks for the server now: it is off, or on its way, or without the others of its cluster.
    pub fn is_silence(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Late { .. } | Self::Broken { .. } => true,
            Self::Refused { message, .. } | Self::Failed { message, .. } => {
                message.contains("no available cowsql leader")
            }
            _ => false,
        }
    }

    /// Whether it is that the thing is there already.
    pub const fn is_already_there(&self) -> bool {
        matches!(self, Self::AlreadyExists { .. })
    }
}

/// What was asked of whom, for errors.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) server: String,
    pub(crate) request: String,
}

impl Asked {
    /// The server's refusal as an error. Incus has no status of its own for what is there already: some of its parts
    /// say 409, others 400 or 500.
    pub(crate) fn refused(self, status: u16, message: String) -> IncusError {
        let Self { server, request } = self;
        match status {
            401 | 403 => IncusError::Forbidden { server, request, message },
            404 => IncusError::NotFound { server, request, message },
            412 => IncusError::Changed { server, request },
            _ if says_already_there(&message) => IncusError::AlreadyExists { server, request, message },
            _ => IncusError::Refused { server, request, status, message },
        }
    }

    /// An operation's failure as an error.
    pub(crate) fn failed(self, what: String, message: String) -> IncusError {
        let Self { server, request } = self;
        if says_already_there(&message) {
            return IncusError::AlreadyExists { server, request, message };
        }
        IncusError::Failed { server, what, message }
    }

    pub(crate) fn late(self, deadline: Duration) -> IncusError {
        IncusError::Late { server: self.server, request: self.request, deadline }
    }

    pub(crate) fn too_long(self, most: usize) -> IncusError {
        IncusError::TooLong { server: self.server, request: self.request, most }
    }

    pub(crate) fn unintelligible(self, reason: impl ToString) -> IncusError {
        IncusError::Unintelligible { server: self.server, request: self.request, reason: reason.to_string() }
    }
}

/// Its parts that look first say so; those that leave it to their database say what that says.
fn says_already_there(message: &str) -> bool {
    message.contains("already exists") || (message.contains("UNIQUE constraint failed") && message.ends_with(".name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, message: &str) -> IncusError {
        let asked = Asked { server: "atlas".to_owned(), request: "POST /1.0/instances".to_owned() };
        asked.refused(status, message.to_owned())
    }

    #[test]
    fn refusals_are_told_apart() {
        assert!(refused(404, "Instance not found").is_not_found());
        for status in [400, 409, 500] {
            assert!(refused(status, "The network already exists").is_already_there());
        }
        let database =
            "Failed to create \"instances\" entry: UNIQUE constraint failed: instances.project_id, instances.name";
        assert!(refused(500, database).is_already_there());
        assert!(matches!(refused(412, "ETag doesn't match"), IncusError::Changed { .. }));
        assert!(matches!(refused(403, "not authorized"), IncusError::Forbidden { .. }));
        let busy = refused(400, "Instance is busy running a \"start\" operation");
        assert!(busy.is_busy() && !busy.is_silence() && matches!(busy, IncusError::Refused { status: 400, .. }));
        let alone =
            "failed to begin transaction: failed to create cowsql connection: no available cowsql leader server found";
        assert!(refused(500, alone).is_silence() && !refused(500, alone).is_busy());
    }

    #[test]
    fn an_error_says_what_was_asked_and_the_servers_words() {
        assert_eq!(
            refused(400, "Invalid devices").to_string(),
            "POST /1.0/instances at atlas was refused (400): Invalid devices"
        );
    }
}
