//! Everything that can go wrong with an image, and what the operator can do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use sovereign_model::{Digest, ImageName};

use crate::lock::{Integrity, Part, Platform};

/// Why an image could not be prepared, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The lock has nothing for this kind of machine.
    #[error("the image {image} does not exist for {platform}: no package for {part}")]
    Platform {
        /// The image.
        image: ImageName,
        /// This machine.
        platform: Platform,
        /// What is missing.
        part: Part,
    },
    /// The C library that Node.js is built for is not here.
    #[error("the loader of the GNU C library is not at {}", path.display())]
    Loader {
        /// Where every program for this platform looks for it.
        path: PathBuf,
    },
    /// No compiler under any of its names.
    #[error("no {language} compiler was found (looked for {})", tried.join(", "))]
    CompilerMissing {
        /// C or C++.
        language: &'static str,
        /// The names that were tried.
        tried: Vec<String>,
        /// The variable that names a compiler.
        variable: &'static str,
    },
    /// A compiler that cannot translate a small program.
    #[error("the {language} compiler {command:?} does not compile a small {standard} program: {output}")]
    CompilerUnfit {
        /// C or C++.
        language: &'static str,
        /// What was called.
        command: String,
        /// The standard that is needed.
        standard: &'static str,
        /// What it said, shortened.
        output: String,
        /// The variable that names a compiler.
        variable: &'static str,
    },
    /// Not enough room for a build.
    #[error("{} has {} MB free, a build needs {} MB", folder.display(), available / 1_000_000, needed / 1_000_000)]
    DiskSpace {
        /// Where.
        folder: PathBuf,
        /// Bytes there are.
        available: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// The operating system refused a file operation.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried: "read", "create", ...
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The registry settings cannot be used.
    #[error("the npm configuration cannot be used: {reason}")]
    Registry {
        /// Why.
        reason: String,
    },
    /// Offline, and not everything is there.
    #[error("the image {image} is not in the store, and offline these cannot be fetched: {}", missing.join(", "))]
    Offline {
        /// The image.
        image: ImageName,
        /// The packages that are missing.
        missing: Vec<String>,
    },
    /// A package could not be fetched, in any attempt.
    #[error("cannot fetch {package} from {host}: {reason}")]
    Download {
        /// Name and version.
        package: String,
        /// Who was asked.
        host: String,
        /// What happened the last time.
        reason: String,
        /// The HTTP status, when there was an answer.
        status: Option<u16>,
    },
    /// A package is not the one in the lock.
    #[error("{package} from {host} is not what the lock says: expected {expected}, found {found}")]
    Integrity {
        /// Name and version.
        package: String,
        /// Who served it.
        host: String,
        /// What the lock says.
        expected: Box<Integrity>,
        /// What came.
        found: Box<Integrity>,
    },
    /// An archive with an entry that must not be unpacked.
    #[error("the archive of {package} is refused: {reason} ({entry:?})")]
    Archive {
        /// Name and version.
        package: String,
        /// The entry's path, as written.
        entry: String,
        /// Why.
        reason: &'static str,
    },
    /// An archive that cannot be read to its end.
    #[error("the archive of {package} cannot be unpacked")]
    Unpack {
        /// Name and version.
        package: String,
        /// Why not.
        source: io::Error,
    },
    /// A program of the build could not be started.
    #[error("cannot start {}", program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program of the build failed.
    #[error("{step} failed ({status}): {output}")]
    Step {
        /// What it was to do.
        step: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote.
        output: String,
    },
    /// The application wants another version of the addon than the lock has.
    #[error("the application wants {name} {wanted}, the lock has {locked}")]
    AddonVersion {
        /// The addon's package.
        name: String,
        /// The application's own choice.
        wanted: String,
        /// Ours.
        locked: String,
    },
    /// A lock that was kept is none.
    #[error("{} is no lock of Ghost", path.display())]
    Lock {
        /// Where it lies.
        path: PathBuf,
        /// Why.
        source: crate::lock::InvalidLock,
    },
    /// The registry has no such version of Ghost.
    #[error("there is no Ghost {version:?}")]
    NoVersion {
        /// What was asked for.
        version: String,
    },
    /// A version of Ghost that this program cannot make an image of.
    #[error("this program cannot build Ghost {version}: {why}")]
    Unbuildable {
        /// The version.
        version: String,
        /// Why not.
        why: String,
    },
    /// Something that the build must have made is not there.
    #[error("the build did not make {}", path.display())]
    Incomplete {
        /// What is missing.
        path: PathBuf,
    },
    /// An image holds something that cannot be part of one: a device, a name that is not UTF-8.
    #[error("{} cannot be part of an image: {reason}", path.display())]
    Content {
        /// What.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A root file system of Debian could not be made.
    #[error(transparent)]
    Debian(#[from] crate::debian::DebianError),
    /// No such image.
    #[error("there is no image {0} in the store")]
    Unknown(Digest),
    /// The description of an image cannot be read.
    #[error("the description of the image {} is damaged: {reason}", digest.short())]
    Damaged {
        /// Which.
        digest: Digest,
        /// What is wrong.
        reason: String,
    },
}

impl ImageError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Debian(error) => return error.help(),
            Self::Platform { .. } => "images exist for Linux on x86-64 and on 64-bit ARM".to_owned(),
            Self::Loader { .. } => {
                "Node.js needs a distribution with the GNU C library 2.28 or newer, such as Debian 10 or newer".to_owned()
            }
            Self::CompilerMissing { variable, .. } => {
                format!("install a C and a C++ compiler (Debian: apt install g++) or name one in {variable}")
            }
            Self::CompilerUnfit { variable, .. } => {
                format!("install GCC 10 or Clang 12, or newer, and its C++ library, or name another compiler in {variable}")
            }
            Self::DiskSpace { .. } => "make room, or set XDG_CACHE_HOME to a folder on a larger disk".to_owned(),
            Self::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "the folder must belong to the user who runs this, or set XDG_CACHE_HOME to one that does".to_owned()
            }
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "make room and run again: what was fetched is kept".to_owned()
            }
            Self::Registry { .. } => "check the registry, proxy and cafile lines of your .npmrc".to_owned(),
            Self::Offline { .. } => "run once with a network; afterwards the image is in the store".to_owned(),
            Self::Download { status: Some(401 | 403), .. } => {
                "the registry wants another token: check the _authToken line of your .npmrc".to_owned()
            }
            Self::Download { status: Some(404), .. } => {
                "this registry does not have the package: check the registry line of your .npmrc".to_owned()
            }
            Self::Download { .. } => "check the network and run again: what was fetched is kept and continued".to_owned(),
            Self::Integrity { .. } => {
                "the file was removed; if it happens again, the registry or something on the way to it changes packages: \
                 use another network or registry"
                    .to_owned()
            }
            Self::Archive { .. } | Self::AddonVersion { .. } => "this is a fault in the lock: please report it".to_owned(),
            Self::Lock { .. } => "`sovereign images lock --update ghost` locks the Ghost that comes with this program".to_owned(),
            Self::NoVersion { .. } => "`npm view ghost versions` lists them".to_owned(),
            Self::Unbuildable { .. } => {
                format!("choose one that is nearer to {}, which comes with it", crate::ghost::version(crate::ghost::lock()))
            }
            Self::Unpack { .. } => "run again; if it fails again, check the disk".to_owned(),
            Self::Unknown(_) | Self::Damaged { .. } => {
                "run `sovereign up`: a missing image is built again".to_owned()
            }
            Self::Start { .. } | Self::Step { .. } | Self::Incomplete { .. } => "run again; what was fetched is kept".to_owned(),
            Self::File { .. } | Self::Content { .. } => return None,
        })
    }
}

/// Gives an I/O error its file and action.
pub(crate) trait At<T> {
    /// The error, told as "cannot `action` `path`".
    fn at(self, action: &'static str, path: &Path) -> Result<T, ImageError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, ImageError> {
        self.map_err(|error| ImageError::File { action, path: path.to_owned(), source: error.into() })
    }
}
