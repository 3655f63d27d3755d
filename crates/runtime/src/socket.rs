//! Unix stream sockets at paths of any length, private to their owner.
//!
//! The kernel takes at most 107 bytes of path for a unix socket (unix(7)), and a state folder deep in a home directory
//! is longer than that. A longer path is reached through its opened parent folder, as `/proc/self/fd/<n>/<name>`.
//!
//! Promise: a socket bound here has mode 0600 from the moment it exists, already listens when its name appears, and a
//! name on which somebody answers is never taken away by [`bind`]. Who means to take it does so with [`take_over`],
//! and without a moment in which nobody listens. Connecting never follows a symbolic link in the socket's place: the
//! folder may be an application's, and a link there must not lead a caller with more rights to another socket.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::file::beside_name;

/// `sun_path` has 108 bytes, the last one is the terminating zero.
const LONGEST_PATH: usize = 107;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A unix socket could not be bound or reached.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The folder it lies in cannot be opened, or the path names none.
    #[error("cannot open the folder of the socket {}", path.display())]
    Folder {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process listens there and answers.
    #[error("another process already listens on {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket has the name.
    #[error("{} is not a socket", path.display())]
    NotASocket {
        /// What was found.
        path: PathBuf,
    },
    /// The kernel refused to bind or listen.
    #[error("cannot listen on {}", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody answers there, or not to this user.
    #[error("cannot connect to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl SocketError {
    /// Whether nobody listens: the socket is missing, or was left behind by a process that is gone.
    pub fn nobody_listens(&self) -> bool {
        let (Self::Folder { source, .. } | Self::Connect { source, .. }) = self else { return false };
        matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    }

    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::InUse { .. } => Some("stop the other process first; `sovereign status` shows what runs".into()),
            Self::NotASocket { path } => Some(format!("move {} away", path.display())),
            Self::Folder { path, .. } => {
                Some(format!("check that {} exists and belongs to this user", path.parent()?.display()))
            }
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run as the user who started it, or as root".into())
            }
            Self::Connect { .. } if self.nobody_listens() => Some("it does not run: `sovereign up` starts it".into()),
            Self::Connect { .. } | Self::Bind { .. } => None,
        }
    }
}

/// A path opened as far as its folder: what the kernel can be told in 107 bytes.
struct Place {
    path: PathBuf,
    folder: OwnedFd,
    name: PathBuf,
}

impl Place {
    fn open(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Folder { path: path.to_owned(), source };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed(io::Error::from(io::ErrorKind::InvalidFilename)));
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, parent, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        Ok(Self { path: path.to_owned(), folder, name: name.into() })
    }

    /// Where the kernel finds `name` in the folder. Valid only as long as `self` keeps the folder open.
    fn address_of(&self, name: &OsStr) -> PathBuf {
        let direct = self.path.with_file_name(name);
        if direct.as_os_str().len() <= LONGEST_PATH {
            return direct;
        }
        PathBuf::from(format!("/proc/self/fd/{}", self.folder.as_raw_fd())).join(name)
    }

    fn address(&self) -> PathBuf {
        self.address_of(self.name.as_os_str())
    }

    /// The socket that has the name, found once: whatever takes the name meanwhile is not connected to.
    fn target(&self) -> Result<Target, SocketError> {
        let failed = |errno: Errno| self.connect_failed(errno.into());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let socket = rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty()).map_err(failed)?;
        let found = rustix::fs::fstat(&socket).map_err(failed)?;
        if !FileType::from_raw_mode(found.st_mode).is_socket() {
            return Err(SocketError::NotASocket { path: self.path.clone() });
        }
        Ok(Target(socket))
    }

    fn connect_failed(&self, source: io::Error) -> SocketError {
        SocketError::Connect { path: self.path.clone(), source }
    }

    fn bind_failed(&self, errno: Errno) -> SocketError {
        SocketError::Bind { path: self.path.clone(), source: errno.into() }
    }

    /// Whether a socket has the name; anything else there is not ours to replace.
    fn socket_exists(&self) -> Result<bool, SocketError> {
        match rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.bind_failed(errno)),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_socket() => Ok(true),
            Ok(_) => Err(SocketError::NotASocket { path: self.path.clone() }),
        }
    }

    /// Whether somebody answers on the socket.
    fn check_abandoned(&self) -> Result<(), SocketError> {
        let failed = |errno| self.bind_failed(errno);
        let probe = new_socket(SocketFlags::NONBLOCK).map_err(failed)?;
        let address = SocketAddrUnix::new(self.address()).map_err(failed)?;
        match rustix::net::connect(&probe, &address) {
            Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
            // A full backlog (EAGAIN), another owner (EACCES), another type (EPROTOTYPE): somebody is there.
            _ => Err(SocketError::InUse { path: self.path.clone() }),
        }
    }

    fn listen(&self) -> Result<UnixListener, SocketError> {
        let failed = |errno| self.bind_failed(errno);
        let socket = new_socket(SocketFlags::empty()).map_err(failed)?;
        // Linux gives the new name the mode of the socket's inode (less the umask): set before, there is no moment in
        // which another user could connect.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let beside = PathBuf::from(short_beside_name());
        rustix::net::bind(&socket, &SocketAddrUnix::new(self.address_of(beside.as_os_str())).map_err(failed)?)
            .map_err(failed)?;
        let listening = rustix::net::listen(&socket, BACKLOG)
            .and_then(|()| rustix::fs::renameat(&self.folder, &beside, &self.folder, &self.name));
        if let Err(errno) = listening {
            let _ = rustix::fs::unlinkat(&self.folder, &beside, AtFlags::empty());
            return Err(failed(errno));
        }
        Ok(UnixListener::from(socket))
    }
}

/// A socket in the file system, held by a descriptor.
struct Target(OwnedFd);

impl Target {
    /// Where the kernel finds it. Valid only as long as `self` keeps it open.
    fn address(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

fn new_socket(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None)
}

/// Short, so that it does not make a path too long that its final name would not.
fn short_beside_name() -> String {
    beside_name("s")
}

/// Listens at `path`, mode 0600. A socket that was left behind by a process that is gone is replaced; one on which
/// somebody answers is not.
pub fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let place = Place::open(path)?;
    if place.socket_exists()? {
        place.check_abandoned()?;
    }
    place.listen()
}

/// Listens at `path`, mode 0600, whoever listened there before: from now on new connections come here. This is how a
/// new process relieves an old one that still drains.
pub fn take_over(path: &Path) -> Result<UnixListener, SocketError> {
    let place = Place::open(path)?;
    place.socket_exists()?;
    place.listen()
}

/// Connects to the socket at `path`, blocking.
pub fn connect(path: &Path) -> Result<UnixStream, SocketError> {
    let place = Place::open(path)?;
    let target = place.target()?;
    UnixStream::connect(target.address()).map_err(|source| place.connect_failed(source))
}

/// Connects to the socket at `path` on the current tokio runtime.
pub async fn connect_async(path: &Path) -> Result<tokio::net::UnixStream, SocketError> {
    let place = Place::open(path)?;
    let target = place.target()?;
    tokio::net::UnixStream::connect(target.address()).await.map_err(|source| place.connect_failed(source))
}

/// The name of a bound socket, removed when this value is dropped, unless somebody took the name over meanwhile.
pub struct BoundName {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl BoundName {
    /// Remembers who has the name now. Call right after binding.
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), identity: identity(path) }
    }
}

impl Drop for BoundName {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // Nothing depends on it: a name that stays is replaced by the next process.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl fmt::Debug for BoundName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BoundName({})", self.path.display())
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A folder whose path alone is longer than a socket's may be.
    fn deep() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("d".repeat(90)).join("e".repeat(90));
        std::fs::create_dir_all(&folder).unwrap();
        (root, folder)
    }

    fn says_hello(listener: UnixListener, mut client: UnixStream) {
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"hello").unwrap();
        drop(server);
        let mut heard = String::new();
        client.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "hello");
    }

    #[test]
    fn a_long_path_works_like_a_short_one() {
        let (root, folder) = deep();
        for path in [root.path().join("a.sock"), folder.join("a.sock")] {
            let listener = bind(&path).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            says_hello(listener, connect(&path).unwrap());
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside the socket");
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let (_root, folder) = deep();
        let path = folder.join("a.sock");
        let listener = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::InUse { .. })));
        drop(listener);
        let error = connect(&path).unwrap_err();
        assert!(error.nobody_listens(), "{error:?}");
        says_hello(bind(&path).unwrap(), connect(&path).unwrap());
    }

    #[test]
    fn taking_over_sends_new_connections_to_the_new_one() {
        let (_root, folder) = deep();
        let path = folder.join("a.sock");
        let old = bind(&path).unwrap();
        let old_name = BoundName::of(&path);
        let waiting = connect(&path).unwrap();
        let new = take_over(&path).unwrap();
        says_hello(new, connect(&path).unwrap());
        says_hello(old, waiting);
        drop(old_name);
        assert!(path.exists(), "the old one does not remove the new one's name");
        drop(BoundName::of(&path));
        assert!(!path.exists());
    }

    #[test]
    fn a_file_is_not_replaced_by_a_socket() {
        let (_root, folder) = deep();
        let path = folder.join("precious");
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(bind(&path), Err(SocketError::NotASocket { .. })));
        assert!(matches!(take_over(&path), Err(SocketError::NotASocket { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
    }

    #[test]
    fn a_link_in_a_sockets_place_is_not_followed() {
        let (_root, folder) = deep();
        let (mighty, planted) = (folder.join("mighty.sock"), folder.join("planted.sock"));
        let _listener = bind(&mighty).unwrap();
        std::os::unix::fs::symlink("mighty.sock", &planted).unwrap();
        assert!(matches!(connect(&planted), Err(SocketError::NotASocket { .. })));
        connect(&mighty).unwrap();
    }

    #[test]
    fn nobody_listens_where_nothing_is() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a.sock", "missing/a.sock"] {
            let error = connect(&folder.path().join(path)).unwrap_err();
            assert!(error.nobody_listens(), "{error:?}");
            assert!(error.help().is_some());
        }
    }
}
