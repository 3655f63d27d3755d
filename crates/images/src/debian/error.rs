//! What can go wrong between a mirror and a root file system.

use std::path::PathBuf;

use sovereign_model::{Digest, ImageName};

use super::apt::NotUnderstood;
use super::lock::InvalidLock;
use super::names::{Architecture, PackageName, SuiteName};

/// Why there is no lock, no packages, or no root file system.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// A program that does the work is not on this machine.
    #[error("{program} is not on this machine")]
    ProgramMissing {
        /// What was looked for.
        program: &'static str,
        /// Debian's package that has it.
        package: &'static str,
    },
    /// No role has this name.
    #[error("there is no role {0}")]
    UnknownRole(String),
    /// Debian's keys are not on this machine.
    #[error("the keys that Debian's archive is signed with are not at {}", .0.display())]
    KeysMissing(PathBuf),
    /// No image is built on, or for, such machines.
    #[error("Debian's images are not built on machines of the kind {0}")]
    Machine(&'static str),
    /// The lock is for another kind of machine.
    #[error("the lock is for {lock}, this machine is {here}")]
    Architecture {
        /// What the lock is for.
        lock: Architecture,
        /// What this is.
        here: Architecture,
    },
    /// apt is set up with no mirror that has a suite.
    #[error("apt is set up with no mirror that has {0}")]
    NoMirror(SuiteName),
    /// A signature is wrong, or of another key, or not there.
    #[error("what the mirror offers is not signed with Debian's keys ({}): {said}", keys.display())]
    Unsigned {
        /// The keys it was checked against.
        keys: PathBuf,
        /// apt's words.
        said: String,
    },
    /// The index is older than it says it may become.
    #[error("the mirror's index is out of date: {said}")]
    Expired {
        /// apt's words.
        said: String,
    },
    /// The index was made later than now.
    #[error("the mirror's index is from the future: {said}")]
    NotYet {
        /// apt's words.
        said: String,
    },
    /// The mirror could not be asked.
    #[error("the mirror could not be asked: {said}")]
    Unreachable {
        /// apt's words.
        said: String,
    },
    /// The network is needed, and is not to be used.
    #[error("{0} cannot be done offline")]
    Offline(&'static str),
    /// The packages of the role cannot be had together.
    #[error("Debian does not have what the role {role} wants: {said}")]
    Unsolvable {
        /// The role.
        role: ImageName,
        /// apt's words.
        said: String,
    },
    /// apt said something that was not understood.
    #[error("what apt says is not understood")]
    NotUnderstood(#[from] NotUnderstood),
    /// apt named a package that is not at the mirror it is from.
    #[error("apt names a package at {0}, which is no mirror of Debian's here")]
    Elsewhere(String),
    /// The index of a suite does not say when it was made.
    #[error("the index of {0} does not say when it was made")]
    NoDate(SuiteName),
    /// A lock that cannot be used.
    #[error("the lock{} cannot be used", path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default())]
    Lock {
        /// Where it is, when it is a file.
        path: Option<PathBuf>,
        /// Why not.
        source: InvalidLock,
    },
    /// There is no lock yet.
    #[error("the role {role} is not locked yet: {} does not exist", path.display())]
    NotLocked {
        /// The role.
        role: ImageName,
        /// Where its lock would be.
        path: PathBuf,
    },
    /// The lock was made when the role was another.
    #[error("the lock of {role} was made for other packages than the role wants today: {}", differs.join(", "))]
    Outdated {
        /// The role.
        role: ImageName,
        /// What is wanted and was not, or was and is not.
        differs: Vec<String>,
    },
    /// The mirror no longer has these, and nobody kept them.
    #[error("the mirror no longer has, and nothing here has kept: {}", packages.join(", "))]
    Vanished {
        /// The role whose lock names them.
        role: ImageName,
        /// Name and version of each.
        packages: Vec<String>,
    },
    /// The mirror gave something else.
    #[error("{package} from {host} is not what the lock says: {said}")]
    Foreign {
        /// Name and version.
        package: String,
        /// The mirror's host.
        host: String,
        /// apt's words, or ours.
        said: String,
    },
    /// A kept package is no longer what it was.
    #[error("the kept package {package} is damaged: {} has the digest {found}", path.display())]
    Damaged {
        /// Name and version.
        package: String,
        /// Where it lies.
        path: PathBuf,
        /// What it is now.
        found: Digest,
    },
    /// Packages of the lock are not kept here.
    #[error("these packages are not kept here: {}", packages.join(", "))]
    NotKept {
        /// Name and version of each.
        packages: Vec<String>,
    },
    /// A layer of the role was not given.
    #[error("the role {role} is built around the image {layer}, which is not in the store")]
    LayerMissing {
        /// The role.
        role: ImageName,
        /// The image.
        layer: ImageName,
    },
    /// What was installed is not what was locked.
    #[error("what was installed is not what the lock says: {}", packages.join(", "))]
    Other {
        /// The packages that are there and should not be, or the other way round.
        packages: Vec<String>,
    },
    /// A package without a name, whose contents say something else than the lock.
    #[error("the file of {package} is not that package")]
    Misnamed {
        /// Name and version by the lock.
        package: PackageName,
    },
}

impl DebianError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::ProgramMissing { package, .. } => format!("apt install {package}"),
            Self::UnknownRole(_) => format!("roles are {}", super::Role::names().join(", ")),
            Self::KeysMissing(_) => "apt install debian-archive-keyring".to_owned(),
            Self::Machine(_) => "images are built on Linux on x86-64 and on 64-bit ARM".to_owned(),
            Self::Architecture { .. } => "build images on a machine of the kind that they are to run on".to_owned(),
            Self::NoMirror(_) => {
                "add a source for it below /etc/apt/sources.list.d, or name a file in APT_CONFIG whose \
                 Dir::Etc::sourceparts leads to one; sources of other releases of Debian will do"
                    .to_owned()
            }
            Self::Unsigned { .. } => {
                "nothing was taken. Use another mirror; if all of them are refused, the keys may be too \
                 old: apt install --only-upgrade debian-archive-keyring"
                    .to_owned()
            }
            Self::Expired { .. } => {
                "look at this machine's clock; if it is right, the mirror stands still, or something keeps \
                 newer indexes from you: use another mirror"
                    .to_owned()
            }
            Self::NotYet { .. } => "look at this machine's clock".to_owned(),
            Self::Unreachable { .. } => {
                "check the network, and what `apt-get update` says; proxies are read from apt's configuration"
                    .to_owned()
            }
            Self::Offline(_) => "run it once with a network; what was fetched is kept".to_owned(),
            Self::NotLocked { role, .. } => format!("sovereign images lock {}", short(role)),
            Self::Outdated { role, .. } | Self::Vanished { role, .. } => format!(
                "`sovereign images lock --update {}` locks the versions of today and shows what changes",
                short(role)
            ),
            Self::Lock { source: InvalidLock::Format(_), .. } => {
                "use the version of this program that wrote it, or a newer one".to_owned()
            }
            Self::Lock { path: Some(path), .. } => {
                format!("bring {} back from your copy, or remove it and lock again", path.display())
            }
            Self::Foreign { .. } => "nothing was kept of it; if it happens again, use another mirror".to_owned(),
            Self::Damaged { path, .. } => {
                format!("remove {} and fetch it again, if the mirror still has it; check the disk", path.display())
            }
            Self::NotKept { .. } => "run it with a network: they are fetched, and kept from then on".to_owned(),
            Self::LayerMissing { .. } => "`sovereign up` builds it".to_owned(),
            Self::Unsolvable { .. } => "the mirror may be in the midst of an update: try again in an hour".to_owned(),
            Self::Other { .. }
            | Self::NotUnderstood(_)
            | Self::Elsewhere(_)
            | Self::NoDate(_)
            | Self::Misnamed { .. } => "this is a fault of this program: please report it".to_owned(),
            Self::Lock { path: None, .. } => return None,
        })
    }
}

/// The role as the command line has it.
fn short(role: &ImageName) -> &str {
    role.as_str().strip_prefix(super::role::PREFIX).unwrap_or(role.as_str())
}
